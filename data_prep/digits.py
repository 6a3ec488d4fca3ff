"""MNIST's four files for the captioned moving digits: checks them, and shows some clips.

Training does not need a prepared folder, because it renders the clips itself: set data.kind to digits and data.path to the folder
of the files. Nothing is downloaded.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from cdcd_video.data.digits_clips import DigitsClips
from cdcd_video.data.digits_files import FILES, read_mnist
from cdcd_video.data.digits_world import PROTOCOLS
from cdcd_video.errors import UserError
from cdcd_video.storage.free_name import chosen_folder
from cdcd_video.storage.whole_file import whole_file
from cdcd_video.video import contact_sheet
from data_prep.recipes import RECIPES, Recipe

SHEET, FOUND = "clips.png", "found.json"
_EVERY = 2
"""The sheet shows every how many-th frame."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    parser.add_argument("--mnist", required=True, type=Path, help="folder with MNIST's four files, plain or as .gz")
    parser.add_argument("--out", type=Path, help=f"folder for {SHEET} and {FOUND} (out/digits, or the next free name)")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="mage-modified", help="world (%(default)s)")
    parser.add_argument("--split", choices=("train", "val"), default="train", help="split of the sheet (%(default)s)")
    parser.add_argument("--num-clips", type=int, default=8, help="clips on the sheet (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the clips (%(default)s)")


def run(options: argparse.Namespace) -> str:
    """Checks the files and writes the sheet; returns what was found.

    Raises:
      UserError: a file is missing or is not the published one, or a number is out of range.
    """
    if options.num_clips < 1 or options.seed < 0:
        raise UserError("--num-clips must be at least 1 and --seed at least 0")
    digits = read_mnist(options.mnist)
    clips = DigitsClips(str(options.mnist), options.protocol, options.split, options.num_clips, options.seed)
    found = {
        "files": [{"name": file.name, "bytes": file.num_bytes, "md5": file.md5} for file in FILES],
        "pictures": dict(zip("0123456789", np.bincount(digits.labels, minlength=10).tolist(), strict=True)),
    }
    rows = [clips.frames(clip, range(clips.num_frames(clip))) for clip in range(len(clips))]
    with chosen_folder(options.out, Path("out/digits")) as out:
        with whole_file(out / FOUND) as part:
            part.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        sheet = contact_sheet(rows, out / SHEET, [clips.caption(clip) for clip in range(len(clips))], every=_EVERY)
    lines = [f"{file.name}: {file.num_bytes:,} bytes, md5 {file.md5}, as published" for file in FILES]
    lines.append(f"{len(digits.labels):,} digits; {len(clips)} clips of {options.protocol}, {options.split}: {sheet}")
    return "\n".join(lines)


RECIPES.register("digits")(Recipe(__doc__, add_options, run, reads_videos=False))
