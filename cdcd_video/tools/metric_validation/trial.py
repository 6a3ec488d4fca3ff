"""What the ruler's self-test measures: every score of a set of sprites videos, as sums per video or as features of the set."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from cdcd_video.data.sprites import sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.metrics import motion
from cdcd_video.metrics.feature_extractors import CLIP_SEES, ClipEncoder, FeatureExtractors
from cdcd_video.metrics.features import feature_weights, networks
from cdcd_video.metrics.features.networks import FeatureNetwork, Seen
from cdcd_video.metrics.measurements import EvalVideo, measure_frames, measure_scene
from cdcd_video.metrics.sets import distribution
from cdcd_video.networks.clip import FrozenClip

Videos = UInt8[np.ndarray, "V F H W 3"]
Statistic = Callable[[Seen, Seen], float]

NUM_FRAMES, FPS = 16, 8.0
_OF_FRAMES = ("psnr", "ssim", "motion", "consistency", "flow", "flicker", "colour_drift", "discontinuity")
_TOO_RARE = {"still_right"}
"""Scores of few objects, which say nothing at such numbers of videos."""


def _kernel(real: Seen, drawn: Seen) -> float:
    return distribution.kernel_distance(drawn.features, real.features)


def _frechet(real: Seen, drawn: Seen) -> float:
    return distribution.frechet_distance(drawn.features, real.features)


def _inception(real: Seen, drawn: Seen) -> float:
    return distribution.inception_score(drawn.logits)[0]


STATISTICS: dict[str, dict[str, Statistic]] = {
    "frames": {"fid": _frechet, "kid": _kernel, "is": _inception},
    "videos": {"fvd": _frechet, "kvd": _kernel, "video_is": _inception},
}
"""Scores of whole sets, by what the network sees."""


@dataclasses.dataclass(frozen=True)
class Look:
    """Everything seen of a set of V videos."""

    sums: Mapping[str, Float[np.ndarray, "V 2"]]
    """By score: what was summed over a video's drawn frames, and how much."""
    seen: Mapping[str, Seen]
    """By network; features of a video's frames lie together."""

    def values(self) -> dict[str, float]:
        """The scores that videos have, over all of them."""
        totals = {name: sums.sum(axis=0) for name, sums in self.sums.items()}
        return {name: float(total / weight) if weight else float("nan") for name, (total, weight) in totals.items()}

    def part(self, videos: Sequence[int]) -> "Look":
        """Some of the videos, in the order given."""
        size = len(next(iter(self.sums.values())))
        seen = {name: _rows_of(found, np.asarray(videos), size) for name, found in self.seen.items()}
        return Look({name: sums[videos] for name, sums in self.sums.items()}, seen)


def joined(first: Look, second: Look) -> Look:
    """Both sets as one."""
    sums = {name: np.concatenate([first.sums[name], second.sums[name]]) for name in first.sums}
    seen = {}
    for name, one in first.seen.items():
        pairs = ((one.features, second.seen[name].features), (one.logits, second.seen[name].logits))
        seen[name] = Seen(*(None if own is None else np.concatenate([own, other]) for own, other in pairs))
    return Look(sums, seen)


def present_networks(device: str = "cpu") -> dict[str, FeatureNetwork]:
    """The offline networks, and the field's own where their weights are here."""
    names = [name for pair in networks.PREFERRED.values() for name in reversed(pair)]
    here = [name for name in names if name not in feature_weights.WEIGHTS or feature_weights.is_here(name)]
    return {name: networks.load(name, device) for name in here}


class Trial:
    """The true videos of two sets of scenes: 0 the real ones, 1 those that are spoilt; and the networks that look.

    Args:
      num_videos: of each set.
      seed: of the scenes.
      seeing: networks by name.
      clip: for agreement with sentence and first frame; None leaves it out.
    """

    def __init__(
        self, num_videos: int, seed: int, seeing: Mapping[str, FeatureNetwork], clip: FrozenClip | None = None
    ):
        times = np.arange(NUM_FRAMES) / FPS
        self.times, self.seeing = times, seeing
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
            *(CLIP_SEES if clip else ()),
        )

    def look(self, videos: Videos, of: int = 1) -> Look:
        """Measures videos in place of the true ones of a set."""
        found: dict[str, np.ndarray] = {}
        for video, frames in enumerate(videos):
            for metric, total, weight in self._measure(frames, of, video):
                found.setdefault(metric, np.zeros((len(videos), 2)))[video] += total, weight
        return Look(found, self.show(videos))

    def show(self, videos: Videos, **changes: object) -> dict[str, Seen]:
        """What the networks make of videos: of all frames but the given one, or of whole videos."""
        seen = {}
        for name, network in self.seeing.items():
            shown = videos[:, 1:].reshape(-1, *videos.shape[2:]) if network.sees == "frames" else videos
            seen[name] = dataclasses.replace(network, **changes)(shown)
        return seen

    def _measure(self, frames: np.ndarray, of: int, video: int) -> Iterator[tuple[str, float, float]]:
        true, scene = self.true[of][video], self.sets[of][video]
        subject = EvalVideo(str(video), str(video))
        found = [*measure_scene(subject, frames, scene, self.times)]
        found += measure_frames(subject, frames, true, scene.caption, self._metrics, self._tools, self._real_gaps)
        for one in found:
            if one.metric in _TOO_RARE:
                continue
            counted = slice(1, None) if len(one.total) > 1 else slice(None)  # frame 0 is given
            yield one.metric, float(np.nansum(one.total[counted])), float(np.nansum(one.weight[counted]))


def set_scores(real: Look, drawn: Look, seeing: Mapping[str, FeatureNetwork]) -> dict[tuple[str, str], float]:
    """Scores of one set against another, by score and network."""
    return {
        (score, name): statistic(real.seen[name], drawn.seen[name])
        for name, network in seeing.items()
        for score, statistic in STATISTICS[network.sees].items()
    }


def _rows_of(seen: Seen, videos: np.ndarray, num_videos: int) -> Seen:
    each = len(seen.features) // num_videos
    rows = (videos[:, None] * each + np.arange(each)).ravel()
    return Seen(seen.features[rows], None if seen.logits is None else seen.logits[rows])
