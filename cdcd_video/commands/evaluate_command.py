"""Evaluates a model, or videos of another one, against references; writes scores and a report, and prints a short table."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.config.sampling_params import add_flags
from cdcd_video.config.shipped_files import shipped_folder
from cdcd_video.errors import UserError, note, require
from cdcd_video.metrics import protocol
from cdcd_video.metrics.scores import METRICS, checked_metrics

SAMPLING = (
    *("num_steps", "guidance", "temperature", "top_p", "top_k"),
    *("lookback_s", "longest_gap_s", "decoded", "unchanged", "solver"),
)
"""Settings of sampling that an evaluation may change."""


def parse_arguments(arguments: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    """Reads and checks the command line; see `main`."""
    parser = OptionParser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("--metrics", nargs="+", metavar="METRIC", help=f"some of: {', '.join(METRICS)} (default: all that fit)")
    add("--checkpoint", default="sprites", metavar="NAME_OR_DIR", help="a shipped model, or a model or run folder")
    add_flags(parser, SAMPLING)
    add("--videos", type=Path, metavar="DIR", help="evaluate the videos in this folder, instead of sampling")
    add("--prompts", type=Path, metavar="TABLE", help="their captions (default: prompts.tsv, .csv or .jsonl in DIR)")
    add("--latents", action=argparse.BooleanOptionalAction, default=True, help="evaluate the latent space, too")
    add("--batch", type=int, default=32, metavar="B", help="videos sampled at once (default: 32)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    where = "output folder; results in it are replaced (default: the run folder, or a new out/eval)"
    add("--out", type=Path, metavar="DIR", help=where)
    add = parser.add_mutually_exclusive_group().add_argument
    add("--vbench", type=Path, metavar="DIR", help="also write the videos to a new folder, as VBench's custom input")
    add("--compare", nargs="+", metavar="DIR", help="compare finished evaluations, without sampling")
    protocols = shipped_folder("configs") / "eval"
    protocol.add_flags(parser, protocols / "sprites.yaml")
    args = parser.parse_args(arguments)
    require("cv2", "matplotlib", extra="eval")  # every report has plots; now, and not after the videos are sampled
    args.protocol = protocol.from_flags(args, protocol.default_file(protocols, args.checkpoint, args.data))
    if args.videos is None:
        args.metrics = checked_metrics(args.metrics, args.protocol.world)
    if args.batch < 1 or (args.prompts and not args.videos):
        raise UserError("--prompts needs --videos" if args.prompts else "--batch must be at least 1")
    return args


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """`evaluate.py`, and `cdcd-video evaluate`.

    Args:
      arguments: the words of the command line; None: those of this process.
      prog: how the command is called; None: as this process.
    """
    args = parse_arguments(arguments, prog)
    if args.compare:
        from cdcd_video.evaluation.report.comparison_page import compare_and_write

        return compare_and_write(args.compare, args.out, sys.stdout.write)
    from cdcd_video.training import run_folder

    with run_folder.evaluating(args.device, args.out, None if args.videos else args.checkpoint) as out:
        return measure(args, out)


def measure(args: argparse.Namespace, out: Path | None) -> int:
    """Evaluates, writes scores and report into `out`, and prints a table; 1 where something could not be read."""
    from cdcd_video import ImageToVideo
    from cdcd_video.engine import distributed, runtime
    from cdcd_video.evaluation import prepare, prepare_videos, report

    if args.videos:
        how = {"device": args.device, "checkpoint": args.checkpoint}
        bench = prepare_videos(args.videos, args.prompts, args.protocol, args.metrics, **how)
    else:
        pipe = ImageToVideo.from_pretrained(args.checkpoint, args.device)
        given = {name: getattr(args, name) for name in (*SAMPLING, "latents")}
        bench = prepare(pipe, args.protocol, args.metrics, args.device, **given)
    note(*(bench.notes if distributed.is_main() else ()))
    found, study = bench.measure(args.batch, "reading" if args.videos else "sampling", args.vbench)
    if out is None:
        return 0  # the main process has it all
    cost = runtime.provenance(threads=bench.threads, precision=bench.precision) | {"seconds": found.seconds}
    paths = report.write(found, bench.settled, bench.facts(), out, notes=bench.notes, cost=cost, study=study)
    sys.stdout.write("\n".join([report.terminal_table(found.scores), *map(str, paths), ""]))
    return 1 if bench.left_out else 0
