"""Evaluates a model of the built-in world on what it is for: by ground, outline and motion, at other frame rates, and long.

A line for each score with its goal, 95 % interval and n, beside the frozen first frame and the codec's reconstruction.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.config.sampling_params import add_flags
from cdcd_video.errors import UserError, exit_code
from cdcd_video.storage.free_name import chosen_folder

SAMPLING = ("num_steps", "guidance", "temperature", "lookback_s", "longest_gap_s", "decoded", "unchanged", "solver")
SYSTEMS = ("model", "copy-first", "codec-ceiling")
RATES = (4.0, 12.0, 16.0, 24.0)
"""Frames per second beside the model's own."""
SECONDS, LONG_FRAMES = 1.875, 128
"""Length of a video at other rates; frames of a long one."""


@dataclass(frozen=True)
class Line:
    """One score of one evaluation."""

    title: str
    metric: str
    group: str = "all"
    frame: int | None = None
    goal: float | None = None


WHOLE = (
    Line("one object right, dark ground", "all_right", "ground=dark", goal=0.97),
    Line("one object right, light ground", "all_right", "ground=light", goal=0.95),
    Line("one object right, with outline", "all_right", "outline=yes", goal=0.90),
    Line("one object right, ground of noise", "all_right", "ground=noise", goal=0.90),
    Line("one object right", "all_right", "objects=1"),
    Line("both of two objects right", "all_right", "objects=2", goal=0.90),
    Line("spins right", "does_right_thing", "motion=spins", goal=0.80),
    Line("identity, last frame (IoU)", "identity_iou", frame=-1, goal=0.93),
    Line("still outline, frame to frame (IoU)", "still_iou", goal=0.98),
)
AT_RATE = (Line("one object right", "all_right", "objects=1", goal=0.90),)
LONG = (
    Line("identity, last frame (IoU)", "identity_iou", frame=-1, goal=0.90),
    Line("still objects right", "still_right", goal=1.0),
    Line("background, last frame (dB)", "background_psnr", frame=-1, goal=32.0),
)


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.bars", description=__doc__)
    add = parser.add_argument
    add("--checkpoint", default="sprites", metavar="NAME_OR_DIR", help="a shipped model, or a model or run folder")
    add("--num-videos", type=int, default=512, metavar="N", help="seen combinations (default: %(default)s)")
    add("--num-heldout", type=int, default=256, metavar="N", help="held-out ones; 0 for none (default: %(default)s)")
    add("--num-rates", type=int, default=192, metavar="N", help="at each other rate; 0 for none (default: %(default)s)")
    add("--num-long", type=int, default=48, metavar="N", help="of 128 frames; 0 for none (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of scenes, sampling and intervals (default: 0)")
    add("--batch", type=int, default=32, metavar="B", help="videos sampled at a time (default: 32)")
    where = "height x width of the frames, such as 64x96 (default: the squares that the goals were set for)"
    add("--size", nargs="+", metavar="HEIGHTxWIDTH", help=where)
    add("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    add("--out", type=Path, metavar="DIR", help="output folder (default: out/bars, or the next free name)")
    add_flags(parser, SAMPLING)
    args = parser.parse_args()
    if args.num_videos < 1 or min(args.num_heldout, args.num_rates, args.num_long) < 0 or args.batch < 1:
        raise UserError("--num-videos and --batch must be at least 1, the other numbers of videos 0 or more")
    with chosen_folder(args.out, Path("out/bars")) as out:
        for line in measure(args, out):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    return 0


def measure(args: argparse.Namespace, out: Path) -> Iterator[str]:
    """Runs the evaluations one after the other, writes a report and the scores of each, and tells its lines."""
    from tqdm import tqdm

    from cdcd_video import evaluation
    from cdcd_video.engine.runtime import provenance
    from cdcd_video.evaluation import report
    from cdcd_video.metrics.protocol import OWN, Protocol, with_flags
    from cdcd_video.pipeline import ImageToVideo

    pipe = ImageToVideo.from_pretrained(args.checkpoint, args.device)
    given = {name: getattr(args, name) for name in SAMPLING}
    size = args.size or [f"{pipe.size_px}x{pipe.size_px}"]
    shared = with_flags(Protocol(num_real=0, clip=OWN), {"seed": args.seed, "size": size})
    plans: list[tuple[str, tuple[Line, ...], dict[str, Any]]] = [("seen", WHOLE, dict(num_videos=args.num_videos))]
    if args.num_heldout:
        plans.append(("held out", WHOLE, dict(num_videos=args.num_heldout, split="heldout")))
    if args.num_rates:
        frames = {rate: max(2, math.floor(SECONDS * rate) + 1) for rate in RATES}
        plans += [
            (f"{rate:g} fps", AT_RATE, dict(num_videos=args.num_rates, fps=rate, num_frames=frames[rate]))
            for rate in RATES
        ]
    if args.num_long:
        plans.append((f"{LONG_FRAMES} frames", LONG, dict(num_videos=args.num_long, num_frames=LONG_FRAMES)))
    benches = [
        evaluation.prepare(pipe, with_flags(shared, plan), ("sprites",), args.device, **given) for _, _, plan in plans
    ]  # a parameter out of range is an error before anything is sampled
    yield f"{'':<11}{'':<38}{'goal':>6}  {'model':<26}{'frozen':>8}{'codec':>8}"
    with tqdm(total=sum(bench.frames_to_sample for bench in benches), desc="sampling", unit="frame") as bar:
        for (name, lines, _), bench in zip(plans, benches, strict=True):
            found = bench.run(args.batch, bar.update, SYSTEMS)
            folder = out / name.replace(" ", "-")
            cost = provenance(threads=bench.threads, precision=bench.precision) | {"seconds": found.seconds}
            report.write(found, bench.settled, bench.facts(), folder, cost=cost)
            rows = [row(line, found.scores, bench.settled.protocol.num_frames) for line in lines]
            (folder / "bars.json").write_text(json.dumps(rows, indent=1) + "\n")
            for line, cells in zip(lines, rows, strict=True):
                yield f"{name:<11}{as_text(line, cells)}"


def row(line: Line, scores: Sequence[Any], num_frames: int) -> dict[str, Any]:
    """A score of all systems: value, interval and number of the model, values of the others; None where there is none."""
    frame = None if line.frame is None else line.frame % num_frames
    of = {
        one.row: one
        for one in scores
        if (one.metric, one.group, one.frame, one.window) == (line.metric, line.group, frame, None)
    }
    model = of.get("model")
    measured = dict(value=None, low=None, high=None, n=0)
    if model is not None:
        measured = dict(value=model.value, low=model.low, high=model.high, n=model.n)
    others = {name: of[name].value if name in of else None for name in SYSTEMS[1:]}
    return {"title": line.title, "goal": line.goal, **measured, **others}


def as_text(line: Line, cells: dict[str, Any]) -> str:
    """The row as text."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}" if line.metric.endswith("psnr") else f"{value:.3f}"

    span = "" if cells["low"] is None else f" [{number(cells['low'])}, {number(cells['high'])}]"
    model = f"{number(cells['value'])}{span}, n = {cells['n']}"
    others = "".join(f"{number(cells[name]):>8}" for name in SYSTEMS[1:])
    missed = line.goal is not None and cells["value"] is not None and cells["value"] < line.goal
    return f"{line.title:<38}{number(line.goal):>6}  {model:<30}{others}{'  below' if missed else ''}"


if __name__ == "__main__":
    sys.exit(exit_code(main))
