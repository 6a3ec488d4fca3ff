"""The result of the metric validation as tables and as a figure of curves."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from cdcd_video.pages.chart_style import INK, SERIES, style_axes
from cdcd_video.storage.numerals import significant
from cdcd_video.tools.metric_validation.curves import Curve, Findings

COLOURS = dict(zip(("blur", "noise", "shuffle", "freeze", "tint", "drift"), SERIES, strict=True))
_COLUMNS = 5


def table(curves: Sequence[Curve]) -> str:
    """Text table: the least strength from which on each score detects each degradation, or the verdict where it does not."""
    rows = _verdicts(curves)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def markdown(found: Findings, facts: Mapping[str, Any]) -> str:
    """All tables as Markdown, with the command that made them."""
    curves = found.curves
    count = facts["num_videos"]
    equal = [["score", "equal sets", "real against real, mean", "95% of them"]]
    for name, values in found.equal.items():
        span = [values.get(f"real_against_real_{end}") for end in ("from", "to")]
        scattered = "" if None in span else f"{_number(span[0])} to {_number(span[1])}"
        equal.append([name, _number(values["equal_sets"]), _number(values.get("real_against_real")), scattered])
    still = [["score", "truth", "still video", "the still video"]]
    still += [[name, _number(v["truth"]), _number(v["still"]), v["still_video"]] for name, v in found.still.items()]
    moves = [["changed", "greatest relative change of a score"]]
    moves += [[name, f"{value:.1g}"] for name, value in found.invariance.items()]
    parts = [
        "# Validation of the metrics",
        "",
        f"`python -m cdcd_video.tools.ruler --num-videos {count} --seed {facts['seed']}`: {count} true sprites videos of 16"
        f" frames, degraded, against {count} others for scores of sets.",
        *("", "## Strength from which on a degradation is detected", "", *_table(_verdicts(curves))),
        *("", "## Values at full strength", "", *_table(_extremes(curves))),
        *("", "## Equal sets", "", *_table(equal)),
        *("", "## A still video", "", *_table(still)),
        *("", "## Dependence on batch size, order and threads", "", *_table(moves)),
        "",
    ]
    return "\n".join(parts)


def svg(curves: Sequence[Curve]) -> str:
    """A small panel per score, a line per degradation."""
    names = list(dict.fromkeys(curve.name for curve in curves))
    num_rows = -(-len(names) // _COLUMNS)
    style = {"svg.hashsalt": "cdcd_video", "font.size": 7, "svg.fonttype": "none", "axes.formatter.useoffset": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(2.2 * _COLUMNS, 1.55 * num_rows), layout="constrained")
        panels = figure.subplots(num_rows, _COLUMNS, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            for curve in (one for one in curves if one.name == name):
                axes.plot(curve.strengths, curve.values, color=COLOURS[curve.defect], lw=1.2, label=curve.defect)
            axes.set_title(name, color=INK, fontsize=7)
            style_axes(axes)
            axes.tick_params(length=2, pad=1)
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, labelcolor=INK)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()


def _verdicts(curves: Sequence[Curve]) -> list[list[str]]:
    def cell(curve: Curve) -> str:
        return f"{curve.seen_from:g}" if curve.verdict == "sees" and curve.seen_from else curve.verdict

    return _by_score(curves, "better", lambda curve: curve.better, cell)


def _extremes(curves: Sequence[Curve]) -> list[list[str]]:
    return _by_score(curves, "truth", lambda curve: _number(curve.values[0]), lambda curve: _number(curve.values[-1]))


def _by_score(curves: Sequence[Curve], title: str, first: Any, each: Any) -> list[list[str]]:
    defects = list(dict.fromkeys(curve.defect for curve in curves))
    found = {(curve.name, curve.defect): curve for curve in curves}
    rows = [["score", title, *defects]]
    for name in dict.fromkeys(curve.name for curve in curves):
        rows.append([name, first(found[name, defects[0]]), *(each(found[name, defect]) for defect in defects)])
    return rows


def _number(value: float | None) -> str:
    return "" if value is None else significant(value, 3)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]
