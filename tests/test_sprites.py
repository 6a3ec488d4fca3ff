"""The world "sprites": sampling, motion, rendering."""

import dataclasses
import math
import re

import numpy as np
import pytest
import shapes

from cdcd_video.data import sprites, sprites_render
from cdcd_video.data.sprites import Background, Scene, SpriteObject, World
from cdcd_video.errors import UserError

TIMES = World().times_s
PLAIN = Background("plain", (0.2, 0.2, 0.25), (0.2, 0.2, 0.25))


def scene_of(*objects: SpriteObject) -> Scene:
    return Scene(objects, PLAIN, sprites.caption_of(objects), 0, 0, "train")


def centres_of(motion: str, times: list[float], adverb: str | None = None, shape: str = "square") -> np.ndarray:
    """Centres (F, 2) relative to the start of an object in the middle of the view."""
    sprite = SpriteObject("red", shape, motion, 32.0, 32.0, 6.0, adverb=adverb)
    return sprites.truth(scene_of(sprite), np.array(times)).centres[0] - 32.0


@pytest.fixture(scope="module")
def scenes() -> dict[str, list[Scene]]:
    return {split: [sprites.sample_scene(7, index, split) for index in range(1500)] for split in sprites.SPLITS}


# Sampling


def test_a_scene_depends_on_nothing_but_its_name():
    forwards = [sprites.sample_scene(3, index) for index in range(50)]
    backwards = [sprites.sample_scene(3, index) for index in reversed(range(50))]
    assert forwards == backwards[::-1]
    assert forwards != [sprites.sample_scene(4, index) for index in range(50)]
    assert (sprites_render.render(forwards[0], TIMES) == sprites_render.render(backwards[-1], TIMES)).all()


def test_scenes_stay_the_same_across_versions():
    # A changed draw would silently change every data set and every published figure.
    assert [sprites.sample_scene(0, index).caption for index in range(3)] == [
        "the small blue square bounces up and down quickly and the small white square moves up and left",
        "the cyan square moves up slowly and the small green circle moves up slowly",
        "the green triangle bounces left and right",
    ]


def test_splits_are_different_streams(scenes):
    starts = {split: {(s.objects[0].x, s.objects[0].y) for s in rows} for split, rows in scenes.items()}
    assert all(len(rows) == 1500 for rows in starts.values())
    assert not (
        starts["train"] & starts["val"] or starts["train"] & starts["heldout"] or starts["val"] & starts["heldout"]
    )


def held_out_in_text(caption: str) -> int:
    """Counts held-out combinations in the words alone, whatever the scene's records say."""
    shapes, colours = "|".join(sprites.SHAPES), "|".join(sprites.COLOURS)
    motions = "|".join(sorted(sprites.MOTIONS, key=len, reverse=True))
    phrases = re.findall(rf"({colours}) ({shapes}) ({motions})", caption)
    assert len(phrases) == caption.split().count("the")
    return sum(
        ((colour, shape) in sprites.HELD_OUT_COLOUR_SHAPE) + ((shape, motion) in sprites.HELD_OUT_SHAPE_MOTION)
        for colour, shape, motion in phrases
    )


def test_held_out_combinations_are_in_their_split_and_nowhere_else(scenes):
    assert {held_out_in_text(scene.caption) for scene in scenes["train"] + scenes["val"]} == {0}
    assert {held_out_in_text(scene.caption) for scene in scenes["heldout"]} == {1}
    shown = {kind for scene in scenes["heldout"] for sprite in scene.objects for kind in sprites.held_out(sprite)}
    assert shown == {"colour-shape", "shape-motion"}


def test_every_word_is_seen_in_training(scenes):
    for split in sprites.SPLITS:
        words = {word for scene in scenes[split] for word in scene.caption.split()}
        assert words == set(sprites.VOCABULARY)
    objects = [sprite for scene in scenes["train"] for sprite in scene.objects]
    assert {sprite.motion for sprite in objects} == set(sprites.MOTIONS)
    pairs = {(sprite.colour, sprite.shape) for sprite in objects}
    assert len(pairs) == len(sprites.COLOURS) * len(sprites.SHAPES) - len(sprites.HELD_OUT_COLOUR_SHAPE)


