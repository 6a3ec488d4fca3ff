"""`python -m data_prep folder` over WebDataset tars: what is read, what is refused, and that nothing is unpacked."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from video_files import grey_steps, steps_shown, write_clip

from cdcd_video.data.store import StoredClips
from cdcd_video.errors import UserError, exit_code
from data_prep import tars
from data_prep.__main__ import main
from data_prep.items import Item, Slice, digest_items
from data_prep.tars import clips_in, taken_out


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    """Ten grey frames in a file."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", grey_steps(10)).read_bytes()


def add(archive: tarfile.TarFile, name: str, content: bytes | str) -> None:
    content = content.encode() if isinstance(content, str) else content
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def prepared(folder: Path, out: Path) -> tuple[dict[str, dict], dict[str, str]]:
    arguments = ["folder", str(folder), "--out", str(out), "--size-px", "16", "--val-share", "0", "--workers", "1"]
    assert exit_code(lambda: main(arguments)) == 0
    rows, refused = (
        {row["id"]: row for row in map(json.loads, (out / name).read_text(encoding="utf-8").splitlines())}
        for name in ("clips.jsonl", "rejected.jsonl")
    )
    return rows, {name: row["reason"] for name, row in refused.items()}


def test_a_tar_is_a_list_of_captioned_clips(tmp_path, clip):
    folder = tmp_path / "in"
    (folder / "shards").mkdir(parents=True)
    (folder / "beside.mp4").write_bytes(clip)
    (folder / "beside.txt").write_text("not in a tar")
    with tarfile.open(folder / "shards" / "00000.tar", "w") as archive:
        add(archive, "a/000.txt", "  first  \nsecond\nfirst\n")  # before its video, with a folder
        add(archive, "a/000.mp4", clip)
        add(archive, "001.json", json.dumps({"caption": "one of json", "url": "x"}))
        add(archive, "001.MP4", clip)
        add(archive, "002.mp4", clip)
        add(archive, "002.json", json.dumps({"captions": ["two", "of json"]}))
        add(archive, "003.mp4", clip)
        add(archive, "003.txt", "text goes before json")
        add(archive, "003.json", json.dumps({"caption": "not this"}))
        add(archive, "._003.mp4", b"what a Mac leaves behind")
        add(archive, "004.jpg", b"no video")
    rows, refused = prepared(folder, tmp_path / "out")
    assert {name: row["captions"] for name, row in rows.items()} == {
        "beside.mp4": ["not in a tar"],
        "shards/00000.tar/a/000.mp4": ["first", "second"],
        "shards/00000.tar/001.mp4": ["one of json"],
        "shards/00000.tar/002.mp4": ["two", "of json"],
        "shards/00000.tar/003.mp4": ["text goes before json"],
    }
    assert refused == {"shards/00000.tar/004": "it has no video; its files are .jpg"}
    clips = StoredClips(tmp_path / "out")
    for number in range(len(clips)):
        assert steps_shown(clips.frames(number, range(10))) == list(range(10))
        assert np.array_equal(clips.frames(number, range(10)), clips.frames(0, range(10)))
    assert sorted(path.name for path in folder.rglob("*")) == ["00000.tar", "beside.mp4", "beside.txt", "shards"]


