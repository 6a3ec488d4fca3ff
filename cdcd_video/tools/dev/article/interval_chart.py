"""Geometry of a chart of values with their intervals, a panel for each axis; the template `interval_chart.html` renders it."""

import itertools
from typing import Any

from matplotlib.ticker import MaxNLocator

from cdcd_video.tools.dev.article.article_plan import Cell, Panel, ResultFile

WIDTH, RIGHT = 360, 14
"""Of a panel, and its margin at the right, in units of the picture, which are px on a page of 390."""
_LETTER, _LEAST_LABELS = 7.2, 70
"""Width of a bold letter, and of the column of labels at least."""
_TOP, _LINE, _FLOOR = 8, 19, 26
"""Margin above, height of a line, and of the axis below."""
_MOST_TICKS = 5


def interval_chart(result: ResultFile) -> dict[str, Any]:
    """All panels of a result file, and its numbers as tables."""
    rows = [f"{label}, {group}" if group else label for (group, label), _ in _lines(result.panels[0])]
    return {"panels": [_panel(panel) for panel in result.panels], "rows": rows}


def plotted_numbers(panel: Panel, cell: Cell) -> tuple[float, ...]:
    """Those numbers of a cell that a panel shows: value, lower and upper end; or one value for each dot."""
    if panel.plotted == "dots":
        return cell.numbers
    first = 3 if panel.plotted == "difference" else 0
    return cell.numbers[first : first + 3]


def _panel(panel: Panel) -> dict[str, Any]:
    labels = max(_LEAST_LABELS, round(_LETTER * max(len(cell.label) for cell in panel.cells)) + 10)
    across = WIDTH - labels - RIGHT

    def place(value: float) -> float:
        return round(labels + across * (value - panel.low) / (panel.high - panel.low), 1)

    y, last, lines, groups = float(_TOP), "", [], []
    for (group, label), cells in _lines(panel):
        if group != last:
            groups.append({"title": group, "y": y + _LINE - 6})
            y, last = y + _LINE, group
        y += _LINE
        numbers = tuple(itertools.chain.from_iterable(plotted_numbers(panel, cell) for cell in cells))
        is_span = panel.plotted != "dots"
        lines.append(
            {
                "label": label,
                "y": y - _LINE / 2,
                "marks": [place(number) for number in numbers[: 1 if is_span else None]],
                "span": [place(number) for number in numbers[1:]] if is_span else [],
                "is_bold": cells[0].bold,
                "text": _text(numbers, is_span, panel.plotted == "difference"),
            }
        )
    ticks = [
        tick
        for tick in MaxNLocator(_MOST_TICKS, steps=[1, 2, 5, 10]).tick_values(panel.low, panel.high)
        if panel.low <= tick <= panel.high
    ]
    return {
        "title": panel.title,
        "unit": panel.unit,
        "better": panel.better,
        "lines": lines,
        "groups": groups,
        "line": None if panel.line is None else place(panel.line),
        "ticks": [(place(tick), f"{tick:g}") for tick in ticks],
        "size": (WIDTH, y + _FLOOR),
        "labels": labels,
        "floor": y + 4,
        "right": WIDTH - RIGHT,
    }


def _lines(panel: Panel) -> list[tuple[tuple[str, str], list[Cell]]]:
    """Cells that follow each other with the same group and label share a line."""
    return [(key, list(cells)) for key, cells in itertools.groupby(panel.cells, lambda cell: (cell.group, cell.label))]


def _text(numbers: tuple[float, ...], is_span: bool, is_signed: bool) -> str:
    """The numbers as the table of the documentation has them."""
    if not is_span:
        return ", ".join(f"{number:g}" for number in numbers)
    value, low, high = numbers
    return f"{value:+g} [{low:g}, {high:g}]" if is_signed else f"{value:g} [{low:g}, {high:g}]"
