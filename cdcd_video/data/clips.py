"""Decodes any video file to frames of one size at a constant rate, or raises `ClipRejected` with the reason."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from fractions import Fraction
from typing import Protocol, runtime_checkable

import av
import numpy as np
from jaxtyping import Float64, UInt8

from cdcd_video.data.animations import opened
from cdcd_video.data.decoding import PATIENCE_S, check_file, plain
from cdcd_video.data.display import Refused
from cdcd_video.data.images import FitMode, NearestShape, sides_of
from cdcd_video.data.video_reader import Reader
from cdcd_video.errors import UserError

MAX_BYTES = 2 * 2**30
"""A clip whose decoded frames would fill more memory than this is refused."""

# A grid point may fall this much before the frame it was meant for: Matroska keeps times in whole milliseconds.
_TICK_S = Fraction(1, 1000)


Wanted = int | tuple[int, int] | NearestShape
"""Sizes of frames, as for `images.fit`, and the choice among several."""


class ClipRejected(UserError):
    """A video file that cannot be used.

    Attributes:
      reason: what is wrong, without the path.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str):
        super().__init__(f"clip {os.fspath(path)} cannot be used: {reason}")
        self.reason = reason


@runtime_checkable
class Watcher(Protocol):
    """Interface of a cut detector, see `data.cut_detection`."""

    def add_frame(self, frame: av.VideoFrame, time_s: float) -> None:
        """Takes the next frame of the file."""

    def finish(self) -> list[int]:
        """Numbers of the frames at which a new shot begins, ascending, counted from the first one seen."""


@dataclasses.dataclass(frozen=True)
class DecodedClip:
    """Frames of one video.

    Attributes:
      frames: RGB pixels.
      times_s: when each frame is shown, seconds from the beginning of the file's video.
      fps: frames per second; of a video with uneven times the mean.
      source_width: width of the video as shown, pixels.
      source_height: height of the video as shown, pixels.
      source_fps: mean frames per second of the file, as far as it was read.
      cuts: first frames of its shots after the first one: above 0, ascending; empty, too, if cuts were not detected.
    """

    frames: UInt8[np.ndarray, "F H W 3"]
    times_s: Float64[np.ndarray, " F"]
    fps: float
    source_width: int
    source_height: int
    source_fps: float
    cuts: tuple[int, ...] = ()


