"""Captioned actions: labels, the classifier that a user trains, direction without a network, and the scores of a model."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from cdcd_video.data.action_labels import ActionLabel, action_labels, classes_of
from cdcd_video.data.store import StoredClips
from cdcd_video.data.store_writer import StoreWriter
from cdcd_video.errors import UserError, exit_code
from cdcd_video.metrics import action_classifier
from cdcd_video.metrics.action_classifier import chosen_frames, first_frame_of, motion_of, named
from cdcd_video.metrics.travel import direction_in, direction_of, horizontal_travel
from cdcd_video.tools import action_scores, train_action_classifier
from cdcd_video.tools.action_scores import other_labels
from cdcd_video.tools.train_action_classifier import example, train

SIDE, NUM_FRAMES = 32, 12
ACTIONS = {"walk": (2, 0), "jump": (0, -2), "stand": (0, 0)}
"""Pixels right and down per frame of a square."""


def square(action: str, is_mirrored: bool, seed: int) -> np.ndarray:
    """A bright square on grey noise that does not move, uint8 (F, S, S, 3)."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    frames = np.repeat(rng.integers(60, 90, (1, SIDE, SIDE, 3), dtype=np.uint8), NUM_FRAMES, axis=0)
    right, down = ACTIONS[action]
    top, left = int(rng.integers(16, 20)), int(rng.integers(0, 4))
    for number, frame in enumerate(frames):
        y, x = top + down * number, left + right * number
        frame[max(y, 0) : max(y + 12, 0), x : x + 12] = 230
    return frames[:, :, ::-1] if is_mirrored else frames


