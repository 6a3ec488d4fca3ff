"""The interface of captioned clips, and its two sources: a prepared folder and the built-in world.

A prepared folder holds `frames-00000.npy` onwards (uint8, all frames of many clips one after another), `clips.jsonl`
(one `ClipRow` per line), `rejected.jsonl` (what was refused, and why) and `manifest.json` (settings, counts, sizes and
hashes). Nothing in it depends on the time, the machine or the place, so the same input gives the same bytes.
"""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, UInt8

from cdcd_video.config import FitMode
from cdcd_video.data.sprites import Scene, Split, World, sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.data.store_files import CLIPS, MANIFEST, REJECTED, read_manifest, read_rows, sizes_in
from cdcd_video.data.val_share import way_to_val
from cdcd_video.errors import UserError
from cdcd_video.storage.memory import raise_if_out_of_memory
from cdcd_video.storage.verified_files import require


@runtime_checkable
class Clips(Protocol):
    """Captioned videos of one size and rate, by number.

    Attributes:
      size_px: height and width of every frame, where they are square; other frames have patches of the same size.
      fps: frames per second of every clip.
      mode: how frames of other shapes were brought to theirs.
    """

    size_px: int
    fps: float
    mode: FitMode

    def __len__(self) -> int: ...

    def name(self, clip: int) -> str:
        """Name of the clip in reports; unique among these clips."""
        ...

    def caption(self, clip: int) -> str:
        """The first caption."""
        ...

    def captions(self, clip: int) -> tuple[str, ...]:
        """Every caption, at least one."""
        ...

    def num_frames(self, clip: int) -> int:
        """Frames of the clip."""
        ...

    def cuts(self, clip: int) -> tuple[int, ...]:
        """First frames of the clip's shots after the first one: over 0, ascending; none in a clip of one shot."""
        ...

    def frames(self, clip: int, indices: Sequence[int]) -> UInt8[np.ndarray, "n H W 3"]:
        """RGB pixels of some frames of the clip, in the order asked for."""
        ...

    def digest(self) -> str:
        """SHA-256 (hex) over all captions and pixels."""
        ...


@runtime_checkable
class TimedClips(Clips, Protocol):
    """Clips whose frames are not evenly apart."""

    def times_s(self, clip: int) -> Float64[np.ndarray, " F"]:
        """Seconds of every frame from the first, rising from 0."""
        ...


