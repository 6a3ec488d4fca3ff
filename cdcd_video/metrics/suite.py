"""Draws every video again from its first frame, and judges it beside its references: real videos in, scores out.

Which videos is said by `dataset`, which rows by `rows`, what is seen in one of them by `seeing`, in whole sets by `sets`.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from cdcd_video.engine import distributed
from cdcd_video.errors import UserError
from cdcd_video.metrics import likelihood, measurements, merge, motion
from cdcd_video.metrics.eval_dataset import SENTENCE_ROWS, Clips, EvalDataset, choose_clips
from cdcd_video.metrics.examples import Example, ExampleStore
from cdcd_video.metrics.feature_extractors import FeatureExtractors
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.references import ROWS, Progress, VideoModel, as_evaluated, make, sampled_rows
from cdcd_video.metrics.scores import METRICS, SETS, Score
from cdcd_video.metrics.sets.feature_store import REAL, FeatureStore, set_scores
from cdcd_video.metrics.summary import PerVideo, per_video, scores_of

__all__ = ["Clips", "Evaluation", "Example", "check", "choose_clips", "evaluate", "frames_to_sample"]

NUM_EXAMPLES = 8
"""Of the first videos, kept for looking at."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was found."""

    scores: list[Score]
    examples: list[Example]
    videos: list[PerVideo] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    """What each part of the work took."""


def check(dataset: EvalDataset, rule: Protocol, metrics: Sequence[str]) -> None:
    """Refuses what cannot be measured, before anything is drawn.

    Raises:
      UserError: too few real videos for a metric, or videos too short for a window.
    """
    least = min(len({dataset.subjects[video].clip for video in dataset.compared}), dataset.num_others)
    for metric in metrics:
        if metric in SETS and SETS[metric] != "frame":
            rule.windows()
        needed = 0 if not METRICS[metric].needs_real else 2 if metric in SETS else 1
        if least < needed:
            raise UserError(
                f"{metric} compares with real videos of other scenes or clips, and there are {dataset.num_others} beside"
                f" {len(dataset.compared)} to be drawn; raise --num-real and --num-videos, or give more clips"
            )


def frames_to_sample(dataset: EvalDataset, rule: Protocol, metrics: Sequence[str], rows: Sequence[str] = ROWS) -> int:
    """How many frames an evaluation draws: scenes are drawn twice, the second time with another sentence."""
    return len(dataset.subjects) * (rule.num_frames - 1) * len(sampled_rows(_asked(rows, dataset, metrics)))


