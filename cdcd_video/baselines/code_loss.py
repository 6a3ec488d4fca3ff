"""What baselines that predict codes have in common in training: the condition of an example, and the loss of its true codes."""

from jaxtyping import Float
from torch import Tensor, nn

from cdcd_video.config import DiffusionConfig, LossConfig
from cdcd_video.networks.conditioning import Condition, with_dropped_captions
from cdcd_video.networks.step_inputs import masked_mean, noisy_source, token_weights, weight_sum
from cdcd_video.records import CodePair, Collectives, LossTerms, RowGenerator


def training_condition(batch: CodePair, cfg: DiffusionConfig, rows: RowGenerator) -> Condition:
    """The condition of a batch, with noise in the source and some captions dropped, as the denoiser is given it."""
    noise, uniforms = rows.rand(len(batch.source), 1), rows.rand(*batch.source.shape)
    source = noisy_source(batch.source, cfg.source_jitter, noise, uniforms, rows.reduce)
    text = with_dropped_captions(batch.text, cfg.caption_dropout, rows.rand(len(batch.target), 1))
    return Condition(source, batch.first, batch.has_first, batch.gap_s, batch.age_s, text, grid=batch.grid)


def cross_entropy_terms(
    logits: Float[Tensor, "B N K"], batch: CodePair, loss: LossConfig, reduce: Collectives, name: str
) -> LossTerms:
    """The weighted cross-entropy of the true codes, with the token weights of our L_aux.

    L = sum of w (-log p(x_0)) / sum of w.

    Args:
      logits: of the codes of the target.
      name: of the term.

    Returns:
      The loss in nats per token; and the term on all, on changed and on other tokens, and the share of changed tokens whose
      most likely code is right.
    """
    nll = nn.functional.cross_entropy(logits.transpose(1, 2), batch.target, reduction="none")
    weight = token_weights(batch, loss)
    total = (weight * nll).sum() / weight_sum(weight, reduce)
    changed = batch.target != batch.source
    parts = {
        name: nll.mean(),
        f"{name}_changed": masked_mean(nll, changed, reduce),
        f"{name}_still": masked_mean(nll, ~changed, reduce),
        "right_changed": masked_mean((logits.argmax(-1) == batch.target).float(), changed, reduce),
    }
    return LossTerms(total, {part: value.detach().float() for part, value in parts.items()})
