"""The section `loss` of a config: the bound, the x0 term and the contrasts."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from cdcd_video.config.processes import Share
from cdcd_video.config.registries import CONTRAST_TERMS, WITH_FIELDS
from cdcd_video.config.section import Section
from cdcd_video.config.value_types import Count, NonNegative, Positive


class ContrastConfig(Section):
    """InfoNCE terms on e = embed(soft codes) [ours] (InfoNCE: van den Oord et al. 2018, eq. 4).

    Off by default; docs/experiments.md explains why.
    """

    frame_frame: NonNegative = 0.0
    """Weight of the frame-frame term: the sampled frame and its earlier frame are a positive pair."""
    frame_text: NonNegative = 0.0
    """Weight of the frame-text term: the sampled frame and its caption are a positive pair."""
    level: Literal["sample", "step"] = "sample"
    """`sample`: soft codes of x_0; `step`: of x_s, one step of the chain earlier than x_t."""
    temperature: Positive = 0.1
    learn_temperature: bool = False
    """Whether the temperature is learned, separately for each term, as in CLIP; `temperature` is its initial value."""
    symmetric: bool = False
    """Whether the loss is symmetric, as CLIP's: also from the positives to the sampled frames of the batch."""
    inter: bool = True
    """Whether the frame-frame term has the earlier frames of other clips as negatives."""
    far: bool = True
    """Whether the frame-frame term has a distant frame of the same clip as a negative."""
    shuffled: Annotated[int, Field(ge=0)] = 0
    """Number of frame-frame negatives made of the true frame: its codes with their chunks in another order."""
    num_chunks: Annotated[int, Field(ge=2, le=16)] = 8
    """Pieces for `shuffled`."""
    text_eye: Literal["frame", "step"] = "frame"
    """Embedding of the frame-text term: `frame`, the codec's `embed` of the sampled frame alone, or `step`, a head
    trained on true steps (stage `eye`) that also gets the frame before."""
    share: Share = 0.5
    """Share of the batch on which the terms are computed, to limit the cost."""
    placebo: bool = False
    """Whether the terms by cosines compare each sampled frame with the partners of another row of the batch, and never with its
    own: a gradient that cannot teach what belongs together, for ablations."""
    extra: dict[str, NonNegative] = {}  # noqa: RUF012 - pydantic copies it
    """Weights of further terms by name, of this project (docs/diffusion.md, section 9) or your own (docs/extending.md):
    `extra: {difference: 0.02}`; 0 is off."""

    @property
    def weights(self) -> dict[str, float]:
        """All terms that have a weight, by name."""
        weights = {"frame_frame": self.frame_frame, "frame_text": self.frame_text, **self.extra}
        return {name: weight for name, weight in weights.items() if weight}

    @field_validator("extra")
    @classmethod
    def _the_extra_terms_are_there(cls, extra: dict[str, float]) -> dict[str, float]:
        for name in extra:
            if name in WITH_FIELDS:
                raise ValueError(f"{name} has a weight of its own; set it as loss.contrast.{name}")
            if name not in CONTRAST_TERMS:
                CONTRAST_TERMS.load_all()  # one that should have registered it is found out here
                raise ValueError(CONTRAST_TERMS.unknown(name))
            CONTRAST_TERMS[name]  # reports a failed import now, and not after hours of other stages
        return extra

    @model_validator(mode="after")
    def _contrast_has_negatives(self) -> "ContrastConfig":
        if self.frame_frame and not (self.inter or self.far or self.shuffled):
            raise ValueError(
                "frame_frame has a weight but no negatives; enable inter or far, raise shuffled above 0, or set "
                "frame_frame to 0"
            )
        if self.frame_frame and self.symmetric and not self.inter:
            raise ValueError("symmetric compares frames of different clips; enable inter or disable symmetric")
        if self.placebo and self.symmetric:
            raise ValueError("placebo compares in one direction; set symmetric to false")
        if self.learn_temperature and self.temperature < 0.01:
            raise ValueError(
                f"temperature is {self.temperature}, but a learned one stays at or above 0.01; start at 0.01 or higher"
            )
        return self


class CdcdContrastConfig(Section):
    """CDCD's own contrastive loss, which subtracts the divergence to wrong codes [CDCD]. It is unbounded below,
    hence the tiny weights (upstream's: intra 5e-5, inter 5e-6).
    """

    intra: NonNegative = 0.0
    """Weight of negatives from the same frame: its chunks in another order."""
    intra_mode: Literal["step", "sample"] = "step"
    """`step` compares posteriors of x_s, `sample` predictions of x_0. In `step`, tokens whose x_0 is known do not count."""
    chunks: Literal["random", "shift"] = "random"
    """How chunks are put in another order; `shift` is one negative only."""
    num_chunks: Annotated[int, Field(ge=2, le=16)] = 8
    """Pieces that a frame's codes are cut into."""
    inter: NonNegative = 0.0
    """Weight of negatives from other samples of the batch."""
    inter_mode: Literal["step", "sample"] = "sample"
    num_negatives: Count = 10
    """M, the number of negatives of each kind."""


class LossConfig(Section):
    """L = bound + auxiliary + contrasts: the first two in nats per token, `contrast.frame_frame` and `contrast.frame_text` in
    nats per frame, further terms in the unit that each says."""

    bound: NonNegative = 0.5
    """Weight of the variational bound L_vb."""
    auxiliary: NonNegative = 1.0
    """Weight of the x0 term L_aux."""
    changed: NonNegative = 4.0
    """Weight of codes that change from source to target in L_aux, against 1 for those that stay."""
    still_clip: NonNegative = 0.3
    """Weight in L_aux of examples in which no code changes."""
    contrast: ContrastConfig = ContrastConfig()
    cdcd: CdcdContrastConfig = CdcdContrastConfig()
