"""The facts of the clips that a dry run needs, and black clips that stand in for them."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cdcd_video.config import Config
from cdcd_video.config.data_section import Data, LatentsData
from cdcd_video.data.buckets import buckets_of, size_of
from cdcd_video.data.cache import INDEX
from cdcd_video.data.store import Clips
from cdcd_video.errors import UserError
from cdcd_video.storage.numerals import significant
from cdcd_video.training import training_data
from cdcd_video.training.pixel_stages import clip_lengths

SAMPLED_CLIPS = 256
"""Number of clips whose captions are read for their length."""


@dataclass(frozen=True)
class ClipFacts:
    """Facts of the clips, and some captions."""

    num_clips: int
    num_frames: tuple[int, int]
    """Frames to be encoded of training and validation clips; zeros if the folder is missing."""
    num_captions: tuple[int, int]
    """Captions of both splits, repetitions included."""
    longest: int
    """Frames of the longest clip, as far as they are encoded."""
    fps: float
    captions: tuple[str, ...]
    notes: tuple[str, ...] = ()
    relative_area: float = 1.0
    """Mean area of a frame of the clips, over that of a square of data.size_px."""


def look_at_data(config: Config) -> ClipFacts:
    """Opens the clips; a missing prepared folder is replaced by assumptions and noted."""
    data = config.data
    if data.kind == "latents":
        return _look_at_latents(Path(data.path), data)
    most = training_data.longest_of(data)
    assert most is not None, "only latents have no longest clip"
    try:
        splits = [training_data.open_clips(config, split) for split in ("train", "val")]
    except UserError as error:
        if data.is_rendered:
            raise
        longest_caption = " ".join(["word"] * 1000)
        return ClipFacts(0, (0, 0), (0, 0), most, 8.0, (longest_caption,), (f"the clips are missing: {error}",))
    train = splits[0]
    lengths = [np.minimum(clip_lengths(clips), most) for clips in splits]
    sample = np.linspace(0, len(train) - 1, min(SAMPLED_CLIPS, len(train))).astype(int)
    captions = tuple(caption for clip in sample for caption in train.captions(int(clip)))
    if data.is_rendered:
        num_captions = tuple(len(clips) for clips in splits)
    else:
        num_captions = tuple(sum(len(clips.captions(clip)) for clip in range(len(clips))) for clips in splits)
    notes = []
    if train.size_px != data.size_px:
        notes.append(f"the clips are {train.size_px} px, but data.size_px is {data.size_px}; make them equal")
    notes += _on_sizes(data)
    num_frames = tuple(int(length.sum()) for length in lengths)
    longest = int(lengths[0].max())
    area = _relative_area(splits, data.size_px, most)
    return ClipFacts(len(train), num_frames, num_captions, longest, train.fps, captions, tuple(notes), area)


def _relative_area(splits: Sequence[Clips], size_px: int, most: int) -> float:
    """Mean over the encoded frames of their area, over that of a square of `size_px`."""
    num_frames = area = 0
    for clips in itertools.chain.from_iterable(map(buckets_of, splits)):
        height, width = size_of(clips)
        frames = int(np.minimum(clip_lengths(clips), most).sum())
        num_frames, area = num_frames + frames, area + frames * height * width
    return area / (num_frames * size_px**2)


def _look_at_latents(folder: Path, data: LatentsData) -> ClipFacts:
    """The facts of a cache of latents, or of those of several sizes."""
    try:
        train, val = (buckets_of(training_data.caches_in(folder, split, data.sizes)) for split in ("train", "val"))
    except UserError as error:
        return ClipFacts(
            0, (0, 0), (0, 0), 64, 8.0, (" ".join(["word"] * 1000),), (f"the latents are missing: {error}",)
        )
    with (train[0].folder / INDEX).open(encoding="utf-8") as index:
        rows = [json.loads(line) for line in itertools.islice(index, SAMPLED_CLIPS)]
    captions = tuple(caption for row in rows for caption in row["captions"])
    num_frames = tuple(sum(int(cache.lengths.sum()) for cache in caches) for caches in (train, val))
    num_captions = tuple(
        sum(len(of_clip) for cache in caches for of_clip in cache.caption_of) for caches in (train, val)
    )
    longest = max(int(cache.lengths.max()) for cache in train)
    return ClipFacts(
        sum(map(len, train)), num_frames, num_captions, longest, train[0].fps, captions, tuple(_on_sizes(data))
    )


def _on_sizes(data: Data) -> list[str]:
    """A note on what the largest of several sizes costs."""
    sizes = getattr(data, "sizes", None)
    if not sizes:
        return []
    height, width = max(sizes, key=lambda size: size[0] * size[1])
    times = height * width / data.size_px**2
    have = f"the clips have {len(sizes)} sizes" if len(sizes) > 1 else "the frames are no squares of data.size_px"
    return [
        f"{have}; tensors, FLOPs and memory are those of frames of {data.size_px}x{data.size_px}"
        f" px, and the largest, {height}x{width}, have {significant(times, 3)} times as many patches"
    ]


class BlackClips:
    """Stand-in clips: black frames of the right size, and one caption."""

    mode = "crop"

    def __init__(self, size_px: int, fps: float, length: int, caption: str):
        self.size_px, self.fps, self._length, self._caption = size_px, fps, max(2, length), caption

    def __len__(self) -> int:
        return 8

    def name(self, clip: int) -> str:
        return f"black-{clip}"

    def caption(self, clip: int) -> str:
        return self._caption

    def captions(self, clip: int) -> tuple[str, ...]:
        return (self._caption,)

    def num_frames(self, clip: int) -> int:
        return self._length

    def cuts(self, clip: int) -> tuple[int, ...]:
        return ()

    def frames(self, clip: int, indices: Sequence[int]) -> np.ndarray:
        return np.zeros((len(indices), self.size_px, self.size_px, 3), np.uint8)

    def digest(self) -> str:
        return "black"
