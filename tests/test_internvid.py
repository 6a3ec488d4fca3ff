"""`python -m data_prep internvid`: rows as published, filters, clips cut or ready-made, and nothing downloaded."""

import gzip
import hashlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from video_files import grey_steps, write_clip

from cdcd_video.data.clips import read_clip
from cdcd_video.data.store import StoredClips
from cdcd_video.errors import UserError, exit_code
from data_prep import internvid_rows
from data_prep.__main__ import main
from data_prep.internvid_clips import SEPARATORS, Clips, Wanted
from data_prep.internvid_rows import Metadata, Row, seconds_of
from data_prep.items import Item, split_of
from data_prep.videos import Videos

TRUE_ROWS = [
    {
        "YoutubeID": "qJrOyggIB-w",
        "Start_timestamp": "00:07:33.689",
        "End_timestamp": "00:07:51.085",
        "Caption": "a screen shot of heroes of the storm with people in action",
        "Aesthetic_Score": 4.29296875,
        "UMT_Score": 0.4501953125,
    },
    {
        "YoutubeID": "HdYoyzCSWyw",
        "Start_timestamp": "00:03:10.567",
        "End_timestamp": "00:03:11.200",
        "Caption": "woman using a computer mouse and keyboard",
        "Aesthetic_Score": 4.58984375,
        "UMT_Score": 0.39794921875,
    },
]
"""Two rows of InternVid-10M-flt.jsonl; the second lasts 0.633 s."""

LONG, SHORT = (f"{row['YoutubeID']}_{row['Start_timestamp']}_{row['End_timestamp']}" for row in TRUE_ROWS)


def row(video: str, start: str, end: str, caption: str = "words", **other: object) -> dict:
    scores = {"Aesthetic_Score": 4.5, "UMT_Score": 0.4}
    return {"YoutubeID": video, "Start_timestamp": start, "End_timestamp": end, "Caption": caption, **scores, **other}


