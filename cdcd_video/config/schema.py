"""The schema of a config: every setting with its type, range, unit and source. Nothing here imports torch.

Variants are tagged unions (`kind: ...`), so that meaningless combinations cannot be expressed. Files are read by
`cdcd_video.config.config_file`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from cdcd_video.config.baselines import BASELINES
from cdcd_video.config.processes import PROCESSES, MaskProcess, Share
from cdcd_video.config.ranges import MAX_SIZE_PX, MAX_THREADS, RANGES
from cdcd_video.config.registries import CONTRAST_TERMS, AnyOf, BaselineSection, ProcessSection
from cdcd_video.config.sampling_params import FrameRate, SamplingParams
from cdcd_video.config.section import Section
from cdcd_video.errors import UserError

Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
MAX_CLIPS = 10_000_000
"""As many as the largest datasets of videos have; the number of clips is limited, because they are enumerated."""
MAX_LAYERS = 1_024
"""Several times the depth of the deepest networks; building more would not end."""
Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]
SizePx = Annotated[int, Field(ge=16, le=MAX_SIZE_PX)]


FitMode = Literal["crop", "letterbox"]
"""How frames are made square: `crop` takes the centre, `letterbox` keeps the whole frame on black; see
`data.images.fit`."""

# ---------------------------------------------------------------------------------------------------------- data


class RenderedData(Section):
    """A world that is rendered when needed; nothing but its settings names it."""

    is_rendered: ClassVar[bool] = True
    mode: ClassVar[FitMode] = "crop"
    """How starting frames are made square."""


class SpritesData(RenderedData):
    """The built-in procedural world; nothing is read from disk."""

    kind: Literal["sprites"] = "sprites"
    num_clips: Annotated[int, Field(ge=1, le=MAX_CLIPS)] = 6000
    """Training clips, rendered when needed."""
    num_val_clips: Annotated[int, Field(ge=1, le=MAX_CLIPS)] = 256
    """Validation clips: seen combinations, unseen scenes."""
    num_frames: Annotated[int, Field(ge=2, le=RANGES["num_frames"].high)] = 16
    """Frames per clip."""
    size_px: SizePx = 64
    fps: FrameRate = 8.0
    max_objects: Annotated[int, Field(ge=1, le=2)] = 2
    two_object_share: Share = 0.4
    """Share of clips with two objects (where `max_objects` is 2)."""
    motions: tuple[str, ...] | None = None
    """Motion words to use; None for all."""
    backgrounds: tuple[str, ...] | str | None = None
    """Kinds of background to use; None for all. In the worlds v2 and open also a folder of pictures, used beside all kinds."""
    world: Literal["v1", "v2", "open"] = "v1"
    """v2: grounds from black to white, outlines, unsteady contours, shades of the colours. open: v2, and half of the captions
    leave the direction out. v1: the first world, frozen."""
    frame_times: Literal["even", "uneven"] = "even"
    """Of the training clips. uneven: instants at random, close together and far apart, so that any frame rate is learned."""
    scene_seed: int = 0
    """Seed of the scenes; separate from the training seed, so that two runs can share the data."""


class DigitsData(RenderedData):
    """The captioned moving digits of Sync-DRAW and MAGE, rendered from MNIST's files."""

    kind: Literal["digits"] = "digits"
    path: str | None = None
    """Folder with MNIST's four files; None for a few digits drawn by this project, of which no figures may be reported."""
    protocol: Literal["sync-draw-single", "sync-draw-double", "mage-single", "mage-double", "mage-modified"] = (
        "mage-modified"
    )
    """The published world: its digits, speeds, starts, sentences and held-out combinations."""
    num_clips: Annotated[int, Field(ge=1, le=MAX_CLIPS)] = 24_000
    """Training clips, rendered when needed."""
    num_val_clips: Annotated[int, Field(ge=1, le=MAX_CLIPS)] = 256
    """Validation clips: held-out combinations of digits and axes."""
    size_px: Literal[64] = 64
    fps: FrameRate = 8.0
    """Frames per second; the protocols know frames only."""
    scene_seed: int = 0
    """Seed of the clips; separate from the training seed, so that two runs can share the data."""


