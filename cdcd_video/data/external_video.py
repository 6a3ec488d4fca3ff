"""Reads a video at a given rate: a file, an animated gif or webp, or a folder of images.

Unlike `clips.read_clip` this never repeats or skips unevenly: the file's rate must be a multiple of the wanted one.
"""

import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cdcd_video.config.value_types import Size
from cdcd_video.data.clips import ClipRejected, read_clip
from cdcd_video.data.frame_folders import pictures_in, read_pictures
from cdcd_video.data.images import FitMode, fit, read_image
from cdcd_video.errors import UserError
from cdcd_video.storage.numerals import significant
from cdcd_video.storage.small_file import MIB, open_plain

RATE_SLACK = 0.02
"""How far a file's rate may be from a multiple of the wanted one: gifs and webps round each frame's time."""
SQUARE = Size(1, 1)
_PROBED_FRAMES = 17
_PROBE_PX = 16


def read_video(
    file: Path,
    num_frames: int,
    fps: float,
    mode: FitMode = "crop",
    *,
    shape: Size = SQUARE,
    sampled_fps: float | None = None,
) -> UInt8[np.ndarray, "F h w 3"]:
    """The first frames of a video file or of a folder of pictures, at a rate that divides its own.

    Args:
      file: a video, an animated gif or webp, or a folder of pictures (`frame_folders`), which come in the order of the
        numbers in their names.
      num_frames: how many.
      fps: frames per second of what comes back.
      mode: how a frame of another shape is brought to this one.
      shape: a size that has it.
      sampled_fps: rate of the frames, if the file has another one; a folder has none, and counts as `fps`.

    Returns:
      The frames in that shape, as large as they are there.

    Raises:
      UserError: the file cannot be used, is too short, or its rate is no multiple of `fps`.
    """
    if file.is_dir():
        every = _every(file, sampled_fps or fps, fps)
        pictures = pictures_in(file)[: (num_frames - 1) * every + 1 : every]
        _check_length(file, len(pictures), num_frames, fps)
        frames = read_pictures(file, pictures)
        return np.stack([_in_shape(frame, mode, shape) for frame in frames])
    rate, size = _probed(file, fps, mode, shape)
    own = rate or sampled_fps or fps
    every = _every(file, sampled_fps or own, fps)
    # Frames are taken in the middle of their time, for formats that round it.
    clip = read_clip(file, fps=own / every, size_px=size, mode=mode, max_frames=num_frames, start_s=0.5 / own)
    _check_length(file, len(clip.frames), num_frames, fps)
    return clip.frames


def _unresized(height: int, width: int, mode: FitMode, shape: Size) -> Size:
    """The size of a shape that holds a frame without resizing it."""
    times = (min if mode == "crop" else max)(Fraction(height, shape.height), Fraction(width, shape.width))
    return Size(max(1, round(times * shape.height)), max(1, round(times * shape.width)))


def _in_shape(picture: UInt8[np.ndarray, "H W 3"], mode: FitMode, shape: Size) -> UInt8[np.ndarray, "h w 3"]:
    return fit(picture, _unresized(picture.shape[0], picture.shape[1], mode, shape), mode)


def read_picture(file: Path, mode: FitMode = "crop", shape: Size = SQUARE) -> UInt8[np.ndarray, "h w 3"]:
    """A picture as `read_video` makes the frames of a video, as large as it is there."""
    return _in_shape(read_image(file), mode, shape)


def size_of(file: Path) -> Size:
    """Height and width of the first frame of a video file, as shown, or of the first picture of a folder.

    Raises:
      UserError: the file cannot be read.
    """
    if file.is_dir():
        return Size(*read_pictures(file, pictures_in(file)[:1])[0].shape[:2])
    clip = read_clip(file, size_px=_PROBE_PX, max_frames=1)
    return Size(clip.source_height, clip.source_width)


def digest_of(file: Path) -> str:
    """SHA-256 of a file, or of the pictures of a folder.

    Raises:
      UserError: one cannot be read, or is no plain file.
    """
    whole = hashlib.sha256()
    for part in pictures_in(file) if file.is_dir() else [file]:
        sha256 = hashlib.sha256()
        with open_plain(part, "file", within=file if file.is_dir() else None) as content:
            while block := content.read(MIB):
                sha256.update(block)
        whole.update(sha256.digest())
    return whole.hexdigest()


def _probed(file: Path, fps: float, mode: FitMode, shape: Size) -> tuple[float | None, Size]:
    """Frames per second of a video file by its first frames, None where nothing in them changes; and its size in a shape."""
    rate = None
    try:
        clip = read_clip(file, size_px=_PROBE_PX, max_frames=_PROBED_FRAMES)
        rate = _rate(clip.times_s)
    except ClipRejected:  # a gif stores a still video as one frame; a broken file is reported here
        clip = read_clip(file, fps=fps, size_px=_PROBE_PX, max_frames=1)
    return rate, _unresized(clip.source_height, clip.source_width, mode, shape)


def _rate(starts: np.ndarray) -> float | None:
    """Frames per second where frames equal to the one before may be left out, and times rounded."""
    if len(starts) < 2:
        return None
    steps = np.diff(starts)
    step = steps.min()
    for _ in range(3):
        step = steps.sum() / np.maximum(1, np.rint(steps / step)).sum()
    return float(1 / step)


def _every(file: Path, own: float, wanted: float) -> int:
    """How many frames of the file make one step."""
    every = max(1, round(own / wanted))
    if abs(own / wanted / every - 1) > RATE_SLACK:
        raise UserError(
            f"{file} has {significant(own, 4)} frames per second, not a multiple of the protocol's {significant(wanted, 4)};"
            " use a protocol with another rate, or give the rate it was sampled at in the column fps"
        )
    return every


def _check_length(file: Path, found: int, wanted: int, fps: float) -> None:
    if found < wanted:
        way_out = f"; --num-frames {found} takes videos of this length" if found > 1 else ""
        raise UserError(
            f"{file} is too short: {found} frames at {significant(fps, 4)} per second, but the protocol needs {wanted}{way_out}"
        )
