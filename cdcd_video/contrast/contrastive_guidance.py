"""The contrast as guidance: what a model says of the codes, tilted up the slope of a contrastive score (Ouyang et al. 2023).

They add the gradient of a contrastive loss to the noise that a Gaussian model predicts. Codes have no noise to be bent,
but log-probabilities that can be tilted. With g the slope of the score at p(x_0 | x_t) and lambda the strength in nats,

    q(x_0 = k) ~ p(x_0 = k) exp(lambda g_k)        at every place of the frame.

Where the score is linear in the codes, q is p weighted by exp(lambda score), whole frames at a time, exactly; elsewhere it
is that to first order in q - p. Among all laws that are independent from place to place it has the highest
lambda <g, q> - KL(q | p) [ours]. The other way, to add lambda d score / d logits, is no reweighting of p: that slope holds
a factor p, so codes which the model thinks unlikely would hardly gain however much better they are.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cdcd_video.contrast.info_nce import info_nce

TEMPERATURE = 1.0
"""Of the guidance. The 0.1 of training is for a choice among many rows of a batch; against one row of cosine 0 it is
certain of the positive from a cosine of 0.5 on, and has no slope left to go by."""

ENOUGH = 0.5
"""A step is kept if the score rises by at least this share of what its slope promises (Armijo 1966)."""
MAX_HALVINGS = 24
"""Of a step that is too long; after so many it is given up."""

Score = Callable[[Float[Tensor, "B N K"]], Float[Tensor, "B"]]
"""Soft codes -> how good each frame is; every row by itself."""


def closeness(anchor: Float[Tensor, "B J"], positives: Sequence[Float[Tensor, "B J"]]) -> Float[Tensor, "B"]:
    """Minus the sum of InfoNCE between frames and each thing they should be close to.

    The negative is nothing in particular: the zero vector, which is the embedding of the empty caption here and has cosine
    0 with everything, as other clips and other sentences have on average in a space that is used evenly. It is the same
    for all, so a video's score does not depend on those that are drawn beside it.

    Args:
      anchor: unit-norm embeddings of frames.
      positives: unit-norm embeddings of what each frame should be close to, such as the earlier frame and the sentence.

    Returns:
      Nats, at most 0: -log(1 + exp(-cosine / TEMPERATURE)) for each positive, added. The gradient to the anchor has a norm
      of at most len(positives) / TEMPERATURE.
    """
    nothing = torch.zeros_like(anchor[:1])
    is_negative = torch.ones(len(anchor), 1, dtype=torch.bool, device=anchor.device)
    nats = (info_nce(anchor, positive, nothing, is_negative, TEMPERATURE)[0] for positive in positives)
    return -sum(nats, torch.zeros_like(anchor[:, 0]))


def tilted(logits: Float[Tensor, "B N K"], score: Score, strength: float) -> Float[Tensor, "B N K"]:
    """log p + strength * d score / d p, normalised: what the model says, tilted towards codes that score higher.

    A slope holds only nearby, and past that a longer step lowers the score it was to raise. So a row's step is halved
    until the score of the tilted soft codes rises by at least half of what the slope promises: any strength is safe,
    and no row is tilted to a lower score than it had. A linear score keeps every promise, and its steps whole.

    Args:
      logits: log-probabilities up to a constant; -inf stays -inf.
      score: with gradients to the soft codes. It is asked under `torch.enable_grad`, also inside `torch.no_grad`.
      strength: lambda, nats of log-probability per unit of score; 0 leaves the distribution as it is.

    Returns:
      Log-probabilities, detached.
    """
    log_p = torch.log_softmax(logits.detach(), -1)
    with torch.enable_grad():
        p = log_p.exp().requires_grad_()
        before = score(p)
        (slope,) = torch.autograd.grad(before.sum(), p)
    with torch.no_grad():
        before, p = before.detach(), p.detach()
        step = torch.full_like(before, strength)
        for _ in range(MAX_HALVINGS):
            log_q = torch.log_softmax(log_p + step[:, None, None] * slope, -1)
            q = log_q.exp()
            is_short = score(q) - before < ENOUGH * ((q - p) * slope).sum((1, 2))
            if not is_short.any():
                return log_q
            step = torch.where(is_short, step / 2, step)
        return torch.where(is_short[:, None, None], log_p, log_q)
