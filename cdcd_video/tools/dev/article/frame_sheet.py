"""All frames of several videos in one picture, as a `data:` URL, for a page that shows one frame at a time."""

import base64
import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cdcd_video.errors import UserError

MOST_PX = 16_383
"""Longest side of a picture in WebP."""


def frame_sheet(videos: UInt8[np.ndarray, "V F H W 3"]) -> str:
    """A row for each video, time to the right, exact pixels, no gaps; the same videos give the same text.

    Raises:
      UserError: the sheet is larger than WebP allows.
    """
    num_videos, num_frames, height, width, _ = videos.shape
    if max(num_videos * height, num_frames * width) > MOST_PX:
        raise UserError(
            f"{num_videos} videos of {num_frames} frames at {width} px do not fit into one picture; show fewer or shorter ones"
        )
    sheet = videos.transpose(0, 2, 1, 3, 4).reshape(num_videos * height, num_frames * width, 3)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "WEBP", lossless=True, quality=100, method=6)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
