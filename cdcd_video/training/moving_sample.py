"""The moving sample of a model card: true validation clips above what the model sampled from their first frames.

The file holds in its EXIF description which model it shows and the captions, so that a card never shows another model's.
"""

import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cdcd_video.storage.small_file import Unreadable, read_small
from cdcd_video.training.contact_sheets import Rows
from cdcd_video.video import whole_file

FILE = "sample.webp"
"""In a model folder."""
MOST_FRAMES, MOST_CLIPS = 32, 4
TILE_PX = 96
"""Largest side of a video in it."""
_QUALITY = 50
_GAP_PX = 4
_DESCRIPTION = 0x010E  # EXIF's ImageDescription


@dataclass(frozen=True)
class MovingSample:
    """What the file shows."""

    model_sha256: str
    captions: tuple[str, ...]
    """One per column, from left to right."""


def write_moving_sample(rows: Rows, folder: Path, fps: float, model_sha256: str) -> Path:
    """Writes `FILE` as a lossy animated WebP of a few kB, small enough for a page.

    Args:
      rows: of `contact_sheets.sampled_rows`: true and sampled videos by turns, with their labels.
      folder: of the model.
      fps: frames per second.
      model_sha256: the digest of the model.

    Returns:
      The path.

    Raises:
      UserError: it cannot be written.
    """
    videos, labels = rows
    pairs = list(zip(videos[::2], videos[1::2], strict=True))[:MOST_CLIPS]
    captions = [label.removeprefix("true: ") for label in labels[::2]][:MOST_CLIPS]
    num_frames = min(MOST_FRAMES, max(len(video) for pair in pairs for video in pair))
    frames = [_tiled(pairs, number) for number in range(num_frames)]
    exif = Image.Exif()
    exif[_DESCRIPTION] = json.dumps({"model_sha256": model_sha256, "captions": captions})
    begins = [round(1000 * number / fps) for number in range(num_frames + 1)]
    how = {"duration": [end - begin for begin, end in itertools.pairwise(begins)], "loop": 0, "exif": exif.tobytes()}
    with whole_file(folder / FILE) as part:
        frames[0].save(part, "WEBP", save_all=True, append_images=frames[1:], quality=_QUALITY, method=6, **how)
    return folder / FILE


def read_moving_sample(folder: Path) -> MovingSample | None:
    """What the file in a model folder shows; None where there is none, or one that somebody else made."""
    try:
        with Image.open(io.BytesIO(read_small(folder / FILE)), formats=("WEBP",)) as image:
            known = json.loads(image.getexif()[_DESCRIPTION])
        digest, captions = known["model_sha256"], known["captions"]
    except Unreadable:
        return None
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, RecursionError, Image.DecompressionBombError):
        return None  # a picture of somebody else
    is_ours = isinstance(digest, str) and isinstance(captions, list) and all(isinstance(one, str) for one in captions)
    return MovingSample(digest, tuple(captions)) if is_ours else None


def _tiled(
    pairs: Sequence[tuple[UInt8[np.ndarray, "_ _ _ 3"], UInt8[np.ndarray, "_ _ _ 3"]]], number: int
) -> Image.Image:
    """A frame of all videos: a column per clip, the true one above. A video that has ended keeps its last frame."""
    side = max(max(video.shape[1:3]) for pair in pairs for video in pair)
    tile = min(side, TILE_PX) * max(1, TILE_PX // 2 // side)
    step = tile + _GAP_PX
    sheet = Image.new("RGB", (step * len(pairs) - _GAP_PX, step * 2 - _GAP_PX), "white")
    for column, pair in enumerate(pairs):
        for row, video in enumerate(pair):
            frame = Image.fromarray(video[min(number, len(video) - 1)])
            how = Image.Resampling.NEAREST if tile >= side else Image.Resampling.LANCZOS
            size = tuple(round(tile * length / side) for length in frame.size)
            sheet.paste(frame.resize(size, how), (column * step, row * step))
    return sheet
