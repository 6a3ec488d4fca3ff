"""MkDocs' hooks: pages of files outside docs/, a complete menu, GitHub's Markdown, and formulas as MathML."""

import posixpath
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Link, Navigation
from mkdocs.structure.pages import Page
from pymdownx.arithmatex import arithmatex_fenced_format

from cdcd_video.tools.dev.docs_site import markdown_dialect, site_files

_SOURCES = "repository file"
"""Key of `MkDocsConfig.extra` for the files of generated pages, by page."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fences of the language `math` are formulas, and anchors are GitHub's."""
    formula = {"name": "math", "class": "arithmatex", "format": arithmatex_fenced_format(mode="generic", tag="div")}
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [formula]}
    config.mdx_configs["toc"]["slugify"] = markdown_dialect.heading_id
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds README.md and its like, the notebooks, whatever files pages link to, the reference, and the article where it was
    built; then completes the menu."""
    _add_article(files, config)
    sources: dict[str, str] = {}
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    waiting += [*site_files.PAGES, *sorted(_relative(site_files.ROOT.glob("notebooks/*.ipynb")))]
    while waiting:
        file = waiting.pop()
        page, path = site_files.page_of(file), site_files.ROOT / file
        if page in sources or not path.is_file():
            continue  # MkDocs names the page whose link leads nowhere
        if page.endswith(".md"):
            text = path.read_text(encoding="utf-8") if file.endswith(".md") else site_files.text_page(file)
            added = File.generated(config, page, content=text)
        else:
            added = File.generated(config, page, abs_src_path=str(path))
        if page not in files.src_uris:
            files.append(added)
        if file.endswith((".md", ".ipynb")):  # code is shown as it is
            sources[page] = file
            waiting += filter(None, (site_files.target_file(target, file) for target in site_files.links(text)))
    for name in site_files.REFERENCE:
        files.append(File.generated(config, f"reference/{name}.md", content=site_files.reference_page(name)))
    config.extra[_SOURCES] = sources
    config.nav = _completed(config.nav or [], [file.src_uri for file in files.documentation_pages()])
    return files


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Adds the article, which is no page of MkDocs."""
    if site_files.BUILT_ARTICLE in files.src_uris:
        nav.items.insert(1, Link("Article", site_files.BUILT_ARTICLE))
    return nav


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between files become links between pages, and lists are indented as Python-Markdown wants them."""
    file = config.extra[_SOURCES].get(page.file.src_uri)
    if file is None:
        return markdown
    return markdown_dialect.to_python_markdown(site_files.between_pages(markdown, file))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas become MathML."""
    return markdown_dialect.formulas_as_mathml(html)


def _add_article(files: Files, config: MkDocsConfig) -> None:
    """Puts the article in the place of the texts that it is made of."""
    has_article = site_files.ARTICLE.is_file()
    for file in list(files.documentation_pages()):
        folder, name = posixpath.split(file.src_uri)
        if folder == "article" and (has_article or name not in ("index.md", "README.md")):
            files.remove(file)
    if has_article:
        files.append(File.generated(config, site_files.BUILT_ARTICLE, abs_src_path=str(site_files.ARTICLE)))


def _completed(nav: list[Any], pages: list[str]) -> list[Any]:
    """A menu whose entries `folder/` are all other pages of that folder; what is nowhere else comes under "More"."""
    left = [page for page in pages if not page.startswith("source/") and page not in _named(nav)]

    def expand(entries: list[Any]) -> list[Any]:
        found: list[Any] = []
        for entry in entries:
            title, value = next(iter(entry.items())) if isinstance(entry, dict) else (None, entry)
            if isinstance(value, list):
                value = expand(value)
            elif value.endswith("/"):
                inside = [page for page in left if page.startswith(value)]
                left[:] = [page for page in left if page not in inside]
                if title is None:
                    found += inside
                    continue
                value = inside
            found.append(value if title is None else {title: value})
        return found

    whole = expand(nav)
    return [*whole, {"More": left}] if left else whole


def _named(nav: list[Any]) -> set[str]:
    values = [value for entry in nav for value in (entry.values() if isinstance(entry, dict) else [entry])]
    return {page for value in values for page in (_named(value) if isinstance(value, list) else {value})}


def _relative(paths: Any) -> list[str]:
    return [Path(path).relative_to(site_files.ROOT).as_posix() for path in paths]