class FolderData(Section):
    """Clips prepared by `python -m data_prep`."""

    is_rendered: ClassVar[bool] = False

    kind: Literal["folder"] = "folder"
    path: str
    """The prepared folder."""
    size_px: SizePx = 64
    """Must agree with the prepared folder."""
    mode: FitMode = "crop"
    """Must agree with the prepared folder. Starting frames are treated in the same way."""
    max_frames_per_clip: Count = 64
    """Frames of each clip that are encoded, from its beginning."""


class LatentsData(Section):
    """Codes and caption states made by `python -m data_prep encode`; training needs neither pixels nor CLIP.

    The stages on codes can be trained: eye, diffusion, refine.
    """

    is_rendered: ClassVar[bool] = False
    kind: Literal["latents"] = "latents"
    path: str
    """The cache."""
    size_px: SizePx = 64
    """Side of the frames that were encoded."""
    mode: FitMode = "crop"
    """How the frames were made square; starting frames are treated in the same way."""


Data = Annotated[SpritesData | DigitsData | FolderData | LatentsData, Field(discriminator="kind")]

# ---------------------------------------------------------------------------------------------------------- CLIP


class ClipConfig(Section):
    """The built-in CLIP, trained by the same engine on the same clips."""

    kind: Literal["builtin"] = "builtin"
    patch_size: Count = 8
    """Pixels per patch side."""
    vision_width: Annotated[int, Field(ge=32, multiple_of=32)] = 192
    vision_layers: Layers = 4
    text_width: Annotated[int, Field(ge=32, multiple_of=32)] = 128
    text_layers: Layers = 3
    joint_width: Count = 128
    """Width J of the joint space."""
    vocabulary: Annotated[int, Field(ge=260)] = 512
    """Token ids of the byte-level BPE, special tokens included."""
    max_tokens: Annotated[int, Field(ge=4)] = 48
    """Longest caption in tokens, start and end included."""


class PretrainedClip(Section):
    """A pretrained CLIP, used unchanged. Short form: `clip: openai/clip-vit-base-patch16`, or a folder's path."""

    shorthand: ClassVar[str] = "folder"

    kind: Literal["pretrained"] = "pretrained"
    folder: Annotated[str, Field(min_length=1)]
    """A folder of `save_pretrained` or an OpenCLIP export; or the name of a published CLIP in the Hub's cache."""


Clip = Annotated[ClipConfig | PretrainedClip, Field(discriminator="kind")]

# --------------------------------------------------------------------------------------------------------- codec


class FsqConfig(Section):
    """Finite scalar quantisation (Mentzer et al. 2024): each code is a point of a small fixed grid."""

    kind: Literal["fsq"] = "fsq"
    levels: tuple[Annotated[int, Field(ge=2)], ...] = (8, 6, 5)
    """Grid points per digit; K is their product."""


class VqConfig(Section):
    """Vector quantisation with a learned codebook by exponential averages (van den Oord et al. 2017, appendix A.1)."""

    kind: Literal["vq"] = "vq"
    num_codes: Annotated[int, Field(ge=2)] = 256
    width: Count = 3
    """Width of a code vector."""


Quantizer = Annotated[FsqConfig | VqConfig, Field(discriminator="kind")]


