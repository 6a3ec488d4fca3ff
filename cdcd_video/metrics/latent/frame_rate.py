"""Frame-rate doubling: frames halfway between given ones, made by several methods and compared with the true ones.

Systems: `hold` (the earlier frame again), `cross-fade` (pixels mixed), `codes-lerp` (code vectors mixed), `latents-lerp` and
`latents-slerp` (latents mixed before rounding, then rounded), `model` (sampled by the model at twice the
rate, by its time step), `codec-ceiling` (the true frame through the codec). The interpolations are given both true
neighbours; the model only the first frame and the caption. Only its first gap starts from a true frame: compare at frame 0.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from cdcd_video.metrics import fidelity
from cdcd_video.metrics.latent.counterfactuals import Cases
from cdcd_video.metrics.latent.inbetween import cross_fade, lerp, masked_psnr, slerp
from cdcd_video.metrics.latent.latent_model import LatentModel, Latents
from cdcd_video.metrics.latent.latent_scores import summed
from cdcd_video.metrics.scores import Score

DECODED = ("codes-lerp", "latents-lerp", "latents-slerp", "model", "codec-ceiling")
"""Systems whose frames are decoded."""
STRIDES = (4, 2, 1)
"""Frames of the study from one given frame to the next; 1 needs frames between them."""
MOST_PICTURES = 6


@dataclasses.dataclass(frozen=True)
class Gap:
    """The frames between two frames, for a report."""

    image: int
    caption: int
    group: str
    frame: int
    frames: dict[str, UInt8[np.ndarray, "H W 3"]]
    """`earlier`, `truth`, `later`, and the middle frame by every method."""


@dataclasses.dataclass(frozen=True)
class Doubling:
    """Every `stride`-th frame of a study is given; those halfway between are made."""

    stride: int
    study_fps: float
    num_gaps: int

    @property
    def fps(self) -> float:
        """Rate of the given frames; the result has twice that rate."""
        return self.study_fps / self.stride

    @property
    def group(self) -> str:
        """The group of its scores."""
        return f"fps={self.fps:g}->{2 * self.fps:g}"

    @property
    def times_s(self) -> Float[np.ndarray, " G"]:
        """Times of the frames that are made."""
        return (np.arange(self.num_gaps) + 0.5) / self.fps

    @property
    def keys(self) -> slice:
        """The given frames, as indices of the study's frames."""
        return slice(0, self.num_gaps * self.stride + 1, self.stride)

    @property
    def mids(self) -> slice | None:
        """The frames that are made, likewise; None where they lie between the study's frames."""
        return slice(self.stride // 2, self.num_gaps * self.stride, self.stride) if self.stride > 1 else None

    def params(self, usual: Any) -> Any:
        """The sampling parameters of a study, at twice the rate."""
        return usual.changed(num_frames=2 * self.num_gaps + 1, fps=2 * self.fps)

    @property
    def frames_of_work(self) -> int:
        """Frames encoded, sampled and decoded for one video."""
        sampled = 2 * self.num_gaps if self.stride != 2 else 0
        return len(DECODED) * self.num_gaps + sampled + (self.num_gaps if self.mids is None else 0)


@dataclasses.dataclass(frozen=True)
class Videos:
    """True videos of S images with C captions, their latents and codes, and the samples of the model."""

    true: UInt8[np.ndarray, "S C F H W 3"]
    latents: Float[np.ndarray, "S C F P V"]
    codes: Int[np.ndarray, "S C F N"]
    sampled: Latents


def doublings(cases: Cases, params: Any) -> list[Doubling]:
    """Those of `STRIDES` for which there are enough frames and true videos."""
    found = [Doubling(stride, params.fps, (params.num_frames - 1) // stride) for stride in STRIDES]
    return [one for one in found if one.num_gaps and (one.mids or cases.finest_fps >= 2 * params.fps)]


def double(
    model: LatentModel, cases: Cases, params: Any, videos: Videos, doubling: Doubling, seed: int, batch_size: int
) -> tuple[list[Score], list[Gap]]:
    """Makes the middle frames by every method and scores them, gap by gap.

    Returns:
      PSNR of whole frames; where the objects are known, also PSNR over the pixels that an object covers in the true frame
      or a neighbour, and the sprites metrics; and a few gaps for a report.
    """
    sampled = videos.sampled
    if doubling.stride != 2:
        sampled = model.sample(videos.true[:, :, 0], cases.captions, doubling.params(params), seed, batch_size)
    wanted = slice(1, 2 * doubling.num_gaps, 2)
    shape = *videos.true.shape[:2], doubling.num_gaps
    values_of: dict[tuple[str, str], np.ndarray] = {}
    pictures: list[Gap] = []
    for image, caption in np.ndindex(*shape[:2]):
        place = image, caption
        keys = videos.true[place][doubling.keys]
        if doubling.mids is None:
            true = cases.real_video(image, caption, doubling.times_s)
            true_codes = model.codes_of(model.latents(true))
        else:
            true, true_codes = videos.true[place][doubling.mids], videos.codes[place][doubling.mids]
        made = {"hold": keys[:-1], "cross-fade": cross_fade(keys[:-1], keys[1:])}
        points = _mixed(model, videos.latents[place][doubling.keys], videos.codes[place][doubling.keys])
        points |= {"model": model.values(sampled[place][wanted]), "codec-ceiling": model.values(true_codes)}
        made |= {way: model.decode(points[way], keys[0]) for way in DECODED}
        for way, frames in made.items():
            for metric, found in _gap_metrics(cases, image, caption, doubling, frames, true).items():
                values_of.setdefault((metric, way), np.full(shape, np.nan))[place] = found
        if caption == 0 and image < MOST_PICTURES:
            pictures.append(_picture(image, caption, doubling.group, keys, true, made))
    scores = [
        score
        for (metric, way), values in values_of.items()
        for score in summed(metric, values, way, doubling.group, seed)
    ]
    return scores, pictures


def _mixed(
    model: LatentModel, latents: Float[np.ndarray, "F P V"], codes: Int[np.ndarray, "F N"]
) -> dict[str, np.ndarray]:
    """Code vectors, or what lies between them, halfway between neighbours."""
    values = model.values(codes)
    return {
        "codes-lerp": lerp(values[:-1], values[1:]),
        "latents-lerp": model.values(model.codes_of(lerp(latents[:-1], latents[1:]))),
        "latents-slerp": model.values(model.codes_of(slerp(latents[:-1], latents[1:]))),
    }


def _gap_metrics(
    cases: Cases, image: int, caption: int, doubling: Doubling, frames: np.ndarray, true: np.ndarray
) -> dict[str, np.ndarray]:
    times, half = doubling.times_s, 0.5 / doubling.fps
    found = {"inbetween_psnr": fidelity.psnr(frames, true)}
    covered = [cases.objects(image, caption, times + shift) for shift in (-half, 0.0, half)]
    if covered[0] is not None:
        found["inbetween_object_psnr"] = masked_psnr(frames, true, np.any(covered, axis=0))
    tracked = cases.measure(image, caption, times, frames)
    return found | {f"inbetween_{name}": values for name, values in tracked.items()}


def _picture(
    image: int, caption: int, group: str, keys: np.ndarray, true: np.ndarray, made: dict[str, np.ndarray]
) -> Gap:
    """The gap with the largest change."""
    change = np.abs(np.diff(keys.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    gap = int(change.argmax())
    frames = {"earlier": keys[gap], "truth": true[gap], "later": keys[gap + 1]}
    frames |= {way: by_gap[gap] for way, by_gap in made.items() if way != "hold"}
    return Gap(image, caption, group, gap, {name: frame.copy() for name, frame in frames.items()})
