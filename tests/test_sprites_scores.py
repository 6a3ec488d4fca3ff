"""The scores of "sprites": right for the truth, wrong for everything that only looks like it."""

import dataclasses

import numpy as np
import pytest

from cdcd_video.data import sprites, sprites_render
from cdcd_video.data.sprites import SpriteObject, World
from cdcd_video.errors import UserError
from cdcd_video.metrics.sprites_metrics import BEST_PSNR_DB, score
from cdcd_video.metrics.sprites_tracking import track

TIMES = World().times_s


@pytest.fixture(scope="module")
def clips():
    """(scene, true video): three one-object scenes of every motion, and 16 of the full world."""
    scenes = [
        sprites.sample_scene(11, index, world=World(motions=(motion,), max_objects=1))
        for motion in sprites.MOTIONS
        for index in range(3)
    ]
    scenes += [sprites.sample_scene(12, index, split) for split in ("val", "heldout") for index in range(8)]
    return [(scene, sprites_render.render(scene, TIMES)) for scene in scenes]


def blurred(frames: np.ndarray, sigma: float) -> np.ndarray:
    reach = int(3 * sigma) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    out = np.pad(frames.astype(np.float32), ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    for axis in (1, 2):
        length = out.shape[axis] - 2 * reach
        out = sum(
            weight * np.take(out, np.arange(k, k + length), axis) for k, weight in enumerate(kernel / kernel.sum())
        )
    return np.round(out).astype(np.uint8)


def noisy(frames: np.ndarray, sigma: float) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=5))
    return np.clip(np.round(frames + rng.normal(0, sigma, frames.shape)), 0, 255).astype(np.uint8)


def mean_of(scores, field: str) -> float:
    return float(np.nanmean(np.concatenate([np.ravel(getattr(one, field)) for one in scores])))


def test_the_true_video_is_right_in_everything(clips):
    scores = [score(frames, scene, TIMES) for scene, frames in clips]
    assert mean_of(scores, "does_right_thing") >= 0.99
    assert mean_of(scores, "direction_right") >= 0.99
    assert mean_of(scores, "position_error_px") < 0.1
    assert mean_of(scores, "identity_iou") > 0.98
    assert mean_of(scores, "background_psnr_db") == BEST_PSNR_DB
    assert mean_of(scores, "lost_share") == 0
    assert np.mean([one.all_right for one in scores]) >= 0.99
    objects, frames = len(clips[-1][0].objects), len(TIMES)
    assert scores[-1].identity_iou.shape == scores[-1].position_error_px.shape == (objects, frames)


def test_a_frozen_first_frame_is_right_only_where_the_truth_is_still(clips):
    for scene, frames in clips:
        judged = score(np.repeat(frames[:1], len(frames), axis=0), scene, TIMES)
        still = [sprite.motion == "stays still" for sprite in scene.objects]
        assert judged.does_right_thing.tolist() == judged.direction_right.tolist() == still, scene.caption


def test_another_sentence_is_wrong_for_the_object_it_changes(clips):
    rng = np.random.Generator(np.random.Philox(key=2))
    right_changed, right_kept = [], []
    for scene, frames in clips:
        other = sprites.counterfactual(scene, rng)
        judged = score(frames, other, TIMES).does_right_thing
        for old, new, right in zip(scene.objects, other.objects, judged, strict=True):
            (right_kept if old == new else right_changed).append(right)
    assert len(right_changed) == len(clips)
    assert np.mean(right_changed) <= 0.02
    assert np.mean(right_kept) >= 0.98


def test_straight_moves_and_spins_at_another_speed_are_wrong():
    for motion in (*sprites.STRAIGHT_MOTIONS, "spins"):
        sprite = SpriteObject("red", "square", motion, 32.0, 32.0, 6.0)
        scene = dataclasses.replace(sprites.sample_scene(0, 0), objects=(sprite,))
        frames = sprites_render.render(scene, TIMES[:9])
        assert score(frames, scene, TIMES[:9]).all_right
        for adverb in ("slowly", "quickly"):
            other = dataclasses.replace(scene, objects=(dataclasses.replace(sprite, adverb=adverb),))
            judged = score(frames, other, TIMES[:9])
            assert not judged.all_right and judged.direction_right.all(), (motion, adverb)


