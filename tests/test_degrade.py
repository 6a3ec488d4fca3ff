"""The rulers measured: each distance rises with the strength of a defect it can see, and a still video does not win.

The degraded videos begin with the same first frames as the real ones, as drawn videos do.
"""

import functools

import numpy as np
import pytest

from cdcd_video.data.sprites import Scene, counterfactual, sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.metrics import motion
from cdcd_video.metrics.degradations import DEGRADATIONS
from cdcd_video.metrics.features import networks
from cdcd_video.metrics.sets.distribution import frechet_distance, inception_score, kernel_distance

NUM_CLIPS = 32
STRENGTHS = (0.0, 0.25, 0.5, 1.0)
DISTANCES = [(frechet_distance, STRENGTHS), (kernel_distance, (0.0, 0.5, 1.0))]
"""The kernel distance of so few clips does not tell the weakest defects from none."""


SCENES = [sample_scene(11, index, "val") for index in range(NUM_CLIPS)]


def rendered(scenes: list[Scene]) -> np.ndarray:
    return np.stack([render(scene, np.arange(16) / 8) for scene in scenes])


@functools.cache
def clips() -> np.ndarray:
    return rendered(SCENES)


@functools.cache
def degraded(defect: str, strength: float) -> np.ndarray:
    rngs = [generator(index) for index in range(NUM_CLIPS)]
    return np.stack([DEGRADATIONS[defect](frames, strength, rng) for frames, rng in zip(clips(), rngs, strict=True)])


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


@functools.cache
def loaded(name: str) -> networks.FeatureNetwork:
    return networks.load(name)


@functools.cache
def features(name: str, defect: str = "", strength: float = 0.0) -> np.ndarray:
    """Of the degraded videos, or of their drawn frames; of the true ones where the strength is 0."""
    if defect and not strength:  # `test_strength_0_is_the_video_itself_and_frame_0_stays`
        return features(name)
    videos = degraded(defect, strength) if defect else clips()
    return loaded(name)(drawn_frames(videos) if name == "sprites-frame" else videos).features


def drawn_frames(videos: np.ndarray) -> np.ndarray:
    """All frames but the given one, thinned to every third."""
    return videos[:, 1::3].reshape(-1, *videos.shape[2:])


@pytest.mark.parametrize("defect", DEGRADATIONS)
def test_strength_0_is_the_video_itself_and_frame_0_stays(defect):
    frames = clips()[0]
    rng = generator(3)
    np.testing.assert_array_equal(DEGRADATIONS[defect](frames, 0.0, rng), frames)
    worst = DEGRADATIONS[defect](frames, 1.0, rng)
    np.testing.assert_array_equal(worst[0], frames[0])
    assert worst.dtype == np.uint8 and worst.shape == frames.shape
    assert (worst != frames).any() or defect in ("shuffle", "freeze")


def test_shuffling_only_moves_and_freezing_only_stops():
    frames = clips()[1]
    rng = generator(3)
    moved = DEGRADATIONS["shuffle"](frames, 1.0, rng)
    assert sorted(frame.tobytes() for frame in moved) == sorted(frame.tobytes() for frame in frames)
    assert not np.array_equal(moved, frames)
    half = DEGRADATIONS["freeze"](frames, 0.6, rng)
    np.testing.assert_array_equal(half[:7], frames[:7])
    assert (half[7:] == frames[6]).all()


@pytest.mark.parametrize(("distance", "strengths"), DISTANCES)
@pytest.mark.parametrize("defect", ["blur", "noise", "tint", "drift"])
def test_frame_distances_rise_with_what_is_seen_in_a_frame(defect, distance, strengths):
    values = [distance(features("sprites-frame"), features("sprites-frame", defect, s)) for s in strengths]
    assert values == sorted(set(values)), values


@pytest.mark.parametrize(("distance", "strengths"), DISTANCES)
@pytest.mark.parametrize("defect", DEGRADATIONS)
def test_video_distances_rise_with_every_defect(defect, distance, strengths):
    values = [distance(features("sprites-video"), features("sprites-video", defect, s)) for s in strengths]
    assert values == sorted(set(values)), values


def test_frame_distances_are_blind_to_order():
    network = loaded("sprites-frame")
    real = network(clips()[:, 1:].reshape(-1, 64, 64, 3)).features
    straight, mixed = (network(degraded("shuffle", s)[:, 1:].reshape(-1, 64, 64, 3)).features for s in (0.0, 1.0))
    assert frechet_distance(real, mixed) == pytest.approx(frechet_distance(real, straight), abs=1e-6)


def test_a_still_video_does_not_win():
    """It is steady, keeps its colours and never flickers; whatever moves as things here do is still nearer to the truth."""
    network = loaded("sprites-video")
    others = rendered([counterfactual(scene, generator(scene.index)) for scene in SCENES])
    real, moving, still = (network(videos) for videos in (clips(), others, degraded("freeze", 1.0)))
    for distance in (frechet_distance, kernel_distance):
        assert distance(real.features, still.features) > 1.3 * distance(real.features, moving.features)
    assert inception_score(still.logits)[0] < 0.7 * inception_score(moving.logits)[0]


def test_equal_sets_score_zero_and_order_does_not_matter():
    network = loaded("sprites-video")
    features = network(clips()).features
    assert frechet_distance(features, features) < 1e-9
    again = network(clips()[::-1]).features
    assert frechet_distance(features, again) < 1e-6


def test_what_measures_of_one_video_see():
    """Flicker and warp error grow with noise, drift with drift, and freezing takes the motion away."""

    def mean(measure, defect: str, strength: float) -> float:
        return float(np.nanmean([np.nanmean(measure(frames)) for frames in degraded(defect, strength)[:2]]))

    for measure in (motion.flicker, motion.warp_error):
        values = [mean(measure, "noise", s) for s in (0.0, 0.05, 0.1, 0.2)]
        assert values == sorted(set(values)), values
    values = [mean(motion.colour_drift, "drift", s) for s in STRENGTHS]
    assert values == sorted(set(values)), values
    assert mean(motion.motion_amount, "freeze", 1.0) < 0.2 * mean(motion.motion_amount, "freeze", 0.0)
