"""What a prepared folder holds, as a picture, and whether that is enough."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cdcd_video.config import FitMode
from cdcd_video.data.store import StoredClips
from cdcd_video.data.store_files import SHEET, ClipRow
from cdcd_video.data.store_writer import StoreWriter
from cdcd_video.data.val_share import way_to_val
from cdcd_video.errors import say
from cdcd_video.video import contact_sheet

NUM_ROWS, NUM_COLUMNS = 6, 8
FEW_CLIPS = 200
"""Training clips below which a model that begins from noise learns its clips by heart: 154 real ones did after 1,000 steps."""


def draw_sheet(folder: Path, split: str) -> Path:
    """Writes some clips of a split, spread over all of them: a row each, its frames spread over the clip, its caption above."""
    clips = StoredClips(folder, split)
    rows, labels = [], []
    for clip in np.unique(np.linspace(0, len(clips) - 1, min(NUM_ROWS, len(clips))).astype(int)).tolist():
        num = clips.num_frames(clip)
        rows.append(clips.frames(clip, np.linspace(0, num - 1, min(NUM_COLUMNS, num)).astype(int).tolist()))
        labels.append(clips.caption(clip))
    return contact_sheet(rows, folder / SHEET, labels)


def summaries(made: Sequence[tuple[StoreWriter, dict]], began: float) -> str:
    """A line for each prepared folder; says also what became of clips that are no squares, and warns of too few clips.

    Args:
      made: who wrote each folder, of one size or several, and its manifest.
      began: when the run did, by `time.monotonic`.
    """
    lines = [_summary(writer.folder, manifest, time.monotonic() - began) for writer, manifest in made]
    # Of several sizes training takes all clips together, so that a size without val is of no harm.
    warn_of_splits([row for writer, _ in made for row in writer.rows], made[0][1]["recipe"])
    return "\n".join(lines)


def _summary(out: Path, manifest: Mapping[str, Any], seconds: float) -> str:
    """One line that says what a prepared folder holds, and where there is a sheet of it."""
    splits = ", ".join(f"{count} {split}" for split, count in manifest["splits"].items())
    refused = f"; {manifest['num_rejected']} refused, see {out}/rejected.jsonl" if manifest["num_rejected"] else ""
    cuts = f", {manifest['num_cuts']} cuts" if manifest["num_cuts"] else ""
    height, width = manifest.get("size") or (manifest["size_px"],) * 2
    size = f"{height if height == width else f'{height}x{width}'} px, {manifest['fps']:g} fps"
    if not manifest["num_clips"]:
        return f"{out}: no clip is nearest to {height}x{width} px"
    sheet = draw_sheet(out, "train" if "train" in manifest["splits"] else next(iter(manifest["splits"])))
    whole = StoredClips(out)
    if note := note_on_sides(whole.rows, whole.mode, whole.size):
        say("note", note)
    counts = f"{manifest['num_clips']} clips ({splits}), {manifest['num_frames']} frames{cuts}, {size}"
    return f"{out}: {counts}{refused}; {seconds:.0f} s; look at {sheet}"


def warn_of_splits(rows: Sequence[ClipRow], recipe: object) -> None:
    """Warns of few training clips, or none for validation.

    Args:
      rows: of the prepared folder, or of the folders of all sizes.
      recipe: of the manifest.
    """
    num = sum(row.split == "train" for row in rows)
    if num and all(row.split != "val" for row in rows):
        say("warning", f"no clip is of the split val, and training needs some; {way_to_val(recipe, rows)}.")
    if 0 < num < FEW_CLIPS:
        few = f"{num} training clips are few, and a model learns few clips by heart"
        say("warning", f"{few}; prepare more, or begin with the weights of a shipped model (--set init=sprites).")


def note_on_sides(rows: Sequence[ClipRow], mode: FitMode, size: tuple[int, int] = (1, 1)) -> str | None:
    """One sentence on what was cut off from clips of another shape than the frames, or added to them; None where there are none.

    Args:
      size: height and width of the frames; any square by default.
    """
    height, width = size
    sides = np.array([(row.source_width * height, row.source_height * width) for row in rows])
    uneven = sides[sides[:, 0] != sides[:, 1]]
    if not len(uneven):
        return None
    share = 100 * np.median(1 - uneven.min(axis=1) / uneven.max(axis=1))
    what = "no squares" if height == width else f"not of the shape {height}x{width}"
    about = f"{len(uneven):,} of {len(rows):,} clips are {what}"
    if mode == "crop":
        return f"{about}, and {share:.2g} % of each (the median) was cut off; --mode letterbox keeps all of it."
    return f"{about}, and black bars fill {share:.2g} % of their frames (the median); --mode crop shows their centre alone."
