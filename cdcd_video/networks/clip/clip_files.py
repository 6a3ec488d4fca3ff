"""Finds the files of a CLIP, in a folder or in the Hub's cache. Nothing is downloaded, and no pickle is opened."""

import hashlib
import os
import re
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cdcd_video.config.shipped_files import MODELS
from cdcd_video.errors import UserError
from cdcd_video.networks.clip.published import KNOWN, Known, Place
from cdcd_video.storage.small_file import MIB, Missing, Unreadable, open_plain, read_small_json

PICKLES = ("pytorch_model.bin", "open_clip_pytorch_model.bin", "*.bin", "*.pt", "*.pth", "*.ckpt")
_MOST_BYTES = 64 * MIB
"""Largest size of a text file, twice that of the largest vocabularies."""
_TEXTS = (".json", ".jsonl", ".txt", ".jinja", ".model", ".py", ".md")
ON_THE_HUB = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[0-9a-f]{40}))?")
WEIGHTS = {"transformers": "model.safetensors", "open_clip": "open_clip_model.safetensors"}

Layout = Literal["transformers", "open_clip"]
"""The naming scheme of a file's tensors."""


@dataclass(frozen=True)
class ClipFiles:
    """The files of one CLIP."""

    source: str
    """As given by the user: a folder or a name."""
    folder: Path
    """Contains config.json or open_clip_config.json, the tokenizer and the image processor."""
    weights: Path
    layout: Layout
    sha256: str | None = None
    """Hash of the weights of a published CLIP."""


def find(source: str | Path) -> ClipFiles:
    """Finds a CLIP by its folder, its name, or `name@revision`.

    Args:
      source: the name of a shipped model, for the CLIP that was trained with it; or a folder of
        `CLIPModel.save_pretrained` or an OpenCLIP export; or a name of `published.KNOWN`; or any other name on the Hub
        with the 40 hex digits of a commit that lies in the cache.

    Raises:
      UserError: there is none, or none that can be loaded without pickle; the message says how to get it.
    """
    source = str(source)
    if source in shipped():  # before a folder of that name: a shipped model must load in any folder
        return in_folder(MODELS / source / "clip", source)
    if Path(source).is_dir():
        return in_folder(Path(source), source)
    on_the_hub = ON_THE_HUB.fullmatch(source)
    if on_the_hub is None:
        raise UserError(
            f"CLIP folder {source} does not exist; give a folder with safetensors weights, or one of the names"
            f" {', '.join((*shipped(), *KNOWN))}"
        )
    name, revision = on_the_hub["name"], on_the_hub["revision"]
    if revision is None and name in KNOWN:
        return _in_cache(source, KNOWN[name])
    if revision is None:
        raise UserError(
            f"clip is {source}, which is neither an existing folder nor a known name ({', '.join(KNOWN)}); for any"
            f" other name on the Hub, add its commit: {source}@ and 40 hex digits"
        )
    places = [Place(name, revision, file) for file in ("config.json", "preprocessor_config.json", "tokenizer.json")]
    found = _cached(source, [Place(name, revision, "model.safetensors"), *places])
    return in_folder(found[0].parent, source)


def shipped() -> list[str]:
    """The names of the shipped models that have a CLIP of their own."""
    return sorted(config.parents[1].name for config in MODELS.glob("*/clip/config.json"))


def in_folder(folder: Path, source: str) -> ClipFiles:
    """A CLIP whose files are all in one folder.

    Raises:
      UserError: a file is missing; or the weights are pickled only, or in several files.
    """
    layout: Layout = "open_clip" if (folder / WEIGHTS["open_clip"]).is_file() else "transformers"
    weights = folder / WEIGHTS[layout]
    check_plain(folder)
    if not weights.is_file():
        _refuse_other_weights(folder)
        raise UserError(
            f"CLIP folder {folder} has no {weights.name}; give a folder written by CLIPModel.save_pretrained with"
            " safetensors weights, and its tokenizer and image processor"
        )
    needed: dict[str, list[tuple[str, ...]]] = {"transformers": [("config.json",), ("preprocessor_config.json",)]}
    needed["open_clip"] = [
        ("open_clip_config.json", "config.json"),
        ("open_clip_config.json", "preprocessor_config.json"),
    ]
    for names in [*needed[layout], ("tokenizer.json",)]:
        if not any((folder / name).is_file() for name in names):
            hint = (
                "the tokenizer of CLIP is the same in all of them: copy tokenizer.json of a published one beside the weights"
                if names == ("tokenizer.json",) and layout == "open_clip"
                else "give a folder written by CLIPModel.save_pretrained with safetensors weights, and its tokenizer and"
                " image processor"
            )
            raise UserError(f"CLIP folder {folder} has no {' or '.join(names)}; {hint}")
    return ClipFiles(source, folder, weights, layout)


