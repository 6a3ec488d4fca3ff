"""The Bradley-Terry model with ties, fitted to many resamples of the votes at once."""

import itertools

import numpy as np
from jaxtyping import Float, Int

WIN, LOSS, TIE = 0, 1, 2
"""Outcomes of a comparison (i, j), i before j: i is preferred, j is preferred, neither."""
_MOST_STEPS = 100
_LONGEST_STEP = 2.0
_TOLERANCE = 1e-9


def pairs_of(num_systems: int) -> Int[np.ndarray, "P 2"]:
    """All pairs of systems (i, j) with i < j, in the order in which `fit` expects their counts."""
    return np.array(list(itertools.combinations(range(num_systems), 2)), dtype=np.int64).reshape(-1, 2)


def fit(
    counts: Float[np.ndarray, "R P 3"], num_systems: int, *, prior: float = 1.0
) -> tuple[Float[np.ndarray, "R S"], Float[np.ndarray, " R"]]:
    """Strengths by maximum likelihood in Davidson's model (Davidson 1970) of Bradley & Terry (1952).

    P(i preferred) : P(j preferred) : P(tie) = s_i : s_j : nu sqrt(s_i s_j). It is an exponential family, so the
    likelihood is concave in the logarithms and Newton's method finds its one maximum, for all rows at once.

    Where a system always wins, or is never compared, there is no finite maximum. As a prior, each system is therefore also
    compared `prior` times with a virtual system of strength 1, with a third each of wins, losses and ties. Its effect is
    negligible for dozens of votes.

    Args:
      counts: for each row (such as a resample of the votes), pair of `pairs_of` and outcome, how often it happened.
      num_systems: S.
      prior: comparisons of each system with the virtual one.

    Returns:
      Log-strengths with mean 0, (R, S), and log nu, (R,).
    """
    pairs, size = pairs_of(num_systems), num_systems + 1
    design = np.zeros((len(pairs) + num_systems, 3, size))
    for row, (first, second) in enumerate(pairs):
        design[row, WIN, first] = design[row, LOSS, second] = design[row, TIE, num_systems] = 1
        design[row, TIE, [first, second]] = 0.5
    for system in range(num_systems):  # the log-strength of the virtual system is 0, so it needs no column
        row = len(pairs) + system
        design[row, WIN, system] = design[row, TIE, num_systems] = 1
        design[row, TIE, system] = 0.5
    virtual = np.full((len(counts), num_systems, 3), prior / 3)
    counts = np.concatenate([counts, virtual], axis=1)
    totals = counts.sum(axis=2, keepdims=True)
    squares = design[..., :, None] * design[..., None, :]
    found = np.zeros((len(counts), size))
    # Without the prior the mean of the strengths is free; the small ridge fixes it and changes nothing else.
    ridge = 1e-9 * np.eye(size)
    for _ in range(_MOST_STEPS):
        share = _softmax(np.einsum("pkd,rd->rpk", design, found))
        mean = np.einsum("rpk,pkd->rpd", share, design)
        slope = np.einsum("rpk,pkd->rd", counts - totals * share, design)
        bend = np.einsum("rpk,pkde->rde", totals * share, squares) - np.einsum(
            "rp,rpd,rpe->rde", totals[..., 0], mean, mean
        )
        step = np.linalg.solve(bend + ridge, slope[..., None])[..., 0]
        step *= np.minimum(1, _LONGEST_STEP / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-12))
        found += step
        if np.abs(step).max(initial=0) < _TOLERANCE:
            break
    strengths = found[:, :num_systems]
    return strengths - strengths.mean(axis=1, keepdims=True), found[:, num_systems]


def preferred(strengths: Float[np.ndarray, "R S"], log_nu: Float[np.ndarray, " R"]) -> Float[np.ndarray, "R S"]:
    """How often a system is preferred to a random other one, ties counted half; 0.5 is the average.

    Args:
      strengths: log-strengths of `fit`.
      log_nu: of `fit`.
    """
    num_systems = strengths.shape[1]
    ahead = strengths[:, :, None] - strengths[:, None, :]
    weights = np.stack([ahead / 2, -ahead / 2, np.broadcast_to(log_nu[:, None, None], ahead.shape)], axis=-1)
    share = _softmax(weights)
    score = share[..., WIN] + share[..., TIE] / 2
    return (score.sum(axis=2) - 0.5) / max(num_systems - 1, 1)  # against itself a system scores 0.5


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
