"""Distances between two sets of features, and the diversity of one set of predictions: arrays in, numbers out.

All of them depend on the number of samples, the Frechet distance most of all: compare only at equal numbers, and state the
number. The features come from `features.networks`.
"""

import math

import numpy as np
from jaxtyping import Float

from cdcd_video.errors import UserError


def frechet_distance(first: Float[np.ndarray, "n D"], second: Float[np.ndarray, "m D"]) -> float:
    """Frechet distance between the Gaussians fitted to two sets (Dowson & Landau 1982; Heusel et al. 2017, eq. 6).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), with unbiased covariances. With C = R^T R, the roots of the eigenvalues
    of C1 C2 are the singular values of R1 R2^T, so neither a product of covariances nor a root of a matrix is formed:
    exact for fewer samples than features too, where the usual ways lose half of their digits.

    Args:
      first, second: features, one sample a row; at least 2 rows each.

    Returns:
      The squared distance, 0 or more: FID on Inception's features, FVD on I3D's. Biased upwards, the more the fewer rows.
    """
    first, second = _checked(first, second)
    roots = [_covariance_root(rows) for rows in (first, second)]
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    apart = first.mean(axis=0) - second.mean(axis=0)
    return max(0.0, float(apart @ apart + sum((root**2).sum() for root in roots) - 2 * shared))


def kernel_distance(
    first: Float[np.ndarray, "n D"],
    second: Float[np.ndarray, "m D"],
    *,
    degree: int = 3,
    offset: float = 1.0,
    is_unbiased: bool = True,
) -> float:
    """Unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3) with kernel (x.y / D + offset)^degree.

    With the defaults this is KID on Inception's features (Binkowski et al. 2018, sec. 4) and the analogue on video
    features; degree 1 and offset 0 is the linear kernel of some FVD code.

    Args:
      first, second: features, one sample a row; at least 2 rows each.
      degree, offset: of the polynomial.
      is_unbiased: False counts each sample's likeness to itself too, as the biased statistic there does: never
        below 0, and too large by a term in 1 / n.

    Returns:
      The squared discrepancy. Where it is unbiased, it may fall below 0.
    """
    first, second = _checked(first, second)

    def kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (one @ other.T / first.shape[1] + offset) ** degree

    within = 0.0
    for rows in (first, second):
        values = kernel(rows, rows)
        alike = (values.sum() - np.trace(values)) / (len(rows) * (len(rows) - 1))
        within += alike if is_unbiased else values.mean()
    return float(within - 2 * kernel(first, second).mean())


def jedi(first: Float[np.ndarray, "n D"], second: Float[np.ndarray, "m D"]) -> float:
    """The statistic of JEDi (Luo et al. 2024): 100 times the biased `kernel_distance` of degree 2 without offset.

    Only on the features of V-JEPA (Bardes et al. 2024) is it JEDi; only at equal numbers of samples are two values comparable.
    """
    return 100 * kernel_distance(first, second, degree=2, offset=0.0, is_unbiased=False)


def kernel_distance_of_subsets(
    first: Float[np.ndarray, "n D"],
    second: Float[np.ndarray, "m D"],
    rng: np.random.Generator,
    *,
    num_subsets: int = 100,
    subset_size: int = 1000,
) -> tuple[float, float]:
    """Mean and deviation of `kernel_distance` over random subsets: KID as papers print it (Binkowski et al. 2018, sec. 4).

    The whole set estimates the same quantity with less variance; this form is for comparison with published numbers.

    Raises:
      UserError: a subset would be larger than a set.
    """
    if subset_size > min(len(first), len(second)):
        raise UserError(f"subset_size is {subset_size}, but there are {len(first)} and {len(second)} samples; lower it")
    values = [
        kernel_distance(
            first[rng.choice(len(first), subset_size, replace=False)],
            second[rng.choice(len(second), subset_size, replace=False)],
        )
        for _ in range(num_subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def inception_score(
    logits: Float[np.ndarray, "n K"], *, num_splits: int = 1, rng: np.random.Generator | None = None
) -> tuple[float, float]:
    """exp of the mean KL(p(y|x) || p(y)) (Salimans et al. 2016, sec. 4), from 1 to the smaller of n and K.

    Args:
      logits: of the classes, one sample a row.
      num_splits: number of parts that are scored separately. Papers use 10 parts of 5000 samples; use 1 for few samples,
        because the score of a part is at most its number of rows.
      rng: shuffles the samples before they are split; None keeps their order.

    Returns:
      Mean and deviation over the parts.

    Raises:
      UserError: fewer samples than parts.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if not 1 <= num_splits <= len(logits):
        raise UserError(f"num_splits is {num_splits}, but there are {len(logits)} samples; lower it")
    if rng is not None:
        logits = logits[rng.permutation(len(logits))]
    log_p = logits - logits.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    scores = []
    for part in range(num_splits):
        rows = log_p[part * len(log_p) // num_splits : (part + 1) * len(log_p) // num_splits]
        p = np.exp(rows)
        # A class whose probability is 0 everywhere would give 0 log 0; it contributes 0.
        log_mean = np.log(np.maximum(p.mean(axis=0), np.finfo(np.float64).tiny))
        scores.append(math.exp((p * (rows - log_mean)).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def _checked(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = (np.asarray(rows, dtype=np.float64) for rows in (first, second))
    assert first.ndim == second.ndim == 2 and first.shape[1] == second.shape[1], "features of one and the same network"
    if min(len(first), len(second)) < 2:
        raise UserError(
            f"a distance needs at least 2 samples of each set, not {len(first)} and {len(second)}; evaluate more videos"
        )
    return first, second


def _covariance_root(rows: np.ndarray) -> np.ndarray:
    """Some R with R^T R the covariance: the centred rows themselves, or their triangle where that is smaller."""
    centred = (rows - rows.mean(axis=0)) / math.sqrt(len(rows) - 1)
    return centred if len(rows) <= rows.shape[1] else np.linalg.qr(centred, mode="r")
