"""Upstream's unintended deviations, as switches. All are off by default, which is correct.

With them upstream's numbers can be reproduced to the last digit, and the effect of a deviation measured. `patches/README.md`
says where each is in upstream's code.
"""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Quirks:
    """Switches; `UPSTREAM` has them all on."""

    uniform_over_mask: bool = False
    """Chain: the uniform mass is divided by K + 1, though only K codes receive it, so that rows sum to less than 1 (in
    three of upstream's five copies). Right: by K."""
    first_step_unweighted: bool = False
    """Loss: the weights of masked and visible tokens are not applied at the first step. Right: at every step."""
    punish_truth: bool = False
    """Contrast: where a negative happens to hold the true code (one token in eight with permuted chunks), the truth is
    pushed away as well. Right: such tokens are left out."""
    shift_repeats_first: bool = False
    """Negatives, `shift`: the last two chunks both become the first one, and the last one is lost. Right: every chunk
    moves by one place, cyclically."""
    one_order_for_all: bool = False
    """Negatives, `random`: one order of the chunks serves the whole batch, and may be the order that was there. Right:
    each sample has its own, which is never that."""
    tail_stays: bool = False
    """Negatives: tokens beyond the last whole chunk never move. Right: chunks are as even as they can be."""


RIGHT = Quirks()
UPSTREAM = Quirks(**{field.name: True for field in fields(Quirks)})