def test_captions_keep_the_grammar(scenes):
    colours, shapes, motions = ("|".join(words) for words in (sprites.COLOURS, sprites.SHAPES, sprites.MOTIONS))
    phrase = rf"the ((small|large) )?({colours}) ({shapes}) ({motions})( slowly| quickly)?"
    for scene in scenes["train"]:
        assert re.fullmatch(rf"{phrase}( and {phrase})?", scene.caption), scene.caption
        assert "still slowly" not in scene.caption and "still quickly" not in scene.caption
        assert "circle spins" not in scene.caption
        assert len({sprite.colour for sprite in scene.objects}) == len(scene.objects)
    share = np.mean([len(scene.objects) == 2 for scene in scenes["train"]])
    assert 0.35 < share < 0.45


def test_objects_stay_in_view_and_apart(scenes):
    for scene in scenes["train"][:200] + scenes["heldout"][:200]:
        known = sprites.truth(scene, TIMES)
        later = sprites_render.render_object_mask
        for place, sprite in enumerate(scene.objects):
            # A larger canvas shows what sticks out: shift by half the view and compare areas.
            args = (known.radii[place] / 2, known.angles_rad[place])
            whole = later(sprite.shape, known.centres[place] / 2 + 16, *args, 128)
            outside = whole.sum(axis=(1, 2)) - whole[:, 32:96, 32:96].sum(axis=(1, 2))
            assert outside.max() < 0.05 * whole.sum(axis=(1, 2)).max(), scene.caption
        if len(scene.objects) == 2:
            outer = sum(
                sprites.OUTER_RADIUS[sprite.shape] * radii
                for sprite, radii in zip(scene.objects, known.radii, strict=True)
            )
            gaps = np.linalg.norm(known.centres[0] - known.centres[1], axis=-1) - outer
            assert gaps.min() > sprites.GAP_PX, scene.caption


def test_straight_moves_are_not_stopped_inside_the_window(scenes):
    for scene in scenes["train"]:
        known = sprites.truth(scene, TIMES)
        for place, sprite in enumerate(scene.objects):
            if sprite.motion in sprites.STRAIGHT_MOTIONS:
                way = np.linalg.norm(known.centres[place, -1] - known.centres[place, 0])
                assert way == pytest.approx(sprites.SPEED_PX_S[sprite.adverb] * TIMES[-1])


def test_sizes_can_be_told_apart(scenes):
    radii = {size: [] for size in sprites.SIZES}
    for scene in scenes["train"]:
        for sprite in scene.objects:
            radii[sprite.size].append(sprite.radius)
    assert max(radii["small"]) < min(radii[None]) and max(radii[None]) < min(radii["large"])


def test_the_dials_of_a_tiny_world():
    world = World(
        max_objects=1,
        motions=("moves left", "moves right", "stays still"),
        shapes=("circle",),
        colours=("red", "blue"),
        sizes=False,
        adverbs=False,
        backgrounds=("plain",),
    )
    drawn = [sprites.sample_scene(0, index, world=world) for index in range(200)]
    assert {scene.caption for scene in drawn} == {
        f"the {colour} circle {motion}" for colour in ("red", "blue") for motion in world.motions
    }
    assert {scene.background.kind for scene in drawn} == {"plain"}
    with pytest.raises(UserError, match="heldout"):
        sprites.sample_scene(0, 0, "heldout", world=world)
    with pytest.raises(UserError, match="fits"):
        sprites.sample_scene(0, 0, world=World(shapes=("circle",), motions=("spins",)))


@pytest.mark.parametrize(
    "dials",
    [
        {"motions": ("hops",)},
        {"shapes": ()},
        {"colours": ("red", "red")},
        {"max_objects": 3},
        {"two_object_share": 1.5},
        {"fps": 0},
        {"num_frames": 0},
    ],
)
def test_wrong_dials_are_a_users_mistake(dials):
    with pytest.raises(UserError, match=next(iter(dials))), shapes.unchecked():
        World(**dials)


def test_wrong_names_of_scenes_are_a_users_mistake():
    with pytest.raises(UserError, match="split"), shapes.unchecked():
        sprites.sample_scene(0, 0, "test")
    with pytest.raises(UserError, match="index"):
        sprites.sample_scene(0, -1)


# Motion


