"""The interactive figure: one starting frame, a sentence each, the sampled frames, their codes and their paths in two planes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from cdcd_video.data import sprites
from cdcd_video.data.sprites import Scene, World
from cdcd_video.data.sprites_render import render
from cdcd_video.engine.runtime import seed_for
from cdcd_video.errors import UserError
from cdcd_video.evaluation.report.latent_plots import plane
from cdcd_video.metrics.latent.latent_model import LatentModel, Progress
from cdcd_video.metrics.latent.latent_study import Path, View
from cdcd_video.metrics.latent.trajectories import fit_plane
from cdcd_video.tools.dev.article.article_plan import LatentPath
from cdcd_video.tools.dev.article.frame_sheet import frame_sheet
from cdcd_video.training.training_data import sprites_world


def frames_of_work(plan: LatentPath) -> int:
    """Total of the progress of `latent_path`: frames that are encoded or sampled."""
    num_sentences = len(plan.motions)
    return (plan.num_training + num_sentences) * plan.num_frames + num_sentences * (plan.num_frames - 1)


def latent_path(pipe: Any, plan: LatentPath, seed: int, progress: Progress) -> dict[str, Any]:
    """Samples a video for each sentence and projects its latents.

    Two planes of principal components are shown: that of training videos in CLIP's joint space, on which the contrast acts,
    and that of the true videos of these sentences in the space of the codes, in which the model samples.

    Args:
      pipe: a `pipeline.ImageToVideo` of the built-in world, whose samples are codes.
      plan: which scene and sentences.
      seed: of the scenes and of sampling.
      progress: called with the number of frames that are done; see `frames_of_work`.

    Returns:
      Values of the template `latent_path.html`.

    Raises:
      UserError: a motion does not fit into the scene, or the model is not of this world.
    """
    if pipe.model.config.data.kind != "sprites":
        raise UserError("the figures of the article need a model of the built-in world; choose another checkpoint")
    world = sprites_world(pipe.model.config.data)
    times, size_px = np.arange(plan.num_frames) / plan.fps, pipe.size_px
    scenes = sentences_of(sprites.sample_scene(seed, plan.index, plan.split, world=world), plan.motions, world)
    training = [sprites.sample_scene(seed, index, "train", world=world) for index in range(plan.num_training)]
    true, others = (np.stack([render(scene, times, size_px) for scene in some]) for some in (scenes, training))
    latent = LatentModel(pipe, progress)
    true_codes, training_codes = (latent.codes_of(latent.latents(videos)) for videos in (true, others))
    params = pipe.defaults(num_frames=plan.num_frames, fps=plan.fps)
    captions = [scene.caption for scene in scenes]
    seeds = [seed_for(seed, "article", caption) for caption in captions]
    sampled: list[np.ndarray] = []
    frames = pipe.sample(
        true[:, 0], captions, params, seeds, progress, on_frame=lambda _, latents: sampled.append(latents.cpu().numpy())
    )
    codes = np.stack([pipe.encode(true[:, 0]).cpu().numpy(), *sampled], axis=1)
    if not np.issubdtype(codes.dtype, np.integer):
        raise UserError(
            "the figures of the article show codes, and this baseline samples none; choose another checkpoint"
        )
    views = _views(latent, [captions, *([scene.caption] for scene in training)], codes, true_codes, training_codes)
    changed = changed_codes(codes, pipe.model.codec.groups)
    return {
        "captions": captions,
        "sheet": frame_sheet(frames),
        "views": views,
        "data": {
            "fps": plan.fps,
            "frames": plan.num_frames,
            "groups": pipe.model.codec.groups,
            "changed": [["".join(map(_bits, frame)) for frame in video] for video in changed],
        },
    }


def sentences_of(scene: Scene, motions: Sequence[str], world: World) -> list[Scene]:
    """The same first frame with another motion of its first object each.

    Raises:
      UserError: a motion does not fit.
    """
    found = {motion: sprites.with_motion(scene, 0, motion, world=world) for motion in sprites.MOTIONS}
    fitting = [motion for motion, other in found.items() if other is not None]
    for motion in motions:
        if motion not in fitting:
            raise UserError(
                f"the first object of scene {scene.index} of {scene.split} cannot do {motion!r}; it can do:"
                f" {', '.join(fitting)}"
            )
    return [other for motion in motions if (other := found[motion]) is not None]


def changed_codes(codes: Int[np.ndarray, "V F N"], groups: int) -> Bool[np.ndarray, "V F P G"]:
    """Which codes differ from those of the first frame, by patch and group."""
    changed = codes != codes[:, :1]
    return changed.reshape(*codes.shape[:2], -1, groups)


def _bits(patch: Bool[np.ndarray, " G"]) -> str:
    """The groups of a patch as hexadecimal digits, two for up to eight groups; the first group is the lowest bit."""
    number = sum(1 << place for place, is_changed in enumerate(patch) if is_changed)
    return f"{number:0{2 * -(-len(patch) // 8)}x}"


def _views(
    latent: LatentModel,
    captions: Sequence[Sequence[str]],
    codes: Int[np.ndarray, "V F N"],
    true: Int[np.ndarray, "V F N"],
    training: Int[np.ndarray, "T F N"],
) -> list[dict[str, Any]]:
    """Geometry of both planes; `captions` are those of the image, then of each training video."""
    joint = [latent.points(part, "embedding") for part in (training, true, codes)]
    wide = fit_plane(joint[0])
    others, own, model = (wide.project(points) for points in joint)
    paths = [_path("real", 1 + number, 0, points) for number, points in enumerate(others)]
    paths += [
        _path(row, 0, c, points) for row, some in (("real", own), ("model", model)) for c, points in enumerate(some)
    ]
    found = [View("embedding", "pca", None, tuple(wide.explained.tolist()), tuple(paths))]
    own, model = (latent.points(part, "codes") for part in (true, codes))
    near = fit_plane(own)
    sides = (("real", near.project(own)), ("model", near.project(model)))
    paths = [_path(row, 0, c, points) for row, some in sides for c, points in enumerate(some)]
    found.append(View("codes", "pca", 0, tuple(near.explained.tolist()), tuple(paths)))
    return [_geometry(view, captions) for view in found]


def _geometry(view: View, captions: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Paths of a view in the units of its picture, by sentence; those of training videos apart."""
    placed = plane(view, captions)
    lines = iter([line for part in placed["parts"] for line in part["paths"]])
    if view.image is None:  # by image: the training videos were first
        training = [next(lines)["line"] for path in view.paths if path.image]
        own = list(lines)
    else:  # by sentence, the true video first
        training, own = [], sorted(lines, key=lambda line: line["row"] == "model")
    half = len(own) // 2
    return {
        "space": view.space,
        "size": placed["size"],
        "explained": [round(100 * share) for share in view.explained],
        "training": training,
        "true": [line["line"] for line in own[:half]],
        "sampled": [line["line"] for line in own[half:]],
    }


def _path(row: str, image: int, caption: int, points: np.ndarray) -> Path:
    return Path(row, image, caption, tuple((round(float(x), 4), round(float(y), 4)) for x, y in points))
