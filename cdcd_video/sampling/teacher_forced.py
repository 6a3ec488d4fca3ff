"""What a model makes of the true frames of a video, each given the true frame before it: likelihoods and cross-entropies."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cdcd_video.networks.conditioning import Condition
from cdcd_video.records import Grid, TextStates

BATCH = 16
"""Frames evaluated at a time. Fixed, since the random numbers of the estimate depend on it."""


Nats = Callable[[Condition, Int[Tensor, "B N"], torch.Generator], Float[Tensor, "B N"]]
"""Nats per token of codes under a condition: `Likelihood.nll` or `CodePrediction.code_nats`."""


def nats_of_true_frames(
    nats_of: Nats,
    codes: Int[Tensor, "F N"],
    text: TextStates,
    fps: float,
    stream: torch.Generator,
    grid: Grid | None = None,
) -> Float[Tensor, "F-1 N"]:
    """Nats of the codes of a frame, given those of the frame before it, the first frame, the caption and dt; from frame 1 on.

    Args:
      nats_of: of a model.
      text: its caption, a batch of one.
      grid: rows and columns of the frames' patches; None for the square grid.

    Returns:
      Nats per token.
    """
    found = []
    for later in torch.arange(1, len(codes), device=codes.device).split(BATCH):
        num = len(later)
        parts = (text.tokens, text.is_word, text.embedding)
        condition = Condition(
            source=codes[later - 1],
            first=codes[:1].repeat(num, 1),
            has_first=torch.ones(num, dtype=torch.bool, device=codes.device),
            gap_s=torch.full((num,), 1 / fps, device=codes.device),
            age_s=(later - 1).float() / fps,
            text=TextStates(*(part.repeat_interleave(num, 0) for part in parts)),
            grid=grid,
        )
        found.append(nats_of(condition, codes[later], stream))
    return torch.cat(found)
