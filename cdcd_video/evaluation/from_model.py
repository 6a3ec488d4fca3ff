"""A model that draws every video anew."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cdcd_video.errors import UserError
from cdcd_video.evaluation import load_networks, real_videos
from cdcd_video.evaluation.evaluator import Benchmark
from cdcd_video.evaluation.latent_cases import cases_of
from cdcd_video.kernels.threads import threads
from cdcd_video.metrics import feature_extractors, suite
from cdcd_video.metrics.eval_dataset import EvalDataset
from cdcd_video.metrics.latent.latent_model import LatentModel
from cdcd_video.metrics.protocol import SPRITES, TABLE, Protocol
from cdcd_video.metrics.scores import METRICS
from cdcd_video.networks.clip import STAND_IN
from cdcd_video.networks.codec.reconstruction_quality import round_trip_db
from cdcd_video.pipeline import ImageToVideo

NUM_LOOKED = 64
"""Starting frames that are looked at before anything is drawn."""


def prepare(
    pipe: ImageToVideo,
    protocol: Protocol,
    metrics: Sequence[str],
    device: str = "auto",
    *,
    latents: bool = False,
    **params: Any,
) -> Benchmark:
    """Settles a protocol and loads what the metrics need.

    Args:
      pipe: the model.
      protocol: as read.
      metrics: some of `scores.METRICS`.
      device: where feature networks run.
      latents: whether the latent space is to be looked at too; where the videos do not allow it, a note says why.
      **params: fields of `SamplingParams` that are not the protocol's: num_steps, guidance, ...

    Raises:
      UserError: the data do not fit the protocol, weights are missing, or a metric cannot be measured with them or, where no
        other is named, with this model.
    """
    if protocol.data == TABLE:
        raise UserError(f"data {TABLE!r} are the truths of videos that are drawn already; name them by --videos")
    rule = feature_extractors.settle_networks(protocol).settled(size_px=protocol.size_px or pipe.size_px)
    if rule.data == SPRITES:
        dataset, rule = real_videos.scenes(pipe.model.config, rule)
    else:
        dataset, rule = real_videos.clips(real_videos.stored(rule), rule)
    metrics, unlikely = _with_likelihood(pipe, metrics)
    suite.check(dataset, rule, metrics)
    settings = pipe.defaults(num_frames=rule.num_frames, fps=rule.rate, seed=rule.seed, **params)
    ruler, tools = load_networks.load(metrics, rule, dataset, lambda: pipe.model.clip, device)
    if "nll" in metrics:
        codec = LatentModel(pipe, lambda num: None).digest  # bits of other codes stand in another column
        tools = replace(tools, features={**tools.features, "nll": (f"codec-{codec[:8]}", codec)})
    notes = [pipe.model.clip.stand_in] if pipe.model.clip.stand_in else []
    notes += [
        *unlikely,
        *_other_mode(pipe, rule),
        *_other_world(pipe, rule, dataset),
        *_too_few(protocol, rule, dataset),
        *load_networks.blindness(rule, metrics, rule.data == SPRITES),
    ]
    notes += load_networks.one_window(rule, metrics, tools) + load_networks.unread(rule, metrics, tools, dataset)
    cases = None
    if latents:
        try:
            cases = cases_of(pipe, rule, settings)
        except UserError as error:
            notes.append(f"the latent space is not looked at: {error}")
    system = {
        "data": rule.data,
        "split": rule.split,
        "seed": rule.seed,
        "checkpoint": pipe.model.config.name,
        "model_sha256": pipe.model.digest,
        **({STAND_IN: pipe.model.clip.stand_in} if pipe.model.clip.stand_in else {}),
        "drawing": settings.described(),
        "versions": pipe.settings("", settings)["versions"],
    }
    more = {"num_threads": pipe.num_threads, "cases": cases}
    return Benchmark(pipe, system, ruler, dataset, tools, tuple(metrics), settings, tuple(notes), **more)


def _with_likelihood(pipe: ImageToVideo, metrics: Sequence[str]) -> tuple[list[str], list[str]]:
    """The metrics that this model has, and a sentence on those that it has not.

    Raises:
      UserError: none is left.
    """
    left = [metric for metric in metrics if not METRICS[metric].needs_model or pipe.has_likelihood]
    if len(left) == len(metrics):
        return left, []
    told = f"nll is left out: the baseline {pipe.model.config.baseline.kind} gives codes no probability"
    if not left:
        raise UserError(f"{told}; name another metric")
    return left, [told]


def _other_mode(pipe: ImageToVideo, rule: Protocol) -> list[str]:
    data = pipe.model.config.data
    if rule.mode is None or data.kind == "sprites" or data.mode == rule.mode:
        return []
    return [f"the model learned from frames made square by {data.mode}, and these are made so by {rule.mode}"]


def _other_world(pipe: ImageToVideo, rule: Protocol, dataset: EvalDataset) -> list[str]:
    """How many starting frames a user who asked for one of these videos would be warned of; one sentence for all."""
    least = pipe.model.least_db
    if rule.data == SPRITES or least is None:
        return []
    looked = range(min(NUM_LOOKED, len(dataset.subjects)))
    starts = np.stack([dataset.film(number, pipe.size_px)[0] for number in looked])
    with threads(pipe.num_threads):
        strange = int((round_trip_db(pipe.model.codec, pipe.model.clip, starts) < least).sum())
    if not strange:
        return []
    return [
        f"{strange} of the first {len(looked)} starting frames are not like those that the model learned from, and its videos of"
        " them may fall to pieces"
    ]


def _too_few(asked: Protocol, rule: Protocol, dataset: EvalDataset) -> list[str]:
    is_short = rule.num_videos < asked.num_videos or rule.num_real < (asked.num_real or 0)
    if rule.data == SPRITES or not (is_short or len(dataset.compared) < len(dataset.subjects)):
        return []
    return [
        f"{rule.data} has only {rule.num_videos} clips of this length to draw, where {asked.num_videos} are asked for;"
        f" sets compare {len(dataset.compared)} drawn videos with {rule.num_real} real ones of other clips"
    ]