class CodecConfig(Section):
    """Pixels <-> codes: CLIP patch states -> projection -> quantiser -> decoder that also sees the starting frame."""

    layers: tuple[Annotated[int, Field(ge=0)], ...] = (0, 2, 4)
    """CLIP layers whose patch states are used; 0 is the patch embedding. The last layer alone loses visual detail."""
    projection_width: Count = 192
    groups: Count = 3
    """Codes per patch. N = patches x groups."""
    quantizer: Quantizer = FsqConfig()
    decoder_width: Annotated[int, Field(ge=32, multiple_of=32)] = 160
    decoder_layers: Layers = 3
    pixel_width: Count = 24
    """Channels of the convolutions at full resolution."""
    embed_width: Annotated[int, Field(ge=32, multiple_of=32)] = 96
    """Width of the `embed` head (codes -> joint space)."""
    change_weight: NonNegative = 4.0
    """Extra weight of pixels that differ from the starting frame."""
    still_weight: NonNegative = 1.0
    """Weight of the consistency term: patches that do not change between two frames should keep their latents."""
    still_tolerance: Annotated[float, Field(ge=0.0, le=255.0)] = 3.0
    """Largest difference at which a patch counts as unchanged, mean over its pixels in levels of 255; 0: identical.
    With 0 hardly any patch of a real clip counts, because of compression and noise."""
    embed_weight: NonNegative = 0.2
    """Weight of 1 - cosine between `embed(codes)` and CLIP's own embedding of the frame."""
    frame_frame: NonNegative = 0.0
    """Weight of InfoNCE on the latents: two frames of a clip are a positive pair, other clips are negatives."""
    frame_text: NonNegative = 0.0
    """Weight of InfoNCE on the latents: a frame and its caption are a positive pair, other captions are negatives."""
    temperature: Positive = 0.1
    """Of these two terms."""


class PictureConfig(Section):
    """Loss terms of decoded frames besides L1 and L2; off by default. In the stage decoder they do not affect the
    codes."""

    perceptual: NonNegative = 0.0
    """Weight of LPIPS (Zhang et al. 2018) in the stages codec and decoder; the weights of its network must be
    downloaded."""
    trunk: Literal["alex", "vgg"] = "vgg"
    """Network whose features LPIPS compares."""
    adversarial: NonNegative = 0.0
    """Weight of an adversarial loss (Isola et al. 2017) in the stage decoder, where the codes are fixed."""
    critic_width: Count = 64
    """Channels of the critic's first layer."""
    sees_start: bool = True
    """Whether the decoder gets the starting frame; otherwise it gets plain grey, and the codes must contain
    everything."""


# ----------------------------------------------------------------------------------------------------- diffusion


Process = Annotated[ProcessSection, AnyOf(PROCESSES)]
"""Any process that is registered: see `config.processes`, and docs/extending.md for one of your own."""


class DenoiserConfig(Section):
    """p(x0 | x_t, t, source codes, first-frame codes, caption, dt)."""

    width: Annotated[int, Field(ge=32, multiple_of=32)] = 128
    num_layers: Layers = 6
    num_heads: Count = 4
    rotary: bool = False
    """Whether self-attention also turns queries and keys by row and column of their patch, so that it sees how far patches
    are apart (2-D rotary positions, Heo et al. 2024). The width of a head must be a multiple of 4."""
    zero_init: bool = False
    """Whether the outputs of attention and MLP begin at zero, so that every block begins as the identity."""
    normalised_text: bool = True
    """Whether both halves of a caption's token states (word embeddings, last layer) are normalised to the same scale.
    Otherwise the word embeddings, which alone contain the motion, are a thirtieth of the size of the last layer."""

    @model_validator(mode="after")
    def _heads_can_be_turned(self) -> "DenoiserConfig":
        if self.rotary and self.width % (4 * self.num_heads):
            raise ValueError(
                f"rotary needs heads whose width is a multiple of 4, but {self.num_heads} heads share a width of {self.width}; "
                "change num_heads or width, or set rotary to false"
            )
        return self