def write_rows(path: Path, rows: list) -> Path:
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in rows]
    path.write_bytes(b"\n".join(lines))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    """Sixteen grey frames, two seconds at 8 per second."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", grey_steps(16)).read_bytes()


@pytest.fixture(scope="module")
def every(whole) -> np.ndarray:
    """All its frames, decoded from the first to the last."""
    frames = read_clip(whole, size_px=16).frames
    assert len(frames) == 1536
    return frames


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """192 seconds at 8 frames per second, each unlike its neighbours."""
    folder = tmp_path_factory.mktemp("whole")
    return write_clip(folder / "HdYoyzCSWyw.mp4", np.tile(grey_steps(20), (77, 1, 1, 1))[:1536])


def write_videos(folder: Path, clip: bytes, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(clip)
    return folder


def run(metadata: Path, videos: Path, *options: str) -> int:
    return exit_code(lambda: main(["internvid", "--metadata", str(metadata), "--videos", str(videos), *options]))


def prepare(metadata: Path, videos: Path, out: Path, *options: str) -> int:
    fixed = ("--out", str(out), "--size-px", "16", "--workers", "1", "--val-share", "0")
    return run(metadata, videos, *fixed, *options)


def rows_of(out: Path, name: str = "clips.jsonl") -> dict[str, dict]:
    return {row["id"]: row for row in map(json.loads, (out / name).read_text(encoding="utf-8").splitlines())}


def clips_of(metadata: Path, videos: Path, *, by_line: bool = False, **wanted: object) -> Clips:
    return Clips(Metadata(metadata), Wanted(**wanted), Videos.of(videos), by_line=by_line, val_share=0)


# ------------------------------------------------------------------------------------------------ cut and ready-made


def test_a_clip_is_cut_from_a_whole_video_to_the_frame(tmp_path, whole, every):
    """The true row of 0.633 s: six frames at 8 per second, each the one on display at its time, bit for bit."""
    metadata = write_rows(tmp_path / "m.jsonl", TRUE_ROWS)
    assert prepare(metadata, whole.parent, tmp_path / "out", "--min-frames", "6") == 0
    clips = StoredClips(tmp_path / "out")
    assert [clips.name(number) for number in range(len(clips))] == [SHORT]
    first = int(190.567 * 8)
    assert clips.num_frames(0) == 6
    assert np.array_equal(clips.frames(0, range(6)), every[first : first + 6])
    assert clips.captions(0) == ("woman using a computer mouse and keyboard",)
    assert clips.rows[0].source == "HdYoyzCSWyw.mp4"
    about = {"youtube_id": "HdYoyzCSWyw", "start_s": 190.567, "end_s": 191.2}
    assert clips.rows[0].about == {**about, "aesthetic_score": 4.58984375, "umt_score": 0.39794921875}


def test_a_cut_takes_every_frame_of_its_time_and_no_other(tmp_path, whole, every):
    """Times on the frames, between them, and up to the end of the video."""
    times = [("00:00:00.000", "00:00:01.000"), ("00:01:00.125", "00:01:01.250"), ("00:01:00.063", "00:01:01.188")]
    times += [("00:03:11.000", "00:03:12.000"), ("00:03:11.500", "00:09:00.000")]
    rows = [row("HdYoyzCSWyw", *pair) for pair in times]
    assert prepare(write_rows(tmp_path / "m.jsonl", rows), whole.parent, tmp_path / "out", "--min-frames", "2") == 0
    clips = StoredClips(tmp_path / "out")
    for number, (begin, end) in enumerate([(0, 8), (481, 490), (480, 489), (1528, 1536), (1532, 1536)]):
        assert clips.num_frames(number) == end - begin
        assert np.array_equal(clips.frames(number, range(end - begin)), every[begin:end]), times[number]


def test_clips_that_are_too_short_to_use_are_refused_and_stop_nothing(tmp_path, whole):
    rows = [
        row("HdYoyzCSWyw", "00:00:01.000", "00:00:01.633", "less than --min-frames"),
        row("HdYoyzCSWyw", "00:00:01.000", "00:00:01.050", "one frame"),
        row("HdYoyzCSWyw", "00:05:01.000", "00:05:01.633", "after the end"),
        row("HdYoyzCSWyw", "00:00:01.000", "00:00:02.000", "good"),
    ]
    assert prepare(write_rows(tmp_path / "m.jsonl", rows), whole.parent, tmp_path / "out") == 0
    assert [row["captions"] for row in rows_of(tmp_path / "out").values()] == [["good"]]
    reasons = [row["reason"] for row in rows_of(tmp_path / "out", "rejected.jsonl").values()]
    assert ["too short: 6 frames" in reasons[0], "one frame from" in reasons[1], "no frame from" in reasons[2]] == [
        True
    ] * 3


@pytest.mark.parametrize("separator", SEPARATORS, ids=["colon", "underscore", "hyphen", "dot", "wide"])
def test_ready_made_clips_by_their_times(tmp_path, clip, separator):
    """`ID_START_END.mp4` with the colons of the metadata, and with what stands for them where they are refused."""
    metadata = write_rows(tmp_path / "m.jsonl", TRUE_ROWS)
    name = f"InternVId-FLT_1/{LONG.replace(':', separator)}.mp4"
    videos = write_videos(tmp_path / "videos", clip, name, "qJrOyggIB-w.mp4")
    assert prepare(metadata, videos, tmp_path / "out") == 0
    (stored,) = rows_of(tmp_path / "out").values()
    assert (stored["id"], stored["source"], stored["num_frames"]) == (LONG, name, 16)  # all of it: nothing is cut
    assert StoredClips(tmp_path / "out").frames(0, [0]).mean() == pytest.approx(20, abs=2)


def test_ready_made_clips_by_their_line(tmp_path, clip):
    lines = [TRUE_ROWS[0], b"", b"{", TRUE_ROWS[1]]
    videos = write_videos(tmp_path / "videos", clip, "3.mp4", "1.mp4", "2.mp4", "qJrOyggIB-w.mp4")
    metadata = write_rows(tmp_path / "m.jsonl", lines)
    assert prepare(metadata, videos, tmp_path / "out", "--clip-names", "line") == 0
    stored = rows_of(tmp_path / "out")
    assert {name: row["source"] for name, row in stored.items()} == {SHORT: "3.mp4"}
    assert stored[SHORT]["num_frames"] == 16
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["recipe"]["clip_names"] == "line"


def test_whole_videos_as_yt_dlp_names_them_by_itself(tmp_path, clip):
    rows = [row("qJrOyggIB-w", "00:00:00.000", "00:00:01.000"), row("-x_y-x_y-x_", "00:00:00.500", "00:00:01.500")]
    videos = write_videos(tmp_path / "videos", clip, "Heroes [2015] [qJrOyggIB-w].mp4", "sub/-x_y-x_y-x_.webm")
    assert prepare(write_rows(tmp_path / "m.jsonl", rows), videos, tmp_path / "out") == 0
    stored = [(row["source"], row["num_frames"]) for row in rows_of(tmp_path / "out").values()]
    assert stored == [("Heroes [2015] [qJrOyggIB-w].mp4", 8), ("sub/-x_y-x_y-x_.webm", 8)]


def test_all_clips_of_a_video_share_a_split(tmp_path, clip):
    videos = [f"{number:011d}" for number in range(12)]
    rows = [row(video, f"00:00:0{second}.000", f"00:00:0{second}.500") for second in (0, 1) for video in videos]
    folder = write_videos(tmp_path / "videos", clip, *(f"{video}.mp4" for video in videos))
    clips = Clips(
        Metadata(write_rows(tmp_path / "m.jsonl", rows)), Wanted(), Videos.of(folder), by_line=False, val_share=0.4
    )
    splits = {}
    for item in clips:
        splits.setdefault(item.about["youtube_id"], set()).add(item.split)
    assert splits == {video: {split_of(video, 0.4)} for video in videos}
    assert {"train", "val"} == set.union(*splits.values())


# ------------------------------------------------------------------------------------------------------- the filters


def test_filters_by_score_duration_and_video(tmp_path, clip):
    a, b, c = "aaaaaaaaaaa", "bbbbbbbbbbb", "ccccccccccc"
    rows = [
        row(a, "00:00:00.000", "00:00:00.500", Aesthetic_Score=4.0, UMT_Score=0.30),
        row(a, "00:00:01.000", "00:00:02.000", Aesthetic_Score=5.0, UMT_Score=0.40),
        row(b, "00:00:00.000", "00:00:10.000", Aesthetic_Score=6.0, UMT_Score=0.20),
        row(b, "00:00:00.000", "00:00:01.000", Aesthetic_Score=None, UMT_Score=float("nan")),
        row(c, "00:00:09.999", "00:00:10.999", Aesthetic_Score=6.0, UMT_Score=0.5),
        row(a, "00:00:01.000", "00:00:02.000", "the same again"),
    ]
    metadata = write_rows(tmp_path / "m.jsonl", rows)
    videos = write_videos(tmp_path / "videos", clip, f"{a}.mp4", f"{b}.mp4")

    def taken(**wanted: object) -> tuple[list[str], dict[str, int]]:
        clips = clips_of(metadata, videos, **wanted)
        names = [f"{item.name[0]}{item.start_s:g}-{item.end_s:g}" for item in clips]
        return names, dict(clips.tally)

    everything = ["a0-0.5", "a1-2", "b0-10", "b0-1"]
    fates = {"lines": 6, "in whole videos": 4, "missing": 1, "repeated": 1}
    assert taken() == (everything, fates)
    assert taken(min_aesthetic=5.0)[0] == ["a1-2", "b0-10"]
    assert taken(min_aesthetic=5.0)[1] == {"lines": 6, "aesthetic score": 3, "in whole videos": 2, "missing": 1}
    assert taken(min_umt=0.3)[0] == ["a0-0.5", "a1-2"]
    assert taken(min_duration=1.0)[0] == ["a1-2", "b0-10", "b0-1"]
    assert taken(max_duration=1.0)[0] == ["a0-0.5", "a1-2", "b0-1"]
    assert taken(min_duration=1.0, max_duration=1.0)[1]["missing"] == 1  # 10.999 - 9.999 is one second
    assert taken(one_per_video=True) == (
        ["a0-0.5", "b0-10"],
        {"lines": 6, "in whole videos": 2, "further clip": 3, "missing": 1},
    )
    assert taken(one_per_video=True, min_umt=0.35)[0] == ["a1-2"]


def test_the_options_are_the_filters_and_the_manifest_records_them(tmp_path, clip, capsys):
    rows = [row("aaaaaaaaaaa", f"00:00:0{n}.000", f"00:00:0{n + 1}.000", UMT_Score=0.1 * n) for n in range(5)]
    metadata = write_rows(tmp_path / "m.jsonl", rows)
    videos = write_videos(tmp_path / "videos", clip, "aaaaaaaaaaa.mp4")
    options = ["--min-umt", "0.05", "--min-aesthetic", "4", "--min-duration", "0.5", "--max-duration", "30"]
    assert prepare(metadata, videos, tmp_path / "out", *options, "--one-per-video") == 0
    assert list(rows_of(tmp_path / "out")) == ["aaaaaaaaaaa_00:00:01.000_00:00:02.000"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    recipe = manifest["recipe"]
    assert {
        key: recipe[key] for key in ("min_umt", "min_aesthetic", "min_duration", "max_duration", "one_per_video")
    } == {
        "min_umt": 0.05,
        "min_aesthetic": 4.0,
        "min_duration": 0.5,
        "max_duration": 30.0,
        "one_per_video": True,
    }
    assert recipe["metadata_sha256"] == hashlib.sha256(metadata.read_bytes()).hexdigest()
    hashed = hashlib.sha256(b"aaaaaaaaaaa_00:00:01.000_00:00:02.000\n").hexdigest()
    assert manifest["subset"] == {"train": {"num_clips": 1, "ids_sha256": hashed}}
    table = capsys.readouterr().err
    assert "1  under --min-umt" in table
    assert "3  further clips of a video that is there" in table


def test_check_only_reports_what_is_there_and_writes_nothing(tmp_path, clip, capsys):
    metadata = write_rows(tmp_path / "m.jsonl", [*TRUE_ROWS, b"no row"])
    videos = write_videos(tmp_path / "videos", clip, f"{LONG}.mp4")
    before = sorted(tmp_path.rglob("*"))
    assert run(metadata, videos, "--check-only") == 0
    assert capsys.readouterr().out.splitlines() == [
        "3  lines",
        "1  cannot be used; rejected.jsonl will list them",
        "1  wanted, not there",
        "0  there, to be cut from whole videos",
        "1  there, ready-made",
    ]
    assert sorted(tmp_path.rglob("*")) == before


# ---------------------------------------------------------------------------------------------------- the metadata


def test_rows_that_cannot_be_used_are_rejected_with_the_reason(tmp_path, clip, monkeypatch):
    monkeypatch.setattr(internvid_rows, "_MOST_LINE_BYTES", 5000)
    good = ("00:00:00.000", "00:00:01.000")
    rows = [
        row("aaaaaaaaaaa", *good),
        row("../../../x", *good),
        row("/etc/passwd", *good),
        row("short", *good),
        row("aaaaaaaaaa\n", *good),
        row("", *good),
        row(7, *good),
        row("bbbbbbbbbbb", "00:00:01.000", "00:00:01.000"),
        row("bbbbbbbbbbb", "00:00:02.000", "00:00:01.000"),
        row("bbbbbbbbbbb", "soon", "00:00:01.000"),
        row("bbbbbbbbbbb", "-00:00:01.000", "00:00:01.000"),
        row("bbbbbbbbbbb", *good, "  "),
        row("bbbbbbbbbbb", *good, None),
        {"YoutubeID": "bbbbbbbbbbb"},
        b"{",
        b"[" * 4000,
        b"\xff\xfe",
        b"x" * 12_000,
        b"[1]",
        row("aaaaaaaaaaa", *good),
        row("ccccccccccc", *good),
    ]
    metadata = write_rows(tmp_path / "m.jsonl", rows)
    videos = write_videos(tmp_path / "videos", clip, "aaaaaaaaaaa.mp4", "bbbbbbbbbbb.mp4")
    (videos / "ccccccccccc.mp4").symlink_to(write_videos(tmp_path, clip, "outside.mp4") / "outside.mp4")
    assert prepare(metadata, videos, tmp_path / "out") == 0
    assert list(rows_of(tmp_path / "out")) == ["aaaaaaaaaaa_00:00:00.000_00:00:01.000"]
    expected = {
        "line 2: ../../../x": "path separator",
        "line 3: /etc/passwd": "absolute path",
        "line 4: short": "not a YouTube id",
        "line 5: aaaaaaaaaa\n": "not a valid file name",
        "line 6: ": "no video id",
        "line 7": "no video id",
        "line 8: bbbbbbbbbbb": "ends before it begins",
        "line 9: bbbbbbbbbbb": "ends before it begins",
        "line 10: bbbbbbbbbbb": "timestamps",
        "line 11: bbbbbbbbbbb": "timestamps",
        "line 12: bbbbbbbbbbb": "no caption",
        "line 13: bbbbbbbbbbb": "no caption",
        "line 14: bbbbbbbbbbb": "no caption",
        "line 15": "not a JSON object",
        "line 16": "not a JSON object",
        "line 17": "not a JSON object",
        "line 18": "more than 5,000 bytes",
        "line 19": "not a JSON object",
        "ccccccccccc_00:00:00.000_00:00:01.000": "points outside the folder",
    }
    reasons = {name: row["reason"] for name, row in rows_of(tmp_path / "out", "rejected.jsonl").items()}
    assert set(reasons) == set(expected)
    for name, reason in expected.items():
        assert reason in reasons[name], name


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("00:07:33.689", 453.689),
        ("12:00:00.000", 43200),
        ("100:00:00", 360000),
        ("3:10", 190),
        ("190.567", 190.567),
        (190.567, 190.567),
        (0, 0),
        ("", None),
        ("1:2:3:4", None),
        ("00:00:1e3", None),
        ("00:00:\u0661", None),
        (-1, None),
        (True, None),
        (None, None),
        (float("inf"), None),
        (float("nan"), None),
    ],
)
def test_timestamps(stamp, seconds):
    assert seconds_of(stamp) == seconds


def test_other_columns_and_packed_files(tmp_path):
    """The full set's columns are only told in words; any names will do if they are said."""
    plain = [{"VIDEOID": "aaaaaaaaaaa", "Start_timestamp": "0:01", "End_timestamp": "0:02", "caption": "a  b"}]
    (read,) = Metadata(write_rows(tmp_path / "m.jsonl", plain))
    expected = Row(0, "aaaaaaaaaaa", "0:01", "0:02", 1.0, 2.0, "a b", None, None)
    assert read == expected
    other = [{"v": "aaaaaaaaaaa", "t0": "0:01", "t1": "0:02", "text": "a  b", "Caption": "not this", "sim": 0.5}]
    packed = tmp_path / "m.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(other[0]).encode()))
    renamed = {"id": "v", "start": "t0", "end": "t1", "caption": "text", "umt": "sim"}
    metadata = Metadata(packed, renamed)
    assert list(metadata) == [Row(0, "aaaaaaaaaaa", "0:01", "0:02", 1.0, 2.0, "a b", None, 0.5)]
    assert metadata.sha256 == hashlib.sha256(json.dumps(other[0]).encode()).hexdigest()


