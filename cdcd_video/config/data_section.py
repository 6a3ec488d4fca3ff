"""The section `data` of a config: where the clips come from."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from cdcd_video.config.processes import Share
from cdcd_video.config.ranges import RANGES
from cdcd_video.config.sampling_params import FrameRate
from cdcd_video.config.section import Section
from cdcd_video.config.value_types import MAX_CLIPS, Count, FitMode, FrameSizes, SizePx

Licence = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A line of text."""
HubId = Annotated[str, Field(max_length=96, pattern=r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")]
STATEMENTS = ("licence", "hub_id")
"""Fields that the model card repeats, and that change nothing in training or sampling."""


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
    sizes: FrameSizes | None = None
    """Height x width of the frames, such as [64x64, 64x96, 96x64]; None: squares of `size_px`. Each size has an equal part of the
    clips, and each batch is of one size. Patches, and so the positions that are learned, are those of a square of `size_px`."""
    fps: FrameRate = 8.0
    max_objects: Annotated[int, Field(ge=1, le=2)] = 2
    two_object_share: Share = 0.4
    """Share of clips with two objects (where `max_objects` is 2)."""
    motions: tuple[str, ...] | None = None
    """Motion words to use; None for all."""
    motion_weights: dict[str, Annotated[int, Field(ge=1, le=100)]] | None = None
    """How often the training clips have a motion, as a multiple of a straight move: {spins: 12}. A motion that is not named keeps
    the world's own weight: 4 for spins, 2 for bounces, 1 for the rest. The world v1 has none."""
    backgrounds: tuple[str, ...] | str | None = None
    """Kinds of background to use; None for all. In the worlds v2 and open also a folder of pictures, used beside all kinds."""
    world: Literal["v1", "v2", "open"] = "v1"
    """v2: grounds from black to white, outlines, unsteady contours, shades of the colours. open: v2, and half of the captions
    leave the direction out. v1: the first world, frozen."""
    frame_times: Literal["even", "uneven"] = "even"
    """Of the training clips. uneven: instants at random, close together and far apart, so that any frame rate is learned."""
    late_share: Share = 0.0
    """Share of the training clips, of uneven ones, whose frames after the first lie anywhere in the first `late_s` seconds, so
    that a model learns what goes on long after the start: frames of a long video."""
    late_s: Annotated[float, Field(gt=0.0, le=600.0)] = 16.0
    """Of late clips: seconds from the first frame, before which all others lie."""
    scene_seed: int = 0
    """Seed of the scenes; separate from the training seed, so that two runs can share the data."""

    @model_validator(mode="after")
    def _only_uneven_clips_are_late(self) -> "SpritesData":
        if self.late_share and self.frame_times == "even":
            raise ValueError("late_share is for clips with uneven times; set frame_times to uneven, or late_share to 0")
        if self.late_share and self.late_s <= self.num_frames / self.fps:
            raise ValueError(
                f"late_s is {self.late_s:g}, but a clip has {self.num_frames / self.fps:g} s anyway; raise it, or set "
                "late_share to 0"
            )
        return self

    @model_validator(mode="after")
    def _the_first_world_is_frozen(self) -> "SpritesData":
        if self.motion_weights and self.world == "v1":
            raise ValueError(
                "motion_weights are for the worlds v2 and open; set world to one of them, or motion_weights to null"
            )
        return self


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
    licence: Licence | None = None
    """Licence of the data for the model card, such as cc-by-4.0; None: unknown."""
    hub_id: HubId | None = None
    """Id of the data set on the Hub, for the model card, such as ylecun/mnist."""


class FolderData(Section):
    """Clips prepared by `python -m data_prep`."""

    is_rendered: ClassVar[bool] = False

    kind: Literal["folder"] = "folder"
    path: str
    """The prepared folder."""
    size_px: SizePx = 64
    """Must agree with the prepared folder."""
    sizes: FrameSizes | None = None
    """Height x width of the frames; must agree with the prepared folder's `--sizes`. Each batch is of one size."""
    mode: FitMode = "crop"
    """Must agree with the prepared folder. Starting frames are treated in the same way."""
    max_frames_per_clip: Count = 64
    """Frames of each clip that are encoded, from its beginning."""
    licence: Licence | None = None
    """Licence of the data for the model card, such as cc-by-4.0; None: unknown."""
    hub_id: HubId | None = None
    """Id of the data set on the Hub, for the model card, such as ylecun/mnist."""


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
    sizes: FrameSizes | None = None
    """Height x width of the frames; must agree with the cache, which has a folder for each. Each batch is of one size."""
    mode: FitMode = "crop"
    """How the frames were made square; starting frames are treated in the same way."""
    licence: Licence | None = None
    """Licence of the data for the model card, such as cc-by-4.0; None: unknown."""
    hub_id: HubId | None = None
    """Id of the data set on the Hub, for the model card, such as ylecun/mnist."""


Data = Annotated[SpritesData | DigitsData | FolderData | LatentsData, Field(discriminator="kind")]
