"""The built-in world: rendered clips of moving shapes with exact captions.

Training does not need this recipe, because it renders sprites itself. The recipe is for looking at the clips and for
testing code that reads prepared folders.
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path

from tqdm import tqdm

from cdcd_video.config.ranges import check_settings
from cdcd_video.data.sprites import SPLITS, World
from cdcd_video.data.store import SpritesClips
from cdcd_video.data.store_writer import StoreWriter
from cdcd_video.storage.folder_lock import folder_lock
from data_prep.prepare import check_size
from data_prep.prepared_sheet import summaries
from data_prep.recipes import RECIPES, Recipe


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    parser.add_argument("--out", required=True, type=Path, help="prepared folder to create")
    parser.add_argument("--num-clips", type=int, default=1000, help="clips per split (%(default)s)")
    parser.add_argument("--split", nargs="+", choices=SPLITS, default=["train"], help="one or more splits (train)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data set (%(default)s)")
    parser.add_argument("--num-frames", type=int, default=16, help="frames per clip (%(default)s)")
    parser.add_argument("--size-px", type=int, default=64, help="side of the frames (%(default)s)")
    parser.add_argument("--fps", type=float, default=8.0, help="frames per second (%(default)s)")
    parser.add_argument(
        "--max-objects", type=int, default=2, choices=(1, 2), help="maximum number of objects (%(default)s)"
    )


def run(options: argparse.Namespace) -> str:
    """Renders the clips; returns a line about the result.

    Raises:
      UserError: a number is out of range, or the folder cannot be written.
    """
    began = time.monotonic()
    check_size(options.size_px)
    check_settings({"seed": options.seed, "num_frames": options.num_frames, "fps": options.fps})
    world = World(max_objects=options.max_objects, num_frames=options.num_frames, fps=options.fps)
    splits = [
        SpritesClips(options.seed, options.num_clips, split, world, options.num_frames, options.size_px, options.fps)
        for split in dict.fromkeys(options.split)
    ]
    recipe = {
        "recipe": "sprites",
        "seed": options.seed,
        "num_clips": options.num_clips,
        "splits": [clips.split for clips in splits],
        "num_frames": options.num_frames,
        "world": dataclasses.asdict(world),
    }
    how = {"size_px": options.size_px, "fps": options.fps, "mode": "crop", "recipe": recipe}
    with folder_lock(options.out), StoreWriter(options.out, **how) as writer:
        done = writer.done
        with tqdm(total=sum(map(len, splits)), initial=len(done), unit="clip", file=sys.stderr) as progress:
            for clips in splits:
                for clip in range(len(clips)):
                    name = clips.name(clip)
                    if name in done:
                        continue
                    writer.add(
                        name,
                        clips.frames(clip, range(clips.num_frames(clip))),
                        clips.captions(clip),
                        clips.split,
                        source_width=clips.size_px,
                        source_height=clips.size_px,
                        source_fps=clips.fps,
                    )
                    progress.update()
        return summaries([(writer, writer.finish())], began)


RECIPES.register("sprites")(Recipe(__doc__, add_options, run, reads_videos=False))
