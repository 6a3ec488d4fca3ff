"""Mirror images of scenes: the pictures are mirrored, the sentence is that of the mirrored pictures, and pairs stay together."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from cdcd_video.config import Config, config_file
from cdcd_video.data import sprites
from cdcd_video.data.mirrored_captions import mirrored_caption
from cdcd_video.data.sprites import World, held_out, mirrored, sample_scene
from cdcd_video.data.sprites_mirror import WITHOUT_MIRROR, mirrored_motion
from cdcd_video.data.sprites_render import render
from cdcd_video.errors import UserError
from cdcd_video.evaluation import real_videos
from cdcd_video.metrics import eval_dataset
from cdcd_video.metrics.eval_dataset import SceneDataset
from cdcd_video.metrics.measurements import measure_scene
from cdcd_video.metrics.protocol import Protocol, SettledProtocol
from cdcd_video.metrics.sprites_metrics import score

ROOT = Path(__file__).resolve().parent.parent
GROUNDS = (*sprites.BACKGROUNDS, "noise")
WORLDS = {
    "v1": World(),
    "v2": World(version="v2", backgrounds=GROUNDS),
    "open": World(version="open", backgrounds=GROUNDS),
}
TIMES = np.arange(0, 16, 3) / 8


def scenes_of(world: World, num: int, split: sprites.Split = "val") -> list[sprites.Scene]:
    return [scene for index in range(num) if mirrored(scene := sample_scene(2, index, split, world=world))]


@pytest.mark.parametrize("name", WORLDS)
def test_pictures_are_mirrored_and_so_is_the_sentence(name: str):
    scenes = scenes_of(WORLDS[name], 40)
    assert len({sprite.motion for scene in scenes for sprite in scene.objects}) >= 9
    for scene in scenes:
        image = mirrored(scene)
        frames, turned = (render(one, TIMES).astype(int) for one in (scene, image))
        # Centres are rounded on the other side of the view, which may change the last bit of an anti-aliased edge.
        assert np.abs(turned[:, :, ::-1] - frames).max() <= 2
        assert (image.caption, image.split, image.index) == (mirrored_caption(scene.caption), scene.split, scene.index)
        assert sprites.is_mirrored(image) and not sprites.is_mirrored(scene)


def test_the_mirror_image_of_a_mirror_image_is_the_scene():
    for scene in scenes_of(WORLDS["v2"], 30):
        again = mirrored(mirrored(scene))
        starts = np.array([[(sprite.x, sprite.y) for sprite in one.objects] for one in (scene, again)])
        np.testing.assert_allclose(*starts, atol=1e-12)
        objects = tuple(
            dataclasses.replace(new, x=old.x) for old, new in zip(scene.objects, again.objects, strict=True)
        )
        assert dataclasses.replace(again, objects=objects) == scene


def test_every_motion_has_a_mirror_image_or_none_with_a_reason():
    images = {motion: mirrored_motion(motion) for motion in sprites.MOTIONS}
    assert {motion for motion, image in images.items() if image is None} == set(WITHOUT_MIRROR)
    assert {image for image in images.values() if image} == set(sprites.MOTIONS) - set(WITHOUT_MIRROR)
    assert images["circles clockwise"] == "circles counterclockwise" and images["grows"] == "grows"


@pytest.mark.parametrize("split", sprites.SPLITS)
def test_a_mirror_image_belongs_to_the_split_of_its_scene(split: sprites.Split):
    kinds = [
        [held_out(sprite) for sprite in one.objects]
        for scene in scenes_of(WORLDS["v1"], 120, split)
        for one in (scene, mirrored(scene))
    ]
    assert all(any(of_scene) == (split == "heldout") for of_scene in kinds)
    square = sprites.SpriteObject("red", "square", "moves down and right", 20.0, 20.0, 7.8)
    scene = dataclasses.replace(sample_scene(0, 0), objects=(square,), caption=square.phrase)
    assert mirrored(scene) is None, "its mirror image moves down and left, which is held out of squares"


def test_the_metrics_of_a_mirrored_video_are_those_of_the_video():
    for scene in scenes_of(WORLDS["v2"], 12):
        image = mirrored(scene)
        frames = render(scene, TIMES)
        own, other = score(frames, scene, TIMES), score(frames[:, :, ::-1].copy(), image, TIMES)
        assert own.all_right and other.all_right
        np.testing.assert_allclose(other.position_error_px, own.position_error_px, atol=0.05)
        np.testing.assert_allclose(other.identity_iou, own.identity_iou, atol=0.02)


# Evaluations ------------------------------------------------------------------------------------------------------


def dataset(num_videos: int = 12, num_real: int = 5, *changes: str, **fields) -> tuple[SceneDataset, Protocol]:
    config = config_file.load(ROOT / "configs/tiny.yaml", Config, changes)
    protocol = Protocol(
        scenes="mirrored_pairs", num_videos=num_videos, num_real=num_real, num_frames=4, size_px=32, **fields
    )
    return real_videos.scenes(config, protocol)


def test_pairs_follow_each_other_and_count_as_one_clip():
    found, protocol = dataset()
    videos = found.eval_videos
    assert len(videos) == protocol.num_videos == 12 and len({video.name for video in videos}) == 12
    for place in range(0, 12, 2):
        assert videos[place].clip == videos[place + 1].clip == videos[place].name
        assert videos[place + 1].name == videos[place].name + eval_dataset.MIRRORED
        frames, turned = (found.real_video(place + side, 64).astype(int) for side in (0, 1))
        assert np.abs(turned[:, :, ::-1] - frames).max() <= 2
        assert found.captions["model"][place + 1] == mirrored_caption(found.captions["model"][place])
    assert not {scene.index for scene in found.others} & {scene.index for scene in found.scenes}


def test_other_sentences_of_a_pair_are_mirrored_where_they_can_be():
    found, _ = dataset(40)
    sentences, mirrored_ones = found.captions["counterfactual"], 0
    for place in range(0, 40, 2):
        mirrored_ones += sentences[place + 1] == mirrored_caption(sentences[place])
        for side in (0, 1):
            scene, other = found.scenes[place + side], found.counterfactuals[place + side]
            np.testing.assert_array_equal(render(other, TIMES[:1]), render(scene, TIMES[:1]))
            assert sum(old != new for old, new in zip(scene.objects, other.objects, strict=True)) == 1
    assert mirrored_ones >= 15
    for number in range(4):
        assert list(found.measure(number, "counterfactual", found.real_video(number, 64)))


def test_single_scenes_are_as_before_and_keep_their_hash():
    config = config_file.load(ROOT / "configs/tiny.yaml", Config)
    found, protocol = real_videos.scenes(config, Protocol(num_videos=4, num_real=2, num_frames=4, size_px=32))
    assert [scene.index for scene in found.scenes] == [0, 1, 2, 3]
    assert all(video.name == video.clip for video in found.eval_videos)
    old = {name: value for name, value in protocol.model_dump(mode="json").items() if name != "scenes"}
    settled = SettledProtocol(Protocol.model_validate_json(json.dumps(old)), {}, "x")
    assert settled.hash == SettledProtocol(protocol, {}, "x").hash
    assert settled.hash != SettledProtocol(protocol.settled(scenes="mirrored_pairs"), {}, "x").hash


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_videos": 3}, "num_videos is 3, and mirrored pairs need an even number"),
        ({"data": "digits"}, "mirrored_pairs is for data: sprites alone"),
        ({"data": "data/clips"}, "leave it out for data/clips"),
    ],
)
def test_pairs_that_cannot_be_made_are_refused(fields: dict, words: str):
    with pytest.raises(ValueError, match=words):
        Protocol(scenes="mirrored_pairs", **fields)


def test_a_world_without_mirror_images_is_refused():
    with pytest.raises(UserError, match="too few scenes of this world have a mirror image"):
        dataset(4, 0, "data.motions=[spins]")


def test_measured_mirror_images_are_right():
    found, _ = dataset(4)
    for number, scene in enumerate(found.scenes):
        measured = measure_scene(found.eval_videos[number], render(scene, found.times), scene, found.times)
        right = [one.total for one in measured if one.metric == "does_right_thing"]
        assert right and all(value == 1 for value in np.concatenate(right))
