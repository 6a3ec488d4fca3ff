"""The four scores of Physics-IQ (Motamed et al. 2025): where, when and how much a video moves, against the true one.

Motion is where a frame differs from a running average of the earlier ones. Each score compares the masks of a sampled
video with those of the true one, or the pixels themselves.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8

THRESHOLD = 10
"""A pixel moves if it differs from the background by more, in levels of 255: `threshold_value` of the authors' code."""
RATE = 0.3
"""Weight of each frame in the background (`accumulateWeighted` of the authors' code)."""
SIDE_PX = 5
"""Side of the Gaussian blur, and of the square that opens and closes the masks, whatever the size of the frames."""

Masks = Bool[np.ndarray, "F H W"]


def motion_masks(frames: UInt8[np.ndarray, "F H W 3"]) -> Masks:
    """The moving pixels of each frame; none in the first.

    The background is the running average b(t) = 0.7 b(t - 1) + 0.3 y(t) of the blurred luma y, from b(0) = y(0). A pixel moves
    where |y(t) - b(t)| > 10, with b rounded. Masks are then opened and closed, so nothing narrower than 5 px is left.
    """
    import cv2  # of the extra `eval`

    square = np.ones((SIDE_PX, SIDE_PX), np.uint8)
    luma = [cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (SIDE_PX, SIDE_PX), 0) for frame in frames]
    background = luma[0].astype(np.float64)
    masks = [np.zeros(luma[0].shape, np.uint8)]
    for frame in luma[1:]:
        cv2.accumulateWeighted(frame, background, RATE)
        moving = (cv2.absdiff(frame, cv2.convertScaleAbs(background)) > THRESHOLD).astype(np.uint8)
        opened = cv2.morphologyEx(moving, cv2.MORPH_OPEN, square)
        masks.append(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, square))
    return np.stack(masks).astype(bool)


def spatial_iou(sampled: Masks, true: Masks) -> float:
    """Where something moves, at whatever time: intersection over union of the masks' maxima over time; 1 where nothing moves."""
    return float(_iou(sampled.max(axis=0), true.max(axis=0), (0, 1)))


def spatiotemporal_iou(sampled: Masks, true: Masks) -> Float[np.ndarray, " F"]:
    """Where something moves at each time: intersection over union of each frame's masks; 1 where both are empty."""
    return _iou(sampled, true, (1, 2))


def weighted_spatial_iou(sampled: Masks, true: Masks) -> float:
    """Where and how much: sum of the lesser over sum of the greater number of frames that each pixel moves; 1 where none does."""
    return float(_iou(sampled.sum(axis=0), true.sum(axis=0), (0, 1)))


def mse(sampled: UInt8[np.ndarray, "F H W 3"], true: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, " F"]:
    """Mean squared error of each frame, of values from 0 to 1."""
    return np.square(sampled / 255.0 - true / 255.0).mean(axis=(1, 2, 3))


def _iou(sampled: np.ndarray, true: np.ndarray, over: tuple[int, int]) -> np.ndarray:
    """Sum of minima over sum of maxima, which for masks is intersection over union; 1 where both are empty."""
    union = np.maximum(sampled, true).sum(axis=over)
    return np.where(union > 0, np.minimum(sampled, true).sum(axis=over) / np.maximum(union, 1), 1.0)
