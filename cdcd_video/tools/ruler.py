"""Validates the metrics: each one on true sprites videos under degradations of growing strength. Writes tables and curves."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError, exit_code
from cdcd_video.storage.free_name import chosen_folder


def main() -> None:
    parser = OptionParser(prog="python -m cdcd_video.tools.ruler", description=__doc__)
    add = parser.add_argument
    add("--num-videos", type=int, default=48, metavar="N", help="degraded videos, and as many real ones (default: 48)")
    add("--seed", type=int, default=0, help="seed of the scenes, degradations and splits (default: 0)")
    add("--device", default="cpu", help="where the feature networks run (default: cpu)")
    add("--out", type=Path, metavar="DIR", help="output folder (default: out/ruler, or the next free name)")
    args = parser.parse_args()
    if args.num_videos < 4 or args.seed < 0:
        raise UserError(f"--num-videos is {args.num_videos} and --seed {args.seed}; they must be at least 4 and 0")
    with chosen_folder(args.out, Path("out/ruler")) as args.out:
        measure(args)


def measure(args: argparse.Namespace) -> None:
    """Runs the validation and writes to the folder `args.out`."""
    from tqdm import tqdm

    from cdcd_video.engine import runtime
    from cdcd_video.metrics.degradations import DEGRADATIONS
    from cdcd_video.model import folder_of
    from cdcd_video.networks.clip import FrozenClip
    from cdcd_video.tools.metric_validation import validation_page as page
    from cdcd_video.tools.metric_validation.curves import STRENGTHS, calibrate
    from cdcd_video.tools.metric_validation.trial import Trial, present_networks

    with runtime.writing_to(args.out):
        args.out.mkdir(parents=True, exist_ok=True)
    extractors = present_networks(args.device)
    clip = FrozenClip(folder_of("sprites") / "clip")
    trial = Trial(args.num_videos, args.seed, extractors, clip)
    with tqdm(total=2 + len(DEGRADATIONS) * len(STRENGTHS), desc="metric validation", unit="set") as bar:
        found = calibrate(trial, args.seed, progress=bar.update)
    facts = {"num_videos": args.num_videos, "seed": args.seed, "networks": {n: s.digest for n, s in extractors.items()}}
    facts |= {"clip_sha256": clip.digest, "machine": runtime.machine(), "git": runtime.git_state()}
    record = json.dumps({**facts, **asdict(found)}, indent=1, allow_nan=False) + "\n"
    with runtime.writing_to(args.out):
        runtime.replace_file(args.out / "ruler.json", record)
        runtime.replace_file(args.out / "ruler.md", page.markdown(found, facts))
        runtime.replace_file(args.out / "ruler.svg", page.svg(found.curves))
    print(page.table(found.curves))
    print(*(args.out / f"ruler.{kind}" for kind in ("json", "md", "svg")), sep="\n")


if __name__ == "__main__":
    sys.exit(exit_code(main))
