"""Given frames in the `.json` beside a video: the pixels themselves, and the file that they came from. Imports no torch."""

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from pydantic import BaseModel

from cdcd_video.config.ranges import MAX_SIZE_PX
from cdcd_video.data.images import read_image
from cdcd_video.errors import UserError


class FrameRecord(BaseModel):
    """A given frame in a `.json`."""

    file: str
    """Name of the picture it was made from."""
    sha256: str
    """Hash of that file."""
    png_base64: str
    """The frame at the model's size, exactly."""


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


def frame_record(frame: UInt8[np.ndarray, "H W 3"], file: str, sha256: str) -> FrameRecord:
    """The record of a frame at the model's size, from a file of this name and hash."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return FrameRecord(file=file, sha256=sha256, png_base64=base64.b64encode(buffer.getvalue()).decode())


def recorded_frame(record: FrameRecord, name: str) -> GivenFrame:
    """The frame in a record.

    Args:
      record: of the frame.
      name: of the option that gives such a frame, in words joined by `_`.

    Raises:
      UserError: it is damaged or too large.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(record.png_base64, validate=True)), formats=("PNG",)) as image:
            if max(image.size) > MAX_SIZE_PX:
                raise ValueError(
                    f"it is {image.width} x {image.height}, but the maximum is {MAX_SIZE_PX} pixels a side"
                )
            return GivenFrame(np.array(image.convert("RGB")), record.file, record.sha256)
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        which = "last" if name == "last_frame" else "starting"
        flag = f"--{name.replace('_', '-')}"
        raise UserError(f"the {which} frame in the .json is damaged ({error}); give it again: {flag} x.png") from error