def test_swapped_colours_are_wrong():
    world = World(two_object_share=1.0)
    judged = []
    for index in range(16):
        scene = sprites.sample_scene(13, index, world=world)
        first, second = scene.objects
        swapped = (
            dataclasses.replace(first, colour=second.colour),
            dataclasses.replace(second, colour=first.colour),
        )
        frames = sprites_render.render(dataclasses.replace(scene, objects=swapped), TIMES)
        judged.append(score(frames, scene, TIMES).does_right_thing)
        # Nor does it help to start right and to swap later.
        frames[0] = sprites_render.render(scene, TIMES[:1])[0]
        judged.append(score(frames, scene, TIMES).does_right_thing)
    assert np.mean(np.concatenate(judged)) <= 0.02


def test_another_colour_or_shape_or_size_is_another_object():
    sprite = SpriteObject("orange", "circle", "stays still", 30.0, 30.0, 8.0)
    scene = dataclasses.replace(sprites.sample_scene(0, 2), objects=(sprite,))

    def judged(**changes):
        other = dataclasses.replace(scene, objects=(dataclasses.replace(sprite, **changes),))
        return score(sprites_render.render(other, TIMES), scene, TIMES)

    assert judged().identity_iou.min() > 0.97
    assert judged(colour="red").lost_share == 1
    assert judged(colour="red").identity_iou.max() == 0
    assert not judged(colour="yellow").all_right
    assert judged(shape="square").identity_iou.max() < 0.93
    assert judged(shape="star").identity_iou.max() < 0.8
    assert judged(radius=9.6).identity_iou.max() < 0.75
    assert judged(x=32.0).identity_iou.min() > 0.97  # a position error is not an identity error
    assert judged(x=32.0).position_error_px == pytest.approx(np.full((1, 16), 2.0), abs=0.1)


def test_a_still_object_does_not_spin_and_a_spinning_one_is_not_still():
    for shape in ("square", "triangle", "star"):
        spinning = SpriteObject("yellow", shape, "spins", 30.0, 30.0, 8.0)
        scene = dataclasses.replace(sprites.sample_scene(0, 2), objects=(spinning,))
        still = dataclasses.replace(scene, objects=(dataclasses.replace(spinning, motion="stays still"),))
        turning, resting = sprites_render.render(scene, TIMES), sprites_render.render(still, TIMES)
        assert score(turning, scene, TIMES).all_right and score(resting, still, TIMES).all_right
        assert not score(resting, scene, TIMES).all_right
        assert not score(turning, still, TIMES).all_right
        assert not score(turning[::-1], scene, TIMES).direction_right.any()  # the other way round


def test_angles_are_measured_and_followed():
    for shape in ("square", "triangle", "star"):
        sprite = SpriteObject("cyan", shape, "spins", 31.3, 29.6, 8.0, adverb="quickly")
        scene = dataclasses.replace(sprites.sample_scene(0, 2), objects=(sprite,))
        seen = track(noisy(sprites_render.render(scene, TIMES), 6), scene)
        known = sprites.truth(scene, TIMES)
        assert np.degrees(np.abs(seen.angles_rad - known.angles_rad)).max() < 3


@pytest.mark.parametrize("damage, amounts", [(noisy, (6, 14, 24, 40)), (blurred, (0.6, 1.0, 1.6, 2.4))])
def test_more_damage_is_a_worse_score(clips, damage, amounts):
    rows = [[score(damage(frames, amount), scene, TIMES) for scene, frames in clips[::5]] for amount in amounts]
    identity = [mean_of(scores, "identity_iou") for scores in rows]
    psnr = [mean_of(scores, "background_psnr_db") for scores in rows]
    assert identity == sorted(identity, reverse=True) and identity[0] - identity[-1] > 0.2
    assert psnr == sorted(psnr, reverse=True) and psnr[0] - psnr[-1] > 5
    # What happens is still to be seen: the judge of motion is not a judge of sharpness.
    assert mean_of(rows[1], "does_right_thing") >= 0.99


def test_a_little_wrong_colour_is_forgiven(clips):
    for change in ((-12, 8, 10), (10, 10, -10)):
        scores = [
            score(np.clip(frames.astype(int) + change, 0, 255).astype(np.uint8), scene, TIMES)
            for scene, frames in clips[::5]
        ]
        assert mean_of(scores, "does_right_thing") >= 0.99
        assert mean_of(scores, "identity_iou") > 0.95


def test_a_vanishing_object_is_lost():
    scene = sprites.sample_scene(11, 0, world=World(motions=("moves right",), max_objects=1))
    frames = sprites_render.render(scene, TIMES)
    frames[8:] = sprites_render.render_background(scene.background)
    judged = score(frames, scene, TIMES)
    assert judged.lost_share == 0.5 and not judged.all_right and not judged.direction_right.any()
    assert (judged.identity_iou[0, 8:] == 0).all() and (judged.identity_iou[0, :8] > 0.9).all()
    assert np.isnan(judged.position_error_px[0, 8:]).all() and not np.isnan(judged.position_error_px[0, :8]).any()


