"""Known defects at a chosen strength, to test the rulers with: what a metric does under each is what it sees.

Strength runs from 0 (the video itself) to 1 (beyond mistaking). Frame 0, which the user gives, is left as it is.
"""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import UInt8

Frames = UInt8[np.ndarray, "F H W 3"]

MAX_BLUR = 0.06
"""Deviation of the Gaussian over the frame's height."""
MAX_NOISE = 48.0
"""Deviation in levels of 255."""
MAX_TINT = (64.0, 0.0, -64.0)
"""Levels of 255 added to red, green and blue."""


def blur(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """A Gaussian blur of every drawn frame."""
    if strength == 0:
        return frames
    sigma = strength * MAX_BLUR * frames.shape[1]
    return _given_first(frames, np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames]))


def noise(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Gaussian noise, new in every frame."""
    grain = rng.normal(scale=MAX_NOISE, size=frames.shape)
    return _given_first(frames, frames + strength * grain)


def shuffle(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Frames out of order: a share of the drawn ones change places among themselves."""
    places = np.arange(1, len(frames))
    moved = rng.permutation(places)[: round(strength * len(places))]
    order = np.arange(len(frames))
    order[np.sort(moved)] = rng.permutation(moved)
    return frames[order]


def freeze(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """The video stops early, and stays at that frame; at 1 it never begins."""
    last = round((1 - strength) * (len(frames) - 1))
    return frames[np.minimum(np.arange(len(frames)), last)]


def tint(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """All colours shifted towards red at once."""
    return _given_first(frames, frames + strength * np.array(MAX_TINT))


def drift(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Colours that shift further from frame to frame, as far as `tint` in the last."""
    share = np.linspace(0, strength, len(frames))[:, None, None, None]
    return _given_first(frames, frames + share * np.array(MAX_TINT))


DEGRADATIONS: dict[str, Callable[[Frames, float, np.random.Generator], Frames]] = {
    "blur": blur,
    "noise": noise,
    "shuffle": shuffle,
    "freeze": freeze,
    "tint": tint,
    "drift": drift,
}
"""Each from the same generator's state gives the same defect at every strength, only more of it."""


def _given_first(frames: np.ndarray, changed: np.ndarray) -> np.ndarray:
    changed = np.rint(changed).clip(0, 255).astype(np.uint8)
    changed[0] = frames[0]
    return changed
