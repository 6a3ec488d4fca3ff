"""Physics-IQ's four scores: masks and overlaps by plain loops, and by hand on a few pixels."""

import cv2
import numpy as np
import pytest

from cdcd_video.data.sprites import sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.metrics import physics_iq
from cdcd_video.metrics.scores import METRICS


def masks_by_loops(frames: np.ndarray) -> np.ndarray:
    """The masks pixel by pixel; only luma and blur are OpenCV's, whose rounding is its own."""
    luma = [cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (5, 5), 0).astype(int) for frame in frames]
    height, width = luma[0].shape
    background = luma[0].astype(float)
    found = [np.zeros((height, width), bool)]
    for frame in luma[1:]:
        moving = np.zeros((height, width), bool)
        for y in range(height):
            for x in range(width):
                background[y, x] = 0.7 * background[y, x] + 0.3 * frame[y, x]
                moving[y, x] = abs(frame[y, x] - round(background[y, x])) > 10
        for keep in (all, any, any, all):  # erosion, dilation; dilation, erosion
            moving = squares(moving, keep)
        found.append(moving)
    return np.stack(found)


def squares(mask: np.ndarray, keep) -> np.ndarray:
    """Whether all, or any, pixels of the 5 x 5 square around each are set, as far as it lies within the frame."""
    height, width = mask.shape
    return np.array(
        [
            [keep(mask[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].ravel()) for x in range(width)]
            for y in range(height)
        ]
    )


def overlap_by_loops(first: np.ndarray, second: np.ndarray) -> float:
    least = most = 0
    for one, other in zip(first.ravel().tolist(), second.ravel().tolist(), strict=True):
        least, most = least + min(one, other), most + max(one, other)
    return least / most if most else 1.0


def videos(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(render(sample_scene(seed, index, "val"), np.arange(5) / 4, 40) for index in (0, 1))


@pytest.mark.parametrize("seed", [3, 4])
def test_plain_loops_give_the_same(seed):
    sampled, true = videos(seed)
    masks = [physics_iq.motion_masks(frames) for frames in (sampled, true)]
    for found, frames in zip(masks, (sampled, true), strict=True):
        np.testing.assert_array_equal(found, masks_by_loops(frames))
        assert found.any() and not found[0].any()
    one, other = (found.astype(int) for found in masks)
    assert physics_iq.spatial_iou(*masks) == pytest.approx(overlap_by_loops(one.max(0), other.max(0)), abs=1e-15)
    by_frame = [overlap_by_loops(*pair) for pair in zip(one, other, strict=True)]
    assert physics_iq.spatiotemporal_iou(*masks) == pytest.approx(by_frame, abs=1e-15)
    # The authors take means over time, not sums; the number of frames cancels.
    weighted = overlap_by_loops(one.mean(0), other.mean(0))
    assert physics_iq.weighted_spatial_iou(*masks) == pytest.approx(weighted, abs=1e-12)
    squares_of = [
        sum((a / 255 - b / 255) ** 2 for a, b in zip(*(frame.ravel().tolist() for frame in pair), strict=True))
        for pair in zip(sampled, true, strict=True)
    ]
    assert physics_iq.mse(sampled, true) == pytest.approx(np.array(squares_of) / sampled[0].size, abs=1e-14)


def test_by_hand():
    """Two frames of three pixels: the second pixel moves in both, at both times in one of them."""
    sampled = np.array([[[1, 1, 0]], [[0, 1, 0]]], bool)
    true = np.array([[[0, 1, 1]], [[0, 0, 0]]], bool)
    assert physics_iq.spatial_iou(sampled, true) == 1 / 3
    assert physics_iq.spatiotemporal_iou(sampled, true).tolist() == [1 / 3, 0]
    assert physics_iq.weighted_spatial_iou(sampled, true) == 1 / 4, "0 + 1 + 0 of 1 + 2 + 1"
    nothing = np.zeros_like(true)
    assert physics_iq.spatial_iou(nothing, nothing) == 1 == physics_iq.weighted_spatial_iou(nothing, nothing)
    assert physics_iq.spatiotemporal_iou(nothing, true).tolist() == [0, 1]
    grey = np.full((2, 4, 4, 3), 102, np.uint8)
    assert physics_iq.mse(grey, np.zeros_like(grey)) == pytest.approx([0.16, 0.16])


def test_the_threshold_is_exclusive_and_small_things_are_opened_away():
    frames = np.full((2, 16, 16, 3), 100, np.uint8)
    frames[1] = 114  # the background is 104.2, rounded 104: a difference of 10
    assert not physics_iq.motion_masks(frames).any()
    frames[1] = 115  # 104.5 is rounded to the even 104: 11
    assert physics_iq.motion_masks(frames)[1].all()
    frames[1] = 100
    frames[1, 8, 8] = 255
    assert not physics_iq.motion_masks(frames).any(), "a pixel is narrower than the square"


def test_a_still_video_overlaps_nothing_and_the_truth_everything():
    true, _ = videos(3)
    moving, still = (physics_iq.motion_masks(frames) for frames in (true, true[:1].repeat(5, axis=0)))
    assert not still.any() and physics_iq.spatial_iou(still, moving) == 0 == physics_iq.weighted_spatial_iou(
        still, moving
    )
    assert physics_iq.spatial_iou(moving, moving) == 1 and (physics_iq.spatiotemporal_iou(moving, moving) == 1).all()
    assert (physics_iq.mse(true, true) == 0).all()
    assert list(METRICS["physics_iq"].scores) == ["spatial_iou", "spatiotemporal_iou", "weighted_spatial_iou", "mse"]
