"""Metrics of one video: a total and a weight for each, per frame where the metric has a curve along the video."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from cdcd_video.config.registry import named
from cdcd_video.config.value_types import Size
from cdcd_video.data import sprites, sprites_render
from cdcd_video.data.sprites import Scene
from cdcd_video.metrics import fidelity, motion, physics_iq, sprites_futures, sprites_metrics
from cdcd_video.metrics.feature_extractors import FeatureExtractors
from cdcd_video.metrics.latent import trajectories
from cdcd_video.metrics.scores import METRICS

Frames = UInt8[np.ndarray, "F H W 3"]


@dataclass(frozen=True)
class EvalVideo:
    """A video of an evaluation: what is the same for every system that is compared."""

    name: str
    clip: str
    """The clip that it starts from. Videos of one clip are not independent, so they are resampled together."""
    groups: tuple[str, ...] = ("all",)


@dataclass(frozen=True)
class Measurement:
    """One metric of one object or one video: one number, or one per frame. The score is sum of totals / sum of weights."""

    metric: str
    eval_video: EvalVideo
    groups: tuple[str, ...]
    total: Float[np.ndarray, " T"]
    weight: Float[np.ndarray, " T"]


def measured(metric: str, eval_video: EvalVideo, value: Any, groups: Sequence[str] = ()) -> Measurement:
    """A metric whose score is a mean: weight 1 for every value. NaN marks what could not be measured."""
    value = np.atleast_1d(np.asarray(value, dtype=np.float64))
    weight = np.where(np.isnan(value), np.nan, 1.0)
    return Measurement(metric, eval_video, tuple(groups) or eval_video.groups, value, weight)


@dataclass(frozen=True)
class MeasuredVideo:
    """One video, with everything that a metric may use."""

    eval_video: EvalVideo
    """Which video it is."""
    frames: Frames
    """At the size of the protocol."""
    true: Frames
    """The true video at the same size; meaningless for a metric without `needs_truth`."""
    caption: str
    """The caption that it was sampled from."""
    tools: FeatureExtractors
    """The networks that the metrics need."""
    real_gaps: Float[np.ndarray, " R"]
    """`motion.first_gap` of real videos, for `discontinuity`."""

    @functools.cached_property
    def images(self) -> Float[np.ndarray, "F J"]:
        """Embeddings of the frames in CLIP's joint space, for metrics with `needs_clip`; computed once."""
        return self.tools.clip.encode_image(self.frames)

    @functools.cached_property
    def optical_flow(self) -> motion.Flow:
        """Optical flow from frame to frame; computed once."""
        return motion.flow(self.frames)

    def measured(self, score: str, value: Any) -> Measurement:
        """A measurement of this video: one number, or one per frame. NaN marks what could not be measured."""
        return measured(score, self.eval_video, value)


def measure_frames(
    eval_video: EvalVideo,
    frames: Frames,
    true: Frames,
    caption: str,
    metrics: Sequence[str],
    tools: FeatureExtractors,
    real_gaps: Float[np.ndarray, " R"],
) -> Iterator[Measurement]:
    """The metrics that need no scene: fidelity to the true video, agreement with caption and first frame, consistency.

    Args:
      eval_video: which video it is.
      frames, true, caption, tools, real_gaps: see `MeasuredVideo`.
      metrics: some of `scores.METRICS`; those of scenes and of whole sets are skipped.
    """
    video = MeasuredVideo(eval_video, frames, true, caption, tools, real_gaps)
    for name in dict.fromkeys(metrics):
        measure = METRICS[name].measure
        if measure is not None:
            yield from (named(measure) if isinstance(measure, str) else measure)(video)


def psnr(video: MeasuredVideo) -> Iterator[Measurement]:
    """PSNR of each frame against the true one."""
    yield video.measured("psnr", fidelity.psnr(video.frames, video.true))


def ssim(video: MeasuredVideo) -> Iterator[Measurement]:
    """SSIM of each frame against the true one."""
    yield video.measured("ssim", fidelity.ssim(video.frames, video.true))


def lpips(video: MeasuredVideo) -> Iterator[Measurement]:
    """LPIPS of each frame against the true one."""
    yield video.measured("lpips", video.tools.lpips(video.frames, video.true))


def physics(video: MeasuredVideo) -> Iterator[Measurement]:
    """The four scores of Physics-IQ against the true video."""
    own, true = physics_iq.motion_masks(video.frames), physics_iq.motion_masks(video.true)
    yield video.measured("spatial_iou", physics_iq.spatial_iou(own, true))
    yield video.measured("spatiotemporal_iou", physics_iq.spatiotemporal_iou(own, true))
    yield video.measured("weighted_spatial_iou", physics_iq.weighted_spatial_iou(own, true))
    yield video.measured("mse", physics_iq.mse(video.frames, video.true))


def motion_ratio(video: MeasuredVideo) -> Iterator[Measurement]:
    """Change from frame to frame, weighted by the change of the true video."""
    own, true = fidelity.motion(video.frames), fidelity.motion(video.true)
    yield Measurement("motion_ratio", video.eval_video, video.eval_video.groups, own, true)


def clip_text(video: MeasuredVideo) -> Iterator[Measurement]:
    """Cosine similarity of each frame and the caption in CLIP's joint space."""
    yield video.measured("clip_text", video.images @ video.tools.clip.encode_text(video.caption))


