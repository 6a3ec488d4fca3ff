"""Formats tables for the terminal, and lists of ids that fit on a line."""

import re
from collections.abc import Iterable, Sequence


def layout(rows: Sequence[Sequence[object]]) -> str:
    """Rows as lines: texts to the left, numbers to the right with commas between thousands."""
    texts = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    is_number = [any(isinstance(row[column], int) for row in rows) for column in range(len(widths))]
    lines = [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, is_number, strict=True)
        )
        for row in texts
    ]
    return "\n".join(line.rstrip() for line in lines)


def ranges(ids: Iterable[str], most: int = 8) -> str:
    """`video3, video7-video12, ... (20 more)`: ids in the order of their numbers, with consecutive ones joined.

    Args:
      ids: names that may end in a number.
      most: pieces shown.
    """
    runs: list[list[str]] = []
    for name in sorted(ids, key=_parts):
        if runs and _parts(name) == (_parts(runs[-1][-1])[0], _parts(runs[-1][-1])[1] + 1):
            runs[-1].append(name)
        else:
            runs.append([name])
    shown = [run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:most]]
    left = sum(map(len, runs[most:]))
    return ", ".join([*shown, f"... ({left:,} more)"] if left else shown)


def _parts(name: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.*?)([0-9]{0,18})", name, re.DOTALL)
    return found[1], int(found[2] or -2)
