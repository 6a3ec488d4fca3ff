"""The blocks of a cache: a few clips each, encoded separately and stored in separate files.

What a block holds depends on its clips alone, so that it makes no difference which process encodes it, or when.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from cdcd_video.data.cache_plan import TIMES, CachePlan
from cdcd_video.data.store import Clips, StoredClips, TimedClips
from cdcd_video.errors import UserError
from cdcd_video.records import TextStates

BLOCK_CLIPS = 64
"""Clips per block; at most this many are lost when a process is killed."""
_ENCODED_FRAMES = 64
_READ_CAPTIONS = 256


@dataclass(frozen=True)
class LoadedClip:
    """A loaded clip: its frames, its captions and its entry in `index.jsonl`."""

    id: str
    split: str
    source: str
    captions: tuple[str, ...]
    cuts: tuple[int, ...]
    frames: UInt8[np.ndarray, "F H W 3"]
    about: Mapping[str, object] = field(default_factory=dict)
    times_s: Float64[np.ndarray, " F"] | None = None
    """Where frames are not evenly apart: seconds of each from the first."""


@dataclass(frozen=True)
class Refused:
    """A clip that cannot be used: a line of `rejected.jsonl`."""

    id: str
    source: str
    reason: str


@dataclass(frozen=True)
class Encoder:
    """The functions that encode frames and captions.

    Attributes:
      encode: frames in [0, 1] -> codes.
      read: captions -> text states.
    """

    encode: Callable[[Float[Tensor, "F 3 H W"]], Int[Tensor, "F N"]]
    read: Callable[[Sequence[str]], TextStates]


@dataclass(frozen=True)
class Block:
    """Some clips after encoding: the arrays of `cache`, and the lines of its two tables."""

    arrays: dict[str, np.ndarray]
    index: list[dict[str, Any]]
    rejected: list[dict[str, str]]


def loaded_clips(
    clips: Clips, numbers: Iterable[int], split: str | None, max_frames: int | None
) -> Iterator[LoadedClip]:
    """Clips of a prepared folder or of the built-in world.

    Args:
      clips: where they are.
      numbers: which of them.
      split: what they are called; None where each clip's row says it.
      max_frames: frames of each, from its first; None for all.
    """
    for clip in numbers:
        length = min(clips.num_frames(clip), max_frames or clips.num_frames(clip))
        about: dict[str, Any] = {"split": split, "source": ""}
        if split is None:
            row = cast(StoredClips, clips).rows[clip]
            about = {"split": row.split, "source": row.source, "about": row.about}
        yield LoadedClip(
            id=clips.name(clip),
            captions=tuple(clips.captions(clip)),
            cuts=tuple(cut for cut in clips.cuts(clip) if cut < length),
            frames=clips.frames(clip, range(length)),
            times_s=clips.times_s(clip)[:length] if isinstance(clips, TimedClips) else None,
            **about,
        )


def encode_block(entries: Iterable[LoadedClip | Refused], encoder: Encoder, plan: CachePlan) -> Block:
    """Encodes clips one after another, then reads their sentences, each distinct one once.

    Args:
      entries: the clips; only one of them has its frames in memory at a time.
      encoder: of this cache.
      plan: of this cache.
    """
    index: list[dict[str, Any]] = []
    rejected: list[dict[str, str]] = []
    codes = [np.zeros((0, plan.num_tokens), code_type(plan.num_codes))]
    times = [np.zeros(0, np.float32)]
    for entry in entries:
        if isinstance(entry, Refused):
            rejected.append(asdict(entry))
            continue
        for begin in range(0, len(entry.frames), _ENCODED_FRAMES):
            frames = torch.from_numpy(np.ascontiguousarray(entry.frames[begin : begin + _ENCODED_FRAMES]))
            encoded = encoder.encode(frames.permute(0, 3, 1, 2).float().div(255))
            codes.append(encoded.cpu().numpy().astype(codes[0].dtype))
        if plan.is_timed:
            assert entry.times_s is not None, "a cache of uneven times is made of clips that tell theirs"
            times.append(entry.times_s.astype(np.float32))
        row = {"id": entry.id, "split": entry.split, "source": entry.source, "num_frames": len(entry.frames)}
        about = {"about": dict(entry.about)} if entry.about else {}
        index.append({**row, "captions": list(entry.captions), "cuts": list(entry.cuts), **about})
    captions = [caption for row in index for caption in row["captions"]]
    sizes = [[row["num_frames"], len(row["captions"]), len(row["cuts"])] for row in index]
    arrays = {
        "codes": np.concatenate(codes),
        **_read(captions, encoder, plan),
        "clips": np.array(sizes, np.int32).reshape(-1, 3),
        "cuts": np.array([cut for row in index for cut in row["cuts"]], np.int32),
        **({TIMES: np.concatenate(times)} if plan.is_timed else {}),
    }
    return Block(arrays, index, rejected)


def code_type(num_codes: int) -> type[np.unsignedinteger]:
    """The narrowest type that holds every code."""
    return np.uint16 if num_codes <= 2**16 else np.uint32


def sentence_number(caption: str) -> int:
    """A hash in [0, 2**63) of a caption; among four million captions the probability of a collision is one in 10**6."""
    digest = hashlib.blake2b(caption.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _read(captions: list[str], encoder: Encoder, plan: CachePlan) -> dict[str, np.ndarray]:
    """Words, embeddings and numbers of captions."""
    distinct = sorted(set(captions))
    words: dict[str, np.ndarray] = {}
    embeddings: dict[str, np.ndarray] = {}
    for begin in range(0, len(distinct), _READ_CAPTIONS):
        some = distinct[begin : begin + _READ_CAPTIONS]
        states = encoder.read(some)
        values = (value.cpu().numpy() for value in (states.tokens, states.is_word, states.embedding))
        for caption, tokens, is_word, embedding in zip(some, *values, strict=True):
            words[caption], embeddings[caption] = tokens[is_word].astype(np.float16), embedding.astype(np.float32)
    numbers = [[len(words[caption]), sentence_number(caption)] for caption in captions]
    empty = np.zeros((0, plan.text_width), np.float16), np.zeros((0, plan.joint_width), np.float32)
    return {
        "words": np.concatenate([empty[0], *(words[caption] for caption in captions)]),
        "embeddings": np.concatenate([empty[1], *(embeddings[caption][None] for caption in captions)]),
        "captions": np.array(numbers, np.int64).reshape(-1, 2),
    }


def pack(block: Block) -> bytes:
    """A block as the content of a file."""
    tables = json.dumps({"index": block.index, "rejected": block.rejected})
    # safetensors 0.8.0 writes arrays as they lie in memory, whatever their strides are.
    arrays = {name: np.ascontiguousarray(array) for name, array in block.arrays.items()}
    return save(arrays, metadata={"tables": tables})


class BlockFile:
    """A block on disk; arrays are read when asked for.

    Raises:
      UserError: it is damaged.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with safe_open(path, "np") as file:
                self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged ({error}); delete it and run the command again") from error

    def tables(self) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """Lines of the index, and of what was refused."""
        with safe_open(self.path, "np") as file:
            tables = json.loads(file.metadata()["tables"])
        return tables["index"], tables["rejected"]

    def array(self, name: str) -> np.ndarray:
        """One of its arrays."""
        with safe_open(self.path, "np") as file:
            return file.get_tensor(name)
