"""Agreement of raters: Krippendorff's alpha, and rank correlations."""

from typing import Literal

import numpy as np
from jaxtyping import Float

Level = Literal["nominal", "ordinal", "interval"]


def alpha(ratings: Float[np.ndarray, "T U"], level: Level) -> float:
    """Krippendorff's alpha (Krippendorff 2011): 1 for full agreement, 0 for chance, below 0 for disagreement.

    Args:
      ratings: a row per rater, a column per unit, NaN where a rater did not rate a unit.
      level: of measurement. `nominal`: values are equal or not; `ordinal`: by how many ratings lie between them;
        `interval`: by their squared difference.

    Returns:
      The coefficient; NaN where no unit has two ratings, or where all ratings are the same.
    """
    values = np.unique(ratings[~np.isnan(ratings)])
    table = (ratings[:, :, None] == values).sum(axis=0).astype(np.float64)
    return float(alpha_of_counts(table, values, level, np.ones((1, len(table))))[0])


def alpha_of_counts(
    table: Float[np.ndarray, "U V"], values: Float[np.ndarray, " V"], level: Level, weights: Float[np.ndarray, "R U"]
) -> Float[np.ndarray, " R"]:
    """Krippendorff's alpha of a table that says how many raters gave each unit each value, for R resamples of the units.

    Args:
      table: counts per unit and value.
      values: what the last axis stands for, ascending.
      level: see `alpha`.
      weights: how often each unit counts.
    """
    ratings = table.sum(axis=1, keepdims=True)
    table = np.where(ratings > 1, table, 0.0)  # a single rating has none to agree with
    others = np.maximum(ratings - 1, 1)
    pairs = table[:, :, None] * (table / others)[:, None, :]
    pairs -= (table / others)[:, :, None] * np.eye(len(values))  # no rating is paired with itself
    pairs = (weights @ pairs.reshape(len(table), -1)).reshape(-1, len(values), len(values))
    number = pairs.sum(axis=2)
    distance = _distance(number, values, level)
    observed = (pairs * distance).sum(axis=(1, 2))
    chance = (number[:, :, None] * number[:, None, :] * distance).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance > 0, 1 - (number.sum(axis=1) - 1) * observed / chance, np.nan)


def spearman(
    first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"], counts: Float[np.ndarray, "R n"]
) -> Float[np.ndarray, " R"]:
    """Spearman's rank correlation for R resamples of the points, ties given their mean rank.

    Args:
      first: a value per point.
      second: likewise.
      counts: how often each point was sampled; a row of ones is the sample itself.

    Returns:
      The coefficients; NaN where one side is constant.
    """
    middle = (counts.sum(axis=1, keepdims=True) + 1) / 2
    x, y = _ranks(first, counts) - middle, _ranks(second, counts) - middle
    with np.errstate(divide="ignore", invalid="ignore"):
        return (counts * x * y).sum(axis=1) / np.sqrt((counts * x**2).sum(axis=1) * (counts * y**2).sum(axis=1))


def kendall(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """Kendall's tau-b, which corrects for ties; NaN where one side is constant."""
    signs = [np.sign(side[:, None] - side[None, :]) for side in (first, second)]
    scale = np.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum())
    return float((signs[0] * signs[1]).sum() / scale) if scale > 0 else float("nan")


def _distance(number: np.ndarray, values: np.ndarray, level: Level) -> np.ndarray:
    if level == "nominal":
        return 1 - np.eye(len(values))
    if level == "interval":
        return (values[:, None] - values[None, :]) ** 2
    middle = np.cumsum(number, axis=1) - number / 2  # between two values lie all ratings from middle to middle
    return (middle[:, :, None] - middle[:, None, :]) ** 2


def _ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean rank of each point's value among the points, with their counts."""
    _, place, sizes = np.unique(values, return_inverse=True, return_counts=True)
    cumulative = np.cumsum(counts[:, np.argsort(place, kind="stable")], axis=1)
    up_to = np.concatenate([np.zeros((len(counts), 1)), cumulative[:, np.cumsum(sizes) - 1]], axis=1)
    return ((up_to[:, :-1] + up_to[:, 1:] + 1) / 2)[:, place]
