"""Hundreds of damaged tars, archives and tables: refusals and one-sentence errors, never a traceback."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sweeps import examples

from cdcd_video.errors import UserError
from data_prep.internvid_rows import Metadata, Row
from data_prep.items import Item
from data_prep.msrvtt_annotations import read_annotations
from data_prep.packed import find
from data_prep.tars import clips_in

VARIANTS = examples(300)
NAME = "test_videodatainfo.json"


def damaged(whole: bytes, key: int) -> Iterator[bytes]:
    """Copies that are cut, or have bytes changed, or both."""
    rng = np.random.Generator(np.random.Philox(key=key))
    for _ in range(VARIANTS):
        copy = bytearray(whole)
        for _ in range(int(rng.integers(1, 6))):
            place, kind = int(rng.integers(len(copy))), int(rng.integers(3))
            if kind == 0:
                copy[place] = int(rng.integers(256))
            elif kind == 1:
                copy[place : place + 8] = rng.integers(0, 256, 8, dtype=np.uint8).tobytes()
            else:
                del copy[place + 1 :]
        yield bytes(copy)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_tars(tmp_path, form):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name in ("a" * 150 + "/b.mp4", "a" * 150 + "/b.txt", "\u00e9.mp4", "\u00e9.json", "d.mp4"):
            member = tarfile.TarInfo(name)
            member.size = 16
            archive.addfile(member, io.BytesIO(b'{"caption": "x"}'))
    whole = buffer.getvalue().rstrip(b"\0") + bytes(1024)
    path = tmp_path / "x.tar"
    path.write_bytes(whole)
    assert [len(clip.captions) for clip in clips_in(path)] == [1, 1, 0]
    told = set()
    for copy in damaged(whole, 1):
        path.write_bytes(copy)
        told |= {clip.refusal for clip in clips_in(path) if clip.refusal}
    assert len(told) > 3


def annotation() -> bytes:
    videos = [{"video_id": f"video{number}", "split": "train", "category": number} for number in range(5)]
    said = [{"video_id": f"video{number}", "caption": "words"} for number in range(5)]
    return json.dumps({"videos": videos, "sentences": said}).encode()


def in_zip(text: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"folder/{NAME}", text)
        archive.writestr("readme.txt", "words")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "pack"), [(NAME, bytes), (f"{NAME}.gz", gzip.compress), ("x.zip", in_zip)], ids=["plain", "gz", "zip"]
)
def test_annotations(tmp_path, name, pack):
    whole, path = pack(annotation()), tmp_path / name
    path.write_bytes(whole)
    assert len(read_annotations(list(find([tmp_path], [NAME]).values())).videos) == 5
    errors = 0
    for copy in damaged(whole, 2):
        path.write_bytes(copy)
        try:
            read_annotations(list(find([tmp_path], [NAME]).values()))
        except UserError:
            errors += 1
    assert errors > VARIANTS // 3


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_metadata(tmp_path, suffix):
    times = {"Start_timestamp": "00:03:10.567", "End_timestamp": "00:03:11.200"}
    line = json.dumps({"YoutubeID": "HdYoyzCSWyw", **times, "Caption": "words", "UMT_Score": 0.4}).encode() + b"\n"
    path = Path(tmp_path, f"m{suffix}")
    seen = {Row: 0, Item: 0, UserError: 0}
    for copy in damaged(line * 3 if suffix == ".jsonl" else gzip.compress(line * 30), 3):
        path.write_bytes(line + copy if suffix == ".jsonl" else copy)
        try:
            for one in Metadata(path):
                seen[type(one)] += 1
        except UserError:
            seen[UserError] += 1
    assert seen[Row] > VARIANTS // 3
    assert seen[Item if suffix == ".jsonl" else UserError] > VARIANTS // 3
