"""The contrastive terms of a training step: embedded soft codes, with positives and negatives from the batch.

A term is a function from `TermInputs` to `Comparison`, registered in `CONTRAST_TERMS` under the name that has a weight in the
config. InfoNCE, temperature, both directions and the share of the batch are the same for all terms.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cdcd_video.config import CONTRAST_TERMS, ContrastConfig
from cdcd_video.contrast.info_nce import batch_info_nce
from cdcd_video.contrast.negatives import reordered
from cdcd_video.contrast.temperature import held
from cdcd_video.diffusion.posterior import Posterior
from cdcd_video.networks.codec.frame_codec import CodeSpace
from cdcd_video.networks.step_encoder import StepTextEncoder
from cdcd_video.records import ALONE, CodePair, Collectives


@dataclass(frozen=True)
class Candidates:
    """Positives and negatives of the anchors; see `contrast.info_nce.batch_info_nce`."""

    positive: Float[Tensor, "B J"]
    is_negative: Bool[Tensor, "B M"]
    """Its columns are the rows of all processes that share the batch."""
    own: Float[Tensor, "B O J"] | None = None
    is_own_negative: Bool[Tensor, "B O"] | None = None


@dataclass(frozen=True)
class TermInputs:
    """What a term may use: this process's B rows of the compared share of the batch, `num_rows` over all processes."""

    soft_codes: Float[Tensor, "B N K"]
    """p(x_0 | x_t), or p(x_s | x_t), of the predicted frames, with gradient."""
    embedding: Float[Tensor, "B J"]
    """`codec.embed_soft(soft_codes)`: the predicted frames in the joint space."""
    batch: CodePair
    """The whole batch of this process; its first B rows are compared."""
    codec: CodeSpace
    cfg: ContrastConfig
    num_rows: int
    orders: Int[Tensor, "R M c"] | None = None
    """Orders of the chunks of shuffled negatives, if `frame_frame` has any."""
    step_encoder: StepTextEncoder | None = None
    reduce: Collectives = ALONE


@dataclass(frozen=True)
class Comparison:
    """Each anchor with its positive, against its negatives."""

    anchor: Float[Tensor, "B J"]
    candidates: Candidates


@dataclass(frozen=True)
class ContrastTerm:
    """One term of a batch.

    Attributes:
      weighted: the part of the loss, differentiable.
      nats: mean over the compared frames, before the weight.
      wins: share of them whose positive scores above all negatives; mean of both directions, if there are two.
      temperature: of the cosines.
    """

    weighted: Float[Tensor, ""]
    nats: Float[Tensor, ""]
    wins: Float[Tensor, ""]
    temperature: float | Float[Tensor, ""]


class Temperatures(nn.Module):
    """Learned temperatures, one for each term that has a weight, as log(1 / temperature) (Radford et al. 2021)."""

    def __init__(self, cfg: ContrastConfig):
        super().__init__()
        start = math.log(1 / cfg.temperature)
        self.log_scales = nn.ParameterDict({name: nn.Parameter(torch.tensor(start)) for name in weighted_terms_of(cfg)})

    def forward(self, name: str) -> Float[Tensor, ""]:
        """The temperature of a term. A scale beyond the largest is put back first, so that it can come down again."""
        return (-held(self.log_scales[name])).exp()


def weighted_terms_of(cfg: ContrastConfig) -> tuple[str, ...]:
    """Names of the terms that have a weight."""
    return tuple(cfg.weights)


def num_compared(cfg: ContrastConfig, num_rows: int) -> int:
    """How many rows of the whole batch the terms compare."""
    return max(2, round(cfg.share * num_rows))


