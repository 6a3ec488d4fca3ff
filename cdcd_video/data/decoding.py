"""The video stream of a file: every frame in order of time, upright, or the reason why it cannot be read."""

import collections
import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from PIL import Image

from cdcd_video.data.colour import in_srgb
from cdcd_video.data.completeness import is_cut_short, is_joined
from cdcd_video.data.deinterlace import deinterlaced
from cdcd_video.data.display import Placing, Refused, placing_of
from cdcd_video.data.images import MAX_PIXELS, FitMode, NearestShape
from cdcd_video.data.timestamps import Clock, Course
from cdcd_video.data.video_reader import Reader

# Containers that hold their own pictures. Playlists (HLS, concat scripts), which make FFmpeg open whatever file or
# address they name, are not among them, whatever the suffix of the file says.
_FORMATS = "mov,matroska,webm,avi,gif,apng,mpeg,mpegts,mpegvideo,flv,asf,ogg,h264,hevc,ivf,yuv4mpegpipe"
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", "default_fps": "10"}  # of APNG without times
_READ = "mp4, mov, mkv, webm, avi, gif, apng, webp, avif, mpg, ts, flv, wmv, ogv"

# Titles and comments that are not UTF-8 are no reason to refuse a video. From version 19 on PyAV never minds them, and the
# argument is gone.
_LENIENT: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}

# Containers in which a place is found by an index. Elsewhere FFmpeg guesses it from the bytes, or from a clock that may begin
# anew, and lands behind it.
_WITH_INDEX = ("mov", "matroska")
_WITH_NEW_CLOCKS = ("mpegts", "mpeg")

# Pictures of gif and APNG that say they are shown for no longer than this are shown for a tenth of a second, as in every
# browser.
HURRIED_S, INSTEAD_S = Fraction(1, 100), Fraction(1, 10)

# Decoders that begin with what comes first and give rubbish up to the first whole picture. Others say what is damaged.
_RUBBISH_AT_FIRST = ("mpeg4", "msmpeg4", "wmv", "flv", "h263", "theora")

_MOST_IN_DECODER = 64  # frames that it holds back: for their order, and one for each of its threads

# So far before the place that is wanted decoding begins: filters look at the frames before, and those after a key frame
# may lean on frames before it.
_RUN_UP_S = 1

# Decoders that give the transparency of what others decode without it.
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# Alpha channel information, an SEI message of HEVC (H.265, F.14.2.8): the header of its NAL unit, its number, its length.
_ALPHA_INFO = rb"\x4e\x01\xa5[\x01-\x06]"
_HEAD = 1024
_UNSPECIFIED = 2  # of H.273
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
"""A file is refused if no further frame arrives within this time: gigabytes of zeros, a disk that does not answer."""


def open_video(path: str | os.PathLike[str], patience_s: float = PATIENCE_S) -> av.container.InputContainer:
    """Opens a file of a container that holds its own pictures.

    Args:
      path: the file.
      patience_s: opening it, and each packet read from it later, may take so long, seconds; `av.ExitError` after that.

    Raises:
      Refused: a gif or wmv that was cut short, files joined where they cannot be, or a container that is not read here.
      av.FFmpegError, ValueError, OverflowError: as PyAV raises them for damaged files.
    """
    try:
        container = av.open(f"file:{os.path.abspath(path)}", options=_OPTIONS, timeout=patience_s, **_LENIENT)
    except av.ArgumentError:  # FFmpeg's word for a format that is not on the list
        raise Refused(
            f"its container is not supported ({_READ}); convert it, for example with ffmpeg -i IN OUT.mp4"
        ) from None
    try:
        if is_cut_short(path, container.format.name):
            raise Refused("it is truncated: its end is missing")
        if is_joined(path, container.format.name):
            raise Refused(
                "it consists of several files joined end to end, and only the first can be read;"
                " use them one by one, or join them with ffmpeg -f concat"
            )
    except (Refused, OSError):
        container.close()
        raise
    return container


