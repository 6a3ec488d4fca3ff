"""The contrastive terms that have a weight: their values, and their parts of the loss."""

from collections.abc import Callable
from dataclasses import replace

from jaxtyping import Float, Int
from torch import Tensor, nn

from cdcd_video.config import CONTRAST_TERMS, ContrastConfig
from cdcd_video.contrast.info_nce import batch_info_nce
from cdcd_video.contrast_terms.term_inputs import (
    Comparison,
    ContrastTerm,
    DenoisingStep,
    FrameLosses,
    Need,
    StepTerm,
    TermInputs,
)
from cdcd_video.diffusion.posterior import Posterior
from cdcd_video.errors import UserError
from cdcd_video.networks.codec.frame_codec import CodeSpace
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.step_encoder import StepTextEncoder
from cdcd_video.networks.step_inputs import masked_mean
from cdcd_video.records import ALONE, CodePair, Collectives

TemperatureOf = Callable[[str], Float[Tensor, ""]]
"""A term's name -> its learned temperature."""


def weighted_terms_of(cfg: ContrastConfig) -> tuple[str, ...]:
    """Names of the terms that have a weight."""
    return tuple(cfg.weights)


def cosine_terms_of(cfg: ContrastConfig) -> tuple[str, ...]:
    """Names of the terms that have a weight and compare cosines, so that they have a temperature of cosines."""
    return tuple(name for name in cfg.weights if not isinstance(CONTRAST_TERMS[name], StepTerm))


def needs_of(cfg: ContrastConfig) -> frozenset[Need]:
    """What the terms that have a weight need beside the logits."""
    terms = (CONTRAST_TERMS[name] for name in cfg.weights)
    return frozenset(need for term in terms if isinstance(term, StepTerm) for need in term.needs)


def heads_of(cfg: ContrastConfig, denoiser: nn.Module, space: CodeSpace) -> nn.ModuleDict:
    """Fresh heads of the terms that have a weight and train one, by name; none for a baseline, which has no such terms."""
    heads = nn.ModuleDict()
    for name in cfg.weights:
        term = CONTRAST_TERMS[name]
        if isinstance(term, StepTerm) and term.head is not None and isinstance(denoiser, Denoiser):
            heads[name] = term.head(denoiser, space)
    return heads


def num_compared(cfg: ContrastConfig, num_rows: int) -> int:
    """How many rows of the whole batch the terms compare."""
    return max(2, round(cfg.share * num_rows))


def contrast_terms(
    logits: Float[Tensor, "B N K"],
    posterior: Posterior | None,
    batch: CodePair,
    codec: CodeSpace | None,
    cfg: ContrastConfig,
    temperatures: TemperatureOf | None,
    orders: Int[Tensor, "R M c"] | None,
    step_encoder: StepTextEncoder | None = None,
    reduce: Collectives = ALONE,
    step: DenoisingStep | None = None,
) -> dict[str, ContrastTerm]:
    """The terms that have a weight, on the first `cfg.share` of the batch [ours].

    Frame-frame: the positive is the earlier frame; negatives are the earlier frames of other clips (inter), a far frame
    of the same clip, and the true next frame with its chunks in other orders (intra). Excluded are negatives as good as
    the positive: a frame of the same clip, a far frame that equals the earlier one, an order that changes nothing.
    Frame-text: the positive is the clip's caption, negatives are other captions. The anchor is `embed` of the frame, or with
    `text_eye: step` the step from the true earlier frame. The positive is the true caption also where the model was
    conditioned on the empty one. The other terms are described in their files.

    Args:
      posterior: the posteriors of the step, for `level: step` and for terms that leave known tokens out.
      codec: frozen; embeds codes and soft codes.
      temperatures: where they are learned; else `cfg.temperature` holds.
      orders: of the chunks of shuffled negatives.
      step_encoder: frozen, for `text_eye: step`.
      step: the call that gave the logits, for terms that need more than these.

    Returns:
      The terms by name; without those that need an earlier self where there is none.
    """
    if not weighted_terms_of(cfg):
        return {}
    assert codec is not None, "a weighted contrast reads code values, so it needs the codec"
    num_rows = num_compared(cfg, reduce.num_all(len(logits)))
    rows = reduce.num_own(num_rows)
    inputs = TermInputs(logits[:rows], posterior, batch, codec, cfg, num_rows, orders, step_encoder, reduce, step)
    terms = {}
    for name, weight in cfg.weights.items():
        term = CONTRAST_TERMS[name]
        if isinstance(term, StepTerm) and "reference" in term.needs and (step is None or step.reference is None):
            continue
        found = term(inputs)
        if isinstance(found, Comparison) and cfg.placebo:
            found = with_other_partners(found)
        if isinstance(found, FrameLosses):
            losses, wins = (_mean(values, found, num_rows, reduce) for values in (found.losses, found.wins))
            terms[name] = ContrastTerm(weight * found.scale * losses, losses, wins, None, found.reads)
        else:
            terms[name] = _by_cosines(found, weight, name, inputs, temperatures)
    return terms


