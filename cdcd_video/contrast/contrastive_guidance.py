"""Contrastive guidance: tilts the model's distribution along the gradient of a contrastive score (Ouyang et al. 2023).

They add the gradient of a contrastive loss to the noise that a Gaussian model predicts; with codes, log-probabilities are
tilted instead. With g the gradient of the score at p(x_0 | x_t) and lambda the strength in nats,

    q(x_0 = k) ~ p(x_0 = k) exp(lambda g_k)        at every place of the frame.

If the score is linear in the codes, q is p weighted by exp(lambda score) over whole frames, exactly; otherwise to first order
in q - p. Among all distributions that are independent from place to place it has the highest lambda <g, q> - KL(q | p)
[ours]. Adding lambda d score / d logits instead is no reweighting of p: that gradient has a factor p, so codes which the
model finds unlikely would hardly gain, however much better they are.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cdcd_video.contrast.info_nce import info_nce

TEMPERATURE = 1.0
"""Of the guidance. The 0.1 of training is for many negatives; with one negative of cosine 0 the loss would be flat from a
cosine of 0.5 on."""

ENOUGH = 0.5
"""A step is accepted if the score rises by at least this share of what its gradient predicts (Armijo 1966)."""
MAX_HALVINGS = 24
"""Of a step that is too long; after so many there is no step."""

Score = Callable[[Float[Tensor, "B N K"]], Float[Tensor, "B"]]
"""Soft codes -> score of each frame, independent of the other rows."""


def closeness(anchor: Float[Tensor, "B J"], positives: Sequence[Float[Tensor, "B J"]]) -> Float[Tensor, "B"]:
    """Minus the sum of InfoNCE between frames and each embedding that they should be close to.

    The only negative is the zero vector, which is the embedding of the empty caption here. Its cosine with everything is 0,
    as that of other clips and captions is on average. A video's score therefore does not depend on its batch.

    Args:
      anchor: unit-norm embeddings of frames.
      positives: unit-norm embeddings that each frame should be close to, such as the earlier frame and the caption.

    Returns:
      Nats, at most 0: -log(1 + exp(-cosine / TEMPERATURE)) for each positive, added. The gradient to the anchor has a norm
      of at most len(positives) / TEMPERATURE.
    """
    nothing = torch.zeros_like(anchor[:1])
    is_negative = torch.ones(len(anchor), 1, dtype=torch.bool, device=anchor.device)
    nats = (info_nce(anchor, positive, nothing, is_negative, TEMPERATURE)[0] for positive in positives)
    return -sum(nats, torch.zeros_like(anchor[:, 0]))


def tilted(logits: Float[Tensor, "B N K"], score: Score, strength: float) -> Float[Tensor, "B N K"]:
    """log p + strength * d score / d p, normalised: the model's distribution, tilted towards codes that score higher.

    The gradient is valid only nearby, and too long a step lowers the score. A row's step is therefore halved until the score
    of the tilted soft codes rises by at least half of what the gradient predicts. Any strength is safe, and no row ends
    with a lower score. With a linear score no step is halved.

    Args:
      logits: log-probabilities up to a constant; -inf stays -inf.
      score: differentiable in the soft codes; called under `torch.enable_grad`, also inside `torch.no_grad`.
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
