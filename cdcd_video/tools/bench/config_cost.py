"""`bench config`: what the steps and drawings of any config cost on this machine, and what the time goes into."""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cdcd_video.errors import UserError

STEPS = (1, 2, 4, 8, 16)
MOST_PARTS = 8
"""Rows told of a profile."""
FOOTNOTES = (
    "Steps are the engine's, on random frames and codes; the CLIP is the one that the config names, networks are fresh.",
    "FLOPs are the dry run's: matrix products, convolutions, attention. mm: share of what torch.mm reaches here in the",
    "step's precision. Nothing is subtracted for what is drawn or worked out twice. idle: time in which no kernel ran.",
    "Drawings are whole: image and sentence read, codes walked, frames decoded, in fp32 as inference.py draws.",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this work."""
    parser.add_argument("--config", type=Path, required=True, help="a file of configs/")
    parser.add_argument(
        "--set", action="append", default=[], metavar="section.key=value", help="change one dial; repeat"
    )
    parser.add_argument("--stages", nargs="*", metavar="STAGE", help="only these (default: all that the config trains)")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds of each (%(default)s)")
    parser.add_argument("--round", type=int, default=4, metavar="N", help="training steps in a round (%(default)s)")
    parser.add_argument("--steps", type=int, nargs="*", default=STEPS, help="reverse steps per frame of the drawings")
    parser.add_argument("--together", type=int, default=16, help="videos in a batch, beside one alone (%(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda; a GPU is timed by the wall clock")


def compare(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures every stage and drawing.

    Args:
      args: of `add_arguments`.
      say: takes a sentence on how far it is.

    Returns:
      What belongs in the JSON file beside machine and versions: `stages` and `drawings`, a row each, and `product_rate`,
      FLOP/s by precision.

    Raises:
      UserError: an option makes no sense, a stage is unknown, or the config's CLIP is not there.
    """
    if min(args.repeats, args.round, args.together, *args.steps) < 1:
        raise UserError("--repeats, --round, --together and --steps must be at least 1.")

    import torch

    from cdcd_video.config import Config, config_file
    from cdcd_video.engine.runtime import device_for
    from cdcd_video.tools.bench.config_parts import WholeLine, drawings, rates, stage_costs
    from cdcd_video.tools.bench.side_process import clock_of
    from cdcd_video.tools.dry_run.trial_clips import look_at_data
    from cdcd_video.tools.dry_run.trial_networks import Line
    from cdcd_video.training.resolved import settled

    device = device_for(args.device)
    config = settled(config_file.load(args.config, Config, args.set), device)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    data = look_at_data(config)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        paths = [Path(folder, name) for name in ("shapes", "whole")]
        for path in paths:
            path.mkdir()
        shapes, line = Line(config, data, paths[0]), WholeLine(config, data, paths[1])
        unknown = [name for name in args.stages or () if name not in line.stages]
        if unknown:
            raise UserError(f"{config.name} has no stage {unknown[0]!r}; it has {', '.join(line.stages)}")
        rate = rates(device)
        rows = []
        for name in line.stages if args.stages is None else args.stages:
            say(f"measuring steps of {name} ...")
            rows.append(stage_costs(shapes, line, name, device, args.round, args.repeats, rate))
        drawn = drawings(line, device, args.steps, args.together, args.repeats, say) if args.steps else []
    return {
        "work": "config",
        "config": config.name,
        "set": args.set,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "clock": clock_of(device),
        "product_rate": rate,
        "stages": rows,
        "drawings": drawn,
    }


def table(result: dict[str, Any]) -> list[str]:
    """The figures as lines to print."""
    gpu, threads = result["machine"]["gpu"], result["machine"]["threads"]
    where = gpu if result["device"].startswith("cuda") else f"{result['machine']['cpu']}, {threads} thread(s)"
    told = ", ".join(f"{name} {rate / 1e12:,.2f} TFLOP/s" for name, rate in result["product_rate"].items())
    lines = [f"{' '.join([result['config'], *result['set']])}; {where}; torch.mm: {told}", ""]
    if result["stages"]:
        head = (
            f"{'stage':<11}{'precision':<11}{'batch':>6}{'ms a step':>12}{'examples/s':>12}{'TFLOP':>9}{'TFLOP/s':>9}"
        )
        lines.append(f"{head}{'mm':>6}{'memory':>11}{'idle':>7}")
    for row in result["stages"]:
        idle = "" if row["idle"] is None else f"{row['idle']:.0%}"
        lines.append(
            f"{row['stage']:<11}{row['precision']:<11}{row['batch']:>6}{1e3 * row['s']:>12,.1f}{row['examples_per_s']:>12,.1f}"
            f"{row['flops'] / 1e12:>9.3f}{row['flops'] / row['s'] / 1e12:>9.2f}{row['share_mm']:>6.0%}"
            f"{row['peak_bytes'] / 1e9:>8.2f} GB{idle:>7}"
        )
    for row in result["stages"]:
        parts = ", ".join(f"{part['name']} {part['share']:.0%}" for part in row["profile"][:MOST_PARTS])
        lines += ["", f"{row['stage']}: {parts}"]
        if row["kernels"]:
            lines.append(
                "  dearest kernels: " + ", ".join(f"{one['name']} {one['share']:.0%}" for one in row["kernels"])
            )
    return [*lines, *_drawn(result["drawings"]), "", *FOOTNOTES]


def _drawn(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each number of steps, one video alone beside many."""
    if not rows:
        return []
    many = next(row["videos"] for row in rows if row["videos"] > 1) if any(row["videos"] > 1 for row in rows) else 1
    head = f"{'steps':<7}{'ms a frame':>12}{'first frame':>13}{'videos/s':>10}"
    lines = ["", f"A video of {rows[0]['frames']} frames alone, and {many} together", f"{head}   |{head[7:]}"]
    for steps in dict.fromkeys(row["steps"] for row in rows):
        cells = [
            f"{1e3 * row['s_per_frame']:>12,.1f}{1e3 * row['first_frame_s']:>10,.0f} ms{row['videos_per_s']:>10.2f}"
            for row in rows
            if row["steps"] == steps
        ]
        is_default = next(row["is_default"] for row in rows if row["steps"] == steps)
        lines.append(f"{steps:<7}{'   |'.join(cells)}{'   (the default)' if is_default else ''}")
    one = rows[0]
    lines.append(f"of which a decoded frame takes {1e3 * one['decode_s_per_frame']:,.1f} ms alone.")
    return lines
