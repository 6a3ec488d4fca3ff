"""Small video files for tests: pictures whose colours survive compression, and files that are wrong in some way."""

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def moving_bar(num_frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A bright bar that moves 4 px a frame over a smooth ground, uint8 (F, H, W, 3); every frame differs."""
    down, right = np.mgrid[0:height, 0:width]
    ground = np.stack([60 + right, 90 + down, np.full_like(down, 120)], axis=-1).astype(np.uint8)
    frames = np.repeat(ground[None], num_frames, axis=0)
    for index, frame in enumerate(frames):
        left = 4 * index % (width - 8)
        frame[:, left : left + 8] = (230, 220, 40)
    return frames


def grey_steps(num_frames: int, size: int = 32) -> np.ndarray:
    """Frame i is plain grey of value 20 + 10 i, so that a frame can be told after compression."""
    values = 20 + 10 * np.arange(num_frames)
    return np.broadcast_to(values[:, None, None, None], (num_frames, size, size, 3)).astype(np.uint8)


def steps_shown(frames: np.ndarray) -> list[int]:
    """Which frames of `grey_steps` these are."""
    return ((frames.mean(axis=(1, 2, 3)) - 20) / 10).round().astype(int).tolist()


def write_clip(
    path: Path,
    frames: np.ndarray,
    times_s: list[float] | None = None,
    *,
    fps: int = 8,
    codec: str = "libx264",
    rotation: float | None = None,
    sample_aspect: Fraction | None = None,
    with_sound: bool = False,
) -> Path:
    """Writes a video, with uneven times if given; the container follows the suffix."""
    ticks = Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.time_base = ticks
        if sample_aspect:
            stream.codec_context.sample_aspect_ratio = sample_aspect
        sound = container.add_stream("aac", rate=16000) if with_sound else None
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            time = index / fps if times_s is None else times_s[index]
            frame.pts, frame.time_base = round(time / ticks), ticks
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
            samples.sample_rate = 16000
            container.mux(sound.encode(samples))
            container.mux(sound.encode(None))
    if rotation is not None:
        down, right = round(np.sin(np.radians(rotation))), round(np.cos(np.radians(rotation)))
        set_display_matrix(path, right, -down, down, right)
    return path


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Has players show the pixel (x, y) of the first track of an mp4 at (a x + c y, b x + d y)."""
    content = path.read_bytes()
    place = content.index(b"tkhd") + 44  # after versions, times, number, duration, layer and volume
    old = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    assert content[place : place + 36] == old
    new = struct.pack(">9i", 65536 * a, 65536 * b, 0, 65536 * c, 65536 * d, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:place] + new + content[place + 36 :])


QUARTERS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (128, 128, 128))
"""Colours of a picture's quarters: top left, top right, bottom left, bottom right."""


def quarters(height: int = 64, width: int = 64) -> np.ndarray:
    """A picture of those four colours, uint8 (H, W, 3)."""
    picture = np.empty((height, width, 3), np.uint8)
    for colour, rows, columns in zip(QUARTERS, (0, 0, 1, 1), (0, 1, 0, 1), strict=True):
        picture[rows * height // 2 :, columns * width // 2 :] = colour
    return picture


def quarters_of(picture: np.ndarray) -> np.ndarray:
    """The colours in the middle of a picture's quarters, (4, 3)."""
    height, width = picture.shape[:2]
    places = [(height * row // 4, width * column // 4) for row in (1, 3) for column in (1, 3)]
    return np.array([picture[place] for place in places], dtype=int)


@contextmanager
def scheduled_as_before() -> Iterator[None]:
    """SVT-AV1 puts the process of root into the real-time class, and all else on the machine waits for it from then on."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


@scheduled_as_before()
def encode(
    path: Path,
    frames: Iterable[av.VideoFrame],
    *,
    codec: str,
    pix_fmt: str,
    fps: int = 8,
    container_format: str | None = None,
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    first: int = 0,
) -> Path:
    """Writes frames as they are, one after the other, the first with the stamp `first`."""
    with av.open(str(path), "w", format=container_format) as container:
        stream = None
        for index, frame in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec, rate=fps, options=options or {})
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
                stream.codec_context.time_base = Fraction(1, fps)
                stream.metadata.update(metadata or {})
                for name, number in (tags or {}).items():
                    setattr(stream.codec_context, name, number)
            frame.pts, frame.time_base = first + index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """A WAV file: a proper media file without any picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
        container.mux(stream.encode(None))
    return path
