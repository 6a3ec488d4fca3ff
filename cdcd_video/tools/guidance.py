"""Evaluates contrastive guidance at several strengths on videos of the built-in world; a line of JSON and a folder each.

Scenes, captions and seeds are the same at every strength, so the folders can be compared by `evaluate.py --compare`.
"""

import argparse
import json
import sys
from itertools import product
from pathlib import Path

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError, exit_code
from cdcd_video.storage.free_name import chosen_folder

METRICS = ("sprites", "motion", "clip_text", "clip_first", "smoothness")
PRINTED = (
    *("does_right_thing", "all_right", "position_error", "identity_iou", "background_psnr"),
    *("motion_ratio", "clip_text", "clip_first", "step_length"),
)


def main() -> None:
    parser = OptionParser(prog="python -m cdcd_video.tools.guidance", description=__doc__)
    add = parser.add_argument
    add("--checkpoint", default="sprites", metavar="NAME_OR_DIR", help="a shipped model, or a model or run folder")
    add(
        "--strengths",
        type=float,
        nargs="+",
        default=[0.0, 10.0, 100.0, 1000.0],
        metavar="C",
        help="strengths of contrastive guidance; 0 is off",
    )
    add("--steps", type=int, nargs="+", default=[1, 4], metavar="S", help="reverse steps per frame")
    add("--num-videos", type=int, default=64, metavar="N", help="scenes, each sampled with two captions (default: 64)")
    add(
        "--num-frames", type=int, default=16, metavar="F", help="frames per video, the given one included (default: 16)"
    )
    add("--split", choices=("val", "heldout", "train"), default="val")
    add("--seed", type=int, default=0, help="seed of scenes, sampling and intervals (default: 0)")
    add("--batch", type=int, default=32, metavar="B", help="videos sampled at a time (default: 32)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    add("--out", type=Path, metavar="DIR", help="output folder (default: out/guidance, or the next free name)")
    args = parser.parse_args()
    if args.num_videos < 1 or args.batch < 1 or args.num_frames < 2 or args.seed < 0:
        raise UserError("--num-videos and --batch must be at least 1, --num-frames 2 and --seed 0")
    with chosen_folder(args.out, Path("out/guidance")) as args.out:
        measure(args)


def measure(args: argparse.Namespace) -> None:
    """Runs the evaluations and writes to the folder `args.out`."""
    from tqdm import tqdm

    from cdcd_video import evaluation
    from cdcd_video.engine.runtime import provenance
    from cdcd_video.evaluation import report
    from cdcd_video.metrics.protocol import OWN, Protocol, with_flags
    from cdcd_video.pipeline import ImageToVideo

    pipe = ImageToVideo.from_pretrained(args.checkpoint, args.device)
    size = {"num_videos": args.num_videos, "num_frames": args.num_frames}
    protocol = with_flags(Protocol(num_real=0, clip=OWN), {**size, "split": args.split, "seed": args.seed})
    cells = list(product(args.steps, args.strengths))
    benches = [
        evaluation.prepare(pipe, protocol, METRICS, args.device, num_steps=steps, contrast=strength)
        for steps, strength in cells
    ]  # a parameter out of range is an error before anything is sampled
    systems = ("model", "counterfactual")
    with tqdm(total=sum(bench.frames_to_sample for bench in benches), desc="sampling", unit="frame") as bar:
        for (steps, strength), bench in zip(cells, benches, strict=True):
            found = bench.run(args.batch, bar.update, systems)
            cost = provenance(threads=bench.threads, precision=bench.precision) | {"seconds": found.seconds}
            folder = args.out / f"steps-{steps}-contrast-{strength:g}"
            report.write(found, bench.settled, bench.facts(), folder, cost=cost)
            line = {"num_steps": steps, "contrast": strength, "drawing_s": found.seconds["drawing"]}
            tqdm.write(json.dumps(line | selected(found.scores)), file=sys.stdout)


def selected(scores) -> dict[str, list[float | None]]:
    """Scores of whole videos as [value, low, high, n]; `obeyed` is for the same images with another caption."""
    whole = {
        (score.row, score.metric): [score.value, score.low, score.high, score.n]
        for score in scores
        if score.group == "all" and score.frame is None and score.window is None
    }
    changed = [
        [score.value, score.low, score.high, score.n]
        for score in scores
        if (score.row, score.metric, score.group) == ("counterfactual", "does_right_thing", "sentence=changed")
        and score.frame is None
    ]
    return {name: whole["model", name] for name in PRINTED} | {"obeyed": changed[0]}


if __name__ == "__main__":
    sys.exit(exit_code(main))