def test_what_is_wrong_in_a_tar_is_refused_with_its_reason(tmp_path, clip):
    folder = tmp_path / "in"
    folder.mkdir()
    with tarfile.open(folder / "x.tar", "w") as archive:
        add(archive, "good.mp4", clip)
        add(archive, "good.txt", "good")
        for name in ("../out", "/abs", "a/../../b"):
            add(archive, f"{name}.mp4", clip)
            add(archive, f"{name}.txt", "a way out")
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        add(archive, "link.txt", "words")
        add(archive, "silent.mp4", clip)
        add(archive, "json.mp4", clip)
        add(archive, "json.json", "{")
        add(archive, "nocaption.mp4", clip)
        add(archive, "nocaption.json", json.dumps({"url": "x"}))
        add(archive, "latin.mp4", clip)
        add(archive, "latin.txt", b"\xff\xfe")
        add(archive, "long.mp4", clip)
        add(archive, "long.txt", b"x" * 1_100_000)
        add(archive, "damaged.mp4", clip[:200])
        add(archive, "damaged.txt", "words")
    (tmp_path / "outside.tar").write_bytes((folder / "x.tar").read_bytes())
    (folder / "link.tar").symlink_to(tmp_path / "outside.tar")
    (folder / "nothing.tar").write_bytes(b"no tar at all" * 100)
    os.mkfifo(folder / "pipe.tar")
    for name in ("packed.tar.gz", "packed.tgz", "list.gz"):
        (folder / name).write_bytes(gzip.compress((folder / "x.tar").read_bytes()))
    header = tarfile.TarInfo("x" * 200)
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 7 * 10**9  # a name that claims to be seven gigabytes long
    (folder / "claims.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT)[-512:])
    os.truncate(folder / "claims.tar", 8 * 10**9)
    rows, refused = prepared(folder, tmp_path / "out")
    assert list(rows) == ["x.tar/good.mp4"]
    expected = {
        "link.tar": "points outside the folder",
        "nothing.tar/*": "the tar is damaged",
        "pipe.tar/*": "the tar is a named pipe",
        "packed.tar.gz": "decompress it",
        "packed.tgz": "decompress it",
        "claims.tar/*": "the tar is damaged (a header is too long)",
        "x.tar/../out.mp4": "points outside the tar",
        "x.tar//abs.mp4": "points outside the tar",
        "x.tar/a/../../b.mp4": "points outside the tar",
        "x.tar/link.mp4": "not a regular file",
        "x.tar/silent.mp4": "no caption",
        "x.tar/json.mp4": "its .json is damaged",
        "x.tar/nocaption.mp4": "its .json has no caption",
        "x.tar/latin.mp4": "not UTF-8",
        "x.tar/long.mp4": "at most 1,048,576 bytes",
        "x.tar/damaged.mp4": "corrupt",
    }
    assert set(refused) == set(expected)
    for name, reason in expected.items():
        assert reason in refused[name], name
    assert str(tmp_path) not in json.dumps(refused)


def test_what_follows_the_first_dot_is_a_field_and_no_sample_vanishes(tmp_path, clip):
    folder = tmp_path / "in"
    folder.mkdir()
    with tarfile.open(folder / "x.tar", "w") as archive:
        for name in (
            "003.left.mp4",
            "003.right.MP4",
            "004.mp4",
            "004.webm",
            "005.mp4",
            "d.e/006.mp4",
            "twice.mp4",
            "text.mp4",
        ):
            add(archive, name, clip)
        add(archive, "003.right.txt", "seen from the right")
        add(archive, "003.txt", "seen from anywhere")
        add(archive, "004.json", json.dumps({"caption": "one clip of two files"}))
        add(archive, "005.txt", "\n  \n")
        add(archive, "005.json", json.dumps({"caption": "beside an empty text"}))
        add(archive, "d.e/006.caption.txt", "another field")
        add(archive, "twice.mp4", clip)
        add(archive, "twice.txt", "words")
        add(archive, "text.txt", "one")
        add(archive, "text.txt", "two")
        add(archive, "alone.txt", "no video")
        add(archive, "README", "no suffix")
    rows, refused = prepared(folder, tmp_path / "out")
    assert {name: row["captions"] for name, row in rows.items()} == {
        "x.tar/003.left.mp4": ["seen from anywhere"],
        "x.tar/003.right.mp4": ["seen from the right"],
        "x.tar/004.mp4": ["one clip of two files"],
        "x.tar/004.webm": ["one clip of two files"],
        "x.tar/005.mp4": ["beside an empty text"],
    }
    assert refused == {
        "x.tar/d.e/006.mp4": "it has no caption",
        "x.tar/twice.mp4": "it is in the tar twice",
        "x.tar/text.mp4": "its .txt is in the tar twice",
        "x.tar/alone": "it has no video; its files are .txt",
        "x.tar/README": "it has no video; its files are no suffix",
    }


def test_a_cut_tar_gives_what_is_before_the_cut(tmp_path, clip):
    folder = tmp_path / "in"
    folder.mkdir()
    with tarfile.open(folder / "x.tar", "w") as archive:
        for name in ("a", "b"):
            add(archive, f"{name}.txt", f"clip {name}")
            add(archive, f"{name}.mp4", clip)
        last = archive.offset
    os.truncate(folder / "x.tar", last - len(clip) // 2)
    rows, refused = prepared(folder, tmp_path / "out")
    assert list(rows) == ["x.tar/a.mp4"]
    assert refused["x.tar/b.mp4"] == "it is cut off by the end of the tar"
    assert "the tar is damaged" in refused["x.tar/*"]


def test_a_clip_is_taken_out_for_a_moment_only(tmp_path, clip, monkeypatch):
    monkeypatch.setattr(tars, "_BLOCK_BYTES", 100)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add(archive, "a.webm", clip)
    (found,) = clips_in(tmp_path / "x.tar")
    with taken_out(tmp_path / "x.tar", found.inside) as path:
        assert (path.read_bytes(), path.suffix) == (clip, ".webm")
    assert not path.exists()

    monkeypatch.setattr(tars, "open", lambda *a, **k: _Full(*a, **k) if a[1] == "wb" else open(*a, **k), raising=False)
    with pytest.raises(UserError, match="set TMPDIR"), taken_out(tmp_path / "x.tar", found.inside):
        pass


class _Full(io.FileIO):
    def write(self, content):
        raise OSError(28, "No space left on device")

    def __init__(self, path, mode, **how):
        super().__init__(path, mode)


def test_items_have_the_same_digest_one_by_one_as_all_at_once():
    """The hash in a manifest stays what it was when all items were written to one text."""
    items = [Item(f"c{n}", Path("x"), "x", ("a", "\u00e9"), "train", n / 2, None) for n in range(3)]
    plain = json.dumps([(i.name, i.source, i.captions, i.split, i.start_s, i.end_s) for i in items])
    assert digest_items(items).sha256 == hashlib.sha256(plain.encode()).hexdigest()
    assert digest_items([]).sha256 == hashlib.sha256(b"[]").hexdigest()
    more = [Item("c0", Path("x"), "x", ("a",), "train", about={"category": 3}, inside=Slice(0, 1, ".mp4"))]
    less = [Item("c0", Path("x"), "x", ("a",), "train")]
    assert (digest_items(more).num_items, digest_items(more) != digest_items(less)) == (1, True)
