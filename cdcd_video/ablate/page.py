"""Writes the results of an ablation: table.md with values and differences, table.json, and curves along the video."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cdcd_video.ablate import bases, declaration, power_page, training_logs
from cdcd_video.ablate.endpoints import FILE, Tested, deviations, endpoint_tests
from cdcd_video.ablate.gather import Gathered, Sums, gather
from cdcd_video.ablate.plan import Plan
from cdcd_video.ablate.score_words import interval, named, number
from cdcd_video.ablate.verdict import Difference, Value, curve_of, difference_of, value_of
from cdcd_video.engine.runtime import replace_file
from cdcd_video.errors import UserError
from cdcd_video.metrics.score_entries import OF_SETS, headline
from cdcd_video.metrics.scores import MEASURES, SLOPE

CURVES = ("position_error", "identity_iou", "motion_ratio", "psnr")
"""Metrics that are plotted along the video, as far as they were measured."""
SLOPES = ("position_error", "identity_iou", "psnr")
"""Metrics whose drift is listed: the slope of their curve, per frame."""
_PER_ROW = 2
_INK = "#7d828c"  # legible on white and on black


@dataclass(frozen=True)
class Line:
    """One score of one arm."""

    measured: str
    metric: str
    figure: str
    arm: str
    reference: str
    value: Value
    difference: Difference | None
    """None for the reference itself, and where no comparison is possible."""
    is_null: bool = False
    """Whether the arm only repeats its reference."""


def write(plan: Plan, seed: int = 0) -> list[Path]:
    """Writes the results of the finished cells; lists the unfinished ones.

    Args:
      plan: the ablation.
      seed: of the bootstrap.

    Returns:
      The paths.

    Raises:
      UserError: no cell is finished yet, or arms of a seed began with different weights.
    """
    bases.check_paired(plan)
    gathered = gather(plan)
    if not any(found.num_seeds for found in gathered):
        raise UserError(f"{plan.out} has no finished cell; run the ablation without --table first")
    lines = [line for found in gathered for line in _lines(plan, found, seed)]
    tests = endpoint_tests(plan, gathered, seed)
    paths = [plan.out / "table.md", plan.out / "table.json"]
    replace_file(paths[0], markdown(plan, gathered, lines, tests))
    replace_file(paths[1], json.dumps([_plain(line) for line in lines], indent=1) + "\n")
    if tests:
        paths.append(plan.out / FILE)
        content = {"config_sha256": declaration.digest_of(plan), "tests": [asdict(test) for test in tests]}
        replace_file(paths[-1], json.dumps(content, indent=1) + "\n")
    for found in gathered:
        path = plan.out / f"curves-{found.name}.svg"
        if _plot(found, path):
            paths.append(path)
    return paths


def _lines(plan: Plan, found: Gathered, seed: int) -> Iterator[Line]:
    """Every score of every arm, in the order of reports."""
    order = [entry.metric for entry in headline() if entry.group == "all"]
    for metric in (name for name in order if any(name in of_arm for of_arm in found.sums.values())):
        figures = ["whole", *(["slope"] if metric in SLOPES else [])]
        figures += [one.figure for one in plan.ablation.endpoints if (one.measured, one.metric) == (found.name, metric)]
        for figure in dict.fromkeys(figures):
            measure, right = MEASURES[metric], found.references.get("truth", {}).get(metric)
            right = 1.0 if measure.better == "one" else right
            for arm, of_arm in found.sums.items():
                reference = plan.arms[arm].reference
                other = found.sums.get(reference, {}).get(metric)
                difference = None
                if other is not None and reference != arm:
                    difference = difference_of(of_arm[metric], other, measure.better, figure, right, seed)
                is_share = measure.unit == "share" and figure == "whole"
                value = value_of(of_arm[metric], figure, seed, is_share=is_share)
                yield Line(found.name, metric, figure, arm, reference, value, difference, plan.arms[arm].is_null)


def markdown(plan: Plan, gathered: Sequence[Gathered], lines: Sequence[Line], tests: Sequence[Tested] = ()) -> str:
    """All results as Markdown: the question, the tests or the significant differences, and tables."""
    done, seeds = gathered[0].num_seeds, len(plan.ablation.seeds)
    missing = [f"{arm} ({done.get(arm, 0)} of {seeds})" for arm in plan.arms if done.get(arm, 0) < seeds]
    text = [f"# {plan.ablation.question}", "", f"`python -m cdcd_video.ablate {plan.file}`, {seeds} training seeds."]
    text += ["", f"The config, as it is resolved, has the SHA-256 `{declaration.digest_of(plan)}`."]
    if missing:
        text += ["", f"Not finished: {', '.join(missing)}."]
    text += ["", *(power_page.after(plan, tests, deviations(plan, tests)) if tests else _verdict(lines))]
    for found in gathered:
        own = [line for line in lines if line.measured == found.name]
        text += [
            "",
            f"## {found.name}",
            "",
            f"{_videos(found)} of each seed; protocol `{found.protocol[:12]}`.",
            "",
        ]
        text += [*_tables(found, own, has_marks=not tests), *_sets(found)]
    text += ["", "## Training", "", *training_logs.markdown(training_logs.read(plan))]
    return "\n".join(text) + "\n"


def _verdict(lines: Sequence[Line]) -> Iterator[str]:
    compared = [line for line in lines if line.difference is not None]
    apart = [line for line in compared if line.difference.is_significant]
    yield (
        f"{len(apart)} of {len(compared)} differences are significant (bold): their 95% interval over videos and seeds excludes"
        " 0, and at least three seeds agree in sign. By chance, up to one in twenty would be. Scores with a right value (motion,"
        " flicker, step and turn in CLIP space) are compared by their distance to it."
    )
    for line in apart:
        word = "better" if line.difference.is_better else "worse"
        yield (
            f"- **{line.arm}** is {word} than {line.reference} by {named(line.metric, line.figure)} ({line.measured}):"
            f" {interval(line.difference, line.metric, '+')}"
        )


def _videos(found: Gathered) -> str:
    if not found.num_videos:
        return "Sets of videos"
    pairs = f" of {found.num_clips:,} clips" if found.num_clips < found.num_videos else ""
    return f"{found.num_videos} videos{pairs}"


def _tables(found: Gathered, lines: Sequence[Line], has_marks: bool) -> Iterator[str]:
    """A table per reference arm with the arms that are compared with it; then the references without training."""
    rows = list(dict.fromkeys((line.metric, line.figure) for line in lines))
    cells = {(line.arm, line.metric, line.figure): line for line in lines}
    for reference in dict.fromkeys(line.reference for line in lines):
        arms = list(dict.fromkeys(line.arm for line in lines if line.reference == reference))
        titles = [f"{arm} ({found.num_seeds[arm]})" for arm in arms]
        yield from _table(
            ["value [95% interval]; difference from the first arm (seeds)", *titles],
            rows,
            [_cells(cells, arm, has_marks) for arm in arms],
        )
    if found.references and rows:
        columns = [_of_reference(scores) for scores in found.references.values()]
        yield from _table(["reference", *found.references], rows, columns)


def _table(
    titles: Sequence[str], rows: Sequence[tuple[str, str]], columns: Sequence[Callable[..., str]]
) -> Iterator[str]:
    yield "| " + " | ".join(titles) + " |"
    yield "|---" * len(titles) + "|"
    for row in rows:
        yield f"| {named(*row)} | " + " | ".join(column(*row) for column in columns) + " |"
    yield ""


def _cells(cells: Mapping[tuple[str, str, str], Line], arm: str, has_marks: bool) -> Callable[[str, str], str]:
    def cell(metric: str, figure: str) -> str:
        line = cells.get((arm, metric, figure))
        if line is None:
            return "-"
        value = interval(line.value, metric)
        if line.difference is None:
            return value
        mark = "**" if has_marks and line.difference.is_significant else ""
        return f"{value}; {mark}{interval(line.difference, metric, '+')}{mark}"

    return cell


def _of_reference(scores: Mapping[str, float | None]) -> Callable[[str, str], str]:
    def cell(metric: str, figure: str) -> str:
        value = scores.get(metric if figure == "whole" else f"{metric}_{SLOPE}")
        return "-" if value is None else number(value, metric)

    return cell


def _sets(found: Gathered) -> Iterator[str]:
    """Scores of sets have no value per video, so only the seeds are listed, without a test."""
    titles = {entry.metric: entry.title for entry in OF_SETS}
    columns = [name for name in titles if any(name in of_arm for of_arm in found.sets.values())]
    if not columns:
        return
    yield "Scores of sets of videos: mean over seeds (minimum to maximum), without a test."
    yield ""
    yield "| arm | " + " | ".join(titles[name] for name in columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for arm, of_arm in found.sets.items():
        row = []
        for name in columns:
            values = [value for value in of_arm.get(name, {}).values() if value is not None]
            spread = f" ({number(min(values), name)} to {number(max(values), name)})" if len(values) > 1 else ""
            row.append(number(float(np.mean(values)), name) + spread if values else "-")
        yield f"| {arm} | " + " | ".join(row) + " |"
    for name, scores in found.references.items():
        row = ["-" if scores.get(column) is None else number(scores[column], column) for column in columns]
        yield f"| *{name}* | " + " | ".join(row) + " |"


def _plot(found: Gathered, path: Path) -> bool:
    """Plots curves along the video, mean over seeds with their range, a colour per arm; False where there is none."""
    metrics = [name for name in CURVES if any(_has_curve(sums.get(name)) for sums in found.sums.values())]
    if not metrics:
        return False
    rows = math.ceil(len(metrics) / _PER_ROW)
    figure = Figure(figsize=(4.4 * _PER_ROW, 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, _PER_ROW, squeeze=False).flat
    for axes in grid[len(metrics) :]:
        axes.set_visible(False)
    for axes, metric in zip(grid, metrics, strict=False):
        for place, (arm, sums) in enumerate(found.sums.items()):
            curves = curve_of(sums[metric])
            style = {"color": f"C{place % 10}", "linestyle": ("-", "--", ":")[place // 10 % 3]}
            axes.plot(sums[metric].frames, curves.mean(axis=0), label=arm, lw=1.4, **style)
            axes.fill_between(
                sums[metric].frames, curves.min(axis=0), curves.max(axis=0), color=style["color"], alpha=0.1, lw=0
            )
        axes.set_xlabel("frame", color=_INK)
        axes.set_ylabel(f"{named(metric, 'whole')}, {MEASURES[metric].unit}", color=_INK)
        axes.tick_params(colors=_INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_INK)
        axes.grid(color=_INK, alpha=0.18)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, labelcolor=_INK
    )
    figure.savefig(path, transparent=True, metadata={"Date": None})
    return True


def _has_curve(sums: Sums | None) -> bool:
    return sums is not None and len(sums.frames) > 1


def _plain(line: Line) -> dict:
    plain = asdict(line)
    if line.difference is not None:
        plain["difference"]["is_told_apart"] = line.difference.is_significant
    return plain
