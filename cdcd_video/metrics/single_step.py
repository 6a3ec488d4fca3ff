"""The gate: single-step motion from a first frame, a quick check of a model before long videos are sampled."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cdcd_video.data import sprites
from cdcd_video.data.sprites import STRAIGHT_MOTIONS, Scene, World
from cdcd_video.data.sprites_render import render
from cdcd_video.metrics.measurements import at_view_size
from cdcd_video.metrics.references import VideoModel, codec_ceiling
from cdcd_video.metrics.sprites_tracking import track

GATE_WORLD = World(max_objects=1, motions=(*STRAIGHT_MOTIONS, "stays still"))
"""One object that moves straight in one of eight directions, or stays still."""


def gate(
    pipe: VideoModel, scenes: Sequence[Scene], params: Any, *, gaps: Sequence[int] = (1, 4), batch_size: int = 64
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Measures one sampled step: whether the object moves as the caption says, and whether the caption is the reason.

    Args:
      pipe: the model.
      scenes: one-object scenes of `GATE_WORLD`.
      params: sampling parameters; number of frames and frame rate are replaced.
      gaps: time steps, in frames of the data.
      batch_size: videos sampled at a time.

    Returns:
      For each gap ("gap1", "gap4") and system ("right", "shuffled", "copy-first", "codec-ceiling", "truth"): over the moving
      objects, `ratio` (displacement along the true direction over the true displacement), `sign_right` (share of
      positive ones) and `error_px`; over the still ones, `still_px`; `lost`, the share of objects not found. "shuffled"
      has a caption by which the object moves elsewhere (at right angles, away, or not at all), and is measured along the
      true direction: a model that ignores captions scores as in "right", a perfect one `listener_ratio`. `own_ratio` is
      measured along the direction of the other caption.
    """
    rng = np.random.Generator(np.random.Philox(key=params.seed))
    others = [_elsewhere(scene, rng) for scene in scenes]
    report = {}
    for gap in gaps:
        times = np.array([0, gap]) / GATE_WORLD.fps
        two = params.changed(num_frames=2, fps=GATE_WORLD.fps / gap)
        systems: dict[str, list[np.ndarray]] = {}
        for begin in range(0, len(scenes), batch_size):
            part, other = scenes[begin : begin + batch_size], others[begin : begin + batch_size]
            true = np.stack([render(scene, times, pipe.size_px) for scene in part])
            seeds = range(params.seed + begin, params.seed + begin + len(part))
            made = {
                "right": pipe.sample(true[:, 0], [scene.caption for scene in part], two, seeds),
                "shuffled": pipe.sample(true[:, 0], [scene.caption for scene in other], two, seeds),
                "copy-first": true[:, [0, 0]],
                "codec-ceiling": codec_ceiling(pipe, true),
                "truth": true,
            }
            for system, videos in made.items():
                systems.setdefault(system, []).append(_moves(videos, part))
        right, wrong = _true_moves(scenes, times), _true_moves(others, times)
        moves = {system: np.concatenate(parts) for system, parts in systems.items()}
        figures = {system: _gate_metrics(tracked, right) for system, tracked in moves.items()}
        figures["shuffled"]["listener_ratio"] = _gate_metrics(wrong, right)["ratio"]
        figures["shuffled"]["own_ratio"] = _gate_metrics(moves["shuffled"], wrong)["ratio"]
        report[f"gap{gap}"] = figures
    return report


def _elsewhere(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same first frame with a caption by which the object does not move in the direction of the scene's own."""
    ahead = _true_moves([scene], np.array([0.0, 1.0]))[0]
    options = []
    for motion in GATE_WORLD.motions:
        for adverb in (None,) if motion == "stays still" else sprites.ADVERBS:
            other = sprites.with_motion(scene, 0, motion, adverb, world=GATE_WORLD)
            is_known = other and (scene.split == "heldout" or not sprites.held_out(other.objects[0]))
            if is_known and motion != scene.objects[0].motion:
                options.append(other)
    away = [other for other in options if _true_moves([other], np.array([0.0, 1.0]))[0] @ ahead < 1e-6]
    return away[int(rng.integers(len(away)))]


def _moves(videos: np.ndarray, scenes: Sequence[Scene]) -> np.ndarray:
    """Tracked displacement of each one-object scene from its first frame to its last, (V, 2); NaN where lost."""
    centres = np.stack(
        [track(at_view_size(frames, scene), scene).centres[0] for frames, scene in zip(videos, scenes, strict=True)]
    )
    return centres[:, -1] - centres[:, 0]


def _true_moves(scenes: Sequence[Scene], times: np.ndarray) -> np.ndarray:
    centres = np.stack([sprites.truth(scene, times).centres[0] for scene in scenes])
    return centres[:, -1] - centres[:, 0]


def _gate_metrics(tracked: np.ndarray, true: np.ndarray) -> dict[str, float | None]:
    length = np.linalg.norm(true, axis=-1)
    found = ~np.isnan(tracked[:, 0])
    moves, rests = found & (length > 0), found & (length == 0)
    along = (tracked * true).sum(axis=-1)[moves] / length[moves]
    figures = {
        "ratio": along.sum() / length[moves].sum() if moves.any() else math.nan,
        "sign_right": (along > 0).mean() if moves.any() else math.nan,
        "error_px": np.linalg.norm(tracked - true, axis=-1)[moves].mean() if moves.any() else math.nan,
        "still_px": np.linalg.norm(tracked[rests], axis=-1).mean() if rests.any() else math.nan,
        "lost": 1 - found.mean(),
    }
    return {name: round(float(value), 4) if math.isfinite(value) else None for name, value in figures.items()}
