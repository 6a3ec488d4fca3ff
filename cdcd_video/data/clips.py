"""A video file of any origin, as square frames at an even rate, or a `ClipRejected` that says why not."""

import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float64, UInt8

from cdcd_video.data.images import MAX_PIXELS, FitMode, fit, over_white
from cdcd_video.errors import UserError

MAX_BYTES = 2 * 2**30
"""A clip whose decoded frames would fill more memory than this is refused."""

# Containers that hold their own pictures. Playlists (HLS, concat scripts), which make FFmpeg open whatever file or
# address they name, are not among them, whatever the suffix of the file says.
_FORMATS = "mov,matroska,webm,avi,gif,apng,mpeg,mpegts,mpegvideo,flv,asf,ogg,h264,hevc,ivf,yuv4mpegpipe,webp_anim"
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}

# A grid point may fall this much before the frame it was meant for: Matroska keeps times in whole milliseconds.
_TICK_S = Fraction(1, 1000)

# A file that holds less than this share of the time its header promises, and lacks more than the slack, was cut short.
_PROMISE_KEPT = Fraction(9, 10)
_PROMISE_SLACK_S = Fraction(1, 4)

# swscale's default rounding darkens every channel by about 1 of 255; these flags (bilinear chroma at full resolution,
# accurate rounding, the same bits on every processor) do not.
_EXACT_SWSCALE = 0x2 | 0x2000 | 0x40000 | 0x80000


class ClipRejected(UserError):
    """A video file that cannot be used.

    Attributes:
      reason: what is wrong, without the path.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str):
        super().__init__(f"clip {os.fspath(path)} cannot be used: {reason}")
        self.reason = reason


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
    """

    frames: UInt8[np.ndarray, "F S S 3"]
    times_s: Float64[np.ndarray, " F"]
    fps: float
    source_width: int
    source_height: int
    source_fps: float


def read_clip(
    path: str | os.PathLike[str],
    *,
    fps: float | int | None = None,
    size_px: int,
    mode: FitMode = "crop",
    max_frames: int | None = None,
    start_s: float | int = 0,
    end_s: float | int | None = None,
) -> DecodedClip:
    """Decodes the video of a file, frame by frame, keeping only frames of the size asked for.

    With `fps`, the k-th frame is the last one shown at or before `start_s + k / fps`, so that uneven and higher rates
    come out right; of a lower rate frames repeat (compare `source_fps`). Without `fps`, every frame comes with its own
    time. Rotation and the shape of the pixels are applied, sound is ignored, transparency is laid over white.

    Args:
      path: a video file or an animated gif.
      fps: frames per second wanted; None for all frames as they are.
      size_px: side of the square, pixels.
      mode: `crop` or `letterbox`, see `images.fit`.
      max_frames: stops after this many frames.
      start_s: time of the first frame, seconds from the beginning.
      end_s: frames at this time and after are left out.

    Returns:
      The frames; two at least, unless `max_frames` is 1.

    Raises:
      ClipRejected: if the file is missing, empty, not a video, corrupt, cut short, or too large; or has fewer than two
        frames in the time asked for.
      UserError: if the times or the rate asked for are impossible.
    """
    if start_s < 0 or (end_s is not None and end_s <= start_s):
        raise UserError(f"a clip cannot last from {start_s} s to {end_s} s")
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise UserError(f"fps must be over 0, not {fps}")
    if max_frames is not None and max_frames < 1:
        raise UserError(f"max_frames must be at least 1, not {max_frames}")
    _check_file(path)
    start, end = _exact(start_s), None if end_s is None else _exact(end_s)
    taken = _Taken(limit=max_frames, most=MAX_BYTES // (3 * size_px**2))
    try:
        with av.open(f"file:{os.path.abspath(path)}", options=_OPTIONS, metadata_errors="ignore") as container:
            if container.format.name == "gif":
                _check_gif_ends(path)
            source = _Source(container, start)
            if fps is None:
                _take_all(source, start, end, taken, size_px, mode)
            else:
                _take_grid(source, start, end, Fraction(fps).limit_denominator(1001), taken, size_px, mode)
    except _Refused as refusal:
        raise ClipRejected(path, str(refusal)) from None
    except MemoryError:
        raise ClipRejected(path, "its frames do not fit into memory") from None
    except (av.FFmpegError, OSError, ValueError, OverflowError) as error:
        # PyAV reports damage by FFmpeg's own numbers, and impossible header values as ValueError or OverflowError.
        raise ClipRejected(path, f"it is corrupt or no video ({_plain(error)})") from error
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
        source_width=source.shown_width,
        source_height=source.shown_height,
        source_fps=source_fps,
    )


