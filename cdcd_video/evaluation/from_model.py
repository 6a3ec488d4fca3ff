"""Evaluates a model, which samples every video."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cdcd_video.errors import UserError
from cdcd_video.evaluation import load_networks, real_videos
from cdcd_video.evaluation.evaluator import Benchmark
from cdcd_video.evaluation.latent_cases import cases_of, studied
from cdcd_video.kernels.threads import threads
from cdcd_video.metrics import feature_extractors, suite
from cdcd_video.metrics.dataset_parts import same_size
from cdcd_video.metrics.eval_dataset import EvalDataset
from cdcd_video.metrics.latent.latent_model import LatentModel
from cdcd_video.metrics.protocol import SPRITES, TABLE, Protocol
from cdcd_video.metrics.scores import METRICS
from cdcd_video.networks.clip import STAND_IN
from cdcd_video.networks.codec.start_thresholds import StartThresholds, are_unlike
from cdcd_video.networks.next_frame import CodePrediction, Likelihood
from cdcd_video.pipeline import ImageToVideo
from cdcd_video.sampling.frame_sizes import named

NUM_CHECKED = 64
"""First frames that are checked before anything is sampled."""


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
      latents: whether the latent space is studied too; where the videos do not allow it, a note says why.
      **params: fields of `SamplingParams` that are not the protocol's: num_steps, guidance, ...

    Raises:
      UserError: the data do not fit the protocol, weights are missing, or a metric cannot be measured with this model.
    """
    if protocol.data == TABLE:
        raise UserError(
            f"--data {TABLE} is for videos from files; name their folder by --videos, or set another --data"
        )
    requested = protocol
    protocol = feature_extractors.settle_networks(protocol).settled(size_px=protocol.size_px or pipe.size_px)
    protocol = real_videos.with_sizes(pipe.model.config, protocol)
    on_sizes = _on_sizes(pipe, requested, protocol)
    dataset, protocol = real_videos.dataset_of(pipe.model.config, protocol)
    metrics, left_out = _supported(pipe, metrics)
    suite.check(dataset, protocol, metrics)
    settings = pipe.defaults(num_frames=protocol.num_frames, fps=protocol.rate, seed=protocol.seed, **params)
    settled, tools = load_networks.load(metrics, protocol, dataset, lambda: pipe.model.clip, device)
    of_codes = [metric for metric in metrics if METRICS[metric].needs_model]
    if of_codes:
        codec = LatentModel(pipe, lambda num: None).digest  # values of different codes must not be compared
        tools = replace(tools, features={**tools.features, **dict.fromkeys(of_codes, (f"codec-{codec[:8]}", codec))})
    notes = [pipe.model.clip.stand_in] if pipe.model.clip.stand_in else []
    notes += [
        *left_out,
        *_other_mode(pipe, protocol),
        *on_sizes,
        *_other_world(pipe, protocol, dataset),
        *_too_few(requested, protocol, dataset),
        *load_networks.blindness(protocol, metrics, protocol.data == SPRITES),
    ]
    notes += load_networks.one_window(protocol, metrics, tools) + load_networks.unknown_words(
        protocol, metrics, tools, dataset
    )
    cases = None
    if latents:
        try:
            cases = cases_of(pipe, protocol, settings)
            if len(protocol.sizes) > 1:
                notes.append(f"the latent space is studied on frames of {studied(protocol)} px alone")
        except UserError as error:
            notes.append(f"the latent space is not studied: {error}")
    system = {
        "data": protocol.data,
        "split": protocol.split,
        "seed": protocol.seed,
        "checkpoint": pipe.model.config.name,
        "model_sha256": pipe.model.digest,
        **({STAND_IN: pipe.model.clip.stand_in} if pipe.model.clip.stand_in else {}),
        **({"baseline": pipe.model.config.baseline.kind} if pipe.model.config.baseline else {}),
        "drawing": settings.described(),
        "versions": pipe.settings("", settings)["versions"],
    }
    more: dict[str, Any] = {"num_threads": pipe.num_threads, "cases": cases}
    return Benchmark(pipe, system, settled, dataset, tools, tuple(metrics), settings, tuple(notes), **more)


_OF_MODELS: dict[str, tuple[type, str]] = {
    "nll": (Likelihood, "likelihood of codes"),
    "caption_margin": (CodePrediction, "method code_nats"),
}
"""Metrics of the model itself: what a sampler must be, and what it has then."""


