"""What is seen in one video: a total and a weight for every quantity, frame by frame where it runs along the video."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from cdcd_video.config.registry import named
from cdcd_video.data import sprites
from cdcd_video.data.sprites import Scene
from cdcd_video.metrics import fidelity, motion
from cdcd_video.metrics import sprites_metrics as judge
from cdcd_video.metrics.feature_extractors import FeatureExtractors
from cdcd_video.metrics.latent import trajectories
from cdcd_video.metrics.scores import METRICS

Frames = UInt8[np.ndarray, "F H W 3"]


@dataclass(frozen=True)
class EvalVideo:
    """A video to be judged, as far as it is the same in every row."""

    name: str
    clip: str
    """What it was drawn from: videos of one clip are no independent evidence."""
    groups: tuple[str, ...] = ("all",)


@dataclass(frozen=True)
class Seen:
    """One quantity of one object or one video: one number, or one per frame."""

    metric: str
    subject: EvalVideo
    groups: tuple[str, ...]
    total: Float[np.ndarray, " T"]
    weight: Float[np.ndarray, " T"]


def measured(metric: str, subject: EvalVideo, value: Any, groups: Sequence[str] = ()) -> Seen:
    """Something of which the mean is taken; NaN is what could not be measured."""
    value = np.atleast_1d(np.asarray(value, dtype=np.float64))
    weight = np.where(np.isnan(value), np.nan, 1.0)
    return Seen(metric, subject, tuple(groups) or subject.groups, value, weight)


@dataclass(frozen=True)
class MeasuredVideo:
    """One video, with all that a metric may look at."""

    subject: EvalVideo
    """Whose frames these are."""
    frames: Frames
    """As they are judged."""
    true: Frames
    """How the video really goes on, at the same size; means nothing to a metric without `needs_truth`."""
    caption: str
    """The sentence it was drawn from."""
    tools: FeatureExtractors
    """The networks that the metrics need."""
    real_gaps: Float[np.ndarray, " R"]
    """`motion.first_gap` of real videos, for `discontinuity`."""

    @functools.cached_property
    def images(self) -> Float[np.ndarray, "F J"]:
        """The frames in CLIP's joint space, for metrics with `needs_clip`; worked out once."""
        return self.tools.clip.encode_image(self.frames)

    @functools.cached_property
    def optical_flow(self) -> Float[np.ndarray, "T H W 2"]:
        """The flow from frame to frame, worked out once."""
        return motion.flow(self.frames)

    def measured(self, score: str, value: Any) -> Seen:
        """One number for the video, or one per frame; NaN is what could not be measured."""
        return measured(score, self.subject, value)


def measure_frames(
    subject: EvalVideo,
    frames: Frames,
    true: Frames,
    caption: str,
    metrics: Sequence[str],
    tools: FeatureExtractors,
    real_gaps: Float[np.ndarray, " R"],
) -> Iterator[Seen]:
    """All that needs no scene: likeness to the truth, agreement with sentence and first frame, steadiness over time.

    Args:
      subject: whose frames these are.
      frames, true, caption, tools, real_gaps: see `MeasuredVideo`.
      metrics: some of `scores.METRICS`; those of scenes and of whole sets are passed over.
    """
    video = MeasuredVideo(subject, frames, true, caption, tools, real_gaps)
    for name in dict.fromkeys(metrics):
        see = METRICS[name].see
        if see is not None:
            yield from (named(see) if isinstance(see, str) else see)(video)


def psnr(video: MeasuredVideo) -> Iterator[Seen]:
    """Frames against the true ones."""
    yield video.measured("psnr", fidelity.psnr(video.frames, video.true))


def ssim(video: MeasuredVideo) -> Iterator[Seen]:
    """Likewise."""
    yield video.measured("ssim", fidelity.ssim(video.frames, video.true))


def lpips(video: MeasuredVideo) -> Iterator[Seen]:
    """Likewise, by a network."""
    yield video.measured("lpips", video.tools.lpips(video.frames, video.true))


