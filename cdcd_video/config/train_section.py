"""The section `train` of a config: the optimisation of every stage."""

from typing import Annotated, Literal

from pydantic import Field

from cdcd_video.config.processes import Share
from cdcd_video.config.section import Section
from cdcd_video.config.value_types import Count, NonNegative, Positive


class TrainConfig(Section):
    """One stage's optimisation: AdamW or Muon, a learning-rate schedule, and an exponential average of the weights."""

    num_steps: Count = 1000
    batch_size: Annotated[int, Field(ge=2)] = 32
    accumulate: Count = 1
    """Batches whose gradients are averaged into one step. Losses that are means behave as with one larger batch;
    contrastive terms still have the negatives of one small batch only."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for the matrices inside stacks of layers, AdamW for the rest."""
    muon_ratio: Positive = 1.0
    """Learning rate of Muon's matrices, as a multiple of `learning_rate`."""
    learning_rate: Positive = 1e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    schedule: Literal["cosine", "wsd"] = "cosine"
    """wsd: warm-up, then a stable rate, then decay (Hu et al. 2024): until the decay begins, the run does not depend on
    `num_steps`, so that it can be made longer without a loss."""
    decay_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    """Of `wsd`: the share of the steps, at the end, in which the rate falls in a straight line."""
    final_lr_ratio: Share = 0.02
    """Learning rate at the end, as a share of the peak."""
    weight_decay: NonNegative = 0.02
    clip_norm: Positive = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Type of matrix products: `auto` is bf16 where processor or GPU supports it, else fp32; fixed when a run
    begins."""
    log_every: Count = 50
    evaluate_every: Count = 1000
    checkpoint_every: Count = 500
    """Steps between checkpoints."""


class DenoiserTrainConfig(TrainConfig):
    """The denoiser's optimisation."""

    checkpoint_activations: bool = False
    """Whether each block is recomputed for its gradient: less memory, about a third more time, the same results."""
    compile: bool = False
    """Whether to use torch.compile for the blocks. The first step takes a minute or more, and last bits differ."""
    keep: Literal["last", "best"] = "last"
    """Which averaged weights the model gets: those of the last step, or those with the lowest validation bound of all
    evaluations (`evaluate_every`). With few clips a model learns them by heart, and the last step is not the best."""


class RefineConfig(DenoiserTrainConfig):
    """Training of the denoiser on its own samples."""

    num_steps: Annotated[int, Field(ge=0)] = 1000
    """0 leaves the stage out."""
    own_share: Share = 0.5
    """Share of examples whose source frame the model sampled itself, from the frame before."""
    generations: Annotated[int, Field(ge=1, le=8)] = 1
    """From step to step 1, 2, ... up to this many frames that the model samples itself, one from the other, before the
    source: as deep as in a roll-out. The baseline `autoregressive` samples one."""


class TrainStages(Section):
    """The stages, in order."""

    clip: TrainConfig = TrainConfig()
    codec: TrainConfig = TrainConfig()
    decoder: TrainConfig = TrainConfig()
    """The decoder alone, with fixed codes."""
    eye: TrainConfig = TrainConfig(num_steps=600, batch_size=64)
    """The step-text encoder, if `loss.contrast.text_eye` is `step`; otherwise skipped."""
    diffusion: DenoiserTrainConfig = DenoiserTrainConfig()
    refine: RefineConfig = RefineConfig()
    """The denoiser again, conditioned on its own samples as in a roll-out, against drift."""
