"""Whether what moves in a video goes left or right, from pixels alone."""

import re

import numpy as np
from jaxtyping import UInt8

LEAST_LEVELS = 16
"""A pixel moves where its grey value differs from the frame before by more, in levels of 255."""
LEAST_SHARE = 1 / 16
"""Less travel, of the width, is none."""
_SENTENCE = re.compile(r"\b(left to right|right to left)\b", re.IGNORECASE)


def horizontal_travel(frames: UInt8[np.ndarray, "F H W 3"]) -> float:
    """How far the centroid of what moves goes to the right over the video, px; 0 where nothing moves in two frames or more.

    The slope of a line through the centroids of all frames, each with the number of its moving pixels as weight, times the
    frames in which anything moves. What leaves the picture, or stands still at the end, does not count against the direction.
    """
    grey = frames.mean(axis=3)
    moving = np.abs(np.diff(grey, axis=0)) > LEAST_LEVELS
    mass = moving.sum(axis=(1, 2)).astype(np.float64)
    times = np.flatnonzero(mass)
    if len(times) < 2:
        return 0.0
    weight = mass[times]
    places = (moving.sum(axis=1)[times] * np.arange(frames.shape[2])).sum(axis=1) / weight
    off = times - np.average(times, weights=weight)
    slope = (weight * off * places).sum() / (weight * off**2).sum()
    return float(slope * (times[-1] - times[0]))


def direction_of(frames: UInt8[np.ndarray, "F H W 3"]) -> int:
    """1 to the right, -1 to the left, 0 where what moves travels less than `LEAST_SHARE` of the width."""
    travel = horizontal_travel(frames)
    return int(np.sign(travel)) if abs(travel) >= LEAST_SHARE * frames.shape[2] else 0


def direction_in(caption: str) -> int:
    """1 for a sentence with `left to right`, -1 for `right to left`, 0 for one with neither or with both."""
    found = {match.lower() for match in _SENTENCE.findall(caption)}
    return 0 if len(found) != 1 else 1 if found == {"left to right"} else -1
