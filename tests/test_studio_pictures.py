"""Pictures in the studio that are no squares: how they are brought to the model's frames, and what the page says of it."""

from pathlib import Path

import numpy as np
from PIL import Image

from cdcd_video.config.ranges import MAX_SIZE_PX
from cdcd_video.studio import start_frame


def wide(width: int, height: int) -> np.ndarray:
    """A picture whose columns grow brighter, none of them black."""
    return np.repeat(np.linspace(50, 250, width).astype(np.uint8)[None, :, None], height, axis=0).repeat(3, axis=2)


def test_a_large_photograph_keeps_its_shape(tmp_path: Path):
    Image.fromarray(wide(MAX_SIZE_PX + 904, 500)).save(tmp_path / "large.png")
    pixels = start_frame.from_file(tmp_path / "large.png", 20).pixels
    assert pixels.shape == (410, MAX_SIZE_PX, 3) and pixels.min() > 40, "bars were added to it"
    assert start_frame.shrunk(wide(5_000, 1), 100).shape == (1, 100, 3)
    assert start_frame.shrunk(pixels, MAX_SIZE_PX) is pixels
