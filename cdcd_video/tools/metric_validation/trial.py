"""What the metric validation measures: every score of a set of sprites videos, as sums per video or features of the set."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from cdcd_video.data.sprites import sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.metrics import motion
from cdcd_video.metrics.feature_extractors import CLIP_METRICS, ClipEncoder, FeatureExtractors
from cdcd_video.metrics.features import feature_weights, flow_histograms, networks
from cdcd_video.metrics.features.networks import FeatureNetwork, NetworkOutput
from cdcd_video.metrics.measurements import EvalVideo, measure_frames, measure_scene
from cdcd_video.metrics.sets import distribution
from cdcd_video.networks.clip import FrozenClip

Videos = UInt8[np.ndarray, "V F H W 3"]
Statistic = Callable[[NetworkOutput, NetworkOutput], float]

NUM_FRAMES, FPS = 16, 8.0
_OF_FRAMES = (
    *("psnr", "ssim", "motion", "physics_iq", "consistency", "flow", "flicker", "colour_drift", "discontinuity"),
)
_TOO_RARE = {"still_right", "still_iou"}
"""Scores of few objects, which are too noisy at such numbers of videos."""


def _kernel(real: NetworkOutput, sampled: NetworkOutput) -> float:
    return distribution.kernel_distance(sampled.features, real.features)


def _frechet(real: NetworkOutput, sampled: NetworkOutput) -> float:
    return distribution.frechet_distance(sampled.features, real.features)


def _inception(real: NetworkOutput, sampled: NetworkOutput) -> float:
    return distribution.inception_score(sampled.logits)[0]


STATISTICS: dict[str, dict[str, Statistic]] = {
    "frames": {"fid": _frechet, "kid": _kernel, "is": _inception},
    "videos": {"fvd": _frechet, "kvd": _kernel, "video_is": _inception},
}
"""Scores of whole sets, by the input of the network."""


def statistics_of(network: FeatureNetwork) -> dict[str, Statistic]:
    """The scores of whole sets that are computed on the features of a network."""
    return {"flow_vmd": _frechet} if network.name == flow_histograms.NAME else STATISTICS[network.input_kind]


@dataclasses.dataclass(frozen=True)
class SetMeasurements:
    """The measurements of a set of V videos."""

    sums: Mapping[str, Float[np.ndarray, "V 2"]]
    """By score: total and weight over a video's sampled frames."""
    outputs: Mapping[str, NetworkOutput]
    """By network; features of a video's frames are contiguous."""

    def values(self) -> dict[str, float]:
        """The scores of single videos, over all of them."""
        totals = {name: sums.sum(axis=0) for name, sums in self.sums.items()}
        return {name: float(total / weight) if weight else float("nan") for name, (total, weight) in totals.items()}

    def part(self, videos: Sequence[int] | np.ndarray) -> "SetMeasurements":
        """Some of the videos, in the order given."""
        size = len(next(iter(self.sums.values())))
        outputs = {name: _of_videos(found, np.asarray(videos), size) for name, found in self.outputs.items()}
        return SetMeasurements({name: sums[videos] for name, sums in self.sums.items()}, outputs)


def concatenated(first: SetMeasurements, second: SetMeasurements) -> SetMeasurements:
    """The union of two sets."""
    sums = {name: np.concatenate([first.sums[name], second.sums[name]]) for name in first.sums}
    outputs = {}
    for name, one in first.outputs.items():
        pairs = ((one.features, second.outputs[name].features), (one.logits, second.outputs[name].logits))
        outputs[name] = NetworkOutput(*(None if own is None else np.concatenate([own, other]) for own, other in pairs))
    return SetMeasurements(sums, outputs)


def present_networks(device: str = "cpu") -> dict[str, FeatureNetwork]:
    """The built-in networks, flow, and the usual networks where their weights are here."""
    names = [*(name for pair in networks.PREFERRED.values() for name in reversed(pair)), flow_histograms.NAME]
    here = [name for name in names if name not in feature_weights.WEIGHTS or feature_weights.is_here(name)]
    return {name: networks.load(name, device) for name in here}


class Trial:
    """The true videos of two sets of scenes (0: the real ones, 1: those to be degraded), and the networks.

    Args:
      num_videos: of each set.
      seed: of the scenes.
      extractors: networks by name.
      clip: for agreement with caption and first frame; None leaves those metrics out.
    """

    def __init__(
        self, num_videos: int, seed: int, extractors: Mapping[str, FeatureNetwork], clip: FrozenClip | None = None
    ):
        times = np.arange(NUM_FRAMES) / FPS
        self.times, self.extractors = times, extractors
        scenes = [sample_scene(seed, index, "val") for index in range(2 * num_videos)]
        self.sets = [scenes[:num_videos], scenes[num_videos:]]
        self.true = [np.stack([render(scene, times) for scene in part]) for part in self.sets]
        self._real_gaps = np.array([motion.first_gap(video) for video in self.true[0]])
        has_lpips = feature_weights.is_here("lpips-alex")
        self._tools = FeatureExtractors(
            lpips=networks.lpips() if has_lpips else None, clip=ClipEncoder(clip) if clip else None
        )
        self._metrics = (
            *_OF_FRAMES,
            *(("lpips",) if has_lpips else ()),
            *(CLIP_METRICS if clip else ()),
        )

    def measure(self, videos: Videos, of: int = 1) -> SetMeasurements:
        """Measures videos in place of the true ones of a set."""
        found: dict[str, np.ndarray] = {}
        for video, frames in enumerate(videos):
            for metric, total, weight in self._measure(frames, of, video):
                found.setdefault(metric, np.zeros((len(videos), 2)))[video] += total, weight
        return SetMeasurements(found, self.features(videos))

    def features(self, videos: Videos, **changes: object) -> dict[str, NetworkOutput]:
        """Features of all frames but the given one, or of whole videos, by network."""
        outputs = {}
        for name, network in self.extractors.items():
            inputs = videos[:, 1:].reshape(-1, *videos.shape[2:]) if network.input_kind == "frames" else videos
            outputs[name] = dataclasses.replace(network, **changes)(inputs)
        return outputs

    def _measure(self, frames: np.ndarray, of: int, video: int) -> Iterator[tuple[str, float, float]]:
        true, scene = self.true[of][video], self.sets[of][video]
        eval_video = EvalVideo(str(video), str(video))
        found = [*measure_scene(eval_video, frames, scene, self.times)]
        found += measure_frames(eval_video, frames, true, scene.caption, self._metrics, self._tools, self._real_gaps)
        for one in found:
            if one.metric in _TOO_RARE:
                continue
            counted = slice(1, None) if len(one.total) > 1 else slice(None)  # frame 0 is given
            yield one.metric, float(np.nansum(one.total[counted])), float(np.nansum(one.weight[counted]))


def set_scores(
    real: SetMeasurements, sampled: SetMeasurements, extractors: Mapping[str, FeatureNetwork]
) -> dict[tuple[str, str], float]:
    """Scores of one set against another, by score and network."""
    return {
        (score, name): statistic(real.outputs[name], sampled.outputs[name])
        for name, network in extractors.items()
        for score, statistic in statistics_of(network).items()
    }


def _of_videos(outputs: NetworkOutput, videos: np.ndarray, num_videos: int) -> NetworkOutput:
    each = len(outputs.features) // num_videos
    rows = (videos[:, None] * each + np.arange(each)).ravel()
    return NetworkOutput(outputs.features[rows], None if outputs.logits is None else outputs.logits[rows])
