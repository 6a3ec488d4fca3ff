"""Counterfactual sentences as negatives: the true frame is likelier under its own sentence than under another one."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cdcd_video.config import CONTRAST_TERMS
from cdcd_video.contrast_terms.term_inputs import FrameLosses, StepTerm, TermInputs


def sentence_nats(
    right: Float[Tensor, "B"], wrong: Float[Tensor, "B M"], is_wrong: Bool[Tensor, "B M"]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """-log of the posterior probability of the right sentence, all being equally likely before.

    InfoNCE over sentences at the same x_t and t, as SoftREPA has it (Lee et al. 2025), with the log-likelihood itself as the
    score, so that the model is its own classifier (Li et al. 2023). Where a sentence and its wrong one are as likely to come
    the other way round, the true likelihoods minimise the mean, as they do the bound. That is why it is not the loss of CCA
    (Chen et al. 2025a), whose optimum is the model sharpened as by guidance, and which needs a reference model.

    Args:
      right: log p(x_0 | x_t, the right sentence), nats per frame.
      wrong: the same under M other sentences.
      is_wrong: which of them count.

    Returns:
      Nats of each frame, at least 0, and 1.0 where the right sentence is the likeliest. Without a wrong sentence a frame has
      loss 0 and wins.
    """
    others = wrong.masked_fill(~is_wrong, float("-inf"))
    nats = torch.cat([right[:, None], others], 1).logsumexp(1) - right
    return nats, (right[:, None] > others).all(1).to(nats.dtype)


def counterfactual(inputs: TermInputs) -> FrameLosses:
    """The posterior of the right sentence against one wrong sentence, which costs one more pass; nats per token, as the bound.

    Compared are fully corrupted examples only, those at t = 1. Where x_t still shows the frame, it makes the right sentence the
    likelier one before x_0 is compared, and the loss would have another optimum. Nor are those compared whose caption was
    dropped: the model was not told the right sentence.
    """
    batch, step, num = inputs.batch, inputs.training_step, len(inputs.logits)
    assert batch.counterfactual is not None, "the term counterfactual needs a wrong sentence for each example"
    is_compared = (batch.counterfactual.is_wrong & step.has_caption & (step.t == 1))[:num]
    rows = is_compared.nonzero()[:, 0]
    if len(rows) == 0:  # in several processes every step must use the same weights, also where nothing is compared
        rows = torch.zeros(1, dtype=torch.long, device=rows.device)
    logits, target = step.logits_with(batch.counterfactual.text.of_rows(rows), rows), batch.target[rows, :, None]
    right, wrong = (one.float().log_softmax(-1).gather(-1, target).sum((1, 2)) for one in (inputs.logits[rows], logits))
    found = sentence_nats(right, wrong[:, None], is_compared[rows, None])
    nats, wins = (right.new_zeros(num).index_put((rows,), values) for values in found)
    return FrameLosses(nats / target.shape[1], wins, is_compared, reads=(logits,))


CONTRAST_TERMS.register("counterfactual")(StepTerm(counterfactual, frozenset({"counterfactual"})))
