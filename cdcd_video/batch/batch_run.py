"""Samples a batch: `inference.py --prompts TABLE --num-seeds N --grid grid.png`.

Everything is checked before anything is sampled. Each video is sampled by itself, so its bits are those of a single call.
What an interrupted batch has finished is kept when the same command is given again.
"""

import argparse
import hashlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cdcd_video import request
from cdcd_video.batch.batch_folder import batch_folder, is_sampled, write_table
from cdcd_video.batch.batch_rows import BatchRow, naming, read_batch, read_picture
from cdcd_video.config.ranges import check_settings
from cdcd_video.config.sampling_params import SamplingParams
from cdcd_video.config.value_types import Fit
from cdcd_video.data.images import as_array
from cdcd_video.errors import SamplingWarning, UserError, note
from cdcd_video.sampling.given_frame import given_frame
from cdcd_video.storage.record_files import held_record

MOST_SEEDS = 1_000
_OF_A_BATCH = ("prompts", "num_seeds", "grid")
"""Options by which a command line asks for a batch."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a batch to a command line."""
    add = parser.add_argument
    table = "sample every row of a .tsv, .csv or .jsonl with file, prompt and frame (last_frame, fps), into the folder --out"
    add("--prompts", metavar="TABLE", help=table)
    add("--num-seeds", type=int, metavar="N", help="videos of each prompt, with seeds from --seed on (default: 1)")
    add("--grid", metavar="IMAGE", help="also a contact sheet: a row for each prompt, a column for each seed")


def is_batch(asked: Mapping[str, Any]) -> bool:
    """Whether a command line asks for a batch."""
    return any(asked[name] is not None for name in _OF_A_BATCH)


def sample_batch(asked: Mapping[str, Any]) -> None:
    """Samples a batch and prints the paths that it wrote.

    Args:
      asked: the options of `inference.py` by name; None where an option was not given.

    Raises:
      UserError: an option, the table, one of its rows or a picture cannot be used; the sentence names file and line. Nothing
        has been sampled then.
    """
    num_seeds = _checked(asked)
    out = Path(asked["out"] or f"out/{Path(asked['prompts'] or asked['frame'] or 'batch').stem}")
    with batch_folder(out):
        rows = read_batch(asked, out)
        for path in _Batch(asked, rows, num_seeds, out).sample():
            sys.stdout.write(f"{path}\n")
            sys.stdout.flush()


def _checked(asked: Mapping[str, Any]) -> int:
    """The number of seeds."""
    for name in ("prompts", "grid"):
        if asked[name] == "":  # a variable of the shell that is not set
            raise UserError(f"--{name} is empty; name a file, or leave it out")
    num_seeds = 1 if asked["num_seeds"] is None else asked["num_seeds"]
    if not 1 <= num_seeds <= MOST_SEEDS:
        raise UserError(f"--num-seeds is {num_seeds}; it must be from 1 to {MOST_SEEDS}")
    for name in ("from_json", *(["text"] if asked["prompts"] else [])):
        if asked[name] is not None:
            flag = f"--{name.replace('_', '-')}"
            beside = next(f"--{other.replace('_', '-')}" for other in _OF_A_BATCH if asked[other] is not None)
            raise UserError(f"{flag} is for a single video and cannot be used with {beside}; leave one of them out")
    given = {name: asked[name] for name in request.SAMPLING if asked[name] is not None}
    first = SamplingParams().changed(**given).seed
    SamplingParams().changed(seed=first + num_seeds - 1)
    if asked["scale"] is not None:
        check_settings({"scale": asked["scale"]})
    return num_seeds


@dataclass(frozen=True)
class _Planned:
    """One video."""

    row: BatchRow
    file: Path
    params: SamplingParams
    scale: int