def sentence(action: str, is_mirrored: bool) -> str:
    way = "from right to left" if is_mirrored else "from left to right"
    return f"it walks {way}" if action == "walk" else f"it does {action}"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Three actions, twelve training clips and six for tests."""
    folder = tmp_path_factory.mktemp("actions") / "set"
    with StoreWriter(folder, size_px=SIDE, fps=8, mode="crop", recipe={}) as writer:
        for seed in range(18):
            action, is_mirrored = list(ACTIONS)[seed % 3], seed % 2 == 1
            how = {
                "source_width": SIDE,
                "source_height": SIDE,
                "source_fps": 8,
                "about": {"label": action, "set": "toy"},
            }
            split = "train" if seed < 12 else "test"
            writer.add(str(seed), square(action, is_mirrored, seed), [sentence(action, is_mirrored)], split, **how)
        writer.finish()
    return folder


def run(tool, *words: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["x", *map(str, words)])
        return exit_code(tool.main)


@pytest.fixture(scope="module")
def referee(prepared, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("referee") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_action_classifier, "BATCH_SIZE", 6)
        assert run(train_action_classifier, "--clips", prepared, "--out", out, "--steps", 80) == 0
    return out


def test_labels_come_from_a_column_or_from_the_sentence(prepared):
    clips = StoredClips(prepared, "train")
    labels = action_labels(clips)
    assert labels[0] == ActionLabel("toy", "walk", "it walks from left to right")
    assert labels[0].mirrored() == ActionLabel("toy", "walk", "it walks from right to left")
    assert [one.action for one in action_labels(clips, "label")] == [one.action for one in labels]
    with pytest.raises(UserError, match="--about-columns who"):
        action_labels(clips, "who")
    assert [one.caption for one in classes_of(labels[:1])] == [
        "it walks from left to right",
        "it walks from right to left",
    ]


def test_without_a_column_a_sentence_and_its_mirror_image_are_one_action(tmp_path):
    with StoreWriter(tmp_path / "set", size_px=8, fps=8, mode="crop", recipe={}) as writer:
        for name, caption in (("a", "runs from right to left"), ("b", "runs from left to right"), ("c", "waves")):
            frames = np.zeros((2, 8, 8, 3), np.uint8)
            writer.add(name, frames, [caption], "train", source_width=8, source_height=8, source_fps=8)
        writer.finish()
    labels = action_labels(StoredClips(tmp_path / "set"))
    assert [one.action for one in labels] == ["runs from left to right", "runs from left to right", "waves"]


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_direction_by_what_moves(is_mirrored):
    frames = square("walk", is_mirrored, 5)
    way = -1 if is_mirrored else 1
    assert direction_of(frames) == way == direction_in(sentence("walk", is_mirrored))
    assert abs(horizontal_travel(frames) - way * 2 * (NUM_FRAMES - 2)) < 4, (
        "between the centroids of the first and last step"
    )
    assert direction_of(frames[::-1]) == -way
    assert direction_of(np.repeat(frames[:1], 8, axis=0)) == 0
    assert direction_of(square("jump", is_mirrored, 5)) == 0
    least = abs(horizontal_travel(frames)) * 16  # a sixteenth of this width is as far as it goes
    for width, expected in ((least - 16, way), (least + 16, 0)):
        beside = np.zeros((NUM_FRAMES, SIDE, round(width) - SIDE, 3), dtype=np.uint8)
        assert direction_of(np.concatenate([frames, beside], axis=2)) == expected, "of the width, not of the height"


def test_what_stays_still_at_the_end_or_is_noise_does_not_count():
    frames = square("walk", False, 1)
    held = np.concatenate([frames, np.repeat(frames[-1:], 12, axis=0)])
    assert horizontal_travel(held) == pytest.approx(horizontal_travel(frames))
    rng = np.random.Generator(np.random.Philox(key=3))
    noisy = np.clip(held + rng.integers(-7, 8, held.shape), 0, 255).astype(np.uint8)
    assert direction_of(noisy) == 1


@pytest.mark.parametrize(
    ("caption", "way"),
    [
        ("Walks Left to Right", 1),
        ("right to left, slowly", -1),
        ("left to right, then right to left", 0),
        ("waves left", 0),
    ],
)
def test_direction_in_a_sentence(caption, way):
    assert direction_in(caption) == way


def test_what_the_networks_are_given():
    frames = square("walk", False, 2)
    motion = motion_of(frames)
    assert motion.shape == (2, NUM_FRAMES, SIDE, SIDE)
    grey = frames.mean(axis=3) / 255
    assert np.allclose(motion[0, 3], grey[3] - grey[2], atol=1e-6) and np.allclose(
        motion[1, 3], grey[3] - grey[0], atol=1e-6
    )
    assert not motion[:, 0].any()
    assert np.array_equal(first_frame_of(frames), first_frame_of(frames[:1]))
    assert chosen_frames(64)[-1] == 31 and chosen_frames(5)[-1] == 4 and len(chosen_frames(5)) == 16


def test_an_example_is_the_clip_with_its_label(prepared):
    clips = StoredClips(prepared, "train")
    labels = action_labels(clips)
    for seed in range(8):
        rng = np.random.Generator(np.random.Philox(key=seed))
        video, label = example(clips, labels, 0, motion_of, rng)
        assert label in (labels[0], labels[0].mirrored())
        later = np.abs(video[1, -1])
        centre = (later.sum(axis=0) * np.arange(SIDE)).sum() / later.sum()
        first = np.abs(video[1, 3])
        begin = (first.sum(axis=0) * np.arange(SIDE)).sum() / first.sum()
        assert np.sign(centre - begin) == direction_in(label.caption), "the picture is mirrored where the sentence is"


def test_the_same_seed_gives_the_same_weights(prepared):
    clips = StoredClips(prepared, "train")
    labels = action_labels(clips)
    one, again, other = (train(clips, labels, classes_of(labels), motion_of, 2, seed) for seed in (0, 0, 1))
    equal = [torch_equal(one, net) for net in (again, other)]
    assert equal == [True, False]


def torch_equal(one, other) -> bool:
    return all(
        bool((a == b).all()) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_the_card_says_how_good_it_is_and_what_a_frame_gives_away(referee, prepared):
    card = json.loads((referee / "card.json").read_text())
    found = card["sets"]["toy"]
    assert found["n"] == 6 and found["most_frequent"] == 2
    assert sum(sum(row.values()) for row in found["confusion"].values()) == 6
    assert found["right"] == sum(row.get(action, 0) for action, row in found["confusion"].items())
    assert found["right"] >= 4, "of six, and two are right by chance"
    lines = action_classifier.summary(card)
    assert "by the first frame alone" in lines[0] and len(lines) == 4
    loaded = action_classifier.load(referee)
    clips = StoredClips(prepared, "test")
    videos = [clips.frames(clip, range(NUM_FRAMES)) for clip in range(6)]
    answers = [loaded.named(row, "toy")[0] for row in loaded.probabilities(videos)]
    assert sum(answer == clips.rows[clip].about["label"] for clip, answer in enumerate(answers)) == found["right"]


def test_only_the_actions_of_a_set_are_named():
    classes = [
        vars(ActionLabel(*"axs")),
        vars(ActionLabel(*"axt")),
        vars(ActionLabel(*"ayu")),
        vars(ActionLabel(*"bzv")),
    ]
    assert named(classes, np.array([0.2, 0.15, 0.3, 0.35]), "a") == ("x", "u")
    assert named(classes, np.array([0.2, 0.15, 0.3, 0.35]), "b") == ("z", "v")
    with pytest.raises(UserError, match="of the set c, and the action classifier knows the sets a, b"):
        named(classes, np.zeros(4), "c")
    with pytest.raises(
        UserError, match="of a folder of one set, which names none, .* give the folder that it was trained on"
    ):
        named(classes, np.zeros(4), "")


def test_a_damaged_classifier_is_refused(referee, tmp_path):
    with pytest.raises(UserError, match="train_action_classifier"):
        action_classifier.load(tmp_path)
    for name in ("card.json", "action_classifier.safetensors"):
        (tmp_path / name).write_bytes((referee / name).read_bytes()[:-40])
    with pytest.raises(UserError, match="damaged"):
        action_classifier.load(tmp_path)


def test_the_training_split_is_no_test(prepared, tmp_path, capsys):
    assert run(train_action_classifier, "--clips", prepared, "--split", "train", "--out", tmp_path / "o") == 2
    assert "--split must not be train" in capsys.readouterr().err


def test_other_sentences_are_of_other_actions_of_the_same_set():
    known = [ActionLabel("a", action, f"{action} {way}") for action in "xyz" for way in ("left", "right")]
    known += [ActionLabel("b", "w", "w")]
    for seed in range(10):
        rng = np.random.Generator(np.random.Philox(key=seed))
        found = other_labels(known[0], known, 2, rng)
        assert sorted(one.action for one in found) == ["y", "z"]
        assert len(other_labels(known[0], known, 5, rng)) == 2


class Obedient:
    """Moves the square as the sentence says, if `obeys`; otherwise lets it walk. Without guidance it never knows the sentence."""

    size_px, num_threads, precision = SIDE, 1, "fp32"

    def __init__(self, obeys: bool):
        self.obeys = obeys
        self.model = type("M", (), {"digest": "0" * 64})

    def defaults(self, **changes):
        from cdcd_video.config import SamplingParams

        return SamplingParams().changed(**{name: value for name, value in changes.items() if value is not None})

    def sample(self, starts, captions, params, seeds, progress=None):
        made = []
        for seed, caption in zip(seeds, captions, strict=True):
            knows = self.obeys and params.guidance > 0
            action = next((name for name in ("jump", "stand") if name in caption), "walk") if knows else "walk"
            made.append(square(action, knows and "right to left" in caption, 100 + seed)[: params.num_frames])
        return np.stack(made)

    def encode(self, frames):
        self.frames = frames
        return np.zeros((len(frames), 1), int)

    def decode(self, codes, starts):
        return self.frames.reshape(*codes.shape[:2], *self.frames.shape[1:]).copy()


def by_where_the_square_goes(referee, videos) -> np.ndarray:
    """In place of the network, so that scores of a model do not depend on how well a network was trained."""
    rows = []
    for video in videos:
        bright = video.mean(axis=3) > 200
        middle = [np.argwhere(frame).mean(axis=0) for frame in bright[[0, 4]]]
        down, right = np.abs(middle[1] - middle[0])
        action = "walk" if right > 2 else "jump" if down > 2 else "stand"
        rows.append([float(one["action"] == action) for one in referee.classes])
    return np.array(rows)


@pytest.mark.parametrize("obeys", [True, False])
def test_a_model_that_follows_its_sentence_and_one_that_does_not(
    obeys, prepared, referee, tmp_path, monkeypatch, capsys
):
    from cdcd_video.pipeline import ImageToVideo

    monkeypatch.setattr(ImageToVideo, "from_pretrained", lambda *_: Obedient(obeys))
    monkeypatch.setattr(action_classifier.ActionReferee, "probabilities", by_where_the_square_goes)
    words = (
        "--checkpoint",
        "x",
        "--clips",
        prepared,
        "--referee",
        referee,
        "--num-frames",
        NUM_FRAMES,
        "--guidance",
        2,
    )
    assert run(action_scores, *words, "--out", tmp_path / "out") == 0
    result = json.loads((tmp_path / "out" / "scores.json").read_text())
    found = {(one["metric"], one["system"]): one for one in result["scores"]}
    assert found["action", "truth"]["value"] == found["action", "codec-ceiling"]["value"] == 1
    assert found["action", "other"]["n"] == 12 and found["action", "other"]["num_clips"] == 6
    difference = found["action", "other - dropped"]
    if obeys:
        assert found["action", "other"]["value"] == 1 and found["direction", "other"]["value"] == 1
        assert difference["low"] > 0 and found["action", "other - shuffled"]["low"] > 0
    else:
        assert difference["value"] == 0
        assert found["action", "other - shuffled"]["low"] <= 0 <= found["action", "other - shuffled"]["high"]
    assert result["referee"]["sets"]["toy"]["n"] == 6
    printed = capsys.readouterr().out
    assert "by the first frame alone" in printed and "other - dropped" in printed
    assert (tmp_path / "out" / "sheet.png").is_file()


def test_a_set_is_called_like_its_folder_and_not_like_its_size(prepared, tmp_path):
    of_a_size = tmp_path / "wide" / f"{SIDE}x{SIDE}"
    shutil.copytree(prepared, of_a_size)
    assert [action_scores.name_of_set(StoredClips(folder)) for folder in (prepared, of_a_size)] == ["set", "wide"]


def test_action_scores_refuses(prepared, referee, tmp_path, capsys):
    words = ("--checkpoint", "sprites", "--clips", prepared, "--out", tmp_path / "o")
    assert run(action_scores, *words, "--referee", referee, "--captions-per-clip", 1) == 2
    assert "--captions-per-clip must be at least 2" in capsys.readouterr().err
    assert run(action_scores, *words, "--referee", referee) == 2
    assert "use one size" in capsys.readouterr().err
