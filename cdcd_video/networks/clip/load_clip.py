"""A CLIP's files -> a `transformers.CLIPModel` in 32 bits and its tokenizer."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cdcd_video.config import MAX_LAYERS
from cdcd_video.errors import UserError
from cdcd_video.networks.clip import open_clip, plain_towers
from cdcd_video.networks.clip.clip_files import ClipFiles, read_json
from cdcd_video.networks.clip.plain_towers import WIDE
from cdcd_video.storage.memory import raise_if_out_of_memory
from cdcd_video.storage.tensor_file import read_tensors

START, END = "<|startoftext|>", "<|endoftext|>"
LEGACY_END = 2
"""An end id with which transformers pools at the highest id, whatever the tokenizer's end token."""


def config_of(files: ClipFiles, activation: str = "gelu") -> Any:
    """The `transformers.CLIPConfig`; `activation` is used only with an OpenCLIP config.

    Raises:
      UserError: the config is damaged, or of another model.
    """
    from transformers import CLIPConfig

    given = read_json(files.folder / "config.json")
    if files.layout == "open_clip" and given.get("model_type") != "clip":
        exported = read_json(files.folder / "open_clip_config.json")
        return CLIPConfig(**open_clip.config_of(files.folder, exported, activation))
    if given.get("model_type") != "clip":
        raise UserError(
            f"CLIP folder {files.folder} holds another model ({given.get('model_type', 'config.json names none')});"
            " give a CLIPModel"
        )
    return CLIPConfig.from_pretrained(files.folder, local_files_only=True)


def attention_of(config: Any) -> str:
    """The attention implementation for a model of this shape."""
    return "sdpa" if config.vision_config.hidden_size >= WIDE else "eager"


def load_model(files: ClipFiles, sha256: str) -> tuple[Any, str]:
    """The model, and the hash that identifies it.

    Returns:
      A `CLIPModel` in 32 bits, whatever the file has; and `sha256`, for an export combined with the activation.

    Raises:
      UserError: a file is damaged, or the weights do not fit the config.
    """
    try:
        plain = plain_towers.config_of(files)
        if plain is not None:
            return _load_plain(files, plain), sha256
        from transformers import CLIPModel
        from transformers.utils import logging

        logging.disable_progress_bar()  # a bar for reading one small file is noise
        if files.layout == "transformers":
            config = config_of(files)
            _check_room(files, config)
            how: dict[str, Any] = dict(local_files_only=True, use_safetensors=True, dtype=torch.float32)
            loaded: Any = CLIPModel.from_pretrained(
                files.folder, config=config, attn_implementation=attention_of(config), output_loading_info=True, **how
            )
            model, report = loaded
            _refuse_gaps(files.folder, report["missing_keys"], report.get("mismatched_keys") or ())
            return model, sha256
        tensors = read_tensors(files.weights, "file of a CLIP", "copy it again")
        exported = read_json(files.folder / "open_clip_config.json")
        activation = open_clip.activation_of(files.folder, exported, sha256, tensors)
        config = config_of(files, activation)
        _check_room(files, config)
        config._attn_implementation = attention_of(config)
        model = CLIPModel(config).float()
        known = open_clip.tensors_of(tensors, files.folder)
        _refuse_gaps(files.folder, *_differences(model, known))
        model.load_state_dict(known, strict=False)
        acts = f"{config.vision_config.hidden_act} {config.text_config.hidden_act}"
        return model, hashlib.sha256(f"{sha256} {acts}".encode()).hexdigest()
    except UserError:
        raise
    except Exception as error:  # readers raise any exception on broken files
        raise_if_out_of_memory(error)
        raise damaged(files.folder, error) from error


def _load_plain(files: ClipFiles, config: plain_towers.Config) -> nn.Module:
    """The towers of a CLIP that this package trained, in 32 bits; no `transformers` is imported."""
    _check_layers(files, config)
    with torch.device("meta"):  # shapes and no numbers
        model = plain_towers.PlainClip(config)
    _check_size(files, sum(value.numel() for value in model.parameters()))
    tensors = read_tensors(files.weights, "file of a CLIP", "copy it again")
    known = {name: value.float() for name, value in tensors.items() if not name.endswith("position_ids")}
    _refuse_gaps(files.folder, *_differences(model, known))
    model.load_state_dict(known, assign=True)
    return model