def contrast_terms(
    logits: Float[Tensor, "B N K"],
    posterior: Posterior,
    batch: CodePair,
    codec: CodeSpace | None,
    cfg: ContrastConfig,
    temperatures: Temperatures | None,
    orders: Int[Tensor, "R M c"] | None,
    step_encoder: StepTextEncoder | None = None,
    reduce: Collectives = ALONE,
) -> dict[str, ContrastTerm]:
    """The terms that have a weight, on the first `cfg.share` of the batch [ours].

    Frame-frame: the positive is the earlier frame; negatives are the earlier frames of other clips (inter), a far frame
    of the same clip, and the true next frame with its chunks in other orders (intra). Excluded are negatives as good as
    the positive: a frame of the same clip, a far frame that equals the earlier one, an order that changes nothing.
    Frame-text: the positive is the clip's caption, negatives are other captions. The anchor is `embed` of the frame, or with
    `text_eye: step` the step from the true earlier frame. The positive is the true caption also where the model was
    conditioned on the empty one.

    Args:
      posterior: the posteriors of the step, for `level: step`.
      codec: frozen; embeds codes and soft codes.
      temperatures: where they are learned; else `cfg.temperature` holds.
      orders: of the chunks of shuffled negatives.
      step_encoder: frozen, for `text_eye: step`.

    Returns:
      The terms by name.
    """
    if not weighted_terms_of(cfg):
        return {}
    assert codec is not None, "a weighted contrast embeds soft codes, so it needs the codec"
    num_rows = num_compared(cfg, reduce.num_all(len(logits)))
    rows = reduce.num_own(num_rows)
    soft_codes = logits[:rows].float().softmax(-1)
    if cfg.level == "step":
        soft_codes = posterior.head(rows).code_distribution(soft_codes)
    inputs = TermInputs(
        soft_codes, codec.embed_soft(soft_codes), batch, codec, cfg, num_rows, orders, step_encoder, reduce
    )
    terms = {}
    for name, weight in cfg.weights.items():
        comparison = CONTRAST_TERMS[name](inputs)
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
        terms[name] = ContrastTerm(weight * nats, nats, wins, temperature)
    return terms


@CONTRAST_TERMS.register("frame_frame")
def frame_frame(inputs: TermInputs) -> Comparison:
    """The predicted frame and its earlier frame, against other clips, a far frame and shuffled chunks."""
    return Comparison(inputs.embedding, earlier_frames(inputs))


@CONTRAST_TERMS.register("frame_text")
def frame_text(inputs: TermInputs) -> Comparison:
    """The predicted frame, or the step to it, and its caption, against other captions."""
    batch, encoder, rows = inputs.batch, inputs.step_encoder, len(inputs.soft_codes)
    if encoder is None:
        return Comparison(inputs.embedding, captions(batch.text.embedding[:rows], inputs))
    values, source = inputs.codec.soft_values(inputs.soft_codes), inputs.codec.values(batch.source[:rows])
    step = encoder.encode_step(source, values, batch.gap_s[:rows])
    return Comparison(step, captions(encoder.encode_text(batch.text)[:rows], inputs))


def captions(embedding: Float[Tensor, "B J"], inputs: TermInputs) -> Candidates:
    """Positives and negatives of the frame-text term: equal captions are not each other's negatives."""
    caption = inputs.batch.caption[: len(embedding)]
    return Candidates(embedding, caption[:, None] != inputs.reduce.gather(caption, inputs.num_rows))


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


@torch.no_grad()
def earlier_frames(inputs: TermInputs) -> Candidates:
    """Positives and negatives of the frame-frame term; see `contrast_terms`."""
    batch, codec, cfg, reduce, rows = inputs.batch, inputs.codec, inputs.cfg, inputs.reduce, len(inputs.soft_codes)
    source, target, far, clip = (value[:rows] for value in (batch.source, batch.target, batch.far, batch.clip))
    own = [far[:, None]] if cfg.far else []
    is_wrong = [(far != source).any(1, keepdim=True)] if cfg.far else []
    if cfg.shuffled:
        assert inputs.orders is not None, "shuffled negatives need orders of the chunks"
        shuffled = reordered(target, inputs.orders)
        own.append(shuffled)
        is_wrong.append((shuffled != target[:, None]).any(-1) & (shuffled != source[:, None]).any(-1))
    is_other = (clip[:, None] != reduce.gather(clip, inputs.num_rows)) & cfg.inter
    if not own:
        return Candidates(codec.embed(source), is_other)
    codes = torch.cat([source[:, None], *own], 1)
    embedded = codec.embed(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
    return Candidates(embedded[:, 0], is_other, embedded[:, 1:], torch.cat(is_wrong, 1))