def read_json(file: Path, kind: type = dict) -> Any:
    """The mapping (or list, if that is the kind) of a JSON file; empty if there is no file.

    Raises:
      UserError: it is damaged or not readable.
    """
    try:
        return read_small_json(file, kind=kind, limit=_MOST_BYTES)
    except Missing:
        return kind()
    except Unreadable as error:
        if isinstance(error.__context__, PermissionError):
            raise not_readable(file) from error
        raise UserError(f"CLIP folder {file.parent} is damaged: {file.name} {error.reason}") from error


def check_plain(folder: Path) -> None:
    """Checks a folder before another library reads it: only regular files, and no text file of excessive size.

    Raises:
      UserError: names the file.
    """
    for file in sorted(folder.iterdir()):
        try:
            status = file.stat()
        except OSError as error:
            raise UserError(
                f"CLIP folder {folder} is damaged ({file.name}: {error.strerror}); copy it again"
            ) from error
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise UserError(
                f"CLIP folder {folder} holds {file.name}, which is not a regular file; copy it again without"
            )
        if file.suffix in _TEXTS and status.st_size > _MOST_BYTES:
            raise UserError(
                f"CLIP folder {folder} is damaged ({file.name} has {status.st_size:,} bytes); copy it again"
            )


def not_readable(file: Path) -> UserError:
    """The error for a file without permission to read; transformers makes weights readable for their owner only."""
    return UserError(f"you have no permission to read {file}; its owner can grant it: chmod 644 {file}")


def sha256_of(file: Path) -> str:
    """The hash of a file of any size, read in pieces.

    Raises:
      UserError: it is not readable.
    """
    digest = hashlib.sha256()
    try:
        with open_plain(file, "file of a CLIP") as stream:
            while piece := stream.read(1 << 22):
                digest.update(piece)
    except Unreadable as error:
        if isinstance(error.__context__, PermissionError):
            raise not_readable(file) from error
        raise
    return digest.hexdigest()


def _refuse_other_weights(folder: Path) -> None:
    pickles = sorted({file.name for pattern in PICKLES for file in folder.glob(pattern)})
    if (folder / "model.safetensors.index.json").is_file():
        raise UserError(
            f"CLIP folder {folder} has its weights in several files; merge them on a machine with enough memory:"
            ' CLIPModel.from_pretrained(FOLDER).save_pretrained(NEW, max_shard_size="100GB")'
        )
    if pickles:
        published = "; ".join(
            f"{name}: {known.weights.repository}@{known.weights.revision}" for name, known in KNOWN.items()
        )
        raise UserError(
            f"CLIP folder {folder} has its weights only as a pickle ({pickles[0]}), which can run any code and is never"
            f" opened here; use a revision with safetensors ({published}), or, if you trust the file, convert it:"
            " CLIPModel.from_pretrained(FOLDER).save_pretrained(NEW)"
        )


def _in_cache(source: str, known: Known) -> ClipFiles:
    weights, config, *_ = _cached(source, [known.weights, *known.beside])
    layout: Layout = "open_clip" if known.weights.file == WEIGHTS["open_clip"] else "transformers"
    return ClipFiles(source, config.parent, weights, layout, known.sha256)


def _cached(source: str, places: Sequence[Place]) -> list[Path]:
    """The files in the Hub's cache; never asks the network."""
    from huggingface_hub import constants, try_to_load_from_cache

    found = [try_to_load_from_cache(place.repository, place.file, revision=place.revision) for place in places]
    missing = [place for place, path in zip(places, found, strict=True) if not isinstance(path, str)]
    if not missing:
        return [Path(str(path)) for path in found]
    wanted: dict[tuple[str, str], list[str]] = {}
    for place in places:
        wanted.setdefault((place.repository, place.revision), []).append(place.file)
    commands = " && ".join(
        shlex.join(["hf", "download", repository, *files, "--revision", revision])
        for (repository, revision), files in wanted.items()
    )
    is_offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    raise UserError(
        f"the weights of CLIP {source} are not in the cache {constants.HF_HUB_CACHE} (no {missing[0].file});"
        f" {'HF_HUB_OFFLINE is set: unset it, and ' if is_offline else ''}with a network, run `{commands}`; without one, run"
        " that on another machine, copy the files into one folder here and set clip: FOLDER (or rehearse with"
        " random weights: python -m cdcd_video.tools.stand_in_clip)"
    )
