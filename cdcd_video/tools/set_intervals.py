"""Validates the intervals of set scores: coverage and width on many pairs of sets from known distributions.

    python -m cdcd_video.tools.set_intervals --trials 200

Features are normal, with a spectrum that falls by e in 8 dimensions; one side is shifted in the first dimension. The right
value is the mean score of the trials, and the right width that of 95 % of the scores.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError, exit_code
from cdcd_video.metrics.sets.distribution import frechet_distance, kernel_distance
from cdcd_video.metrics.sets.feature_store import HALVES
from cdcd_video.metrics.statistics.intervals import TAIL, around, over_halves
from cdcd_video.storage.numerals import significant

STATISTICS = {"Frechet (FID, FVD)": frechet_distance, "kernel (KID, KVD)": kernel_distance}
SHIFTS = (0.0, 0.3, 0.6, 1.5)
"""Shifts in standard deviations; 0 is the floor: the same distribution on both sides."""
_FALL = 8.0


@dataclass(frozen=True)
class Found:
    """The result for one distribution.

    Attributes:
      value: mean score over the trials.
      width: mean width of the intervals, over the width in which 95 % of the scores lie; 1 is right.
      covered: fraction of the intervals in which the mean score lies; 0.95 is right.
    """

    value: float
    width: float
    covered: float


def trial(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    num: int,
    width: int,
    shift: float,
    trials: int,
    seed: int,
    num_halves: int = HALVES,
) -> Found:
    """Scores `trials` pairs of sets of `num` samples each, with their intervals."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    spread = np.exp(-np.arange(width) / _FALL)
    values, ends = np.empty(trials), np.empty((trials, 2))
    for number in range(trials):
        real, sampled = rng.normal(0, spread, (2, num, width))
        sampled[:, 0] += shift

        def score(*kept: np.ndarray, sets: tuple[np.ndarray, ...] = (real, sampled)) -> np.ndarray:
            return np.array([statistic(*(rows[which] for rows, which in zip(sets, kept, strict=True)))])

        value = score(*[np.arange(num)] * 2)
        low, high = around(value, over_halves(score, (num, num), number, num_halves))
        values[number], ends[number] = value[0], (low[0], high[0])
    right, apart = values.mean(), np.diff(np.quantile(values, (TAIL, 1 - TAIL)))[0]
    covered = ((ends[:, 0] <= right) & (right <= ends[:, 1])).mean()
    return Found(float(right), float(np.diff(ends, axis=1).mean() / apart), float(covered))


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.set_intervals", description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=200, metavar="N", help="pairs of sets per line (default: 200)")
    parser.add_argument(
        "--num", type=int, nargs="+", default=[48, 96], metavar="N", help="samples per set (default: 48 96)"
    )
    parser.add_argument("--width", type=int, default=32, metavar="D", help="features per sample (default: 32)")
    parser.add_argument("--seed", type=int, default=0, help="seed (default: 0)")
    args = parser.parse_args()
    if args.trials < 2 or min(args.num) < 8 or args.width < 1 or args.seed < 0:
        raise UserError("--trials must be at least 2, --num 8, --width 1 and --seed 0")
    sys.stdout.write("| score | samples | shift | mean score | width / right width | coverage |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")
    for name, statistic in STATISTICS.items():
        for num in args.num:
            for shift in SHIFTS:
                found = trial(statistic, num, args.width, shift, args.trials, args.seed)
                told = f"{significant(found.value, 3)} | {found.width:.2f} | {100 * found.covered:.0f} %"
                sys.stdout.write(f"| {name} | {num} | {shift:g} | {told} |\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
