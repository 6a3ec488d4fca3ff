"""Degradations of chosen strength, for validating metrics.

Strength runs from 0 (the video itself) to 1 (obvious). Frame 0, which is given to the model, stays unchanged.
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
    """A Gaussian blur of every frame but the first."""
    if strength == 0:
        return frames
    sigma = strength * MAX_BLUR * frames.shape[1]
    return _given_first(frames, np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames]))


def noise(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Gaussian noise, independent in every frame."""
    grain = rng.normal(scale=MAX_NOISE, size=frames.shape)
    return _given_first(frames, frames + strength * grain)


def shuffle(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Shuffles the frame order: a fraction of the frames after the first are permuted."""
    places = np.arange(1, len(frames))
    moved = rng.permutation(places)[: round(strength * len(places))]
    order = np.arange(len(frames))
    order[np.sort(moved)] = rng.permutation(moved)
    return frames[order]


def freeze(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Freezes the video early; at strength 1 all frames equal the first."""
    last = round((1 - strength) * (len(frames) - 1))
    return frames[np.minimum(np.arange(len(frames)), last)]


def tint(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Shifts all colours towards red, equally in every frame."""
    return _given_first(frames, frames + strength * np.array(MAX_TINT))


def drift(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Shifts the colours further from frame to frame, as far as `tint` in the last."""
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
"""From the same state of the generator, each gives the same degradation at every strength, only stronger."""


def _given_first(frames: np.ndarray, changed: np.ndarray) -> np.ndarray:
    changed = np.rint(changed).clip(0, 255).astype(np.uint8)
    changed[0] = frames[0]
    return changed
