"""Small video files for tests: pictures whose colours survive compression, and files that are wrong in some way."""

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
        if rotation is not None:
            stream.set_display_rotation(rotation)
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
