"""The media folder of a study: videos that every browser plays, pictures and noise, under random names."""

import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cdcd_video import video
from cdcd_video.data.clips import DecodedClip, read_clip
from cdcd_video.data.decoding import Refused, Source, open_video
from cdcd_video.data.display import Placing, orientation
from cdcd_video.errors import UserError
from cdcd_video.rate.study import Media

_NAMED = re.compile(r"\.?[0-9a-f]{16}\.(mp4|webm|png)(\.\w+)*")
"""Names of media, and of unfinished ones."""
_NOISE_BLOCK_PX = 8
_PROBE_PX = 64
_TOLERANCE_S = 0.02
"""Largest change of a frame's time in a re-encoded video, which cannot keep uneven times."""
_HDR = (16, 18)
"""PQ and HLG, by their numbers in ITU-T H.273."""
_WAY_OUT = "convert it to 8-bit H.264: ffmpeg -i FILE -c:v libx264 -crf 16 -pix_fmt yuv420p NEW.mp4"


@dataclass(frozen=True)
class _Played:
    """The profiles of a codec that Chromium, Firefox and Safari all play, and their containers (the first by default)."""

    containers: tuple[str, ...]
    profiles: frozenset[str | None]
    layouts: frozenset[str]


_PLAYED = {
    # Lossless x264 (crf 0) is of the profile "High 4:4:4 Predictive" whatever its colours.
    "h264": _Played(
        ("mp4",), frozenset({"Constrained Baseline", "Baseline", "Main", "High"}), frozenset({"yuv420p", "yuvj420p"})
    ),
    "vp8": _Played(("webm",), frozenset({None}), frozenset({"yuv420p"})),
    "vp9": _Played(("webm", "mp4"), frozenset({"Profile 0"}), frozenset({"yuv420p"})),
    "av1": _Played(("mp4", "webm"), frozenset({"Main"}), frozenset({"yuv420p", "yuv420p10le"})),
}
"""By FFmpeg's names of codec, profile and pixel format."""


class Shelf:
    """The media files of a study.

    Args:
      folder: of the study.
    """

    def __init__(self, folder: Path):
        self.media: dict[str, Media] = {}
        self._folder = folder

    def clear_left(self) -> None:
        """Deletes files by such names that are there already: of a process that was killed before it named them in a study."""
        media = self._folder / "media"
        own = media.iterdir() if media.is_dir() and not media.is_symlink() else ()
        for path in (*filter(lambda path: _NAMED.fullmatch(path.name), own), *self._folder.glob(".study.json.*.part")):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Deletes the files."""
        for media in self.media.values():
            (self._folder / media.file).unlink(missing_ok=True)

    def add_video(self, path: Path) -> tuple[str, DecodedClip]:
        """Copies the video stream bit for bit, without sound and metadata.

        A video with an orientation that not every browser applies is re-encoded in that orientation.

        Args:
          path: the file; its content decides, not its suffix.

        Returns:
          Its name in `media`, and all its frames in small size.

        Raises:
          UserError: it cannot be read, or some browser does not play it.
        """
        clip = read_clip(path, size_px=_PROBE_PX)
        try:
            with open_video(path) as container:
                source = Source(container, Fraction(0))
                kind = _container_for(path, container, source.stream)
                is_heeded = _is_heeded(source.placing(next(iter(source))[0]), kind)
            name, file = self._place(f".{kind if is_heeded else 'mp4'}")
            if is_heeded:
                with open_video(path) as container, video.whole_file(file) as part:
                    _copy(container, Source(container, Fraction(0)).stream, part, kind)
            else:
                video.save_parts((frame[None] for frame in _frames(path, clip)), file, clip.fps)
        except (Refused, av.FFmpegError, ValueError) as error:  # read_clip succeeded, so the copy failed
            raise UserError(f"{path} cannot be copied ({error}); {_WAY_OUT}") from error
        self._note(name, file, _sha256(path), len(clip.frames) / clip.fps)
        if not _shows_the_same(file, clip, is_exact=is_heeded):
            raise UserError(f"a copy of {path} differs from the original; {_WAY_OUT}")
        return name, clip

    def add_picture(self, pixels: UInt8[np.ndarray, "H W 3"]) -> str:
        """Stores a picture, and returns its name in `media`."""
        name, file = self._place(".png")
        with video.whole_file(file) as part:
            Image.fromarray(pixels).save(part, "PNG")
        self._note(name, file, _sha256(file))
        return name

    def add_noise(self, like: DecodedClip, seed: int) -> str:
        """Stores frozen noise of the size and duration of a video, and returns its name in `media`."""
        name, file = self._place(".mp4")
        rng = np.random.Generator(np.random.Philox(key=seed))
        height, width = (max(_NOISE_BLOCK_PX, side) for side in (like.source_height, like.source_width))
        blocks = (-(-height // _NOISE_BLOCK_PX), -(-width // _NOISE_BLOCK_PX))
        picture = rng.integers(0, 256, (*blocks, 3), dtype=np.uint8)
        picture = picture.repeat(_NOISE_BLOCK_PX, axis=0).repeat(_NOISE_BLOCK_PX, axis=1)[:height, :width]
        video.save(np.broadcast_to(picture, (len(like.frames), *picture.shape)), file, like.fps)
        self._note(name, file, _sha256(file), len(like.frames) / like.fps)
        return name

    def _place(self, suffix: str) -> tuple[str, Path]:
        name = secrets.token_hex(8)
        return name, self._folder / "media" / f"{name}{suffix}"

    def _note(self, name: str, file: Path, sha256: str, seconds: float | None = None) -> None:
        self.media[name] = Media(file=file.relative_to(self._folder).as_posix(), sha256=sha256, seconds=seconds)


def first_frame(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """The first frame of a video as players show it: upright, with square pixels, transparency over white.

    Raises:
      UserError: the video cannot be read.
    """
    return next(_frames(path, read_clip(path, size_px=_PROBE_PX, max_frames=1)))


def _frames(path: Path, probe: DecodedClip) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Every frame of a video in its display orientation."""
    height, width = probe.source_height, probe.source_width
    side = max(height, width)  # of the square that holds a frame without resizing it
    top, left = (side - height) // 2, (side - width) // 2
    with open_video(path) as container:
        source = Source(container, Fraction(0))
        for frame, _ in source:
            yield source.pixels(frame, side, "letterbox")[top : top + height, left : left + width]


