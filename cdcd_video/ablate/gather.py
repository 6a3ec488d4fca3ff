"""Reads the evaluations of the finished cells as arrays over seeds, videos and frames; all cells have the same videos.

Videos of one clip, such as a scene and its mirror image, are not independent: they are added up and count as one.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cdcd_video.ablate.cell import REFERENCE_FOLDER, SCORES, is_done
from cdcd_video.ablate.plan import Plan
from cdcd_video.errors import UserError
from cdcd_video.metrics.scores import MEASURES
from cdcd_video.storage.small_file import open_plain


@dataclass(frozen=True)
class Sums:
    """One metric of one arm: the score is sum of totals / sum of weights."""

    seeds: tuple[int, ...]
    videos: tuple[str, ...]
    """Names of their clips."""
    whole: Float[np.ndarray, "2 S V"]
    """Totals and weights over all frames that count."""
    frames: tuple[int, ...]
    by_frame: Float[np.ndarray, "2 S V F"]
    """Per frame; empty where the metric has no curve."""

    def of(self, seeds: Sequence[int]) -> "Sums":
        """The sums of some of the seeds."""
        places = [self.seeds.index(seed) for seed in seeds]
        return Sums(tuple(seeds), self.videos, self.whole[:, places], self.frames, self.by_frame[:, places])


@dataclass(frozen=True)
class Gathered:
    """One evaluation (`name`) over all arms."""

    name: str
    num_seeds: dict[str, int]
    """Finished cells of each arm that has any."""
    sums: dict[str, dict[str, Sums]]
    """By arm, then by metric; empty where only sets of videos are scored."""
    sets: dict[str, dict[str, dict[int, float]]]
    """Scores of whole sets of videos: by arm, metric and seed."""
    references: dict[str, dict[str, float]]
    """Scores of the references: by reference, then by metric."""
    protocol: str
    num_videos: int
    """0 where only sets of videos are scored."""
    num_clips: int
    """Independent ones among the videos, where several are of one clip."""


def gather(plan: Plan) -> list[Gathered]:
    """Reads every finished cell.

    Raises:
      UserError: a file is damaged, or cells were measured under different protocols.
    """
    return [_of(plan, name) for name in plan.ablation.measured]


def _of(plan: Plan, name: str) -> Gathered:
    sums: dict[str, dict[str, Sums]] = {}
    sets: dict[str, dict[str, dict[int, float]]] = {}
    num_seeds: dict[str, int] = {}
    protocols: dict[str, Path] = {}
    references: dict[str, dict[str, float]] = {}
    clips: tuple[str, ...] = ()
    names: set[str] = set()
    for arm in plan.arms:
        cells = [cell for cell in plan.of(arm) if is_done(plan, cell.folder)]
        if not cells:
            continue
        of_seed = {cell.seed: _per_clip(cell.folder / name / "per_video.jsonl", names) for cell in cells}
        sums[arm] = {metric: _stacked(of_seed, metric) for metric in next(iter(of_seed.values()))}
        num_seeds[arm] = len(cells)
        clips = next((of_metric.videos for of_metric in sums[arm].values()), ())
        found: dict[str, dict[int, float]] = defaultdict(dict)
        for cell in cells:
            for score in lines_of(cell.folder / name / SCORES):
                protocols.setdefault(score["protocol"], cell.folder)
                is_whole = (
                    score["row"] == "model" and score["group"] == "all" and score["frame"] is score["window"] is None
                )
                if is_whole and score["metric"] not in sums[arm] and score["metric"] in MEASURES:
                    found[score["metric"]][cell.seed] = score["value"]
        sets[arm] = {metric: values for metric, values in found.items() if _is_of_sets(metric, sums[arm])}
    path = plan.out / REFERENCE_FOLDER / name / SCORES
    for score in lines_of(path) if path.is_file() else ():
        protocols.setdefault(score["protocol"], path.parent)
        if score["group"] == "all" and score["frame"] is score["window"] is None:
            references.setdefault(score["row"], {})[score["metric"]] = score["value"]
    if len(protocols) > 1:
        folders = " and ".join(str(folder) for folder in protocols.values())
        raise UserError(
            f"{folders} have different protocols; delete the folder {name} of the older one and run the ablation again"
        )
    return Gathered(name, num_seeds, sums, sets, references, next(iter(protocols), ""), len(names), len(clips))


def _is_of_sets(metric: str, sums: dict[str, Sums]) -> bool:
    """Whether a score is neither a sum over videos nor a summary of a curve of one."""
    return not any(metric.startswith(f"{name}_") for name in sums)


def _per_clip(path: Path, names: set[str]) -> dict[str, dict[tuple[str, int | None], tuple[float, float]]]:
    """By metric, then by clip and frame: totals and weights. Adds the names of the videos to `names`."""
    found: dict[str, dict[tuple[str, int | None], tuple[float, float]]] = defaultdict(dict)
    for line in lines_of(path):
        names.add(line["video"])
        place = line.get("clip") or line["video"], line["frame"]
        before = found[line["metric"]].get(place, (0.0, 0.0))
        found[line["metric"]][place] = before[0] + line["total"], before[1] + line["weight"]
    return dict(found)


def _stacked(of_seed: dict[int, dict[str, dict[tuple[str, int | None], tuple[float, float]]]], metric: str) -> Sums:
    """Stacks the seeds; a video without a measurement has weight 0."""
    places = {place for found in of_seed.values() for place in found.get(metric, {})}
    videos = sorted({video for video, _ in places})
    frames = sorted({frame for _, frame in places if frame is not None})
    whole, by_frame = np.zeros((2, len(of_seed), len(videos))), np.zeros((2, len(of_seed), len(videos), len(frames)))
    of_video, of_frame = ({key: place for place, key in enumerate(keys)} for keys in (videos, frames))
    for row, found in enumerate(of_seed.values()):
        for (video, frame), pair in found.get(metric, {}).items():
            if frame is None:
                whole[:, row, of_video[video]] = pair
            else:
                by_frame[:, row, of_video[video], of_frame[frame]] = pair
    return Sums(tuple(of_seed), tuple(videos), whole, tuple(frames), by_frame)


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file of a cell.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with open_plain(path) as file:
            yield from map(json.loads, file)
    except (UserError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete its folder and run the ablation again") from error
