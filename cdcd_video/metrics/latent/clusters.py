"""Clustering of points in a latent space by label: points and labels in, numbers per point out.

A label is the source image of a sampled frame, or its caption. Compare every number with that of shuffled labels: few points
in many dimensions look structured by chance.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from cdcd_video.metrics.statistics.intervals import RESAMPLES, TAIL

RESTARTS, ITERATIONS = 8, 60
"""Of k-means: number of initialisations, and most iterations of each."""
TIE = 1e-6
"""Relative difference below which distances count as equal, because rounding differs between processors."""


def distances(points: Float[np.ndarray, "n D"], others: Float[np.ndarray, "m D"]) -> Float[np.ndarray, "n m"]:
    """Euclidean distances, in double precision; 0 where points are nearer than `TIE` of their own length."""
    points, others = np.asarray(points, np.float64), np.asarray(others, np.float64)
    lengths = (points**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)
    squares = lengths - 2 * points @ others.T
    return np.sqrt(np.where(squares > TIE**2 * lengths, squares, 0.0))


def kmeans(points: Float[np.ndarray, "n D"], num_clusters: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """k-means clusters: Lloyd's iterations from k-means++ initialisations (Arthur & Vassilvitskii 2007).

    Args:
      points: at least `num_clusters`.
      num_clusters: number of clusters; fewer may be returned where points coincide.
      rng: of the initialisations.

    Returns:
      The cluster of each point, in [0, num_clusters).
    """
    points = np.asarray(points, np.float64)
    best, least = np.zeros(len(points), np.int64), np.inf
    for _ in range(RESTARTS):
        centres = _initial_centres(points, num_clusters, rng)
        for _ in range(ITERATIONS):
            nearest = distances(points, centres).argmin(axis=1)
            members = np.eye(num_clusters)[nearest]
            counts = members.sum(axis=0)
            moved = np.where(counts[:, None] > 0, members.T @ points / np.maximum(counts, 1)[:, None], centres)
            if np.array_equal(moved, centres):
                break
            centres = moved
        away = distances(points, centres)
        if (total := (away.min(axis=1) ** 2).sum()) < least:
            best, least = away.argmin(axis=1), total
    return best


def in_majority(clusters: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Whether each point has the most common label of its cluster; the mean is purity (Manning et al. 2008, sec. 16.3).

    Among equally common labels the lowest counts.
    """
    table = np.zeros((clusters.max() + 1, labels.max() + 1), np.int64)
    np.add.at(table, (clusters, labels), 1)
    return table.argmax(axis=1)[clusters] == labels


def silhouette(between: Float[np.ndarray, "n n"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Silhouette: how much nearer each point is to points of its own label than of the nearest other (Rousseeuw 1987).

    (b - a) / max(a, b), with a the mean distance to the others of its label and b the least mean distance to another
    label's: 1 is well separated, 0 on the border, below 0 nearer to others.

    Args:
      between: distances of all points.
      labels: at least two different ones.

    Returns:
      One value per point; 0 for a point that is alone with its label, and where all distances are 0.
    """
    _, labels = np.unique(labels, return_inverse=True)
    members = np.eye(labels.max() + 1)[labels]
    counts = members.sum(axis=0)
    sums = between @ members
    own = np.take_along_axis(sums, labels[:, None], axis=1)[:, 0] / np.maximum(counts[labels] - 1, 1)
    nearest = np.where(members > 0, np.inf, sums / counts).min(axis=1)
    widest = np.maximum(own, nearest)
    is_known = (counts[labels] > 1) & (widest > 0)
    return np.where(is_known, (nearest - own) / np.where(widest > 0, widest, 1.0), 0.0)


def is_retrieved(away: Float[np.ndarray, "n m"], labels: Int[np.ndarray, " n"], k: int) -> Bool[np.ndarray, " n"]:
    """Whether entry `labels[i]` of a bank is among the k entries nearest to point i, given the distances to all.

    Ties count as nearer, so that a collapsed space retrieves nothing.
    """
    own = np.take_along_axis(away, labels[:, None], axis=1)
    return (away <= own + TIE * away.max(axis=1, keepdims=True)).sum(axis=1) <= k


def alignment(points: Float[np.ndarray, "n D"], partners: Float[np.ndarray, "n D"]) -> Float[np.ndarray, " n"]:
    """Squared distance of each unit vector to its positive partner; the mean is the alignment loss (Wang & Isola 2020,
    sec. 4.1, with exponent 2): from 0, where partners coincide, to 4."""
    difference = np.asarray(points, np.float64) - partners
    return (difference**2).sum(axis=1)


def potentials(groups: Float[np.ndarray, "S P D"]) -> Float[np.ndarray, "S S"]:
    """Mean Gaussian potential exp(-2 |x - y|^2) between the unit vectors of any two groups; see `uniformity`."""
    num, each = groups.shape[:2]
    flat = groups.reshape(num * each, -1)
    found = np.exp(-2 * distances(flat, flat) ** 2)
    return found.reshape(num, each, num, each).mean(axis=(1, 3))


def uniformity(found: Float[np.ndarray, "S S"], seed: int = 0) -> tuple[float, float, float]:
    """Logarithm of the mean Gaussian potential of pairs (Wang & Isola 2020, sec. 4.1, with t = 2), lower is more uniform.

    0 where all points coincide, about -4 where many directions are used evenly. Only pairs from different groups count,
    because frames of one image are not independent samples.

    Args:
      found: `potentials` between groups.
      seed: of the bootstrap over groups.

    Returns:
      Value, and the ends of its interval; NaN with fewer than two groups, and the ends with fewer than three.
    """
    num = len(found)
    if num < 2:
        return np.nan, np.nan, np.nan
    apart = found * (1 - np.eye(num))
    value = float(np.log(apart.sum() / (num * (num - 1))))
    if num < 3:
        return value, np.nan, np.nan
    rng = np.random.Generator(np.random.Philox(key=seed))
    counts = rng.multinomial(num, np.full(num, 1 / num), size=RESAMPLES).astype(np.float64)
    pairs = counts.sum(axis=1) ** 2 - (counts**2).sum(axis=1)
    counts, pairs = counts[pairs > 0], pairs[pairs > 0]
    resampled = np.log(np.einsum("ri,ij,rj->r", counts, apart, counts, optimize=True) / pairs)
    low, high = np.quantile(resampled, (TAIL, 1 - TAIL))
    return value, float(low), float(high)


def _initial_centres(points: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++: initial centres are sampled in turn, with probability proportional to the squared distance to the others."""
    chosen = [int(rng.integers(len(points)))]
    nearest = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < num:
        total = nearest.sum()
        chances = nearest / total if total > 0 else np.full(len(points), 1 / len(points))
        chosen.append(int(rng.choice(len(points), p=chances)))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return points[chosen]