def test_straight_moves():
    assert centres_of("moves right", [0, 0.5, 1]) == pytest.approx(np.array([[0, 0], [7, 0], [14, 0]]))
    assert centres_of("moves up", [1], "quickly") == pytest.approx(np.array([[0, -22]]))
    assert centres_of("moves down and left", [1], "slowly") == pytest.approx(np.array([[-8, 8]]) * math.sqrt(0.5))
    edge = 32 - 6 * sprites.SQUARE_HALF_SIDE
    assert centres_of("moves left", [60]) == pytest.approx(np.array([[-edge, 0]]))
    assert centres_of("moves up and right", [60]) == pytest.approx(np.array([[edge, -edge]]))


def test_a_diagonal_move_stops_at_the_first_edge():
    sprite = SpriteObject("red", "circle", "moves up and right", 32.0, 20.0, 6.0)
    assert sprites.truth(scene_of(sprite), np.array([60])).centres[0, 0] == pytest.approx([46, 6])


def test_bounces_go_in_the_first_named_direction_first():
    quarter = 10 / 14
    path = centres_of("bounces left and right", [0, quarter, 2 * quarter, 3 * quarter, 4 * quarter, 4.5 * quarter])
    assert path == pytest.approx(np.array([[0, 0], [-10, 0], [0, 0], [10, 0], [0, 0], [-5, 0]]), abs=1e-9)
    assert centres_of("bounces up and down", [0.5], "slowly") == pytest.approx(np.array([[0, -4]]))


def test_circles_start_at_the_top():
    quarter = 0.5 * math.pi * 10 / 22
    path = centres_of("circles clockwise", [0, quarter, 2 * quarter, 3 * quarter], "quickly")
    assert path == pytest.approx(np.array([[0, 0], [10, 10], [0, 20], [-10, 10]]), abs=1e-9)
    other = centres_of("circles counterclockwise", [quarter], "quickly")
    assert other == pytest.approx(np.array([[-10, 10]]))


def test_sizes_and_angles():
    def known(motion, adverb=None):
        sprite = SpriteObject("red", "star", motion, 32.0, 32.0, 6.0, adverb=adverb)
        return sprites.truth(scene_of(sprite), np.array([0, 1, 2, 5]))

    assert known("grows").radii[0] / 6 == pytest.approx([1, math.sqrt(1.9), 1.9, 1.9])
    assert known("shrinks", "quickly").radii[0] / 6 == pytest.approx([1, 1 / math.sqrt(2.2), 1 / 2.2, 1 / 2.2])
    assert np.degrees(known("spins").angles_rad[0]) == pytest.approx([0, 90, 180, 450])
    assert np.degrees(known("spins", "slowly").angles_rad[0, 1]) == pytest.approx(45)
    still = known("stays still")
    assert (still.centres == 32).all() and (still.radii == 6).all() and (still.angles_rad == 0).all()


# Counterfactuals


def test_counterfactuals_share_the_first_frame_bit_for_bit(scenes):
    rng = np.random.Generator(np.random.Philox(key=1))
    for scene in scenes["train"][:150] + scenes["heldout"][:50]:
        other = sprites.counterfactual(scene, rng)
        frames, changed = sprites_render.render(scene, TIMES), sprites_render.render(other, TIMES)
        assert (frames[0] == changed[0]).all()
        assert (frames[-1] != changed[-1]).any()
        pairs = list(zip(scene.objects, other.objects, strict=True))
        assert [old.motion != new.motion for old, new in pairs].count(True) == 1
        assert other.caption == sprites.caption_of(other.objects) != scene.caption
        assert scene.split == "heldout" or held_out_in_text(other.caption) == 0


def test_impossible_sentences_are_refused():
    circle = SpriteObject("red", "circle", "stays still", 12.0, 32.0, 8.0)
    blue = SpriteObject("blue", "square", "stays still", 32.0, 32.0, 6.0)
    scene = scene_of(circle, blue)
    assert sprites.with_motion(scene, 0, "spins") is None
    assert sprites.with_motion(scene, 0, "moves left") is None  # leaves the view
    assert sprites.with_motion(scene, 0, "moves right") is None  # runs into the square
    assert sprites.with_motion(scene, 0, "stays still", "slowly") is None
    moved = sprites.with_motion(scene, 0, "moves down", "slowly")
    assert moved.caption == "the red circle moves down slowly and the blue square stays still"
    with pytest.raises(UserError, match="no other motion"):
        sprites.counterfactual(scene, np.random.default_rng(0), world=World(motions=("stays still",)))


# Rendering


