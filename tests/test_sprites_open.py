"""Captions that leave the direction out: the same scenes as in the second world, and every future that is allowed is right."""

import dataclasses
import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest

from cdcd_video.config import SpritesData
from cdcd_video.data import sprites
from cdcd_video.data.sprites import VERBS, World, futures, held_out, sample_scene, sampled_futures
from cdcd_video.data.sprites_motion import LEAST_FREE_SHARE, start_room
from cdcd_video.data.sprites_render import render
from cdcd_video.metrics import sprites_futures, sprites_metrics
from cdcd_video.metrics.measurements import EvalVideo, measure_scene, scene_groups
from cdcd_video.metrics.sprites_tracking import track
from cdcd_video.training.training_data import sprites_world

OPEN = World(version="open", backgrounds=("plain", "gradient"))
SECOND = dataclasses.replace(OPEN, version="v2")
ONE = dataclasses.replace(OPEN, max_objects=1, backgrounds=("plain",))
SCENES = [sample_scene(3, index, "val", world=OPEN) for index in range(80)]
TIMES = OPEN.times_s


def some_open(count: int, num_objects: int) -> list[sprites.Scene]:
    return [scene for scene in SCENES if scene.is_open and len(scene.objects) == num_objects][:count]


# Scenes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", sprites.SPLITS)
def test_scenes_are_those_of_the_second_world_and_only_captions_differ(split: sprites.Split):
    for index in range(12):
        second, found = (sample_scene(5, index, split, world=world) for world in (SECOND, OPEN))
        assert not second.is_open
        assert dataclasses.replace(found, caption=second.caption, is_open=False) == second
        assert (found.caption == second.caption) is not found.is_open


def test_half_of_the_captions_with_a_direction_leave_it_out():
    directed = [scene for scene in SCENES if any(sprite.open_motion != sprite.motion for sprite in scene.objects)]
    share = np.mean([scene.is_open for scene in directed])
    assert len(directed) > 50 and abs(share - sprites.OPEN_SHARE) < 4 * 0.5 / np.sqrt(len(directed))
    assert not any(scene.is_open for scene in SCENES if scene not in directed)


def test_an_open_caption_names_everything_but_the_direction():
    directions = {"left", "right", "up", "down", "clockwise", "counterclockwise"}
    for scene in SCENES:
        words = scene.caption.split()
        assert set(words) <= set(sprites.VOCABULARY)
        if not scene.is_open:
            assert scene.caption == sprites.caption_of(scene.objects)
            continue
        assert not directions & set(words)
        phrases = scene.caption.replace(" and the ", " | the ").split(" | ")
        for phrase, sprite in zip(phrases, scene.objects, strict=True):
            verb = sprite.motion.split()[0]
            assert sprite.open_motion == (verb if verb in VERBS else sprite.motion)
            assert (sprite.open_motion in phrase) and (sprite.adverb is None or phrase.endswith(sprite.adverb))
    assert {"moves", "bounces", "circles"} == set(VERBS)
    assert sorted(itertools.chain(*VERBS.values())) == sorted(
        {*sprites.STRAIGHT_MOTIONS, *sprites.CIRCLE_MOTIONS, "bounces left and right", "bounces up and down"}
    )


def test_another_sentence_for_an_open_scene_names_its_directions():
    scene = some_open(1, 1)[0]
    other = sprites.counterfactual(scene, np.random.default_rng(0), world=OPEN)
    assert not other.is_open and other.caption == sprites.caption_of(other.objects)


def test_a_config_names_the_world():
    data = SpritesData.model_validate({"kind": "sprites", "world": "open"})
    assert sprites_world(data) == dataclasses.replace(
        sprites_world(SpritesData.model_validate({"kind": "sprites", "world": "v2"})), version="open"
    )
    assert sprites_world(data).described()["version"] == "open"


# Futures ----------------------------------------------------------------------------------------------------------


def test_futures_have_the_frame_and_the_caption_and_room():
    for scene in SCENES:
        found = futures(scene, TIMES)
        assert found[0] == scene and len(set(found)) == len(found)
        assert len(found) == 1 or scene.is_open
        first = render(scene, TIMES[:1])
        for future in found[:4]:
            assert sprites.caption_of(future.objects, is_open=scene.is_open) == future.caption == scene.caption
            assert np.array_equal(render(future, TIMES[:1]), first)
            for sprite in future.objects:
                low, high = start_room(sprite, OPEN, LEAST_FREE_SHARE)
                assert (low <= (sprite.x, sprite.y)).all() and ((sprite.x, sprite.y) <= high).all()


def test_an_object_in_the_middle_can_go_anywhere_and_in_a_corner_only_away_from_it():
    scene = next(scene for scene in some_open(99, 1) if scene.objects[0].open_motion == "moves")
    middle = dataclasses.replace(scene.objects[0], x=32.0, y=32.0, radius=6.0, adverb="slowly", motion="moves left")
    corner = dataclasses.replace(middle, x=8.0, y=8.0, motion="moves right")
    motions = [
        {future.objects[0].motion for future in futures(dataclasses.replace(scene, objects=(sprite,)), TIMES)}
        for sprite in (middle, corner)
    ]
    assert motions[0] == set(VERBS["moves"])
    assert motions[1] == {"moves right", "moves down", "moves down and right"}


