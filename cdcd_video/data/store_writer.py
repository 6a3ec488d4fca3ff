"""Writes prepared folders; a killed run can be resumed."""

import dataclasses
import functools
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import UInt8

from cdcd_video.data.images import FitMode
from cdcd_video.data.store_files import CLIPS, FORMAT, MANIFEST, REJECTED, VERSION, ClipRow
from cdcd_video.data.store_places import RECIPE, check_replaceable, put_in_place, refuse_more
from cdcd_video.data.tables import object_of
from cdcd_video.errors import UserError, note
from cdcd_video.storage.small_file import open_plain, read_small
from cdcd_video.video import refused_by_disk

_SHARD_BYTES = 2 * 2**30


class StoreWriter:
    """Writes a prepared folder that appears complete or not at all.

    All is written to `FOLDER.part` and renamed at the end. A run that was killed may be run again: what it had done is
    kept (`done`) if the recipe is the same, and the finished folder is the same, byte for byte, as of one that was not
    killed, provided that clips come in the same order.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        size_px: int,
        size: tuple[int, int] | None = None,
        fps: float | int,
        mode: FitMode,
        recipe: Mapping[str, object],
        shard_bytes: int = _SHARD_BYTES,
    ):
        """Begins a folder, or resumes an interrupted one.

        Args:
          folder: where the finished folder shall be; an earlier prepared folder there is replaced at the end.
          size_px: height and width of every frame, where they are square.
          size: height and width of frames of a prepared folder that is one of several sizes; None for squares.
          fps: frames per second of every clip.
          mode: how the frames were brought to their size.
          recipe: whatever else decides what comes out; written to the manifest. Plain JSON values.
          shard_bytes: a new array file is begun rather than to exceed this.

        Raises:
          UserError: if the place cannot be written, or holds something else.
        """
        self.folder = Path(folder)
        if self.folder.name in ("", ".."):
            raise UserError(f"cannot write a prepared folder to {folder}; choose a new folder")
        self.part = self.folder.with_name(self.folder.name + ".part")
        self._settings: dict[str, Any] = {"size_px": size_px, "fps": float(fps), "mode": mode, "recipe": dict(recipe)}
        if size is not None:
            self._settings["size"] = list(size)
        self._size = size or (size_px, size_px)
        self._frame_bytes = 3 * self._size[0] * self._size[1]
        self._shard_frames = max(1, shard_bytes // self._frame_bytes)
        self.rows: list[ClipRow] = []
        self.rejected: list[dict[str, str]] = []
        self._array: IO[bytes] | None = None
        with refused_by_disk(self.folder):
            check_replaceable(self.folder)
            self._begin_or_resume()
            self._clips = open(self.part / CLIPS, "a", encoding="utf-8", errors="backslashreplace")
            self._rejections = open(self.part / REJECTED, "a", encoding="utf-8", errors="backslashreplace")

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *error: object) -> None:
        for file in (self._array, self._clips, self._rejections):
            if file is not None:
                file.close()

    @property
    def done(self) -> set[str]:
        """Ids of all clips added or rejected so far, those before an interruption included."""
        return {row.id for row in self.rows} | {row["id"] for row in self.rejected}

    def add(
        self,
        name: str,
        frames: UInt8[np.ndarray, "F H W 3"],
        captions: Sequence[str],
        split: str,
        *,
        source: str = "",
        source_width: int,
        source_height: int,
        source_fps: float | int,
        about: Mapping[str, object] | None = None,
        cuts: Sequence[int] = (),
    ) -> None:
        """Stores a clip; `name` becomes its id, and `ClipRow` says what the other arguments mean.

        Raises:
          UserError: when the disk is full or refuses.
        """
        if not captions:
            raise ValueError(f"clip {name} has no caption")
        if frames.shape[1:] != (*self._size, 3):
            raise ValueError(f"clip {name} has frames of {frames.shape[1:]}, and the folder those of {self._size}")
        if any(not before < cut for before, cut in zip([0, *cuts], [*cuts, len(frames)], strict=True)):
            raise ValueError(f"clip {name} of {len(frames)} frames cannot have cuts at {list(cuts)}")
        file, offset = self._place(len(frames))
        row = ClipRow(
            id=name,
            captions=tuple(captions),
            split=split,
            source=source,
            file=file,
            offset=offset,
            num_frames=len(frames),
            fps=self._settings["fps"],
            seconds=round(len(frames) / self._settings["fps"], 6),
            source_width=source_width,
            source_height=source_height,
            source_fps=round(float(source_fps), 4),
            about=about or {},
            cuts=tuple(int(cut) for cut in cuts),
        )
        with refused_by_disk(self.folder):
            # Frames first: a line of clips.jsonl is the promise that its frames are there.
            array = self._open_array(file, offset)
            array.write(np.ascontiguousarray(frames).tobytes())
            array.flush()
            _append(self._clips, _values(row))
        self.rows.append(row)

    def reject(self, name: str, source: str, reason: str) -> None:
        """Records a refused clip and the reason."""
        row = {"id": name, "source": source, "reason": reason}
        with refused_by_disk(self.folder):
            _append(self._rejections, row)
        self.rejected.append(row)

    def finish(self, further: Mapping[str, object] | None = None) -> dict:
        """Completes the folder and puts it in its place. `complete` and `finish_together` do so for several, and say more."""
        manifest = self.complete(further)
        finish_together([self])
        return manifest

    def complete(self, further: Mapping[str, object] | None = None) -> dict:
        """Completes the folder where it was written; an earlier one stays in its place until `finish_together`.

        Args:
          further: what else the manifest shall say; plain JSON values that follow from what was added.

        Returns:
          The manifest.

        Raises:
          UserError: when the disk is full or refuses.
        """
        self.__exit__()
        with refused_by_disk(self.folder):
            lengths = self._lengths()
            for file, length in lengths.items():
                with open(self.part / file, "r+b") as array:
                    _write_header(array, (length, *self._size, 3))
            splits = [row.split for row in self.rows]
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                **self._settings,
                "num_clips": len(self.rows),
                "num_frames": sum(lengths.values()),
                "num_cuts": sum(len(row.cuts) for row in self.rows),
                "num_rejected": len(self.rejected),
                "splits": {split: splits.count(split) for split in sorted(set(splits))},
                **(further or {}),
                "files": {name: _describe(self.part / name) for name in sorted([*lengths, CLIPS, REJECTED])},
            }
            _write_json(self.part / MANIFEST, manifest)
        return manifest

    def give_up(self) -> Path:
        """Drops what was written, because no clip could be used; an earlier folder stays as it was.

        Only the reasons are kept. A later run with the same settings begins anew, so that mended videos are looked at.

        Returns:
          The file of the reasons.

        Raises:
          UserError: when the disk refuses.
        """
        self.__exit__()
        with refused_by_disk(self.folder):
            for path in self.part.iterdir():
                if path.name != REJECTED:
                    path.unlink()
            if not self.rejected:
                shutil.rmtree(self.part)
        return self.part / REJECTED

    def _begin_or_resume(self) -> None:
        recipe = self.part / RECIPE
        wanted = json.loads(json.dumps({"version": VERSION, **self._settings}))  # tuples as JSON will give them back
        try:
            resumes = json.loads(read_small(recipe)) == wanted
        except (UserError, ValueError, RecursionError):
            resumes = False
        if not resumes:
            if os.path.lexists(self.part):
                refuse_more(self.part, "an unfinished prepared folder", (RECIPE, MANIFEST, CLIPS, REJECTED))
                if os.listdir(self.part) != [REJECTED]:  # the rest of a run that gave up has nothing to begin from
                    note(f"{self.part} was left unfinished by a run with other settings; starting again")
                shutil.rmtree(self.part)
            self.part.mkdir(parents=True)
            _write_json(recipe, wanted)
            return
        self._keep_what_is_whole()

    def _keep_what_is_whole(self) -> None:
        """Keeps the clips of an interrupted run up to the first that is not completely on disk, and drops the rest."""
        sizes = {path.name: path.stat().st_size for path in self.part.glob("frames-*.npy")}
        header = _header_bytes(self._size)
        for values in _whole_lines(self.part / CLIPS):
            try:
                row = ClipRow.of(values)
            except (TypeError, KeyError):  # not a line of ours
                break
            if row.file not in sizes or header + (row.offset + row.num_frames) * self._frame_bytes > sizes[row.file]:
                break
            self.rows.append(row)
        known = ("id", "source", "reason")
        rejected = _whole_lines(self.part / REJECTED)
        self.rejected.extend(row for row in rejected if all(isinstance(row.get(name), str) for name in known))
        lengths = self._lengths()
        for name in sizes:
            if name in lengths:
                os.truncate(self.part / name, header + lengths[name] * self._frame_bytes)
            else:
                (self.part / name).unlink()
        for name, kept in ((CLIPS, [_values(row) for row in self.rows]), (REJECTED, self.rejected)):
            with open(self.part / name, "w", encoding="utf-8", errors="backslashreplace") as file:
                for values in kept:
                    _append(file, values)

    def _lengths(self) -> dict[str, int]:
        lengths: dict[str, int] = {}
        for row in self.rows:
            lengths[row.file] = row.offset + row.num_frames
        return lengths

    def _place(self, num_frames: int) -> tuple[str, int]:
        """Array file and row for the next clip: a clip never crosses files."""
        if not self.rows:
            return "frames-00000.npy", 0
        last = self.rows[-1]
        end = last.offset + last.num_frames
        if end + num_frames <= self._shard_frames:
            return last.file, end
        return f"frames-{int(last.file[7:12]) + 1:05d}.npy", 0

    def _open_array(self, file: str, offset: int) -> IO[bytes]:
        path = self.part / file
        position = _header_bytes(self._size) + offset * self._frame_bytes
        if self._array is None or self._array.name != str(path):
            if self._array is not None:
                self._array.close()
            self._array = open(path, "r+b" if path.exists() else "w+b")
            if offset == 0:
                _write_header(self._array, (0, *self._size, 3))
        self._array.seek(position)
        return self._array


def finish_together(writers: Iterable[StoreWriter]) -> None:
    """Puts completed folders in their places: all of them or, where the disk refuses one, none.

    Raises:
      UserError: when the disk refuses; the earlier folders are back then.
    """
    put_in_place([(writer.part, writer.folder) for writer in writers])


def _whole_lines(path: Path) -> Iterator[dict]:
    """Objects of a JSON-lines file up to the first line that was not written to its end."""
    if not path.exists():
        return
    with open_plain(path) as file:
        for line in file:
            values = object_of(line)
            if values is None or not line.endswith(b"\n"):
                return
            yield values


def _values(row: ClipRow) -> dict[str, object]:
    """What `clips.jsonl` says of a clip; nothing where there is nothing to say about it."""
    values = dataclasses.asdict(row)
    return {name: value for name, value in values.items() if value or name not in ("about", "cuts")}


def _append(file: io.TextIOBase, values: Mapping[str, object]) -> None:
    file.write(json.dumps(values, ensure_ascii=False) + "\n")
    file.flush()


def _write_json(path: Path, values: Mapping[str, object]) -> None:
    path.write_text(
        json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="backslashreplace"
    )


def _write_header(file: IO[bytes] | io.BytesIO, shape: tuple[int, ...]) -> None:
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


@functools.cache
def _header_bytes(size: tuple[int, int]) -> int:
    """Bytes before the first frame: numpy leaves room in its header for the length to grow, so they are fixed."""
    buffer = io.BytesIO()
    _write_header(buffer, (0, *size, 3))
    return buffer.tell()


def _describe(path: Path) -> dict[str, object]:
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
    return {"bytes": path.stat().st_size, "sha256": sha256.hexdigest()}
