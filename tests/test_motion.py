"""Motion and steadiness on videos made for it: a known shift has that flow, and each defect is seen by its own measure."""

import cv2
import numpy as np
import pytest

from cdcd_video.metrics import motion

SIDE, NUM_FRAMES = 64, 6


def texture(seed: int = 0, side: int = 160) -> np.ndarray:
    """Smooth colour noise, float32 (side, side, 3) in 30..225."""
    noise = np.random.Generator(np.random.Philox(key=seed)).uniform(size=(side, side, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 3)
    return 30 + 195 * (noise - noise.min()) / np.ptp(noise)


def moving(step_x: float, step_y: float, num_frames: int = NUM_FRAMES) -> np.ndarray:
    """A window over a texture; what is seen moves by this many px per frame."""
    frames = []
    for frame in range(num_frames):
        where = np.float32([[1, 0, -48 + step_x * frame], [0, 1, -48 + step_y * frame]])
        frames.append(cv2.warpAffine(texture(), where, (SIDE, SIDE), flags=cv2.INTER_CUBIC))
    return as_frames(np.stack(frames))


def as_frames(levels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def noisy(frames: np.ndarray, levels: float) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=5))
    return as_frames(frames + rng.normal(scale=levels, size=frames.shape))


STILL = np.repeat(moving(0, 0, 1), NUM_FRAMES, axis=0)


@pytest.mark.parametrize(("x", "y"), [(1, 0), (-2, 0), (0, 1.5), (2, -1), (0.5, 0.5), (4, 3)])
def test_a_known_shift_has_that_flow(x, y):
    forward, backward = motion.flow(moving(x, y))
    assert forward.shape == backward.shape == (NUM_FRAMES - 1, SIDE, SIDE, 2)
    inner = (slice(None), slice(12, -12), slice(12, -12))
    assert forward[inner].reshape(-1, 2).mean(axis=0) == pytest.approx((x, y), abs=0.1)
    assert backward[inner].reshape(-1, 2).mean(axis=0) == pytest.approx((-x, -y), abs=0.1)
    assert np.abs(forward[inner] - (x, y)).mean() < 0.25


def test_motion_amount_grows_with_speed():
    amounts = [motion.motion_amount(moving(speed, 0)) for speed in (0, 0.5, 1, 2, 4)]
    assert all(np.isnan(values[0]) and len(values) == NUM_FRAMES for values in amounts)
    means = [np.nanmean(values) for values in amounts]
    assert means == sorted(means)
    assert means[0] < 0.05
    assert means[2:] == pytest.approx([1, 2, 4], rel=0.15)


def test_motion_of_a_small_object_counts_by_its_area():
    frames = np.full((5, SIDE, SIDE, 3), 80, dtype=np.uint8)
    for place, frame in enumerate(frames):
        frame[24:40, 10 + 3 * place : 26 + 3 * place] = texture(2)[:16, :16].astype(np.uint8)
    amount = np.nanmean(motion.motion_amount(frames))
    assert 0.3 * 3 * 16 * 16 / SIDE**2 < amount < 6 * 3 * 16 * 16 / SIDE**2


def test_smooth_motion_is_consistent_and_what_changes_on_the_way_is_not():
    steady = np.nanmean(motion.warp_error(moving(2, 1)))
    assert steady < 3
    errors = [np.nanmean(motion.warp_error(noisy(moving(2, 1), levels))) for levels in (4, 8, 16, 32)]
    assert [steady, *errors] == sorted([steady, *errors])
    assert errors[1] > 2 * steady
    cut = np.concatenate([moving(1, 0)[:3], as_frames(texture(7)[:SIDE, :SIDE])[None]])
    values = motion.warp_error(cut)
    assert np.isnan(values[0]) and not values[3] < 5 * values[2], "another picture cannot be warped from the one before"


def test_what_comes_into_view_is_no_error():
    """A textured square crosses: the ground it uncovers was not in view, and is left out."""
    frames = np.repeat(as_frames(texture(3)[:SIDE, :SIDE])[None], 5, axis=0)
    for place, frame in enumerate(frames):
        frame[20:44, 8 + 4 * place : 32 + 4 * place] = as_frames(texture(4)[:24, :24])
    naive = np.sqrt(np.mean(np.diff(frames.astype(float), axis=0) ** 2))
    assert np.nanmean(motion.warp_error(frames)) < 0.5 * naive