@pytest.mark.parametrize("shape", sprites.SHAPES)
def test_shapes_are_anti_aliased_and_have_their_area_and_centre(shape):
    centres = np.array([[32.0, 32.0], [31.7, 30.2], [20.5, 40.25]])
    radii, angles = np.array([6.0, 8.0, 10.0]), np.array([0.0, 0.0, 0.7])
    masks = sprites_render.render_object_mask(shape, centres, radii, angles)
    assert masks.shape == (3, 64, 64) and masks.dtype == np.float32
    assert masks.sum(axis=(1, 2)) == pytest.approx(sprites.AREA[shape] * radii**2, rel=0.04)
    pixels = np.arange(64) + 0.5
    for mask, centre in zip(masks, centres, strict=True):
        assert (mask.sum(axis=0) @ pixels, mask.sum(axis=1) @ pixels) / mask.sum() == pytest.approx(centre, abs=0.06)
    edge = (masks > 0) & (masks < 1)
    assert len(np.unique(masks[edge])) > 10  # many shades, not a staircase


def test_shapes_turn_clockwise_and_point_up():
    def tip(angle):
        mask = sprites_render.render_object_mask("triangle", np.full((1, 2), 32.0), np.array([9.0]), np.array([angle]))[
            0
        ]
        rows, columns = np.nonzero(mask > 0.5)
        return columns.min(), columns.max(), rows.min(), rows.max()

    left, right, top, bottom = tip(0.0)
    assert 32 - top > bottom - 31 + 3 and abs((32 - left) - (right - 31)) <= 1
    left, right, top, bottom = tip(math.pi / 2)
    assert right - 31 > 32 - left + 3 and abs((32 - top) - (bottom - 31)) <= 1


def test_an_object_across_the_edge_is_cut_and_one_outside_is_not_drawn():
    masks = sprites_render.render_object_mask(
        "circle", np.array([[0.0, 32.0], [200.0, -90.0]]), np.full(2, 8.0), np.zeros(2)
    )
    assert masks[0].sum() == pytest.approx(math.pi * 32, rel=0.02)
    assert masks[1].sum() == 0


def test_any_times_in_any_order_and_any_size():
    for scene in (sprites.sample_scene(2, index) for index in range(20)):
        frames = sprites_render.render(scene, TIMES)
        assert frames.shape == (16, 64, 64, 3) and frames.dtype == np.uint8
        assert (sprites_render.render(scene, TIMES[[9, 2]]) == frames[[9, 2]]).all()
        large = sprites_render.render(scene, TIMES[:3], 128).reshape(3, 64, 2, 64, 2, 3).mean(axis=(2, 4))
        assert np.abs(large - frames[:3]).mean() < 1.5


@pytest.mark.parametrize("kind", sprites.BACKGROUNDS)
def test_backgrounds_are_quiet_and_objects_stand_out(kind):
    world = World(backgrounds=(kind,))
    for index in range(60):
        scene = sprites.sample_scene(1, index, world=world)
        background = sprites_render.render_background(scene.background).astype(float)
        assert background.max() < 115 and background.std(axis=(0, 1)).max() < 32
        assert (background.std(axis=(0, 1)).max() == 0) == (kind == "plain")
        for colour in sprites.COLOURS.values():
            assert np.linalg.norm(background - colour, axis=-1).min() > 90
        frames = sprites_render.render(scene, TIMES)
        known = sprites.truth(scene, TIMES)
        free = np.ones(frames.shape[:3], dtype=bool)
        for place, sprite in enumerate(scene.objects):
            free &= (
                sprites_render.render_object_mask(
                    sprite.shape, known.centres[place], known.radii[place], known.angles_rad[place]
                )
                == 0
            )
            x, y = (int(value) for value in known.centres[place, 0])
            assert tuple(frames[0, y, x]) == sprites.COLOURS[sprite.colour]
        assert (frames == background)[free].all()


def test_backgrounds_are_shared_and_cannot_be_written():
    scene = sprites.sample_scene(0, 0)
    first = sprites_render.render_background(scene.background)
    first[:] = 0  # the caller's own copy
    assert sprites_render.render_background(scene.background).any()


def test_rendering_is_fast():
    assert max(sprites_render.frames_per_second(40) for _ in range(3)) >= 1500


def test_scenes_are_values():
    scene = sprites.sample_scene(0, 5)
    assert hash(scene) == hash(sprites.sample_scene(0, 5))
    with pytest.raises(dataclasses.FrozenInstanceError):
        scene.seed = 1