class Source(Reader):
    """The video stream of an open file: the one that FFmpeg and players take, in the order of its times.

    Sound and cover pictures are never decoded.

    Args:
      container: the open file.
      start: from where frames are wanted, seconds from the first picture.
      profile: the ICC profile of its colours, where the file holds one that FFmpeg does not heed.

    Raises:
      Refused: there is no video, it is too large, or damaged where it is wanted.
    """

    def __init__(self, container: av.container.InputContainer, start: Fraction, profile: bytes | None = None):
        super().__init__()
        self._profile = profile
        self._placing: Placing | None = None
        self.container, self.stream, self.start = container, _best(container), start
        if self.stream.codec_context is None:
            raise Refused("no installed decoder can read its video")
        _check_pixels(self.stream.width, self.stream.height)
        self._rate = self.stream.average_rate  # asked now: a closed file answers no more
        self._codec = self.stream.codec_context
        self._codec.flags |= _UNALIGNED
        self._matrix = _VP8_MATRIX if self._codec.name == "vp8" else None
        has_alpha = any((key.lower(), value) == ("alpha_mode", "1") for key, value in self.stream.metadata.items())
        if has_alpha and self._codec.name in _WITH_ALPHA:
            self._codec = _decoder_like(self._codec, _WITH_ALPHA[self._codec.name])
        self._kind = container.format.name
        self._is_early = self._codec.name.startswith(_RUBBISH_AT_FIRST)
        self._origin = Fraction(0)  # seconds of the first picture's stamp
        self._course = Course(self._length, may_leap=self._kind in _WITH_NEW_CLOCKS)

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yields every frame from the last key frame before `start` at the latest, with its time in seconds."""
        ahead, frames = self._decode()
        if ahead:
            ticks = self._clock(ahead).read(ahead[0])
            self._origin = Fraction(0) if ticks is None else _seconds(ticks, ahead[0])
        has_index = self._kind.startswith(_WITH_INDEX)
        if self.start > 2 * _RUN_UP_S and has_index and self._clock(ahead).trusts_pts:
            with contextlib.suppress(av.FFmpegError):  # no index
                self._seek(self._origin + self.start - _RUN_UP_S)
            ahead, frames = self._decode()
            if not self._is_before_start(ahead):  # a wrong index led beyond the place: read from the beginning
                self._seek(self._origin)
                ahead, frames = self._decode()
        held_s = Fraction(0)
        for frame, time in deinterlaced(self._course.follow(self._stamped(frames, self._clock(ahead)))):
            length = self._length(frame, time - self.last_s)
            time += held_s
            if self._kind in ("gif", "apng") and length <= HURRIED_S:
                held_s, length = held_s + INSTEAD_S - length, INSTEAD_S
            self._note(frame, time, length)
            yield frame, time

    def _clock(self, ahead: list[av.VideoFrame]) -> Clock:
        return Clock(ahead, has_pts=self._kind != "avi")

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
        stamps: collections.deque[int] = collections.deque(maxlen=_MOST_IN_DECODER)
        is_first = True
        for packet in self.container.demux(self.stream):
            if packet.size == 0 and packet.dts is not None:  # the picture stays; the decoder would call it damage
                continue
            if packet.dts is not None:
                stamps.append(packet.dts)
            for frame in self._codec.decode(packet):
                if self._kind == "avi" and stamps:
                    # It says when a frame is decoded alone, and frames are shown at the same times, one after the other.
                    # FFmpeg reports for each the packet that was decoded last, and for the last ones none.
                    frame.dts = stamps.popleft()
                if is_first:
                    self._check_alpha(packet, frame)
                    is_first = False
                yield frame

    def _check_alpha(self, packet: av.Packet, frame: av.VideoFrame) -> None:
        """Refuses HEVC that is transparent where the decoder leaves that out.

        Raises:
          Refused: it is.
        """
        has_alpha = any(component.is_alpha for component in frame.format.components)
        heads = (bytes(self._codec.extradata or b""), bytes(packet)[:_HEAD]) if self._codec.name == "hevc" else ()
        if not has_alpha and any(re.search(_ALPHA_INFO, head, re.DOTALL) for head in heads):
            raise Refused("it is transparent HEVC, which is not supported; convert it to VP9 (webm) or ProRes 4444")

    def _seek(self, stamp_s: Fraction) -> None:
        self.container.seek(int(stamp_s / cast(Fraction, self.stream.time_base)), stream=self.stream)
        self._codec.flush_buffers()

    def _is_before_start(self, ahead: list[av.VideoFrame]) -> bool:
        """Whether decoding begins with a picture before the place that is wanted, and by stamps that can be trusted."""
        first = next((frame for frame in ahead if frame.key_frame and frame.pts is not None), None)
        return (
            first is not None
            and first.pts is not None
            and self._clock(ahead).trusts_pts
            and _seconds(first.pts, first) < self._origin + self.start
        )

    def _stamped(self, frames: Iterator[av.VideoFrame], clock: Clock) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        for frame in frames:
            _check_pixels(frame.width, frame.height)
            self._is_early &= not frame.key_frame
            if self._is_early:
                continue
            ticks = clock.read(frame)
            if ticks is None:
                raise Refused("its frames have no timestamps; remux it into a container that has them, such as mp4")
            time = _seconds(ticks, frame) - self._origin
            if (
                frame.is_corrupt and time >= self.start
            ):  # after a seek, frames before the start may lack their references
                raise Refused(f"its picture is damaged at {float(time):.2f} s")
            yield frame, time

    def _length(self, frame: av.VideoFrame, step: Fraction) -> Fraction:
        """How long a frame is shown: as it says, or by the file's rate, or as long as the one before."""
        if frame.duration and self._kind != "avi":  # there a tick of its clock
            return _seconds(frame.duration, frame)
        return 1 / self._rate if self._rate else step

    def pixels(self, frame: av.VideoFrame, size_px: int | tuple[int, int] | NearestShape, mode: FitMode) -> np.ndarray:
        """RGB pixels of a frame as shown, at the size wanted."""
        if self._profile is None:
            return super().pixels(frame, size_px, mode)
        frame.color_primaries = frame.color_trc = _UNSPECIFIED  # the profile says it better
        return np.asarray(in_srgb(Image.fromarray(super().pixels(frame, size_px, mode)), self._profile))

    def placing(self, frame: av.VideoFrame) -> Placing:
        """How a frame is mirrored and turned, by its display matrix; of a PNG that moves, by that of its first frame."""
        if self._codec.name != "apng":
            return placing_of(frame, self._codec.name)
        if self._placing is None:
            self._placing = placing_of(frame, self._codec.name)
        return self._placing

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel over its height; 1 where the file says nothing that can be true."""
        aspect = self.stream.sample_aspect_ratio
        return float(aspect) if aspect and Fraction(1, 16) <= aspect <= 16 else 1.0

    def check_promise(self) -> None:
        """Refuses a file that ended long before the time in its header.

        Raises:
          Refused: it did.
        """
        promised, begin = self._promise()
        found = self._origin + self.end_s - begin
        if not self._course.is_broken and found + _PROMISE_SLACK_S < promised and found < _PROMISE_KEPT * promised:
            raise Refused(f"it is truncated: only {float(found):.1f} s of {float(promised):.1f} s can be read")

    def _promise(self) -> tuple[Fraction, Fraction]:
        """How long the video lasts by its header, and when it begins; seconds, a length of 0 if unknown."""
        if self.stream.duration:
            # ASF counts from 0, whenever the first picture comes.
            start = 0 if self._kind == "asf" else self.stream.start_time or 0
            return _seconds(self.stream.duration, self.stream), _seconds(start, self.stream)
        begin = Fraction(self.container.start_time or 0, av.time_base)
        lengths = [value for key, value in self.stream.metadata.items() if key.upper() == "DURATION"]
        match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", lengths[0]) if lengths else None
        if match:  # Matroska: when this stream ends
            return 3600 * int(match[1]) + 60 * int(match[2]) + Fraction(match[3]) - begin, begin
        if self.container.duration and len(self.container.streams) == 1:  # when the longest of them ends
            return Fraction(self.container.duration, av.time_base) - begin, begin
        return Fraction(0), begin


def _best(container: av.container.InputContainer) -> av.VideoStream:
    """The stream that players take: FFmpeg's choice, by default flag, length and bit rate, among those that are no covers."""
    is_cover = av.stream.Disposition.attached_pic
    best = cast("av.VideoStream | None", container.streams.best("video"))
    others = [stream for stream in container.streams.video if not stream.disposition & is_cover]
    if not others:
        raise Refused("it has no video stream")
    return others[0] if best is None or best.disposition & is_cover else best


def _decoder_like(codec: av.VideoCodecContext, name: str) -> av.VideoCodecContext:
    """Another decoder for the same stream."""
    try:
        decoder = cast(av.VideoCodecContext, av.CodecContext.create(name, "r"))
    except av.codec.codec.UnknownCodecError:
        raise Refused(f"it is transparent, and the decoder {name}, which reads that, is missing in this PyAV") from None
    decoder.extradata, decoder.width, decoder.height = codec.extradata, codec.width, codec.height
    for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
        setattr(decoder, name, getattr(codec, name))
    return decoder


def _seconds(ticks: int, of: av.VideoFrame | av.VideoStream) -> Fraction:
    """Ticks of the clock of a stream, which whatever was read from a file has."""
    return ticks * cast(Fraction, of.time_base)


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
        raise Refused(f"its path cannot be used ({plain(error)})") from error


def plain(error: Exception) -> str:
    """The message of FFmpeg or the system without number and path, so that a report does not depend on the machine."""
    return str(getattr(error, "strerror", None) or error)


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Refused(f"it is {width} x {height}, more than {MAX_PIXELS:,} pixels")