class _Refused(Exception):
    """The reason why a clip is refused; becomes a `ClipRejected` where the path is known."""


@dataclasses.dataclass
class _Taken:
    """Frames taken so far."""

    limit: int | None
    most: int
    frames: list[np.ndarray] = dataclasses.field(default_factory=list)
    times_s: list[Fraction] = dataclasses.field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return len(self.frames) == self.limit

    def add(self, pixels: np.ndarray, time_s: Fraction) -> None:
        if len(self.frames) == self.most:
            raise _Refused(f"it has more than {self.most} frames, too many to hold at once; ask for a shorter part")
        self.frames.append(pixels)
        self.times_s.append(time_s)


class _Clock:
    """The time of each frame, from whichever of its two stamps has gone back in time less often.

    Containers with B-frames and no reordering information (AVI; some mp4) stamp frames in the order of decoding. This
    is the rule by which FFmpeg makes its own best-effort timestamp, which PyAV does not show.
    """

    def __init__(self):
        self._last = {"pts": None, "dts": None}
        self._faults = {"pts": 0, "dts": 0}

    def read(self, frame: av.VideoFrame) -> int | None:
        """Ticks of this frame; None if it carries no time."""
        stamps = {"pts": frame.pts, "dts": frame.dts}
        for kind, stamp in stamps.items():
            if stamp is not None:
                last = self._last[kind]
                self._faults[kind] += last is not None and stamp <= last
                self._last[kind] = stamp
        if stamps["dts"] is None or (stamps["pts"] is not None and self._faults["pts"] <= self._faults["dts"]):
            return stamps["pts"]
        return stamps["dts"]


