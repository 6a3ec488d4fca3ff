"""The captioned moving digits: their files, their protocols, their pixels."""

import gzip
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fixtures_model import ROOT, SHORT
from real_digits import mnist_folder

from cdcd_video import ImageToVideo
from cdcd_video.config import Config, config_file
from cdcd_video.data import digits_files
from cdcd_video.data.digits_files import FILES, SIDE, Digits, IdxFile, read_mnist, stroke_digits
from cdcd_video.data.digits_world import (
    FREE_PX,
    MOST_OVERLAP,
    PROTOCOLS,
    DigitsClip,
    MovingDigit,
    caption_of,
    corners,
    is_held_out,
    motion_words,
    overlap,
    positions,
    render_clip,
    sample_clip,
)
from cdcd_video.data.store import Clips
from cdcd_video.errors import UserError
from cdcd_video.training.training_data import open_clips
from cdcd_video.training.training_run import TrainingRun

DRAWN = stroke_digits(4)


def small(monkeypatch: pytest.MonkeyPatch, folder: Path, packed: bool) -> None:
    """Two digits instead of 70,000, written as the four files."""
    import hashlib

    files = []
    for file in FILES:
        header = bytes(16 if file.is_images else 8)
        content = header + bytes(range(1, 1 + (SIDE**2 if file.is_images else 1) % 250))
        content += bytes(len(header) + (SIDE**2 if file.is_images else 1) - len(content))
        files.append(IdxFile(file.name, 1, hashlib.md5(content).hexdigest()))
        if packed:
            (folder / f"{file.name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / file.name).write_bytes(content)
    monkeypatch.setattr(digits_files, "FILES", tuple(files))


@pytest.mark.parametrize("packed", [False, True])
def test_the_four_files_are_read_plain_or_packed(packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small(monkeypatch, tmp_path, packed)
    digits = read_mnist(tmp_path)
    assert digits.images.shape == (2, 28, 28) and digits.labels.tolist() == [1, 1]
    assert digits.images[0, 0, :3].tolist() == [1, 2, 3] and digits.of_class[1].tolist() == [0, 1]


def test_a_missing_or_other_file_is_one_sentence_with_name_size_and_hash(tmp_path, monkeypatch: pytest.MonkeyPatch):
    facts = r"47,040,016 bytes when unpacked, md5 6bbc9ace898e44ae57da46a324031adb"
    with pytest.raises(UserError, match=rf"has no train-images-idx3-ubyte and no .*\.gz \({facts}\)"):
        read_mnist(tmp_path)
    small(monkeypatch, tmp_path, packed=True)
    packed = tmp_path / "t10k-images-idx3-ubyte.gz"
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-9])
    with pytest.raises(UserError, match="t10k-images-idx3-ubyte.gz cannot be read .*; copy it again"):
        read_mnist(tmp_path)
    packed.write_bytes(gzip.compress(gzip.decompress(whole)[:-1] + b"\x07"))
    with pytest.raises(UserError, match="is not the published file"):
        read_mnist(tmp_path)
    packed.write_bytes(gzip.compress(bytes(10**7)))
    with pytest.raises(UserError, match="is not the published file"):
        read_mnist(tmp_path)


@pytest.mark.shared
def test_the_true_digits(shared_dir: Path, tmp_path: Path):
    digits = read_mnist(mnist_folder(shared_dir, tmp_path))
    assert digits.images.shape == (70_000, 28, 28)
    assert [len(numbers) for numbers in digits.of_class] == [6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958]
    assert digits.labels[:5].tolist() == [5, 0, 4, 1, 9] and digits.labels[60_000:60_005].tolist() == [7, 2, 1, 0, 4]


def test_drawn_digits_are_all_different_and_the_same_every_time():
    again = stroke_digits(4)
    assert np.array_equal(again.images, DRAWN.images) and len(np.unique(DRAWN.images, axis=0)) == 40
    assert DRAWN.labels.tolist() == sorted(DRAWN.labels.tolist()) and not np.array_equal(
        stroke_digits(4, 1).images, again.images
    )
    ink = (DRAWN.images > 127).mean((1, 2))
    assert ink.min() > 0.04 and ink.max() < 0.35
    assert (DRAWN.images[:, 0] == 0).all() or DRAWN.images[:, 0].max() < 255


# ------------------------------------------------------------------------------------------------------- the protocols