def test_the_metadata_are_never_held_as_a_whole(tmp_path, clip):
    """A pass over 4 MB, of which one clip is there, takes a small part of that."""
    rows = [row(f"{number:011d}", "00:00:00.000", "00:00:01.000", "w" * 900) for number in range(4_000)]
    metadata = write_rows(tmp_path / "m.jsonl", rows)
    clips = clips_of(metadata, write_videos(tmp_path / "videos", clip, "00000002345.mp4"), one_per_video=True)
    list(clips)  # what is loaded once is loaded
    tracemalloc.start()
    assert [item.name[:11] for item in clips] == ["00000002345"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert metadata.stat().st_size > 3_900_000
    assert peak < 150_000


@pytest.mark.parametrize("filler", [b"\0" * 2**20, b"\n" * 2**20], ids=["one line", "empty lines"])
def test_a_large_file_without_rows_is_refused(tmp_path, filler):
    first = json.dumps(TRUE_ROWS[0]).encode() + b"\n"
    with gzip.open(tmp_path / "m.jsonl.gz", "wb", 1) as file:
        file.write(first)
        for _ in range(40):
            file.write(filler)
    metadata = Metadata(tmp_path / "m.jsonl.gz")
    with pytest.raises(UserError, match="bytes without a row in them"):
        list(metadata)


def test_metadata_that_are_a_pipe_are_refused(tmp_path):
    os.mkfifo(tmp_path / "m.jsonl")
    with pytest.raises(UserError, match="is a named pipe, not a file"):
        Metadata(tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    ("rows", "options", "sentence"),
    [
        (None, [], "does not exist"),
        ([], [], "first line"),
        ([b"YoutubeID,Caption"], [], "first line"),
        ([{"YoutubeID": "x", "Caption": "y"}], [], "no column Start_timestamp"),
        (TRUE_ROWS, ["--column", "id=video"], "no column video"),
        (TRUE_ROWS, ["--column", "name=video"], "must be KEY=NAME"),
        (TRUE_ROWS, ["--column", "id"], "must be KEY=NAME"),
        ([{**TRUE_ROWS[0], "UMT_Score": 0.5}], ["--val-share", "1"], "--val-share"),
        ([{k: v for k, v in TRUE_ROWS[0].items() if k != "UMT_Score"}], ["--min-umt", "0.4"], "no column UMT_Score"),
        (TRUE_ROWS, ["--out", "out"], "none of the wanted clips"),
        (TRUE_ROWS, ["--out", "out", "--videos", "nothing"], "folder of videos"),
        (TRUE_ROWS, [], "name it with --out"),
    ],
)
def test_a_wrong_call_ends_with_one_sentence_and_code_2(tmp_path, capsys, monkeypatch, rows, options, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    if rows is not None:
        write_rows(tmp_path / "m.jsonl", rows)
    dry = [] if sentence.startswith(("none of", "folder of", "name it with")) else ["--check-only"]
    assert run(tmp_path / "m.jsonl", tmp_path / "videos", *dry, *options) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ")
    assert sentence in message


def test_a_cut_packed_file_is_named(tmp_path):
    packed = tmp_path / "m.jsonl.gz"
    packed.write_bytes(gzip.compress(b"\n".join(json.dumps(TRUE_ROWS[0]).encode() for _ in range(2000)))[:-200])
    with pytest.raises(UserError, match="cannot be read completely"):
        list(Metadata(packed))


# ------------------------------------------------------------------------------------------------ nothing downloads


def test_the_list_of_downloads_is_for_the_user_to_run(tmp_path, clip, capsys, monkeypatch):
    """Addresses of what is wanted and not there, a command that goes slowly, and no connection or process of our own."""

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError("nothing here may download")

    for place, name in ((socket, "socket"), (socket, "create_connection"), (subprocess, "Popen")):
        monkeypatch.setattr(place, name, forbidden)
    rows = [
        *TRUE_ROWS,
        TRUE_ROWS[1],
        row("aaaaaaaaaaa", "0:00", "0:01"),
        row("bbbbbbbbbbb", "0:00", "0:01", UMT_Score=0.1),
    ]
    rows += [
        row("ccccccccccc", "0:00", "0:01"),
        row("ccccccccccc", "0:01", "0:02"),
        row("a b'; rm -rf", "0:00", "0:01"),
    ]
    metadata = write_rows(tmp_path / "m.jsonl", rows)
    videos = write_videos(tmp_path / "my videos", clip, "aaaaaaaaaaa.mp4", "ccccccccccc_0:01_0:02.mp4")
    wanted = tmp_path / "list.txt"
    for _ in range(2):  # a list may be written again
        assert run(metadata, videos, "--min-umt", "0.3", "--download-list", str(wanted)) == 0
    address = "https://www.youtube.com/watch?v="
    assert wanted.read_text() == "".join(
        f"{address}{video}\n" for video in ("qJrOyggIB-w", "HdYoyzCSWyw", "ccccccccccc")
    )
    shown = capsys.readouterr().out.splitlines()
    command = shlex.split(shown[-1])
    assert command[0] == "yt-dlp"
    for option in ("--limit-rate", "--sleep-requests", "--sleep-interval", "--max-sleep-interval"):
        assert command[command.index(option) + 1]
    assert command[command.index("--batch-file") + 1] == str(wanted)
    assert command[command.index("--paths") + 1] == str(videos)
    assert command[command.index("--output") + 1] == "%(id)s.%(ext)s"  # as this recipe looks for whole videos
    assert "Nothing was downloaded" in shown[-2]
    assert run(metadata, videos, "--min-umt", "0.3", "--one-per-video", "--download-list", str(wanted)) == 0
    assert "ccccccccccc" not in wanted.read_text()  # one clip of it is there
    assert run(metadata, tmp_path / "new", "--download-list", str(wanted)) == 0
    assert len(wanted.read_text().splitlines()) == 5
    assert not (tmp_path / "new").exists()


def test_a_list_never_overwrites_something_else(tmp_path, capsys):
    metadata = write_rows(tmp_path / "m.jsonl", TRUE_ROWS)
    (tmp_path / "notes.txt").write_text("precious")
    assert run(metadata, tmp_path / "new", "--download-list", str(tmp_path / "notes.txt")) == 2
    assert "not a list of addresses" in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text() == "precious"


# -------------------------------------------------------------------------------------------------- the true files


@pytest.mark.shared
def test_true_rows_with_a_real_clip(shared_dir, tmp_path):
    """The published rows, and InternVid's own demo clip under the name of the first."""
    folder = shared_dir / "data" / "internvid"
    metadata = folder / "internvid_10m_flt_sample.jsonl"
    assert [json.loads(line) for line in metadata.read_text().splitlines()] == TRUE_ROWS
    (tmp_path / "videos").mkdir()
    shutil.copy(folder / "example1.mp4", tmp_path / "videos" / f"{LONG}.mp4")
    assert prepare(metadata, tmp_path / "videos", tmp_path / "out", "--fps", "5") == 0
    clips = StoredClips(tmp_path / "out")
    assert (len(clips), clips.num_frames(0)) == (1, 40)
    assert clips.frames(0, range(40)).std() > 10


@pytest.mark.shared
def test_other_true_json_lines_are_named_for_what_they_lack(shared_dir, tmp_path):
    """queries.jsonl lies beside the metadata in the same repository."""
    with pytest.raises(UserError, match="no column YoutubeID; its first line has search_word_id, search_word"):
        Metadata(shared_dir / "data" / "internvid" / "queries.jsonl")


def test_rows_and_refusals_are_distinguished(tmp_path):
    read = list(Metadata(write_rows(tmp_path / "m.jsonl", [TRUE_ROWS[0], b"{"])))
    assert [type(one) for one in read] == [Row, Item]
    assert read[0].name == LONG
