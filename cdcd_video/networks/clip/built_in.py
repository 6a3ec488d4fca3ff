"""The built-in CLIP: an ordinary small `CLIPModel` with its own tokenizer, trained from scratch on captioned frames."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from cdcd_video.config import ClipConfig
from cdcd_video.contrast.info_nce import beats
from cdcd_video.contrast.temperature import held
from cdcd_video.diffusion.categorical import wide
from cdcd_video.networks.clip import split_words, unit, vision_states
from cdcd_video.records import ALONE, Collectives, LossTerms
from cdcd_video.storage.tensor_file import MOST_IN_16_BITS, check_numbers

START, END = "<|startoftext|>", "<|endoftext|>"
PIXEL_MEAN = PIXEL_STD = (0.5, 0.5, 0.5)


def train_tokenizer(captions: Iterable[str], vocabulary_size: int, max_tokens: int):
    """BPE over bytes (Sennrich et al. 2016; Radford et al. 2019) on the captions: any text can be encoded.

    The end token gets the highest id: `transformers` pools the text at the arg-max of the ids for the legacy end id, and at
    the end id otherwise, which is then the same position.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - 2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(captions)), trainer)
    tokenizer.add_special_tokens([START, END])
    ids = {token: tokenizer.token_to_id(token) for token in (START, END)}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=list(ids.items())
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=END, pad_token=END, model_max_length=max_tokens
    )


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer that `save_clip` wrote, with the longest caption that it had."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def build_clip(cfg: ClipConfig, image_size: int, num_words: int, end_id: int) -> nn.Module:
    """A `transformers.CLIPModel` of the configured size with initial weights from torch's global generator."""
    from transformers import CLIPConfig, CLIPModel

    vision = dict(
        image_size=image_size,
        patch_size=cfg.patch_size,
        hidden_size=cfg.vision_width,
        intermediate_size=4 * cfg.vision_width,
        num_hidden_layers=cfg.vision_layers,
        num_attention_heads=cfg.vision_width // 32,
        projection_dim=cfg.joint_width,
    )
    text = dict(
        vocab_size=num_words,
        max_position_embeddings=cfg.max_tokens,
        hidden_size=cfg.text_width,
        intermediate_size=4 * cfg.text_width,
        num_hidden_layers=cfg.text_layers,
        num_attention_heads=cfg.text_width // 32,
        projection_dim=cfg.joint_width,
        eos_token_id=end_id,
        bos_token_id=end_id - 1,
        pad_token_id=end_id,
    )
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=cfg.joint_width)
    config._attn_implementation = "eager"
    return CLIPModel(config)


def contrastive_loss(
    image: Float[Tensor, "B J"],
    text: Float[Tensor, "B J"],
    scale: Float[Tensor, ""],
    caption: Int[Tensor, "B"],
    reduce: Collectives = ALONE,
) -> LossTerms:
    """CLIP's symmetric InfoNCE (Radford et al. 2021, figure 3); rows with the same caption are not each other's negatives.

    Args:
      image, text: unit-norm embeddings of matching rows.
      scale: exp of the learned inverse temperature.
      caption: id of each row's caption.

    Returns:
      Loss in nats, with the share of rows whose own caption beats all others (a tie is no win).
    """
    captions = reduce.gather(caption)
    truth = reduce.own(torch.arange(len(captions), device=caption.device))
    same = caption[:, None] == captions[None, :]
    is_other_positive = same & (truth[:, None] != torch.arange(len(captions), device=same.device))
    # In float32 even if the networks run in 16 bits: the scale amplifies the rounding of a cosine.
    with torch.autocast(image.device.type, enabled=False):
        image, text = wide(image), wide(text)
        logits = (scale * image @ reduce.gather(text).T).masked_fill(is_other_positive, float("-inf"))
        if reduce.size == 1:
            back = logits.T
        else:
            back = (scale * text @ reduce.gather(image).T).masked_fill(is_other_positive, float("-inf"))
        loss = (F.cross_entropy(logits, truth) + F.cross_entropy(back, truth)) / 2
    is_own = F.one_hot(truth, len(captions)).bool()
    wins = (beats(logits.gather(1, truth[:, None]), logits, 1 / scale) | is_own).all(1)
    return LossTerms(
        loss,
        {
            "clip_nats": loss.detach(),
            "retrieval": wins.float().mean(),
            "temperature": 1 / scale.detach(),
        },
    )


def clip_objective(
    model: Any,
    pixels: Float[Tensor, "B 3 S S"],
    ids: Tensor,
    mask: Tensor,
    caption: Tensor,
    reduce: Collectives = ALONE,
) -> LossTerms:
    """The loss of the built-in CLIP: normalised pixels and token ids of matching rows -> `contrastive_loss`."""
    image = vision_states(model, pixels, ()).embedding
    out = model.text_model(input_ids=ids, attention_mask=mask.long())
    text = unit(model.text_projection(out.pooler_output))
    return contrastive_loss(image, text, held(model.logit_scale).exp(), caption, reduce)


def save_clip(model: Any, tokenizer: Any, captions: Iterable[str], folder: Path) -> Path:
    """Writes an ordinary `from_pretrained` folder in 16 bits, with `words.json`: all words of the training captions.

    Raises:
      UserError: a weight is not finite, or too large for 16 bits; nothing is written.
    """
    way_out = (
        "nothing was written and no checkpoint was changed; train again with a new --out and a lower learning_rate"
    )
    check_numbers(model.state_dict(), f"what is to be written as {folder}/model.safetensors", way_out, MOST_IN_16_BITS)
    from transformers import CLIPImageProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    model.half()
    held(model.logit_scale)  # averaging or rounding may exceed the limit
    model.save_pretrained(folder)
    model.float()
    tokenizer.backend_tokenizer.no_padding()  # state of its last use; each use sets it again
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(folder)
    size = model.config.vision_config.image_size
    processor = CLIPImageProcessor(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=list(PIXEL_MEAN),
        image_std=list(PIXEL_STD),
    )
    processor.save_pretrained(folder)
    words = sorted({word for caption in captions for word in split_words(caption)})
    (folder / "words.json").write_text(json.dumps(words))
    for file in folder.iterdir():  # transformers makes the weights readable for the owner only
        os.chmod(file, 0o644)
    return folder
