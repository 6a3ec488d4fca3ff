"""GitHub's Markdown as Python-Markdown reads it, and TeX as MathML, so that one text is right on both kinds of page."""

import html
import re

from latex2mathml.converter import convert
from markdown_it import MarkdownIt

_MARKER = re.compile(r" {0,3}(?:[-*+]|\d{1,9}[.)])(?: {1,4}(?=\S)| *$| )")
_BLOCKS = ("bullet_list_open", "ordered_list_open", "table_open", "fence", "heading_open", "blockquote_open")
_CODE_OR_TWO_BRACKETS = re.compile(
    r"^( *)(`{3,}).*?^ *\2`*$|`[^`\n]*`|\$[^$\n]+\$|(?P<gap>\] )\[", re.DOTALL | re.MULTILINE
)
_FORMULA = re.compile(
    r'<(span|div) class="arithmatex">(?:\\\((?P<inline>.*?)\\\)|\\\[(?P<block>.*?)\\\])</\1>', re.DOTALL
)


def to_python_markdown(text: str) -> str:
    """Indents what is inside of list items by four columns, and puts blank lines around blocks.

    CommonMark indents by the width of the list's marker and lets a list, a table or a fence interrupt a paragraph;
    Python-Markdown does neither. The structure is that which a CommonMark parser finds. `[a] [b]`, a link in the older
    dialect, stays text.

    Args:
      text: a page in GitHub's Markdown.

    Returns:
      The page with the same blocks for Python-Markdown.
    """
    lines = text.split("\n")
    columns = [0] * len(lines)  # where the content of the innermost block that was met begins
    blank_before = set()
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.map is None:
            continue
        first, end = token.map
        if token.type == "list_item_open":
            marker = _MARKER.match(lines[first][columns[first] :])
            if marker is None:  # in a quotation, which stays as it is
                continue
            width = len(marker[0])
            if not all(line.strip() for line in lines[first:end]):
                blank_before.add(end)  # after an item of several blocks
            for number in range(first, end):
                outer, inner = lines[number][: columns[number]], lines[number][columns[number] :]
                if number == first:
                    inner = f"{inner[:width].strip():<3} {inner[width:]}"
                elif inner.strip():
                    inner = " " * 4 + inner[min(width, len(inner) - len(inner.lstrip(" "))) :]
                lines[number] = outer + inner
                columns[number] += 4
        elif token.type in _BLOCKS and (token.level == 0 or token.type in ("table_open", "fence")):
            blank_before |= {first, end}
    pieces: list[str] = []
    for number, line in enumerate(lines):
        if number in blank_before and pieces and pieces[-1].strip() and line.strip():
            pieces.append("")
        pieces.append(line)
    return _CODE_OR_TWO_BRACKETS.sub(
        lambda found: rf"{found['gap']}\[" if found["gap"] else found[0], "\n".join(pieces)
    )


def heading_id(heading: str, separator: str = "-") -> str:
    """The anchor that GitHub makes of a heading.

    Args:
      heading: its text.
      separator: in the place of spaces.
    """
    return re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", separator)


def formulas_as_mathml(page: str) -> str:
    r"""Replaces formulas, as `pymdownx.arithmatex` marks them, by MathML, which browsers render without any script or font.

    Args:
      page: HTML with `\(...\)` and `\[...\]` in elements of the class `arithmatex`.
    """

    def mathml(found: re.Match[str]) -> str:
        tex, display = (found["inline"], "inline") if found["block"] is None else (found["block"].strip(), "block")
        # latex2mathml makes a plain tilde, a name, of the sign for "is distributed as".
        formula = convert(html.unescape(tex), display=display).replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")
        return formula if found["block"] is None else f'<div class="formula">{formula}</div>'

    return _FORMULA.sub(mathml, page)
