"""Draws every video again from its first frame, and judges it beside its references: real videos in, scores out.

Which videos is said by `footage`, which rows by `rows`, what is seen in one of them by `seeing`, in whole sets by `sets`.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from cdcd_video.errors import UserError
from cdcd_video.metrics import motion, seeing
from cdcd_video.metrics.footage import SENTENCE_ROWS, Clips, Footage, choose_clips
from cdcd_video.metrics.instruments import Instruments
from cdcd_video.metrics.rows import ROWS, Painter, Progress, as_judged, drawn_rows, make
from cdcd_video.metrics.scores import MEASURES, METRICS, NEED_REAL, SETS, Score
from cdcd_video.metrics.seeing import Seen
from cdcd_video.metrics.sets.gallery import REAL, Gallery, set_scores
from cdcd_video.metrics.summary import PerVideo, per_video, scores_of
from cdcd_video.protocol import Protocol

__all__ = ["Clips", "Evaluation", "Example", "check", "choose_clips", "evaluate", "frames_to_draw"]

NUM_EXAMPLES, NUM_EXTREMES = 8, 3
"""Videos kept for looking at: the first ones, and as many of the best and of the worst."""
CASE_METRICS = ("psnr", "identity_iou", "ssim", "lpips", "clip_text")
"""The first of these that was measured says which videos are the best and the worst."""


@dataclasses.dataclass(frozen=True)
class Example:
    """One video in every row, to be looked at."""

    captions: dict[str, str]
    """The sentence of each row that was drawn."""
    videos: dict[str, UInt8[np.ndarray, "F H W 3"]]
    name: str = ""
    kind: str = ""
    """`best` or `worst` of all; empty for the first ones, which nobody chose."""
    measured: tuple[str, float] | None = None
    """By what it is the best or the worst, and how much."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was found."""

    scores: list[Score]
    examples: list[Example]
    videos: list[PerVideo] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    """What each part of the work took."""


def check(footage: Footage, rule: Protocol, metrics: Sequence[str]) -> None:
    """Refuses what cannot be measured, before anything is drawn.

    Raises:
      UserError: too few real videos for a metric, or videos too short for a window.
    """
    least = min(len({footage.subjects[video].clip for video in footage.compared}), footage.num_others)
    for metric in metrics:
        if metric in SETS and SETS[metric] != "frame":
            rule.windows()
        needed = 0 if metric not in NEED_REAL else 2 if metric in SETS else 1
        if least < needed:
            raise UserError(
                f"{metric} compares with real videos of other scenes or clips, and there are {footage.num_others} beside"
                f" {len(footage.compared)} to be drawn; raise --num-real and --num-videos, or give more clips"
            )


def frames_to_draw(footage: Footage, rule: Protocol, metrics: Sequence[str], rows: Sequence[str] = ROWS) -> int:
    """How many frames an evaluation draws: scenes are drawn twice, the second time with another sentence."""
    return len(footage.subjects) * (rule.num_frames - 1) * len(drawn_rows(_asked(rows, footage, metrics)))


def evaluate(
    pipe: Painter,
    footage: Footage,
    rule: Protocol,
    drawing: Any,
    seeds: Sequence[int],
    *,
    metrics: Sequence[str] = ("psnr", "ssim", "motion"),
    tools: Instruments = Instruments(),  # noqa: B008 - frozen
    rows: Sequence[str] = ROWS,
    batch_size: int = 32,
    num_examples: int = NUM_EXAMPLES,
    progress: Progress | None = None,
) -> Evaluation:
    """Draws every video from its first frame and its sentence, and judges it.

    Args:
      pipe: the model.
      footage: real videos: those drawn again, and others.
      rule: settled protocol.
      drawing: settings, as the model understands them; number and rate of the frames are the protocol's.
      seeds: one per video.
      metrics: some of `METRICS`.
      tools: the networks that these metrics need.
      rows: some of `ROWS` and `ORACLES`; those that this footage or these metrics do not have are left out.
      batch_size: videos drawn at a time; nothing depends on it.
      num_examples: how many of the first videos are kept for looking at.
      progress: told after every frame drawn of a batch; see `frames_to_draw`.

    Raises:
      UserError: a metric does not fit the footage.
    """
    check(footage, rule, metrics)
    rows, clock = _asked(rows, footage, metrics), _Clock()
    galleries = _galleries(metrics, tools, rule)
    with clock("real videos"):
        real_gaps = _look_at_real(footage, rule, galleries, metrics)
    seen: dict[str, list[Seen]] = {row: [] for row in rows}
    kept = _Kept(num_examples, metrics, rule.first_counted)
    for begin in range(0, len(seeds), batch_size):
        batch = range(begin, min(begin + batch_size, len(seeds)))
        with clock("drawing"):
            made, true = make(pipe, footage, batch, rows, rule, drawing, seeds, progress)
        for place, number in enumerate(batch):
            subject, caption = footage.subjects[number], footage.captions["model"][number]
            videos = {row: made[row][place] for row in rows}
            found: dict[str, list[Seen]] = {row: [] for row in rows}
            with clock("judging scenes"):
                for row in rows if "sprites" in metrics else ():
                    found[row] += footage.see(number, row, videos[row])
            plain = [row for row in rows if row not in SENTENCE_ROWS]
            with clock("judging frames"):
                for row in plain:
                    found[row] += seeing.see_frames(
                        subject, videos[row], true[place], caption, metrics, tools, real_gaps
                    )
            with clock("feature networks"):
                for gallery in galleries.values() if number in footage.compared else ():
                    for row in plain:
                        gallery.show(row, subject.name, subject.clip, videos[row])
            for row in rows:
                seen[row] += found[row]
            captions = {row: footage.captions[row][number] for row in drawn_rows(rows)}
            shown = {row: frames for row, frames in videos.items() if row != "sentence-ignored"}
            kept.offer(Example(captions, shown, subject.name), found.get("model", []))
    scores: list[Score] = []
    lines: list[PerVideo] = []
    with clock("intervals"):
        for row in rows:
            scores += scores_of(row, seen[row], rule.first_counted, rule.seed, tools.features)
            lines += per_video(row, seen[row], rule.first_counted, by_frame=row == "model")
        plain = [row for row in rows if row not in SENTENCE_ROWS]
        for metric in (name for name in metrics if name in SETS):
            scores += set_scores(metric, galleries[SETS[metric]], plain, rule, tools.features[metric])
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


