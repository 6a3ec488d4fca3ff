"""A prepared folder with changed copies of its training clips, for sets of few clips.

Every clip of the split train becomes COPIES clips: itself, its mirror image, and copies that are also zoomed, shifted,
brightened or darkened, and that begin a little later; every other one is mirrored. In the captions of mirrored ones left
and right change places. All other splits stay as they are. What the picture contains is not known: writing is mirrored,
too, so leave such clips out.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from cdcd_video.data.clip_augmentation import (
    GAIN,
    GAMMA,
    SHIFT_SHARE,
    ZOOM,
    Augmentation,
    clip_rng,
    sample_augmentation,
)
from cdcd_video.data.images import content_box
from cdcd_video.data.mirrored_captions import mirrored_caption
from cdcd_video.data.store import StoredClips, stored_by_size
from cdcd_video.data.store_files import ClipRow
from cdcd_video.data.store_writer import StoreWriter, finish_together
from cdcd_video.errors import UserError, require
from cdcd_video.storage.folder_lock import folder_lock
from data_prep.prepared_sheet import summaries
from data_prep.recipes import RECIPES, Recipe
from data_prep.sizes import Place, is_of_one_size, places_of

TRAIN = "train"
NUM_PRINTED = 8
"""Sentences that are printed with their mirror; the manifest has all."""
MOST_COPIES = 1000
"""Of a training clip; far fewer already differ in nothing that matters."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    parser.add_argument("folder", type=Path, metavar="PREPARED", help="a prepared folder, of one size or several")
    parser.add_argument("--out", required=True, type=Path, help="prepared folder to create")
    parser.add_argument(
        "--copies", type=int, default=8, help="clips for each training clip, itself included (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the changes (%(default)s)")


def run(options: argparse.Namespace) -> str:
    """Writes the clips; returns lines about the result and about the sentences that have a mirror.

    Raises:
      UserError: a number out of range, no training clips, or `--out` is the folder itself.
    """
    began = time.monotonic()
    if not 1 <= options.copies <= MOST_COPIES or options.seed < 0:
        raise UserError(f"--copies must be from 1 to {MOST_COPIES} and --seed at least 0")
    require("cv2", extra="data")
    if options.out.resolve() == options.folder.resolve():
        raise UserError(f"{options.out} is the folder to augment; choose another --out")
    stored = stored_by_size(options.folder)
    by_size = {clips.size: clips for clips in stored}
    if all(row.split != TRAIN for clips in stored for row in clips.rows):
        raise UserError(f"{options.folder} has no clips of the split {TRAIN}, and only those are augmented")
    made: list[tuple[StoreWriter, dict]] = []
    mirrors: dict[str, str] = {}
    with folder_lock(options.out):
        places = places_of(options.out, sorted(by_size), stored[0].size_px, is_one=is_of_one_size(options.folder))
        for size, place in places.items():
            writer, manifest, own = _augment(by_size[size], place, options.copies, options.seed)
            mirrors |= own
            made.append((writer, manifest))
        finish_together(writer for writer, _ in made)
        lines = [summaries(made, began)]
    lines.append(f"{len(mirrors)} sentences have another mirror; check that `left` and `right` are sides in each:")
    lines += [f"  {old} -> {new}" for old, new in list(mirrors.items())[:NUM_PRINTED]]
    return "\n".join(lines)


def _augment(
    clips: StoredClips, place: Place, copies: int, seed: int
) -> tuple[StoreWriter, dict[str, object], dict[str, str]]:
    """Writes the clips of one size.

    Returns:
      What has written them, completed but not yet in its place; the manifest; and the sentences that have another mirror
      with it.
    """
    recipe = {
        "recipe": "augment",
        "data": clips.digest(),
        "copies": copies,
        "seed": seed,
        "limits": {"zoom": ZOOM, "shift_share": SHIFT_SHARE, "gain": GAIN, "gamma": GAMMA},
    }
    how = {"size_px": clips.size_px, "size": place.size, "fps": clips.fps, "mode": clips.mode, "recipe": recipe}
    mirrors: dict[str, str] = {}
    with StoreWriter(place.folder, **how) as writer:
        done = writer.done
        for number, row in enumerate(tqdm(clips.rows, unit="clip", file=sys.stderr)):
            frames = clips.frames(number, range(row.num_frames))
            box = content_box(row.source_width, row.source_height, clips.size, clips.mode)
            for name, change in augmentations(row, clips.size_px, copies, seed):
                captions = tuple(map(mirrored_caption, row.captions)) if change.is_mirrored else row.captions
                mirrors |= {old: new for old, new in zip(row.captions, captions, strict=True) if old != new}
                if name in done:
                    continue
                about = row.about if name == row.id else {**row.about, "copy_of": row.id, **dataclasses.asdict(change)}
                writer.add(
                    name,
                    change.apply(frames, box),
                    tuple(dict.fromkeys(captions)),
                    row.split,
                    source=row.source,
                    source_width=row.source_width,
                    source_height=row.source_height,
                    source_fps=row.source_fps,
                    about=about,
                    cuts=tuple(cut - change.skipped for cut in row.cuts),
                )
        return writer, writer.complete({"mirrored_captions": mirrors}), mirrors


def augmentations(row: ClipRow, size_px: int, copies: int, seed: int) -> Iterator[tuple[str, Augmentation]]:
    """Id and change of each clip that a clip becomes; of another split than train only the clip itself.

    Args:
      row: the clip.
      size_px: side of its frames where they are square; others are shifted as far.
      copies: clips for each training clip.
      seed: of the changes.
    """
    yield row.id, Augmentation()
    for copy in range(1, copies if row.split == TRAIN else 1):
        is_mirrored = copy % 2 == 1
        if copy == 1:
            yield f"{row.id}~1", Augmentation(is_mirrored=True)
            continue
        shot = {"first_shot": min((row.num_frames, *row.cuts)), "is_mirrored": is_mirrored}
        rng = clip_rng(seed, row.id, copy)
        yield f"{row.id}~{copy}", sample_augmentation(rng, size_px=size_px, fps=row.fps, **shot)


RECIPES.register("augment")(Recipe(__doc__, add_options, run, reads_videos=False))
