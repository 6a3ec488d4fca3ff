"""Where no clip is of the split val, the advice is one that works for these clips and this recipe."""

import re
from pathlib import Path

import numpy as np
import pytest
from video_files import moving_bar, write_clip

from cdcd_video.config import FolderData
from cdcd_video.data.store import StoredClips
from cdcd_video.data.store_files import ClipRow
from cdcd_video.data.store_writer import StoreWriter
from cdcd_video.data.val_share import position_of, share_for_val, way_to_val
from cdcd_video.errors import UserError, exit_code
from cdcd_video.training.training_data import _stored
from data_prep.__main__ import main
from data_prep.folder import Columns, read_items
from data_prep.items import split_of


def row(name: str, split: str = "train", **about: object) -> ClipRow:
    return ClipRow(name, ("words",), split, name, "frames-00000.npy", 0, 8, 8.0, 1.0, 64, 64, 8.0, about)


def run(*words: object) -> int:
    return exit_code(lambda: main([str(word) for word in words]))


def given(text: str, option: str) -> float:
    """The number that an advice gives to an option."""
    return float(re.search(rf"{option} ([0-9.]+[0-9])", text)[1])


@pytest.mark.parametrize("num_clips", [2, 3, 5, 40, 400])
def test_the_share_leaves_clips_for_both_and_is_round(num_clips: int):
    for trial in range(20):
        names = [f"{trial}/clip{number}.mp4" for number in range(num_clips)]
        share = share_for_val(names)
        assert {split_of(name, share) for name in names} == {"train", "val"} and 0 < share < 1
        assert share == 0.1 or min(map(position_of, names)) > share - 0.1
    assert share_for_val([f"clip{number}" for number in range(400)]) == 0.1
    assert share_for_val(["a"]) is share_for_val(["a", "a"]) is None


def test_of_two_clips_the_advice_works_where_the_default_does_not(tmp_path: Path, capsys):
    names = [name for name in (f"c{number}.mp4" for number in range(100)) if position_of(name) > 0.5][:2]
    folder = tmp_path / "in"
    folder.mkdir()
    for name in names:
        write_clip(folder / name, moving_bar(8), fps=8)
        (folder / name).with_suffix(".txt").write_text("a bar moves")
    how = ("folder", folder, "--size-px", 16, "--workers", 1, "--cuts", "off", "--out")
    assert run(*how, tmp_path / "a") == 0
    said = capsys.readouterr().err
    assert "a share of 0.2 is none for val; 0.4 is taken instead" in said and "--val-from-train" not in said
    share = given(said.split("no clip is of the split val")[1], "again with --val-share")
    with pytest.raises(UserError, match=f"its splits are: train; prepare again with --val-share {share}"):
        StoredClips(tmp_path / "a", "val")
    assert run(*how, tmp_path / "b", "--val-share", share) == 0
    assert "no clip is of the split val" not in capsys.readouterr().err
    assert len(StoredClips(tmp_path / "b", "val")) == len(StoredClips(tmp_path / "b", "train")) == 1


@pytest.mark.parametrize("group", [None, "who"])
@pytest.mark.parametrize("split", [None, "part"])
def test_the_advice_for_a_table_works(tmp_path: Path, group: str | None, split: str | None):
    people = [name for name in map(str, range(100)) if position_of(name) > 0.5][:3]
    rows = ["path\twho\tpart\tcaption"]
    rows += [f"{number}.mp4\t{people[number % 3]}\ttrain\ta word" for number in range(6)]
    (tmp_path / "t.tsv").write_text("\n".join(rows))
    columns = Columns(split or "", group, ("who",))
    made = [row(f"{number}.mp4", who=people[number % 3]) for number in range(6)]
    asked = {"recipe": "folder", "val_share": 0.1, "split_column": split, "group_column": group}
    way, option = way_to_val(asked, made), "--val-from-train" if split else "--val-share"
    assert ("or with val in the column part for some clips" in way) == bool(split)
    share = given(way, f"again with {option}")
    shares = (0.0, share) if split else (share, 0.0)
    items, _ = read_items(tmp_path, tmp_path / "t.tsv", shares[0], columns, shares[1])
    assert {item.split for item in items} == {"train", "val"}