class _Source:
    """The video stream of an open file: frames in the order of their times, counted from the video's beginning."""

    def __init__(self, container: av.container.InputContainer, start: Fraction):
        pictures = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not pictures:
            raise _Refused("it has no video stream")
        self.container, self.stream, self.start = container, pictures[0], start
        _check_pixels(self.stream.width, self.stream.height)
        self.shown_width = self.shown_height = 0
        self.last_s = Fraction(0)  # beginning of the last frame read
        self.end_s = Fraction(0)  # its end
        self.first_s: Fraction | None = None
        self.num_read = 0

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yields every frame from the last key frame before `start` at the latest, with its time in seconds."""
        if self.start > 1 and self._seek():  # decoding a second is cheaper than finding it
            frames = self._decode()
            first = next(frames, None)
            if first is not None and first[1] <= self.start:
                yield first
                yield from frames
                return
            self.num_read, self.first_s = 0, None  # a wrong index led beyond the place: read from the beginning
            self.container.seek(0)
        yield from self._decode()

    def _seek(self) -> bool:
        if self.stream.start_time is None:
            return False
        try:
            ticks = self.stream.start_time + int(self.start / self.stream.time_base)
            self.container.seek(ticks, stream=self.stream)
        except av.FFmpegError:  # no index
            return False
        return True

    def _decode(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        origin = None if self.stream.start_time is None else self.stream.start_time * self.stream.time_base
        clock = _Clock()
        for frame in self.container.decode(self.stream):
            _check_pixels(frame.width, frame.height)
            ticks = clock.read(frame)
            if ticks is None:
                raise _Refused("its frames carry no times")
            time = ticks * frame.time_base
            origin = time if origin is None else origin
            time -= origin
            if self.num_read and time <= self.last_s:  # damage may still send a frame back in time
                continue
            if (
                frame.is_corrupt and time >= self.start
            ):  # after a seek, frames before the start may lack their references
                raise _Refused(f"its picture is damaged at {float(time):.2f} s")
            self._note(frame, time)
            yield frame, time

    def _note(self, frame: av.VideoFrame, time: Fraction) -> None:
        step = time - self.last_s if self.num_read else Fraction(0)
        if self.first_s is None:
            self.first_s = time
            turned = frame.rotation % 180 != 0
            width = round(frame.width * self.pixel_aspect)
            self.shown_width, self.shown_height = (frame.height, width) if turned else (width, frame.height)
        self.num_read += 1
        self.last_s = time
        own = frame.duration * frame.time_base if frame.duration else Fraction(0)
        rate = self.stream.average_rate
        self.end_s = time + (own or (1 / rate if rate else step))

    @property
    def pixel_aspect(self) -> float:
        aspect = self.stream.sample_aspect_ratio
        return float(aspect) if aspect and Fraction(1, 16) <= aspect <= 16 else 1.0

    def pixels(self, frame: av.VideoFrame, size_px: int, mode: FitMode) -> np.ndarray:
        """RGB pixels of a frame as shown, at the size wanted."""
        has_alpha = any(component.is_alpha for component in frame.format.components)
        layout = "rgba" if has_alpha else "rgb24"
        rgb = frame.reformat(format=layout, interpolation=_EXACT_SWSCALE).to_ndarray()
        if has_alpha:
            rgb = over_white(rgb)
        # FFmpeg counts counterclockwise, as numpy does. Anything but quarter turns is somebody's joke.
        quarters = round(frame.rotation / 90) % 4
        aspect = self.pixel_aspect if quarters % 2 == 0 else 1 / self.pixel_aspect
        return fit(np.ascontiguousarray(np.rot90(rgb, quarters)), size_px, mode, aspect)

    def check_promise(self) -> None:
        """Refuses a file that ended long before the time its header tells."""
        promised = Fraction(0)
        if self.stream.duration:
            promised = self.stream.duration * self.stream.time_base
        elif self.container.duration and not self.container.streams.audio:  # Matroska knows only the longest stream
            promised = Fraction(self.container.duration, av.time_base)
        if self.end_s + _PROMISE_SLACK_S < promised and self.end_s < _PROMISE_KEPT * promised:
            raise _Refused(f"it is cut short: {float(self.end_s):.1f} s of {float(promised):.1f} s can be read")

    def mean_fps(self) -> float:
        if self.num_read > 1 and self.first_s is not None:
            return float((self.num_read - 1) / (self.last_s - self.first_s))
        return float(self.stream.average_rate or 1)


def _take_all(
    source: _Source, start: Fraction, end: Fraction | None, taken: _Taken, size_px: int, mode: FitMode
) -> None:
    for frame, time in source:
        if end is not None and time >= end:
            return
        if time >= start:
            taken.add(source.pixels(frame, size_px, mode), time)
        if taken.is_complete:
            return
    source.check_promise()


def _take_grid(
    source: _Source, start: Fraction, end: Fraction | None, fps: Fraction, taken: _Taken, size_px: int, mode: FitMode
) -> None:
    shown: Callable[[], np.ndarray] | None = None  # pixels of the frame on display; converted only when wanted

    def until(limit: Fraction) -> None:
        """Takes the frame on display for every grid point before `limit`."""
        while not taken.is_complete:
            point = start + len(taken.frames) / fps
            if point >= limit or (end is not None and point >= end):
                return
            taken.add(shown(), point)

    for frame, time in source:
        if shown is not None:
            until(time - _TICK_S)
        if taken.is_complete or (end is not None and time >= end):
            return
        shown = _once(lambda frame=frame: source.pixels(frame, size_px, mode))
    if shown is not None:
        until(source.end_s - _TICK_S)
    source.check_promise()


def _once(compute: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    """A function that computes at its first call and remembers."""
    kept: list[np.ndarray] = []

    def value() -> np.ndarray:
        if not kept:
            kept.append(compute())
        return kept[0]

    return value


def _check_file(path: str | os.PathLike[str]) -> None:
    file = Path(path)
    try:
        if not file.is_file():
            raise ClipRejected(path, "it does not exist" if not file.exists() else "it is not a file")
        if file.stat().st_size == 0:
            raise ClipRejected(path, "it is empty (0 bytes)")
    except (OSError, ValueError) as error:  # a name too long, or with a null character in it
        raise ClipRejected(path, f"its name cannot be used ({_plain(error)})") from error


def _check_gif_ends(path: str | os.PathLike[str]) -> None:
    """Refuses a gif without its closing mark: FFmpeg drops what is missing without a word."""
    with open(path, "rb") as file:
        file.seek(-min(64, os.path.getsize(path)), os.SEEK_END)
        if not file.read().rstrip(b"\0\r\n ").endswith(b";"):
            raise _Refused("it is cut short: the end mark of a gif is missing")


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _Refused(f"it is {width} x {height}, more than {MAX_PIXELS:,} pixels")


def _exact(seconds: float | int) -> Fraction:
    return Fraction(seconds).limit_denominator(1_000_000)


def _plain(error: Exception) -> str:
    """FFmpeg's or the system's words, without number and path, so that a report does not depend on the machine."""
    return str(getattr(error, "strerror", None) or error)
