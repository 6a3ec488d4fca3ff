"""What networks are conditioned on, the empty caption, and batches with and without captions for guidance."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cdcd_video.records import Grid, LastFrame, TextStates


@dataclass(frozen=True)
class Condition:
    """Everything that the denoiser is given besides x_t and t; code values instead of codes in the baseline on those."""

    source: Int[Tensor, "B N"] | Float[Tensor, "B P V"]
    first: Int[Tensor, "B N"] | Float[Tensor, "B P V"]
    has_first: Bool[Tensor, "B"]
    gap_s: Float[Tensor, "B"]
    age_s: Float[Tensor, "B"]
    text: TextStates
    negative: TextStates | None = None
    """Captions that guidance leads away from; None: the empty caption. Only guidance uses them."""
    last: LastFrame | None = None
    """The frame in which the video ends; None where none is given."""
    grid: Grid | None = None
    """Of the frames; None: the square grid that the network was built for."""


def of_rows(condition: Condition, rows: slice | Int[Tensor, "R"]) -> Condition:
    """The condition of some rows of a batch."""
    known = (condition.source, condition.first, condition.has_first, condition.gap_s, condition.age_s)
    source, first, has_first, gap_s, age_s = (value[rows] for value in known)
    last = condition.last and condition.last.of_rows(rows)
    text, grid = condition.text.of_rows(rows), condition.grid
    return Condition(source, first, has_first, gap_s, age_s, text, last=last, grid=grid)


def with_empty_captions(condition: Condition) -> Condition:
    """The condition twice, one batch after the other: with its captions, and without (Ho & Salimans 2022), or with the
    negative ones where it has some.
    """
    away = empty_text(condition.text) if condition.negative is None else condition.negative
    text = concatenated(condition.text, away)
    known = (condition.source, condition.first, condition.has_first, condition.gap_s, condition.age_s)
    source, first, has_first, gap_s, age_s = (torch.cat([value, value]) for value in known)
    twice = torch.arange(len(source), device=source.device) % len(condition.source)
    last = condition.last and condition.last.of_rows(twice)
    return Condition(source, first, has_first, gap_s, age_s, text, last=last, grid=condition.grid)


def concatenated(one: TextStates, other: TextStates) -> TextStates:
    """Two batches of captions, one after the other; the shorter captions are padded."""
    length = max(one.is_word.shape[1], other.is_word.shape[1])
    parts = [
        (
            nn.functional.pad(text.tokens, (0, 0, 0, length - text.tokens.shape[1])),
            nn.functional.pad(text.is_word, (0, length - text.is_word.shape[1])),
            text.embedding,
        )
        for text in (one, other)
    ]
    return TextStates(*(torch.cat(pair) for pair in zip(*parts, strict=True)))


def empty_text(text: TextStates) -> TextStates:
    """The empty caption, one word of zeros, in the shape of `text`."""
    is_word = torch.zeros_like(text.is_word)
    is_word[:, 0] = True
    return TextStates(torch.zeros_like(text.tokens), is_word, torch.zeros_like(text.embedding))


def with_dropped_captions(text: TextStates, share: float, uniforms: Float[Tensor, "B 1"]) -> TextStates:
    """Captions whose number in [0, 1) is below `share` become the empty caption."""
    is_dropped = uniforms < share
    empty = empty_text(text)
    return TextStates(
        torch.where(is_dropped[..., None], empty.tokens, text.tokens),
        torch.where(is_dropped, empty.is_word, text.is_word),
        torch.where(is_dropped, empty.embedding, text.embedding),
    )
