"""`python -m data_prep augment` and `join`, and the options of `folder` for sets without a split `val`."""

import json
from pathlib import Path

import numpy as np
import pytest
from video_files import grey_steps, moving_bar, write_clip

from cdcd_video.data.clip_augmentation import GAIN, LEAST_FRAMES, ZOOM, Augmentation, clip_rng, sample_augmentation
from cdcd_video.data.images import content_box, fit
from cdcd_video.data.mirrored_captions import mirrored_caption
from cdcd_video.data.store import StoredClips
from cdcd_video.data.store_writer import StoreWriter
from cdcd_video.errors import exit_code
from data_prep.__main__ import main

SIDE, WIDTH, HEIGHT = 32, 64, 48


def noise(num_frames: int, seed: int) -> np.ndarray:
    """Frames of noise, 32 px with bars of 4 px above and below; no pixel of the content is black."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    frames = np.zeros((num_frames, SIDE, SIDE, 3), np.uint8)
    frames[:, 4:28] = rng.integers(40, 256, (num_frames, 24, SIDE, 3))
    return frames


def write_set(folder: Path, *rows: tuple[str, str, str, int], cuts: tuple[int, ...] = ()) -> Path:
    """A prepared folder of noise; a row is name, caption, split and number of frames."""
    with StoreWriter(folder, size_px=SIDE, fps=8, mode="letterbox", recipe={}) as writer:
        for seed, (name, caption, split, num_frames) in enumerate(rows):
            how = {"source_width": WIDTH, "source_height": HEIGHT, "source_fps": 8, "about": {"label": name}}
            writer.add(name, noise(num_frames, seed), [caption], split, cuts=cuts, **how)
        writer.finish()
    return folder


def run(*words: object) -> None:
    assert exit_code(lambda: main([str(word) for word in words])) == 0


def refusal(capsys, *words: object) -> str:
    assert exit_code(lambda: main([str(word) for word in words])) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    rows = [("a", "walks from left to right", "train", 20), ("b", "waves", "train", 9)]
    rows += [("c", "turns left", "val", 12), ("d", "turns right", "test", 12)]
    return write_set(tmp_path_factory.mktemp("augment") / "small", *rows)


@pytest.fixture(scope="module")
def augmented(small) -> StoredClips:
    run("augment", small, "--out", small.parent / "x6", "--copies", 6)
    return StoredClips(small.parent / "x6")


@pytest.mark.parametrize(
    ("caption", "mirror"),
    [
        ("walks from left to right", "walks from right to left"),
        ("Left of the LEFT-most tree", "Right of the RIGHT-most tree"),
        ("moves leftwards, then rightward", "moves rightwards, then leftward"),
        ("the left-handed man turns clockwise", "the right-handed man turns counterclockwise"),
        ("a wheel turns Counterclockwise", "a wheel turns Clockwise"),
        ("brightly, a cleft", "brightly, a cleft"),
        ("the rightmost one waves", "the leftmost one waves"),
    ],
)
def test_words(caption, mirror):
    assert mirrored_caption(caption) == mirror
    assert mirrored_caption(mirror) == caption


@pytest.mark.parametrize("word", ["anticlockwise", "counter-clockwise", "anti clockwise"])
def test_other_spellings_of_counterclockwise(word):
    assert mirrored_caption(f"it spins {word}") == "it spins clockwise"


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (33, 20), (20, 33), (50, 50), (1000, 3)])
def test_the_box_is_where_fit_puts_the_picture(width, height):
    picture = np.full((height, width, 3), 200, np.uint8)
    left, top, right, bottom = content_box(width, height, SIDE, "letterbox")
    where = np.zeros((SIDE, SIDE), bool)
    where[top:bottom, left:right] = True
    assert np.array_equal(fit(picture, SIDE, "letterbox").any(axis=2), where)
    assert content_box(width, height, SIDE, "crop") == (0, 0, SIDE, SIDE)


@pytest.mark.parametrize("box", [(0, 4, 32, 28), (3, 0, 28, 32), (0, 0, 32, 32)])
def test_mirrored_twice_is_the_same(box):
    frames = np.zeros((3, SIDE, SIDE, 3), np.uint8)
    left, top, right, bottom = box
    frames[:, top:bottom, left:right] = noise(3, 0)[:, 4:5, : right - left]
    once = Augmentation(is_mirrored=True).apply(frames, box)
    assert np.array_equal(once, frames[:, :, ::-1])
    back = Augmentation(is_mirrored=True).apply(once, (SIDE - right, top, SIDE - left, bottom))
    assert np.array_equal(back, frames)
    assert np.array_equal(Augmentation().apply(frames, box), frames)


def test_a_shift_and_a_zoom_move_the_picture_as_they_say():
    frames = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    frames[:, 12:16, 8:12] = 255
    box = (0, 0, SIDE, SIDE)
    moved = Augmentation(right_px=5, down_px=-3).apply(frames, box)
    assert np.array_equal(moved, np.roll(frames, (-3, 5), axis=(1, 2)))
    larger = Augmentation(zoom=1.5).apply(frames, box).astype(float)
    rows, columns = np.nonzero(larger[0, :, :, 0] > 127)
    middle = (SIDE - 1) / 2
    assert abs(rows.mean() - (middle + 1.5 * (13.5 - middle))) < 0.6
    assert abs(columns.mean() - (middle + 1.5 * (9.5 - middle))) < 0.6
    assert abs(larger[0].sum() / frames[0].astype(float).sum() - 1.5**2) < 0.15


def test_every_frame_is_changed_alike_and_bars_stay_black():
    """Equal frames stay equal, so one change was made of all; and a clip of white shows where anything was written."""
    still = np.repeat(noise(1, 5), 12, axis=0)
    white = np.where(still > 0, 255, 0).astype(np.uint8)
    box = content_box(WIDTH, HEIGHT, SIDE, "letterbox")
    for copy in range(20):
        change = sample_augmentation(
            clip_rng(0, "x", copy), size_px=SIDE, fps=8, first_shot=12, is_mirrored=copy % 2 == 0
        )
        changed = change.apply(still, box)
        assert len(changed) == 12 - change.skipped
        assert (changed == changed[:1]).all()
        assert not changed[:, :4].any() and not changed[:, 28:].any()
        bright = change.apply(white, box)
        assert bright[:, 4:28].min() == bright[:, 4:28].max() == min(255, round(255 * change.gain))


def test_changes_lie_within_their_limits():
    changes = [
        sample_augmentation(clip_rng(3, str(name), 2), size_px=64, fps=8, first_shot=40, is_mirrored=False)
        for name in range(300)
    ]
    assert ZOOM[0] <= min(one.zoom for one in changes) < 0.9 and 1.17 < max(one.zoom for one in changes) <= ZOOM[1]
    shifts = [shift for one in changes for shift in (one.right_px, one.down_px)]
    assert -6 <= min(shifts) < -5.5 and 5.5 < max(shifts) <= 6
    assert GAIN[0] <= min(one.gain for one in changes) and max(one.gain for one in changes) <= GAIN[1]
    assert {one.skipped for one in changes} == set(range(5))
    short = [
        sample_augmentation(clip_rng(3, str(name), 2), size_px=64, fps=8, first_shot=9, is_mirrored=False).skipped
        for name in range(50)
    ]
    assert set(short) == {0, 9 - LEAST_FRAMES}


def test_only_training_clips_have_copies(small, augmented):
    source = StoredClips(small)
    names = [row.id for row in augmented.rows]
    wanted = [name if copy == 0 else f"{name}~{copy}" for name in "ab" for copy in range(6)]
    assert sorted(names) == sorted([*wanted, "c", "d"])
    for number, name in enumerate("abcd"):
        copy, num_frames = names.index(name), source.num_frames(number)
        assert augmented.captions(copy) == source.captions(number)
        assert augmented.rows[copy].about == source.rows[number].about
        assert np.array_equal(augmented.frames(copy, range(num_frames)), source.frames(number, range(num_frames)))
    mirrored = names.index("a~1")
    assert augmented.caption(mirrored) == "walks from right to left"
    assert np.array_equal(augmented.frames(mirrored, range(20)), source.frames(0, range(20))[:, :, ::-1])
    for row in augmented.rows:
        if "~" in row.id:
            number = "abcd".index(row.about["copy_of"])
            assert row.split == "train" and row.num_frames == source.num_frames(number) - row.about["skipped"]
            assert row.about["is_mirrored"] == (int(row.id[2:]) % 2 == 1)
            caption = source.caption(number)
            assert row.captions == ((mirrored_caption(caption) if row.about["is_mirrored"] else caption),)
    assert augmented.manifest["mirrored_captions"] == {"walks from left to right": "walks from right to left"}


def test_the_seed_decides_and_no_clip_depends_on_another(small, augmented, tmp_path):
    run("augment", small, "--out", tmp_path / "again", "--copies", 6)
    assert StoredClips(tmp_path / "again").manifest["files"] == augmented.manifest["files"]
    run("augment", small, "--out", tmp_path / "other", "--copies", 6, "--seed", 1)
    assert StoredClips(tmp_path / "other").digest() != augmented.digest()
    with StoreWriter(tmp_path / "same", size_px=SIDE, fps=8, mode="letterbox", recipe={}) as writer:
        how = {"source_width": WIDTH, "source_height": HEIGHT, "source_fps": 8}
        writer.add("z", noise(30, 7), ["falls"], "train", **how)
        writer.add("a", noise(20, 0), ["walks from left to right"], "train", **how)
        writer.finish()
    run("augment", tmp_path / "same", "--out", tmp_path / "x4", "--copies", 4)
    few = StoredClips(tmp_path / "x4")
    for number, row in enumerate(few.rows):
        if row.id.startswith("a"):
            there = next(place for place, one in enumerate(augmented.rows) if one.id == row.id)
            every = range(row.num_frames)
            assert np.array_equal(few.frames(number, every), augmented.frames(there, every))


def test_cuts_move_with_the_beginning(tmp_path):
    write_set(tmp_path / "cut", ("a", "waves", "train", 30), cuts=(14,))
    run("augment", tmp_path / "cut", "--out", tmp_path / "out", "--copies", 12)
    rows = StoredClips(tmp_path / "out").rows
    assert {row.cuts[0] + row.about.get("skipped", 0) for row in rows} == {14}
    assert max(row.about.get("skipped", 0) for row in rows) > 0


def test_augment_refuses(small, tmp_path, capsys):
    assert "--copies" in refusal(capsys, "augment", small, "--out", tmp_path / "o", "--copies", 0)
    assert "choose another --out" in refusal(capsys, "augment", small, "--out", small)
    write_set(tmp_path / "val", ("a", "waves", "val", 9))
    assert "no clips of the split train" in refusal(capsys, "augment", tmp_path / "val", "--out", tmp_path / "o")


def test_folders_are_joined(small, tmp_path, capsys):
    write_set(tmp_path / "other", ("a", "jumps", "test", 11))
    run("join", small, tmp_path / "other", "--out", tmp_path / "both")
    both = StoredClips(tmp_path / "both")
    assert [row.id for row in both.rows] == ["small/a", "small/b", "small/c", "small/d", "other/a"]
    assert [row.split for row in both.rows] == ["train", "train", "val", "test", "test"]
    assert both.rows[0].about == {"set": "small", "label": "a"}
    assert np.array_equal(both.frames(4, range(11)), noise(11, 0))
    write_set(tmp_path / "third", ("a", "sits", "train", 11))
    run("join", tmp_path / "both", tmp_path / "third", "--out", tmp_path / "all")
    assert [row.about["set"] for row in StoredClips(tmp_path / "all").rows] == [*["small"] * 4, "other", "third"]
    assert "rename one" in refusal(capsys, "join", small, tmp_path / "x" / ".." / "small", "--out", tmp_path / "o")
    with StoreWriter(tmp_path / "slow", size_px=SIDE, fps=4, mode="letterbox", recipe={}) as writer:
        writer.add("a", noise(5, 0), ["sits"], "train", source_width=1, source_height=1, source_fps=4)
        writer.finish()
    assert "fps 4" in refusal(capsys, "join", small, tmp_path / "slow", "--out", tmp_path / "o")


# ------------------------------------------------------------------------------------------- splits of a set without val


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Twelve videos of four people, of which the last are for tests."""
    folder = tmp_path_factory.mktemp("people")
    clip = write_clip(folder / "0.mp4", moving_bar(10)).read_bytes()
    rows = ["path,caption,split,who,label"]
    for number in range(12):
        (folder / f"{number}.mp4").write_bytes(clip)
        who = ["denis", "ido", "lena", "dora"][number // 3]
        rows.append(f"{number}.mp4,it moves,{'test' if who == 'dora' else 'train'},{who},act{number % 3}")
    (folder / "t.csv").write_text("\n".join(rows))
    return folder


def prepared(videos: Path, out: Path, *options: str) -> list[dict]:
    run(
        "folder",
        videos,
        "--captions",
        videos / "t.csv",
        "--out",
        out,
        "--size-px",
        8,
        "--cuts",
        "off",
        "--workers",
        1,
        *options,
    )
    return [json.loads(line) for line in (out / "clips.jsonl").read_text().splitlines()]


def test_groups_go_to_val_as_a_whole(videos, tmp_path):
    options = ("--val-from-train", "0.1", "--group-column", "who", "--about-columns", "who", "label")
    rows = prepared(videos, tmp_path / "out", *options)
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["about"]["who"], set()).add(row["split"])
    assert splits["dora"] == {"test"}
    assert all(len(of_person) == 1 for of_person in splits.values())
    assert {split for of_person in splits.values() for split in of_person} == {"train", "val", "test"}
    assert rows[4]["about"] == {"who": "ido", "label": "act1"}
    recipe = json.loads((tmp_path / "out" / "manifest.json").read_text())["recipe"]
    assert (recipe["val_from_train"], recipe["group_column"], recipe["about_columns"]) == (0.1, "who", ["who", "label"])


