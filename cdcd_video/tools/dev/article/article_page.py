"""The article as one HTML page: text, figures, references, and how to reproduce each figure."""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cdcd_video
from cdcd_video.config import config_file
from cdcd_video.errors import UserError
from cdcd_video.pages.chart_style import SERIES
from cdcd_video.pages.templates import render
from cdcd_video.storage.small_file import read_small_text
from cdcd_video.tools.dev.article.article_plan import ArticlePlan, ResultFile
from cdcd_video.tools.dev.article.article_text import ArticleText, Figure
from cdcd_video.tools.dev.article.citations import Citations
from cdcd_video.tools.dev.article.interval_chart import interval_chart

_HERE = Path(__file__).parent
BUILD = "make article"
"""The command of the figures that the build itself computes."""


def article_page(
    plan: ArticlePlan,
    folder: Path,
    references: Path,
    computed: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, str],
) -> str:
    """The page, without a reference to any other file.

    Args:
      plan: title, sections and figures.
      folder: has the sections and `results/`.
      references: docs/references.md.
      computed: by the name of a figure, the values of its template.
      facts: of the build, such as the model's digest, for the table of reproduction and the footer.

    Raises:
      UserError: as for `check_text`.
    """
    results = read_results(folder / "results")
    figures: dict[str, Figure] = {
        name: functools.partial(_figure, f"{name.replace('-', '_')}.html", values) for name, values in computed.items()
    }
    figures |= {
        name: functools.partial(_figure, "interval_chart.html", interval_chart(result))
        for name, result in results.items()
    }
    citations = Citations(references)
    text = ArticleText(citations, figures)
    source = _source(plan, folder)
    body = text.render(source)
    values = {
        "plan": plan,
        "contents": text.contents(source),
        "body": body,
        "works": [(number, text.inline(work)) for number, work in citations.listed],
        "figures": [(number, name, results.get(name)) for number, name in enumerate(text.figure_names, 1)],
        "build": BUILD,
        "facts": {**facts, "cdcd_video": cdcd_video.__version__},
        "series": SERIES,
    }
    return render(_HERE / "article.html", values)


def check_text(plan: ArticlePlan, folder: Path, references: Path, computed: Iterable[str]) -> None:
    """Looks for mistakes in the text before any figure is computed.

    Args:
      plan, folder, references: as for `article_page`.
      computed: names of the figures that are not files of results.

    Raises:
      UserError: a section, a work, a figure or a link is missing, or a file of results is not of its form or not used.
    """
    results = read_results(folder / "results")
    text = ArticleText(Citations(references), dict.fromkeys([*computed, *results], lambda number, caption: ""))
    text.render(_source(plan, folder))
    unused = sorted({*computed, *results} - set(text.figure_names))
    if unused:
        raise UserError(f"no section has the figure {unused[0]!r}; name it in one, or delete it")


def read_results(folder: Path) -> dict[str, ResultFile]:
    """The result files by name, in the order of names.

    Raises:
      UserError: one is not of its form.
    """
    return {path.stem: config_file.load(path, ResultFile) for path in sorted(folder.glob("*.json"))}


def _source(plan: ArticlePlan, folder: Path) -> str:
    return "\n\n".join(read_small_text(folder / f"{name}.md", "section of the article") for name in plan.sections)


def _figure(template: str, values: Mapping[str, Any], number: int, caption: str) -> str:
    return render(_HERE / template, {**values, "number": number, "caption": caption, "series": SERIES})
