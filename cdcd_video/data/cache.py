"""Encode once, train many times: codes of every frame and states of every caption, memory-mapped.

A cache is a folder of plain arrays. Clips lie one after another, in the order in which they were encoded:

| file | holds |
|---|---|
| `codes.npy` | codes of every frame, uint16 (uint32 where K asks for it), (frames, N) |
| `words.npy` | states of every word of every caption, float16, (words, Dt); padding is not kept |
| `embeddings.npy` | caption embeddings in CLIP's joint space, float32, (captions, J) |
| `captions.npy` | int64, a row per caption: its words, and a number that equal sentences share |
| `clips.npy` | int32, a row per clip: its frames, captions, cuts, and the number of its split in the manifest |
| `cuts.npy` | int32, first frames of the shots after a clip's first one |
| `times.npy` | float32, seconds of every frame from its clip's first; only where they are not evenly apart |
| `index.jsonl` | a line per clip: id, split, source, frames, captions, cuts; for people, training does not read it |
| `rejected.jsonl` | a line per clip that was refused, with the reason |
| `space.safetensors` | what codes mean: the quantiser and the codec's `embed` head, in 16 bits |
| `manifest.json` | the plan (hashes of codec, CLIP and data), counts, and size and SHA-256 of every file |

Nothing in it depends on the time, the machine or the place.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cdcd_video.data.cache_plan import ARRAYS, TIMED_VERSION, TIMES, VERSION
from cdcd_video.data.shots import Shots
from cdcd_video.data.store_files import MOST_MANIFEST_BYTES
from cdcd_video.errors import UserError
from cdcd_video.records import Grid, TextStates
from cdcd_video.storage.memory import raise_if_out_of_memory
from cdcd_video.storage.small_file import Missing, read_small
from cdcd_video.storage.verified_files import is_known, require

FORMAT = "cdcd_video latents"
MANIFEST, INDEX, REJECTED, SPACE = "manifest.json", "index.jsonl", "rejected.jsonl", "space.safetensors"
_SCANNED_BYTES = 1 << 24


class CodeCache:
    """A written cache, memory-mapped: only a few numbers per clip and caption are in memory.

    Args:
      folder: the cache.
      split: "train", "val", ...; None for all clips.
      trusted: whether another process of the same job has opened it: then its files are not read against their hashes.

    Raises:
      UserError: the folder holds no cache, one of another version, no clip of the split, or a file of it is cut short or
        has been changed since it was written.
    """

    _times: np.ndarray | None = None
    """Seconds of every frame from its clip's first, where frames are not evenly apart."""
    grid: Grid | None = None
    """Rows and columns of the frames' patches; None for the square grid."""

    def __init__(self, folder: Path, split: str | None = None, *, trusted: bool = False):
        self.folder, self.manifest = folder, read_manifest(folder)
        self._names = arrays_of(self.manifest["plan"])
        arrays = {name: self._open(name) for name in self._names}
        if not _are_sound(arrays, len(self.manifest["splits"])):
            raise UserError(f"the arrays of {folder} do not fit together; encode the clips again")
        self._check(arrays["codes"], trusted)
        self.codes, self.words, self.embeddings = (arrays[name] for name in ("codes", "words", "embeddings"))
        self._times = arrays.get(TIMES)
        self.fps: float = self.manifest["plan"]["fps"]
        grid = self.manifest["plan"].get("grid")
        self.grid = None if grid is None else (grid[0], grid[1])
        frames, captions, cuts, splits = arrays["clips"].T.astype(np.int64)
        chosen = np.arange(len(frames))
        if split is not None:
            known = list(self.manifest["splits"])
            if split not in known:
                raise UserError(
                    f"the cache {folder} has no clips of the split {split!r}; choose from {', '.join(known)}"
                )
            chosen = np.flatnonzero(splits == known.index(split))
        self.lengths, self.offsets = frames[chosen], _begins(frames)[chosen]
        self._first_caption, self._num_captions = _begins(captions)[chosen], captions[chosen]
        self._first_cut, self._num_cuts, self._cuts = _begins(cuts)[chosen], cuts[chosen], arrays["cuts"]
        self._num_words, self.sentence = arrays["captions"].T
        self._first_word = _begins(self._num_words)
        self.caption_of = _CaptionsOf(self._first_caption, self._num_captions)
        """Numbers of each clip's captions; `sentence[number]` is equal for captions that are the same sentence."""
        self.shots = Shots.of(self.lengths, [self.cuts(clip) for clip in range(len(self))] if cuts.any() else None)

    def __len__(self) -> int:
        return len(self.lengths)

    def cuts(self, clip: int) -> tuple[int, ...]:
        """First frames of the clip's shots after the first one."""
        begin = self._first_cut[clip]
        return tuple(self._cuts[begin : begin + self._num_cuts[clip]].tolist())

    def frame_codes(self, clip: np.ndarray, frame: np.ndarray) -> Int[Tensor, "B N"]:
        """Codes of one frame of each of several clips."""
        return torch.from_numpy(self.codes[self.offsets[clip] + frame].astype(np.int64))

    def seconds(self, clip: np.ndarray, earlier: np.ndarray, later: np.ndarray) -> Float[Tensor, "B"]:
        """Time from one frame to another of each of several clips."""
        if self._times is None:
            return torch.from_numpy((later - earlier) / self.fps).float()
        begin = self.offsets[clip]
        return torch.from_numpy(self._times[begin + later] - self._times[begin + earlier])

    def some_codes(self, most: int) -> Int[Tensor, "M N"]:
        """Codes of at most this many frames, evenly spread over all clips."""
        before = _begins(self.lengths)
        wanted = np.arange(0, self.lengths.sum(), -(-self.lengths.sum() // most))
        clip = np.searchsorted(before, wanted, side="right") - 1
        return self.frame_codes(clip, wanted - before[clip])

    def text(self, caption: np.ndarray) -> TextStates:
        """States of several captions, padded to the longest of them."""
        num_words = self._num_words[caption]
        is_word = np.arange(num_words.max()) < num_words[:, None]
        tokens = np.zeros((*is_word.shape, self.words.shape[1]), np.float32)
        tokens[is_word] = self.words[(self._first_word[caption][:, None] + np.arange(is_word.shape[1]))[is_word]]
        return TextStates(*map(torch.from_numpy, (tokens, is_word, self.embeddings[caption])))

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the manifest, which holds those of every file."""
        return hashlib.sha256(read_small(self.folder / MANIFEST, limit=MOST_MANIFEST_BYTES)).hexdigest()

    def _check(self, codes: np.ndarray, trusted: bool) -> None:
        """Checks the hashes of all files that training reads, and that the codes are in range."""
        for name in (*(f"{name}.npy" for name in self._names), SPACE):
            path, sha256 = self.folder / name, self.manifest["files"][name]["sha256"]
            if trusted or is_known(path, sha256):
                continue
            require(path, sha256, f"delete {self.folder} and encode the clips again")
            if name == "codes.npy" and not _are_codes(codes, self.manifest["plan"]["num_codes"]):
                raise UserError(f"{path} contains values that are not codes of its codec; encode the clips again")

    def _open(self, name: str) -> np.ndarray:
        """The array, if it is as long as the manifest says."""
        path = self.folder / f"{name}.npy"
        try:
            if path.stat().st_size != self.manifest["files"][path.name]["bytes"]:
                raise UserError(f"{path} is truncated or was changed; encode the clips again")
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except UserError:
            raise
        except Exception as error:  # NumPy meets a broken header with whatever exception it stumbles on
            raise_if_out_of_memory(error)
            raise UserError(f"{path} cannot be read ({error}); encode the clips again") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads and checks the manifest of a cache.

    Raises:
      UserError: the folder holds no cache, one of another version, or a damaged manifest.
    """
    path = folder / MANIFEST
    try:
        facts = json.loads(read_small(path, limit=MOST_MANIFEST_BYTES))
        is_ours = facts["format"] == FORMAT
    except Missing:
        raise UserError(f"{folder} is not a cache of latents; make one with `python -m data_prep encode`") from None
    except (UserError, ValueError, TypeError, KeyError, RecursionError):
        is_ours = False
    if not is_ours or not isinstance(facts.get("plan"), dict):
        raise UserError(f"{path} does not belong to a cache of latents, or is damaged; encode the clips again")
    if facts["plan"].get("version") not in (VERSION, TIMED_VERSION):
        version = facts["plan"].get("version")
        raise UserError(
            f"the cache {folder} has version {version}, but this one reads {VERSION}; encode the clips again"
        )
    if not _is_whole(facts):
        raise UserError(f"{path} does not belong to a cache of latents, or is damaged; encode the clips again")
    return facts


def arrays_of(plan: dict[str, Any]) -> tuple[str, ...]:
    """Names of the arrays of a cache, by the plan in its manifest."""
    return (*ARRAYS, TIMES) if plan["version"] == TIMED_VERSION else ARRAYS


def _is_whole(facts: dict[str, Any]) -> bool:
    """Whether the entries of a manifest that are used exist and have their type."""
    plan, files, splits = facts["plan"], facts.get("files"), facts.get("splits")
    fps, whole = plan.get("fps"), ("size_px", "num_patches", "joint_width", "text_width", "num_codes")
    return (
        all(type(plan.get(name)) is int and plan[name] > 0 for name in whole)
        and all(isinstance(plan.get(name), str) for name in ("codes", "clip", "data"))
        and all(isinstance(plan.get(name), dict) for name in ("codec", "recipe"))
        and type(fps) in (int, float)
        and 0 < fps < math.inf
        and _is_grid(plan.get("grid"))
        and isinstance(splits, dict)
        and isinstance(files, dict)
        and all(
            isinstance(files.get(name), dict)
            and type(files[name].get("bytes")) is int
            and isinstance(files[name].get("sha256"), str)
            for name in (*(f"{name}.npy" for name in arrays_of(plan)), SPACE)
        )
    )


def _is_grid(value: Any) -> bool:
    """Whether it is no grid at all, or numbers of rows and columns."""
    return value is None or (
        isinstance(value, list) and [type(side) for side in value] == [int, int] and min(value) > 0
    )


def _are_sound(arrays: dict[str, np.ndarray], num_splits: int) -> bool:
    """Whether the arrays have their shapes and their indices are in range."""
    shapes = {name: arrays[name].shape for name in ARRAYS}
    widths = {"codes": None, "words": None, "embeddings": None, "captions": 2, "clips": 4}
    whole = {name: np.issubdtype(arrays[name].dtype, np.integer) for name in ARRAYS}
    if not all(len(shapes[name]) == 2 and width in (None, shapes[name][1]) for name, width in widths.items()):
        return False
    if len(shapes["cuts"]) != 1 or [name for name in ARRAYS if whole[name]] != ["codes", "captions", "clips", "cuts"]:
        return False
    if not all(arrays[name].dtype.kind == "f" for name in ("words", "embeddings")):
        return False
    times = arrays.get(TIMES)
    if times is not None and not (times.dtype.kind == "f" and times.shape == shapes["codes"][:1]):
        return False
    counts, num_words = arrays["clips"].astype(np.int64), arrays["captions"][:, 0].astype(np.int64)
    held = [shapes["codes"][0], shapes["captions"][0], shapes["cuts"][0]]
    return bool(
        (counts >= 0).all()
        and (num_words > 0).all()
        and counts[:, :3].sum(0).tolist() == held
        and (counts[:, :2] > 0).all()
        and (counts[:, 3] < max(1, num_splits)).all()
        and num_words.sum() == shapes["words"][0]
        and shapes["embeddings"][0] == shapes["captions"][0]
    )


def _are_codes(codes: np.ndarray, num_codes: int) -> bool:
    """Whether all codes are from 0 to `num_codes` - 1; reads them in parts."""
    step = max(1, _SCANNED_BYTES // max(1, codes[:1].nbytes))
    parts = (codes[begin : begin + step] for begin in range(0, len(codes), step))
    return all(part.size == 0 or (part.min() >= 0 and part.max() < num_codes) for part in parts)


def _begins(lengths: np.ndarray) -> np.ndarray:
    """Offsets of consecutive entries with these lengths."""
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(lengths) else np.zeros(0, np.int64)


class _CaptionsOf(Sequence[range]):
    """Numbers of each clip's captions, without a list of them."""

    def __init__(self, first: np.ndarray, count: np.ndarray):
        self._first, self._count = first, count

    def __len__(self) -> int:
        return len(self._first)

    def __getitem__(self, clip: int) -> range:  # type: ignore[override]  # never called with a slice
        return range(self._first[clip], self._first[clip] + self._count[clip])

    def __iter__(self) -> Iterator[range]:
        return (self[clip] for clip in range(len(self)))
