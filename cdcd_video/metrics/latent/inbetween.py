"""Interpolation between two frames without a model, and its fidelity to the true frame."""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from cdcd_video.metrics.fidelity import BEST_PSNR_DB

PARALLEL_RAD = 1e-4
"""Directions that are equal or opposite up to this angle have no well-defined great circle."""


def cross_fade(
    before: UInt8[np.ndarray, "*n H W 3"], after: UInt8[np.ndarray, "*n H W 3"], share: float = 0.5
) -> UInt8[np.ndarray, "*n H W 3"]:
    """Mixes pixels: still parts are exact, moving ones appear twice."""
    return np.floor((1 - share) * before.astype(np.float64) + share * after + 0.5).astype(np.uint8)


def lerp(
    before: Float[np.ndarray, "*n D"], after: Float[np.ndarray, "*n D"], share: float = 0.5
) -> Float[np.ndarray, "*n D"]:
    """Linear interpolation."""
    return (1 - share) * before + share * after


def slerp(
    before: Float[np.ndarray, "*n D"], after: Float[np.ndarray, "*n D"], share: float = 0.5
) -> Float[np.ndarray, "*n D"]:
    """Spherical interpolation of directions (Shoemake 1985), linear interpolation of lengths.

    It is `lerp` where the great circle is not unique (equal, opposite or zero vectors).
    """
    lengths = [np.linalg.norm(side, axis=-1, keepdims=True) for side in (before, after)]
    ways = [side / np.where(length > 0, length, 1.0) for side, length in zip((before, after), lengths, strict=True)]
    apart = [np.linalg.norm(ways[0] + sign * ways[1], axis=-1, keepdims=True) for sign in (-1, 1)]
    angle = 2 * np.arctan2(*apart)
    is_curved = (angle > PARALLEL_RAD) & (angle < np.pi - PARALLEL_RAD) & (lengths[0] > 0) & (lengths[1] > 0)
    safe = np.where(is_curved, angle, 1.0)
    direction = (np.sin((1 - share) * safe) * ways[0] + np.sin(share * safe) * ways[1]) / np.sin(safe)
    return np.where(is_curved, lerp(lengths[0], lengths[1], share) * direction, lerp(before, after, share))


def masked_psnr(
    sampled: UInt8[np.ndarray, "F H W 3"], true: UInt8[np.ndarray, "F H W 3"], mask: Bool[np.ndarray, "F H W"]
) -> Float[np.ndarray, " F"]:
    """Peak signal-to-noise ratio over some pixels of each frame, in dB, at most `BEST_PSNR_DB`; NaN where there are none."""
    squares = ((sampled.astype(np.float64) - true) ** 2).mean(axis=-1)
    count = mask.sum(axis=(1, 2))
    errors = (squares * mask).sum(axis=(1, 2)) / np.maximum(count, 1)
    least = 255.0**2 / 10 ** (BEST_PSNR_DB / 10)
    return np.where(count > 0, 10 * np.log10(255.0**2 / np.maximum(errors, least)), np.nan)