def _asked(rows: Sequence[str], footage: Footage, metrics: Sequence[str]) -> list[str]:
    """Sentences are changed only where somebody can judge what comes of it."""
    has_sentences = "sprites" in metrics and "counterfactual" in footage.captions
    return [row for row in rows if has_sentences or row not in SENTENCE_ROWS]


def _galleries(metrics: Sequence[str], tools: Instruments, rule: Protocol) -> dict[str, Gallery]:
    wanted = dict.fromkeys(SETS[metric] for metric in metrics if metric in SETS)
    frames = [(frame, frame) for frame in range(rule.num_frames)]
    galleries = {}
    for who in wanted:
        network = tools.networks[who]
        places = (frames, []) if who == "frame" else (rule.windows(), rule.short_windows(network.short_frames))
        galleries[who] = Gallery(network, *places)
    return galleries


def _look_at_real(
    footage: Footage, rule: Protocol, galleries: Mapping[str, Gallery], metrics: Sequence[str]
) -> Float[np.ndarray, " R"]:
    """Shows the other real videos to everybody who compares with them; returns their first gaps."""
    gaps = []
    for number in range(footage.num_others) if NEED_REAL & set(metrics) else ():
        frames = as_judged(footage.other(number, rule.size_px), rule)
        gaps.append(motion.first_gap(frames))
        for gallery in galleries.values():
            gallery.show(REAL, f"{number:09d}", f"{number:09d}", frames)
    return np.array(gaps)


class _Kept:
    """The videos that are shown: the first ones, the best and the worst."""

    def __init__(self, num_first: int, metrics: Sequence[str], first_counted: int):
        names = {name for metric in metrics for name in METRICS[metric]}
        self.metric = next((name for name in CASE_METRICS if name in names), None)
        self._num_first, self._first_counted = num_first, first_counted
        self._first: list[Example] = []
        self._ends: dict[str, list[tuple[float, Example]]] = {"best": [], "worst": []}
        self._num = 0

    def offer(self, example: Example, seen: Sequence[Seen]) -> None:
        """Keeps a video if it is among those; what is not kept is let go, with the batch it lies in."""
        self._num += 1
        if len(self._first) < self._num_first:
            self._first.append(_copied(example))
        value = self._value(seen)
        if value is None:
            return
        sign = 1 if MEASURES[self.metric].better == "lower" else -1
        for kind, turn in (("best", sign), ("worst", -sign)):
            kept = self._ends[kind]
            if len(kept) < NUM_EXTREMES or turn * value < kept[-1][0]:
                told = dataclasses.replace(_copied(example), kind=kind, measured=(self.metric, value))
                kept.append((turn * value, told))
                kept.sort(key=lambda pair: pair[0])
                del kept[NUM_EXTREMES:]

    def examples(self) -> list[Example]:
        """All of them; best and worst only where there are more videos than are shown anyway."""
        if self._num <= max(self._num_first, 2 * NUM_EXTREMES):
            return self._first
        return self._first + [example for kept in self._ends.values() for _, example in kept]

    def _value(self, seen: Sequence[Seen]) -> float | None:
        ones = [one for one in seen if one.metric == self.metric]
        total, weight = (
            (
                sum(float(np.nansum(side[self._first_counted if len(side) > 1 else 0 :])) for side in sides)
                for sides in zip(*((one.total, one.weight) for one in ones), strict=True)
            )
            if ones
            else (0.0, 0.0)
        )
        return total / weight if weight else None


def _copied(example: Example) -> Example:
    return dataclasses.replace(example, videos={row: frames.copy() for row, frames in example.videos.items()})
