"""What is seen in one video: a total and a weight for every quantity, frame by frame where it runs along the video."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from cdcd_video.data import sprites
from cdcd_video.data.sprites import Scene
from cdcd_video.metrics import fidelity, motion
from cdcd_video.metrics import sprites_metrics as judge
from cdcd_video.metrics.feature_extractors import CLIP_SEES, Instruments
from cdcd_video.metrics.latent import trajectories

Frames = UInt8[np.ndarray, "F H W 3"]


@dataclass(frozen=True)
class Subject:
    """A video to be judged, as far as it is the same in every row."""

    name: str
    clip: str
    """What it was drawn from: videos of one clip are no independent evidence."""
    groups: tuple[str, ...] = ("all",)


@dataclass(frozen=True)
class Seen:
    """One quantity of one object or one video: one number, or one per frame."""

    metric: str
    subject: Subject
    groups: tuple[str, ...]
    total: Float[np.ndarray, " T"]
    weight: Float[np.ndarray, " T"]


def measured(metric: str, subject: Subject, value: Any, groups: Sequence[str] = ()) -> Seen:
    """Something of which the mean is taken; NaN is what could not be measured."""
    value = np.atleast_1d(np.asarray(value, dtype=np.float64))
    weight = np.where(np.isnan(value), np.nan, 1.0)
    return Seen(metric, subject, tuple(groups) or subject.groups, value, weight)


def see_frames(
    subject: Subject,
    frames: Frames,
    true: Frames,
    caption: str,
    metrics: Sequence[str],
    tools: Instruments,
    real_gaps: Float[np.ndarray, " R"],
) -> Iterator[Seen]:
    """All that needs no scene: likeness to the truth, agreement with sentence and first frame, steadiness over time.

    Args:
      subject: whose frames these are.
      frames: as they are judged.
      true: how the video really goes on, at the same size.
      caption: the sentence it was drawn from.
      metrics: some of `scores.METRICS`; others than these are passed over.
      tools: the networks that the metrics need.
      real_gaps: `motion.first_gap` of real videos, for `discontinuity`.
    """
    if "psnr" in metrics:
        yield measured("psnr", subject, fidelity.psnr(frames, true))
    if "ssim" in metrics:
        yield measured("ssim", subject, fidelity.ssim(frames, true))
    if "lpips" in metrics:
        yield measured("lpips", subject, tools.lpips(frames, true))
    if "motion" in metrics:
        yield Seen("motion_ratio", subject, subject.groups, fidelity.motion(frames), fidelity.motion(true))
    if set(CLIP_SEES) & set(metrics):
        images = tools.clip.see(frames)
        if "clip_text" in metrics:
            yield measured("clip_text", subject, images @ tools.clip.read(caption))
        if "clip_first" in metrics:
            yield measured("clip_first", subject, images @ images[0])
        if "smoothness" in metrics:
            yield measured("step_length", subject, trajectories.step_length(images[None])[0])
            yield measured("curvature", subject, trajectories.curvature(images[None])[0])
    if {"consistency", "flow", "flicker"} & set(metrics):
        found = motion.flow(frames)
        if "consistency" in metrics:
            yield measured("warp_error", subject, motion.warp_error(frames, found))
        if "flow" in metrics:
            yield measured("flow", subject, motion.motion_amount(frames, found))
        if "flicker" in metrics:
            yield measured("flicker", subject, motion.flicker(frames, found))
    if "colour_drift" in metrics:
        yield measured("colour_drift", subject, motion.colour_drift(frames))
    if "discontinuity" in metrics:
        gap = np.array([motion.first_gap(frames)])
        yield measured("discontinuity", subject, motion.discontinuity(gap, real_gaps))


def scene_groups(scene: Scene) -> tuple[str, ...]:
    """The groups of a whole video; by motion only where one object says what the motion is."""
    kinds = (f"motion={scene.objects[0].motion}",) if len(scene.objects) == 1 else ()
    return ("all", f"objects={len(scene.objects)}", *kinds)


def see_scene(
    subject: Subject, frames: Frames, scene: Scene, times: Float[np.ndarray, " F"], marks: Sequence[str] = ()
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
