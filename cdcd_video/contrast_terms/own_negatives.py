"""Own samples as negatives, token by token: the true code likelier, and the earlier self's samples less likely, than before."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from cdcd_video.config import CONTRAST_TERMS
from cdcd_video.contrast_terms.term_inputs import FrameLosses, StepTerm, TermInputs


def likelihood_ratio_loss(
    log_p: Float[Tensor, "B N K"], log_reference: Float[Tensor, "B N K"], x0: Int[Tensor, "B N"]
) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N"]]:
    """-log s(r(x_0)) - E[log s(-r(x'))] of each token, with r = log p / p_ref, x' ~ p_ref and s the logistic function.

    Direct discriminative optimization (Zheng et al. 2025): the ratio is the discriminator between data and samples of the
    reference, and the loss is least where p is the distribution of the data. Theirs is of whole images, this is of tokens
    given x_t, which the model samples independently of each other. One step of the reference therefore has K outcomes per token,
    and the mean over its samples is summed exactly instead of being sampled [ours].

    Args:
      log_p: log p(x_0 | x_t) of the model.
      log_reference: of the frozen reference, at the same x_t and condition.
      x0: true codes.

    Returns:
      Nats of each token (2 log 2 where model and reference agree), and its r(x_0).
    """
    ratio = log_p - log_reference
    of_truth = ratio.gather(-1, x0[..., None])[..., 0]
    return softplus(-of_truth) + (log_reference.exp() * softplus(ratio)).sum(-1), of_truth


def own_negatives(inputs: TermInputs) -> FrameLosses:
    """`likelihood_ratio_loss` against the model as it was when the stage began; nats per token.

    Tokens whose x_0 follows from x_t count as 0. A frame wins if the model finds it likelier than the earlier self did.
    """
    rows = len(inputs.logits)
    log_p = inputs.logits.float().log_softmax(-1)
    log_reference = inputs.training_step.reference_logits(rows).float().log_softmax(-1)
    nats, ratio = likelihood_ratio_loss(log_p, log_reference, inputs.batch.target[:rows])
    return FrameLosses((nats * inputs.is_open).mean(1), ((ratio * inputs.is_open).sum(1) > 0).to(nats.dtype))


CONTRAST_TERMS.register("own_negatives")(StepTerm(own_negatives, frozenset({"reference"})))
