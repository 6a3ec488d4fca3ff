"""The digest of a model: a hash over everything that affects its videos, and over nothing else.

Two folders whose models sample the same videos have the same digest. Their paths, names, training data and other
files (a README, notes of a hub) make no difference.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from cdcd_video.config import Config, config_file
from cdcd_video.config.fingerprint import identity_text
from cdcd_video.storage.small_file import MIB, read_small

_SECTIONS = {name: name for name in ("clip", "codec", "picture", "denoiser", "diffusion")} | {"rival": "baseline"}
"""Sections of a config that define the networks and the process, by their key in the digest. Sampling settings are
recorded with each video."""
_FRAMES = ("kind", "size_px", "mode", "fps")
"""Fields of the section `data`: how starting frames are prepared, and the frame rate of training."""
_CLIP_FILES = (
    *("config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
)
_WEIGHTS = ("codec.safetensors", "denoiser.safetensors", "clip/model.safetensors")
_WRITTEN = ("config.yaml", "model.json", "clip/words.json", *_WEIGHTS, *(f"clip/{name}" for name in _CLIP_FILES))
"""All that training writes into a model folder."""
_STATE = ("padding", "truncation", "transformers_version")
"""Entries of a tokenizer or CLIP config that record its last use or the version that wrote it."""


def folder_digest(folder: Path) -> str:
    """SHA-256 (hex) over the sections of the config that define the networks, the weights and the tokenizer.

    A published CLIP, which lies elsewhere, counts by the hash of its weights that `model.json` holds.

    Raises:
      UserError: the config, or another small file, cannot be read.
      OSError, ValueError: weights cannot be, or what is read is no JSON.
    """
    config = config_file.load(folder / "config.yaml", Config)
    # A field that is newer than the model is left out at its default, so that the digest stays the same.
    sections = {key: getattr(config, name) for key, name in _SECTIONS.items() if getattr(config, name) is not None}
    parts = {name: json.loads(identity_text(section, but={"folder"})) for name, section in sections.items()}
    written = type(config.data).model_fields
    parts["data"] = {name: getattr(config.data, name) if name in written else None for name in _FRAMES}
    if sizes := getattr(config.data, "sizes", None):
        parts["data"]["sizes"] = list(sizes)
    if config.clip.kind != "builtin":
        parts["clip"] = json.loads(read_small(folder / "model.json")).get("clip_sha256")
    for name in _there(folder, _WEIGHTS):
        parts[name] = _tensors(folder / name)
    for name in _there(folder / "clip", _CLIP_FILES):
        parts[f"clip/{name}"] = _settings(folder / "clip" / name)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def earlier_digests(folder: Path) -> set[str]:
    """Digests of the model in records of earlier versions: over every file, or over those that training wrote."""
    every = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    every = [name for name in every if name != "round_trip.json"]  # which was never part of it
    return {_bytes(folder, sorted(every)), _bytes(folder, sorted(_there(folder, _WRITTEN)))}


def _there(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if (folder / name).is_file()]


def _tensors(path: Path) -> str:
    """Digest of the names, shapes and values of the tensors in a safetensors file, without its metadata."""
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    header.pop("__metadata__", None)
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    digest.update(content[begin:])
    return digest.hexdigest()


def _settings(path: Path) -> str:
    settings = json.loads(read_small(path, limit=64 * MIB))
    settings = (
        {key: value for key, value in settings.items() if key not in _STATE} if isinstance(settings, dict) else []
    )
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _bytes(folder: Path, names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(names, key=lambda name: folder / name):
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0" + (folder / name).read_bytes())
    return digest.hexdigest()