FOLDER = {"recipe": "folder", "val_share": 0.1}
INTERNVID = {"recipe": "internvid", "val_share": 0.1}


@pytest.mark.parametrize(
    ("recipe", "rows", "way"),
    [
        (FOLDER, [row("a.mp4")], "prepare more clips, because one alone cannot be divided"),
        (FOLDER | {"group_column": "who"}, [row("a"), row("b")], "prepare again with --split-column NAME, "),
        (
            FOLDER | {"group_column": "who", "split_column": "part"},
            [row("a", who="x"), row("b", who="x")],
            "prepare again with val in the column part for some clips",
        ),
        (INTERNVID, [row("a", youtube_id="x"), row("b", youtube_id="x")], "prepare clips of more videos, "),
        ({"recipe": "sprites", "splits": ["train", "heldout"]}, [row("a")], "again with --split train heldout val"),
        ({"recipe": "msrvtt", "split": "9k"}, [row("a")], "prepare again with --split official, because the split 9k"),
        ({"recipe": "msrvtt", "split": "official"}, [row("a")], "add videos of that split to --videos"),
        ({"recipe": "join", "sets": {}}, [row("a"), row("b")], "join folders of which one has clips of that split"),
        ({"recipe": "augment"}, [row("a"), row("b")], "augment a folder that has clips of that split"),
        ({"recipe": "of_an_extension", "val_share": 0.1}, [row("a"), row("b")], "so that some clips are of that split"),
        (None, [row("a"), row("b")], "so that some clips are of that split"),
    ],
)
def test_a_recipe_without_the_option_is_not_told_to_use_it(recipe: object, rows: list[ClipRow], way: str):
    told = way_to_val(recipe, rows)
    assert way in told and "--val" not in told


def test_the_videos_of_internvid_decide(tmp_path: Path):
    rows = [row(f"{number}", youtube_id=f"v{number // 2}") for number in range(8)]
    share = given(way_to_val(INTERNVID, rows), "again with --val-share")
    assert {split_of(f"v{number}", share) for number in range(4)} == {"train", "val"}


def test_the_advice_for_sprites_works(tmp_path: Path, capsys):
    how = ("sprites", "--num-clips", 2, "--num-frames", 4, "--size-px", 16, "--out", tmp_path / "out")
    assert run(*how) == 0
    assert "prepare again with --split train val." in capsys.readouterr().err
    assert run(*how, "--split", "train", "val") == 0
    assert "no clip is of the split val" not in capsys.readouterr().err


def sizes_of(out: Path, recipe: dict[str, object], splits: dict[tuple[int, int], str]) -> Path:
    for (height, width), split in splits.items():
        how = {"size_px": 16, "size": (height, width), "fps": 8, "mode": "crop", "recipe": recipe}
        with StoreWriter(out / f"{height}x{width}", **how) as writer:
            frames = np.zeros((4, height, width, 3), np.uint8)
            for number in range(2):
                about = {"source_width": 8, "source_height": 8, "source_fps": 8}
                writer.add(f"{height}-{number}.mp4", frames, ["words"], split, **about)
            writer.finish()
    return out


def test_of_several_sizes_one_with_val_is_enough_and_the_advice_is_for_all(tmp_path: Path, capsys):
    out = sizes_of(tmp_path / "in", {}, {(16, 16): "train", (16, 32): "val"})
    assert run("join", out, "--out", tmp_path / "joined") == 0
    said = capsys.readouterr().err
    assert "no clip is of the split val" not in said and "2 training clips are few" in said
    sizes_of(tmp_path / "train", FOLDER, {(16, 16): "train", (32, 16): "train"})
    data = FolderData(kind="folder", path=str(tmp_path / "train"), size_px=16, sizes=["16x16", "32x16"])
    with pytest.raises(UserError, match="no clips of the split 'val' in any size; prepare again with --val-share 0"):
        _stored(data, "val")
    sizes_of(tmp_path / "val", FOLDER, {(16, 16): "val", (32, 16): "val"})
    data = FolderData(kind="folder", path=str(tmp_path / "val"), size_px=16, sizes=["16x16", "32x16"])
    with pytest.raises(UserError, match="no clips of the split 'train' in any size; prepare more clips$"):
        _stored(data, "train")
