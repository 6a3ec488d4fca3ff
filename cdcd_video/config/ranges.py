"""The range of every sampling setting, for the command line, Python, a config's section `sample` and the `.json` of a
video. Imports no torch.
"""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import Field
from pydantic.fields import FieldInfo

from cdcd_video.errors import UserError

MAX_CAPTION_CHARACTERS = 2_000
"""A longer caption is a mistake (a whole document pasted in), not a sentence about a video."""
MAX_CAPTIONS = 1_000
"""Captions of a video."""
MAX_CAPTION_FRAME = 10**9 - 1
"""The last frame that a caption may begin at: nine digits, as on the command line."""
MAX_SIZE_PX = 4_096
"""Side of the largest frames."""
MAX_THREADS = 1_024
"""Processor cores of the largest machines; a process with a hundred times as many threads crashes."""


@dataclass(frozen=True)
class Range:
    """The allowed values of a setting: from `low` to `high`, without `low` if the range is open below."""

    low: float
    high: float
    is_whole: bool = False
    is_open: bool = False
    words: str = ""
    """The range as text, where its bounds would be hard to read."""

    def __str__(self) -> str:
        from_to = f"above {self.low:g} and at most {self.high:g}" if self.is_open else f"from {self.low} to {self.high}"
        return self.words or from_to

    @property
    def kind(self) -> str:
        """What a value must be, in words."""
        return "a whole number" if self.is_whole else "a number"

    @property
    def field(self) -> FieldInfo:
        """The same, for a field of a pydantic model."""
        return Field(le=self.high, gt=self.low) if self.is_open else Field(le=self.high, ge=self.low)

    def holds(self, value: Any) -> bool:
        """Whether a value is in the range; False for NaN and for everything that is not a number."""
        kind: type[Any] = numbers.Integral if self.is_whole else numbers.Real
        if not isinstance(value, kind) or isinstance(value, bool):
            return False
        return bool((self.low < value if self.is_open else self.low <= value) and value <= self.high)


RANGES = MappingProxyType(
    {
        "num_frames": Range(1, 10_000, is_whole=True),
        "fps": Range(0.1, 240),  # a .gif cannot show a frame for longer than eleven minutes
        "num_steps": Range(1, 1000, is_whole=True),
        "guidance": Range(0, 100),
        "temperature": Range(0, 10),
        "top_p": Range(0, 1, is_open=True),
        "top_k": Range(0, 10_000_000, is_whole=True),
        "contrast": Range(0, 10_000),
        "lookback_s": Range(0, 60),
        "longest_gap_s": Range(0, 60),
        "seed": Range(0, 2**63 - 1, is_whole=True, words="from 0 to 2**63 - 1"),
        "scale": Range(1, 32, is_whole=True),
        "threads": Range(1, MAX_THREADS, is_whole=True),
    }
)
"""By the name of the setting."""


def plain_number(value: Any, *, is_whole: bool = False) -> Any:
    """A number as Python's own: of NumPy or torch, also as an array without axes, and whole where it must be.

    Args:
      value: anything; what is no such number comes back as it is.
      is_whole: whether a float without a fraction, such as 2 * 8.0 frames, becomes an int.
    """
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, bool | float):
        value = float(value)  # a fraction, such as PyAV has for a frame rate
    if is_whole and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def check_settings(given: Mapping[str, Any]) -> None:
    """Refuses values out of their range; names without a range are ignored.

    Raises:
      UserError: names the setting, its value and its range.
    """
    for name, value in given.items():
        if name in RANGES and not RANGES[name].holds(value):
            is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            of_kind = is_number and (not RANGES[name].is_whole or isinstance(value, numbers.Integral))
            shown = f"the text {value}" if isinstance(value, str) else value
            raise UserError(f"{name} is {shown}; it must be {'' if of_kind else f'{RANGES[name].kind} '}{RANGES[name]}")


def check_sentences(pairs: Sequence[tuple[int, str]]) -> None:
    """Refuses too many captions, captions that are too long, and captions that begin too late.

    Args:
      pairs: the frame from which a sentence holds, and the sentence.

    Raises:
      UserError: says which bound was met.
    """
    if len(pairs) > MAX_CAPTIONS:
        raise UserError(f"there are {len(pairs)} captions; a video can have at most {MAX_CAPTIONS}")
    for frame, sentence in pairs:
        if not 0 <= frame <= MAX_CAPTION_FRAME:
            raise UserError(f"a caption begins at frame {frame}; it must be from 0 to {MAX_CAPTION_FRAME}")
        if len(sentence) > MAX_CAPTION_CHARACTERS:
            raise UserError(
                f"the caption has {len(sentence)} characters; at most {MAX_CAPTION_CHARACTERS} are accepted, a sentence is"
                " enough"
            )
