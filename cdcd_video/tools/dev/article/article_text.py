"""Markdown of the article -> HTML: headings with ids, formulas as MathML, citations as numbers, figures by name.

A fence `figure NAME` stands for a figure, and its content is the caption. `[@CDCD; Sahoo et al. 2024]` cites.
"""

import html
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

from cdcd_video.errors import UserError
from cdcd_video.tools.dev.article.citations import CITED, Citations

Figure = Callable[[int, str], str]
"""Its number and its caption as HTML -> HTML."""


class ArticleText:
    """Renders Markdown, and keeps what was cited and which figures were shown.

    Args:
      citations: numbers the works.
      figures: the figures by name.
    """

    def __init__(self, citations: Citations, figures: Mapping[str, Figure]):
        self.citations, self._figures = citations, figures
        self.figure_names: list[str] = []
        """Names of the figures, in order."""
        self._markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
        self._markdown.use(anchors_plugin, max_level=3)
        self._markdown.use(dollarmath_plugin, allow_digits=False, double_inline=False, renderer=_formula)
        self._markdown.inline.ruler.before("link", "citation", _citation)
        self._markdown.renderer.rules |= {"citation": self._cited, "fence": self._fence, "link_open": self._link}

    def render(self, text: str) -> str:
        """A whole text.

        Raises:
          UserError: a work, a figure or a link target that is not there.
        """
        return self._markdown.render(text)

    def inline(self, text: str) -> str:
        """A text without paragraphs."""
        return self._markdown.renderInline(text)

    def contents(self, text: str) -> list[tuple[str, str]]:
        """Id and title of the sections of a text."""
        tokens = self._markdown.parse(text)
        pairs = itertools.pairwise(tokens)
        return [
            (str(head.attrs["id"]), title.content)
            for head, title in pairs
            if (head.type, head.tag) == ("heading_open", "h2")
        ]

    def _cited(self, tokens: Any, place: int, options: Any, env: Any) -> str:
        numbers = [self.citations.number(key) for key in self.citations.keys(tokens[place].content)]
        links = ", ".join(f'<a href="#ref-{number}">{number}</a>' for number in numbers)
        return f'<span class="cite">[{links}]</span>'

    def _fence(self, tokens: Any, place: int, options: Any, env: Any) -> str:
        kind, _, name = tokens[place].info.strip().partition(" ")
        if kind != "figure":
            return f"<pre><code>{html.escape(tokens[place].content)}</code></pre>\n"
        if name not in self._figures:
            raise UserError(
                f"the article shows the figure {name!r}, which there is not; choose among {', '.join(self._figures)}"
            )
        self.figure_names.append(name)
        return self._figures[name](len(self.figure_names), self.inline(tokens[place].content.strip()))

    def _link(self, tokens: Any, place: int, options: Any, env: Any) -> str:
        target = str(tokens[place].attrs["href"])
        if not target.startswith(("#", "https://")):
            raise UserError(
                f"the article links to {target!r}, which one page alone does not have; name the file in the text instead"
            )
        return self._markdown.renderer.renderToken(tokens, place, options, env)


def _formula(content: str, options: dict[str, Any]) -> str:
    return convert(content, display="block" if options["display_mode"] else "inline")


def _citation(state: StateInline, silent: bool) -> bool:
    found = CITED.match(state.src, state.pos)
    if found is None:
        return False
    if not silent:
        state.push("citation", "", 0).content = found[1]
    state.pos = found.end()
    return True