def evaluate(
    pipe: VideoModel,
    dataset: EvalDataset,
    rule: Protocol,
    params: Any,
    seeds: Sequence[int],
    *,
    metrics: Sequence[str] = ("psnr", "ssim", "motion"),
    tools: FeatureExtractors = FeatureExtractors(),  # noqa: B008 - frozen
    rows: Sequence[str] = ROWS,
    batch_size: int = 32,
    num_examples: int = NUM_EXAMPLES,
    progress: Progress | None = None,
) -> Evaluation:
    """Draws every video from its first frame and its sentence, and judges it.

    Args:
      pipe: the model.
      dataset: real videos: those drawn again, and others.
      rule: settled protocol.
      params: settings, as the model understands them; number and rate of the frames are the protocol's.
      seeds: one per video.
      metrics: some of `METRICS`.
      tools: the networks that these metrics need.
      rows: some of `ROWS` and `ORACLES`; those that this footage or these metrics do not have are left out.
      batch_size: videos drawn at a time; nothing depends on it.
      num_examples: how many of the first videos are kept for looking at.
      progress: told after every frame drawn of a batch; see `frames_to_sample`.

    Returns:
      What was found; nothing in a process that has brought it to the main one.

    Raises:
      UserError: a metric does not fit the footage.
    """
    check(dataset, rule, metrics)
    rows, clock = _asked(rows, dataset, metrics), _Clock()
    feature_stores = _galleries(metrics, tools, rule)
    with clock("real videos"):
        real_gaps = _look_at_real(dataset, rule, feature_stores, metrics)
    seen: merge.ByNumber = {}
    kept = ExampleStore(num_examples, metrics, rule.first_counted)
    for batch in merge.own_batches(len(seeds), batch_size):
        with clock("drawing"):
            made, true = make(pipe, dataset, batch, rows, rule, params, seeds, progress)
        for place, number in enumerate(batch):
            subject, caption = dataset.subjects[number], dataset.captions["model"][number]
            videos = {row: made[row][place] for row in rows}
            found: dict[str, list[measurements.Seen]] = {row: [] for row in rows}
            with clock("judging scenes"):
                for row in rows if "sprites" in metrics else ():
                    found[row] += dataset.measure(number, row, videos[row])
            if "nll" in metrics:
                with clock("likelihood"):
                    film = dataset.film(number, pipe.size_px)
                    for row in (row for row in likelihood.TOLD if row in rows):
                        said = dataset.captions[likelihood.TOLD[row]][number]
                        found[row] += [
                            likelihood.measure_likelihood(pipe, subject, film, said, rule.rate, seeds[number])
                        ]
            plain = [row for row in rows if row not in SENTENCE_ROWS]
            with clock("judging frames"):
                for row in plain:
                    found[row] += measurements.measure_frames(
                        subject, videos[row], true[place], caption, metrics, tools, real_gaps
                    )
            with clock("feature networks"):
                for feature_store in feature_stores.values() if number in dataset.compared else ():
                    for row in plain:
                        feature_store.show(row, subject.name, subject.clip, videos[row])
            seen[number] = found
            captions = {row: dataset.captions[row][number] for row in sampled_rows(rows)}
            shown = {row: frames for row, frames in videos.items() if row != "sentence-ignored"}
            kept.offer(number, Example(captions, shown, subject.name), found.get("model", []))
    if not merge.at_main(seen, feature_stores, kept):
        return Evaluation([], [])
    by_row = {row: [one for number in sorted(seen) for one in seen[number][row]] for row in rows}
    scores: list[Score] = []
    lines: list[PerVideo] = []
    with clock("intervals"):
        for row in rows:
            scores += scores_of(row, by_row[row], rule.first_counted, rule.seed, tools.features)
            lines += per_video(row, by_row[row], rule.first_counted, by_frame=row == "model")
        plain = [row for row in rows if row not in SENTENCE_ROWS]
        for metric in (name for name in metrics if name in SETS):
            scores += set_scores(metric, feature_stores[SETS[metric]], plain, rule, tools.features[metric])
    scores.sort(key=lambda score: rows.index(score.row))
    return Evaluation(
        scores, kept.examples(), lines, {part: round(seconds, 1) for part, seconds in clock.seconds.items()}
    )


class _Clock:
    """Adds up what each part of the work takes."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - begin


def _asked(rows: Sequence[str], dataset: EvalDataset, metrics: Sequence[str]) -> list[str]:
    """Sentences are changed only where somebody can judge what comes of it."""
    judged = SENTENCE_ROWS if "sprites" in metrics else tuple(likelihood.TOLD) if "nll" in metrics else ()
    judged = judged if "counterfactual" in dataset.captions else ()
    return [row for row in rows if row in judged or row not in SENTENCE_ROWS]


def _galleries(metrics: Sequence[str], tools: FeatureExtractors, rule: Protocol) -> dict[str, FeatureStore]:
    wanted = dict.fromkeys(SETS[metric] for metric in metrics if metric in SETS)
    frames = [(frame, frame) for frame in range(rule.num_frames)]
    feature_stores = {}
    for who in wanted:
        network = tools.networks[who]
        places = (frames, []) if who == "frame" else (rule.windows(), rule.short_windows(network.short_frames))
        feature_stores[who] = FeatureStore(network, *places)
    return feature_stores


def _look_at_real(
    dataset: EvalDataset, rule: Protocol, feature_stores: Mapping[str, FeatureStore], metrics: Sequence[str]
) -> Float[np.ndarray, " R"]:
    """Shows the other real videos to everybody who compares with them; returns their first gaps."""
    gaps, count = [], dataset.num_others if any(METRICS[metric].needs_real for metric in metrics) else 0
    for number in distributed.own(list(range(count))):
        frames = as_evaluated(dataset.other(number, rule.size_px), rule)
        gaps.append(motion.first_gap(frames))
        for feature_store in feature_stores.values():
            feature_store.show(REAL, f"{number:09d}", f"{number:09d}", frames)
    return merge.gathered_numbers(gaps, count)
