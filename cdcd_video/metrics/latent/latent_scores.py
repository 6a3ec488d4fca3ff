"""The scores of a study of the latent space: points of sampled and of real videos in, scores out."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float

from cdcd_video.metrics.latent import clusters, trajectories
from cdcd_video.metrics.scores import Score, rounded
from cdcd_video.metrics.statistics.intervals import TAIL, bootstrap

SHUFFLES = 100
COLLAPSED = 1e-6
"""Least distance between real videos of different images that serves as a unit."""
MEASURES: dict[str, tuple[str, str]] = {
    "purity": ("share", "higher"),
    "silhouette": ("ratio", "higher"),
    "retrieval@1": ("share", "higher"),
    "retrieval@5": ("share", "higher"),
    "alignment": ("squared distance", "real"),
    "uniformity": ("nats", "real"),
    "caption_silhouette": ("ratio", "real"),
    "caption_retrieval@1": ("share", "higher"),
    "caption_spread": ("ratio", "real"),
    "step_length": ("distance", "real"),
    "curvature": ("degrees", "real"),
    "distance_to_real": ("distance", "real"),
    "distance_to_own": ("distance", "lower"),
    "distance_in_time": ("distance", "lower"),
    "inbetween_psnr": ("dB", "higher"),
    "inbetween_object_psnr": ("dB", "higher"),
    "inbetween_position_error": ("px", "lower"),
    "inbetween_identity_iou": ("ratio", "higher"),
}
"""Every score of a study with its unit and direction (`real`: the value of real videos is right)."""
_OF_IMAGES = {"caption_silhouette", "caption_spread"}
"""One value per image; the others have one per video."""
_SHARES = {name for name, (unit, _) in MEASURES.items() if unit == "share"}

Points = Float[np.ndarray, "S C F D"]
"""Videos of S images with C captions each."""


def summed(metric: str, values: Float[np.ndarray, "S C F"], system: str, group: str, seed: int) -> list[Score]:
    """The mean over all frames, and frame by frame where there are several; bootstrap over images."""
    columns = [slice(None), *(slice(frame, frame + 1) for frame in range(values.shape[2]) if values.shape[2] > 1)]
    known = ~np.isnan(values)
    sides = (np.nan_to_num(values), known.astype(np.float64))
    sums = [np.stack([side[..., part].sum(axis=(1, 2)) for part in columns], axis=1) for side in sides]
    found = bootstrap(sums[0], sums[1], seed, is_share=metric in _SHARES)
    counts = [int(known[..., part].any(axis=2).sum()) for part in columns]
    frames = [None, *range(values.shape[2])]
    return [
        _score(metric, system, group, value, low, high, num, frame)
        for frame, num, value, low, high in zip(frames, counts, *found, strict=False)
        if num or frame is None
    ]


def _score(
    metric: str, system: str, group: str, value: float, low: float, high: float, num: int, frame: int | None = None
) -> Score:
    unit, better = MEASURES[metric]
    ends = rounded(value), rounded(low), rounded(high)
    counted = "images" if metric in _OF_IMAGES else "videos"
    return Score(metric, *ends, num, counted, unit, better, system, group, frame)


def null(metric: str, system: str, group: str, shuffled: Float[np.ndarray, "R F"], num: int) -> list[Score]:
    """The score of shuffled labels: mean, and 95% interval of the shuffles; NaN marks frames without a score."""
    is_known = ~np.isnan(shuffled).all(axis=0)
    means = np.nanmean(shuffled[:, is_known], axis=1)
    columns = [(None, means), *((int(f), shuffled[:, f]) for f in np.flatnonzero(is_known) if shuffled.shape[1] > 1)]
    return [
        _score(
            metric, system, group, values.mean(), np.quantile(values, TAIL), np.quantile(values, 1 - TAIL), num, frame
        )
        for frame, values in columns
    ]


def image_scores(model: Points, real: Points, space: str, seed: int) -> list[Score]:
    """How frames cluster by source image, at each frame index, so that time does not matter; frame 0 is given."""
    scores, group = [], f"space={space}"
    sources = real[:, 0, 0]
    for system, points in (("model", model), ("real", real)):
        num = points.shape[0] * points.shape[1]
        for metric, (values, shuffled) in _by_label(points, sources, seed).items():
            if metric == "alignment" and space != "embedding":
                continue  # defined on the unit sphere; code vectors have any length
            scores += summed(metric, values, system, group, seed)
            if system == "model":
                scores += null(metric, "shuffled", group, shuffled, num)
        if space == "embedding":
            mean = np.mean([clusters.potentials(points[:, :, frame]) for frame in range(1, points.shape[2])], axis=0)
            scores.append(_score("uniformity", system, group, *clusters.uniformity(mean, seed), num))
    return scores


def _by_label(
    points: Points, sources: Float[np.ndarray, "S D"], seed: int
) -> dict[str, tuple[Float[np.ndarray, "S C F"], Float[np.ndarray, "R F"]]]:
    """By metric: values, and the means of shuffled labels; NaN at frame 0."""
    num_images, num_captions, num_frames = points.shape[:3]
    labels = np.repeat(np.arange(num_images), num_captions)
    rng = np.random.Generator(np.random.Philox(key=[seed, 1]))
    dealt = [rng.permutation(labels) for _ in range(SHUFFLES)]
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for frame in range(1, num_frames):
        flat = points[:, :, frame].reshape(num_images * num_captions, -1)
        for metric, measure in _point_metrics(flat, sources, num_captions > 1, seed).items():
            empty = np.full((num_images, num_captions, num_frames), np.nan), np.full((SHUFFLES, num_frames), np.nan)
            values, shuffled = found.setdefault(metric, empty)
            values[:, :, frame] = measure(labels).reshape(num_images, num_captions)
            shuffled[:, frame] = [measure(other).mean() for other in dealt]
    return found


def _point_metrics(
    points: Float[np.ndarray, "n D"], sources: Float[np.ndarray, "S D"], are_several: bool, seed: int
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """By metric, a function from labels of the points to a value per point. Clusters need several points per label."""
    num, away = len(sources), clusters.distances(points, sources)
    metrics: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        f"retrieval@{k}": partial(clusters.is_retrieved, away, k=k) for k in (1, 5) if k < num
    }
    metrics["alignment"] = lambda labels: clusters.alignment(points, sources[labels])
    if not are_several:
        return metrics
    found = clusters.kmeans(points, num, np.random.Generator(np.random.Philox(key=[seed, 2])))
    silhouette = partial(clusters.silhouette, clusters.distances(points, points))
    return {"purity": partial(clusters.in_majority, found), "silhouette": silhouette} | metrics


def caption_scores(model: Points, real: Points, space: str, seed: int) -> list[Score]:
    """How the videos of one image differ by caption, and whether each is nearest to the true video of its caption."""
    scores, group = [], f"space={space}"
    widths = _pair_distance(real[:, 0][None])[0]  # distance between images, the unit of `caption_spread`
    num_images, num_captions, num_frames = model.shape[:3]
    for system, points in (("model", model), ("real", real)):
        if points.shape[1] < 2:
            continue
        labels = np.repeat(np.arange(points.shape[1]), num_frames - 1)
        rng = np.random.Generator(np.random.Philox(key=[seed, 3]))
        values, shuffled = np.zeros((num_images, 1, 1)), np.zeros((SHUFFLES, num_images))
        for image in range(num_images):
            flat = points[image, :, 1:].reshape(len(labels), -1)
            between = clusters.distances(flat, flat)
            values[image] = clusters.silhouette(between, labels).mean()
            for number in range(SHUFFLES):
                shuffled[number, image] = clusters.silhouette(between, rng.permutation(labels)).mean()
        scores += summed("caption_silhouette", values, system, group, seed)
        if system == "model":
            mean = shuffled.mean(axis=1, keepdims=True)
            scores += null("caption_silhouette", "shuffled", group, mean, num_images)
        spread = np.full((num_images, 1, num_frames), np.nan)
        spread[:, 0, 1:] = _pair_distance(points)[:, 1:] / np.where(widths > COLLAPSED, widths, np.nan)[1:]
        scores += summed("caption_spread", spread, system, group, seed)
    if real.shape[1] == num_captions:
        scores += _caption_retrieval(model, real, group, seed)
    return scores


def _pair_distance(points: Points) -> Float[np.ndarray, "S F"]:
    """Mean distance between the videos of each image, frame by frame."""
    num = points.shape[1]
    above = np.triu_indices(num, 1)
    return np.array([[clusters.distances(at, at)[above].mean() for at in image.swapaxes(0, 1)] for image in points])


def _caption_retrieval(model: Points, real: Points, group: str, seed: int) -> list[Score]:
    """Whether the nearest true video of the image, at the same frame, is that of the caption."""
    num_images, num_captions, num_frames = model.shape[:3]
    labels = np.arange(num_captions)
    rng = np.random.Generator(np.random.Philox(key=[seed, 4]))
    values = np.full((num_images, num_captions, num_frames), np.nan)
    shuffled = np.full((SHUFFLES, num_images, num_frames), np.nan)
    for image in range(num_images):
        dealt = [rng.permutation(labels) for _ in range(SHUFFLES)]
        for frame in range(1, num_frames):
            away = clusters.distances(model[image, :, frame], real[image, :, frame])
            values[image, :, frame] = clusters.is_retrieved(away, labels, 1)
            shuffled[:, image, frame] = [clusters.is_retrieved(away, other, 1).mean() for other in dealt]
    scores = summed("caption_retrieval@1", values, "model", group, seed)
    return scores + null("caption_retrieval@1", "shuffled", group, shuffled.mean(axis=1), num_images * num_captions)


def path_scores(
    model: Points, real: Points, bank: Float[np.ndarray, "R F D"] | None, space: str, seed: int
) -> list[Score]:
    """Step length, curvature, and distances to the nearest real path of other images and to the own true path."""
    scores, group = [], f"space={space}"
    num_true = real.shape[1]

    def over_videos(measure: Callable[..., np.ndarray], *sides: Points) -> np.ndarray:
        flat = [side.reshape(-1, *side.shape[2:]) for side in sides]
        return measure(*flat).reshape(*sides[0].shape[:2], -1)

    for system, points in (("model", model), ("real", real)):
        scores += summed("step_length", over_videos(trajectories.step_length, points), system, group, seed)
        scores += summed("curvature", over_videos(trajectories.curvature, points), system, group, seed)
        if bank is not None:
            away = trajectories.distance_to_paths(points.reshape(-1, points.shape[-1]), bank)
            scores += summed("distance_to_real", away.reshape(points.shape[:3]), system, group, seed)
    frozen = np.repeat(real[:, :, :1], real.shape[2], axis=2)
    systems = {"model": model[:, :num_true], "copy-first": frozen}
    if num_true > 1:
        systems["other-sentence"] = np.roll(
            real, 1, axis=1
        )  # the true video of another caption: a model that ignores captions
    for system, points in systems.items():
        for metric, measure in (
            ("distance_to_own", trajectories.distance_to_own),
            ("distance_in_time", trajectories.distance_in_time),
        ):
            scores += summed(metric, over_videos(measure, points, real), system, group, seed)
    return scores