Baseline = Annotated[BaselineSection, AnyOf(BASELINES)]
"""Any baseline that is registered: see `config.baselines`, and docs/extending.md for one of your own."""


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
    extra: dict[str, NonNegative] = {}  # noqa: RUF012 - pydantic copies it
    """Weights of registered further terms (docs/extending.md), by name: `extra: {my_term: 0.02}`; 0 is off."""

    @property
    def weights(self) -> dict[str, float]:
        """All terms that have a weight, by name."""
        weights = {"frame_frame": self.frame_frame, "frame_text": self.frame_text, **self.extra}
        return {name: weight for name, weight in weights.items() if weight}

    @field_validator("extra")
    @classmethod
    def _the_extra_terms_are_there(cls, extra: dict[str, float]) -> dict[str, float]:
        for name in extra:
            if name in CONTRAST_TERMS.built_in:
                raise ValueError(f"{name} is a built-in term; set its weight as loss.contrast.{name}")
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
    """L = bound + auxiliary + contrasts, all in nats per token."""

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


class DiffusionConfig(Section):
    """The diffusion from the earlier frame to the next, and how its training examples are sampled."""

    process: Process = MaskProcess()
    num_steps: Annotated[int, Field(ge=1)] = 16
    """S, the number of steps of the training chain; sampling may use any subset."""
    full_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.4
    """Share of examples at t = 1 (fully corrupted); must be below 1, so that the other steps are trained."""
    max_gap: Count | Annotated[str, Field(pattern=r"^\d+(\.\d+)? s$", examples=["0.5 s"])] = 4
    """Largest gap between source and target: 4 is four frames of the data, `0.5 s` half a second at any frame rate."""
    start_share: Share = 0.3
    """Share of examples whose source is the first frame of the shot, where only the caption says what comes next."""
    first_dropout: Share = 0.3
    """Share of examples without first-frame codes, because visible motion is a shortcut around the caption."""
    caption_dropout: Share = 0.1
    """Share of examples without caption (for guidance)."""
    source_jitter: Share = 0.1
    """Largest share of source codes that are replaced by noise, against drift in long roll-outs."""

    def max_gap_frames(self, fps: float) -> int:
        """`max_gap` in frames of data of this rate.

        Args:
          fps: frames per second.

        Raises:
          UserError: it is shorter than a frame.
        """
        if isinstance(self.max_gap, int):
            return self.max_gap
        gap = float(self.max_gap.removesuffix(" s")) * fps
        if gap < 1 - 1e-6:
            raise UserError(
                f"diffusion.max_gap is {self.max_gap}, shorter than the {1 / fps:.4g} s between two frames of the data; raise it"
            )
        return int(gap + 1e-6)


# ------------------------------------------------------------------------------------------------------ training


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
    """Whether to use torch.compile for the blocks, on a GPU. The first steps take minutes, and last bits may differ."""
    keep: Literal["last", "best"] = "last"
    """Which averaged weights the model gets: those of the last step, or those with the lowest validation bound of all
    evaluations (`evaluate_every`). With few clips a model learns them by heart, and the last step is not the best."""


class RefineConfig(DenoiserTrainConfig):
    """Training of the denoiser on its own samples."""

    own_share: Share = 0.5
    """Share of examples whose source frame the model sampled itself, from the frame before."""
    generations: Annotated[int, Field(ge=1, le=8)] = 1
    """From step to step 1, 2, ... up to this many frames that the model samples itself, one from the other, before the
    source: as deep as in a roll-out. Baselines sample one."""


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


