"""`python -m data_prep msrvtt`: layouts in the wild, splits, what is missing, and the true files where they are."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from video_files import grey_steps, write_clip

from cdcd_video.data.store import StoredClips
from cdcd_video.data.store_writer import StoreWriter
from cdcd_video.errors import UserError, exit_code
from data_prep import packed
from data_prep.__main__ import main
from data_prep.items import one_line
from data_prep.msrvtt_annotations import CATEGORIES, Annotations, read_annotations
from data_prep.msrvtt_splits import PIECES, Files, assign, find_files
from data_prep.packed import Packed, find
from data_prep.tables import ranges

TRAIN_VAL, TEST = PIECES


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    """Ten grey frames in a file."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", grey_steps(10)).read_bytes()


def video(number: int, split: str, **other: object) -> dict:
    times = {"start time": 1.5, "end time": 12.0, "url": "https://www.youtube.com/watch?v=x"}
    return {"category": number % 20, "video_id": f"video{number}", "split": split, "id": number, **times, **other}


def sentence(number: int, caption: object) -> dict:
    return {"caption": caption, "video_id": f"video{number}", "sen_id": number}


def annotation(videos: list, sentences: list) -> str:
    return json.dumps({"info": {"year": "2016"}, "videos": videos, "sentences": sentences})


def write_annotations(folder: Path) -> Path:
    """Four videos in two files, as in 2016: two for training, one of each other part."""
    folder.mkdir(parents=True)
    first = [video(0, "train"), video(1, "train"), video(2, "validate")]
    said = [
        sentence(1, " a man  is singing "),
        sentence(0, "saut\u00e9ed  \u2019Quoted\u2019 A, b"),
        sentence(1, "again"),
        sentence(1, "again"),
        sentence(2, "three"),
    ]
    (folder / TRAIN_VAL).write_text(annotation(first, said))
    (folder / TEST).write_text(annotation([video(7010, "test")], [sentence(7010, "four")]))
    return folder


