"""The folder of a batch: which of its videos are there already, and the table that `evaluate.py` and the rating page read.

| file | |
|---|---|
| `NAME.mp4`, `NAME.json` | a video and its record; with several seeds `NAME-seed-K.mp4` |
| `prompts.jsonl` | the table: file, prompt, frame, truth |
| `frames/NAME.png` | starting frames at the model's size |
| `truth/NAME.*` | copies of the true videos, where the table of prompts names them |
"""

import filecmp
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cdcd_video import request, video
from cdcd_video.batch.batch_rows import BatchRow
from cdcd_video.config import SamplingParams
from cdcd_video.config.wording import quoted
from cdcd_video.data.tables import object_of
from cdcd_video.errors import UserError
from cdcd_video.storage.folder_lock import folder_lock, holds_nothing, remove_left_locks
from cdcd_video.storage.record_files import record_of
from cdcd_video.storage.small_file import MIB, Missing, Unreadable, read_small_text

TABLE = "prompts.jsonl"
_MARK = "model_sha256"
"""A column that only the table of a batch has."""


@contextmanager
def batch_folder(folder: Path) -> Iterator[None]:
    """Makes and locks the folder; one that is still empty at the end is removed.

    Raises:
      UserError: it holds something else than a batch, another process writes it, or it cannot be written.
    """
    if folder.suffix.lower() in request.SUFFIXES:
        raise UserError(f"many videos need a folder, and --out is {folder}; leave out the suffix")
    with folder_lock(folder):
        with video.refused_by_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if not holds_nothing(folder) and not _is_batch(folder):
                raise UserError(f"{folder} holds something other than a batch of videos; choose another --out")
            for unfinished in folder.rglob(".*.part"):
                unfinished.unlink(missing_ok=True)
            remove_left_locks(folder)
        try:
            yield
        finally:
            if holds_nothing(folder):
                folder.rmdir()


def _is_batch(folder: Path) -> bool:
    try:
        first = object_of(read_small_text(folder / TABLE, limit=1024 * MIB).partition("\n")[0])
    except Missing:
        return False
    except Unreadable:
        first = None
    return first is not None and _MARK in first


def is_sampled(
    path: Path,
    settings: Mapping[str, Any],
    params: SamplingParams,
    scale: int,
    sha256: str,
    last_sha256: str | None = None,
) -> bool:
    """Whether a video is there, whole, and sampled as it would be now. Its record is written last.

    Args:
      path: of the video.
      settings: of `ImageToVideo.settings`, with `fit` where it is asked for.
      sha256: of the picture.
      last_sha256: of the picture that the video ends in; None where there is none.

    Raises:
      UserError: it was sampled in another way; the first differences are named.
    """
    beside = record_of(path) if path.is_file() else None
    if beside is None:
        return False
    found = request.read_record(beside)
    pictures = {"picture": found.frame.sha256, "last picture": found.last_frame and found.last_frame.sha256}
    now = {**params.model_dump(), "scale": scale, "fit": settings.get("fit"), _MARK: settings[_MARK]}
    there = {name: getattr(found, name) for name in now} | pictures
    now |= {"picture": sha256, "last picture": last_sha256}
    now["text"], there["text"] = [list(turn) for turn in settings["text"]], [list(turn) for turn in found.text]
    differing = [
        f"{name} {quoted(there[name])} there, {quoted(now[name])} here" for name in now if now[name] != there[name]
    ]
    if differing:
        raise UserError(
            f"{path} was sampled in another way ({'; '.join(differing)}); choose another --out, or delete that video"
        )
    return True


def write_table(
    folder: Path,
    rows: Sequence[BatchRow],
    start_of: Callable[[BatchRow], UInt8[np.ndarray, "H W 3"]],
    seeds_of: Callable[[BatchRow], Sequence[int]],
    model_sha256: str,
) -> Path:
    """Writes the table, the starting frames and the copies of true videos.

    Args:
      start_of: gives the starting frame of a row at the model's size.
      seeds_of: gives the seeds of a row.

    Returns:
      The table.

    Raises:
      UserError: it cannot be written, two videos would have one name, or a video that of a copy.
    """
    lines, names = [], dict[str, str]()
    for row in rows:
        beside = {"frame": folder / "frames" / f"{row.file.stem}.png"}
        if row.truth is not None:
            beside["truth"] = folder / "truth" / (row.file.stem + ("" if row.truth.is_dir() else row.truth.suffix))
        for seed in (seeds := seeds_of(row)):
            file = row.file_of(seed, len(seeds))
            if folder / file == beside.get("truth"):
                raise UserError(f"{row.where}: {file} is where the copy of the true video goes; choose another file")
            if file.stem in names:
                raise UserError(
                    f"{row.where}: {names[file.stem]} gives a video of the name {file.stem}, too; rename one"
                )
            names[file.stem] = row.where
            paths = {name: path.relative_to(folder).as_posix() for name, path in beside.items()}
            lines.append({"file": file.as_posix(), "prompt": row.prompt, **paths, "seed": seed, _MARK: model_sha256})
    with video.whole_file(folder / TABLE) as part:  # first: it says that what follows is a batch
        part.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for row in rows:
        with video.whole_file(folder / "frames" / f"{row.file.stem}.png") as part:
            Image.fromarray(start_of(row)).save(part, "PNG")
        if row.truth is not None:
            _copy(row.truth, folder / "truth" / (row.file.stem + ("" if row.truth.is_dir() else row.truth.suffix)))
    return folder / TABLE


def _copy(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():  # the table may be that of this folder; deleting it first would lose it
        return
    with video.refused_by_disk(target):
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
        elif not (target.is_file() and filecmp.cmp(source, target, shallow=False)):
            with video.whole_file(target) as part:
                shutil.copyfile(source, part)
