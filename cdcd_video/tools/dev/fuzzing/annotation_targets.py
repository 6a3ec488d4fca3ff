"""Targets of annotations: MSR-VTT, InternVid, tables beside a folder of videos, tables of prompts, archives."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cdcd_video.data.tables import read_rows
from cdcd_video.tools.dev.fuzzing.mutate import as_json, mutated, mutated_json
from cdcd_video.tools.dev.fuzzing.target import Target
from data_prep.folder import read_items
from data_prep.internvid_clips import Clips, Wanted
from data_prep.internvid_rows import Metadata
from data_prep.items import Item
from data_prep.msrvtt_annotations import read_annotations
from data_prep.msrvtt_splits import TEST_LIST, assign, find_files
from data_prep.tars import clips_in
from data_prep.videos import Videos

VIDEO, WHOLE = "videos", "video0.mp4"
MSRVTT = {
    "info": {"contributor": "x", "year": "2016"},
    "videos": [
        {"video_id": f"video{number}", "split": split, "category": 3, "url": "u", "start time": 1.5, "end time": 9.0}
        for number, split in ((0, "train"), (1, "validate"), (7010, "test"))
    ],
    "sentences": [
        {"sen_id": 0, "video_id": "video0", "caption": "a man plays the guitar"},
        {"sen_id": 1, "video_id": "video1", "caption": "a dog runs"},
        {"sen_id": 2, "video_id": "video7010", "caption": "a woman speaks"},
    ],
}
JSFUSION = (
    b"key,vid_key,video_id,sentence\nret0,msr7010,video7010,a woman speaks\nret1,msr7011,video7011,people dance\n"
)
INTERNVID = [
    {
        "YoutubeID": f"abcdefghij{number}",
        "Start_timestamp": "00:00:01.500",
        "End_timestamp": "00:00:04.000",
        "Caption": "a man plays the guitar",
        "Aesthetic_Score": 4.5,
        "UMT_Score": 0.4,
    }
    for number in range(3)
]
FOLDER = [{"path": "video0.mp4", "caption": "a dog runs"}, {"path": "a/b.mp4", "captions": ["it sits", "it waits"]}]
TABLES = {
    ".tsv": b"path\tcaption\tother\nvideo0.mp4\ta dog runs\tx\na/b.mp4\tit sits\ty\n",
    ".csv": b'path,caption\nvideo0.mp4,"a dog, running"\na/b.mp4,it sits\n',
}


def targets(scratch: Path) -> list[Target]:
    """All targets of this file.

    Args:
      scratch: where the videos are said to be; they are empty files, and nothing here decodes them.
    """
    videos = scratch / VIDEO
    videos.mkdir(exist_ok=True)
    for name in (WHOLE, "video7010.mp4", "abcdefghij0.mp4"):
        (videos / name).touch()
    there = Videos.of(videos)

    def put_msrvtt(folder: Path, rng: np.random.Generator) -> None:
        _empty(folder)
        content = as_json(mutated_json(MSRVTT, rng), rng)
        match int(rng.integers(6)):
            case 0:
                (folder / "videodatainfo_2017.json.gz").write_bytes(_maybe(gzip.compress(content, 1), rng))
            case 1:
                (folder / "a.zip").write_bytes(_maybe(_zipped({"videodatainfo_2017.json": content}), rng))
            case _:
                (folder / "videodatainfo_2017.json").write_bytes(content)
        (folder / TEST_LIST).write_bytes(mutated(JSFUSION, [JSFUSION], rng) if rng.random() < 0.5 else JSFUSION)

    def put_internvid(folder: Path, rng: np.random.Generator) -> None:
        _empty(folder)
        lines = b"\n".join(as_json(mutated_json(row, rng) if rng.random() < 0.7 else row, rng) for row in INTERNVID)
        if rng.random() < 0.1:
            (folder / "x.jsonl.gz").write_bytes(_maybe(gzip.compress(lines, 1), rng))
        else:
            (folder / "x.jsonl").write_bytes(_maybe(lines, rng))

    def put_table(folder: Path, rng: np.random.Generator) -> None:
        _empty(folder)
        suffix = (".tsv", ".csv", ".jsonl")[int(rng.integers(3))]
        if suffix == ".jsonl":
            content = b"\n".join(as_json(mutated_json(row, rng), rng) for row in FOLDER)
        else:
            content = mutated(TABLES[suffix], list(TABLES.values()), rng)
        (folder / f"x{suffix}").write_bytes(content)

    def put_tar(folder: Path, rng: np.random.Generator) -> None:
        _empty(folder)
        members = {"0.mp4": b"film", "0.txt": b"a dog runs", "1.mp4": b"film", "../2.mp4": b"film"}
        members["1.json"] = as_json(mutated_json({"caption": "it sits", "captions": ["a", "b"]}, rng), rng)
        (folder / "x.tar").write_bytes(_maybe(_tarred(members), rng))

    def read_msrvtt(folder: Path) -> object:
        files = find_files([folder])
        annotations = read_annotations(files.annotations)
        for split in ("official", "9k"):
            parts, bad = assign(split, annotations, files)
            _check(bad, there.root)
            for name, captions in [pair for listed in parts.values() for pair in listed.items()]:
                _check([Item(name, there.root / f"{name}.mp4", name, captions, split)], there.root)

    def read_internvid(folder: Path) -> object:
        (path,) = folder.iterdir()
        _check(Clips(Metadata(path), Wanted(min_aesthetic=4.0), there, by_line=False, val_share=0.1), there.root)

    def read_table(folder: Path) -> object:
        (path,) = folder.iterdir()
        _check(read_items(videos, path, 0.1)[0], there.root)

    def read_prompts(folder: Path) -> object:
        (path,) = folder.iterdir()
        return read_rows(path, ("path", "caption"), "prompts")

    return [
        Target("MSR-VTT annotations", 10, put_msrvtt, read_msrvtt),
        Target("InternVid metadata", 10, put_internvid, read_internvid),
        Target("folder table", 10, put_table, read_table),
        Target("table of prompts", 4, put_table, read_prompts),
        Target("WebDataset tar", 4, put_tar, lambda folder: list(clips_in(folder / "x.tar"))),
    ]


def _check(items: Iterable[Item], root: Path) -> None:
    """What is taken stays in its folder, has a name that can be written down, and captions of one line of text."""
    for item in items:
        json.dumps(item.identity())
        if item.refusal is None:
            assert item.path.resolve().is_relative_to(root), f"{item.path} leaves {root}"
            for caption in item.captions:
                assert caption.strip() and caption.encode().decode().splitlines() == [caption], repr(caption)


def _maybe(content: bytes, rng: np.random.Generator) -> bytes:
    return mutated(content, [content], rng) if rng.random() < 0.5 else content


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _tarred(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
