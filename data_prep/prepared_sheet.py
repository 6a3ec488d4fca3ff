"""What a prepared folder holds, as a picture, and whether that is enough."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cdcd_video.config import FitMode
from cdcd_video.data.store import WITH_VAL, StoredClips
from cdcd_video.data.store_files import SHEET, ClipRow
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


def after_summary(folder: Path, splits: dict[str, int]) -> str:
    """Draws the sheet and says where it is; says what became of clips that are no squares; warns of few clips, or none for val.

    Args:
      splits: number of clips by split.
    """
    sheet = draw_sheet(folder, "train" if "train" in splits else next(iter(splits)))
    whole = StoredClips(folder)
    if note := note_on_sides(whole.rows, whole.mode, whole.size):
        say("note", note)
    num = splits.get("train", 0)
    if num and not splits.get("val"):
        say("warning", f"no clip is of the split val, and training needs some; prepare again with {WITH_VAL}.")
    if 0 < num < FEW_CLIPS:
        few = f"{num} training clips are few, and a model learns few clips by heart"
        say("warning", f"{few}; prepare more, or begin with the weights of a shipped model (--set init=sprites).")
    return f"; look at {sheet}"


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