def _is_heeded(placing: Placing, kind: str) -> bool:
    """Whether every browser applies the display matrix.

    Firefox (153) applies quarter turns in mp4, but neither mirroring nor turns in WebM; the others apply all.
    """
    how = orientation(placing)
    return how == "as coded" or (how == "turned" and kind == "mp4")


def _container_for(path: Path, container: av.container.InputContainer, stream: av.VideoStream) -> str:
    """The container of the copy; refuses what some browser would not play correctly."""
    if any(key.lower() == "alpha_mode" and value == "1" for key, value in stream.metadata.items()):
        raise UserError(f"{path} has transparent pixels; put it on a white background first")
    codec = stream.codec_context.codec.canonical_name
    profile, layout = stream.profile, stream.codec_context.pix_fmt
    played = _PLAYED.get(codec)
    if played is None:
        raise UserError(f"{path} is coded as {codec}, which browsers do not play; {_WAY_OUT}")
    if profile not in played.profiles or layout not in played.layouts:
        kind = f"{codec} ({', '.join(filter(None, (profile, layout)))})"
        raise UserError(f"{path} is coded as {kind}, which some browsers do not play; {_WAY_OUT}")
    if stream.codec_context.color_trc in _HDR:
        raise UserError(f"{path} is HDR, which browsers and screens show differently; convert it to SDR")
    own = "mp4" if "mp4" in container.format.name.split(",") else "webm"
    return own if own in played.containers else played.containers[0]


def _copy(container: av.container.InputContainer, stream: av.VideoStream, part: Path, kind: str) -> None:
    options = {"movflags": "+faststart"} if kind == "mp4" else {}
    with av.open(str(part), "w", format=kind, options=options) as out:
        # opaque: a plain copy. Otherwise PyAV looks for an encoder by the name of the decoder, which AV1 lacks.
        copy = out.add_stream_from_template(stream, opaque=True)
        copy.metadata.clear()
        for packet in container.demux(stream):
            if packet.size:  # the last packet is empty and marks the end
                packet.stream = copy
                out.mux(packet)


def _shows_the_same(file: Path, clip: DecodedClip, *, is_exact: bool) -> bool:
    copied = read_clip(file, size_px=_PROBE_PX)
    if copied.frames.shape != clip.frames.shape:
        return False
    if is_exact:
        return np.array_equal(copied.frames, clip.frames)
    return bool(np.allclose(copied.times_s - copied.times_s[0], clip.times_s - clip.times_s[0], atol=_TOLERANCE_S))


def _sha256(path: Path) -> str:
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            whole.update(block)
    return whole.hexdigest()
