"""The tables of the report as Markdown."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cdcd_video.evaluation.report import latent_tables
from cdcd_video.evaluation.report.score_table import Cell, Table, tables
from cdcd_video.evaluation.report.summary_text import verdict
from cdcd_video.metrics.protocol import SettledProtocol
from cdcd_video.metrics.score_entries import SYSTEMS
from cdcd_video.metrics.scores import Score
from cdcd_video.metrics.statistics.intervals import CONFIDENCE
from cdcd_video.pages.markdown_text import as_is
from cdcd_video.video import whole_file


def write_markdown(
    scores: Sequence[Score],
    path: Path,
    *,
    settled: SettledProtocol,
    facts: Mapping[str, Any],
    notes: Sequence[str] = (),
    cost: Mapping[str, Any] | None = None,
    of_latents: Sequence[Score] = (),
) -> Path:
    """Writes the tables of an evaluation; arguments as in `html_page.write_report`, and scores of the latent space."""
    parts = [
        f"# Evaluation of {as_is(str(facts['checkpoint']))}",
        " ".join(verdict(scores)),
        *(f"Note: {as_is(note)}." for note in notes),
        f"Brackets are {100 * CONFIDENCE:.0f}% intervals.",
        *(_table(table) for table in tables(scores).values()),
        *(_table(table) for table in latent_tables.tables(of_latents)),
        *(_facts(title, content) for title, content in sections(settled, facts, cost or {}).items()),
    ]
    with whole_file(path) as part:
        part.write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")
    return path


def sections(
    settled: SettledProtocol, facts: Mapping[str, Any], cost: Mapping[str, Any]
) -> dict[str, list[tuple[str, str]]]:
    """Protocol, system and cost as pairs of strings under titles; nested facts are flattened by one level."""
    found = {"Protocol": settled.facts(), "System": facts, "Cost": cost}
    return {title: list(_pairs(content)) for title, content in found.items() if content}


def _pairs(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in content.items():
        inner = value.items() if isinstance(value, Mapping) else [(None, value)]
        for key, entry in inner:
            yield name if key is None else f"{name}: {key}", entry if isinstance(entry, str) else json.dumps(entry)


def _table(table: Table) -> str:
    head = ["", *(f"{name}, {words}" if words in SYSTEMS else name for name, words in table.columns)]
    rows = [head, ["---"] * len(head)]
    for line in table.lines:
        title = f"{line.title} ({line.note})" if line.note else line.title
        rows.append([title, *map(_cell, line.cells)])
    return "\n".join([f"## {table.title}", "", table.note, "", *(f"| {' | '.join(map(as_is, row))} |" for row in rows)])


def _cell(cell: Cell) -> str:
    text = f"{cell.value} [{cell.interval}]" if cell.interval else cell.value
    return f"{text}, n = {cell.n}" if cell.n is not None else text


def _facts(title: str, pairs: Sequence[tuple[str, str]]) -> str:
    rows = [("", ""), ("---", "---"), *pairs]
    return "\n".join([f"## {title}", "", *(f"| {as_is(name)} | {as_is(value)} |" for name, value in rows)])
