"""A comparison of evaluations as text for the terminal, Markdown, HTML, and JSON for programs."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from cdcd_video.evaluation.report import plots
from cdcd_video.evaluation.report.comparison_words import title, verdict
from cdcd_video.evaluation.report.saved_previews import read_previews, side_by_side
from cdcd_video.metrics.score_entries import SYSTEM_TITLES
from cdcd_video.metrics.statistics.comparison import LEVEL, REFERENCES, Cell, Comparison, Line, Test, compare
from cdcd_video.metrics.statistics.intervals import CONFIDENCE, RESAMPLES
from cdcd_video.pages.chart_style import THIN, colours_of
from cdcd_video.pages.markdown_text import as_is
from cdcd_video.pages.templates import render
from cdcd_video.storage.free_name import chosen_folder
from cdcd_video.video import whole_file

_HOW = {
    "paired": "paired, same videos",
    "unpaired": "unpaired, not the same videos",
    "intervals": "intervals compared, no test",
}
_BETTER = {
    "higher": "higher is better",
    "lower": "lower is better",
    "one": "1 is right",
    "real": "the value of true videos is right",
}
LEGEND = (
    f"Brackets are {100 * CONFIDENCE:.0f}% intervals. Bold (* on the terminal) marks a system that is significantly better than"
    f" every other one: the interval of the difference excludes 0, and p after Holm's correction over all tests here is below"
    f" {LEVEL}. A score without a test is never bold: scores of whole sets have none, nor have systems with different videos."
    f" Differences are first minus second; for a score with a right value, they are differences of distances to it."
)


def compare_and_write(folders: Sequence[str], given: Path | None, say: Callable[[str], object]) -> int:
    """Compares finished evaluations, and writes the comparison to a given folder or to a free name.

    Args:
      folders: of the evaluations.
      given: output folder; None for a free name.
      say: receives the text for the terminal.

    Returns:
      The exit code: 1 where folders could not be read and the others were compared.
    """
    with chosen_folder(given, Path("out/compare")) as out:
        found = compare(folders)
        say("\n".join([text(found), *map(str, write(found, out)), ""]))
    return 1 if found.left_out else 0


def write(comparison: Comparison, out: Path) -> list[Path]:
    """Writes `compare.json`, `compare.md` and `compare.html`, each atomically.

    Args:
      comparison: from `metrics.statistics.comparison.compare`.
      out: the folder.

    Returns:
      The paths.

    Raises:
      UserError: the place cannot be written.
    """
    record = json.dumps(dataclasses.asdict(comparison), indent=1, allow_nan=False, default=str) + "\n"
    texts = {"compare.json": record, "compare.md": markdown(comparison), "compare.html": html(comparison)}
    for name, text in texts.items():
        with whole_file(out / name) as part:
            part.write_text(text, encoding="utf-8")
    return [out / name for name in texts]


def text(comparison: Comparison) -> str:
    """The table for a terminal, with the differences below it; curves and the latent space are only on the pages."""
    lines = [line for line in comparison.lines if not line.is_along and not line.is_latent]
    table = _aligned(_rows(comparison, lines, lambda value: f"*{value}"))
    return "\n".join(
        [*_left_out(comparison), verdict(comparison), "", *table, "", *_differences(lines), "", LEGEND, ""]
    )


def markdown(comparison: Comparison) -> str:
    """The comparison as Markdown, with summaries of curves along the video."""
    parts = ["# Comparison", "", as_is(verdict(comparison)), *(f"\n{as_is(line)}" for line in _left_out(comparison))]
    for heading, lines in _sections(comparison):
        header, *rows = _rows(comparison, lines, lambda value: f"**{value}**")
        table = [header, ["---"] * len(header), *rows]
        parts += ["", f"## {heading}", "", *("| " + " | ".join(map(as_is, row)) + " |" for row in table)]
    parts += ["", "## Differences", "", *(f"- {as_is(line)}" for line in _differences(comparison.lines)), "", LEGEND]
    parts += [f"Protocol `{comparison.protocol_hash}`."] if comparison.protocol_hash else []
    return "\n".join([*parts, ""])


def html(comparison: Comparison) -> str:
    """The comparison as one self-contained page, with curves along the video."""
    values = {
        "systems": comparison.systems,
        "folders": comparison.folders,
        "references": [SYSTEM_TITLES[row] for row in _references(comparison)],
        "verdict": verdict(comparison),
        "previews": side_by_side({name: read_previews(Path(folder)) for name, folder in comparison.folders.items()}),
        "sections": [(head, [_parts(line, comparison) for line in lines]) for head, lines in _sections(comparison)],
        "curves": [
            image for line in comparison.lines if not line.is_latent and (image := _curve(line, comparison.systems))
        ],
        "colours": colours_of(comparison.systems),
        "protocol": [(name, json.dumps(value, default=str)) for name, value in comparison.protocol.items()],
        "protocol_hash": comparison.protocol_hash,
        "left_out": _left_out(comparison),
        "legend": LEGEND,
        "resamples": RESAMPLES,
    }
    return render(Path(__file__).with_name("compare_page.html"), values)


def _left_out(comparison: Comparison) -> list[str]:
    """One sentence for each folder that is not compared."""
    return [f"{folder} is not compared: {reason}." for folder, reason in comparison.left_out.items()]


# Texts ------------------------------------------------------------------------------------------------------------


def _sections(comparison: Comparison) -> list[tuple[str, list[Line]]]:
    """Scores of whole videos, summaries of curves along them, and the latent space, as far as there are any."""
    latent = [line for line in comparison.lines if line.is_latent]
    rest = [line for line in comparison.lines if not line.is_latent]
    sections = {
        "Scores": [line for line in rest if not line.is_along],
        "Along the video": [line for line in rest if line.is_along],
        "The latent space": latent,
    }
    return [(heading, lines) for heading, lines in sections.items() if lines]


def _rows(comparison: Comparison, lines: Sequence[Line], stressed: Callable[[str], str]) -> list[list[str]]:
    references = _references(comparison)
    rows = [["", "n", *comparison.systems, *(SYSTEM_TITLES[row] for row in references)]]
    for line in lines:
        cells = []
        for name in comparison.systems:
            parts = _cell_parts(line, name)
            value = stressed(parts["value"]) if parts["is_best"] else parts["value"]
            cells.append(f"{value} [{parts['interval']}]" if parts["interval"] else value)
        counts = sorted({cell.n for cell in line.cells.values()})
        beside = [_reference(line, row, comparison) for row in references]
        rows.append([f"{title(line)} ({_about(line)})", " / ".join(map(str, counts)), *cells, *beside])
    return rows


def _references(comparison: Comparison) -> list[str]:
    return [row for row in REFERENCES if any(row in line.references for line in comparison.lines)]


def _parts(line: Line, comparison: Comparison) -> dict:
    """The parts of a line on the page."""
    return {
        "title": title(line),
        "about": _about(line),
        "cells": [_cell_parts(line, name) for name in comparison.systems],
        "references": [_reference(line, row, comparison) for row in _references(comparison)],
        "tests": [_test_parts(line, test) for test in line.tests],
        "note": line.note,
    }


def _about(line: Line) -> str:
    return ", ".join(filter(None, (_BETTER.get(line.better, ""), line.unit if line.unit in ("px", "dB") else "")))


def _cell_parts(line: Line, name: str) -> dict:
    cell = line.cells.get(name)
    value = "-" if cell is None else _number(cell.value, line.unit, with_unit=True)
    value = f">= {value}" if cell is not None and cell.is_at_least else value
    return {"value": value, "interval": _interval(cell, line.unit), "is_best": line.best == name}


def _interval(cell: Cell | Test | None, unit: str) -> str:
    if cell is None or cell.low is None or cell.high is None:
        return ""
    return f"{_number(cell.low, unit)} to {_number(cell.high, unit)}"


def _reference(line: Line, row: str, comparison: Comparison) -> str:
    """One value where it is the same for all systems, else one per system."""
    found = line.references.get(row, {})
    own = [
        _number(found[name].value, line.unit, with_unit=True) if name in found else "-" for name in comparison.systems
    ]
    return own[0] if len(set(own)) == 1 else " / ".join(own)


def _differences(lines: Sequence[Line]) -> list[str]:
    sentences = []
    for line in lines:
        for test in line.tests:
            parts = _test_parts(line, test)
            sentences.append(f"{title(line)}: {test.first} - {test.second} = {parts['difference']}; {parts['how']}.")
        if line.note:
            sentences.append(f"{title(line)}: {line.note}.")
    return sentences


def _test_parts(line: Line, test: Test) -> dict:
    interval = _interval(test, line.unit)
    text = _number(test.difference, line.unit, with_unit=True) + (f" [{interval}]" if interval else "")
    how = f"{_HOW[test.how]}, n = {test.n}"
    if test.p is not None:
        how += f", p = {test.p:.2g}, adjusted {test.p_holm:.2g}"
    pair = {"first": test.first, "second": test.second, "is_significant": test.is_significant}
    return pair | {"difference": text, "how": how}


def _number(value: float | None, unit: str, with_unit: bool = False) -> str:
    """Three significant digits, and all digits before the point."""
    if value is None or not math.isfinite(value):
        return "-"
    if unit == "share":
        return f"{100 * value:.1f}" + ("%" if with_unit else "")
    decimals = 2 if value == 0 else min(6, max(0, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:.{decimals}f}" + (f" {unit}" if with_unit and unit in ("px", "dB") else "")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _curve(line: Line, systems: Sequence[str]) -> str | None:
    """A score along the video, a line per system; None where it has no curve."""
    found = {name: line.cells[name].per_frame for name in systems if name in line.cells and line.cells[name].per_frame}
    if not found:
        return None
    colours = colours_of(systems)

    def plot(axes: Axes) -> None:
        for name, points in found.items():
            axes.plot(*zip(*points, strict=True), color=colours[name], lw=THIN, marker="." if len(points) < 3 else "")

    return plots.chart(plot, "frame", title(line))