def load_tokenizer(folder: Path, config: Any = None) -> Any:
    """The tokenizer beside a model: of one that this package trained, without importing `transformers`.

    Args:
      config: of the model, if it has been read; otherwise transformers reads it again.

    Raises:
      UserError: it is damaged.
    """
    try:
        if isinstance(config, plain_towers.Config):
            return plain_towers.PlainTokenizer(folder)
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        if (folder / "tokenizer_config.json").is_file():
            # False: neither run code from the folder nor ask
            how = dict(local_files_only=True, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(folder, config=config, **how)
        else:
            ends = dict(bos_token=START, eos_token=END, pad_token=END)  # an export may have tokenizer.json only
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **ends)
    except Exception as error:  # as above
        raise_if_out_of_memory(error)
        raise damaged(folder, error) from error
    if not tokenizer.is_fast:
        raise UserError(f"CLIP folder {folder} has no fast tokenizer; copy tokenizer.json beside the weights")
    return tokenizer


def check_end(tokenizer: Any, text: Any, folder: str) -> None:
    """Checks that the text tower pools at the end token, and has an embedding for every id of the tokenizer.

    Args:
      tokenizer, text: the tokenizer, and the config of the text tower.

    Raises:
      UserError: it does not.
    """
    num_ids = max(tokenizer.get_vocab().values(), default=-1) + 1
    if tokenizer.eos_token_id is None:
        raise UserError(f"CLIP folder {folder} has a tokenizer without an end token; set its eos_token")
    num_around = tokenizer.num_special_tokens_to_add()
    if num_around >= text.max_position_embeddings:
        raise UserError(
            f"CLIP folder {folder} has a tokenizer that adds {num_around} tokens to a caption, and a text tower that reads only"
            f" {text.max_position_embeddings}; copy the right tokenizer.json beside the weights"
        )
    if num_ids > text.vocab_size:  # fewer are fine: a tower may have unused embeddings
        raise UserError(
            f"CLIP folder {folder} has a tokenizer with {num_ids} token ids and a text tower with {text.vocab_size}; the"
            " tokenizer belongs to another model: copy the right tokenizer.json beside the weights"
        )
    pooled = num_ids - 1 if text.eos_token_id == LEGACY_END else text.eos_token_id
    if pooled != tokenizer.eos_token_id:
        raise UserError(
            f"CLIP folder {folder} pools a caption at the token id {pooled}, but its tokenizer ends captions with"
            f" {tokenizer.eos_token_id}; set text_config.eos_token_id to {tokenizer.eos_token_id} in its config.json"
        )


def _differences(model: nn.Module, tensors: dict[str, torch.Tensor]) -> tuple[list[str], list[str]]:
    wanted = {key: value for key, value in model.state_dict().items() if not key.endswith("position_ids")}
    misfits = [key for key, value in wanted.items() if key in tensors and tensors[key].shape != value.shape]
    return sorted(set(wanted) ^ set(tensors)), misfits


def _refuse_gaps(folder: Path, missing: Any, misfits: Any) -> None:
    wrong = sorted(map(str, [*missing, *misfits]))
    if wrong:
        raise UserError(
            f"CLIP folder {folder} has weights that do not fit its config ({len(wrong)} tensors, the first is {wrong[0]});"
            " copy both from the same model"
        )


def _check_room(files: ClipFiles, config: Any) -> None:
    """Refuses a config with more parameters than the file can have, before memory is allocated.

    Raises:
      UserError: with both numbers.
    """
    _check_layers(files, config)
    _check_size(files, _num_parameters(config.to_json_string(use_diff=False)))


def _check_layers(files: ClipFiles, config: Any) -> None:
    for tower in (config.vision_config, config.text_config):
        if not (type(tower.num_hidden_layers) is int and 0 < tower.num_hidden_layers <= MAX_LAYERS):
            raise UserError(
                f"CLIP folder {files.folder} is damaged (its config.json asks for {tower.num_hidden_layers!r} layers);"
                " copy it again"
            )


def _check_size(files: ClipFiles, wanted: int) -> None:
    has = files.weights.stat().st_size
    if wanted > 2 * has:
        raise UserError(
            f"CLIP folder {files.folder} has weights that do not fit its config (it describes {wanted:,} numbers, and"
            f" {files.weights.name} has {has:,} bytes); copy both from the same model"
        )


@functools.lru_cache(maxsize=8)
def _num_parameters(config: str) -> int:
    """Number of parameters of a `CLIPModel` with this config (JSON)."""
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):  # shapes and no numbers
        return sum(value.numel() for value in CLIPModel(CLIPConfig(**json.loads(config))).parameters())


def damaged(folder: Path, error: BaseException) -> UserError:
    """The error for a folder that cannot be read."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"CLIP folder {folder} is damaged ({reason}); copy it again or train again")