def _supported(pipe: ImageToVideo, metrics: Sequence[str]) -> tuple[list[str], list[str]]:
    """The metrics that this model supports, and a note on each of those that it does not.

    Raises:
      UserError: no metric is left.
    """
    of_models = [metric for metric in metrics if metric in _OF_MODELS]
    lacking = [metric for metric in of_models if not isinstance(pipe.sampler, _OF_MODELS[metric][0])]
    kind = pipe.model.config.baseline.kind if pipe.model.config.baseline else ""
    notes = [f"{metric} is left out: the baseline {kind} has no {_OF_MODELS[metric][1]}" for metric in lacking]
    if "inbetween" in metrics and not pipe.takes_last:
        lacking.append("inbetween")
        notes.append("inbetween is left out: the model was not trained with last frames (diffusion.last_share is 0)")
    if not lacking:
        return list(metrics), []
    if len(lacking) == len(metrics):
        raise UserError(f"{'; '.join(notes)}; name another metric")
    return [metric for metric in metrics if metric not in lacking], notes


def _other_mode(pipe: ImageToVideo, protocol: Protocol) -> list[str]:
    data = pipe.model.config.data
    if protocol.mode is None or data.is_rendered or data.mode == protocol.mode:
        return []
    return [f"the model was trained on frames made square by {data.mode}, and these are made square by {protocol.mode}"]


def _on_sizes(pipe: ImageToVideo, requested: Protocol, protocol: Protocol) -> list[str]:
    """Notes on the sizes of frames that a model is evaluated on, where it knows other ones or does not know these.

    Raises:
      UserError: it cannot draw such frames.
    """
    known, patch_px = pipe.sizes.trained, pipe.sizes.patch_px
    about = f"the model was trained on frames of {named(known)} px"
    notes = []
    for size in protocol.sizes:
        try:
            own = size.scaled(pipe.size_px, protocol.square_px)
        except ValueError as error:
            raise UserError(f"{error}, and the model has {pipe.size_px} px; set --size-px {pipe.size_px}") from error
        if own in known:
            continue
        if pipe.sizes.is_square or own.height % patch_px or own.width % patch_px:
            way_out = f"set --size-px {pipe.size_px} --size {' '.join(f'{height}x{width}' for height, width in known)}"
            raise UserError(
                f"{about}, and it would be evaluated on frames of {own} px, which it cannot draw; {way_out}"
            )
        notes.append(f"{about}, and not on {own}: its videos of this shape may break down")
    if len(known) > 1 and requested.size is None and len(protocol.sizes) > 1:
        notes.append(
            f"each size of frames ({', '.join(map(str, protocol.sizes))} px) has an equal part of the videos; --size"
            f" {protocol.sizes[0]} evaluates on one alone"
        )
    elif len(known) > len(protocol.sizes):
        notes.append(f"{about}, and is evaluated on {named(protocol.sizes)} alone")
    return notes


def _other_world(pipe: ImageToVideo, protocol: Protocol, dataset: EvalDataset) -> list[str]:
    """A note on the first frames that are unlike the training data, where there are some."""
    if protocol.world or pipe.model.start == StartThresholds():
        return []
    checked, strange = range(min(NUM_CHECKED, len(dataset.eval_videos))), 0
    for part in same_size(dataset, checked):
        starts = np.stack([dataset.real_video(number, pipe.size_px)[0] for number in part])
        captions = [dataset.captions["model"][number] for number in part]
        with threads(pipe.num_threads):
            strange += int(are_unlike(pipe.model.start, pipe.model.codec, pipe.model.clip, starts, captions).sum())
    if not strange:
        return []
    return [
        f"{strange} of the first {len(checked)} starting frames are unlike the training data of the model, or do not show"
        " what their captions say; its videos from them may degrade"
    ]


def _too_few(requested: Protocol, protocol: Protocol, dataset: EvalDataset) -> list[str]:
    is_short = protocol.num_videos < requested.num_videos or protocol.num_real < (requested.num_real or 0)
    if protocol.world or not (is_short or len(dataset.compared) < len(dataset.eval_videos)):
        return []
    return [
        f"{protocol.data} has only {protocol.num_videos} clips of this length, fewer than the {requested.num_videos} of the"
        f" protocol; sets compare {len(dataset.compared)} sampled videos with {protocol.num_real} real ones of other clips"
    ]
