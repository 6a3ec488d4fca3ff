"""What steps buy on sprites with the shipped model: how often a video does what its sentence says, and what it costs."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cdcd_video.data.sprites import Scene, sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.metrics.sprites_metrics import score
from cdcd_video.metrics.statistics.intervals import bootstrap
from cdcd_video.pipeline import ImageToVideo

SCENE_SEED = 20_000
"""Names the scenes: not those of training, nor those of its validation."""
BATCH = 32
"""Videos drawn at a time for the scores."""


def curve(
    steps: Sequence[int], num_videos: int, seed: int, repeats: int, device: str, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Scores and times of the shipped model at several numbers of reverse steps, the same scenes and seeds at each.

    Args:
      steps: numbers of steps.
      num_videos: scenes of one or two objects.
      seed: of the drawings.
      repeats: single videos that are timed at each number.
      device: where it draws.
      say: takes a sentence on how far it is.

    Returns:
      For each number of steps: `right`, the share of videos in which every object does what the sentence says and nothing
      else, and `position_error_px` at the last frame, each with a 95 % interval over videos and n; `single` and `together`,
      the cost of one video drawn alone and of a video in a batch: CPU and wall milliseconds per frame, videos per second.
    """
    pipe = ImageToVideo.from_pretrained("sprites", device)
    scenes = [sample_scene(SCENE_SEED, index, "val") for index in range(num_videos)]
    rows = []
    for num_steps in steps:
        say(f"sampling {num_videos} videos of sprites with {num_steps} step(s) per frame ...")
        params = pipe.defaults(num_steps=num_steps, seed=seed)
        times = np.arange(params.num_frames) / params.fps
        scored, spent = [], np.zeros(2)
        for begin in range(0, num_videos, BATCH):
            part = scenes[begin : begin + BATCH]
            starts = np.stack([render(scene, times[:1], pipe.size_px)[0] for scene in part])
            seeds = [seed + begin + row for row in range(len(part))]
            clocks = _clocks()
            drawn = pipe.sample(starts, [scene.caption for scene in part], params, seeds)
            spent += _clocks() - clocks
            scored += [score(frames, scene, times) for frames, scene in zip(drawn, part, strict=True)]
        rows.append(
            {
                "steps": num_steps,
                "is_default": num_steps == pipe.defaults().num_steps,
                "n": num_videos,
                "seed": seed,
                "right": _interval([float(one.all_right) for one in scored], True),
                "position_error_px": _interval([np.nanmean(one.position_error_px[:, -1]) for one in scored], False),
                "together": _costs(spent / num_videos, params.num_frames),
                "single": _costs(_alone(pipe, scenes[0], params, repeats), params.num_frames),
            }
        )
    return rows


def _alone(pipe: ImageToVideo, scene: Scene, params: Any, repeats: int) -> np.ndarray:
    """CPU and wall seconds of one video, medians; the first, uncounted, warms up."""
    start = render(scene, np.zeros(1), pipe.size_px)
    spent = []
    for number in range(repeats + 1):
        clocks = _clocks()
        pipe.sample(start, [scene.caption], params.changed(seed=number), [number])
        spent.append(_clocks() - clocks)
    return np.median(spent[1:], axis=0)


def _clocks() -> np.ndarray:
    return np.array([time.process_time(), time.perf_counter()])


def _costs(seconds: np.ndarray, num_frames: int) -> dict[str, float]:
    """Of a video; its first frame is given."""
    cpu, wall = (float(value) for value in seconds)
    return {
        "cpu_ms_per_frame": 1e3 * cpu / (num_frames - 1),
        "wall_ms_per_frame": 1e3 * wall / (num_frames - 1),
        "videos_per_cpu_s": 1 / cpu,
        "videos_per_s": 1 / wall,
    }


def _interval(values: Sequence[float], is_share: bool) -> dict[str, float]:
    found = np.array(values, dtype=np.float64)[:, None]
    known = ~np.isnan(found)
    value, low, high = bootstrap(np.where(known, found, 0.0), known.astype(np.float64), is_share=is_share)
    return {"value": float(value[0]), "low": float(low[0]), "high": float(high[0]), "n": int(known.sum())}
