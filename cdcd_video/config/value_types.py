"""Types of values that several sections of a config use, with their ranges."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from cdcd_video.config.ranges import MAX_SIZE_PX

Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
MAX_CLIPS = 10_000_000
"""As many as the largest datasets of videos have; the number of clips is limited, because they are enumerated."""
MAX_SIZES = 16
"""Shapes of frames in one config."""
MAX_LAYERS = 1_024
"""Several times the depth of the deepest networks; building more would not end."""
Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]


def _one_side(value: Any) -> Any:
    if isinstance(value, list | tuple):
        raise ValueError(
            "frames are square, so give one side in px, such as 64; name frames of other shapes in data.sizes, such as [64x96]"
        )
    return value


Side = Annotated[int, Field(ge=16, le=MAX_SIZE_PX)]
SizePx = Annotated[int, Field(ge=16, le=MAX_SIZE_PX), BeforeValidator(_one_side)]
"""Side of a square frame."""


def _two_sides(value: Any) -> Any:
    """ "64x96", height before width; pairs of numbers are taken too."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", value) if isinstance(value, str) else None
    if found:
        return int(found[1]), int(found[2])
    if isinstance(value, list | tuple) and len(value) == 2:
        return value
    raise ValueError(f"{value!r} is no size; give height x width in px, such as 64x96")


FrameSize = Annotated[
    tuple[Side, Side],
    BeforeValidator(_two_sides),
    PlainSerializer(lambda size: f"{size[0]}x{size[1]}", return_type=str),
]
"""Height and width of a frame, px; written as 64x96."""


def _different(sizes: Any) -> Any:
    if sizes is not None and len(set(sizes)) < len(sizes):
        raise ValueError("a size is named twice; leave one out")
    return sizes


FrameSizes = Annotated[tuple[FrameSize, ...], Field(min_length=1, max_length=MAX_SIZES), AfterValidator(_different)]

FitMode = Literal["crop", "letterbox"]
"""How frames are made square: `crop` takes the centre, `letterbox` keeps the whole frame on black; see
`data.images.fit`."""
Fit = Literal["crop", "letterbox", "exact"]
"""How a given picture becomes a square frame: as in `FitMode`, or only if it is a square already."""
