"""The video stream of a file: every frame in the order of its time, upright, or the reason why it cannot be had."""

import itertools
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from cdcd_video.data.images import MAX_PIXELS, FitMode, fit, over_white

# Containers that hold their own pictures. Playlists (HLS, concat scripts), which make FFmpeg open whatever file or
# address they name, are not among them, whatever the suffix of the file says.
_FORMATS = "mov,matroska,webm,avi,gif,apng,mpeg,mpegts,mpegvideo,flv,asf,ogg,h264,hevc,ivf,yuv4mpegpipe,webp_anim"
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}

# Titles and comments that are not UTF-8 are no reason to refuse a video. From version 19 on PyAV never minds them, and the
# argument is gone.
_LENIENT = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}

# Frames that are decoded before the first one is given out: B-frames in a row are rarely more than three.
_AHEAD = 8

# A file that holds less than this share of the time its header promises, and lacks more than the slack, was cut short.
_PROMISE_KEPT = Fraction(9, 10)
_PROMISE_SLACK_S = Fraction(1, 4)

# swscale's default rounding darkens every channel by about 1 of 255; these flags (bilinear chroma at full resolution,
# accurate rounding, the same bits on every processor) do not.
_EXACT_SWSCALE = 0x2 | 0x2000 | 0x40000 | 0x80000


class Refused(Exception):
    """The reason why a clip is refused; becomes a `ClipRejected` where the path is known."""


def open_video(path: str | os.PathLike[str]) -> av.container.InputContainer:
    """Opens a file of a container that holds its own pictures.

    Raises:
      Refused: a gif that was cut short.
      av.FFmpegError, ValueError, OverflowError: as PyAV raises them for damaged files.
    """
    container = av.open(f"file:{os.path.abspath(path)}", options=_OPTIONS, **_LENIENT)
    try:
        if container.format.name == "gif":
            _check_gif_ends(path)
    except Refused:
        container.close()
        raise
    return container


class Clock:
    """The time of each frame, from whichever of its two stamps has gone back in time less often.

    Containers with B-frames and no reordering information (AVI; some mp4) stamp frames in the order of decoding. This
    is the rule by which FFmpeg makes its own best-effort timestamp, which PyAV does not show. FFmpeg learns as it goes; here
    the first frames are looked at in advance, so that none of them is timed by one stamp and its neighbour by the other.

    Args:
      first: the first frames that will be read.
    """

    def __init__(self, first: Sequence[av.VideoFrame]):
        self._last: dict[str, int | None] = {"pts": None, "dts": None}
        self._faults = {"pts": 0, "dts": 0}
        for frame in first:
            self._look(frame)
        self._num_known = len(first)
        self._ticks: int | None = None
        self._step = 1

    def read(self, frame: av.VideoFrame) -> int | None:
        """Ticks of this frame; None if it carries no time."""
        if self._num_known:
            self._num_known -= 1
        else:
            self._look(frame)
        ticks = self._read(frame)
        if ticks is not None:
            self._step = frame.duration or max(1, ticks - (ticks if self._ticks is None else self._ticks))
            self._ticks = ticks
        return ticks

    def _look(self, frame: av.VideoFrame) -> None:
        for kind, stamp in (("pts", frame.pts), ("dts", frame.dts)):
            if stamp is not None:
                last = self._last[kind]
                self._faults[kind] += last is not None and stamp <= last
                self._last[kind] = stamp

    def _read(self, frame: av.VideoFrame) -> int | None:
        has_dts = self._last["dts"] is not None
        if not has_dts or (frame.pts is not None and self._faults["pts"] <= self._faults["dts"]):
            return frame.pts
        if (
            frame.dts is None and self._ticks is not None
        ):  # at the end, decoders give frames without the packet they came in
            return self._ticks + self._step
        return frame.pts if frame.dts is None else frame.dts