def test_a_ghost_at_the_start_hurts_identity_and_background_but_not_the_motion():
    sprite = SpriteObject("red", "circle", "moves right", 12.0, 32.0, 9.6, size="large", adverb="quickly")
    scene = dataclasses.replace(sprites.sample_scene(0, 2), objects=(sprite,))
    frames = sprites_render.render(scene, TIMES)
    ghost = frames.copy()
    ghost[8:, 29:35, 9:15] = frames[0, 29:35, 9:15]
    judged = score(ghost, scene, TIMES)
    assert judged.all_right
    assert judged.identity_iou[0, 8:].max() < 0.93 < judged.identity_iou[0, :8].min()
    assert judged.background_psnr_db[8:].max() < 30


def test_a_damaged_background_is_measured():
    scene, frames = sprites.sample_scene(0, 2), sprites_render.render(sprites.sample_scene(0, 2), TIMES)
    damaged = frames.copy()
    damaged[4:] = np.clip(damaged[4:].astype(int) + 8, 0, 255)
    psnr = score(damaged, scene, TIMES).background_psnr_db
    assert (psnr[:4] == BEST_PSNR_DB).all()
    assert psnr[4:] == pytest.approx(np.full(12, 20 * np.log10(255 / 8)), abs=0.01)


def test_any_rising_times_can_be_judged():
    for index in range(12):
        scene = sprites.sample_scene(14, index)
        times = TIMES[-1] * np.linspace(0, 1, 24) ** 1.2
        assert score(sprites_render.render(scene, times), scene, times).all_right, scene.caption


def test_a_single_frame_shows_no_motion():
    scene = sprites.sample_scene(0, 0)
    judged = score(sprites_render.render(scene, TIMES[:1]), scene, TIMES[:1])
    assert not judged.does_right_thing.any() and judged.identity_iou.min() > 0.9


@pytest.mark.parametrize(
    "frames, times",
    [
        (np.zeros((16, 32, 32, 3), np.uint8), TIMES),
        (np.zeros((16, 64, 64, 3), np.float32), TIMES),
        (np.zeros((15, 64, 64, 3), np.uint8), TIMES),
        (np.zeros((16, 64, 64, 3), np.uint8), TIMES[::-1]),
    ],
)
def test_frames_that_cannot_be_judged_are_a_users_mistake(frames, times):
    with pytest.raises(UserError, match="sprites score"):
        score(frames, sprites.sample_scene(0, 0), times)


def test_a_circle_seen_twice_is_judged_by_its_chord():
    """Between two times no area is swept: no quotient of areas may decide."""
    scene = sprites.sample_scene(11, 0, world=World(motions=("circles clockwise",), max_objects=1))
    times = TIMES[[0, 5]]
    frames = sprites_render.render(scene, times)
    with np.errstate(all="raise"):
        right, wrong = score(frames, scene, times), score(frames[[0, 0]], scene, times)
    assert right.does_right_thing == (True,) and right.direction_right == (True,)
    assert wrong.does_right_thing == (False,) and wrong.direction_right == (False,)


@pytest.mark.parametrize("kind", ["plain", "checker"])
@pytest.mark.parametrize("colour", sprites.COLOURS)
def test_a_background_of_exactly_an_objects_colour_hides_that_object_and_no_other(colour: str, kind: str):
    """Every colour word as the ground, whole or in squares: a figure for each object, and no division by zero."""
    ground = tuple(np.array(sprites.COLOURS[colour]) / 255)
    other = sprites.Background(kind, ground, ground if kind == "plain" else (0.1, 0.1, 0.1))
    seen = "white" if colour in ("blue", "purple") else "blue"
    one = SpriteObject(seen, "circle", "moves right", 12.0, 16.0, 7.8)
    hidden = dataclasses.replace(one, colour=colour, y=46.0)
    scene = dataclasses.replace(sprites.sample_scene(3, 0), objects=(one, hidden), background=other)
    frames = sprites_render.render(scene, TIMES)
    assert (sprites_render.render_background(other) == sprites.COLOURS[colour]).all(-1).any()
    with np.errstate(all="raise"):
        judged = score(frames, scene, TIMES)
    assert judged.does_right_thing[0] and not (kind == "plain" and judged.does_right_thing[1])
    assert np.isfinite(judged.identity_iou).all() and np.isfinite(judged.background_psnr_db).all()
