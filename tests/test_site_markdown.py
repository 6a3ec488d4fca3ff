"""What the site makes of GitHub's Markdown and of TeX: the same blocks, links between pages, and MathML."""

import re
from html.parser import HTMLParser
from pathlib import Path

import markdown
import pytest
from markdown_it import MarkdownIt

from cdcd_video.tools.dev.docs_site import markdown_dialect, site_files

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = {path for path in (ROOT / "docs" / "article").glob("*.md") if path.name != "README.md"}
"""Of the article, whose fences are figures: they are no pages of the site."""
FILES = [
    *sorted(path.relative_to(ROOT).as_posix() for path in {*(ROOT / "docs").rglob("*.md")} - SECTIONS),
    *site_files.PAGES,
]
EXTENSIONS = ["tables", "toc", "pymdownx.superfences", "pymdownx.betterem", "pymdownx.arithmatex"]
OPTIONS = {"pymdownx.arithmatex": {"generic": True, "inline_syntax": ["dollar"], "block_syntax": []}}


class Outline(HTMLParser):
    """Block elements of a page, each with the number of lists around it."""

    BLOCKS = frozenset(("ul", "ol", "li", "table", "tr", "td", "th", "pre", "blockquote", "h1", "h2", "h3", "h4"))

    def __init__(self, page: str):
        super().__init__()
        self.blocks: list[tuple[str, int]] = []
        self.lists = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.BLOCKS:
            self.blocks.append((tag, self.lists))
        self.lists += tag in ("ul", "ol")

    def handle_endtag(self, tag: str) -> None:
        self.lists -= tag in ("ul", "ol")


def outline_of_site(text: str) -> list[tuple[str, int]]:
    return Outline(markdown.markdown(text, extensions=EXTENSIONS, extension_configs=OPTIONS)).blocks


def outline_of_github(text: str) -> list[tuple[str, int]]:
    return Outline(MarkdownIt("commonmark").enable("table").render(text)).blocks


@pytest.mark.parametrize("file", FILES)
def test_a_page_has_the_blocks_that_commonmark_gives_it(file: str):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert outline_of_site(markdown_dialect.to_python_markdown(text)) == outline_of_github(text)


@pytest.mark.parametrize(
    "text",
    [
        "A list:\n- one\n- two\n  goes on\nand on\n\nThen text.",
        "1. one\n   - inner\n     1. innermost\n2. two",
        "- one\n\n  second paragraph\n- two\n  ```sh\n  - no list\n  ```\n- three",
        "A table:\n\n- in a list\n\n  | a | b |\n  |---|---|\n  | 1 | 2 |\n\n# Heading\ntext",
        "10. ten\n11. eleven\n    - inner",
        "> - quoted\n> - twice\n\n- plain",
    ],
)
def test_lists_keep_their_depth(text: str):
    assert outline_of_site(markdown_dialect.to_python_markdown(text)) == outline_of_github(text)


def test_two_brackets_are_no_link_and_code_stays():
    text = "all [MASK] [D3PM sec. 3.1]; `[a] [b]` and $[x] [y]$\n```\n[c] [d]\n```"
    assert markdown_dialect.to_python_markdown(text) == (
        "all [MASK] \\[D3PM sec. 3.1]; `[a] [b]` and $[x] [y]$\n\n```\n[c] [d]\n```"
    )


def test_links_lead_from_page_to_page():
    text = "[a](docs/data.md#cuts) [b](configs/tiny.yaml) ![c](docs/media/sprites.png)"
    pages = "[a](data.md#cuts) [b](source/configs/tiny.yaml.md) ![c](media/sprites.png)"
    assert site_files.between_pages(text, "README.md") == pages
    stays = "[a](#here) [b](https://example.org/z) `[c](docs/data.md)`\n```\n[d](docs/data.md)\n```"
    assert site_files.between_pages(stays, "README.md") == stays
    assert site_files.between_pages("[a](../../README.md) [b](../data.md)", "docs/experiments/gate.md") == (
        "[a](../index.md) [b](../data.md)"
    )
    assert site_files.between_pages("[a](parity.py) [b](../docs/data.md)", "patches/README.md") == (
        "[a](source/patches/parity.py.md) [b](data.md)"
    )


def test_every_formula_of_the_docs_becomes_mathml():
    """latex2mathml writes out the commands that it does not know; none may be left."""
    text = "\n".join((ROOT / file).read_text(encoding="utf-8") for file in FILES)
    blocks = re.findall(r"^```math\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for tex in blocks:
        page = markdown_dialect.formulas_as_mathml(f'<div class="arithmatex">\\[{tex}\\]</div>')
        assert page.startswith('<div class="formula"><math') and "\\" not in page and "<merror" not in page, tex
    assert len(blocks) > 25
    page = markdown.markdown("Of $x_t < 1$ and 5 $.", extensions=EXTENSIONS, extension_configs=OPTIONS)
    assert re.fullmatch(
        r"<p>Of <math.*<msub><mi>x</mi><mi>t</mi></msub><mo>&lt;</mo><mn>1</mn>.*</math> and 5 \$\.</p>",
        markdown_dialect.formulas_as_mathml(page).replace("&#x0003C;", "&lt;"),
    )


def test_anchors_are_those_of_github():
    assert (
        markdown_dialect.heading_id("9 InfoNCE: frame-frame and `frame_text`") == "9-infonce-frame-frame-and-frame_text"
    )
    assert markdown_dialect.heading_id("What's new") == "whats-new"
