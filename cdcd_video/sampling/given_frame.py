"""Frames that a video is sampled from, with the file that they came from. Imports no torch."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cdcd_video.data.images import read_image


@dataclass(frozen=True)
class GivenFrame:
    """A frame that a video is sampled from."""

    pixels: UInt8[np.ndarray, "H W 3"]
    file: str
    sha256: str
    """Name and hash of the file it came from."""


def given_frame(path: Path) -> GivenFrame:
    """The frame in a file.

    Raises:
      UserError: see `read_image`.
    """
    return GivenFrame(read_image(path), path.name, hashlib.sha256(path.read_bytes()).hexdigest())