def test_sampled_futures_are_those_of_the_world_and_without_held_out_pairs():
    two = dataclasses.replace(ONE, motions=("moves left", "moves right", "stays still"))
    for scene in (sample_scene(0, index, world=two) for index in range(30)):
        found, p = sampled_futures(scene, two)
        assert found[0] == scene and abs(p.sum() - 1) < 1e-12 and (p > 0).all()
        assert {future.objects[0].motion for future in found} <= set(two.motions)
    for scene in some_open(20, 1):
        assert not any(held_out(future.objects[0]) for future in sampled_futures(scene, OPEN)[0])


def test_the_probabilities_of_futures_are_those_of_the_world():
    """How often scenes have each motion, beside the sum of its probabilities over the same scenes."""
    differences, variances = defaultdict(float), defaultdict(float)
    own: Counter[str] = Counter()
    for index in range(260):
        scene = sample_scene(1, index, "val", world=ONE)
        if scene.is_open:
            own[scene.objects[0].motion] += 1
            for number, (future, p) in enumerate(zip(*sampled_futures(scene, ONE), strict=True)):
                differences[future.objects[0].motion] += (number == 0) - p
                variances[future.objects[0].motion] += p * (1 - p)
    assert sum(own.values()) > 80
    for motion, difference in differences.items():
        assert abs(difference) < 4 * np.sqrt(variances[motion]), motion


# The referee ------------------------------------------------------------------------------------------------------


def test_every_future_is_right_and_is_named():
    for scene in some_open(4, 1) + some_open(2, 2):
        for future in futures(scene, TIMES)[:6]:
            found = sprites_futures.score(render(future, TIMES), scene, TIMES)
            assert found.motions == tuple(sprite.motion for sprite in future.objects)
            assert found.score.position_error_px.max() < 0.5 and found.score.identity_iou.mean() > 0.93


def test_what_is_none_of_the_futures_is_wrong():
    scene = next(scene for scene in some_open(99, 1) if len(futures(scene, TIMES)) > 2)
    one, other = (render(future, TIMES) for future in futures(scene, TIMES)[:2])
    frozen = np.repeat(one[:1], len(one), axis=0)
    average = ((one.astype(int) + other) // 2).astype(np.uint8)
    true_energy = sprites_futures.edge_energy(track(one, scene))[-1]
    for frames in (frozen, average):
        assert sprites_futures.score(frames, scene, TIMES).motions is None
    assert sprites_futures.score(frozen, scene, TIMES).edge_energy[-1] == pytest.approx(true_energy, rel=0.1)
    assert sprites_futures.score(average, scene, TIMES).edge_energy[-1] < 0.7 * true_energy


def test_a_caption_with_a_direction_is_scored_as_before():
    scene = next(scene for scene in SCENES if not scene.is_open and "moves" in scene.caption)
    frames = render(scene, TIMES)
    found, known = sprites_futures.score(frames, scene, TIMES), sprites_metrics.score(frames, scene, TIMES)
    for name in ("does_right_thing", "direction_right", "position_error_px", "identity_iou", "background_psnr_db"):
        assert np.array_equal(getattr(found.score, name), getattr(known, name), equal_nan=True)


def test_edge_energy_halves_when_edges_are_twice_as_wide():
    def ramp(width: int) -> np.ndarray:
        return np.clip((np.arange(64) - 30) / width, 0, 1).astype(np.float32)

    tracked = track(render(SCENES[0], TIMES[:1]), SCENES[0])
    narrow, wide = (
        sprites_futures.edge_energy(dataclasses.replace(tracked, coverage=np.tile(ramp(width), (1, 1, 64, 1))))
        for width in (4, 8)
    )
    assert narrow.shape == (1,) and narrow[0] == pytest.approx(64 / 4) and wide[0] == pytest.approx(narrow[0] / 2)


def test_the_expected_number_of_directions_is_that_of_all_cases():
    for p in (np.full(2, 0.5), np.full(8, 1 / 8), np.array([0.7, 0.2, 0.1])):
        for num_samples in (1, 2, 4):
            cases = list(itertools.product(range(len(p)), repeat=num_samples))
            exact = sum(np.prod(p[list(case)]) * len(set(case)) for case in cases)
            assert sprites_futures.expected_distinct(p, num_samples) == pytest.approx(exact, abs=1e-12)


def test_an_evaluation_takes_any_future_for_right():
    scene = next(scene for scene in some_open(99, 1) if len(futures(scene, TIMES)) > 2)
    other = render(futures(scene, TIMES)[1], TIMES)
    video = EvalVideo("a", "a", scene_groups(scene))
    found = {one.metric: one for one in measure_scene(video, other, scene, TIMES)}
    assert found["all_right"].total == 1 and found["does_right_thing"].total == 1
    assert {"caption=open", f"motion={scene.objects[0].open_motion}"} <= set(found["does_right_thing"].groups)
    assert {"caption=open", f"motion={scene.objects[0].open_motion}"} <= set(found["all_right"].groups)
    closed = dataclasses.replace(scene, is_open=False)
    assert {one.metric: one for one in measure_scene(video, other, closed, TIMES)}["all_right"].total == 0
