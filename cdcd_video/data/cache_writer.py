"""Writes caches block by block, in one or several processes, and can resume after a kill.

A cache that is being made is the folder `FOLDER.part`: its plan, and a file per finished block. Whoever finds all blocks
finished joins them. Processes that do parts of one cache do not wait for each other (one that makes a whole cache keeps
others out by the folder's lock, see `storage.folder_lock`):

- a block's file appears whole or not at all (written under another name, flushed to the disk, renamed);
- two processes that do the same block write the same bytes;
- the joined folder appears by one renaming; who comes second finds it there and drops its own copy.
"""

import hashlib
import itertools
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from cdcd_video.data.cache import FORMAT, INDEX, MANIFEST, REJECTED, SPACE, read_manifest
from cdcd_video.data.cache_blocks import BLOCK_CLIPS, Block, BlockFile, Encoder, encode_block, loaded_clips, pack
from cdcd_video.data.cache_plan import CachePlan
from cdcd_video.data.store import Clips
from cdcd_video.data.store_files import MOST_MANIFEST_BYTES
from cdcd_video.errors import UserError
from cdcd_video.storage.folder_lock import holds_nothing
from cdcd_video.storage.small_file import read_small
from cdcd_video.video import refused_by_disk

_PLAN = "plan.json"


class CacheWriter:
    """Writes a cache, or continues an unfinished one.

    Args:
      folder: where the finished cache shall be.
      plan: what it holds.
      space: content of `space.safetensors`.

    Raises:
      UserError: the place holds something else, or a cache (finished or not) of another plan; nothing is deleted.
    """

    def __init__(self, folder: Path, plan: CachePlan, space: bytes):
        self.folder, self.plan, self.space = folder, plan, space
        self.part = folder.with_name(folder.name + ".part")
        if folder.name in ("", ".."):
            raise UserError(f"cannot write a cache to {folder}; choose a new folder")
        try:
            self._begin()
        except UserError:
            if not self.is_finished:
                raise
            self._begin()  # another process finished it and cleaned up meanwhile

    @property
    def is_finished(self) -> bool:
        """Whether the whole cache is there."""
        return (self.folder / MANIFEST).is_file()

    @property
    def num_blocks(self) -> int:
        """Of the whole cache."""
        return -(-self.plan.num_items // BLOCK_CLIPS)

    def missing(self, shard: int = 0, num_shards: int = 1) -> list[int]:
        """Blocks of a shard (each `num_shards`-th, from number `shard` on) that are not finished yet."""
        if self.is_finished:
            return []
        return [block for block in range(shard, self.num_blocks, num_shards) if not self._file(block).is_file()]

    def add(self, number: int, block: Block) -> None:
        """Keeps a finished block.

        Raises:
          UserError: when the disk is full or refuses.
        """
        path = self._file(number)
        with refused_by_disk(self.folder):
            try:
                path.parent.mkdir(exist_ok=True)
                _write_whole(path, pack(block))
            except FileNotFoundError:
                if not self.is_finished:  # else another process did this block too, joined all of them and cleaned up
                    raise

    def join(self) -> bool:
        """Joins the blocks to the cache, if all of them exist.

        Returns:
          Whether the whole cache is there now.

        Raises:
          UserError: a block is damaged, no clip could be used, or the disk is full or refuses.
        """
        if not self.is_finished:
            if self.missing():
                return self.is_finished  # no block is missing if another process has joined and cleaned up meanwhile
            own = self.part / f"joined-{uuid.uuid4().hex}"
            try:
                with refused_by_disk(self.folder):
                    own.mkdir()
                    self._join_into(own)
                    os.rename(own, self.folder)
            except UserError:
                shutil.rmtree(own, ignore_errors=True)
                if not self.is_finished:  # else another process was faster
                    raise
        shutil.rmtree(self.part, ignore_errors=True)
        return True

    def _file(self, number: int) -> Path:
        return self.part / f"blocks-{number // 1000:05d}" / f"{number:08d}.safetensors"

    def _begin(self) -> None:
        """Checks an earlier beginning of the cache, and writes the plan."""
        way_out = "choose another folder, or delete that one"
        with refused_by_disk(self.folder):
            if self.folder.is_dir() and not holds_nothing(self.folder):
                self.plan.check(read_manifest(self.folder)["plan"], self.folder, way_out)
                shutil.rmtree(self.part, ignore_errors=True)  # of one killed between the renaming and the clearing up
                return
            if self.folder.exists() and not self.folder.is_dir():
                raise UserError(f"{self.folder} is a file; choose a new folder for the cache")
            if (self.part / _PLAN).is_file():
                try:
                    begun = json.loads(read_small(self.part / _PLAN))
                except (ValueError, RecursionError):
                    raise UserError(f"{self.part / _PLAN} is damaged; delete the folder {self.part}") from None
                self.plan.check(begun, self.part, way_out)
            elif self.part.exists() and any(not path.name.startswith(f".{_PLAN}.") for path in self.part.iterdir()):
                raise UserError(f"{self.part} exists and is not an unfinished cache; choose another folder")
            self.part.mkdir(parents=True, exist_ok=True)
            _write_whole(self.part / _PLAN, json.dumps(self.plan.values()).encode())

    def _blocks(self) -> Iterator[BlockFile]:
        return (BlockFile(self._file(number)) for number in range(self.num_blocks))

    def _join_into(self, own: Path) -> None:
        splits: Counter[str] = Counter()
        rows_of: Counter[str] = Counter()
        num_rejected = 0
        with open(own / INDEX, "wb") as index, open(own / REJECTED, "wb") as rejections:
            for block in self._blocks():
                rows, refused = block.tables()
                _append(index, rows)
                _append(rejections, refused)
                splits.update(row["split"] for row in rows)
                rows_of.update({name: shape[0] for name, shape in block.shapes.items()})
                num_rejected += len(refused)
        if not splits:
            os.replace(own / REJECTED, self.part / REJECTED)
            raise UserError(
                f"none of {self.plan.num_items} clips could be used; for the reasons see {self.part / REJECTED}, and delete"
                f" {self.part} before you encode mended videos"
            )
        known = sorted(splits)
        for name in self.plan.arrays:
            parts = (_with_split(block, known) if name == "clips" else block.array(name) for block in self._blocks())
            _write_array(own / f"{name}.npy", parts, rows_of[name])
        (own / SPACE).write_bytes(self.space)
        names = sorted([*(f"{name}.npy" for name in self.plan.arrays), INDEX, REJECTED, SPACE])
        manifest = {
            "format": FORMAT,
            "plan": self.plan.values(),
            "num_clips": rows_of["clips"],
            "num_frames": rows_of["codes"],
            "num_captions": rows_of["captions"],
            "num_rejected": num_rejected,
            "splits": {split: splits[split] for split in known},
            "files": {name: _described(own / name) for name in names},
        }
        _write_whole(own / MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())


def write_cache(
    folder: Path,
    clips: Clips,
    encoder: Encoder,
    plan: CachePlan,
    space: bytes,
    *,
    split: str | None,
    shard: int = 0,
    num_shards: int = 1,
) -> CacheWriter:
    """Encodes the clips that are not encoded yet, and joins the blocks when all exist.

    Args:
      folder: where the cache shall be.
      clips: the frames and captions.
      encoder: of the plan's codec.
      plan: what the cache holds.
      space: content of `space.safetensors`.
      split: what the clips are called; None where each clip's row says it.
      shard: which part of the work this process does.
      num_shards: how many parts there are.

    Returns:
      The writer, which knows whether the cache is whole.

    Raises:
      UserError: see `CacheWriter`.
    """
    writer = CacheWriter(folder, plan, space)
    missing = writer.missing(shard, num_shards)
    parts = {block: range(block * BLOCK_CLIPS, min((block + 1) * BLOCK_CLIPS, len(clips))) for block in missing}
    with tqdm(total=sum(map(len, parts.values())), desc="encode clips", unit="clip", mininterval=5) as progress:
        for block, numbers in parts.items():
            entries = counted(loaded_clips(clips, numbers, split, plan.max_frames), progress)
            writer.add(block, encode_block(entries, encoder, plan))
    writer.join()
    return writer


def write_private_cache(
    folder: Path, clips: Clips, encoder: Encoder, plan: CachePlan, space: bytes, split: str, **part: int
) -> None:
    """The same for the private cache of a run; a cache of another plan is replaced.

    Raises:
      UserError: the folder holds something that is no cache, or see `CacheWriter`.
    """
    clear_private_cache(folder, plan)
    write_cache(folder, clips, encoder, plan, space, split=split, **part)


def clear_private_cache(folder: Path, plan: CachePlan) -> None:
    """Deletes the private cache of a run, finished or not, if it has another plan.

    Raises:
      UserError: the disk refuses.
    """
    for place, file in ((folder, MANIFEST), (folder.with_name(folder.name + ".part"), _PLAN)):
        if place.is_dir() and (place / file).is_file() and not _is_of(plan, place / file):
            with refused_by_disk(place):
                old = place.with_name(f"{place.name}.old-{uuid.uuid4().hex}")
                os.rename(place, old)
            shutil.rmtree(old, ignore_errors=True)


def counted(entries: Iterable[Any], progress: tqdm) -> Iterator[Any]:
    """The entries, counted in a progress bar."""
    for entry in entries:
        yield entry
        progress.update()


def _is_of(plan: CachePlan, file: Path) -> bool:
    try:
        facts = json.loads(read_small(file, limit=MOST_MANIFEST_BYTES))
    except (UserError, ValueError, RecursionError):
        return False
    if file.name == MANIFEST:
        facts = facts.get("plan") if isinstance(facts, dict) else None
    return plan.values() == facts


def _with_split(file: BlockFile, known: list[str]) -> np.ndarray:
    """Rows of `clips.npy`: those of the block, each with its split's number."""
    number = {split: place for place, split in enumerate(known)}
    splits = np.array([number[row["split"]] for row in file.tables()[0]], np.int32)
    return np.concatenate([file.array("clips"), splits[:, None]], axis=1)


def _write_array(path: Path, parts: Iterator[np.ndarray], num_rows: int) -> None:
    """An array of parts one below another, of which only one is in memory at a time."""
    first = next(parts)
    header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (num_rows, *first.shape[1:])})
        for part in itertools.chain([first], parts):
            file.write(np.ascontiguousarray(part).tobytes())
        _flush(file)


def _append(file: BinaryIO, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        file.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))


def _write_whole(path: Path, content: bytes) -> None:
    """Writes a file completely or not at all, even if the machine stops."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(part, "wb") as file:
            file.write(content)
            _flush(file)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _described(path: Path) -> dict[str, object]:
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 16):
            sha256.update(part)
    return {"bytes": path.stat().st_size, "sha256": sha256.hexdigest()}
