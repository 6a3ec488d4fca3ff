"""Types of values that several sections of a config use, with their ranges."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from cdcd_video.config.ranges import MAX_SIZE_PX

Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
MAX_CLIPS = 10_000_000
"""As many as the largest datasets of videos have; the number of clips is limited, because they are enumerated."""
MAX_LAYERS = 1_024
"""Several times the depth of the deepest networks; building more would not end."""
Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]


def _one_side(value: Any) -> Any:
    if isinstance(value, list | tuple):
        raise ValueError(
            "frames are square, so give one side in px, such as 64; --mode letterbox of data_prep keeps wider clips whole"
        )
    return value


SizePx = Annotated[int, Field(ge=16, le=MAX_SIZE_PX), BeforeValidator(_one_side)]
"""Side of a square frame."""


FitMode = Literal["crop", "letterbox"]
"""How frames are made square: `crop` takes the centre, `letterbox` keeps the whole frame on black; see
`data.images.fit`."""
Fit = Literal["crop", "letterbox", "exact"]
"""How a given picture becomes a square frame: as in `FitMode`, or only if it is a square already."""