class _Batch:
    """The videos of a batch, with the model loaded."""

    def __init__(self, asked: Mapping[str, Any], rows: Sequence[BatchRow], num_seeds: int, out: Path):
        import torch

        from cdcd_video.batch.seed_grid import check_grid
        from cdcd_video.engine.runtime import device_for
        from cdcd_video.pipeline import ImageToVideo

        self.rows, self.out, self.checkpoint = rows, out, asked["checkpoint"] or "sprites"
        self.fit: Fit | None = asked["fit"]
        self.grid = Path(asked["grid"]) if asked["grid"] else None
        device = device_for(asked["device"] or "auto")
        self.pipe = ImageToVideo.from_pretrained(self.checkpoint, str(device))
        self.machine = {"device": str(device), "threads": self.pipe.num_threads or torch.get_num_threads()}
        given = {name: asked[name] for name in request.SAMPLING}
        first = self.pipe.defaults(**given).seed
        self.seeds = range(first, first + num_seeds)
        if self.grid is not None:
            check_grid(self.grid, len(rows), num_seeds, self.pipe.size_px)
        self.planned: list[_Planned] = []
        for row in rows:
            with naming(row):
                for seed in self._seeds_of(row):
                    params = self.pipe.defaults(**given | {"seed": seed, "fps": row.fps or given["fps"]})
                    file = out / row.file_of(seed, num_seeds)
                    exact = file.suffix.lower() == ".webp"
                    scale = asked["scale"] or (1 if exact else max(1, request.VIEW_PX // self.pipe.size_px))
                    self.planned.append(_Planned(row, file, params, scale))

    def sample(self) -> Iterator[Path]:
        """Samples what is not there yet, and writes table and grid.

        Yields:
          Each path, as soon as it is written.
        """
        from tqdm import tqdm

        self._report_notes()
        waiting = [one for one in self.planned if not self._is_there(one)]
        yield write_table(self.out, self.rows, self._start, self._seeds_of, self.pipe.model.digest)
        if len(waiting) < len(self.planned):
            note(f"{len(self.planned) - len(waiting)} of {len(self.planned)} videos are there already and are kept")
        total = sum(one.params.num_frames - 1 for one in waiting)
        with tqdm(total=total, desc="sampling", unit="frame") as bar:
            for one in waiting:
                yield from self._sampled(one, bar.update)
        if self.grid is not None:
            from cdcd_video.batch.seed_grid import write_grid

            count, files = len(self.seeds), [one.file for one in self.planned]
            by_row = [files[begin : begin + count] for begin in range(0, len(files), count)]
            columns = [] if any(row.seed is not None for row in self.rows) else [f"seed {seed}" for seed in self.seeds]
            yield write_grid(self.grid, by_row, [row.prompt for row in self.rows], columns, self.pipe.size_px)

    def _report_notes(self) -> None:
        """Checks captions and given frames; each warning is told once, with the first row that it is about."""
        from cdcd_video.sampling.notes import advice_on_last

        about: dict[str, list[str]] = {}
        for one in self.planned[:: len(self.seeds)]:
            with naming(one.row):
                start, notes = self._fitted(one.row)
                notes += self.pipe.warnings(one.row.captions, one.params, start)
                if one.row.last is not None:
                    notes += advice_on_last(self.pipe.model, one.params)
                    notes += self._fitted_last(one.row, start)[1]
                for sentence in notes:
                    about.setdefault(sentence, []).append(one.row.where)
        for sentence, places in about.items():
            others = f" and {len(places) - 1} more" if len(places) > 1 else ""
            note(f"{places[0]}{others}: {sentence}")

    def _seeds_of(self, row: BatchRow) -> Sequence[int]:
        return self.seeds if row.seed is None else [row.seed]

    def _start(self, row: BatchRow) -> UInt8[np.ndarray, "H W 3"]:
        return self._fitted(row)[0]

    def _fitted(self, row: BatchRow) -> tuple[UInt8[np.ndarray, "H W 3"], list[str]]:
        return self.pipe.sizes.fitted(as_array(read_picture(row.picture)), self.fit)

    def _fitted_last(self, row: BatchRow, start: np.ndarray) -> tuple[UInt8[np.ndarray, "H W 3"], list[str]]:
        assert row.last is not None, "a row without a last frame has none to fit"
        picture = as_array(read_picture(row.last))
        return self.pipe.sizes.fitted_to(start.shape[:2], picture, self.fit, "last image")

    def _is_there(self, one: _Planned) -> bool:
        settings = self.pipe.settings(one.row.captions, one.params)
        given = settings | {"fit": self.fit}
        last_sha256 = _sha256(one.row.last) if one.row.last else None
        return is_sampled(one.file, given, one.params, one.scale, _sha256(one.row.picture), last_sha256)

    def _sampled(self, one: _Planned, progress: Any) -> Iterator[Path]:
        row, settings = one.row, self.pipe.settings(one.row.captions, one.params)
        order = request.Request(
            read_picture(row.picture),
            row.picture.name,
            _sha256(row.picture),
            captions=row.captions,
            checkpoint=self.checkpoint,
            device=str(self.machine["device"]),
            sampling={},
            scale=one.scale,
            again=None,
            fit=self.fit,
            last=given_frame(row.last) if row.last else None,
        )
        with held_record(one.file) as record, warnings.catch_warnings():
            warnings.simplefilter("ignore", SamplingWarning)  # told before the first video
            last = self._fitted_last(row, self._start(row))[0] if row.last else None
            parts = self.pipe.stream(order.start, row.captions, one.params, progress, last_image=last, fit=self.fit)
            yield from request.write(
                parts, settings, request.Target(one.file, record, None), order, last, **self.machine
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