def motion_ratio(video: MeasuredVideo) -> Iterator[Seen]:
    """Change from frame to frame, with the truth's as its weight."""
    own, true = fidelity.motion(video.frames), fidelity.motion(video.true)
    yield Seen("motion_ratio", video.subject, video.subject.groups, own, true)


def clip_text(video: MeasuredVideo) -> Iterator[Seen]:
    """Frames and sentence in CLIP's joint space."""
    yield video.measured("clip_text", video.images @ video.tools.clip.encode_text(video.caption))


def clip_first(video: MeasuredVideo) -> Iterator[Seen]:
    """Frames and first frame, likewise."""
    yield video.measured("clip_first", video.images @ video.images[0])


def smoothness(video: MeasuredVideo) -> Iterator[Seen]:
    """Steps and turns of the path of the frames, likewise."""
    yield video.measured("step_length", trajectories.step_length(video.images[None])[0])
    yield video.measured("curvature", trajectories.curvature(video.images[None])[0])


def warp_error(video: MeasuredVideo) -> Iterator[Seen]:
    """How badly the flow predicts the next frame."""
    yield video.measured("warp_error", motion.warp_error(video.frames, video.optical_flow))


def flow(video: MeasuredVideo) -> Iterator[Seen]:
    """How much moves."""
    yield video.measured("flow", motion.motion_amount(video.frames, video.optical_flow))


def flicker(video: MeasuredVideo) -> Iterator[Seen]:
    """How much pixels that stand still jump."""
    yield video.measured("flicker", motion.flicker(video.frames, video.optical_flow))


def colour_drift(video: MeasuredVideo) -> Iterator[Seen]:
    """How far the colours go from the first frame's."""
    yield video.measured("colour_drift", motion.colour_drift(video.frames))


def discontinuity(video: MeasuredVideo) -> Iterator[Seen]:
    """Whether the first step is larger than in real videos."""
    gap = np.array([motion.first_gap(video.frames)])
    yield video.measured("discontinuity", motion.discontinuity(gap, video.real_gaps))


def scene_groups(scene: Scene) -> tuple[str, ...]:
    """The groups of a whole video; by motion only where one object says what the motion is."""
    kinds = (f"motion={scene.objects[0].motion}",) if len(scene.objects) == 1 else ()
    return ("all", f"objects={len(scene.objects)}", *kinds)


def measure_scene(
    subject: EvalVideo, frames: Frames, scene: Scene, times: Float[np.ndarray, " F"], marks: Sequence[str] = ()
) -> Iterator[Seen]:
    """Every sprites quantity of one video; `marks` says for each object whether its sentence was changed or kept."""
    found = judge.score(at_view_size(frames), scene, times)
    for place, sprite in enumerate(scene.objects):
        groups = ["all", f"objects={len(scene.objects)}", f"motion={sprite.motion}"]
        groups += [f"heldout={kind}" for kind in sprites.held_out(sprite)]
        groups += [f"sentence={mark}" for mark in marks[place : place + 1]]
        numbers = {
            "does_right_thing": found.does_right_thing[place],
            "direction_right": found.direction_right[place],
            "position_error": found.position_error_px[place],
            "identity_iou": found.identity_iou[place],
            "lost_share": np.isnan(found.position_error_px[place]),
        }
        if sprite.motion == "stays still":
            numbers["still_right"] = found.does_right_thing[place]
        for metric, value in numbers.items():
            yield measured(metric, subject, value, groups)
    yield measured("all_right", subject, found.all_right, scene_groups(scene))
    yield measured("background_psnr", subject, found.background_psnr_db, scene_groups(scene))


def at_view_size(frames: Frames) -> UInt8[np.ndarray, "F S S 3"]:
    """Frames of any size at the size the judge of scenes knows; the truth's own scores show what that costs."""
    return resized(frames, sprites.VIEW_PX, "area")


_FILTERS = {
    "area": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resized(frames: Frames, side: int, how: str) -> UInt8[np.ndarray, "F S S 3"]:
    """Frames at another size; those that have it come back as they are. All filters widen when they shrink."""
    if frames.shape[1:3] == (side, side):
        return frames
    return np.stack([np.asarray(Image.fromarray(frame).resize((side, side), _FILTERS[how])) for frame in frames])
