"""The evaluation: samples every video from its first frame and measures it beside references; real videos in, scores out.

`eval_dataset` has the real videos, `references` the systems, `video_measurer` the metrics of one video, `sets` those of sets.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from cdcd_video.config.value_types import Size
from cdcd_video.engine import distributed
from cdcd_video.errors import UserError
from cdcd_video.metrics import between_ends, caption_margin, likelihood, merge, motion
from cdcd_video.metrics.eval_dataset import COUNTERFACTUAL_SYSTEMS, Clips, EvalDataset, choose_clips
from cdcd_video.metrics.examples import Example, ExampleStore
from cdcd_video.metrics.feature_extractors import FeatureExtractors
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.references import SYSTEMS, Progress, VideoModel, as_evaluated, sampled_systems
from cdcd_video.metrics.scores import METRICS, SETS, Score
from cdcd_video.metrics.sets.feature_store import REAL, FeatureStore, set_scores
from cdcd_video.metrics.summary import PerVideo, per_video, scores_of
from cdcd_video.metrics.video_measurer import MadeVideos, VideoMeasurer, need_videos, of_scenes
from cdcd_video.metrics.work_clock import WorkClock

__all__ = ["Clips", "Evaluation", "Example", "check", "choose_clips", "evaluate", "frames_to_sample"]

OnVideo = Callable[[int, str, np.ndarray, np.ndarray], None]
"""Called with the number of a video, its caption, its frames (F, H, W, 3) and the given frame (H, W, 3)."""
NUM_EXAMPLES = 8
"""How many of the first videos are kept as examples."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation."""

    scores: list[Score]
    examples: list[Example]
    videos: list[PerVideo] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    """Seconds by part of the work."""


def check(dataset: EvalDataset, protocol: Protocol, metrics: Sequence[str]) -> None:
    """Refuses metrics that cannot be measured, before anything is sampled.

    Raises:
      UserError: too few real videos for a metric, or videos too short for a window.
    """
    if "inbetween" in metrics and protocol.num_frames < between_ends.LEAST_FRAMES:
        raise UserError(
            f"videos of {protocol.num_frames} frames have none between the first and the last; raise --num-frames, or leave"
            " inbetween out of --metrics"
        )
    least = min(len({dataset.eval_videos[video].clip for video in dataset.compared}), dataset.num_others)
    for metric in metrics:
        if metric in SETS and SETS[metric] != "frame":
            protocol.windows()
        needed = 0 if not METRICS[metric].needs_real else 2 if metric in SETS else 1
        if least < needed:
            raise UserError(
                f"{metric} needs at least {needed} real videos of other scenes or clips and {needed} sampled ones; there are"
                f" {dataset.num_others} and {len(dataset.compared)}; raise --num-real and --num-videos, or add clips"
            )


def frames_to_sample(
    dataset: EvalDataset,
    protocol: Protocol,
    metrics: Sequence[str],
    systems: Sequence[str] = SYSTEMS,
    *,
    are_wanted: bool = False,
) -> int:
    """How many frames an evaluation samples. Scenes are sampled twice, the second time with another caption.

    Args:
      dataset, protocol, metrics, systems: as for `evaluate`.
      are_wanted: whether the videos are asked for, too, so that they are sampled even if no metric needs them.
    """
    if not (need_videos(metrics) or are_wanted):
        return 0
    times = len(sampled_systems(_measurable(systems, dataset, metrics))) + ("inbetween" in metrics)
    return len(dataset.eval_videos) * (protocol.num_frames - 1) * times


