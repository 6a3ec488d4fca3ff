"""Encode once, train many times: clips -> codes and caption states, so that training needs neither CLIP nor decoder.

  python -m data_prep encode --model runs/mine --out data/latents --data data/clips64
  python -m data_prep encode --model runs/mine --out data/latents folder videos/ --captions captions.tsv

The first command encodes a prepared folder. The second encodes the videos of a recipe (folder, msrvtt or internvid, with
its own options) without storing their pixels. With --num-shards N, N processes or machines that share the folder OUT
encode one shard each (--shard 0 to N - 1), and the last one to finish joins them. Under torchrun every process encodes
its own shard. If a run was killed, the same command continues it.
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
    parser.add_argument(
        "--model", required=True, metavar="NAME_OR_DIR", help="the model whose CLIP and codec encode the clips"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of the cache to create")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="a prepared folder; all its splits are encoded")
    parser.add_argument("--max-frames", type=int, metavar="N", help="encode the first N frames of each clip (all)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (%(default)s)")
    rank, size = (os.environ.get(name) or other for name, other in (("RANK", "0"), ("WORLD_SIZE", "1")))  # torchrun's
    parser.add_argument("--shard", type=int, default=rank, metavar="I", help="shard to encode (%(default)s)")
    parser.add_argument("--num-shards", type=int, default=size, metavar="N", help="number of shards (%(default)s)")
    parser.add_argument("--engine", choices=("datatrove",), help="run all shards as tasks of this engine")
    parser.add_argument(
        "--processes", type=int, default=2, metavar="P", help="number of tasks that run at the same time (%(default)s)"
    )
    parser.add_argument(
        "recipe",
        nargs=argparse.REMAINDER,
        metavar="RECIPE ...",
        help="a recipe of data_prep and its options, such as: folder DIR --captions FILE",
    )


def run(options: argparse.Namespace) -> str:
    """Encodes the clips; returns a line about the result."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(Job)}
    job = Job(**{**values, "recipe": tuple(options.recipe)})
    if options.engine is None:
        from data_prep.encoding import encode  # torch, for those who encode

        return encode(job)
    if job.shard:
        raise UserError("--engine runs all shards by itself; leave --shard out")
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
