"""The range of every dial of a drawing, said once: for the command line, for Python, for a config's section `sample`, and for
the `.json` of a stranger's video. Imports no torch.
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
"""Sentences that may follow one another in a video."""
MAX_CAPTION_FRAME = 10**9 - 1
"""The last frame that a sentence may begin at: nine digits, as on the command line."""
MAX_SIZE_PX = 4_096
"""Side of the largest frames."""
MAX_THREADS = 1_024
"""Processor cores of the largest machines; a hundred times as many end the process that asks for them."""


@dataclass(frozen=True)
class Range:
    """The numbers that a dial may be turned to, `low` and `high` among them (but for `low` where the range is open below)."""

    low: float
    high: float
    is_whole: bool = False
    is_open: bool = False
    words: str = ""
    """Where bounds alone would be hard to read."""

    def __str__(self) -> str:
        from_to = f"above {self.low:g} and at most {self.high:g}" if self.is_open else f"from {self.low} to {self.high}"
        return self.words or from_to

    @property
    def field(self) -> FieldInfo:
        """The same, for a field of a pydantic model."""
        return Field(le=self.high, gt=self.low) if self.is_open else Field(le=self.high, ge=self.low)

    def holds(self, value: Any) -> bool:
        """Whether the dial may stand there; of what is no number, and of NaN, it is not so."""
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
        "seed": Range(0, 2**63 - 1, is_whole=True, words="from 0 to 2**63 - 1"),
        "scale": Range(1, 32, is_whole=True),
        "threads": Range(1, MAX_THREADS, is_whole=True),
    }
)
"""By the name of the dial."""


def check_settings(given: Mapping[str, Any]) -> None:
    """Refuses what is out of range; a name that has no range is let be.

    Raises:
      UserError: names the dial, its value and its range.
    """
    for name, value in given.items():
        if name in RANGES and not RANGES[name].holds(value):
            raise UserError(f"{name} is {value}; it must be {RANGES[name]}")


def check_sentences(pairs: Sequence[tuple[int, str]]) -> None:
    """Refuses more sentences, longer ones, or later ones than any video has.

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