def clips(name: str, num: int = 400, split: str = "train") -> list[DigitsClip]:
    return [sample_clip(name, DRAWN, 0, number, split) for number in range(num)]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_split_has_its_own_half_of_the_combinations(name: str):
    protocol = PROTOCOLS[name]
    pairs = itertools.permutations(range(10), 2) if protocol.distinct else itertools.product(range(10), repeat=2)
    every = [(label,) for label in range(10)] if protocol.num_digits == 1 else list(pairs)
    for labels in every:
        held = [is_held_out(labels, axes) for axes in itertools.product((0, 1), repeat=len(labels))]
        assert sum(held) == len(held) / 2
    for split in ("train", "val"):
        for clip in clips(name, 60, split):
            labels = tuple(digit.label for digit in clip.digits)
            assert is_held_out(labels, tuple(digit.axis for digit in clip.digits)) is (split == "val")
            assert not protocol.distinct or len(set(labels)) == len(labels)
            assert all(DRAWN.labels[digit.picture] == digit.label for digit in clip.digits)


def test_numbers_of_the_modified_double_world():
    """Its own statistics: starts, directions, bounces and distractors in the published shares."""
    sampled = clips("mage-modified")
    moving = [digit for clip in sampled for digit in clip.digits]
    starts = np.array([digit.start for digit in moving])
    assert (
        starts.min() >= 0.15 - 1e-9
        and starts.max() <= 0.85 + 1e-9
        and np.allclose(starts * 100, np.round(starts * 100))
    )
    for share in (
        [digit.forward for digit in moving],
        [digit.bounces for digit in moving],
        [digit.axis for digit in moving],
    ):
        assert abs(np.mean(share) - 0.5) < 0.07
    assert abs(np.mean([clip.distractor is not None for clip in sampled]) - 0.5) < 0.08
    for clip in sampled:
        if clip.distractor:
            picture, place = clip.distractor
            assert int(DRAWN.labels[picture]) not in {digit.label for digit in clip.digits}
            assert max(overlap(place, digit.start) for digit in clip.digits) <= MOST_OVERLAP
    motions = Counter(motion_words("mage-modified", digit) for digit in moving)
    straight, bounced = (
        ("up", "down", "left", "right"),
        ("up then down", "down then up", "left then right", "right then left"),
    )
    assert set(motions) == {*straight, *bounced} and min(motions.values()) > 60


@pytest.mark.parametrize(
    ("name", "digit", "expected"),
    [
        ("mage-modified", MovingDigit(3, 0, 0, False, False, (0.25, 0.5)), [0.25, 0.15, 0.05, 0, 0, 0]),
        ("mage-modified", MovingDigit(3, 0, 1, True, True, (0.5, 0.85)), [0.85, 0.95, 1, 0.9, 0.8, 0.7]),
        ("mage-single", MovingDigit(3, 0, 0, False, True, (0.3, 0.5)), [0.3, 0.1, 0, 0.2, 0.4, 0.6]),
        ("sync-draw-single", MovingDigit(3, 0, 1, True, True, (0.5, 0.9)), [0.9, 1, 0.8, 0.6, 0.4, 0.2]),
    ],
)
def test_a_way_by_hand(name: str, digit: MovingDigit, expected: list[float]):
    way = positions(name, DigitsClip((digit,), None, ""))[0]
    np.testing.assert_allclose(way[: len(expected), digit.axis], expected, atol=1e-9)
    assert (way[:, 1 - digit.axis] == digit.start[1 - digit.axis]).all() and len(way) == PROTOCOLS[name].num_frames
    assert way.min() >= 0 and way.max() <= 1


def test_digits_that_stop_do_so_at_the_edge_that_the_sentence_leads_to():
    for clip in clips("mage-modified", 200):
        for digit, way in zip(clip.digits, positions("mage-modified", clip), strict=True):
            along = way[:, digit.axis]
            first, last = float(digit.forward), float(digit.forward is not digit.bounces)
            assert first in along, "it comes to the edge"
            if not digit.bounces:
                assert along[-1] == last and (along[-2:] == last).all()
            moved = np.abs(np.diff(along))
            assert moved.max() <= 0.1 + 1e-9
    for clip in clips("mage-single", 50):
        assert (np.abs(np.diff(positions("mage-single", clip)[0], axis=0)).sum(1) > 0).all(), "it never rests"


