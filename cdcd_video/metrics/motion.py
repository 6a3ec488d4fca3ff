"""Motion and temporal consistency of a video by optical flow: frames in, numbers out.

Each function takes one video and returns one value per frame, NaN where there is nothing to compare with. The flow can be
computed once and passed to several. Compare each with the same number of real videos, and with `motion_amount`: a frozen
video is perfectly consistent, does not flicker and does not drift.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

STILL_PX = 0.5
"""A pixel whose flow is shorter than this in both directions is still."""


class Flow(NamedTuple):
    """Optical flow between neighbouring frames, as (x, y) in px."""

    forward: Float[np.ndarray, "F-1 H W 2"]
    """Where a pixel of frame t goes in frame t + 1."""
    backward: Float[np.ndarray, "F-1 H W 2"]
    """Where a pixel of frame t + 1 came from in frame t, as an offset."""


def flow(frames: UInt8[np.ndarray, "F H W 3"]) -> Flow:
    """Dense optical flow by inverse search (DIS; Kroeger et al. 2016).

    Args:
      frames: at least 16 px wide and high; of a single one there is no flow, and the arrays are empty.
    """
    return Flow(forward_flow(frames), forward_flow(frames[::-1])[::-1])


def forward_flow(frames: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, "F-1 H W 2"]:
    """`Flow.forward` alone, at half the cost."""
    import cv2  # of the extra `eval`, as in the functions below: much of what imports this file computes no flow

    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)  # the preset would stop at half the resolution, and frames here are small
    found = [search.calc(before, after, None) for before, after in zip(grey, grey[1:], strict=False)]
    return np.reshape(found, (-1, *frames.shape[1:3], 2)).astype(np.float32, copy=False)


def motion_amount(frames: UInt8[np.ndarray, "F H W 3"], found: Flow | None = None) -> Float[np.ndarray, " F"]:
    """Mean length of the flow into each frame, in px per frame; NaN for the first."""
    forward = (found or flow(frames)).forward
    return _from_second(np.linalg.norm(forward, axis=-1).mean(axis=(1, 2)))


def warp_error(frames: UInt8[np.ndarray, "F H W 3"], found: Flow | None = None) -> Float[np.ndarray, " F"]:
    """Temporal consistency: how badly the frame before, moved along the flow, predicts each frame (Lai et al. 2018).

    Only pixels that are visible in both frames count. Root mean square over them, in levels of 255, lower is steadier; NaN
    for the first frame.
    """
    forward, backward = found or flow(frames)
    errors = np.full(len(frames) - 1, np.nan)
    for place, (to_next, to_last) in enumerate(zip(forward, backward, strict=True)):
        visible = _visible_in_both(to_next, to_last)
        moved = sampled(frames[place].astype(np.float32), to_last)
        if visible.any():
            difference = (frames[place + 1].astype(np.float32) - moved)[visible]
            errors[place] = np.sqrt(np.mean(difference.astype(np.float64) ** 2))
    return _from_second(errors)


def flicker(frames: UInt8[np.ndarray, "F H W 3"], found: Flow | None = None) -> Float[np.ndarray, " F"]:
    """Fluctuation of still pixels: half the mean absolute second difference, in levels of 255.

    Moving pixels are left out, and a steady fade has no second difference, so real videos are near their camera noise.
    NaN for the first and the last frame, and where no pixel is still.
    """
    forward, backward = found or flow(frames)
    short = np.linalg.norm(forward, axis=-1) < STILL_PX
    short &= np.linalg.norm(backward, axis=-1) < STILL_PX
    levels = frames.astype(np.float64)
    jumps = np.abs(levels[2:] - 2 * levels[1:-1] + levels[:-2]).mean(axis=-1) / 2
    values = np.full(len(frames), np.nan)
    for place, (jump, still) in enumerate(zip(jumps, short[1:] & short[:-1], strict=True)):
        if still.any():
            values[place + 1] = jump[still].mean()
    return values


def colour_drift(frames: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, " F"]:
    """Distance of the colour statistics from those of frame 0: means and deviations in CIELAB, 0 for frame 0.

    One unit is about the least visible difference. Positions in the frame do not matter.
    """
    import cv2

    lab = np.stack([cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for frame in frames])
    pixels = lab.reshape(len(frames), -1, 3).astype(np.float64)
    moments = np.concatenate([pixels.mean(axis=1), pixels.std(axis=1)], axis=1)
    return np.linalg.norm(moments - moments[0], axis=1)


def first_gap(frames: UInt8[np.ndarray, "F H W 3"]) -> float:
    """Mean absolute difference of frame 1 to the given frame 0, in levels of 255; see `discontinuity`."""
    return float(np.abs(frames[1].astype(np.int16) - frames[0]).mean())


def discontinuity(sampled_gaps: Float[np.ndarray, " V"], real_gaps: Float[np.ndarray, " R"]) -> Float[np.ndarray, " V"]:
    """Rank of each sampled video's `first_gap` among the real ones: the fraction of real gaps below it, ties half.

    Its mean is the probability that a sampled video changes more at first than a real one (Mann & Whitney 1947). 0.5 is right;
    near 1 the first step is too large, near 0 the video begins frozen.
    """
    real = np.sort(np.asarray(real_gaps, dtype=np.float64))
    below, up_to = (np.searchsorted(real, sampled_gaps, side=side) for side in ("left", "right"))
    return (below + up_to) / (2 * len(real))


def sampled(picture: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """A picture (H, W, C) sampled bilinearly at each pixel's position plus its offset (x, y) in px; edges are continued."""
    import cv2

    height, width = offsets.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(
        picture, x + offsets[..., 0], y + offsets[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _from_second(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[np.nan], values])


def _visible_in_both(to_next: np.ndarray, to_last: np.ndarray) -> Bool[np.ndarray, "H W"]:
    """Pixels of the later frame that were visible before, by the forward-backward check of Sundaram et al. (2010)."""
    height, width = to_last.shape[:2]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    came_x, came_y = x + to_last[..., 0], y + to_last[..., 1]
    inside = (came_x >= 0) & (came_x <= width - 1) & (came_y >= 0) & (came_y <= height - 1)
    there = sampled(to_next, to_last)
    round_trip = ((there + to_last) ** 2).sum(axis=-1)
    lengths = (there**2).sum(axis=-1) + (to_last**2).sum(axis=-1)
    return inside & (round_trip <= 0.01 * lengths + 0.5)
