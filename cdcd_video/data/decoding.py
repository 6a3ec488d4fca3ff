"""The video stream of a file: every frame in the order of its time, upright, or the reason why it cannot be had."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from cdcd_video.data.fields import deinterlaced
from cdcd_video.data.images import MAX_PIXELS, FitMode, fit
from cdcd_video.data.joined import is_joined
from cdcd_video.data.shown import Refused, as_shown, is_turned
from cdcd_video.data.stamps import Clock, Course

# Containers that hold their own pictures. Playlists (HLS, concat scripts), which make FFmpeg open whatever file or
# address they name, are not among them, whatever the suffix of the file says.
_FORMATS = "mov,matroska,webm,avi,gif,apng,mpeg,mpegts,mpegvideo,flv,asf,ogg,h264,hevc,ivf,yuv4mpegpipe"
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
_READ = "mp4, mov, mkv, webm, avi, gif, apng, webp, avif, mpg, ts, flv, wmv, ogv"

# Titles and comments that are not UTF-8 are no reason to refuse a video. From version 19 on PyAV never minds them, and the
# argument is gone.
_LENIENT = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}

# Containers in which a place is found by an index. Elsewhere FFmpeg guesses it from the bytes, or from a clock that may begin
# anew, and lands behind it.
_WITH_INDEX = ("mov", "matroska")
_WITH_NEW_CLOCKS = ("mpegts", "mpeg")

# So far before the place that is wanted decoding begins: filters look at the frames before, and those after a key frame
# may lean on frames before it.
_RUN_UP_S = 1

# Decoders that give the transparency of what others decode without it.
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_VP8_MATRIX = 5  # it has no other (RFC 6386, 9.2)
_UNALIGNED = (
    1  # a codec flag: crop what is left of the picture exactly, not to the next address that suits the processor
)

# Frames that are decoded before the first one is given out: B-frames in a row are rarely more than three.
_AHEAD = 8

# A file that holds less than this share of the time its header promises, and lacks more than the slack, was cut short.
_PROMISE_KEPT = Fraction(9, 10)
_PROMISE_SLACK_S = Fraction(1, 4)


PATIENCE_S = 60.0
"""A file of which nothing more comes for so long is refused: a hole of gigabytes, a disk that does not answer."""


def open_video(path: str | os.PathLike[str], patience_s: float = PATIENCE_S) -> av.container.InputContainer:
    """Opens a file of a container that holds its own pictures.

    Args:
      path: the file.
      patience_s: opening it, and each packet read from it later, may take so long, seconds; `av.ExitError` after that.

    Raises:
      Refused: a gif that was cut short, files joined where they cannot be, or a container that is not read here.
      av.FFmpegError, ValueError, OverflowError: as PyAV raises them for damaged files.
    """
    try:
        container = av.open(f"file:{os.path.abspath(path)}", options=_OPTIONS, timeout=patience_s, **_LENIENT)
    except av.ArgumentError:  # FFmpeg's word for a format that is not on the list
        raise Refused(
            f"it is no video of a container that is read here ({_READ}); convert it, for example with ffmpeg -i IN OUT.mp4"
        ) from None
    try:
        if container.format.name == "gif":
            _check_gif_ends(path)
        if is_joined(path, container.format.name):
            raise Refused(
                "several files were joined to it end to end, of which only the first can be read;"
                " use them one by one, or join them with ffmpeg -f concat"
            )
    except (Refused, OSError):
        container.close()
        raise
    return container


class Reader:
    """Frames in the order of their times, counted from the first one; what is known of them grows as they are read.

    Attributes:
      shown_width: width of the video as shown, pixels; 0 before the first frame.
      shown_height: its height.
      num_read: frames read.
      first_s: time of the first one that was read.
      last_s: that of the last one.
      end_s: when the last one ends.
      pixel_aspect: width of a pixel over its height.
    """

    pixel_aspect = 1.0
    _matrix: int | None = None
    """Of a codec that has but one."""

    def __init__(self):
        self.shown_width = self.shown_height = self.num_read = 0
        self.first_s: Fraction | None = None
        self.last_s = self.end_s = Fraction(0)

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yields every frame from where frames are wanted, or from before, with its time in seconds."""
        raise NotImplementedError

    def pixels(self, frame: av.VideoFrame, size_px: int, mode: FitMode) -> np.ndarray:
        """RGB pixels of a frame as shown, at the size wanted."""
        aspect = 1 / self.pixel_aspect if is_turned(frame) else self.pixel_aspect
        return fit(as_shown(frame, self._matrix), size_px, mode, aspect)

    def check_promise(self) -> None:
        """Refuses a file that ended long before the time its header tells.

        Raises:
          Refused: it did.
        """

    def mean_fps(self) -> float:
        """Frames per second, over what was read."""
        if self.num_read > 1 and self.first_s is not None:
            return float((self.num_read - 1) / (self.last_s - self.first_s))
        return float(1 / self.end_s) if self.end_s else 1.0

    def _note(self, frame: av.VideoFrame, time: Fraction, length: Fraction) -> None:
        if self.first_s is None:
            self.first_s = time
            width = round(frame.width * self.pixel_aspect)
            self.shown_width, self.shown_height = (frame.height, width) if is_turned(frame) else (width, frame.height)
        self.num_read += 1
        self.last_s, self.end_s = time, time + length