def test_flicker_is_what_stands_still_and_jumps():
    assert np.nanmean(motion.flicker(STILL)) == 0
    pulse = np.array([0, 6, 0, 6, 0, 6])[:, None, None, None]
    values = motion.flicker(as_frames(STILL.astype(float) + pulse))
    assert np.isnan(values[[0, -1]]).all()
    assert values[1:-1] == pytest.approx(6, rel=0.05)
    fade = motion.flicker(as_frames(STILL.astype(float) + np.arange(NUM_FRAMES)[:, None, None, None] * 4))
    assert np.nanmean(fade) < 0.1, "a steady fade is no flicker"
    levels = [np.nanmean(motion.flicker(noisy(STILL, level))) for level in (0.5, 1, 2)]
    assert levels == sorted(levels) and levels[0] > 0.1
    assert np.isnan(motion.flicker(moving(3, 0))).all(), "nothing stands still"


def test_a_pixel_is_still_only_if_it_neither_goes_nor_comes():
    """What is uncovered stays where it is, and was not there before."""
    pulse = as_frames(STILL.astype(float) + np.array([0, 6, 0, 6, 0, 6])[:, None, None, None])
    none, long = np.zeros((2, NUM_FRAMES - 1, SIDE, SIDE, 2), np.float32)
    long += 3
    assert np.isfinite(motion.flicker(pulse, motion.Flow(none, none))[1:-1]).all()
    for found in (motion.Flow(none, long), motion.Flow(long, none)):
        assert np.isnan(motion.flicker(pulse, found)).all()


def test_colour_drift_sees_colours_and_not_places():
    assert motion.colour_drift(STILL) == pytest.approx(0, abs=1e-6)
    warmer = as_frames(STILL + np.arange(NUM_FRAMES)[:, None, None, None] * np.array([4.0, 0, -4.0]))
    drift = motion.colour_drift(warmer)
    assert drift[0] == 0 and (np.diff(drift) > 0).all() and drift[-1] > 5
    rng = np.random.Generator(np.random.Philox(key=1))
    mixed = STILL.reshape(NUM_FRAMES, -1, 3)[:, rng.permutation(SIDE * SIDE)].reshape(STILL.shape)
    assert motion.colour_drift(np.concatenate([STILL[:1], mixed])) == pytest.approx(0, abs=1e-4)
    grey = np.full((2, 8, 8, 3), 118, dtype=np.uint8)
    grey[1] = 130
    assert motion.colour_drift(grey)[1] == pytest.approx(4.86, abs=0.1), "L* from 49.7 to 54.3"
    halves = np.full((2, 8, 8, 3), 118, dtype=np.uint8)
    halves[1, :4], halves[1, 4:] = 100, 136
    assert motion.colour_drift(halves)[1] > 5, "the mean is nearly the same, and the contrast is not"


def test_discontinuity_ranks_gaps_among_real_ones():
    real = np.array([motion.first_gap(moving(speed, 0)) for speed in (0.5, 1, 1.5, 2)])
    assert (np.diff(real) > 0).all()
    assert motion.discontinuity(real, real).mean() == pytest.approx(0.5)
    jolt = np.concatenate([as_frames(texture(9)[:SIDE, :SIDE])[None], moving(1, 0)])
    assert motion.discontinuity(np.array([motion.first_gap(STILL), motion.first_gap(jolt)]), real).tolist() == [0, 1]
    assert motion.discontinuity(np.array([real[1], (real[1] + real[2]) / 2]), real).tolist() == [0.375, 0.5]


def test_a_single_frame_has_nothing_to_be_compared_with():
    for measure in (motion.motion_amount, motion.warp_error, motion.flicker):
        values = measure(STILL[:1])
        assert values.shape == (1,) and np.isnan(values).all()
    assert motion.colour_drift(STILL[:1]).tolist() == [0]


def test_the_same_frames_give_the_same_numbers():
    frames = noisy(moving(1, 1), 3)
    for measure in (motion.motion_amount, motion.warp_error, motion.flicker, motion.colour_drift):
        np.testing.assert_array_equal(measure(frames), measure(frames))
        np.testing.assert_array_equal(
            measure(frames)[:4][1:3], measure(frames[:4])[1:3], "earlier frames know no later"
        )


@pytest.mark.parametrize("too_far, is_seen", [(0.8, True), (1.0, False)])
def test_a_pixel_was_visible_where_flow_there_and_back_nearly_meet(too_far: float, is_seen: bool):
    back = np.full((24, 24, 2), (-4.0, 0.0), np.float32)
    there = np.full(
        (24, 24, 2), (4.0 + too_far, 0.0), np.float32
    )  # Sundaram et al.: 0.01 * (|there|^2 + |back|^2) + 0.5
    found = motion._visible_in_both(there, back)
    assert (found[:, 4:] == is_seen).all() and not found[:, :4].any()
