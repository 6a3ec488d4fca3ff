"""How far to trust a mean over videos."""

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000
CONFIDENCE = 0.95


def bootstrap(
    totals: Float[np.ndarray, "V T"], weights: Float[np.ndarray, "V T"], seed: int = 0, *, is_share: bool = False
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Ratios of sums over videos, with percentile intervals (Efron & Tibshirani 1993, ch. 13).

    Whole videos are redrawn, not objects or frames: what happens within one video is not independent. The same seed
    redraws the same videos, so rows over the same scenes are compared on the same draws.

    Where all videos agree on a share of 0 or 1, redraws agree too and would claim certainty; the exact bound for as many
    trials as videos (Clopper & Pearson 1934) stands in.

    Args:
      totals: per video, the sum of what is averaged; T quantities at once.
      weights: per video, how much was summed (a count, or the truth's sum for a ratio to the truth).
      seed: of the redraws.
      is_share: whether the ratios are shares, from 0 to 1.

    Returns:
      Value, low and high, each (T,); NaN where the weights sum to 0, and for the ends where there is only one video.
    """
    num_videos = len(totals)
    rng = np.random.Generator(np.random.Philox(key=seed))
    picked = rng.integers(num_videos, size=(RESAMPLES, num_videos)) + num_videos * np.arange(RESAMPLES)[:, None]
    drawn = np.bincount(picked.ravel(), minlength=picked.size).reshape(picked.shape).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = totals.sum(axis=0) / weights.sum(axis=0)
        redrawn = (drawn @ totals) / (drawn @ weights)
    redrawn[~np.isfinite(redrawn)] = np.nan
    known = ~np.isnan(redrawn).all(axis=0) & np.isfinite(value)
    ends = np.full((2, totals.shape[1]), np.nan)
    tail = (1 - CONFIDENCE) / 2
    if known.any() and num_videos > 1:
        ends[:, known] = np.nanquantile(redrawn[:, known], (tail, 1 - tail), axis=0)
    if is_share:
        counted = (weights > 0).sum(axis=0)
        for agreed, far_end in ((0.0, 1), (1.0, 0)):
            alike = known & (value == agreed)
            bound = tail ** (1 / np.maximum(counted[alike], 1))
            ends[1 - far_end, alike], ends[far_end, alike] = agreed, abs(1 - agreed - bound)
    return np.where(known, value, np.nan), ends[0], ends[1]
