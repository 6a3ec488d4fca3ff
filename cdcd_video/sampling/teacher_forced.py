"""The likelihood of the true frames of a video, each given the true frame before it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cdcd_video.networks.conditioning import Condition
from cdcd_video.networks.next_frame import Likelihood
from cdcd_video.records import TextStates

BATCH = 16
"""Frames evaluated at a time. Fixed, since the random numbers of the estimate depend on it."""


def nll_of_true_frames(
    model: Likelihood, codes: Int[Tensor, "F N"], text: TextStates, fps: float, stream: torch.Generator
) -> Float[Tensor, "F-1 N"]:
    """-log p(codes of a frame | codes of the frame before it, first frame, caption, dt), from frame 1 on.

    Args:
      text: its caption, a batch of one.

    Returns:
      Nats per token; see `Likelihood.nll`.
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
        )
        found.append(model.nll(condition, codes[later], stream))
    return torch.cat(found)