def test_without_the_options_nothing_is_kept_and_nothing_moves(videos, tmp_path):
    rows = prepared(videos, tmp_path / "out")
    assert [row["split"] for row in rows] == ["train"] * 9 + ["test"] * 3
    assert not any("about" in row for row in rows)


def test_the_options_need_their_columns(videos, tmp_path, capsys):
    where = ("folder", videos, "--out", tmp_path / "o")
    table = ("--captions", videos / "t.csv")
    assert "columns named" in refusal(capsys, *where, *table, "--about-columns", "nothing")
    assert "--captions" in refusal(capsys, *where, "--group-column", "who")
    assert "--val-share" in refusal(capsys, *where, *table, "--split-column", "", "--val-from-train", "0.1")
    assert "below 1" in refusal(capsys, *where, *table, "--val-from-train", "1")


def test_a_clip_with_two_groups_or_none_is_refused(videos, tmp_path):
    write_clip(tmp_path / "a.mp4", grey_steps(10))
    for name in "bc":
        (tmp_path / f"{name}.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    rows = ["path,caption,who", "a.mp4,one,x", "b.mp4,one,x", "b.mp4,two,y", "c.mp4,one,"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    out = tmp_path / "out"
    run(
        "folder",
        tmp_path,
        "--captions",
        tmp_path / "t.csv",
        "--out",
        out,
        "--size-px",
        8,
        "--cuts",
        "off",
        "--group-column",
        "who",
    )
    reasons = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert {row["id"]: row["reason"] for row in reasons} == {
        "b.mp4": "its rows have several values of who",
        "c.mp4": "its row has no who",
    }
