"""Real clips, all that there are: every frame of each, and a hundred ways to damage them."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sweeps

from cdcd_video.data.decoding import Source, open_video
from cdcd_video.data.pairs import load_frames, sample_pairs
from cdcd_video.data.shots import Shots
from cdcd_video.data.store import StoredClips
from cdcd_video.errors import exit_code
from cdcd_video.tools.dev.cut_accuracy import count, read_known, read_videos, summary, ways
from data_prep.__main__ import main

pytestmark = pytest.mark.shared
OF_THE_BEST_STREAM = {"torchcodec/nasa_13013.mp4": 390}
"""Frames of a file with two video streams: the table counts the first, and players show the other."""
KNOWN_CUTS = Path(__file__).parent / "known_cuts.tsv"


@pytest.fixture(scope="module")
def clips_dir(shared_dir) -> Path:
    return shared_dir / "data" / "clips"


@pytest.fixture(scope="module")
def rows(clips_dir) -> list[dict[str, str]]:
    header, *lines = (clips_dir / "captions.tsv").read_text(encoding="utf-8").splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def test_every_frame_of_every_clip_is_read_in_the_order_of_its_time(clips_dir, rows):
    """Among them are AVIs and an mp4 that stamp frames in the order of decoding."""
    wrong = []
    assert len(rows) > 80
    for row in rows[:: 1 if sweeps.IS_WHOLE else 8]:
        with open_video(clips_dir / row["path"]) as container:
            times = [time for _, time in Source(container, Fraction(0))]
        expected = OF_THE_BEST_STREAM.get(row["path"], int(row["frames"]))
        if len(times) != expected or times != sorted(set(times)):
            wrong.append((row["path"], len(times), row["frames"]))
    assert wrong == []


def test_every_clip_is_prepared_or_refused_for_its_rate(clips_dir, rows, tmp_path):
    """All of them, or some and those that are refused."""
    refusals = {"InternVideo/example1.mp4", "opencv-doc/tree.avi"}
    chosen = [row for place, row in enumerate(rows) if sweeps.IS_WHOLE or place % 6 == 0 or row["path"] in refusals]
    table, out = tmp_path / "captions.tsv", tmp_path / "out"
    table.write_text("path\tcaption\n" + "".join(f"{row['path']}\t{row['caption']}\n" for row in chosen))
    options = ["--captions", str(table), "--size-px", "16", "--max-seconds", "1.5"]
    assert exit_code(lambda: main(["folder", str(clips_dir), "--out", str(out), *options])) == 0
    refused = {
        line["id"]: line["reason"] for line in map(json.loads, (out / "rejected.jsonl").read_text().splitlines())
    }
    assert set(refused) == refusals
    assert all("frames would repeat at 8" in reason for reason in refused.values())
    assert len(StoredClips(out)) + len(refused) == len(chosen) > 10


# ------------------------------------------------------------------------------------------------------------- damage


def damaged(whole: bytes, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """A file as accidents leave it, by what happened."""
    third, size = len(whole) // 3, len(whole)
    yield "cut", whole[: int(rng.integers(1, size))]
    yield "without beginning", whole[int(rng.integers(1, third)) :]
    hole = int(rng.integers(third, 2 * third))
    yield "hole", whole[:hole] + whole[hole + int(rng.integers(1, third)) :]
    yield "zeros", whole[:hole] + bytes(third // 2) + whole[hole + third // 2 :]
    for num in (1, 30):
        flipped = bytearray(whole)
        for place in rng.integers(0, size, num):
            flipped[place] ^= 1 << int(rng.integers(8))
        yield f"{num} flipped", bytes(flipped)
    header = bytearray(whole)
    for place in rng.integers(0, min(size, 600), 4):
        header[place] = int(rng.integers(256))
    yield "header", bytes(header)
    yield "empty", b""
    yield "twice", whole + whole[: int(rng.integers(1, size))]


def test_damaged_clips_are_refused_or_give_valid_pairs(clips_dir, rows, tmp_path, capfd):
    """Small clips of each kind of file; whole ones under a wrong suffix are read as what they are."""
    rng = np.random.Generator(np.random.Philox(key=0))
    work = {row["path"]: int(row["frames"]) * int(row["width"]) * int(row["height"]) for row in rows}
    cheapest = sorted(work, key=work.get)
    chosen = cheapest[:6] + [next(path for path in cheapest if path.startswith("VGen/") and path.endswith(".avi"))]
    chosen += [next(path for path in cheapest if path.endswith(".mp4") and path not in chosen and work[path] > 3e6)]
    folder, whole = tmp_path / "in", set()
    folder.mkdir()
    for index, path in enumerate(chosen):
        content, suffix = (clips_dir / path).read_bytes(), Path(path).suffix
        for what, copy in damaged(content, rng):
            for place, ending in enumerate((suffix, ".mkv")):
                if place == 0 or what in ("cut", "hole", "1 flipped", "30 flipped"):
                    (folder / f"{index} {what}{ending}").write_bytes(copy)
        for ending in {".mp4", ".avi", ".gif"} - {suffix}:
            (folder / f"{index} whole{ending}").write_bytes(content)
            whole.add(f"{index} whole{ending}")
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        (folder / name).with_suffix(".txt").write_text("words")
    assert len(names) >= 100
    out = tmp_path / "out"
    options = ["--size-px", "16", "--min-frames", "2", "--max-seconds", "3", "--val-share", "0"]
    assert exit_code(lambda: main(["folder", str(folder), "--out", str(out), *options])) == 0
    assert "Traceback" not in capfd.readouterr().err

    refused = {
        line["id"]: line["reason"] for line in map(json.loads, (out / "rejected.jsonl").read_text().splitlines())
    }
    clips = StoredClips(out)
    kept = [clips.name(clip) for clip in range(len(clips))]
    assert sorted([*refused, *kept]) == names
    assert all(refused.values())
    assert {name: refused[name] for name in whole & set(refused)} == {}
    assert {name for name in names if "empty" in name} <= set(refused)
    assert len(refused) > 40 and len(kept) > 30, "the damage should be worth the name, and not all of it fatal"
    pairs = sample_pairs(Shots.of_clips(clips), 300, rng, max_gap=4, start_share=0.3)
    source, target = load_frames(clips, pairs.clip, pairs.source, pairs.target)
    assert source.shape == target.shape == (300, 3, 16, 16)
    assert (source.flatten(1).std(1) > 0.01).float().mean() > 0.9, "what is kept shows something"


# --------------------------------------------------------------------------------------------------------------- cuts


def test_known_cuts_are_found(clips_dir, tmp_path):
    """On the clips that have any; figures for all of them, and for joined ones, are in docs/data.md with their command."""
    known = read_known(KNOWN_CUTS)
    for path in known:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).symlink_to(clips_dir / path)
    videos = read_videos(tmp_path, known)
    found = count(ways(8)["as data_prep"], videos, [])
    assert found.found["cut"] == sum(len(video.known["cut"]) for video in videos) == 9
    assert found.found["jump"] >= 3 and found.false <= 3
    assert summary(found, videos, 0).startswith("cuts 9/9, jumps 3/5, false 3")
