"""Summarises the training logs of the finished cells: gradient shares, accuracy of the contrastive terms, alarms."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cdcd_video.ablate.cell import is_done
from cdcd_video.ablate.gather import lines_of
from cdcd_video.ablate.plan import Plan
from cdcd_video.storage.numerals import significant

SHARE, WINS = "gradient_share_", "_wins"
"""Log keys: a term's share of the gradient at the logits, and how often its positive beats all negatives."""


@dataclass(frozen=True)
class Trained:
    """One arm, over its finished seeds."""

    num_seeds: int
    early: dict[str, tuple[float, ...]]
    """Mean over the first quarter of the logged steps, by key; one value per seed."""
    late: dict[str, tuple[float, ...]]
    """The same over the last quarter."""
    alarms: tuple[str, ...]
    """Every alarm raised, with seed and step."""
    precision: dict[int, str]
    """Precision of the last stage by seed; logs of early versions do not have it."""


def read(plan: Plan) -> dict[str, Trained]:
    """Reads `log.jsonl` of every finished cell.

    Returns:
      By arm; arms without a finished cell are left out.

    Raises:
      UserError: a log is damaged.
    """
    found: dict[str, Trained] = {}
    for arm in plan.arms:
        cells = [cell for cell in plan.of(arm) if is_done(plan, cell.folder)]
        if not cells:
            continue
        early, late, alarms, precision = {}, {}, [], {}
        for cell in cells:
            lines = _of_last_stage(cell.folder / "log.jsonl", plan.stages_of(cell))
            terms = [line["terms"] for line in lines if "terms" in line]
            own = [line["precision"] for line in lines if "precision" in line]
            precision |= {cell.seed: own[-1]} if own else {}
            quarter = max(1, len(terms) // 4)
            for means, part in ((early, terms[:quarter]), (late, terms[-quarter:])):
                for name in (name for name in part[-1] if name.startswith(SHARE) or name.endswith(WINS)):
                    means.setdefault(name, []).append(sum(line[name] for line in part) / len(part))
            alarms += [
                f"seed {cell.seed}, step {line['step']}: {alarm}" for line in lines for alarm in line.get("alarms", ())
            ]
        first, last = ({name: tuple(values) for name, values in means.items()} for means in (early, late))
        found[arm] = Trained(len(cells), first, last, tuple(alarms), precision)
    return found


def _of_last_stage(path: Path, stages: Sequence[str]) -> list[dict]:
    """The lines of the last of the stages that has logged a step: the one whose weights are evaluated."""
    lines = list(lines_of(path))
    took_steps = {line["task"] for line in lines if "terms" in line}
    last = next((stage for stage in reversed(stages) if stage in took_steps), None)
    return [line for line in lines if line["task"] == last]


def markdown(found: dict[str, Trained]) -> Iterator[str]:
    """A table by arm: percentages in the first and last quarter of the last stage, means over seeds (minimum to maximum)."""
    columns = list(dict.fromkeys(name for trained in found.values() for name in trained.early))
    yield "Share of each term in the gradient at the logits, and how often its positive beats all negatives, in % over the first"
    yield "and the last quarter of the last stage: mean over seeds (minimum to maximum)."
    yield ""
    yield "| arm (seeds) | " + " | ".join(_title(name) for name in columns) + " | alarms |"
    yield "|---" * (len(columns) + 2) + "|"
    for arm, trained in found.items():
        cells = [_quarters(trained.early.get(name), trained.late.get(name)) for name in columns]
        yield f"| {arm} ({trained.num_seeds}) | " + " | ".join(cells) + f" | {len(trained.alarms)} |"
    yield ""
    for arm, trained in found.items():
        yield from (f"- Alarm of {arm}, {alarm}" for alarm in trained.alarms)
    if len({kind for trained in found.values() for kind in trained.precision.values()}) > 1:
        kinds = "; ".join(f"{arm} {_kinds(trained.precision)}" for arm, trained in found.items() if trained.precision)
        yield f"- Cells were trained in different precisions, which contributes to their differences: {kinds}."


def _kinds(precision: dict[int, str]) -> str:
    of_kind = {kind: [str(seed) for seed, own in precision.items() if own == kind] for kind in precision.values()}
    return ", ".join(f"{kind} (seed {' '.join(seeds)})" for kind, seeds in of_kind.items())


def _title(name: str) -> str:
    if name.startswith(SHARE):
        return f"{name.removeprefix(SHARE).replace('_', ' ')}: share"
    return f"{name.removesuffix(WINS).replace('_', ' ')}: wins"


def _quarters(early: tuple[float, ...] | None, late: tuple[float, ...] | None) -> str:
    return "-" if not early or not late else f"{_spread(early)}; {_spread(late)}"


def _spread(values: tuple[float, ...]) -> str:
    low, mean, high = (significant(100 * value, 2) for value in (min(values), sum(values) / len(values), max(values)))
    return f"{mean} ({low} to {high})" if len(values) > 1 else mean