class Config(Section):
    """One experiment."""

    earlier_keys: ClassVar[Mapping[str, str]] = MappingProxyType({"rival": "baseline"})

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    """Run folder: runs/NAME."""
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_threads: Annotated[int, Field(ge=0, le=MAX_THREADS)] = 0
    """CPU threads; 0 leaves the choice to torch. One thread is often fastest on a busy machine."""
    reuse: str | None = None
    """A run or model folder whose CLIP and codec are used unchanged; only the diffusion is trained."""
    init: str | None = None
    """A shipped model, or a run or model folder, whose weights CLIP, codec and denoiser begin with, as far as they fit; all
    are trained further. Averages and the optimiser begin anew."""
    data: Data
    clip: Clip = ClipConfig()
    codec: CodecConfig = CodecConfig()
    picture: PictureConfig = PictureConfig()
    denoiser: DenoiserConfig = DenoiserConfig()
    baseline: Baseline | None = Field(default=None, serialization_alias="rival")
    """A baseline of the same size that replaces the discrete diffusion, for comparison. `rival` is its earlier name."""
    diffusion: DiffusionConfig = DiffusionConfig()
    loss: LossConfig = LossConfig()
    train: TrainStages = TrainStages()
    sample: SamplingParams = SamplingParams()

    @model_validator(mode="after")
    def _the_parts_fit(self) -> "Config":
        cdcd, smallest = self.loss.cdcd, min(self.train.diffusion.batch_size, self.train.refine.batch_size)
        if cdcd.inter and cdcd.num_negatives >= smallest:
            raise ValueError(
                f"loss.cdcd.num_negatives is {cdcd.num_negatives}, but a batch of {smallest} has only {smallest - 1} other "
                "samples; raise train.diffusion.batch_size and train.refine.batch_size, or use fewer negatives"
            )
        if self.clip.kind == "builtin":  # a published one has patches enough
            num_tokens = (self.data.size_px // self.clip.patch_size) ** 2 * self.codec.groups
            chunks = {"cdcd": cdcd.num_chunks if cdcd.intra else 0}
            chunks["contrast"] = self.loss.contrast.num_chunks if self.loss.contrast.shuffled else 0
            for name, num_chunks in chunks.items():
                if num_chunks > num_tokens:
                    raise ValueError(
                        f"loss.{name}.num_chunks is {num_chunks}, but a frame has {num_tokens} codes; use fewer chunks"
                    )
        if self.diffusion.process.kind == "cdcd" and self.diffusion.num_steps < max(2, self.sample.num_steps):
            raise ValueError(
                f"diffusion.num_steps is {self.diffusion.num_steps}; the process cdcd needs at least 2, and at least "
                f"sample.num_steps ({self.sample.num_steps})"
            )
        contrast = self.loss.contrast
        weights = {f"loss.contrast.{name}": contrast.weights.get(name, 0.0) for name in CONTRAST_TERMS.built_in}
        weights |= {f"loss.contrast.extra.{name}": weight for name, weight in contrast.extra.items()}
        weights |= {
            "loss.cdcd.intra": cdcd.intra,
            "loss.cdcd.inter": cdcd.inter,
            "sample.contrast": self.sample.contrast,
        }
        active = [name for name, weight in weights.items() if weight]
        if self.baseline and active:
            raise ValueError(
                f"{active[0]} has a weight, but the baseline {self.baseline.kind} has no contrast; set it to 0"
            )
        if self.baseline and (self.train.diffusion.checkpoint_activations or self.train.refine.checkpoint_activations):
            raise ValueError(
                f"checkpoint_activations is for the denoiser; disable it for the baseline {self.baseline.kind}"
            )
        if self.baseline and "best" in (self.train.diffusion.keep, self.train.refine.keep):
            raise ValueError(
                f"keep: best compares validation bounds, which not every baseline has; use last for {self.baseline.kind}"
            )
        if self.baseline and self.sample.order != "ancestral":
            raise ValueError(
                f"sample.order is {self.sample.order}, but a baseline has no order of codes; set it to ancestral"
            )
        if self.sample.order != "ancestral" and self.diffusion.process.kind != "mask":
            raise ValueError(
                f"sample.order is {self.sample.order}, but the process is {self.diffusion.process.kind}; only the process "
                "mask has other orders than ancestral"
            )
        return self


def _take_in(name: str, section: type[Section]) -> None:
    """Rebuilds the models, so that they accept the kind of an extension that was registered after import."""
    for model in (DiffusionConfig, Config):
        model.model_rebuild(force=True)


PROCESSES.added = BASELINES.added = _take_in
