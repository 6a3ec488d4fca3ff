"""The reference list of the article: the works of docs/references.md that its text cites, numbered by first mention."""

import re
from pathlib import Path

from cdcd_video.errors import UserError

CITED = re.compile(r"\[@([^\]]+)\]")
"""`[@CDCD; Sahoo et al. 2024]` in a text."""
_LISTS = ("Tags", "Author and year")
"""Headings of the tables that list works."""
_ROW = re.compile(r"^\| `?([^|`]+?)`? \| ([^|]+) \|", re.MULTILINE)


class Citations:
    """Numbers works as they are cited.

    Args:
      references: the Markdown file; the first column of its tables has the tag or author and year, the second the work.
    """

    def __init__(self, references: Path):
        self._file = references
        parts = references.read_text(encoding="utf-8").split("\n## ")
        lists = "\n".join(part for part in parts if part.startswith(_LISTS))
        self._works = {
            key: work for key, work in _ROW.findall(lists) if work != "reference" and not work.endswith("above")
        }
        self._numbers: dict[str, int] = {}

    def number(self, key: str) -> int:
        """The number of a work, from 1 on.

        Raises:
          UserError: the references do not list it.
        """
        if key not in self._works:
            raise UserError(f"the article cites {key!r}, which {self._file.name} does not list; add it there")
        return self._numbers.setdefault(key, len(self._numbers) + 1)

    def keys(self, cited: str) -> list[str]:
        """The works of one citation, such as `CDCD; D3PM`."""
        return [key.strip() for key in cited.split(";")]

    @property
    def listed(self) -> list[tuple[int, str]]:
        """Number and work, as Markdown, of all that was cited, in order."""
        return [(number, self._works[key]) for key, number in self._numbers.items()]
