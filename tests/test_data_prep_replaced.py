"""A run that fails leaves the earlier result as it was, and its reasons can be read."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from video_files import moving_bar, write_clip

from cdcd_video.data import store_places
from cdcd_video.data.store import StoredClips
from cdcd_video.data.store_writer import StoreWriter
from cdcd_video.errors import UserError, exit_code
from data_prep.__main__ import main
from data_prep.prepare import Plan, Settings, prepare

SIZES = ["32x32", "32x48"]


def run(*words: object) -> int:
    return exit_code(lambda: main([str(word) for word in words]))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def add_clip(folder: Path, name: str) -> None:
    write_clip(folder / f"{name}.mp4", moving_bar(16)[:, :, :48], fps=8)
    (folder / f"{name}.txt").write_text(f"a bar moves right, {name}")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        add_clip(folder, name)
    write_clip(folder / "wide.mp4", np.full((16, 64, 96, 3), 128, np.uint8), fps=8)
    (folder / "wide.txt").write_text("a grey field")
    return folder


def reasons(file: Path) -> list[str]:
    return [json.loads(line)["reason"] for line in file.read_text().splitlines()]


def test_a_run_without_a_usable_clip_leaves_the_earlier_folder(source: Path, tmp_path: Path, capsys):
    how, out = ("folder", source, "--size-px", 32, "--workers", 1, "--out"), tmp_path / "out"
    assert run(*how, out) == 0
    before = content(out)
    assert "sheet.png" in before and "frames-00000.npy" in before
    capsys.readouterr()
    assert run(*how, out, "--min-frames", 1000) == 2
    told, file = capsys.readouterr().err.splitlines()[-1], tmp_path / "out.part" / "rejected.jsonl"
    assert "none of 4 clips could be used (the first: it is too short: 16 frames" in told
    assert f"see {file}; {out} stays as it was" in told
    assert content(out) == before
    assert len(reasons(file)) == 4 and os.listdir(file.parent) == [file.name]
    assert run(*how, out) == 0 and "was left unfinished" not in capsys.readouterr().err
    assert content(out) == before and not file.parent.exists()


def test_none_of_several_sizes_is_replaced_by_a_run_without_a_usable_clip(source: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    how = ("folder", source, "--size-px", 32, "--sizes", *SIZES, "--workers", 1, "--out", out)
    assert run(*how) == 0
    before = content(out)
    assert {"32x32/frames-00000.npy", "32x48/frames-00000.npy"} <= before.keys()
    capsys.readouterr()
    assert run(*how, "--min-frames", 1000) == 2
    told, file = capsys.readouterr().err.splitlines()[-1], out / "32x32.part" / "rejected.jsonl"
    assert f"see {file}; {out / '32x32'} and {out / '32x48'} stay as they were" in told
    assert len(reasons(file)) == 4
    assert content(out) == before | {"32x32.part/rejected.jsonl": file.read_bytes()}
    assert run(*how) == 0 and content(out) == before


def test_without_an_earlier_folder_the_reasons_are_there_and_mended_videos_are_read(tmp_path: Path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"")
    (folder / "a.txt").write_text("words")
    how = ("folder", folder, "--size-px", 32, "--workers", 1, "--val-share", 0, "--out", out)
    for _ in range(2):
        assert run(*how) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert told.endswith(f"; see {tmp_path / 'out.part' / 'rejected.jsonl'}") and "empty" in told
        assert len(reasons(tmp_path / "out.part" / "rejected.jsonl")) == 1 and not out.exists()
    add_clip(folder, "a")  # the same names and captions, so the same recipe: the refusal must not be taken for done
    (folder / "a.txt").write_text("words")
    assert run(*how) == 0 and len(StoredClips(out)) == 1
    assert "was left unfinished" not in capsys.readouterr().err


def test_a_plan_of_nothing_is_one_sentence(source: Path, tmp_path: Path):
    settings = Settings(tmp_path / "out", 32, None, 8.0, "crop", 1, None, "off", 1, 60.0)
    with pytest.raises(UserError, match="the recipe found no clips"):
        prepare(Plan([], settings, {}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.fixture
def several(source: Path, tmp_path: Path) -> Path:
    """A prepared folder for each of two sizes, of which the second will turn out to be damaged."""
    out = tmp_path / "several"
    options = ("--size-px", 32, "--sizes", *SIZES, "--workers", 1, "--val-share", 0)
    assert run("folder", source, "--out", out, *options) == 0
    return out


@pytest.mark.parametrize("recipe", ["join", "augment"])
def test_a_damaged_size_keeps_the_earlier_result_of_every_size(several: Path, tmp_path: Path, recipe: str, capsys):
    out = tmp_path / "made"
    assert run(recipe, several, "--out", out) == 0
    before = content(out)
    changed = tmp_path / "changed" / several.name
    shutil.copytree(several, changed)
    array = changed / "32x48" / "frames-00000.npy"
    array.write_bytes(array.read_bytes()[:-1] + b"\x01")
    stamps = {path: path.stat().st_ino for path in out.rglob("*")}  # the bytes alone would be the same again
    assert run(recipe, changed, "--out", out) == 2
    assert "does not match its recorded hash" in capsys.readouterr().err
    assert {path: path.stat().st_ino for path in out.rglob("*") if ".part" not in str(path)} == stamps
    assert {name: held for name, held in content(out).items() if ".part" not in name} == before


def writer(folder: Path, grey: int) -> StoreWriter:
    made = StoreWriter(folder, size_px=8, fps=8, mode="crop", recipe={"grey": grey})
    frames = np.full((3, 8, 8, 3), grey, np.uint8)
    made.add("c", frames, ["grey"], "train", source_width=8, source_height=8, source_fps=8)
    return made


def test_a_disk_that_refuses_one_of_several_folders_leaves_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in "ab":
        writer(tmp_path / name, 10).finish()
    before = content(tmp_path)
    replace = os.replace

    def refusing(start: Path, end: Path) -> None:
        if Path(start).name == "b.part":
            raise OSError(5, "Input/output error")
        replace(start, end)

    monkeypatch.setattr(store_places.os, "replace", refusing)
    begun = [writer(tmp_path / name, 20) for name in "ab"]
    for one in begun:
        one.complete()
    with pytest.raises(UserError, match="cannot write .*b: Input/output error"):
        store_places.put_in_place([(one.part, one.folder) for one in begun])
    now = content(tmp_path)
    assert {name: held for name, held in now.items() if ".part" not in name} == before
    monkeypatch.undo()
    with StoreWriter(tmp_path / "a", size_px=8, fps=8, mode="crop", recipe={"grey": 20}) as again:
        assert again.done == {"c"}  # what was done is not lost
        again.finish()
    assert content(tmp_path / "a")["frames-00000.npy"][-1] == 20 and "recipe.json" not in content(tmp_path / "a")


def test_a_rest_of_the_replacing_is_no_foreign_file(tmp_path: Path):
    writer(tmp_path / "a", 10).finish()
    (tmp_path / "a" / store_places.RECIPE).write_text("{}")  # as a process leaves it that is killed at that moment
    writer(tmp_path / "a", 20).finish()
    assert store_places.RECIPE not in content(tmp_path / "a")
