"""The second world: grounds of any brightness, outlines, shades, unsteady contours; nothing of it is hidden or mistaken."""

import dataclasses
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from cdcd_video.config import SpritesData
from cdcd_video.data import sprites
from cdcd_video.data.pairs import sample_pairs
from cdcd_video.data.shots import Shots
from cdcd_video.data.sprites import World, held_out, sample_scene
from cdcd_video.data.sprites_grounds import ground
from cdcd_video.data.sprites_looks import LEAST_CONTRAST, LEAST_OUTLINE_CONTRAST
from cdcd_video.data.sprites_render import render, render_object_mask
from cdcd_video.data.sprites_scene import Background, Look
from cdcd_video.data.store import SpritesClips, TimedClips, UnevenSpritesClips
from cdcd_video.errors import UserError
from cdcd_video.metrics.measurements import scene_groups
from cdcd_video.metrics.sprites_metrics import score
from cdcd_video.training.training_data import sprites_world

KINDS = (*sprites.BACKGROUNDS, "noise")
WORLD = World(version="v2", backgrounds=KINDS)
SCENES = [sample_scene(3, index, "val", world=WORLD) for index in range(96)]
OBJECTS = [sprite for scene in SCENES for sprite in scene.objects]
SLACK = 1.0  # bytes are rounded


def test_no_object_is_hidden_by_its_ground():
    for scene in SCENES:
        pixels = ground(scene.background, 64).reshape(-1, 3)
        for sprite in scene.objects:
            assert np.linalg.norm(pixels - sprite.rgb, axis=1).min() > LEAST_CONTRAST - SLACK
            if sprite.look.outline_px:
                away = np.linalg.norm(pixels - np.array(sprite.look.outline_rgb), axis=1).min()
                assert away > LEAST_OUTLINE_CONTRAST - SLACK


def test_grounds_are_of_every_kind_and_brightness():
    assert set(Counter(scene.background.kind for scene in SCENES)) == set(KINDS)
    light = np.array([ground(scene.background, 8).mean() for scene in SCENES])
    assert (light < 60).mean() > 0.15 and (light > 200).mean() > 0.15 and ((light > 90) & (light < 180)).mean() > 0.05


def test_true_videos_are_right_in_every_way():
    for scene in SCENES[:40]:
        scores = score(render(scene, WORLD.times_s), scene, WORLD.times_s)
        assert scores.all_right and not scores.lost_share
        assert scores.identity_iou.mean() > 0.93 and scores.background_psnr_db.min() == 60


def test_an_outline_belongs_to_its_object_and_not_to_another():
    red = Look((232, 48, 52), outline_rgb=(250, 250, 250), outline_px=1.5)
    black = Look((56, 108, 250), outline_rgb=(0, 0, 0), outline_px=1.5)
    plain = Background("plain", (0.4, 0.45, 0.4), (0.4, 0.45, 0.4))
    scene = sample_scene(0, 0, world=World(max_objects=1))
    pair = tuple(
        dataclasses.replace(
            scene.objects[0], colour=colour, shape=shape, motion="stays still", x=x, y=32, radius=8, look=look
        )
        for colour, shape, x, look in (("red", "square", 16, red), ("blue", "circle", 46, black))
    )
    scene = dataclasses.replace(scene, objects=pair, background=plain)
    scores = score(render(scene, WORLD.times_s), scene, WORLD.times_s)
    assert scores.all_right and scores.identity_iou.min() > 0.96


def test_shades_stay_nearest_to_their_word():
    named = np.array(list(sprites.COLOURS.values()), dtype=float)
    for sprite in OBJECTS:
        assert list(sprites.COLOURS)[np.linalg.norm(named - sprite.rgb, axis=1).argmin()] == sprite.colour
    assert len({tuple(sprite.rgb) for sprite in OBJECTS}) == len(OBJECTS)


def test_outlines_and_unsteady_contours_occur_about_as_often_as_said():
    assert 0.25 < np.mean([bool(sprite.look.outline_px) for sprite in OBJECTS]) < 0.55
    assert 0.35 < np.mean([bool(sprite.look.wobble) for sprite in OBJECTS]) < 0.65


