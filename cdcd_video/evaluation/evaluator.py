"""A system ready to be measured: everything is loaded and checked, and nothing is drawn yet."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from tqdm import tqdm

from cdcd_video.config import SamplingParams
from cdcd_video.engine import distributed, runtime
from cdcd_video.kernels.threads import threads
from cdcd_video.metrics import feature_extractors, suite
from cdcd_video.metrics.eval_dataset import EvalDataset
from cdcd_video.metrics.features import offline
from cdcd_video.metrics.latent import latent_study
from cdcd_video.metrics.latent.counterfactuals import Cases
from cdcd_video.metrics.protocol import Protocol, SettledProtocol
from cdcd_video.metrics.references import ROWS, Progress, VideoModel
from cdcd_video.storage.memory import check_fits

_BYTES = 5
"""Of a number of a frame while it is decoded: in 32 bits, and in 8."""


@dataclass(frozen=True)
class Benchmark:
    """One system under one protocol."""

    video_model: VideoModel
    """The model, or the reader of videos that are drawn already."""
    system: Mapping[str, Any]
    """What every score rests on, beside the protocol: data, split, seed, checkpoint, model_sha256, drawing, versions."""
    ruler: SettledProtocol
    dataset: EvalDataset
    tools: feature_extractors.FeatureExtractors
    metrics: tuple[str, ...]
    params: SamplingParams | None
    """None where nothing is drawn anew."""
    notes: tuple[str, ...] = ()
    """What the user should know before reading the scores, one sentence each."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Videos that cannot be used, by name, and why."""
    rows: tuple[str, ...] = ROWS
    num_threads: int | None = None
    """For small networks; None leaves them as they are."""
    cases: Cases | None = None
    """Images with several sentences each, for `look`; None where nobody looks at the latents."""

    @property
    def frames_to_sample(self) -> int:
        """For a progress bar over `run` and `look`."""
        frames = suite.frames_to_sample(self.dataset, self.ruler.protocol, self.metrics, self.rows)
        return frames + (latent_study.frames_of_work(self.cases, self.params) if self.cases else 0)

    def measure(self, batch_size: int, doing: str) -> tuple[suite.Evaluation, latent_study.LatentStudy | None]:
        """`run` and `look` with a progress bar; of several processes, each runs a part and the main one looks.

        Args:
          batch_size: videos drawn at a time; nothing depends on it.
          doing: what the bar says.

        Returns:
          What was found; nothing in a process that is not the main one.
        """
        rule, at_a_time = self.ruler.protocol, min(batch_size, self.ruler.protocol.num_videos)
        pixels = 3 * (rule.size_px or 1) ** 2
        check_fits(at_a_time * rule.num_frames * pixels * _BYTES, f"a batch of {at_a_time:,} videos", "lower --batch")
        is_main, study = distributed.is_main(), None
        with tqdm(total=self.frames_to_sample, desc=doing, unit="frame", disable=not is_main) as bar:
            found = self.run(batch_size, bar.update)
            if is_main:
                with distributed.alone():
                    study = self.look(batch_size, bar.update)
        return found, study

    def run(
        self, batch_size: int = 32, progress: Progress | None = None, rows: Sequence[str] | None = None
    ) -> suite.Evaluation:
        """Draws and judges; every score carries the hash of the protocol.

        Args:
          batch_size: videos drawn at a time; nothing depends on it.
          progress: told how many frames are done.
          rows: some of `rows`; None means all.
        """
        rule = self.ruler.protocol
        how = {"metrics": self.metrics, "tools": self.tools, "rows": self.rows if rows is None else rows}
        how |= {"batch_size": batch_size, "progress": progress}
        seeds = video_seeds(rule, len(self.dataset.subjects))
        with threads(self._calm):
            found = suite.evaluate(self.video_model, self.dataset, rule, self.params, seeds, **how)
        return replace(found, scores=[replace(score, protocol=self.ruler.hash) for score in found.scores])

    def look(self, batch_size: int = 32, progress: Progress | None = None) -> latent_study.LatentStudy | None:
        """Looks at the latent space under the same protocol; None where there are no `cases`."""
        if self.cases is None:
            return None
        begin = time.perf_counter()
        how = {"seed": self.ruler.protocol.seed, "batch_size": batch_size, "progress": progress}
        with threads(self._calm):
            found = latent_study.study(self.video_model, self.cases, self.params, **how)
        scores = tuple(replace(score, protocol=self.ruler.hash) for score in found.scores)
        return replace(found, scores=scores, seconds=round(time.perf_counter() - begin, 1))

    def facts(self) -> dict[str, Any]:
        """`system`, for whoever writes it down."""
        return dict(self.system)

    @property
    def threads(self) -> int:
        """CPU threads of one operation while it is measured."""
        return self._calm or torch.get_num_threads()

    @property
    def _calm(self) -> int | None:
        """Threads, where all networks are small: on a busy machine those that wait for each other cost fortyfold."""
        is_small = {network.name for network in self.tools.networks.values()} <= set(offline.NETWORKS)
        return self.num_threads if is_small else None


def video_seeds(rule: Protocol, num_videos: int) -> list[int]:
    """The seed of each video's drawing."""
    return [runtime.seed_for(rule.seed, "evaluate", video) for video in range(num_videos)]