def test_sentences_are_those_of_the_protocols():
    up = MovingDigit(3, 0, 0, False, True, (0.5, 0.5))
    right = MovingDigit(8, 0, 1, True, False, (0.5, 0.5))
    assert caption_of("sync-draw-single", (up,)) == "the digits 3 is moving up and down ."
    assert caption_of("sync-draw-double", (up, right)) == "digit 3 is up and down and digit 8 is left and right ."
    assert caption_of("mage-single", (up,)) == "the digit 3 is moving up then down ."
    assert caption_of("mage-modified", (right, up)) == (
        "the digit 8 is moving right and the digit 3 is moving up then down ."
    )


# ------------------------------------------------------------------------------------------------------------- pixels


def test_pixels_are_the_brightest_digit_at_its_place():
    for clip in clips("mage-modified", 30):
        frames = np.array([0, 5, 19])
        pixels = render_clip("mage-modified", clip, DRAWN, frames)
        assert pixels.shape == (3, 64, 64, 3) and (pixels == pixels[..., :1]).all()
        by_hand = np.zeros((3, 64, 64), np.uint8)
        placed = [
            (digit.picture, way[frames])
            for digit, way in zip(clip.digits, positions("mage-modified", clip), strict=True)
        ]
        placed += [(clip.distractor[0], np.array([clip.distractor[1]] * 3))] if clip.distractor else []
        for picture, way in placed:
            for frame, (y, x) in enumerate(way):
                top, left = int(36 * y + 1e-9), int(36 * x + 1e-9)
                for row in range(28):
                    for column in range(28):
                        value = DRAWN.images[picture, row, column]
                        by_hand[frame, top + row, left + column] = max(by_hand[frame, top + row, left + column], value)
        assert np.array_equal(pixels[..., 0], by_hand)


def test_a_clip_is_a_function_of_its_number():
    one, again, other = (sample_clip("mage-modified", DRAWN, seed, 7, "train") for seed in (0, 0, 1))
    assert one == again != other
    assert sample_clip("mage-modified", DRAWN, 0, 7, "val") != one
    assert corners(np.array([[0.0, 1.0]])).tolist() == [[0, FREE_PX]]


def test_pictures_are_found_by_class():
    digits = Digits(np.zeros((3, 28, 28), np.uint8), np.array([4, 2, 4], np.uint8))
    assert digits.of_class[4].tolist() == [0, 2] and digits.of_class[2].tolist() == [1] and not len(digits.of_class[0])


# --------------------------------------------------------------------------------------------------------------- clips


def test_clips_of_a_config_are_those_of_the_protocol():
    config = Config(name="x", data={"kind": "digits", "num_clips": 12, "num_val_clips": 3, "protocol": "mage-single"})
    train, val = open_clips(config, "train"), open_clips(config, "val")
    assert isinstance(train, Clips) and (len(train), len(val)) == (12, 3) and train.is_stand_in
    assert train.num_frames(0) == 20 and train.captions(3) == (train.clip(3).caption,)
    whole = train.frames(3, range(20))
    assert np.array_equal(train.frames(3, [7, 2]), whole[[7, 2]]) and whole.shape == (20, 64, 64, 3)
    assert train.digest() == open_clips(config, "train").digest() != val.digest()
    for wrong in ([20], [-1]):
        with pytest.raises(IndexError):
            train.frames(0, wrong)
    with pytest.raises(IndexError):
        train.caption(12)


def test_a_folder_without_files_is_one_sentence(tmp_path: Path):
    config = Config(name="x", data={"kind": "digits", "path": str(tmp_path)})
    with pytest.raises(UserError, match="put MNIST's four files there"):
        open_clips(config, "train")


@pytest.mark.slow
def test_a_model_of_digits_is_trained_and_sampled(tmp_path: Path):
    changes = ["data={kind: digits, num_clips: 16, num_val_clips: 4, protocol: mage-single}", *SHORT]
    config = config_file.load(ROOT / "configs" / "tiny.yaml", Config, changes)
    TrainingRun(config, tmp_path / "run", ["test"]).train()
    pipe = ImageToVideo.from_pretrained(tmp_path / "run", device="cpu")
    clips = open_clips(config, "val")
    video = pipe(clips.frames(0, [0])[0], clips.caption(0), num_frames=3)
    assert video.frames.shape == (3, 64, 64, 3) and np.array_equal(video.frames[0], clips.frames(0, [0])[0])
