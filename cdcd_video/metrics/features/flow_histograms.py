"""Motion features without a network: histograms of the velocities and accelerations of a video's dense optical flow.

They follow FVMD (Liu et al. 2024), which takes them of points that a network tracks, at coarser quantisation and in blocks
of space. Figures of the two are not comparable.
"""

import hashlib

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cdcd_video.metrics import motion

NAME = "flow-histograms"
NUM_DIRECTIONS = 8
"""Directions of a histogram, the first to the right, each an eighth of a turn further clockwise."""
NUM_PARTS = 4
"""Parts of a video, of nearly equal numbers of frames, each with a histogram of its own."""
LEAST_FRAMES = NUM_PARTS + 2
"""So that every part has an acceleration."""
SHORT_FRAMES = 8
"""Length of the shorter windows that give a curve along a video of one window."""
WIDTH_PX = 256
"""Flow is measured in pixels of a frame of this width, that of FVMD, whatever the size of the frames."""
DIGEST = hashlib.sha256(
    f"DIS flow, {NUM_DIRECTIONS} directions, {NUM_PARTS} parts, log2(1 + px of {WIDTH_PX}), linear votes".encode()
).hexdigest()
"""Stands where other features have the hash of their weights."""


def features(frames: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, " D"]:
    """Histograms of velocity, then of acceleration, by part and direction: D = 2 * 4 * 8 = 64.

    Velocity v(t) is the flow from frame t to t + 1; acceleration, v(t + 1) where the pixel has gone minus v(t).

    Args:
      frames: at least `LEAST_FRAMES`, at least 16 px wide and high.
    """
    velocity = motion.forward_flow(frames) * (WIDTH_PX / frames.shape[2])
    return np.concatenate([histograms(velocity), histograms(acceleration(velocity, frames.shape[2] / WIDTH_PX))])


def acceleration(velocity: Float[np.ndarray, "T H W 2"], scale: float = 1.0) -> Float[np.ndarray, "T-1 H W 2"]:
    """Change of the velocity along the path of each pixel.

    Args:
      velocity: as (x, y), in any unit.
      scale: pixels of the frame per unit.
    """
    pairs = zip(velocity, velocity[1:], strict=False)
    return np.stack([motion.sampled(after, before * scale) - before for before, after in pairs])


def histograms(vectors: Float[np.ndarray, "T H W 2"]) -> Float[np.ndarray, " d"]:
    """Votes of vectors (x, y) for directions, by part of the video; mean over the pixels of a part.

    A vector has log2(1 + length) votes, which go to the two nearest directions in proportion to their nearness, as in
    histograms of oriented gradients (Dalal & Triggs 2005). So noise does not send a pan to the right into either of two bins,
    and noise of a thousandth of a pixel has few votes.
    """
    votes = np.log2(1 + np.linalg.norm(vectors, axis=-1))
    angle = np.arctan2(vectors[..., 1], vectors[..., 0]) * (NUM_DIRECTIONS / (2 * np.pi))
    lower = np.floor(angle)
    upper_share = angle - lower
    found = []
    for part in np.array_split(np.arange(len(vectors)), NUM_PARTS):
        pairs = (lower[part], votes[part] * (1 - upper_share[part])), (lower[part] + 1, votes[part] * upper_share[part])
        for_each = [
            np.bincount(place.astype(np.int64).ravel() % NUM_DIRECTIONS, share.ravel(), NUM_DIRECTIONS)
            for place, share in pairs
        ]
        found.append(sum(for_each) / votes[part].size)
    return np.concatenate(found)


def run(videos: Tensor) -> tuple[Tensor, None]:
    """Features of a batch of uint8 videos (n, F, H, W, 3), as `FeatureNetwork.run` gives them."""
    return torch.from_numpy(np.stack([features(video) for video in videos.cpu().numpy()])), None
