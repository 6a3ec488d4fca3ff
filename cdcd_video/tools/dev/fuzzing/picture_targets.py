"""Targets of pixels: pictures of every format that is read, and videos."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from cdcd_video import video
from cdcd_video.data.clips import read_clip
from cdcd_video.data.images import fit, read_image
from cdcd_video.tools.dev.fuzzing.mutate import mutated
from cdcd_video.tools.dev.fuzzing.target import Target

_HEADER = 64
"""Most changes fall among so many first bytes: there sizes, depths and chunks are."""


def targets(scratch: Path) -> list[Target]:
    """All targets of this file.

    Args:
      scratch: where valid examples may be made.
    """
    pixels = np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    pictures = [_picture(pixels, kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")]
    videos = []
    for suffix in (".mp4", ".gif", ".webp"):
        videos.append((suffix, video.save(np.stack([pixels] * 3), scratch / f"film{suffix}", 8).read_bytes()))

    def put_picture(folder: Path, rng: np.random.Generator) -> None:
        content = pictures[int(rng.integers(len(pictures)))]
        (folder / "x").write_bytes(_broken(content, pictures, rng))

    def put_video(folder: Path, rng: np.random.Generator) -> None:
        suffix, content = videos[int(rng.integers(len(videos)))]
        for old in folder.glob("x.*"):
            old.unlink()
        (folder / f"x{suffix}").write_bytes(_broken(content, [content for _, content in videos], rng))

    def read_video(folder: Path) -> object:
        (path,) = folder.glob("x.*")
        return read_clip(path, size_px=16, fps=4)

    return [
        Target("picture", 20, put_picture, lambda folder: fit(read_image(folder / "x"), 16)),
        Target("film", 3, put_video, read_video),
    ]


def _broken(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    if rng.random() < 0.6:
        return mutated(content[:_HEADER], [other[:_HEADER] for other in others], rng) + content[_HEADER:]
    return mutated(content, others, rng)


def _picture(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()
