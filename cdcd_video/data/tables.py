"""Reads .csv, .tsv and .jsonl tables row by row, with the line number of each row.

One rule for fields, whatever wrote them. A field is quoted if it begins with a double quote and ends with one, all those
between being doubled: then it is what stands between, line breaks and separators included, as spreadsheets and pandas
write it. Every other field is taken as it stands, so that `the 5" screen` and `"so" it says` mean themselves. A field
that begins with a quote and holds an odd number of them was cut somewhere, and its row is refused. Where the column of
sentences is the last one, what goes beyond it belongs to the sentence; a row with too many fields is refused otherwise.
Lines end with LF, CR LF or CR; empty ones are passed over.
"""

import dataclasses
import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from cdcd_video.errors import UserError, is_text
from cdcd_video.storage.small_file import read_small_text

KINDS = (".tsv", ".csv", ".jsonl")
MOST_BYTES = 1 << 30
"""A larger table is refused."""

_BREAK = re.compile(r"\r\n|\r|\n")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
      line: of the file, from 1, on which it begins.
      cells: by column; without those that a short row does not have.
      fault: why it cannot be used, in words that follow its line; the cells then say what they can.
    """

    line: int
    cells: dict[str, Any]
    fault: str | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """The columns that the first line names (of .jsonl none), and the rows."""

    columns: tuple[str, ...]
    rows: list[Row]


def read_table(
    path: Path, what: str, needed: Collection[str], optional: Collection[str] = (), sentence: str = ""
) -> Table:
    """Reads a table; each row may have a fault of its own.

    Args:
      path: .tsv, .csv (both with a first line of column names) or .jsonl (an object per line), in UTF-8.
      what: what the table is, for the message.
      needed: columns that it must have; in .jsonl each row.
      optional: further columns that are used; any others may be there.
      sentence: the column that takes the rest of a line, if it is the last.

    Raises:
      UserError: the file is missing, no plain file, of another kind or not UTF-8, or lacks a column or has it twice; or
        a line of .jsonl is no object.
    """
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise UserError(f"{what} {path} must be a .tsv, .csv or .jsonl file")
    return parse(read_small_text(path, what, limit=MOST_BYTES), kind, f"{what} {path}", needed, optional, sentence)


def parse(
    text: str, kind: str, where: str, needed: Collection[str], optional: Collection[str] = (), sentence: str = ""
) -> Table:
    """`read_table` of a text that was read already; `where` names it in messages.

    Of `kind` .csv fields may be parted by semicolons: where the first line has some, and no comma.
    """
    if kind == ".jsonl":
        return Table((), list(_objects(text, where, needed)))
    first = _BREAK.split(text.lstrip("\r\n"), maxsplit=1)[0]
    mark = "\t" if kind == ".tsv" else ";" if ";" in first and "," not in first else ","
    rows = _rows(text, mark)
    head = next((fields for _, fields, _, _ in rows), [])
    columns = _names(head)
    if not set(needed) <= set(columns):
        named = f"a column named {next(iter(needed))}" if len(needed) == 1 else f"columns named {' and '.join(needed)}"
        raise UserError(f"{where} needs {named}; its first line has {', '.join(columns) or 'none'}")
    for name in (*needed, *optional):
        if columns.count(name) > 1:
            raise UserError(f"{where} has the column {name} twice; rename or remove one")
    return Table(columns, [_row(columns, len(head), sentence, mark, *row) for row in rows])


def read_rows(
    path: Path, needed: Collection[str], what: str, optional: Collection[str] = (), sentence: str = ""
) -> list[Row]:
    """`read_table`, where every row must be good.

    Raises:
      UserError: as for `read_table`, or a row cannot be used or lacks a needed cell.
    """
    rows = read_table(path, what, needed, optional, sentence).rows
    for row in rows:
        missing = [name for name in needed if row.cells.get(name) is None]
        if row.fault:
            raise UserError(f"{what} {path}, line {row.line}: {row.fault}")
        if missing:
            raise UserError(f"{what} {path}, line {row.line}, has no {missing[0]}; each needs {', '.join(needed)}")
    return rows


def object_of(line: str | bytes) -> dict[str, Any] | None:
    """The JSON object on a line; None where there is none, or one that names a key twice."""
    try:
        value = json.loads(line, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _objects(text: str, where: str, needed: Collection[str]) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            cells = object_of(line)
            if cells is None:
                expected = f"with {' and '.join(needed)}" if needed else "without duplicate keys"
                raise UserError(f"{where}, line {number}: expected a JSON object {expected}")
            is_whole = "\\ud" not in line.lower() or is_text(json.dumps(cells, ensure_ascii=False))
            yield Row(
                number,
                cells,
                None if is_whole else "it contains a lone surrogate (\\ud800 to \\udfff), which is not text",
            )


def _rows(text: str, mark: str) -> Iterator[tuple[int, list[str], list[int], str]]:
    """Of each row its line, its fields, where each begins within what follows, and the row as it stands."""
    field = re.compile(rf' *"([^"]*(?:""[^"]*)*)" *(?=[{mark}\r\n]|\Z)|([^{mark}\r\n]*)')
    place, line = 0, 1
    while place < len(text):
        begin, fields, begins = place, [], []
        while True:
            found = field.match(text, place)
            assert found is not None  # an empty field is one too
            fields.append(found[2] if found[1] is None else found[1].replace('""', '"'))
            begins.append(place - begin)
            place = found.end()
            if not text.startswith(mark, place):
                break
            place += 1
        raw = text[begin:place]
        if any(map(str.strip, fields)):
            yield line, fields, begins, raw
        line += 1 + len(_BREAK.findall(raw))
        place += 2 if text.startswith("\r\n", place) else 1


def _names(fields: list[str]) -> tuple[str, ...]:
    names = [field.strip() for field in fields]
    while names and not names[-1]:  # spreadsheets write all columns that anything ever stood in
        names.pop()
    return tuple(names)


def _row(
    columns: Sequence[str],
    width: int,
    sentence: str,
    mark: str,
    line: int,
    fields: list[str],
    begins: list[int],
    raw: str,
) -> Row:
    count, fault = len(columns), None
    while count < width and len(fields) > count and not fields[-1].strip():  # as empty as in the first line
        raw = raw[: begins[-1] - 1]
        fields, begins = fields[:-1], begins[:-1]
    if any(field.strip() for field in fields[count:]):
        if columns[-1] == sentence:
            fields, begins = [*fields[: count - 1], raw[begins[count - 1] :]], begins[:count]
        else:
            fault = f"it has {len(fields)} fields, but the first line has {count}; a field with {_mark_name(mark)} needs quotes"
    if '"' in raw:
        ends = [begin - 1 for begin in begins[1:]] + [len(raw)]
        written = [raw[begin:end] for begin, end in zip(begins, ends, strict=True)]
        if any(map(_is_cut, fields[:count], written)):
            fault = (
                "a quote mark opens a field and is never closed; double every quote mark within quotes, or remove it"
            )
    return Row(line, dict(zip(columns, fields, strict=False)), fault)


def _is_cut(field: str, written: str) -> bool:
    """Whether a field that stands as it was written begins with one of an odd number of quote marks."""
    return field == written and written.lstrip(" ").startswith('"') and written.count('"') % 2 == 1


def _mark_name(mark: str) -> str:
    return {",": "a comma", ";": "a semicolon", "\t": "a tab"}[mark]
