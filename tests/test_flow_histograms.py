"""Histograms of optical flow: by plain loops, by hand, and what their distance detects."""

import math

import numpy as np
import pytest
from test_degrade import clips, degraded, rendered
from test_motion import moving

from cdcd_video.data.sprites import sample_scene
from cdcd_video.metrics import motion
from cdcd_video.metrics.features import flow_histograms, networks
from cdcd_video.metrics.sets.distribution import frechet_distance

NETWORK = networks.load(flow_histograms.NAME)


def histograms_by_loops(vectors: np.ndarray) -> list[float]:
    num, height, width, _ = vectors.shape
    sizes = [num // 4 + (part < num % 4) for part in range(4)]  # the first parts are the longer ones
    found, begin = [], 0
    for size in sizes:
        votes = [0.0] * 8
        for time in range(begin, begin + size):
            for y in range(height):
                for x in range(width):
                    right, down = vectors[time, y, x].tolist()
                    eighths = math.atan2(down, right) % (2 * math.pi) / (math.pi / 4)
                    nearer = int(eighths)
                    weight = math.log2(1 + math.hypot(right, down))
                    votes[nearer % 8] += weight * (1 - (eighths - nearer))
                    votes[(nearer + 1) % 8] += weight * (eighths - nearer)
        found += [vote / (size * height * width) for vote in votes]
        begin += size
    return found


@pytest.mark.parametrize("num", [4, 7, 15])
def test_plain_loops_give_the_same(num):
    rng = np.random.Generator(np.random.Philox(key=num))
    vectors = rng.normal(scale=3, size=(num, 3, 4, 2))
    vectors[0, 0] = 0
    assert flow_histograms.histograms(vectors) == pytest.approx(histograms_by_loops(vectors), abs=1e-12)


def test_by_hand():
    def of(x: float, y: float) -> list[float]:
        return flow_histograms.histograms(np.broadcast_to([float(x), y], (4, 2, 2, 2))).reshape(4, 8)[2].tolist()

    assert of(3, 0) == [2, 0, 0, 0, 0, 0, 0, 0], "log2(1 + 3) votes for the right"
    assert of(0, 7) == pytest.approx([0, 0, 3, 0, 0, 0, 0, 0]), "3 for down, a quarter turn clockwise"
    assert of(3, -1e-9) == pytest.approx(of(3, 1e-9), abs=1e-8), "noise does not move a pan into another bin"
    half = 3 * math.cos(math.pi / 8), 3 * math.sin(math.pi / 8)
    assert of(*half) == pytest.approx([1, 1, 0, 0, 0, 0, 0, 0]), "half way between two directions"


def test_acceleration_is_the_change_along_the_path():
    """A field that differs from place to place and never changes: what moves through it is accelerated."""
    velocity = np.zeros((2, 1, 6, 2))
    velocity[:, 0, :, 0] = [1, 2, 0, 0, 5, 0]
    change = flow_histograms.acceleration(velocity.astype(np.float32))
    assert change[0, 0, :, 0].tolist() == [1, -2, 0, 0, -5, 0], "the last but one leaves the frame"
    doubled = flow_histograms.acceleration(2 * velocity.astype(np.float32), 0.5)
    np.testing.assert_allclose(doubled, 2 * change, atol=1e-6)


def test_features_of_a_pan():
    """A pan of 2 px of 64 is 8 of 256: log2(9) votes for the right, and no acceleration."""
    found = flow_histograms.features(moving(2, 0, 10)).reshape(2, 4, 8)
    assert found[0, :, 0] == pytest.approx(math.log2(9), rel=0.1)
    assert found[0, :, 2:].max() < 0.3 and found[1].sum(axis=-1).max() < 0.6
    still = flow_histograms.features(np.repeat(moving(0, 0, 1), 10, axis=0))
    assert still.max() < 1e-3
    assert NETWORK(moving(2, 0, 10)[None]).features[0] == pytest.approx(found.ravel())


def test_the_backward_flow_is_the_flow_of_the_reversed_video():
    frames = moving(2, 1)
    forward, backward = motion.flow(frames)
    for place in range(len(frames) - 1):
        np.testing.assert_array_equal(forward[place], motion.forward_flow(frames[place : place + 2])[0])
        np.testing.assert_array_equal(backward[place], motion.forward_flow(frames[place : place + 2][::-1])[0])


def test_the_distance_detects_freezing_and_shuffling_and_not_a_tint():
    """Against other true videos, beside what chance makes of splits of true videos."""
    others = rendered([sample_scene(12, index, "val") for index in range(len(clips()))])
    real, true = NETWORK(others).features, NETWORK(clips()).features
    both, size = np.concatenate([real, true]), len(real)
    splits = []
    for seed in range(40):
        order = np.random.Generator(np.random.Philox(key=seed)).permutation(2 * size)
        splits.append(frechet_distance(both[order[:size]], both[order[size:]]))
    chance = np.ptp(np.quantile(splits, (0.025, 0.975))) / 2
    floor = frechet_distance(real, true)

    def rise(defect: str, strength: float) -> float:
        return (frechet_distance(real, NETWORK(degraded(defect, strength)).features) - floor) / chance

    assert rise("shuffle", 0.25) > 1 < rise("freeze", 0.25)
    assert max(abs(rise("tint", strength)) for strength in (0.25, 1.0)) < 1