class Source:
    """The video stream of an open file: frames in the order of their times, counted from the video's beginning.

    Sound and cover pictures are never decoded.

    Args:
      container: the open file.
      start: from where frames are wanted, seconds.

    Raises:
      Refused: there is no video, it is too large, or damaged where it is wanted.
    """

    def __init__(self, container: av.container.InputContainer, start: Fraction):
        pictures = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not pictures:
            raise Refused("it has no video stream")
        self.container, self.stream, self.start = container, pictures[0], start
        if self.stream.codec_context is None:
            raise Refused("nothing here can decode its video")
        _check_pixels(self.stream.width, self.stream.height)
        self._rate = self.stream.average_rate  # asked now: a closed file answers no more
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
        frames = self.container.decode(self.stream)
        ahead: list[av.VideoFrame] = []
        damage = None
        try:
            for frame in itertools.islice(frames, _AHEAD):
                ahead.append(frame)
        except (av.FFmpegError, ValueError, OverflowError) as error:  # to be told when all before it has been given out
            damage = error
        clock = Clock(ahead)
        for frame in itertools.chain(ahead, frames):
            _check_pixels(frame.width, frame.height)
            ticks = clock.read(frame)
            if ticks is None:
                raise Refused("its frames carry no times")
            time = ticks * frame.time_base
            origin = time if origin is None else origin
            time -= origin
            if self.num_read and time <= self.last_s:  # damage may still send a frame back in time
                continue
            if (
                frame.is_corrupt and time >= self.start
            ):  # after a seek, frames before the start may lack their references
                raise Refused(f"its picture is damaged at {float(time):.2f} s")
            self._note(frame, time)
            yield frame, time
        if damage is not None:
            raise damage

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
        self.end_s = time + (own or (1 / self._rate if self._rate else step))

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel over its height; 1 where the file says nothing that can be true."""
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
        """Refuses a file that ended long before the time its header tells.

        Raises:
          Refused: it did.
        """
        promised = Fraction(0)
        if self.stream.duration:
            promised = self.stream.duration * self.stream.time_base
        elif self.container.duration and not self.container.streams.audio:  # Matroska knows only the longest stream
            promised = Fraction(self.container.duration, av.time_base)
        if self.end_s + _PROMISE_SLACK_S < promised and self.end_s < _PROMISE_KEPT * promised:
            raise Refused(f"it is cut short: {float(self.end_s):.1f} s of {float(promised):.1f} s can be read")

    def mean_fps(self) -> float:
        """Frames per second, over what was read."""
        if self.num_read > 1 and self.first_s is not None:
            return float((self.num_read - 1) / (self.last_s - self.first_s))
        return float(self._rate or 1)


def check_file(path: str | os.PathLike[str]) -> None:
    """Refuses what cannot be opened at all.

    Raises:
      Refused: it is missing, no file, or empty, or its name is none.
    """
    file = Path(path)
    try:
        if not file.is_file():
            raise Refused("it does not exist" if not file.exists() else "it is not a file")
        if file.stat().st_size == 0:
            raise Refused("it is empty (0 bytes)")
    except (OSError, ValueError) as error:  # a name too long, or with a null character in it
        raise Refused(f"its name cannot be used ({plain(error)})") from error


def plain(error: Exception) -> str:
    """FFmpeg's or the system's words, without number and path, so that a report does not depend on the machine."""
    return str(getattr(error, "strerror", None) or error)


def _check_gif_ends(path: str | os.PathLike[str]) -> None:
    """Refuses a gif without its closing mark: FFmpeg drops what is missing without a word."""
    with open(path, "rb") as file:
        file.seek(-min(64, os.path.getsize(path)), os.SEEK_END)
        if not file.read().rstrip(b"\0\r\n ").endswith(b";"):
            raise Refused("it is cut short: the end mark of a gif is missing")


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Refused(f"it is {width} x {height}, more than {MAX_PIXELS:,} pixels")
