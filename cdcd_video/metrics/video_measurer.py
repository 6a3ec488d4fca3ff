"""All metrics of one video under every system; the videos of a batch are sampled before, where a metric needs them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from cdcd_video.metrics import between_ends, caption_margin, likelihood, measurements
from cdcd_video.metrics.dataset_parts import same_size
from cdcd_video.metrics.eval_dataset import COUNTERFACTUAL_SYSTEMS, EvalDataset, VideoFrames
from cdcd_video.metrics.feature_extractors import FeatureExtractors
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.references import Progress, VideoModel, make
from cdcd_video.metrics.scores import METRICS
from cdcd_video.metrics.sets.feature_store import FeatureStore
from cdcd_video.metrics.work_clock import WorkClock

BySystem = dict[str, list[measurements.Measurement]]
"""The measurements of one video."""


@dataclasses.dataclass(frozen=True)
class MadeVideos:
    """The videos of one number, as they are measured; none where no metric needs them."""

    by_system: Mapping[str, VideoFrames] = dataclasses.field(default_factory=dict)
    between: Mapping[str, VideoFrames] = dataclasses.field(default_factory=dict)
    """Of the systems that are given both ends, for `inbetween`."""
    true: VideoFrames | None = None


@dataclasses.dataclass(frozen=True)
class VideoMeasurer:
    """Samples and measures the videos of an evaluation; see `suite.evaluate`.

    Attributes:
      pipe: the model.
      dataset: the real videos.
      protocol: settled protocol.
      params: sampling parameters of the model.
      seeds: one per video.
      metrics: some of `METRICS`.
      tools: the networks that these metrics need.
      systems: those that are measured, see `references`.
      rows: `systems`, and those that `inbetween` adds.
      clock: gets the time of each part.
    """

    pipe: VideoModel
    dataset: EvalDataset
    protocol: Protocol
    params: Any
    seeds: Sequence[int]
    metrics: Sequence[str]
    tools: FeatureExtractors
    systems: Sequence[str]
    rows: Sequence[str]
    clock: WorkClock

    def make_videos(self, batch: Sequence[int], progress: Progress | None = None) -> dict[int, MadeVideos]:
        """The videos of a batch by number.

        Args:
          batch: numbers of videos, of any size.
          progress: called after every frame of a part of one size.
        """
        made = {}
        how = (self.protocol, self.params, self.seeds, progress)
        for part in same_size(self.dataset, batch):
            by_system, true = make(self.pipe, self.dataset, part, self.systems, *how)
            between: Mapping[str, UInt8[np.ndarray, "B F H W 3"]] = {}
            if "inbetween" in self.metrics:
                assert isinstance(self.pipe, between_ends.InbetweenModel)
                between = between_ends.make_between(self.pipe, self.dataset, part, *how)
            for place, number in enumerate(part):
                own, own_between = ({name: one[place] for name, one in each.items()} for each in (by_system, between))
                made[number] = MadeVideos(own, own_between, true[place])
        return made

    def measure(
        self, number: int, made: MadeVideos, wrong: Sequence[str] | None, real_gaps: Float[np.ndarray, " R"]
    ) -> BySystem:
        """All measurements of one video.

        Args:
          number: of the video.
          made: of `make_videos`; empty where no metric needs videos.
          wrong: a wrong caption for each video; None without `caption_margin`.
          real_gaps: of other real videos, see `measurements.measure_frames`.
        """
        found: BySystem = {system: [] for system in self.rows}
        if made.true is not None:
            self._measure_objects(number, made, made.true, found)
        self._measure_likelihoods(number, wrong, found)
        if made.true is not None:
            eval_video, caption = self.dataset.eval_videos[number], self.dataset.captions["model"][number]
            with self.clock("judging frames"):
                for system in self._by_own_caption:
                    found[system] += measurements.measure_frames(
                        eval_video, made.by_system[system], made.true, caption, self.metrics, self.tools, real_gaps
                    )
        return found

    def add_features(self, number: int, made: MadeVideos, feature_stores: Mapping[str, FeatureStore]) -> None:
        """Adds the features of one video to the sets that are compared."""
        if number not in self.dataset.compared:
            return
        eval_video = self.dataset.eval_videos[number]
        with self.clock("feature networks"):
            for feature_store in feature_stores.values():
                for system in self._by_own_caption:
                    feature_store.add_video(system, eval_video.name, eval_video.clip, made.by_system[system])

    @property
    def _by_own_caption(self) -> list[str]:
        return [system for system in self.systems if system not in COUNTERFACTUAL_SYSTEMS]

    def _measure_objects(self, number: int, made: MadeVideos, true: VideoFrames, found: BySystem) -> None:
        """What is measured between two given frames, and against the scene."""
        for system in (system for system in made.between if system in self.rows):
            with self.clock("judging frames"):
                found[system] += between_ends.measure_between(self.dataset, number, made.between[system], true)
        if of_scenes(self.metrics):
            with self.clock("judging scenes"):
                for system in self.systems:
                    found[system] += self.dataset.measure(number, system, made.by_system[system])

    def _measure_likelihoods(self, number: int, wrong: Sequence[str] | None, found: BySystem) -> None:
        """What the model says of the true video; nothing of it is sampled."""
        eval_video, seed, fps = self.dataset.eval_videos[number], self.seeds[number], self.protocol.rate
        if "nll" in self.metrics:
            with self.clock("likelihood"):
                assert isinstance(self.pipe, likelihood.Likelihood)
                real_video = self.dataset.real_video(number, self.pipe.size_px)
                for system in (system for system in likelihood.CAPTION_OF if system in self.systems):
                    caption = self.dataset.captions[likelihood.CAPTION_OF[system]][number]
                    how = (eval_video, real_video, caption, fps, seed)
                    found[system].append(likelihood.measure_likelihood(self.pipe, *how))
        if wrong is not None:
            with self.clock("caption margin"):
                assert isinstance(self.pipe, caption_margin.CaptionModel)
                real_video = self.dataset.real_video(number, self.pipe.size_px)
                right = self.dataset.captions["model"][number]
                both = (eval_video, real_video, right, wrong[number], fps, seed)
                found["model"].append(caption_margin.measure_caption_margin(self.pipe, *both))


def of_scenes(metrics: Sequence[str]) -> bool:
    """Whether any of some metrics is of rendered scenes."""
    return any(METRICS[metric].world for metric in metrics)


def need_videos(metrics: Sequence[str]) -> bool:
    """Whether videos are sampled for any of some metrics."""
    return any(METRICS[metric].needs_videos for metric in metrics)
