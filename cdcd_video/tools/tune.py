"""Tunes the sampling settings of models on validation videos, each with the same number of sampled videos, and writes one table.

A comparison of models is fair only if each is sampled with settings that suit it. Candidates are all combinations of the values
given for temperature, steps, solver and so on, as far as a model has them. Successive halving (Jamieson & Talwalkar 2016, with a
third instead of a half) spends the budget: every round samples the same new videos for the candidates that are left, and keeps
the best third of them. The scores of the table are those by which settings were chosen, so the winner's is flattered: report
another evaluation of it, on other videos.
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError, exit_code
from cdcd_video.metrics.protocol import DIGITS, OWN, SPRITES, Protocol, with_flags
from cdcd_video.metrics.scores import MEASURES, METRICS
from cdcd_video.storage.free_name import chosen_folder

Candidate = Mapping[str, Any]
"""Sampling settings by name."""
KEEPS_ONE_IN = 3
"""A round keeps a third of its candidates, rounded up."""
SCORES = {SPRITES: "all_right", DIGITS: "digits_right"}
"""What is maximised, by the rendered world."""
HEADER = "| model | kind | settings | round | videos | score [95 %] | chosen |\n|---|---|---|---|---|---|---|\n"


@dataclass(frozen=True)
class Result:
    """A score of one candidate in one round."""

    value: float | None
    """None where nothing could be measured."""
    low: float | None
    high: float | None
    num_videos: int
    """Videos sampled."""


@dataclass(frozen=True)
class Tried:
    """A candidate with its results, one for each round that it took part in."""

    settings: Candidate
    results: tuple[Result, ...]


def main() -> int:
    """Parses the command line and tunes every model."""
    parser = OptionParser(prog="python -m cdcd_video.tools.tune", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--checkpoint", required=True, nargs="+", metavar="NAME_OR_DIR", help="shipped models, or model or run folders")
    add("--budget", type=int, default=2304, metavar="N", help="videos sampled for each model (default: %(default)s)")
    add("--temperature", type=float, nargs="+", default=[0.3, 0.7, 1.0], metavar="T", help="default: 0.3 0.7 1")
    add("--steps", dest="num_steps", type=int, nargs="+", default=[2, 4, 8], metavar="S", help="default: 2 4 8")
    add("--solver", nargs="+", choices=("euler", "heun"), default=["euler", "heun"], help="default: euler heun")
    add("--guidance", type=float, nargs="+", metavar="G", help="default: the model's own alone")
    add("--top-p", type=float, nargs="+", metavar="P", help="default: the model's own alone")
    add("--data", metavar="DATA", help="sprites, digits or a prepared folder (default: that of the model)")
    add("--split", default="val", help="split of the data (default: %(default)s)")
    add("--score", metavar="SCORE", help="what is optimised (default: all_right of sprites, digits_right of digits)")
    add("--num-frames", type=int, default=16, metavar="F", help="frames per video (default: %(default)s)")
    add(
        "--seed",
        type=int,
        default=1000,
        help="of scenes and sampling in the first round; one more in each (default: 1000)",
    )
    add("--batch", type=int, default=32, metavar="B", help="videos sampled at a time (default: 32)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    add("--out", type=Path, metavar="DIR", help="output folder (default: out/tune, or the next free name)")
    args = parser.parse_args()
    if args.budget < 1 or args.batch < 1 or args.num_frames < 2 or args.seed < 0:
        raise UserError("--budget and --batch must be at least 1, --num-frames 2 and --seed 0")
    with chosen_folder(args.out, Path("out/tune")) as out:
        for line in tune(args, out):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    return 0


def tune(args: argparse.Namespace, out: Path) -> Iterator[str]:
    """Tunes one model after the other; says what was chosen, and writes `tuned.md` and `tuned.json`."""
    from tqdm import tqdm

    from cdcd_video.engine.runtime import git_state, machine, replace_file, writing_to
    from cdcd_video.pipeline import ImageToVideo
    from cdcd_video.sampling.notes import unused_by

    given = {name: getattr(args, name) for name in ("temperature", "num_steps", "solver", "guidance", "top_p")}
    plans = []
    for checkpoint in args.checkpoint:  # mistakes are found before anything is sampled
        pipe = ImageToVideo.from_pretrained(checkpoint, args.device)
        candidates = combinations(given, unused_by(pipe.model))
        for candidate in candidates:
            pipe.defaults(**candidate)
        check_budget(args.budget, len(candidates))
        plans.append((checkpoint, pipe, candidates, _referee(pipe, args)))
    facts = {name: getattr(args, name) for name in ("budget", "split", "seed", "num_frames", *given)}
    facts |= {**git_state(), "machine": machine()}
    found: list[dict[str, Any]] = []
    total = args.budget * (args.num_frames - 1) * len(plans)
    with tqdm(total=total, desc="sampling", unit="frame") as bar:
        for checkpoint, pipe, candidates, referee in plans:
            score, measured = referee
            better = MEASURES[score].better

            def measure(
                settings: Candidate, num: int, number: int, measured: Callable[..., Result] = measured
            ) -> Result:
                return measured(settings, num, args.seed + number, bar.update)

            tried = successive_halving(candidates, measure, args.budget, better)
            baseline = pipe.model.config.baseline
            row = {
                "checkpoint": checkpoint,
                "kind": baseline.kind if baseline else f"discrete, {pipe.model.config.diffusion.process.kind}",
                "model_sha256": pipe.model.digest,
                "score": score,
                "sampled_videos": sum(result.num_videos for one in tried for result in one.results),
                "candidates": [
                    {"settings": dict(one.settings), "rounds": [vars(result) for result in one.results]}
                    for one in tried
                ],
            }
            found.append(row)
            with writing_to(out):  # after each model, so that an interruption loses one at most
                out.mkdir(parents=True, exist_ok=True)
                replace_file(out / "tuned.json", json.dumps(facts | {"models": found}, indent=1) + "\n")
                replace_file(out / "tuned.md", table(facts | {"models": found}))
            yield f"{checkpoint}: {described(tried[0])}"
    yield f"table: {out / 'tuned.md'}"


def combinations(values: Mapping[str, Sequence[Any] | None], unused: Sequence[str] = ()) -> list[Candidate]:
    """All combinations of the values of settings that a model has; what samples the same videos stands once.

    Args:
      values: of each setting; None leaves it at the model's own.
      unused: settings that the model ignores.
    """
    names = [name for name, given in values.items() if given and name not in unused]
    all_of = [dict(zip(names, one, strict=True)) for one in itertools.product(*(values[name] or () for name in names))]
    # The last step of Heun's method is Euler's, so one step of either is the same.
    alike = [{**one, "solver": "euler"} if one.get("num_steps") == 1 and "solver" in one else one for one in all_of]
    return [one for number, one in enumerate(all_of) if alike[number] not in alike[:number]]


def num_rounds(num_candidates: int) -> int:
    """Rounds until one candidate is left; one round where there is only one."""
    rounds, left = 1, _num_kept(num_candidates)
    while left > 1:
        rounds, left = rounds + 1, _num_kept(left)
    return rounds


def check_budget(budget: int, num_candidates: int) -> None:
    """Refuses a budget of less than one video for each candidate of the first round.

    Raises:
      UserError: says what would be enough.
    """
    least = num_candidates * num_rounds(num_candidates)
    if budget < least:
        raise UserError(
            f"--budget {budget} is too small for {num_candidates} combinations of settings; give at least {least}, or fewer"
            " values"
        )


def successive_halving(
    candidates: Sequence[Candidate],
    measure: Callable[[Candidate, int, int], Result],
    budget: int,
    better: str = "higher",
) -> list[Tried]:
    """Spends a number of videos on finding the best candidate.

    The rounds share the budget equally, and the candidates of a round its part. What division leaves over goes to later
    rounds, so that less is left at the end than candidates are in the last round.

    Args:
      candidates: all different.
      measure: (candidate, number of videos, number of the round from 0) -> its score.
      budget: videos of all rounds; see `check_budget`.
      better: as `Measure.better`; for `one` the distance from 1 counts.

    Returns:
      All candidates, the best first: by the last round that they took part in, then by their score there. Of equals the one
      that was given first.
    """
    results: list[list[Result]] = [[] for _ in candidates]
    alive, left, rounds = list(range(len(candidates))), budget, num_rounds(len(candidates))
    for number in range(rounds):
        num_videos = left // (rounds - number) // len(alive)
        for place in alive:
            results[place].append(measure(candidates[place], num_videos, number))
        left -= num_videos * len(alive)
        alive = sorted(alive, key=lambda place: _cost(results[place][-1].value, better))
        alive = sorted(alive[: _num_kept(len(alive))])
    order = sorted(
        range(len(candidates)), key=lambda place: (-len(results[place]), _cost(results[place][-1].value, better))
    )
    return [Tried(candidates[place], tuple(results[place])) for place in order]


def _num_kept(num_candidates: int) -> int:
    return -(-num_candidates // KEEPS_ONE_IN)


def _cost(value: float | None, better: str) -> float:
    if value is None:
        return math.inf
    return {"higher": -value, "lower": value, "one": abs(value - 1)}[better]


def described(tried: Tried) -> str:
    """A candidate as text: its settings, and the score of its last round."""
    return f"{_settings(tried.settings)}: {_score(vars(tried.results[-1]))}, n = {tried.results[-1].num_videos}"


def table(result: Mapping[str, Any]) -> str:
    """All candidates of all models as one table in Markdown, with what is needed to make it again.

    Args:
      result: the content of `tuned.json`.
    """
    rows = []
    for model in result["models"]:
        for place, one in enumerate(model["candidates"]):
            last, rounds = one["rounds"][-1], len(one["rounds"])
            chosen = "yes" if place == 0 else ""
            cells = (
                model["checkpoint"],
                model["kind"],
                _settings(one["settings"]),
                rounds,
                last["num_videos"],
                _score(last),
            )
            rows.append(f"| {' | '.join(map(str, cells))} | {chosen} |\n")
    scores = ", ".join(dict.fromkeys(model["score"] for model in result["models"]))
    spent = "; ".join(f"{model['checkpoint']}: {model['sampled_videos']:,}" for model in result["models"])
    machine = ", ".join(filter(None, (result["machine"]["cpu"], result["machine"]["gpu"])))
    return (
        f"# Tuned sampling settings\n\nScore: {scores}, in the last round that a candidate took part in. Budget of each model:"
        f" {result['budget']:,} videos of {result['num_frames']} frames; sampled were {spent}. Split {result['split']}, seeds"
        f" from {result['seed']} on. Commit {result['commit']}; {machine}. The score"
        f" of a chosen candidate is flattered by the choice; report one on other videos.\n\n{HEADER}{''.join(rows)}"
    )


def _settings(settings: Candidate) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in settings.items()
    )


def _score(result: Mapping[str, Any]) -> str:
    span = "" if result["low"] is None else f" [{result['low']:.3f}, {result['high']:.3f}]"
    return "-" if result["value"] is None else f"{result['value']:.3f}{span}"


def _usable_scores(world: str | None) -> Iterator[tuple[str, str]]:
    """Scores of one video that have a good direction, and depend on how it was sampled; each with its metric."""
    for name in METRICS:
        metric = METRICS[name]
        if metric.world in ("", world) and not (metric.needs_real or metric.of_sets or metric.needs_model):
            yield from ((score, name) for score, how in metric.scores.items() if how.better != "real")


def _referee(pipe: Any, args: argparse.Namespace) -> tuple[str, Callable[..., Result]]:
    """The score that is optimised, and a function that samples videos and measures it."""
    from cdcd_video import evaluation

    config = pipe.model.config
    data = args.data or (config.data.kind if config.data.kind in SCORES else config.data.path)
    score = args.score or SCORES.get(data)
    if score is None:
        raise UserError(f"there is no usual score for the clips of {data}; name one by --score, such as psnr")
    metrics = dict(_usable_scores(data if data in SCORES else None))
    if score not in metrics:
        raise UserError(f"--score {score} cannot be optimised; choose one of {', '.join(metrics)}")
    metric = metrics[score]

    def prepared(settings: Candidate, num_videos: int, seed: int) -> Any:
        size: dict[str, Any] = {"num_videos": num_videos, "num_frames": args.num_frames, "seed": seed}
        protocol = with_flags(Protocol(num_real=0, clip=OWN), {"data": data, "split": args.split, **size})
        return evaluation.prepare(pipe, protocol, (metric,), args.device, **settings)

    def measured(settings: Candidate, num_videos: int, seed: int, progress: Callable[[int], object]) -> Result:
        bench = prepared(settings, num_videos, seed)
        scores = bench.run(args.batch, progress, ("model",)).scores
        whole = next(
            one
            for one in scores
            if (one.row, one.metric, one.group, one.frame, one.window) == ("model", score, "all", None, None)
        )
        return Result(whole.value, whole.low, whole.high, len(bench.dataset.eval_videos))

    prepared({}, 1, args.seed)  # data and weights that are missing are told at once
    return score, measured


if __name__ == "__main__":
    sys.exit(exit_code(main))
