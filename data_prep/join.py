"""Several prepared folders as one, such as two sets that a model is trained on together.

Ids begin with the name of their folder, so that clips of two sets never clash, and `about` names it as `set`. Splits,
captions, cuts and frames stay as they are. The folders must agree in --size-px, frame rate and mode. Where frames have several
sizes, the output has a prepared folder for each.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from cdcd_video.data.store import StoredClips, stored_by_size
from cdcd_video.data.store_writer import StoreWriter, finish_together
from cdcd_video.errors import UserError
from cdcd_video.storage.folder_lock import folder_lock
from data_prep.prepared_sheet import summaries
from data_prep.recipes import RECIPES, Recipe
from data_prep.sizes import Place, is_of_one_size, places_of

SET = "set"
"""The key of `about` that names a clip's set."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="prepared folders, in this order")
    parser.add_argument("--out", required=True, type=Path, help="prepared folder to create")


def run(options: argparse.Namespace) -> str:
    """Copies the clips; returns a line about the result.

    Raises:
      UserError: two folders have one name or differ in scale, rate or mode, or `--out` is one of them.
    """
    began = time.monotonic()
    names = [folder.resolve().name for folder in options.folders]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"two folders are called {twice}, and ids begin with that name; rename one")
    if options.out.resolve() in {folder.resolve() for folder in options.folders}:
        raise UserError(f"{options.out} is one of the folders to join; choose another --out")
    sets = [
        (name, clips) for name, folder in zip(names, options.folders, strict=True) for clips in stored_by_size(folder)
    ]
    first = sets[0][1]
    for _, clips in sets[1:]:
        for what, own, other in (
            ("px", clips.size_px, first.size_px),
            ("fps", clips.fps, first.fps),
            ("mode", clips.mode, first.mode),
        ):
            if own != other:
                raise UserError(
                    f"{clips.folder} has {what} {own} and {first.folder} has {other}; prepare both with the same options"
                )
    by_size: dict[tuple[int, int], dict[str, StoredClips]] = {}
    for name, clips in sets:
        by_size.setdefault(clips.size, {})[name] = clips
    with folder_lock(options.out):
        places = places_of(
            options.out, sorted(by_size), first.size_px, is_one=all(map(is_of_one_size, options.folders))
        )
        made = [_join(by_size[size], place) for size, place in places.items()]
        finish_together(writer for writer, _ in made)
        return summaries(made, began)


def _join(sets: Mapping[str, StoredClips], place: Place) -> tuple[StoreWriter, dict]:
    """Copies the clips of one size; returns what has written them, completed but not yet in its place, and the manifest."""
    recipe, first = (
        {"recipe": "join", "sets": {name: clips.digest() for name, clips in sets.items()}},
        next(iter(sets.values())),
    )
    how = {"size_px": first.size_px, "size": place.size, "fps": first.fps, "mode": first.mode, "recipe": recipe}
    with StoreWriter(place.folder, **how) as writer:
        done = writer.done
        with tqdm(total=sum(map(len, sets.values())), initial=len(done), unit="clip", file=sys.stderr) as progress:
            for name, clips in sets.items():
                for number, row in enumerate(clips.rows):
                    if f"{name}/{row.id}" in done:
                        continue
                    writer.add(
                        f"{name}/{row.id}",
                        clips.frames(number, range(row.num_frames)),
                        row.captions,
                        row.split,
                        source=row.source,
                        source_width=row.source_width,
                        source_height=row.source_height,
                        source_fps=row.source_fps,
                        about={SET: name, **row.about},
                        cuts=row.cuts,
                    )
                    progress.update()
        return writer, writer.complete()


RECIPES.register("join")(Recipe(__doc__, add_options, run, reads_videos=False))
