"""A system ready to be evaluated: everything is loaded and checked, and nothing is sampled yet."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cdcd_video.config import SamplingParams
from cdcd_video.engine import distributed, runtime
from cdcd_video.evaluation import vbench
from cdcd_video.kernels.threads import threads
from cdcd_video.metrics import feature_extractors, suite
from cdcd_video.metrics.eval_dataset import EvalDataset
from cdcd_video.metrics.features import flow_histograms, offline
from cdcd_video.metrics.latent import latent_study
from cdcd_video.metrics.latent.counterfactuals import Cases
from cdcd_video.metrics.protocol import Protocol, SettledProtocol
from cdcd_video.metrics.references import SYSTEMS, Progress, VideoModel
from cdcd_video.storage.memory import check_fits

_BYTES = 5
"""Bytes per value of a frame while it is decoded: 4 as float, and 1 as uint8."""


@dataclass(frozen=True)
class Benchmark:
    """One system under one protocol."""

    video_model: VideoModel
    """The model, or the reader of existing videos."""
    system_facts: Mapping[str, Any]
    """What every score depends on, besides the protocol: data, split, seed, checkpoint, model_sha256, drawing, versions."""
    settled: SettledProtocol
    dataset: EvalDataset
    tools: feature_extractors.FeatureExtractors
    metrics: tuple[str, ...]
    params: SamplingParams | None
    """None where nothing is sampled."""
    notes: tuple[str, ...] = ()
    """Notes that stand above the scores, one sentence each."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Unusable videos by name, with the reason."""
    systems: tuple[str, ...] = SYSTEMS
    num_threads: int | None = None
    """Number of CPU threads for small networks; None leaves it unchanged."""
    cases: Cases | None = None
    """Images with several captions each, for `study_latents`; None without a study of the latent space."""

    @property
    def frames_to_sample(self) -> int:
        """Total of a progress bar over `run` and `study_latents`."""
        return self._frames_of_work(are_wanted=False)

    def _frames_of_work(self, *, are_wanted: bool) -> int:
        asked = (self.dataset, self.settled.protocol, self.metrics, self.systems)
        frames = suite.frames_to_sample(*asked, are_wanted=are_wanted)
        return frames + (latent_study.frames_of_work(self.cases, self.params) if self.cases else 0)

    def measure(
        self, batch_size: int, doing: str, vbench_folder: Path | None = None
    ) -> tuple[suite.Evaluation, latent_study.LatentStudy | None]:
        """`run` and `study_latents` with a progress bar. Several processes share `run`; the main one studies the latents.

        Args:
          batch_size: videos sampled at a time; the result does not depend on it.
          doing: label of the bar.
          vbench_folder: where the videos are written for VBench, see `vbench.custom_input`; None writes none.

        Returns:
          The results; empty in other processes than the main one.
        """
        protocol, at_a_time = self.settled.protocol, min(batch_size, self.settled.protocol.num_videos)
        pixels = 3 * max(size.height * size.width for size in protocol.sizes)
        check_fits(
            at_a_time * protocol.num_frames * pixels * _BYTES, f"a batch of {at_a_time:,} videos", "lower --batch"
        )
        is_main, study = distributed.is_main(), None
        total = self._frames_of_work(are_wanted=vbench_folder is not None)
        with tqdm(total=total, desc=doing, unit="frame", disable=not is_main or not total) as bar:
            with vbench.custom_input(vbench_folder, protocol.rate) as kept:
                found = self.run(batch_size, bar.update, on_video=kept.add if kept else None)
            if is_main:
                with distributed.alone():
                    study = self.study_latents(batch_size, bar.update)
        return found, study

    def run(
        self,
        batch_size: int = 32,
        progress: Progress | None = None,
        systems: Sequence[str] | None = None,
        on_video: suite.OnVideo | None = None,
    ) -> suite.Evaluation:
        """Samples and measures; every score carries the hash of the protocol.

        Args:
          batch_size: videos sampled at a time; the result does not depend on it.
          progress: called with the number of frames that are done.
          systems: some of `systems`; None means all.
          on_video: see `suite.evaluate`.
        """
        protocol = self.settled.protocol
        systems = self.systems if systems is None else systems
        how: dict[str, Any] = {"metrics": self.metrics, "tools": self.tools, "systems": systems}
        how |= {"batch_size": batch_size, "progress": progress, "on_video": on_video}
        seeds = video_seeds(protocol, len(self.dataset.eval_videos))
        with threads(self._few_threads):
            found = suite.evaluate(self.video_model, self.dataset, protocol, self.params, seeds, **how)
        return replace(found, scores=[replace(score, protocol=self.settled.hash) for score in found.scores])

    def study_latents(self, batch_size: int = 32, progress: Progress | None = None) -> latent_study.LatentStudy | None:
        """The study of the latent space under the same protocol; None without `cases`."""
        if self.cases is None:
            return None
        begin = time.perf_counter()
        how: dict[str, Any] = {"seed": self.settled.protocol.seed, "batch_size": batch_size, "progress": progress}
        with threads(self._few_threads):
            found = latent_study.study(self.video_model, self.cases, self.params, **how)
        scores = tuple(replace(score, protocol=self.settled.hash) for score in found.scores)
        return replace(found, scores=scores, seconds=round(time.perf_counter() - begin, 1))

    def facts(self) -> dict[str, Any]:
        """A copy of `system_facts`."""
        return dict(self.system_facts)

    @property
    def threads(self) -> int:
        """CPU threads of one operation during the evaluation."""
        return self._few_threads or torch.get_num_threads()

    @property
    def precision(self) -> str | None:
        """Of the matrix products while sampling; None where nothing is sampled."""
        return getattr(self.video_model, "precision", None)

    @property
    def _few_threads(self) -> int | None:
        """Number of threads where all networks are small: on a busy machine their threads wait for each other."""
        is_small = {network.name for network in self.tools.networks.values()} <= {
            *offline.NETWORKS,
            flow_histograms.NAME,
        }
        return self.num_threads if is_small else None


def video_seeds(protocol: Protocol, num_videos: int) -> list[int]:
    """The sampling seed of each video."""
    return [runtime.seed_for(protocol.seed, "evaluate", video) for video in range(num_videos)]
