"""`bench config`: cost and profile of training steps and sampling of a config on this machine."""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cdcd_video.config.setting_words import add_setting_flag
from cdcd_video.config.shipped_files import named_file
from cdcd_video.errors import UserError

STEPS = (1, 2, 4, 8, 16)
MOST_PARTS = 8
"""Rows of a profile that are printed."""
FOOTNOTES = (
    "Steps are those of the engine, on random frames and codes, with the CLIP of the config and untrained networks.",
    "FLOPs are those of the dry run: matrix products, convolutions, attention. mm: fraction of the rate of torch.mm here in",
    "the precision of the step, with sampling and recomputation included. idle: time without a running kernel.",
    "Sampling is complete: image and caption encoded, codes sampled, frames decoded, in fp32 as by inference.py.",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument(
        "--config", type=named_file("configs"), required=True, help="the config, or the name of one of configs/"
    )
    add_setting_flag(parser, "override a config value")
    parser.add_argument("--stages", nargs="*", metavar="STAGE", help="stages to measure (default: all of the config)")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default: %(default)s)")
    parser.add_argument(
        "--round", type=int, default=4, metavar="N", help="training steps per round (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, nargs="*", default=STEPS, help="reverse steps per sampled frame")
    parser.add_argument(
        "--together", type=int, default=16, help="batch size of sampling, measured beside 1 (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda; GPUs are timed by wall-clock time")


def compare(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures every stage, and sampling.

    Args:
      args: of `add_arguments`.
      say: receives progress messages.

    Returns:
      The results for the JSON file: `stages` and `drawings` (sampling), a row each, and `product_rate`,
      FLOP/s by precision.

    Raises:
      UserError: an option is invalid, a stage is unknown, or the CLIP of the config is missing.
    """
    if min(args.repeats, args.round, args.together, *args.steps) < 1:
        raise UserError("--repeats, --round, --together and --steps must be at least 1")

    import torch

    from cdcd_video.config import Config, config_file
    from cdcd_video.engine.runtime import device_for
    from cdcd_video.tools.bench.config_parts import WholeLine, rates, sampling_costs, stage_costs
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
            raise UserError(f"{config.name} has no stage {unknown[0]!r}; choose from {', '.join(line.stages)}")
        rate = rates(device)
        rows = []
        for name in line.stages if args.stages is None else args.stages:
            say(f"measuring steps of {name} ...")
            rows.append(stage_costs(shapes, line, name, device, args.round, args.repeats, rate))
        sampled = sampling_costs(line, device, args.steps, args.together, args.repeats, say) if args.steps else []
    return {
        "work": "config",
        "config": config.name,
        "set": args.set,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "clock": clock_of(device),
        "product_rate": rate,
        "stages": rows,
        "drawings": sampled,
    }


def table(result: dict[str, Any]) -> list[str]:
    """The results as lines to print."""
    gpu, threads = result["machine"]["gpu"], result["machine"]["threads"]
    where = gpu if result["device"].startswith("cuda") else f"{result['machine']['cpu']}, {threads} thread(s)"
    peak = ", ".join(f"{name} {rate / 1e12:,.2f} TFLOP/s" for name, rate in result["product_rate"].items())
    lines = [f"{' '.join([result['config'], *result['set']])}; {where}; torch.mm: {peak}", ""]
    if result["stages"]:
        head = (
            f"{'stage':<11}{'precision':<11}{'batch':>6}{'ms per step':>12}{'examples/s':>12}{'TFLOP':>9}{'TFLOP/s':>9}"
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
                "  largest kernels: " + ", ".join(f"{one['name']} {one['share']:.0%}" for one in row["kernels"])
            )
    return [*lines, *_sampling_lines(result["drawings"]), "", *FOOTNOTES]


def _sampling_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each number of steps, for one video and for a batch."""
    if not rows:
        return []
    many = next(row["videos"] for row in rows if row["videos"] > 1) if any(row["videos"] > 1 for row in rows) else 1
    head = f"{'steps':<7}{'ms per frame':>13}{'first frame':>13}{'videos/s':>10}"
    lines = ["", f"Videos of {rows[0]['frames']} frames: batch of 1, and batch of {many}", f"{head}   |{head[7:]}"]
    for steps in dict.fromkeys(row["steps"] for row in rows):
        cells = [
            f"{1e3 * row['s_per_frame']:>13,.1f}{1e3 * row['first_frame_s']:>10,.0f} ms{row['videos_per_s']:>10.2f}"
            for row in rows
            if row["steps"] == steps
        ]
        is_default = next(row["is_default"] for row in rows if row["steps"] == steps)
        lines.append(f"{steps:<7}{'   |'.join(cells)}{'   (the default)' if is_default else ''}")
    one = rows[0]
    lines.append(f"of which decoding takes {1e3 * one['decode_s_per_frame']:,.1f} ms per frame.")
    return lines