class StoredClips:
    """The clips of a prepared folder, read through memory maps: opening is quick and frames are loaded when used.

    A file of frames is read against its hash before the first frame of it is given, once for each process.
    """

    def __init__(self, folder: str | os.PathLike[str], split: str | None = None):
        """Opens a folder made by `python -m data_prep`.

        Args:
          folder: the prepared folder.
          split: "train", "val", ...; None for all clips.

        Raises:
          UserError: if the folder or a file in it is missing, cut short, changed or of another version; or if the split
            has no clips.
        """
        self.folder, self.split = Path(folder), split
        self.manifest = read_manifest(self.folder)
        self.size_px = int(self.manifest["size_px"])
        height, width = self.manifest.get("size") or (self.size_px, self.size_px)
        self.size: tuple[int, int] = (height, width)
        """Height and width of the frames, px."""
        self.fps = float(self.manifest["fps"])
        self.mode: FitMode = self.manifest["mode"]
        rows = read_rows(self.folder, self.manifest)
        self.rows = [row for row in rows if split is None or row.split == split]
        if not self.rows:
            known = sorted({row.split for row in rows})
            way_out = (
                f"; {way_to_val(self.manifest.get('recipe'), rows)}" if split == "val" and "train" in known else ""
            )
            raise UserError(
                f"{self.folder} has no clips of the split {split!r}; its splits are: {', '.join(known) or 'none'}{way_out}"
            )
        self._right: set[str] = set()
        """Files of frames that are as they were written."""
        self._arrays = {name: self._open(name) for name in sorted({row.file for row in self.rows})}

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, clip: int) -> str:
        return self.rows[clip].id

    def caption(self, clip: int) -> str:
        return self.rows[clip].captions[0]

    def captions(self, clip: int) -> tuple[str, ...]:
        return self.rows[clip].captions

    def num_frames(self, clip: int) -> int:
        return self.rows[clip].num_frames

    def cuts(self, clip: int) -> tuple[int, ...]:
        return self.rows[clip].cuts

    def frames(self, clip: int, indices: Sequence[int]) -> UInt8[np.ndarray, "n H W 3"]:
        row = self.rows[clip]
        wanted = _checked(indices, row.num_frames)
        if row.file not in self._right:
            self._check(row.file)
        return np.asarray(self._arrays[row.file][row.offset + wanted])

    def digest(self) -> str:
        hashes = {name: entry["sha256"] for name, entry in self.manifest["files"].items() if name != REJECTED}
        return digest_of({"files": hashes, "split": self.split})

    def require_squares(self, what: str) -> None:
        """Refuses frames that are no squares.

        Args:
          what: takes squares only, for the sentence.

        Raises:
          UserError: they are none.
        """
        height, width = self.size
        if height != width or height != self.size_px:
            raise UserError(
                f"the frames of {self.folder} have {height}x{width} px, and {what} takes squares of {self.size_px} px only;"
                " prepare the clips without --sizes for it"
            )

    def check(self, *, trusted: bool = False) -> None:
        """Reads all its files of frames against their hashes now.

        Args:
          trusted: whether another process of the same job has done that: then it is believed.

        Raises:
          UserError: one has been changed since it was written.
        """
        for name in self._arrays:
            if trusted:
                self._right.add(name)
            else:
                self._check(name)

    def _check(self, name: str) -> None:
        require(self.folder / name, self.manifest["files"][name]["sha256"], "prepare the folder again")
        self._right.add(name)

    def _open(self, name: str) -> np.ndarray:
        try:
            array = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # NumPy meets a broken header with whatever exception it stumbles on
            raise_if_out_of_memory(error)
            raise UserError(f"{self.folder / name} cannot be read ({error}); prepare the folder again") from error
        needed = max(row.offset + row.num_frames for row in self.rows if row.file == name)
        frame_shape = (*self.size, 3)
        if array.dtype != np.uint8 or array.shape[1:] != frame_shape or len(array) < needed:
            raise UserError(f"{self.folder / name} does not contain the frames of {CLIPS}; prepare the folder again")
        return array


def stored_by_size(folder: Path, split: str | None = None) -> list[StoredClips]:
    """The clips of a prepared folder; of one that holds a prepared folder for each size, those of each that has some.

    Raises:
      UserError: as `StoredClips`; where no size has clips of the split, the first one says what is wrong.
    """
    named = sizes_in(folder) if folder.is_dir() and not (folder / MANIFEST).is_file() else []
    counts = {name: read_manifest(folder / name)["splits"] for name in named}
    there = [name for name in named if (counts[name].get(split) if split else counts[name])]
    return [StoredClips(folder / name, split) for name in there or named[:1] or ["."]]


