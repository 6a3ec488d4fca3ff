"""encode once, train many times: clips -> codes and caption states, which training reads without CLIP and decoder.

  python -m data_prep encode --model runs/mine --out data/latents --data data/clips64
  python -m data_prep encode --model runs/mine --out data/latents folder videos/ --captions captions.tsv

The first encodes a prepared folder; the second the videos of a recipe (folder, msrvtt, internvid, with its own options),
of which no pixels are kept. With --num-shards N, N processes or machines that see the same folder OUT each do a part
(--shard 0 to N - 1), and whoever is last puts the parts together; under torchrun every process does its own. A run that
was killed goes on where it was.
"""

import argparse
import dataclasses
import os
from pathlib import Path

from cdcd_video.errors import UserError
from data_prep.job import Job
from data_prep.recipes import RECIPES, Recipe


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    parser.add_argument("--model", required=True, metavar="NAME_OR_DIR", help="whose CLIP and codec")
    parser.add_argument("--out", required=True, type=Path, help="the cache to make")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="a prepared folder, all its splits")
    parser.add_argument("--max-frames", type=int, metavar="N", help="encode the first N frames of each clip (all)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (%(default)s)")
    rank, size = (int(os.environ.get(name, other)) for name, other in (("RANK", 0), ("WORLD_SIZE", 1)))  # torchrun's
    parser.add_argument("--shard", type=int, default=rank, metavar="I", help="which part of the work (%(default)s)")
    parser.add_argument("--num-shards", type=int, default=size, metavar="N", help="how many parts (%(default)s)")
    parser.add_argument("--engine", choices=("datatrove",), help="runs all parts as tasks of this engine")
    parser.add_argument("--processes", type=int, default=2, metavar="P", help="of the engine at a time (%(default)s)")
    parser.add_argument("recipe", nargs=argparse.REMAINDER, metavar="RECIPE ...", help="a recipe and its options")


def run(options: argparse.Namespace) -> str:
    """Encodes, and says what came out."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(Job)}
    job = Job(**{**values, "recipe": tuple(options.recipe)})
    if options.engine is None:
        from data_prep.encoding import encode  # torch, for those who encode

        return encode(job)
    if job.shard:
        raise UserError("--engine runs all shards itself; leave --shard out")
    if options.processes < 1:
        raise UserError(f"--processes must be at least 1, not {options.processes}")
    try:
        from data_prep import cluster
    except ImportError as error:
        raise UserError(
            f"--engine needs datatrove ({error}); in the project's folder: pip install '.[cluster]'"
        ) from None
    return cluster.run(job, options.processes)


RECIPES.register("encode")(Recipe(__doc__, add_options, run, reads_videos=False))