def clip_first(video: MeasuredVideo) -> Iterator[Measurement]:
    """Cosine similarity of each frame and frame 0 in CLIP's joint space."""
    yield video.measured("clip_first", video.images @ video.images[0])


def smoothness(video: MeasuredVideo) -> Iterator[Measurement]:
    """Step length and curvature of the frames' path in CLIP's joint space."""
    yield video.measured("step_length", trajectories.step_length(video.images[None])[0])
    yield video.measured("curvature", trajectories.curvature(video.images[None])[0])


def warp_error(video: MeasuredVideo) -> Iterator[Measurement]:
    """Error of the next frame as predicted by optical flow."""
    yield video.measured("warp_error", motion.warp_error(video.frames, video.optical_flow))


def flow(video: MeasuredVideo) -> Iterator[Measurement]:
    """Mean length of the optical flow."""
    yield video.measured("flow", motion.motion_amount(video.frames, video.optical_flow))


def flicker(video: MeasuredVideo) -> Iterator[Measurement]:
    """Fluctuation of pixels that do not move."""
    yield video.measured("flicker", motion.flicker(video.frames, video.optical_flow))


def colour_drift(video: MeasuredVideo) -> Iterator[Measurement]:
    """Distance of the colour statistics from those of frame 0."""
    yield video.measured("colour_drift", motion.colour_drift(video.frames))


def discontinuity(video: MeasuredVideo) -> Iterator[Measurement]:
    """How the first change compares with that of real videos."""
    gap = np.array([motion.first_gap(video.frames)])
    yield video.measured("discontinuity", motion.discontinuity(gap, video.real_gaps))


def scene_groups(scene: Scene) -> tuple[str, ...]:
    """The groups of a whole video; by motion and by what the scene looks like only for scenes of one object."""
    kinds = (motion_group(scene, 0), *looks_of(scene, 0)) if len(scene.objects) == 1 else ()
    return ("all", f"objects={len(scene.objects)}", *caption_groups(scene), *kinds)


def motion_group(scene: Scene, place: int) -> str:
    """The group of an object's motion, as far as the caption names it."""
    sprite = scene.objects[place]
    return f"motion={sprite.open_motion if scene.is_open else sprite.motion}"


def caption_groups(scene: Scene) -> tuple[str, ...]:
    """The group of captions that leave the direction out."""
    return ("caption=open",) if scene.is_open else ()


def looks_of(scene: Scene, place: int) -> tuple[str, ...]:
    """The groups of an object of the second world: whether it has an outline, and how light its ground is or that it is noise."""
    look = scene.objects[place].look
    if look is None:
        return ()
    lightness = sprites_render.render_background(scene.background).mean() / 255
    shade = "dark" if lightness < 1 / 3 else "light" if lightness > 2 / 3 else "grey"
    kinds = ("ground=noise",) if scene.background.kind == "noise" else ()
    return (f"ground={shade}", *kinds, f"outline={'yes' if look.outline_px else 'no'}")


def measure_scene(
    eval_video: EvalVideo, frames: Frames, scene: Scene, times: Float[np.ndarray, " F"], marks: Sequence[str] = ()
) -> Iterator[Measurement]:
    """Every sprites metric of one video; `marks` says for each object whether its sentence was changed or kept.

    Of the futures that an open caption allows, the video is measured by the one that it comes closest to.
    """
    if scene.is_open:
        found = sprites_futures.score(at_view_size(frames, scene), scene, times).score
    else:
        found = sprites_metrics.score(at_view_size(frames, scene), scene, times)
    for place, sprite in enumerate(scene.objects):
        groups = ["all", f"objects={len(scene.objects)}", motion_group(scene, place), *caption_groups(scene)]
        groups += looks_of(scene, place)
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
            numbers["still_iou"] = found.steadiness_iou[place].mean()
        for metric, value in numbers.items():
            yield measured(metric, eval_video, value, groups)
    yield measured("all_right", eval_video, found.all_right, scene_groups(scene))
    yield measured("background_psnr", eval_video, found.background_psnr_db, scene_groups(scene))


def at_view_size(frames: Frames, scene: Scene) -> UInt8[np.ndarray, "F h w 3"]:
    """Frames at the size of the scene's view, which the sprites metrics need; the scores of `truth` show the effect.

    Raises:
      UserError: the view has no whole number of pixels.
    """
    return resized(frames, sprites_render.view_size(scene.view), "area")


_FILTERS = {
    "area": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resized(frames: Frames, size: Size | int, how: str) -> UInt8[np.ndarray, "F h w 3"]:
    """Frames resized with antialiasing; returned unchanged where they have that size.

    Args:
      frames: RGB pixels.
      size: height and width, or side of a square, px.
      how: one of the resize filters of a protocol.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if frames.shape[1:3] == (height, width):
        return frames
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), _FILTERS[how])) for frame in frames])


def at_scale(frames: Frames, size_px: int, own_px: int, how: str) -> UInt8[np.ndarray, "F h w 3"]:
    """Frames of any shape resized as squares of `own_px` would be to `size_px`.

    Raises:
      ValueError: that would be no whole number of pixels.
    """
    return resized(frames, Size(*frames.shape[1:3]).scaled(size_px, own_px), how)