class SpritesClips:
    """Clips of the built-in world, rendered when asked for."""

    mode: FitMode = "crop"

    def __init__(
        self,
        seed: int,
        num_clips: int,
        split: Split,
        world: World | None = None,
        num_frames: int = 16,
        size_px: int = 64,
        fps: float | int = 8.0,
        numbers: range | None = None,
    ):
        """Names the clips; nothing is rendered yet.

        Args:
          seed: names the data set.
          num_clips: scenes 0 to `num_clips` - 1 of the split, or as many as `numbers` names.
          split: "train", "val" or "heldout".
          world: the settings of the world; None for the full one, with room for `num_frames` at `fps`.
          num_frames: frames per clip.
          size_px: height and width of every frame, where the world's view is square; it scales those of another view.
          fps: frames per second.
          numbers: of the scenes; None for the first.
        """
        if num_clips < 1 or num_frames < 1:
            raise UserError(f"sprites: need at least one clip and one frame, got {num_clips} and {num_frames}")
        self.seed, self.num_clips, self.split = seed, num_clips, split
        self.world = world or World(num_frames=num_frames, fps=float(fps))
        self.size_px, self.fps = size_px, float(fps)
        self._num_frames, self._numbers = num_frames, numbers or range(num_clips)
        # Captions are requested far more often than frames, and sampling a scene takes a good part of rendering it.
        self._scene = functools.lru_cache(maxsize=16384)(self._sample)

    def __len__(self) -> int:
        return self.num_clips

    def scene(self, clip: int) -> Scene:
        """The scene of a clip, with the true positions of its objects."""
        if not 0 <= clip < self.num_clips:
            raise IndexError(f"clip {clip} of {self.num_clips}")
        return self._scene(int(clip))

    def name(self, clip: int) -> str:
        return f"sprites-{self.seed}-{self.split}-{self._numbers[clip]:06d}"

    def caption(self, clip: int) -> str:
        return self.scene(clip).caption

    def captions(self, clip: int) -> tuple[str, ...]:
        return (self.caption(clip),)

    def num_frames(self, clip: int) -> int:
        return self._num_frames

    def cuts(self, clip: int) -> tuple[int, ...]:
        return ()

    def frames(self, clip: int, indices: Sequence[int]) -> UInt8[np.ndarray, "n H W 3"]:
        return render(self.scene(clip), _checked(indices, self._num_frames) / self.fps, self.size_px)

    def digest(self) -> str:
        # The arguments name the clips; a few rendered frames notice a change of the world or of its renderer.
        probes = [self.frames(clip, [self._num_frames - 1]).tobytes() for clip in range(min(4, self.num_clips))]
        arguments: list[object] = [self.seed, self.num_clips, self.split, self._num_frames, self.size_px, self.fps]
        if self._numbers != range(self.num_clips):
            arguments.append([self._numbers.start, self._numbers.step])
        world = self.world.described()
        pixels = hashlib.sha256(b"".join(probes)).hexdigest()
        return digest_of({"arguments": arguments, "world": world, "captions": self.caption(0), "pixels": pixels})

    def _sample(self, clip: int) -> Scene:
        return sample_scene(self.seed, self._numbers[clip], self.split, world=self.world)


class UnevenSpritesClips(SpritesClips):
    """The same scenes at instants that are not evenly apart: short gaps and long ones, so that a model learns any frame rate.

    A clip covers the time that it would at its frame rate. Its instants are one at random in each of equal parts of that time,
    closer together towards the beginning, where a roll-out at a high rate takes its first, shortest steps. Of late clips the
    first instant is 0, and the others are one in each of equal parts of a window of that length, anywhere before `late_s`.

    Args:
      late_share: share of the clips that are late.
      late_s: seconds from the first frame, more than a clip covers.
    """

    def __init__(self, *args: Any, late_share: float = 0.0, late_s: float = 16.0, **settings: Any):
        super().__init__(*args, **settings)
        self.late_share, self.late_s = late_share, late_s

    def times_s(self, clip: int) -> Float64[np.ndarray, " F"]:
        """Seconds of every frame from the first, rising from 0."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, 2**32 + self._numbers[clip]]))
        rest = self._num_frames - 1
        share, span_s = (np.arange(rest) + rng.uniform(0.05, 0.95, rest)) / max(rest, 1), rest / self.fps
        is_late, begin = rng.random(2)
        if is_late < self.late_share:
            return np.concatenate([[0.0], begin * (self.late_s - span_s) + share * span_s])
        return np.concatenate([[0.0], share**_CROWDED * rest / self.fps])

    def frames(self, clip: int, indices: Sequence[int]) -> UInt8[np.ndarray, "n H W 3"]:
        return render(self.scene(clip), self.times_s(clip)[_checked(indices, self._num_frames)], self.size_px)

    def digest(self) -> str:
        late = {"late_share": self.late_share, "late_s": self.late_s}
        return digest_of({"clips": super().digest(), **late}) if self.late_share else super().digest()


_CROWDED = 1.4
"""How much the instants of uneven clips crowd towards the beginning; 1 would be not at all."""


def _checked(indices: Sequence[int], num_frames: int) -> np.ndarray:
    wanted = np.asarray(indices, dtype=np.int64)
    if wanted.ndim != 1 or (wanted.size and not (wanted.min() >= 0 and wanted.max() < num_frames)):
        raise IndexError(f"frames {list(indices)} of a clip that has {num_frames}")
    return wanted


def digest_of(value: object) -> str:
    """SHA-256 (hex) of plain JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
