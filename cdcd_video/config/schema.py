"""The schema of a config: every setting with its type, range, unit and source. Nothing here imports torch.

The sections `data`, `loss` and `train`, processes, baselines and the settings of a sampler have files of their own.
Variants are tagged unions (`kind: ...`), so that meaningless combinations cannot be expressed. Files are read by
`cdcd_video.config.config_file`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from cdcd_video.config.baselines import BASELINES
from cdcd_video.config.data_section import Data
from cdcd_video.config.loss_section import LossConfig
from cdcd_video.config.processes import PROCESSES, MaskProcess, Share
from cdcd_video.config.ranges import MAX_THREADS
from cdcd_video.config.registries import WITH_FIELDS, AnyOf, BaselineSection, ProcessSection
from cdcd_video.config.sampling_params import SamplingParams
from cdcd_video.config.section import Section
from cdcd_video.config.train_section import TrainStages
from cdcd_video.config.value_types import Count, Layers, NonNegative, Positive
from cdcd_video.errors import UserError

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
    """A folder of `save_pretrained` or an OpenCLIP export; the name of a published CLIP in the Hub's cache; or that of a shipped
    model, for its CLIP."""


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
    last_share: Share = 0.0
    """Share of examples, among those whose target is not the last frame of its shot, that also have a later frame and its
    distance in time, so that a video can be sampled between two frames; 0 trains a model that takes no last frame."""
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
    """A shipped model, or a run or model folder, whose CLIP and codec are used unchanged; only the diffusion is trained."""
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
            patch, square = self.clip.patch_size, (self.data.size_px, self.data.size_px)
            sizes = getattr(self.data, "sizes", None) or [square]
            num_tokens = min((height // patch) * (width // patch) for height, width in sizes) * self.codec.groups
            chunks = {"cdcd": cdcd.num_chunks if cdcd.intra else 0}
            chunks["contrast"] = self.loss.contrast.num_chunks if self.loss.contrast.shuffled else 0
            for name, num_chunks in chunks.items():
                if num_chunks > num_tokens:
                    raise ValueError(
                        f"loss.{name}.num_chunks is {num_chunks}, but a frame has {num_tokens} codes; use fewer chunks"
                    )
        sizes = getattr(self.data, "sizes", None) or ()
        patch_px = (
            self.clip.patch_size if self.clip.kind == "builtin" else 1
        )  # a published one's is checked with its files
        for size in [(self.data.size_px, self.data.size_px), *sizes] if sizes else ():
            if size[0] % patch_px or size[1] % patch_px:
                raise ValueError(
                    f"data.sizes: frames of {size[0]}x{size[1]} px are no whole number of patches of {patch_px} px; use"
                    f" multiples of {patch_px}"
                )
        if self.diffusion.process.kind == "cdcd" and self.diffusion.num_steps < max(2, self.sample.num_steps):
            raise ValueError(
                f"diffusion.num_steps is {self.diffusion.num_steps}; the process cdcd needs at least 2, and at least "
                f"sample.num_steps ({self.sample.num_steps})"
            )
        contrast = self.loss.contrast
        weights = {f"loss.contrast.{name}": contrast.weights.get(name, 0.0) for name in WITH_FIELDS}
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
        if self.baseline and self.diffusion.last_share:
            raise ValueError(
                f"diffusion.last_share is {self.diffusion.last_share:g}, but the baseline {self.baseline.kind} takes no last"
                " frame; set it to 0"
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
