"""Writes a CLIP of a published architecture with random weights, for rehearsals without the real one.

It has the true layers, heads, widths, patches and token ids, and a warning says what it is whenever it is loaded. Its
tokenizer is that of CLIP if the vocabulary is available (`bpe_simple_vocab_16e6.txt.gz`, which comes with the package
`open_clip_torch` and OpenAI's repository); else it is learned from captions, and the remaining ids are unused.
"""

import argparse
import gzip
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError, exit_code
from cdcd_video.networks.clip.published import KNOWN, VOCABULARY
from cdcd_video.storage.folder_lock import folder_lock

TINY = "tiny"
"""A shape of no published CLIP, for tests: 16 patches of 16 pixels, two narrow layers."""
VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
MAX_UNPACKED = 1 << 26
"""Bytes of the unpacked vocabulary that are read at most; CLIP's has 3.2 million."""


def main() -> int:
    parser = OptionParser(
        prog="python -m cdcd_video.tools.stand_in_clip",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help=f"the architecture: {', '.join(KNOWN)}, or {TINY}")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder, which must not exist")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (default: 0)")
    parser.add_argument(
        "--vocabulary", type=Path, metavar="FILE", help=f"{VOCABULARY_FILE} (default: open_clip's, if any)"
    )
    parser.add_argument(
        "--captions", type=Path, metavar="FILE", help="captions to learn a tokenizer from, one per line"
    )
    args = parser.parse_args()
    if args.name != TINY and args.name not in KNOWN:
        raise UserError(f"there is no architecture {args.name!r}; choose from {', '.join(KNOWN)} and {TINY}")
    with folder_lock(args.out):
        if args.out.exists():
            raise UserError(f"{args.out} exists; name another folder, or delete it")
        kind = write(args.name, args.out, args.seed, args.vocabulary or _installed_vocabulary(), _lines(args.captions))
    sys.stdout.write(f"{args.out}: random weights (seed {args.seed}) in the shape of {args.name}, with {kind}\n")
    return 0


def write(name: str, folder: Path, seed: int, vocabulary: Path | None, captions: list[str]) -> str:
    """Writes a stand-in.

    Args:
      name: of a published CLIP, or `TINY`.
      folder: where to; made.
      seed: of the weights.
      vocabulary: CLIP's own, packed or not; None where there is none.
      captions: what a tokenizer is learned from in that case.

    Returns:
      Which tokenizer it has, in words.

    Raises:
      UserError: the vocabulary is another.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    from cdcd_video.networks.clip.random_clip import MARK, STAMP, write_mark

    shape, num_ids = _shape(name)
    if vocabulary and name != TINY:
        tokenizer, kind = published_tokenizer(vocabulary), f"CLIP's own tokenizer (from {vocabulary.name})"
    else:
        tokenizer = learned_tokenizer(captions, num_ids)
        kind = "a tokenizer learned from captions, not CLIP's"
    what = f"{name} (seed {seed})"
    config = CLIPConfig(**shape, **{MARK: what})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(config)
    folder.mkdir(parents=True)
    tensors = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
    tensors["logit_scale"] = torch.tensor(STAMP)
    # One key only: safetensors writes several in an order that differs from process to process.
    save_file(tensors, folder / "model.safetensors", metadata={MARK: what})
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = shape["vision_config"]["image_size"]
    sizes = dict(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    CLIPImageProcessor(**sizes, image_mean=list(OPENAI_MEAN), image_std=list(OPENAI_STD)).save_pretrained(folder)
    write_mark(folder, what, seed, kind)
    for file in folder.iterdir():  # safetensors writes for the owner's eyes only
        file.chmod(0o644)
    return kind


def published_tokenizer(vocabulary: Path) -> Any:
    """CLIP's tokenizer from its list of merges.

    The ids are those of OpenAI: 256 bytes, the same at a word's end, one for each merge, and the two ends of a sentence.

    Raises:
      UserError: the file is missing or another.
    """
    from transformers import CLIPTokenizer

    try:
        packed = vocabulary.read_bytes()
        if packed[:2] == b"\x1f\x8b":
            with gzip.open(vocabulary) as stream:
                packed = stream.read(MAX_UNPACKED)
        lines = packed.decode("utf-8").split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{vocabulary} cannot be read ({error}); use {VOCABULARY_FILE} of OpenAI's CLIP") from error
    merges = [tuple(line.split()) for line in lines[1 : VOCABULARY - 2 * 256 - 2 + 1]]
    if len(merges) != VOCABULARY - 2 * 256 - 2 or any(len(merge) != 2 for merge in merges):
        raise UserError(f"{vocabulary} is not the vocabulary of CLIP; use {VOCABULARY_FILE} of OpenAI's CLIP")
    letters = _letters_of_bytes()
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *map("".join, merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    ids = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=77)


def learned_tokenizer(captions: list[str], num_ids: int) -> Any:
    """A tokenizer learned from captions, of exactly so many ids; those that are left over belong to no text."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from cdcd_video.networks.clip.built_in import END, START, train_tokenizer

    learned = json.loads(train_tokenizer(captions, num_ids, 77).backend_tokenizer.to_str())
    known = learned["model"]["vocab"]
    # No text gives a word with a space in it: words are split there first.
    known |= {f"unused {number}": number for number in range(len(known), num_ids - 2)}
    ends = {START: num_ids - 2, END: num_ids - 1}
    for token in learned["added_tokens"]:
        token["id"] = ends[token["content"]]
    for token, given in learned["post_processor"]["special_tokens"].items():
        given["ids"] = [ends[token]]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(learned)),
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=77,
    )


def _shape(name: str) -> tuple[dict[str, Any], int]:
    """The shape, as `CLIPConfig` is called, and how many token ids it has."""
    if name != TINY:
        return dict(KNOWN[name].shape), VOCABULARY
    num_ids = 600
    vision = dict(image_size=64, patch_size=16, hidden_size=64, intermediate_size=128, num_hidden_layers=2)
    text = dict(vocab_size=num_ids, hidden_size=32, intermediate_size=64, num_hidden_layers=2, eos_token_id=num_ids - 1)
    text |= dict(bos_token_id=num_ids - 2, pad_token_id=num_ids - 1, num_attention_heads=2, projection_dim=32)
    return dict(
        vision_config=vision | dict(num_attention_heads=2, projection_dim=32), text_config=text, projection_dim=32
    ), num_ids


def _letters_of_bytes() -> list[str]:
    """A printable letter for each of the 256 bytes, in OpenAI's order: those that are printable, then the others."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(len(others))]


def _installed_vocabulary() -> Path | None:
    found = importlib.util.find_spec("open_clip")
    file = Path(found.origin).parent / VOCABULARY_FILE if found and found.origin else None
    return file if file and file.is_file() else None


def _lines(captions: Path | None) -> list[str]:
    if captions is None:
        from cdcd_video.data.sprites import VOCABULARY as words_of_sprites

        return list(words_of_sprites)
    try:
        return captions.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the captions {captions} cannot be read ({error}); use a text file") from error


if __name__ == "__main__":
    sys.exit(exit_code(main))