def test_a_contour_turns_and_grows_with_its_object():
    look = Look((255, 255, 255), wobble=0.08, seed=5)
    centre, upright = np.array([[32.0, 32.0]]), np.zeros(1)
    mask = render_object_mask("circle", centre, np.array([12.0]), upright, look=look)[0]
    quarter = render_object_mask("circle", centre, np.array([12.0]), upright + np.pi / 2, look=look)[0]
    assert np.abs(np.rot90(mask, -1) - quarter).max() < 1e-4
    assert np.abs(mask - quarter).max() > 0.2
    double = render_object_mask("circle", 2 * centre, np.array([24.0]), upright, size_px=64, look=look)[0]
    large = render_object_mask("circle", centre, np.array([12.0]), upright, size_px=128, look=look)[0]
    assert double.sum() < large.sum() and abs(large.sum() / mask.sum() - 4) < 0.02


def test_held_out_pairs_are_those_of_the_first_world():
    for index in range(60):
        assert not any(held_out(sprite) for sprite in sample_scene(0, index, "train", world=WORLD).objects)
        scene = sample_scene(0, index, "heldout", world=WORLD)
        assert sorted(len(held_out(sprite)) for sprite in scene.objects)[-1] == 1


def test_what_is_hard_is_trained_on_more_often_than_it_is_measured():
    world = dataclasses.replace(WORLD, max_objects=1)
    train, val = (
        Counter(sample_scene(0, index, split, world=world).objects[0].motion for index in range(500))
        for split in ("train", "val")
    )
    assert train["spins"] > 60 and val["spins"] < 60


def test_a_config_says_how_often_a_motion_is_trained_on():
    data = sprites_data(
        world="v2", max_objects=1, motions=["spins", "grows", "moves left"], motion_weights={"spins": 6, "grows": 2}
    )
    world = sprites_world(data)
    for split, share in (("train", 6 / 9), ("val", 1 / 3)):
        scenes = [sample_scene(0, index, split, world=world) for index in range(600)]
        measured = np.mean([scene.objects[0].motion == "spins" for scene in scenes])
        assert abs(measured - share) < 4 * (share * (1 - share) / 600) ** 0.5
    unweighted = dataclasses.replace(world, motion_weights=())
    assert sample_scene(0, 3, "val", world=world) == sample_scene(0, 3, "val", world=unweighted)
    assert "motion_weights" not in unweighted.described() and "motion_weights" in world.described()
    own = dataclasses.replace(world, motion_weights=(("spins", 4), ("grows", 1)))
    assert [sample_scene(0, index, world=own) for index in range(20)] == [
        sample_scene(0, index, world=unweighted) for index in range(20)
    ]


def test_the_first_world_does_not_know_what_came_later():
    world = World()
    assert set(world.described()) == {
        "max_objects",
        "two_object_share",
        "motions",
        "shapes",
        "colours",
        "sizes",
        "adverbs",
        "backgrounds",
        "num_frames",
        "fps",
    }
    assert all(sprite.look is None for sprite in sample_scene(0, 0, world=world).objects)
    with pytest.raises(UserError, match="backgrounds must be one or more different ones"):
        World(backgrounds=("noise",))
    with pytest.raises(UserError, match="version must be one of v1, v2"):
        World(version="v3")


