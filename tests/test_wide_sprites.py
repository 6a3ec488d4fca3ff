"""The sprites world in frames that are no squares: the same shapes and speeds, and the true sides as walls."""

import dataclasses

import numpy as np
import pytest

from cdcd_video.data import sprites, sprites_render
from cdcd_video.data.images import content_box, fit
from cdcd_video.data.sprites import World
from cdcd_video.data.sprites_grounds import sides_px
from cdcd_video.errors import UserError

WIDE, HIGH = (96.0, 64.0), (64.0, 96.0)
TIMES = np.arange(16) / 8


@pytest.mark.parametrize("view", [WIDE, HIGH])
@pytest.mark.parametrize("version", ["v1", "v2", "open"])
def test_a_scene_fills_its_view(version: str, view: tuple[float, float]):
    kinds = sprites.BACKGROUNDS if version == "v1" else (*sprites.BACKGROUNDS, "noise")
    world = World(version=version, view=view, backgrounds=kinds)
    scenes = [sprites.sample_scene(0, index, world=world) for index in range(120)]
    assert {scene.view for scene in scenes} == {view}
    frames = np.stack([sprites_render.render(scene, TIMES[:1])[0] for scene in scenes])
    assert frames.shape[1:] == (int(view[1]), int(view[0]), 3)
    centres = np.concatenate([sprites.truth(scene, TIMES).centres.reshape(-1, 2) for scene in scenes])
    for axis, side in enumerate(view):
        assert 0 < centres[:, axis].min() < 16 and side - 16 < centres[:, axis].max() < side
    assert len({scene.background.kind for scene in scenes}) == len(kinds)


def test_objects_stop_and_bounce_at_the_true_sides():
    background = sprites.Background("plain", (0.1, 0.1, 0.1), (0.1, 0.1, 0.1), view=WIDE)
    right = sprites.SpriteObject("red", "circle", "moves right", 20.0, 32.0, 8.0, adverb="quickly")
    scene = sprites.Scene((right,), background, right.phrase, 0, 0, "train")
    found = sprites.truth(scene, np.array([0.0, 2.0, 60.0])).centres[0]
    assert found[:, 0] == pytest.approx([20.0, 64.0, 88.0]) and (found[:, 1] == 32.0).all()
    square = dataclasses.replace(scene, background=dataclasses.replace(background, view=sprites.SQUARE_VIEW))
    assert sprites.truth(square, np.array([60.0])).centres[0, 0, 0] == pytest.approx(56.0)
    down = dataclasses.replace(right, motion="moves down")
    assert sprites.truth(dataclasses.replace(scene, objects=(down,)), np.array([60.0])).centres[0, 0, 1] == 56.0
    last = sprites_render.render(scene, np.array([60.0]))[0]
    assert last.shape == (64, 96, 3) and last[32, 94, 0] > 150 > last[32, 70, 0]


def test_what_a_wide_scene_may_do_has_room_in_it():
    world = World(version="open", view=WIDE)
    for index in range(40):
        scene = sprites.sample_scene(5, index, world=world)
        changed = sprites.counterfactual(scene, np.random.default_rng(index), world=world)
        assert changed.view == WIDE and changed.background == scene.background
        assert (sprites_render.render(scene, TIMES[:1]) == sprites_render.render(changed, TIMES[:1])).all()
        for future in sprites.futures(scene, TIMES):
            centres = sprites.truth(future, TIMES).centres
            assert (centres > 0).all() and (centres < WIDE).all()
        mirrored = sprites.mirrored(scene)
        if mirrored:
            frames = sprites_render.render(scene, TIMES).astype(int)
            assert np.abs(frames[:, :, ::-1] - sprites_render.render(mirrored, TIMES)).max() <= 1


def test_one_scale_for_both_sides():
    scene = sprites.sample_scene(0, 1, world=World(view=WIDE))
    large = sprites_render.render(scene, TIMES[:1], 128)[0].reshape(64, 2, 96, 2, 3).mean(axis=(1, 3))
    assert np.abs(large - sprites_render.render(scene, TIMES[:1])[0]).mean() < 1.5
    assert sides_px(WIDE, 32) == (32, 48)
    with pytest.raises(UserError, match="use whole numbers"):
        sides_px(WIDE, 33)


def test_the_square_world_is_described_as_before():
    assert "view" not in World().described() and World(view=WIDE).described()["view"] == WIDE
    with pytest.raises(UserError, match="must be above 0"):
        World(view=(64, 0))


@pytest.mark.parametrize("mode", ["crop", "letterbox"])
def test_pictures_fit_into_rectangles(mode):
    picture = np.full((40, 100, 3), 200, np.uint8)
    frame = fit(picture, (64, 96), mode)
    assert frame.shape == (64, 96, 3)
    left, top, right, bottom = content_box(100, 40, (64, 96), mode)
    assert (left, top, right, bottom) == ((0, 0, 96, 64) if mode == "crop" else (0, 13, 96, 51))
    assert (frame[top:bottom, left:right] == 200).all() and frame.sum() == 200 * 3 * (right - left) * (bottom - top)
    same = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    assert fit(same, (64, 96), mode) is same