def with_other_partners(comparison: Comparison) -> Comparison:
    """A placebo: each row's positive and own negatives, with the anchor of the row before it, which is of another example.

    Negatives are those of both rows, so that an anchor never meets its own partner. The rows are those of a process.

    Raises:
      UserError: there are fewer than two rows.
    """
    anchor, candidates = comparison.anchor, comparison.candidates
    if len(anchor) < 2:
        raise UserError(
            "loss.contrast.placebo exchanges the partners of two examples, and a process compares fewer; raise batch_size"
        )
    both = candidates.is_negative & candidates.is_negative.roll(1, 0)
    return Comparison(anchor.roll(1, 0), replace(candidates, is_negative=both))


def _by_cosines(
    comparison: Comparison, weight: float, name: str, inputs: TermInputs, temperatures: TemperatureOf | None
) -> ContrastTerm:
    cfg, num_rows, reduce = inputs.cfg, inputs.num_rows, inputs.reduce
    anchor, candidates = comparison.anchor, comparison.candidates
    temperature = cfg.temperature if temperatures is None else temperatures(name)
    nats, wins = batch_info_nce(
        anchor,
        candidates.positive,
        candidates.is_negative,
        temperature,
        candidates.own,
        candidates.is_own_negative,
        symmetric=cfg.symmetric,
        among=all_of(anchor, candidates.positive, num_rows, cfg.symmetric, reduce),
    )
    nats, wins = mean_of(nats, num_rows, reduce), mean_of(wins, num_rows, reduce)
    return ContrastTerm(weight * nats, nats, wins, temperature)


def _mean(values: Tensor, found: FrameLosses, num_rows: int, reduce: Collectives) -> Tensor:
    if found.is_compared is None:
        return mean_of(values, num_rows, reduce)
    return masked_mean(values, found.is_compared, reduce)


def all_of(
    anchor: Float[Tensor, "B J"],
    positive: Float[Tensor, "B J"],
    num_rows: int,
    symmetric: bool,
    reduce: Collectives = ALONE,
) -> tuple[Float[Tensor, "M J"] | None, Float[Tensor, "M J"]] | None:
    """Anchors (if `symmetric`) and positives of all processes; None with one process."""
    if reduce.size == 1:
        return None
    anchors = reduce.gather(anchor, num_rows) if symmetric else None
    return anchors, reduce.gather(positive, num_rows)


def mean_of(values: Float[Tensor, "B"], num_rows: int, reduce: Collectives = ALONE) -> Float[Tensor, ""]:
    """This process's part of a mean over `num_rows` rows: its mean over the processes is that mean."""
    return values.mean() if reduce.size == 1 else values.sum() * (reduce.size / num_rows)
