"""Fuzzes every reader of user files with broken inputs; any outcome other than a clear error message is a defect.

    python -m cdcd_video.tools.fuzz --inputs 100000

The inputs are valid examples changed by a seeded generator, so a defect is reproducible by its seed. Inputs that crash a reader
or take too long are kept.
"""

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError
from cdcd_video.storage.free_name import chosen_folder


def main() -> int:
    parser = OptionParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--inputs", type=int, default=100_000, help="number of inputs over all targets (default: 100000)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="+", metavar="NAME", help="targets to fuzz (default: all)")
    parser.add_argument(
        "--out", type=Path, help="folder for crashing inputs (default: out/fuzz, or the next free name)"
    )
    args = parser.parse_args()
    if args.inputs < 1 or args.seed < 0:
        raise UserError("--inputs must be at least 1, and --seed at least 0")
    with chosen_folder(args.out, Path("out/fuzz")) as args.out:
        return feed(args)


def feed(args: argparse.Namespace) -> int:
    """Runs the fuzzer and writes crashing inputs to `args.out`; returns 1 if there were any."""
    from cdcd_video.tools.dev.fuzzing.fuzz_run import all_targets, fuzz

    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        known = all_targets(Path(scratch))
        unknown = sorted(set(args.targets or ()) - {target.name for target in known})
        if unknown:
            raise UserError(
                f"there is no target {unknown[0]!r}; choose from {', '.join(target.name for target in known)}"
            )
        chosen = [target for target in known if not args.targets or target.name in args.targets]
        total = sum(target.share for target in chosen)
        tallies = []
        for target in chosen:
            tally = fuzz(target, math.ceil(args.inputs * target.share / total), args.seed, Path(scratch), args.out)
            sys.stdout.write(f"{tally.line}\n")
            sys.stdout.flush()
            tallies.append(tally)
    num_defects = sum(len(tally.defects) for tally in tallies)
    for tally in tallies:
        for defect in tally.defects.values():
            sys.stdout.write(
                f"DEFECT in {tally.target}, {defect.times} times: {defect.what}\n  input kept in {defect.kept}\n"
            )
    num_inputs, seconds = sum(tally.num_inputs for tally in tallies), sum(tally.seconds for tally in tallies)
    sys.stdout.write(f"{num_inputs:,} inputs in {seconds:.0f} s of CPU time, {num_defects} defects\n")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "tally.json").write_text(json.dumps([tally.facts for tally in tallies], indent=1) + "\n")
    return 1 if num_defects else 0
