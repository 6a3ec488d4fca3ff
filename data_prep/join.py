"""Several prepared folders as one, such as two sets that a model is trained on together.

Ids begin with the name of their folder, so that clips of two sets never clash, and `about` names it as `set`. Splits,
captions, cuts and frames stay as they are. The folders must agree in size, frame rate and mode.
"""

import argparse
import sys
import time
from pathlib import Path

from tqdm import tqdm

from cdcd_video.data.store import StoredClips
from cdcd_video.data.store_writer import StoreWriter
from cdcd_video.errors import UserError
from cdcd_video.storage.folder_lock import folder_lock
from data_prep.prepare import summary
from data_prep.recipes import RECIPES, Recipe

SET = "set"
"""The key of `about` that names a clip's set."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="prepared folders, in this order")
    parser.add_argument("--out", required=True, type=Path, help="prepared folder to create")


def run(options: argparse.Namespace) -> str:
    """Copies the clips; returns a line about the result.

    Raises:
      UserError: two folders have one name or differ in size, rate or mode, or `--out` is one of them.
    """
    began = time.monotonic()
    names = [folder.resolve().name for folder in options.folders]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"two folders are called {twice}, and ids begin with that name; rename one")
    if options.out.resolve() in {folder.resolve() for folder in options.folders}:
        raise UserError(f"{options.out} is one of the folders to join; choose another --out")
    sets = [StoredClips(folder) for folder in options.folders]
    for clips in sets:
        clips.require_squares("join")
    for clips in sets[1:]:
        for what, own, first in (
            ("px", clips.size_px, sets[0].size_px),
            ("fps", clips.fps, sets[0].fps),
            ("mode", clips.mode, sets[0].mode),
        ):
            if own != first:
                raise UserError(
                    f"{clips.folder} has {what} {own} and {sets[0].folder} has {first}; prepare both with the same options"
                )
    recipe = {"recipe": "join", "sets": {name: clips.digest() for name, clips in zip(names, sets, strict=True)}}
    how = {"size_px": sets[0].size_px, "fps": sets[0].fps, "mode": sets[0].mode, "recipe": recipe}
    with folder_lock(options.out), StoreWriter(options.out, **how) as writer:
        done = writer.done
        with tqdm(total=sum(map(len, sets)), initial=len(done), unit="clip", file=sys.stderr) as progress:
            for name, clips in zip(names, sets, strict=True):
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
        return summary(options.out, writer.finish(), time.monotonic() - began)


RECIPES.register("join")(Recipe(__doc__, add_options, run, reads_videos=False))
