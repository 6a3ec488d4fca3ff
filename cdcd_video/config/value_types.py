"""Types of values that several sections of a config use, with their ranges."""

import re
from typing import Annotated, Any, Literal, NamedTuple

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
            "frames are square, so give one side in px, such as 64; name frames of other shapes in data.sizes, such as [64x96],"
            " or in a protocol's size, such as 64x96"
        )
    return value


Side = Annotated[int, Field(ge=16, le=MAX_SIZE_PX)]


class Size(NamedTuple):
    """Height and width of a frame, px; written as 64x96."""

    height: Side
    width: Side

    @classmethod
    def square(cls, side: int) -> "Size":
        """That of a square frame."""
        return cls(side, side)

    def scaled(self, new_px: int, old_px: int) -> "Size":
        """This size where `old_px` become `new_px`.

        Raises:
          ValueError: a side would be no whole number of pixels.
        """
        if self.height * new_px % old_px or self.width * new_px % old_px:
            raise ValueError(
                f"frames of {self} px, of the scale of squares of {old_px} px, would have no whole number of pixels at that of"
                f" {new_px} px"
            )
        return Size(self.height * new_px // old_px, self.width * new_px // old_px)

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


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
    Size,
    BeforeValidator(_two_sides),
    PlainSerializer(lambda size: f"{size[0]}x{size[1]}", return_type=str),
]
"""Height and width of a frame, px; written as 64x96."""


def _different(sizes: Any) -> Any:
    if sizes is not None and len(set(sizes)) < len(sizes):
        raise ValueError("a size is named twice; leave one out")
    return sizes


FrameSizes = Annotated[tuple[FrameSize, ...], Field(min_length=1, max_length=MAX_SIZES), AfterValidator(_different)]


def _in_a_list(value: Any) -> Any:
    """One size alone is a list of one; two numbers are one size."""
    is_one = isinstance(value, str) or (
        isinstance(value, list | tuple) and all(isinstance(side, int) for side in value)
    )
    return (value,) if is_one else tuple(value) if isinstance(value, list) else value


OneOrMoreSizes = Annotated[
    FrameSizes,
    BeforeValidator(_in_a_list),
    PlainSerializer(lambda sizes: str(sizes[0]) if len(sizes) == 1 else [str(size) for size in sizes]),
]
"""One size, written as 64x96, or a list of several."""

FitMode = Literal["crop", "letterbox"]
"""How frames are made square: `crop` takes the centre, `letterbox` keeps the whole frame on black; see
`data.images.fit`."""
Fit = Literal["crop", "letterbox", "exact"]
"""How a given picture becomes a square frame: as in `FitMode`, or only if it is a square already."""