def read_clip(
    path: str | os.PathLike[str],
    *,
    fps: float | int | None = None,
    size_px: Wanted,
    mode: FitMode = "crop",
    max_frames: int | None = None,
    start_s: float | int = 0,
    end_s: float | int | None = None,
    watcher: Watcher | None = None,
    patience_s: float = PATIENCE_S,
) -> DecodedClip:
    """Decodes the video of a file, frame by frame, keeping only frames of the size asked for.

    With `fps`, the k-th frame is the last one shown at or before `start_s + k / fps`, so that uneven and higher rates
    come out right; of a lower rate frames repeat (compare `source_fps`). Without `fps`, every frame comes with its own
    time, counted from the first picture that can be shown. Rotation, mirroring and the shape of the pixels are applied,
    interlaced frames are made whole, colours become sRGB (`display.to_srgb`), sound is ignored, transparency is laid over
    white.

    Args:
      path: a video file, or an animated gif, png, webp or avif.
      fps: frames per second wanted; None for all frames as they are.
      size_px: side of square frames, or height and width, or several of these, of which the nearest in shape is taken; pixels.
      mode: `crop` or `letterbox`, see `images.fit`.
      max_frames: stops after this many frames.
      start_s: time of the first frame, seconds from the beginning.
      end_s: frames at this time and after are left out.
      watcher: sees every frame of the file up to the end, at the file's own rate, and says where the cuts are.
      patience_s: a file of which nothing more can be read for so long is refused, seconds.

    Returns:
      The frames; two at least, unless `max_frames` is 1.

    Raises:
      ClipRejected: if the file is missing, empty, not a video, corrupt, cut short, or too large; or has fewer than two
        frames in the time asked for.
      UserError: if the times or the rate asked for are impossible.
    """
    if start_s < 0 or (end_s is not None and end_s <= start_s):
        raise UserError(f"a clip cannot begin at {start_s} s and end at {end_s} s")
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise UserError(f"fps must be above 0, not {fps}")
    if max_frames is not None and max_frames < 1:
        raise UserError(f"max_frames must be at least 1, not {max_frames}")
    start, end = _exact(start_s), None if end_s is None else _exact(end_s)
    taken = _Taken(limit=max_frames, most=MAX_BYTES // (3 * _most_pixels(size_px)))
    try:
        check_file(path)
        with opened(path, start, patience_s) as source:
            if fps is None:
                _take_all(source, start, end, taken, size_px, mode, watcher)
            else:
                _take_grid(source, start, end, Fraction(fps).limit_denominator(1001), taken, size_px, mode, watcher)
    except Refused as refusal:
        raise ClipRejected(path, str(refusal)) from None
    except MemoryError:
        raise ClipRejected(path, "its frames do not fit into memory") from None
    except av.ExitError:
        raise ClipRejected(path, f"no further frame could be read for {patience_s:g} s") from None
    except (av.FFmpegError, OSError, ValueError, OverflowError) as error:
        # PyAV reports damage by FFmpeg's own numbers, and impossible header values as ValueError or OverflowError.
        raise ClipRejected(path, f"it is corrupt or not a video ({plain(error)})") from error
    if len(taken.frames) < min(2, max_frames or 2):
        found = "one frame" if taken.frames else "no frame"
        window = "" if (start_s, end_s) == (0, None) else f" from {start_s} s to {'the end' if end is None else end_s}"
        raise ClipRejected(path, f"it has {found}{window}")
    times_s = np.array([float(time) for time in taken.times_s])
    source_fps = source.mean_fps()
    return DecodedClip(
        frames=np.stack(taken.frames),
        times_s=times_s,
        fps=float(source_fps if fps is None else fps),
        source_width=source.display_width,
        source_height=source.display_height,
        source_fps=source_fps,
        cuts=taken.cuts(watcher.finish()) if watcher else (),
    )


@dataclasses.dataclass
class _Taken:
    """Frames taken so far, and which of the file's they are, counted from the first one read."""

    limit: int | None
    most: int
    frames: list[np.ndarray] = dataclasses.field(default_factory=list)
    times_s: list[Fraction] = dataclasses.field(default_factory=list)
    numbers: list[int] = dataclasses.field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return len(self.frames) == self.limit

    def add(self, pixels: np.ndarray, time_s: Fraction, number: int) -> None:
        if len(self.frames) == self.most:
            raise Refused(f"it has more than {self.most} frames, too many for memory; choose a shorter part")
        self.frames.append(pixels)
        self.times_s.append(time_s)
        self.numbers.append(number)

    def cuts(self, begins: list[int]) -> tuple[int, ...]:
        """Frames of the file at which a shot begins -> the first frame taken of each; the same may begin several."""
        first = np.searchsorted(self.numbers, begins)
        return tuple(sorted({int(cut) for cut in first if 0 < cut < len(self.frames)}))


def _take_all(
    source: Reader,
    start: Fraction,
    end: Fraction | None,
    taken: _Taken,
    size_px: Wanted,
    mode: FitMode,
    watcher: Watcher | None,
) -> None:
    for number, (frame, time) in enumerate(source):
        if end is not None and time >= end:
            return
        if watcher:
            watcher.add_frame(frame, float(time))
        if time >= start:
            taken.add(source.pixels(frame, size_px, mode), time, number)
        if taken.is_complete:
            return
    source.check_promise()


def _take_grid(
    source: Reader,
    start: Fraction,
    end: Fraction | None,
    fps: Fraction,
    taken: _Taken,
    size_px: Wanted,
    mode: FitMode,
    watcher: Watcher | None,
) -> None:
    shown: Callable[[], np.ndarray] | None = None  # pixels of the frame on display; converted only when wanted

    def until(limit: Fraction, number: int) -> None:
        """Takes the frame on display, which has that number, for every grid point before `limit`."""
        assert shown is not None
        while not taken.is_complete:
            point = start + len(taken.frames) / fps
            if point >= limit or (end is not None and point >= end):
                return
            taken.add(shown(), point, number)

    number = -1
    for frame, time in source:
        if shown is not None:
            until(time - _TICK_S, number)
        if taken.is_complete or (end is not None and time >= end):
            return
        if watcher:
            watcher.add_frame(frame, float(time))
        shown = _once(functools.partial(source.pixels, frame, size_px, mode))
        number += 1
    if shown is not None:
        until(source.end_s - _TICK_S, number)
    source.check_promise()


def _most_pixels(size_px: Wanted) -> int:
    sizes = size_px.sizes if isinstance(size_px, NearestShape) else (sides_of(size_px),)
    return max(height * width for height, width in sizes)


def _once(compute: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    """A function that computes at its first call and remembers."""
    kept: list[np.ndarray] = []

    def value() -> np.ndarray:
        if not kept:
            kept.append(compute())
        return kept[0]

    return value


def _exact(seconds: float | int) -> Fraction:
    return Fraction(seconds).limit_denominator(1_000_000)