class Source(Reader):
    """The video stream of an open file: the one that FFmpeg and players take, in the order of its times.

    Sound and cover pictures are never decoded.

    Args:
      container: the open file.
      start: from where frames are wanted, seconds from the first picture.

    Raises:
      Refused: there is no video, it is too large, or damaged where it is wanted.
    """

    def __init__(self, container: av.container.InputContainer, start: Fraction):
        super().__init__()
        self.container, self.stream, self.start = container, _best(container), start
        if self.stream.codec_context is None:
            raise Refused("nothing here can decode its video")
        _check_pixels(self.stream.width, self.stream.height)
        self._rate = self.stream.average_rate  # asked now: a closed file answers no more
        self._codec = self.stream.codec_context
        self._codec.flags |= _UNALIGNED
        self._matrix = _VP8_MATRIX if self._codec.name == "vp8" else None
        has_alpha = any((key.lower(), value) == ("alpha_mode", "1") for key, value in self.stream.metadata.items())
        if has_alpha and self._codec.name in _WITH_ALPHA:
            self._codec = _decoder_like(self._codec, _WITH_ALPHA[self._codec.name])
        self._origin = Fraction(0)  # seconds of the first picture's stamp
        self._course = Course(self._length, may_leap=container.format.name in _WITH_NEW_CLOCKS)

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yields every frame from the last key frame before `start` at the latest, with its time in seconds."""
        ahead, frames = self._decode()
        if ahead:
            ticks = self._clock(ahead).read(ahead[0])
            self._origin = Fraction(0) if ticks is None else ticks * ahead[0].time_base
        has_index = self.container.format.name.startswith(_WITH_INDEX)
        if self.start > 2 * _RUN_UP_S and has_index and self._clock(ahead).trusts_pts:
            with contextlib.suppress(av.FFmpegError):  # no index
                self._seek(self._origin + self.start - _RUN_UP_S)
            ahead, frames = self._decode()
            if not self._is_before_start(ahead):  # a wrong index led beyond the place: read from the beginning
                self._seek(self._origin)
                ahead, frames = self._decode()
        for frame, time in deinterlaced(self._course.follow(self._stamped(frames, self._clock(ahead)))):
            self._note(frame, time, self._length(frame, time - self.last_s))
            yield frame, time

    def _clock(self, ahead: list[av.VideoFrame]) -> Clock:
        return Clock(ahead, has_pts=self.container.format.name != "avi")

    def _decode(self) -> tuple[list[av.VideoFrame], Iterator[av.VideoFrame]]:
        """The first frames from here on, and these and all others; damage is raised when all before it has been given out."""
        frames = self._frames()
        ahead = []
        try:
            for frame in itertools.islice(frames, _AHEAD):
                ahead.append(frame)
        except (av.FFmpegError, ValueError, OverflowError) as damage:
            frames = _raising(damage)
        return ahead, itertools.chain(ahead, frames)

    def _frames(self) -> Iterator[av.VideoFrame]:
        for packet in self.container.demux(self.stream):
            yield from self._codec.decode(packet)

    def _seek(self, stamp_s: Fraction) -> None:
        self.container.seek(int(stamp_s / self.stream.time_base), stream=self.stream)
        self._codec.flush_buffers()

    def _is_before_start(self, ahead: list[av.VideoFrame]) -> bool:
        """Whether decoding begins with a picture before the place that is wanted, and by stamps that can be trusted."""
        first = next((frame for frame in ahead if frame.key_frame and frame.pts is not None), None)
        return (
            first is not None
            and self._clock(ahead).trusts_pts
            and first.pts * first.time_base < self._origin + self.start
        )

    def _stamped(self, frames: Iterator[av.VideoFrame], clock: Clock) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        for frame in frames:
            _check_pixels(frame.width, frame.height)
            ticks = clock.read(frame)
            if ticks is None:
                raise Refused("its frames carry no times; put it into a container that has them, such as mp4")
            time = ticks * frame.time_base - self._origin
            if (
                frame.is_corrupt and time >= self.start
            ):  # after a seek, frames before the start may lack their references
                raise Refused(f"its picture is damaged at {float(time):.2f} s")
            yield frame, time

    def _length(self, frame: av.VideoFrame, step: Fraction) -> Fraction:
        """How long a frame is shown: as it says, or by the file's rate, or as long as the one before."""
        if frame.duration:
            return frame.duration * frame.time_base
        return 1 / self._rate if self._rate else step

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel over its height; 1 where the file says nothing that can be true."""
        aspect = self.stream.sample_aspect_ratio
        return float(aspect) if aspect and Fraction(1, 16) <= aspect <= 16 else 1.0

    def check_promise(self) -> None:
        """Refuses a file that ended long before the time its header tells.

        Raises:
          Refused: it did.
        """
        promised, begin = Fraction(0), Fraction(0)
        if self.stream.duration:
            promised = self.stream.duration * self.stream.time_base
            begin = (self.stream.start_time or 0) * self.stream.time_base
        elif (
            self.container.duration and not self.container.streams.audio
        ):  # Matroska knows only when the longest stream ends
            begin = Fraction(self.container.start_time or 0, av.time_base)
            promised = Fraction(self.container.duration, av.time_base) - begin
        found = self._origin + self.end_s - begin
        if not self._course.is_broken and found + _PROMISE_SLACK_S < promised and found < _PROMISE_KEPT * promised:
            raise Refused(f"it is cut short: {float(found):.1f} s of {float(promised):.1f} s can be read")


def _best(container: av.container.InputContainer) -> av.VideoStream:
    """The stream that players take: FFmpeg's choice, by default flag, length and bit rate, among those that are no covers."""
    is_cover = av.stream.Disposition.attached_pic
    best = container.streams.best("video")
    others = [stream for stream in container.streams.video if not stream.disposition & is_cover]
    if not others:
        raise Refused("it has no video stream")
    return others[0] if best is None or best.disposition & is_cover else best


def _decoder_like(codec: av.VideoCodecContext, name: str) -> av.VideoCodecContext:
    """Another decoder for the same stream."""
    try:
        decoder = av.CodecContext.create(name, "r")
    except av.codec.codec.UnknownCodecError:
        raise Refused(f"it is transparent, and the decoder {name}, which reads that, is missing in this PyAV") from None
    decoder.extradata, decoder.width, decoder.height = codec.extradata, codec.width, codec.height
    for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
        setattr(decoder, name, getattr(codec, name))
    return decoder


def _raising(error: Exception) -> Iterator[av.VideoFrame]:
    raise error
    yield


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