def write_videos(folder: Path, clip: bytes, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(clip)
    return folder


def run(annotations: Path, videos: Path, *options: str) -> int:
    arguments = ["msrvtt", "--annotations", str(annotations), "--videos", str(videos), *options]
    return exit_code(lambda: main(arguments))


def prepare(annotations: Path, videos: Path, out: Path, *options: str) -> int:
    return run(annotations, videos, "--out", str(out), "--size-px", "16", "--workers", "1", *options)


def rows_of(out: Path, name: str = "clips.jsonl") -> dict[str, dict]:
    return {row["id"]: row for row in map(json.loads, (out / name).read_text(encoding="utf-8").splitlines())}


def content(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# ----------------------------------------------------------------------------------------------- the prepared folder


@pytest.fixture(scope="module")
def prepared(clip, tmp_path_factory) -> Path:
    """A folder made of all four videos, one of them damaged, beside what belongs to nothing."""
    root = tmp_path_factory.mktemp("msrvtt")
    annotations = write_annotations(root / "annotations")
    videos = write_videos(root / "videos", clip, "all/video0.mp4", "all/video1.MP4", "test/deep/video7010.webm")
    write_videos(videos, clip[:300], "all/video2.mp4")
    write_videos(videos, clip, "all/video77.mp4", "zzz/video0.mp4")
    assert prepare(annotations, videos, root / "out") == 0
    return root


def test_videos_of_any_folder_get_their_captions_split_and_category(prepared):
    rows = rows_of(prepared / "out")
    assert {name: (row["split"], row["captions"]) for name, row in rows.items()} == {
        "video0": ("train", ["saut\u00e9ed \u2019Quoted\u2019 A, b"]),
        "video1": ("train", ["a man is singing", "again", "again"]),
        "video7010": ("test", ["four"]),
    }
    assert rows["video1"]["about"] == {"category": 1, "category_name": "people"}
    assert rows["video7010"]["source"] == "test/deep/video7010.webm"
    assert rows["video0"]["source"] == "all/video0.mp4"
    clips = StoredClips(prepared / "out", "train")
    assert clips.rows[0].about["category_name"] == "music"
    assert clips.num_frames(0) == 10


def test_the_manifest_names_the_exact_subset(prepared):
    """What came out, not what was listed: the damaged video2 is in no subset."""
    manifest = json.loads((prepared / "out" / "manifest.json").read_text())
    hashed = hashlib.sha256(b"video0\nvideo1\n").hexdigest()
    assert manifest["subset"] == {
        "test": {"num_clips": 1, "ids_sha256": hashlib.sha256(b"video7010\n").hexdigest(), "ids": ["video7010"]},
        "train": {"num_clips": 2, "ids_sha256": hashed, "ids": ["video0", "video1"]},
    }
    assert "corrupt" in rows_of(prepared / "out", "rejected.jsonl")["video2"]["reason"]
    recipe = manifest["recipe"]
    assert (recipe["recipe"], recipe["split"]) == ("msrvtt", "official")
    assert recipe["files_sha256"] == {
        name: hashlib.sha256((prepared / "annotations" / name).read_bytes()).hexdigest() for name in PIECES
    }
    assert str(prepared) not in (prepared / "out" / "manifest.json").read_text()


def test_a_shell_finds_the_hash_of_the_ids(prepared):
    """As documented: sorted lines of ids through sha256sum."""
    ids = "".join(f"{name}\n" for name, row in rows_of(prepared / "out").items() if row["split"] == "train")
    command = "LC_ALL=C sort | sha256sum"
    told = subprocess.run(["sh", "-c", command], input=ids, capture_output=True, text=True, check=True).stdout.split()[
        0
    ]
    assert told == json.loads((prepared / "out" / "manifest.json").read_text())["subset"]["train"]["ids_sha256"]


def test_what_is_known_of_a_clip_survives_an_interruption(tmp_path):
    def writer() -> StoreWriter:
        return StoreWriter(tmp_path / "out", size_px=8, fps=8, mode="crop", recipe={})

    frames = grey_steps(2, size=8)
    with writer() as first:
        for name, about in (("a", {"category": 3}), ("b", None)):
            first.add(name, frames, ["x"], "train", source_width=8, source_height=8, source_fps=8, about=about)
    before = (tmp_path / "out.part" / "clips.jsonl").read_bytes()
    with writer() as second:
        assert second.done == {"a", "b"}
        second.finish()
    assert (tmp_path / "out" / "clips.jsonl").read_bytes() == before
    assert [row.about for row in StoredClips(tmp_path / "out").rows] == [{"category": 3}, {}]
    assert b'"about"' not in before.splitlines()[1]  # folders of recipes that know nothing more stay as they were


# ---------------------------------------------------------------------------------------- what is there, what is not


def test_check_only_prints_a_table_and_writes_nothing(prepared, capsys):
    before = content(prepared)
    assert run(prepared / "annotations", prepared / "videos", "--check-only") == 0
    shown = capsys.readouterr().out
    table = [line.split() for line in shown.splitlines() if line.startswith(("train ", "val ", "test "))]
    assert table == [
        ["train", "6,513", "2", "2", "4", "2", "0"],
        ["val", "497", "1", "1", "1", "1", "0"],
        ["test", "2,990", "1", "1", "1", "1", "0"],
    ]
    assert "train: 6,511 of the published 6,513 are in none of these files" in shown
    assert "videos that no annotation names: video77" in shown
    assert "1 videos with the same name as one in an earlier folder are left out" in shown
    assert content(prepared) == before


def test_a_missing_test_split_is_reported_and_skipped(tmp_path, clip, capsys):
    """The copy on Kaggle: neither test videos nor their annotations."""
    annotations = write_annotations(tmp_path / "annotations")
    (annotations / TEST).unlink()
    videos = write_videos(tmp_path / "videos", clip, "video0.mp4", "video2.mp4")
    assert prepare(annotations, videos, tmp_path / "out") == 0
    told = capsys.readouterr()
    assert f"not found: {TEST}" in told.err
    assert "test: no videos, as in the copy on Kaggle" in told.err
    assert "test: 2,990 of the published 2,990 are in none of these files" in told.err
    assert "train: no file for video1" in told.err
    assert "2 clips (1 train, 1 val)" in told.out
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {split: told["ids"] for split, told in manifest["subset"].items()} == {
        "train": ["video0"],
        "val": ["video2"],
    }
    assert manifest["num_rejected"] == 0  # what is not there was never refused


def test_videos_without_captions_are_reported_and_left_out(tmp_path, clip, capsys):
    """As in test_videodatainfo_nosen.json of 2017 and in translations of a part."""
    annotations = tmp_path / "a.json"
    annotations.write_text(annotation([video(0, "train"), video(9, "test")], [sentence(0, "x")]))
    videos = write_videos(tmp_path / "videos", clip, "video0.mp4", "video9.mp4")
    assert prepare(annotations, videos, tmp_path / "out") == 0
    assert "test: no caption for video9" in capsys.readouterr().err
    assert list(rows_of(tmp_path / "out")) == ["video0"]


def test_no_video_at_all_is_one_sentence(tmp_path, capsys):
    annotations = write_annotations(tmp_path / "annotations")
    (tmp_path / "videos").mkdir()
    assert prepare(annotations, tmp_path / "videos", tmp_path / "out") == 2
    assert "no video of the split official" in capsys.readouterr().err.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations", "videos"]


def test_rows_that_point_elsewhere_are_rejected_with_the_reason(tmp_path, clip):
    hostile = ["../outside", "/etc/passwd", "a/b", "a\\b", "C:\\x", "..", "x\0y", "x" * 300, "", None, 7]
    videos = [video(0, "train"), *(video(1, "train", video_id=name) for name in hostile), "no object"]
    videos += [video(0, "train"), video(3, "sometimes"), video(1, "train", video_id="../outside")]
    said = [
        sentence(0, "x"),
        sentence(0, ""),
        sentence(0, 5),
        3,
        sentence(0, "y"),
        sentence(55, "z"),
        sentence(55, "z"),
    ]
    said += [{"video_id": "../outside", "caption": "not told twice"}]
    (tmp_path / "a.json").write_text(annotation(videos, said))
    folder = write_videos(tmp_path / "videos", clip, "video0.mp4", "video3.mp4", "a/b.mp4")
    write_videos(tmp_path, clip, "outside.mp4")
    assert prepare(tmp_path / "a.json", folder, tmp_path / "out") == 0
    assert {name: row["captions"] for name, row in rows_of(tmp_path / "out").items()} == {"video0": ["x", "y"]}
    reasons = {name: row["reason"] for name, row in rows_of(tmp_path / "out", "rejected.jsonl").items()}
    expected = {
        "../outside": "path separator",
        "/etc/passwd": "absolute path",
        "a/b": "path separator",
        "a\\b": "path separator",
        "C:\\x": "absolute path",
        "..": "path separator",
        "x\0y": "not a valid file name",
        "x" * 300: "not a valid file name",
        "videos[9] of a.json": "no video id",
        "videos[10] of a.json": "no video id",
        "videos[11] of a.json": "no video id",
        "videos[12] of a.json": "no video id",
        "videos[13] of a.json": "video0 occurs twice",
        "videos[15] of a.json": "path separator",
        "video3": "its split is not",
        "sentences[1] of a.json": "needs a video_id and a caption",
        "sentences[2] of a.json": "needs a video_id and a caption",
        "sentences[3] of a.json": "needs a video_id and a caption",
        "sentences[5] of a.json": "refers to 'video55'",
    }
    assert set(reasons) == set(expected)
    for name, reason in expected.items():
        assert reason in reasons[name], name


def test_a_link_out_of_the_folder_is_refused(tmp_path, clip):
    annotations = write_annotations(tmp_path / "annotations")
    write_videos(tmp_path, clip, "outside.mp4")
    videos = write_videos(tmp_path / "videos", clip, "video0.mp4")
    (videos / "video1.mp4").symlink_to(tmp_path / "outside.mp4")
    assert prepare(annotations, videos, tmp_path / "out") == 0
    assert rows_of(tmp_path / "out", "rejected.jsonl")["video1"]["reason"] == "its path points outside the folder"


# ------------------------------------------------------------------------------------------------------- the splits


def test_the_retrieval_splits(tmp_path, clip):
    """9k trains on all that the list does not test; 7k on the official train and validate; both test the list's pairs."""
    annotations = tmp_path / "a"
    annotations.mkdir()
    videos = [video(0, "train"), video(1, "val"), video(7010, "test"), video(7011, "test"), video(7012, "test")]
    said = [sentence(row["id"], f"caption {row['id']}") for row in videos]
    (annotations / "videodatainfo_2017.json").write_text(annotation(videos, said))
    pair = 'ret0,msr7011,video7011," the  pair, it is"'
    (annotations / "MSRVTT_JSFUSION_test.csv").write_text(f"key,vid_key,video_id,sentence\n{pair}\n")
    expected = {"test": {"video7011": ("the pair, it is",)}}
    files = find_files([annotations])
    read = read_annotations(files.annotations)
    assert assign("9k", read, files) == (
        {"train": {f"video{n}": (f"caption {n}",) for n in (0, 1, 7010, 7012)}, **expected},
        [],
    )
    assert assign("7k", read, files) == ({"train": {f"video{n}": (f"caption {n}",) for n in (0, 1)}, **expected}, [])
    (annotations / "MSRVTT_train.9k.csv").write_text("video_id\nvideo1\nvideo8000\n../x\n")
    parts, bad = assign("9k", read, find_files([annotations]))
    assert parts["train"] == {"video1": ("caption 1",), "video8000": ()}
    assert [(item.name, item.refusal) for item in bad] == [
        ("line 4 of MSRVTT_train.9k.csv: ../x", "its id contains a path separator")
    ]
    assert assign("7k", read, find_files([annotations]))[0]["train"].keys() == {"video0", "video1"}
    own = tmp_path / "own.csv"
    own.write_text("video_id\nvideo0\n")
    assert assign("7k", read, find_files([annotations, own]))[0]["train"].keys() == {"video0"}
    out = tmp_path / "out"
    folder = write_videos(tmp_path / "videos", clip, "video0.mp4", "video7010.mp4", "video7011.mp4")
    assert prepare(annotations, folder, out, "--split", "7k") == 0
    assert {name: (row["split"], row["captions"]) for name, row in rows_of(out).items()} == {
        "video0": ("train", ["caption 0"]),
        "video7011": ("test", ["the pair, it is"]),
    }
    recipe = json.loads((out / "manifest.json").read_text())["recipe"]
    assert sorted(recipe["files_sha256"]) == ["MSRVTT_JSFUSION_test.csv", "videodatainfo_2017.json"]


def test_a_file_that_calls_everything_train_is_not_believed(tmp_path, capsys):
    """CLIP4Clip's MSRVTT_data.json: believed, it would train on what is tested."""
    everything = [video(number, "train") for number in range(10_000)]
    said = [sentence(number, "x") for number in (0, 6512, 6513, 7009, 7010, 9999)]
    zipped(tmp_path / "msrvtt_data.zip", {"msrvtt_data/MSRVTT_data.json": annotation(everything, said)})
    files = find_files([tmp_path])
    read = read_annotations(files.annotations)
    parts, _ = assign("official", read, files)
    assert {part: (*list(split)[:1], *list(split)[-1:]) for part, split in parts.items()} == {
        "train": ("video0", "video6512"),
        "val": ("video6513", "video7009"),
        "test": ("video7010", "video9999"),
    }
    files.test_list = Packed(tmp_path / "pairs.csv")
    files.test_list.path.write_text("video_id,sentence\nvideo9999,x\n")
    assert len(assign("7k", read, files)[0]["train"]) == 7010
    assert run(tmp_path / "msrvtt_data.zip", tmp_path, "--check-only") == 0
    assert "the splits are taken from the ids instead" in capsys.readouterr().out
    (tmp_path / "own.json").write_text(annotation([*everything, video(0, "train", video_id="mine")], []))
    assert not read_annotations([Packed(tmp_path / "own.json")]).is_relabelled  # not MSR-VTT's ids: left as it is


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lists_come_with_commas_or_semicolons_and_any_line_ends(tmp_path, newline, delimiter, mark):
    rows = [
        ["key", "vid_key", "video_id", "sentence"],
        ["ret0", "msr1", "video1", "a cat"],
        ["ret1", "m", "video2", "a person", " a box and a dog", ' are "moving"'],
        ["ret2", "m", "video5", '"broken'],
    ]
    text = mark + newline.join(delimiter.join(row) for row in rows)
    (tmp_path / "pairs.csv").write_bytes(text.encode())
    (tmp_path / "train.csv").write_bytes((mark + newline.join(["video_id", "video3", "video4", ""])).encode())
    (tmp_path / "a.json").write_text(annotation([], []))
    files = find_files([tmp_path / name for name in ("a.json", "pairs.csv", "train.csv")])
    parts, bad = assign("9k", Annotations(), files)
    whole = delimiter.join(["a person", " a box and a dog", ' are "moving"'])
    assert parts == {"train": {"video3": (), "video4": ()}, "test": {"video1": ("a cat",), "video2": (whole,)}}
    assert [item.name for item in bad] == ["line 4 of pairs.csv: video5"]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zip"])
def test_annotations_that_are_a_pipe_are_refused(tmp_path, suffix):
    os.mkfifo(tmp_path / f"{TEST}{suffix}")
    with pytest.raises(UserError, match="is a named pipe, not a file"):
        read_annotations(find_files([tmp_path]).annotations)


@pytest.mark.parametrize(
    ("files", "options", "sentence"),
    [
        ({}, [], "no annotation file of MSR-VTT"),
        ({TEST: "{"}, [], "not JSON"),
        ({TEST: "[" * 100_000}, [], "not JSON"),
        ({TEST: "[]"}, [], "has no lists videos and sentences"),
        ({TEST: '{"videos": [], "sentences": {}}'}, [], "has no lists videos and sentences"),
        ({TEST: b"\xff\xfe\xff"}, [], "not JSON"),
        ({TEST: annotation([], [])}, ["--split", "9k"], "needs MSRVTT_JSFUSION_test.csv"),
        ({TEST: annotation([], []), "MSRVTT_JSFUSION_test.csv": "a,b\n"}, ["--split", "9k"], "needs columns named"),
        (
            {
                TEST: annotation([], []),
                "MSRVTT_JSFUSION_test.csv": "video_id,sentence\nvideo1,x\n",
                "MSRVTT_train.7k.csv": "video_id\nvideo1\n",
            },
            ["--split", "7k"],
            "video1 and 0 more are both in",
        ),
        ({TEST: annotation([video(1, "test")], []), TRAIN_VAL: annotation([video(1, "train")], [])}, [], "only one of"),
        ({f"{TEST}.gz": b"\x1f\x8bno"}, [], "get another copy"),
        ({f"{TEST}.zip": b"PK\x03\x04no"}, [], "not a zip archive, or is damaged"),
    ],
)
def test_annotations_that_cannot_be_used_are_one_sentence(tmp_path, capsys, files, options, sentence):
    (tmp_path / "a").mkdir()
    for name, text in files.items():
        (tmp_path / "a" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert run(tmp_path / "a", tmp_path, "--check-only", *options) == 2
    message = capsys.readouterr().err.splitlines()
    assert len(message) == 1
    assert sentence in message[0]


def test_folders_that_are_not_there_and_a_missing_out_are_named(tmp_path, capsys):
    annotations = write_annotations(tmp_path / "a")
    for arguments, sentence in (
        ((tmp_path / "nothing", tmp_path, "--check-only"), "nothing does not exist"),
        ((annotations, tmp_path / "nothing", "--check-only"), "folder of videos"),
        ((annotations, tmp_path), "name it with --out"),
    ):
        assert run(*arguments) == 2
        assert sentence in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------- packed files


def zipped(path: Path, members: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_annotations_may_be_packed(tmp_path, clip):
    plain = write_annotations(tmp_path / "plain")
    packed_folder = tmp_path / "packed"
    packed_folder.mkdir()
    members = {f"train_val_annotation/{TRAIN_VAL}": (plain / TRAIN_VAL).read_bytes(), "readme.txt": "hello"}
    zipped(packed_folder / "train_val_annotation.ZIP", members)
    (packed_folder / f"{TEST.upper()}.gz").write_bytes(gzip.compress((plain / TEST).read_bytes()))
    videos = write_videos(tmp_path / "videos", clip, "video0.mp4", "video7010.mp4")
    for name, places in (("of_plain", plain), ("of_packed", packed_folder)):
        assert prepare(places, videos, tmp_path / name) == 0
    assert rows_of(tmp_path / "of_plain") == rows_of(tmp_path / "of_packed")
    assert find_files([packed_folder / "train_val_annotation.ZIP"]).annotations[0].name == TRAIN_VAL
    assert sorted(path.name for path in packed_folder.iterdir()) == [f"{TEST.upper()}.gz", "train_val_annotation.ZIP"]


def test_a_whole_file_stands_in_for_half_of_a_pair(tmp_path):
    whole = annotation([video(0, "train"), video(9, "test")], [])
    folder = write_annotations(tmp_path / "a")
    (folder / "videodatainfo_2017.json").write_text(whole)
    assert [file.name for file in find_files([folder]).annotations] == list(PIECES)
    (folder / TEST).unlink()
    assert [file.name for file in find_files([folder]).annotations] == ["videodatainfo_2017.json"]


def test_copies_of_one_file_must_be_equal(tmp_path):
    folder = write_annotations(tmp_path / "a")
    zipped(folder / "z.zip", {TEST: (folder / TEST).read_bytes()})
    assert find_files([folder]).annotations[1] == Packed(folder / TEST)  # plain before packed
    zipped(folder / "z.zip", {TEST: annotation([], [])})
    with pytest.raises(UserError, match="two different files test_videodatainfo.json"):
        find_files([folder])


@pytest.mark.parametrize("member", ["../x.json", "a/../../x", "/etc/passwd", "C:\\x", "..\\x"])
def test_an_archive_that_points_outside_is_refused(tmp_path, member):
    zipped(tmp_path / "z.zip", {TEST: annotation([], []), member: "x"})
    with pytest.raises(UserError, match="points outside the archive"):
        find([tmp_path], [TEST])
    zipped(tmp_path / "z.zip", {"other.json": "x", member: "x"})
    assert find([tmp_path], [TEST]) == {}  # nobody wants anything of it


def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "MOST_BYTES", 10_000)
    bomb = bytes(10_001)
    zipped(tmp_path / "z.zip", {TEST: bomb})
    (tmp_path / "z.json.gz").write_bytes(gzip.compress(bomb))
    (tmp_path / "z.json").write_bytes(bomb)
    lying = bytearray((tmp_path / "z.zip").read_bytes())
    for place in range(len(lying) - 4):
        if lying[place : place + 4] == len(bomb).to_bytes(4, "little"):
            lying[place : place + 4] = (100).to_bytes(4, "little")
    (tmp_path / "lying.zip").write_bytes(lying)
    for file, sentence in (
        (Packed(tmp_path / "z.zip", TEST), "more than 10,000 bytes"),
        (Packed(tmp_path / "z.json.gz"), "more than 10,000 bytes"),
        (Packed(tmp_path / "z.json"), "more than 10,000 bytes"),
        (Packed(tmp_path / "lying.zip", TEST), "damaged"),
    ):
        with pytest.raises(UserError, match=sentence):
            file.read()
    fits = bytes(10_000)
    zipped(tmp_path / "z.zip", {TEST: fits})
    assert Packed(tmp_path / "z.zip", TEST).read() == fits


def test_an_encrypted_archive_is_named(tmp_path):
    archive = bytearray(zipped(tmp_path / "z.zip", {TEST: "x"}).read_bytes())
    archive[6] |= 1  # the flag in the member's own header,
    archive[archive.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    (tmp_path / "z.zip").write_bytes(archive)
    with pytest.raises(UserError, match="is encrypted"):
        Packed(tmp_path / "z.zip", TEST).read()


def test_consecutive_ids_are_joined():
    names = [f"video{number}" for number in (12, 3, 7, 8, 9, 10)]
    assert ranges(names) == "video3, video7-video10, video12"
    assert ranges(names, most=1) == "video3, ... (5 more)"
    assert ranges(["b", "a", "a1", "a2"]) == "a, a1-a2, b"


# -------------------------------------------------------------------------------------------------- the true files


@pytest.fixture(scope="module")
def true_files(shared_dir) -> tuple[Files, Annotations]:
    files = find_files([shared_dir / "data" / "msrvtt"])
    return files, read_annotations(files.annotations)


@pytest.fixture(scope="module")
def true_rows(true_files) -> tuple[dict[str, dict], dict[str, list[str]]]:
    """The rows of the true videos and their captions, read without the code under test."""
    videos, captions = {}, {}
    for file in true_files[0].annotations:
        with zipfile.ZipFile(file.path) as archive:
            raw = json.loads(archive.read(file.member))
        videos |= {row["video_id"]: row for row in raw["videos"]}
        for row in raw["sentences"]:
            captions.setdefault(row["video_id"], []).append(row["caption"])
    return videos, captions


PER_CATEGORY = {
    "train": "482 157 308 713 331 183 205 676 211 525 374 172 225 415 360 104 430 212 324 106",
    "val": "25 16 24 71 24 17 17 42 10 46 29 16 21 28 27 8 28 20 17 11",
    "test": "226 79 141 324 137 74 77 301 122 244 173 75 139 170 171 47 185 110 137 58",
}
"""Videos of each category, counted in the published files by other means."""


@pytest.mark.shared
def test_true_annotations_are_read_with_every_count_right(true_files, shared_dir):
    files, read = true_files
    assert [str(file.member) for file in files.annotations] == list(PIECES)
    parts, bad = assign("official", read, files)
    assert (bad, read.refused, read.is_relabelled) == ([], [], False)
    assert {part: len(split) for part, split in parts.items()} == {"train": 6513, "val": 497, "test": 2990}
    count = {part: sum(map(len, split.values())) for part, split in parts.items()}
    assert (count["train"] + count["val"], count["test"]) == (140_200, 59_800)
    assert {len(video.captions) for video in read.videos.values()} == {20}
    assert [f"video{number}" for number in range(10_000)] == list(read.videos)
    for part, numbers in PER_CATEGORY.items():
        found = Counter(read.videos[name].category for name in parts[part])
        assert [found[category] for category in range(20)] == list(map(int, numbers.split())), part
    table = (shared_dir / "data" / "msrvtt" / "category.txt").read_text().splitlines()
    assert {int(number): name for name, number in (row.split("\t") for row in table)} == dict(enumerate(CATEGORIES))


@pytest.mark.shared
def test_true_captions_lose_stray_spaces_and_nothing_else(true_files, true_rows):
    _, read = true_files
    changed = 0
    for name, captions in true_rows[1].items():
        for before, after in zip(captions, read.videos[name].captions, strict=True):
            assert after.split(" ") == [word for word in before.split(" ") if word]
            changed += before != after
    assert changed == 4533
    kept = [caption for video in read.videos.values() for caption in video.captions if not caption.isascii()]
    assert len(kept) == 10
    assert any(caption.startswith("\u0432eautiful girl") for caption in read.videos["video7851"].captions)


@pytest.mark.shared
def test_true_lists_give_the_retrieval_splits(true_files, true_rows):
    files, read = true_files
    nine, _ = assign("9k", read, files)
    seven, _ = assign("7k", read, files)
    assert (len(nine["train"]), len(nine["test"]), len(seven["train"])) == (9000, 1000, 7010)
    assert nine["test"] == seven["test"]
    assert {len(captions) for captions in nine["test"].values()} == {1}
    assert not nine["train"].keys() & nine["test"].keys()
    assert seven["train"].keys() == {f"video{number}" for number in range(7010)}
    assert sum(len(captions) for captions in seven["train"].values()) == 140_200
    without = Files(files.annotations, files.test_list)
    assert assign("9k", read, without)[0] == nine  # the list is what the other two files imply
    strangers = [name for name, (said,) in nine["test"].items() if said not in read.videos[name].captions]
    assert len(strangers) == 12
    url = {name: row["url"] for name, row in true_rows[0].items()}
    for parts, official, shared in ((nine, 1990, 372), (seven, 0, 0)):
        assert sum(read.videos[name].split == "test" for name in parts["train"]) == official
        trained_on = {url[name] for name in parts["train"]}
        assert sum(url[name] in trained_on for name in parts["test"]) == shared


@pytest.mark.shared
def test_the_page_of_data_is_right_about_the_true_files(true_files, true_rows):
    """docs/data.md: sizes, hashes, seconds."""
    files, _ = true_files
    page = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    for file in files.used("9k"):
        assert f"| `{file.name}` | {len(file.read()):,} | `{file.sha256()}` |" in page
    seconds = sum(row["end time"] - row["start time"] for row in true_rows[0].values())
    assert f"by the annotations' {seconds:,.0f} s" in page
    assert f"{seconds / 3600:.1f} hours" in page
    assert f"{seconds * 8 * 64**2 * 3 / 1e9:.1f} GB at 64 px, {seconds * 8 * 224**2 * 3 / 1e9:.0f} GB at 224 px" in page


@pytest.mark.shared
def test_true_list_with_semicolons_is_the_same(true_files, tmp_path):
    files, read = true_files
    text = files.test_list.read().decode()
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_bytes(text.replace(",", ";").replace("\n", "\r\n").encode())
    other = Files(files.annotations, find_files([*[file.path for file in files.annotations], tmp_path]).test_list)
    assert assign("7k", read, other) == assign("7k", read, files)


@pytest.mark.shared
def test_true_file_of_2017_writes_val(shared_dir):
    (file,) = (shared_dir / "data" / "msrvtt").glob("videodatainfo*2017*.json.gz")
    files = find_files([file])
    parts, bad = assign("official", read_annotations(files.annotations), files)
    assert {part: len(split) for part, split in parts.items()} == {"train": 6513, "val": 497, "test": 2990}
    assert (bad, sum(len(captions) for split in parts.values() for captions in split.values())) == ([], 142_200)
    assert parts["train"]["video2960"][0] == one_line(parts["train"]["video2960"][0])


@pytest.mark.shared
def test_real_clips_laid_out_as_msrvtt(shared_dir, tmp_path):
    """The true rows of videos that cannot be had, with two real clips under their names."""
    (tmp_path / "videos" / "TrainValVideo").mkdir(parents=True)
    clips = shared_dir / "data" / "clips"
    for number, name in ((0, "MotionDirector/car-turn-24.mp4"), (6513, "mmaction2/part_0.mp4")):
        shutil.copy(clips / name, tmp_path / "videos" / "TrainValVideo" / f"video{number}.mp4")
    mini = shared_dir / "data" / "msrvtt"
    arguments = [str(mini / f"mini_{name}") for name in PIECES]
    command = [
        "msrvtt",
        "--annotations",
        *arguments,
        "--videos",
        str(tmp_path / "videos"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert exit_code(lambda: main([*command, "--max-seconds", "2", "--workers", "1"])) == 0
    rows = rows_of(tmp_path / "out")
    assert {name: (row["split"], len(row["captions"])) for name, row in rows.items()} == {
        "video0": ("train", 20),
        "video6513": ("val", 20),
    }
    assert rows["video0"]["about"] == {"category": 9, "category_name": "vehicles/autos"}
