"""Videos side by side: the truth, the model, the first frame repeated, and a cross-fade to the true last frame."""

import itertools
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cdcd_video.data import sprites
from cdcd_video.data.sprites import Scene, Split, World
from cdcd_video.data.sprites_render import render
from cdcd_video.engine.runtime import seed_for
from cdcd_video.errors import UserError
from cdcd_video.metrics import sprites_metrics
from cdcd_video.metrics.latent.latent_model import Progress
from cdcd_video.metrics.measurements import resized
from cdcd_video.metrics.references import faded
from cdcd_video.tools.dev.article.article_plan import SideBySide
from cdcd_video.tools.dev.article.frame_sheet import frame_sheet
from cdcd_video.training.training_data import sprites_world

KINDS = MappingProxyType(
    {
        "straight": sprites.STRAIGHT_MOTIONS,
        "bounces": ("bounces left and right", "bounces up and down"),
        "circles": sprites.CIRCLE_MOTIONS,
        "size": sprites.SIZE_MOTIONS,
        "spins": ("spins",),
        "two": (),
    }
)
"""Motions of the one object of a scene, by kind; `two` is any scene with two objects."""
SYSTEMS = MappingProxyType(
    {
        "truth": "truth",
        "model": "model",
        "copy-first": "first frame repeated",
        "oracle-cross-fade": "cross-fade (oracle)",
    }
)
"""What stands side by side, with its title."""
_MODEL = tuple(SYSTEMS).index("model")
MOST_SCENES = 10_000
"""Scenes of a split among which the first of a kind is looked for."""


def frames_of_work(plan: SideBySide) -> int:
    """Total of the progress of `side_by_side`: frames that are sampled."""
    return (len(plan.kinds) + len(plan.failures) * plan.num_tried) * (plan.num_frames - 1)


def side_by_side(pipe: Any, plan: SideBySide, seed: int, progress: Progress) -> dict[str, Any]:
    """Samples the first scene of each kind, and the first that fails of some kinds, and measures all systems.

    Args:
      pipe: a `pipeline.ImageToVideo` of the built-in world.
      plan: split, kinds, failures, length and rate.
      seed: of the scenes and of sampling.
      progress: called with the number of frames that are done.

    Returns:
      Values of the template `side_by_side.html`.

    Raises:
      UserError: there is no such kind, or none of its scenes fails.
    """
    world = sprites_world(pipe.model.config.data)
    times = np.arange(plan.num_frames) / plan.fps
    params = pipe.defaults(num_frames=plan.num_frames, fps=plan.fps)

    def made(scenes: Sequence[Scene]) -> list[dict[str, Any]]:
        """Each scene with the videos of all systems and their scores."""
        true = np.stack([render(scene, times, pipe.size_px) for scene in scenes])
        captions = [scene.caption for scene in scenes]
        seeds = [seed_for(seed, "article", scene.split, scene.index) for scene in scenes]
        videos = {
            "truth": true,
            "model": pipe.sample(true[:, 0], captions, params, seeds, progress),
            "copy-first": np.repeat(true[:, :1], plan.num_frames, axis=1),
            "oracle-cross-fade": faded(true),
        }
        return [
            {
                "caption": scene.caption,
                "name": f"scene {scene.index} of {scene.split}",
                "videos": [videos[system][place] for system in SYSTEMS],
                "systems": [
                    {"title": title, **measured(videos[system][place], scene, times)}
                    for system, title in SYSTEMS.items()
                ],
            }
            for place, scene in enumerate(scenes)
        ]

    def of_kind(kind: str, num: int) -> list[Scene]:
        return list(itertools.islice(scenes_of_kind(kind, seed, plan.split, world), num))

    shown = made([scene for kind in plan.kinds for scene in of_kind(kind, 1)])
    rows = [{**row, "chosen": "the first of its kind"} for row in shown]
    for kind in plan.failures:
        tried = made(of_kind(kind, plan.num_tried))
        wrong = [place for place, row in enumerate(tried) if not row["systems"][_MODEL]["is_right"]]
        if not wrong:
            raise UserError(
                f"the model is right in the first {plan.num_tried} scenes of kind {kind!r}; raise side_by_side.num_tried or take"
                f" the kind out of side_by_side.failures"
            )
        rows.append({**tried[wrong[0]], "chosen": f"the first failure, number {wrong[0] + 1} of its kind"})
    sheet = np.stack([video for row in rows for video in row.pop("videos")])
    return {
        "scenes": rows,
        "sheet": frame_sheet(sheet),
        "data": {"fps": plan.fps, "frames": plan.num_frames, "rows": len(sheet)},
    }


def scenes_of_kind(kind: str, seed: int, split: Split, world: World) -> Iterator[Scene]:
    """The scenes of a kind in the order of their numbers.

    Raises:
      UserError: there is no such kind, or there are no more among the first scenes of the split.
    """
    if kind not in KINDS:
        raise UserError(f"there is no kind {kind!r} of scenes; choose among {', '.join(KINDS)}")
    for index in range(MOST_SCENES):
        scene = sprites.sample_scene(seed, index, split, world=world)
        motions = [one.motion for one in scene.objects]
        if len(motions) == 2 if kind == "two" else len(motions) == 1 and motions[0] in KINDS[kind]:
            yield scene
    raise UserError(
        f"the first {MOST_SCENES} scenes of {split} have too few of kind {kind!r}; choose another split or kind"
    )


def measured(frames: UInt8[np.ndarray, "F H W 3"], scene: Scene, times: np.ndarray) -> dict[str, Any]:
    """Whether all objects do as the caption says, and position error (px) and overlap of shapes (IoU) in the last frame."""
    found = sprites_metrics.score(resized(frames, sprites.VIEW_PX, "area"), scene, times)
    errors = found.position_error_px[:, -1]
    return {
        "is_right": found.all_right,
        "position_error": None if np.isnan(errors).all() else round(float(np.nanmean(errors)), 1),
        "identity": round(float(found.identity_iou[:, -1].mean()), 2),
    }