def evaluate(
    pipe: VideoModel,
    dataset: EvalDataset,
    protocol: Protocol,
    params: Any,
    seeds: Sequence[int],
    *,
    metrics: Sequence[str] = ("psnr", "ssim", "motion"),
    tools: FeatureExtractors = FeatureExtractors(),  # noqa: B008 - frozen
    systems: Sequence[str] = SYSTEMS,
    batch_size: int = 32,
    num_examples: int = NUM_EXAMPLES,
    progress: Progress | None = None,
    on_video: OnVideo | None = None,
) -> Evaluation:
    """Samples every video from its first frame and its caption where a metric needs it, and measures it.

    Args:
      pipe: the model.
      dataset: the real videos: those to be sampled again, and others.
      protocol: settled protocol.
      params: sampling parameters of the model; number of frames and frame rate are the protocol's.
      seeds: one per video.
      metrics: some of `METRICS`.
      tools: the networks that these metrics need.
      systems: some of `SYSTEMS` and `ORACLES`; those that the dataset or the metrics do not support are left out.
      batch_size: videos sampled at a time; the result does not depend on it.
      num_examples: how many of the first videos are kept as examples.
      progress: called after every frame of a batch; see `frames_to_sample`.
      on_video: called with every video of the system `model`, as it is measured. Without it, and where no metric needs videos,
        nothing is sampled, and there are no examples.

    Returns:
      The result; empty in a process that has sent it to the main one.

    Raises:
      UserError: a metric does not fit the dataset.
    """
    check(dataset, protocol, metrics)
    systems, clock = _measurable(systems, dataset, metrics), WorkClock()
    rows = between_ends.with_cross_fade(systems) if "inbetween" in metrics else systems
    feature_stores = _feature_stores(metrics, tools, protocol)
    wrong = caption_margin.wrong_captions(dataset) if "caption_margin" in metrics and "model" in systems else None
    with clock("real videos"):
        real_gaps = _measure_real(dataset, protocol, feature_stores, metrics)
    measurer = VideoMeasurer(pipe, dataset, protocol, params, seeds, metrics, tools, systems, rows, clock)
    is_sampled = need_videos(metrics) or on_video is not None
    by_number: merge.ByNumber = {}
    examples = ExampleStore(num_examples, metrics, protocol.first_counted)
    for batch in merge.own_batches(len(seeds), batch_size):
        made = dict.fromkeys(batch, MadeVideos())
        if is_sampled:
            with clock("drawing"):
                made = measurer.make_videos(batch, progress)
        for number in batch:
            videos = made[number]
            found = by_number[number] = measurer.measure(number, videos, wrong, real_gaps)
            measurer.add_features(number, videos, feature_stores)
            if videos.true is None:
                continue
            if on_video is not None and "model" in videos.by_system:
                caption = dataset.captions["model"][number]
                on_video(number, caption, videos.by_system["model"], videos.true[0])
            examples.offer(number, _example(dataset, number, systems, videos), found.get("model", []))
    if not merge.at_main(by_number, feature_stores, examples):
        return Evaluation([], [])
    with clock("intervals"):
        scores, lines = _summarised(by_number, rows, protocol, tools)
        plain = [system for system in systems if system not in COUNTERFACTUAL_SYSTEMS]
        for metric in (name for name in metrics if name in SETS):
            scores += set_scores(metric, feature_stores[SETS[metric]], plain, protocol, tools.features[metric])
    scores.sort(key=lambda score: rows.index(score.row))
    seconds = {part: round(seconds, 1) for part, seconds in clock.seconds.items()}
    return Evaluation(scores, examples.examples(), lines, seconds)


def _example(dataset: EvalDataset, number: int, systems: Sequence[str], made: MadeVideos) -> Example:
    """One video as it may be shown in a report."""
    captions = {system: dataset.captions[system][number] for system in sampled_systems(systems)}
    pictures = {system: frames for system, frames in made.by_system.items() if system != "sentence-ignored"}
    return Example(captions, pictures, dataset.eval_videos[number].name)


def _summarised(
    by_number: merge.ByNumber, rows: Sequence[str], protocol: Protocol, tools: FeatureExtractors
) -> tuple[list[Score], list[PerVideo]]:
    """The scores of the metrics of single videos, and what each video contributes."""
    scores: list[Score] = []
    lines: list[PerVideo] = []
    for system in rows:
        measured = [one for number in sorted(by_number) for one in by_number[number][system]]
        scores += scores_of(system, measured, protocol.first_counted, protocol.seed, tools.features)
        lines += per_video(system, measured, protocol.first_counted, by_frame=system == "model")
    return scores, lines


def _measurable(systems: Sequence[str], dataset: EvalDataset, metrics: Sequence[str]) -> list[str]:
    """The systems that these metrics can measure: other captions need scenes or `nll`, and a dataset that has them."""
    measured = (
        COUNTERFACTUAL_SYSTEMS if of_scenes(metrics) else tuple(likelihood.CAPTION_OF) if "nll" in metrics else ()
    )
    measured = measured if "counterfactual" in dataset.captions else ()
    return [system for system in systems if system in measured or system not in COUNTERFACTUAL_SYSTEMS]


def _feature_stores(metrics: Sequence[str], tools: FeatureExtractors, protocol: Protocol) -> dict[str, FeatureStore]:
    wanted = dict.fromkeys(SETS[metric] for metric in metrics if metric in SETS)
    frames = [(frame, frame) for frame in range(protocol.num_frames)]
    feature_stores = {}
    for kind in wanted:
        network = tools.networks[kind]
        places = (frames, []) if kind == "frame" else (protocol.windows(), protocol.short_windows(network.short_frames))
        feature_stores[kind] = FeatureStore(network, *places)
    return feature_stores


def _measure_real(
    dataset: EvalDataset, protocol: Protocol, feature_stores: Mapping[str, FeatureStore], metrics: Sequence[str]
) -> Float[np.ndarray, " R"]:
    """Adds the other real videos to the feature stores that compare with them; returns their first gaps."""
    gaps, count = [], dataset.num_others if any(METRICS[metric].needs_real for metric in metrics) else 0
    for number in distributed.own(list(range(count))):
        frames = dataset.other(number, protocol.square_px)
        frames = as_evaluated(frames, protocol, Size(*frames.shape[1:3]))
        gaps.append(motion.first_gap(frames))
        for feature_store in feature_stores.values():
            feature_store.add_video(REAL, f"{number:09d}", f"{number:09d}", frames)
    return merge.gathered_numbers(gaps, count)