def test_photographs_are_grounds(tmp_path):
    shades = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(shades).resize((50, 40), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    world = dataclasses.replace(WORLD, backgrounds=("photo",), photographs=(str(tmp_path / "a.png"),))
    scenes = [sample_scene(0, index, world=world) for index in range(12)]
    kinds = {scene.background.kind for scene in scenes}
    assert "photo" in kinds
    for scene in scenes:
        assert score(render(scene, world.times_s), scene, world.times_s).all_right


# Times ------------------------------------------------------------------------------------------------------------


def test_uneven_clips_are_the_same_scenes_at_other_instants():
    even, uneven = (kind(0, 3, "train", WORLD, 16, 64, 8.0) for kind in (SpritesClips, UnevenSpritesClips))
    assert isinstance(uneven, TimedClips) and not isinstance(even, TimedClips)
    gaps = []
    for clip in range(3):
        times = uneven.times_s(clip)
        assert uneven.caption(clip) == even.caption(clip)
        assert times[0] == 0 and (np.diff(times) > 0).all() and times[-1] < 15 / 8
        assert np.array_equal(uneven.frames(clip, [0, 5, 15]), render(uneven.scene(clip), times[[0, 5, 15]]))
        gaps += list(np.diff(times))
    assert min(gaps) < 0.05 < 0.2 < max(gaps)
    assert not np.array_equal(uneven.times_s(0), uneven.times_s(1))
    assert even.digest() != uneven.digest()


# The config -------------------------------------------------------------------------------------------------------


def sprites_data(**settings) -> SpritesData:
    return SpritesData.model_validate({"kind": "sprites", **settings})


def test_a_config_names_the_world_and_a_folder_of_pictures(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        file = tmp_path / name
        if file.suffix == ".txt":
            file.write_text("no picture")
        else:
            Image.new("RGB", (20, 30), (90, 120, 60)).save(file)
    assert sprites_world(sprites_data()) == World()
    wider = sprites_world(sprites_data(world="v2"))
    assert wider == WORLD
    photographed = sprites_world(sprites_data(world="v2", backgrounds=str(tmp_path)))
    assert [file[-5:] for file in photographed.photographs] == ["a.jpg", "b.PNG"]
    assert photographed.backgrounds == (*KINDS, "photo")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file in photographed.photographs:
        shutil.copy(file, elsewhere)
    moved = sprites_world(sprites_data(world="v2", backgrounds=str(elsewhere)))
    assert moved != photographed and moved.described() == photographed.described()


def test_what_a_config_cannot_mean_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="is no folder; name one of pictures"):
        sprites_world(sprites_data(world="v2", backgrounds=str(tmp_path / "absent")))
    with pytest.raises(UserError, match="holds no picture"):
        sprites_world(sprites_data(world="v2", backgrounds=str(tmp_path)))
    with pytest.raises(UserError, match="the world v1 has none; set data.world=v2"):
        sprites_world(sprites_data(backgrounds=str(tmp_path)))
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="a.png"):
        sprites_world(sprites_data(world="v2", backgrounds=str(tmp_path)))
    with pytest.raises(UserError, match="holds 'noise', which is unknown"):
        sprites_world(sprites_data(backgrounds=["noise"]))
    with pytest.raises(UserError, match="motion_weights holds 'spin', which is unknown; use some of moves left"):
        sprites_world(sprites_data(world="v2", motion_weights={"spin": 2}))
    with pytest.raises(ValidationError, match="set world to one of them"):
        sprites_data(motion_weights={"spins": 2})
    with pytest.raises(UserError, match="motion_weights are 1 or more"):
        World(version="v2", motion_weights=(("spins", 0),))


def test_scores_are_told_apart_by_ground_and_outline():
    world = World(version="v2", max_objects=1, backgrounds=("plain", "gradient", "noise"))
    scenes = [sprites.sample_scene(3, number, "val", world=world) for number in range(150)]
    groups = [scene_groups(scene) for scene in scenes]
    for scene, named in zip(scenes, groups, strict=True):
        lightness = ground(scene.background, 64).mean() / 255
        assert ("ground=light" in named) is bool(lightness > 2 / 3) and ("ground=dark" in named) is bool(
            lightness < 1 / 3
        )
        assert ("ground=noise" in named) is (scene.background.kind == "noise")
        assert f"outline={'yes' if scene.objects[0].look.outline_px else 'no'}" in named
    for group in ("ground=dark", "ground=light", "ground=grey", "ground=noise", "outline=yes", "outline=no"):
        assert sum(group in named for named in groups) >= 5
    old = sprites.sample_scene(3, 0, "val", world=World(max_objects=1))
    assert scene_groups(old) == ("all", "objects=1", f"motion={old.objects[0].motion}")


def test_a_still_objects_outline_is_compared_with_itself():
    world = World(version="v2", max_objects=1, motions=("stays still",))
    scene = sprites.sample_scene(0, 4, "val", world=world)
    frames, times = render(scene, np.arange(4) / 8), np.arange(4) / 8
    assert (score(frames, scene, times).steadiness_iou == 1).all()
    moved = frames.copy()
    moved[2] = np.roll(moved[2], 1, axis=1)
    overlaps = score(moved, scene, times).steadiness_iou[0]
    assert overlaps[0] == 1 and overlaps[1] == overlaps[2] and 0.5 < overlaps[1] < 0.95


def test_pairs_of_uneven_clips_are_as_far_apart_as_the_documentation_says():
    clips = UnevenSpritesClips(0, 300, "train", World(version="v2"), 16, 64, 8.0)
    times = np.stack([clips.times_s(clip) for clip in range(300)])
    pairs = sample_pairs(Shots.of(np.full(300, 16)), 4000, np.random.default_rng(0), max_gap=4, start_share=0.3)
    gaps = times[pairs.clip, pairs.target] - times[pairs.clip, pairs.source]
    low, high = np.percentile(gaps, [5, 95])
    assert 0.015 < low < 0.025 and 0.55 < high < 0.62 and gaps.min() > 0
