"""Captions of a video: one sentence, or several that begin at given frames."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cdcd_video.config.ranges import check_sentences
from cdcd_video.config.wording import quoted
from cdcd_video.errors import UserError, is_text

Caption = str | Sequence[tuple[int, str]]
"""One sentence, or (frame, sentence) pairs: the sentence that holds from that frame on."""

_NEXT_TURN = re.compile(r"\n(?=[^\S\n]*\d{1,9}:(?!\d))")
# No digit behind the colon: "3:30 pm" and "16:9" are words of a sentence.
_FROM_FRAME = re.compile(r"\s*(\d{1,9}):(?!\d)(.*)", re.DOTALL)


@dataclass(frozen=True)
class CaptionSchedule:
    """A parsed caption."""

    turns: tuple[tuple[int, str], ...]
    """(first frame, sentence), in order; the first begins at frame 0."""
    is_sentence: bool = field(default=False, compare=False)
    """Whether it was given as one sentence, without frames."""

    @classmethod
    def of(cls, caption: "Caption | CaptionSchedule") -> "CaptionSchedule":
        """The schedule of a caption; one that is a schedule already is returned as it is.

        Raises:
          UserError: no caption; no sentence for the beginning, two for one frame, a frame below 0, or text that is not UTF-8.
        """
        if isinstance(caption, CaptionSchedule):
            return caption
        try:
            pairs: list[tuple[int, Any]] = (
                [(0, caption)] if isinstance(caption, str) else sorted((int(frame), text) for frame, text in caption)
            )
        except (TypeError, ValueError, OverflowError):
            pairs = [(0, caption)]  # whatever it is
        for _, text in pairs:
            if not isinstance(text, str):
                raise UserError(
                    f'the caption is of the type {type(text).__name__}; give a sentence, or [(0, "first sentence"), (8, "next'
                    ' sentence")]'
                )
        if not all(is_text(text) for _, text in pairs):
            raise UserError("the caption is not valid text; give it in UTF-8")
        if not pairs:
            raise UserError('no caption is given; describe what should happen, as in "the red circle moves right"')
        frame, first = pairs[0]
        if frame != 0:
            raise UserError(
                f"the first caption, {first!r}, begins at frame {frame}; one must begin at frame 0, as in"
                f' "0: ..." and "8: ..."; if "{frame}:" is part of the caption, write "0: {frame}: ..."'
            )
        for (frame, sentence), (other, later) in itertools.pairwise(pairs):
            if frame == other:
                raise UserError(
                    f"two captions begin at frame {frame}, {quoted(sentence)} and {quoted(later)}; give each a frame of its own"
                    ' as a whole number, as in "0: ..." and "8: ..."'
                )
        return cls(tuple(pairs), is_sentence=isinstance(caption, str))


def parse_captions(texts: Sequence[str]) -> CaptionSchedule:
    """`--text` as typed.

    Args:
      texts: sentences; one that begins with a number and a colon, as in "8: it stops", holds from that frame on. With a
        digit behind the colon, as in "3:30 pm ...", the number belongs to the sentence; before any other such sentence
        the frame is written too: "0: 8: it stops" says "8: it stops" from frame 0 on.

    Raises:
      UserError: an empty caption, more, longer or later ones than any video has, or see `CaptionSchedule.of`.
    """
    numbered = [(_FROM_FRAME.fullmatch(text), text) for text in texts]
    found = CaptionSchedule.of([(int(match[1]), match[2].strip()) if match else (0, text) for match, text in numbered])
    check_sentences(found.turns)
    if not all(sentence.strip() for _, sentence in found.turns):
        raise UserError('the caption is empty; describe what should happen, as in "the red circle moves right"')
    return found


def parse_lines(text: str) -> CaptionSchedule:
    """The captions of a text field: a line such as "8: it stops" begins a caption, and any other line goes on with the last one.

    Raises:
      UserError: see `parse_captions`.
    """
    return parse_captions([" ".join(part.split()) for part in _NEXT_TURN.split(text.strip())])
