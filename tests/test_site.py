"""The site of `make docs`, built with a small reference: strict, complete, and it asks no other host for anything."""

import json
import posixpath
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import PIL.Image
import pytest
from mkdocs.commands import build
from mkdocs.config import load_config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation

from cdcd_video.tools.dev.docs_site import site_files

ROOT = Path(__file__).resolve().parent.parent
LOADED = frozenset(("src", "srcset", "poster", "data", "background"))
"""Attributes whose address a browser asks for at once; `href` only of `link`."""
THEME_ASKS = {
    "https://unpkg.com/mermaid": 'class="mermaid"',
    "https://api.github.com/users/": "md-source",
    "https://api.github.com/repos/": "md-source",
}
"""Addresses that the theme's script asks where a page contains this: none does."""
NEVER_ASKED = {
    "https://unpkg.com/resize-observer-polyfill",  # by browsers of before 2020
    "https://bit.ly/2s3ChXG",  # in a message
}


class Page(HTMLParser):
    """Addresses, anchors and elements of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.alts: list[str | None] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.loads += [value for name, value in attrs if value and (name in LOADED or (tag, name) == ("link", "href"))]
        self.links += [found["href"]] if tag == "a" and found.get("href") else []
        self.ids += [found["id"]] if found.get("id") else []
        self.alts += [found.get("alt")] if tag == "img" else []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            site_files, "REFERENCE", ("errors",)
        )  # the docstrings of all others take minutes of a busy machine
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path_factory.mktemp("site")))
        assert config.strict
        config.plugins.on_startup(command="build", dirty=False)
        build.build(config)
        config.plugins.on_shutdown()
        yield Path(config.site_dir)


def added(*pages: str) -> tuple[Files, MkDocsConfig]:
    """What the hooks make of a folder of docs with these pages."""
    config = load_config(str(ROOT / "mkdocs.yml"))
    files = Files([File(page, config.docs_dir, config.site_dir, config.use_directory_urls) for page in pages])
    return config.plugins.on_files(files, config=config), config


def menu_items(files: Files, config: MkDocsConfig) -> list[str]:
    """Addresses that the hooks add to an empty menu."""
    return [item.url for item in config.plugins.on_nav(Navigation([], []), config=config, files=files).items]


def test_the_article_takes_the_place_of_its_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sections = ("article/README.md", "article/answer.md", "data.md")
    monkeypatch.setattr(site_files, "ARTICLE", tmp_path / "index.html")
    files, config = added(*sections)
    assert "article/README.md" in files.src_uris and "article/answer.md" not in files.src_uris
    assert menu_items(files, config) == []

    site_files.ARTICLE.write_text("<!doctype html><title>The article</title>", encoding="utf-8")
    files, config = added(*sections)
    assert [name for name in files.src_uris if name.startswith("article/")] == [site_files.BUILT_ARTICLE]
    assert menu_items(files, config) == ["article/index.html"]
    assert site_files.between_pages("[a](docs/article/README.md)", "README.md") == "[a](article/index.html)"


def test_a_page_that_the_menu_does_not_name_is_in_it():
    _, config = added("data.md", "experiments.md", "experiments/newest.md", "forgotten.md")
    menu = {title: value for entry in config.nav for title, value in entry.items()}
    assert menu["Experiments"][0] == "experiments.md" and "experiments/newest.md" in menu["Experiments"]
    assert menu["API reference"] == [f"reference/{name}.md" for name in site_files.REFERENCE]
    assert "forgotten.md" in menu["More"] and "experiments/newest.md" not in menu["More"]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    found = {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}
    return {name: page for name, page in found.items() if name != site_files.BUILT_ARTICLE}


@pytest.mark.slow
def test_no_page_asks_another_host(site: Path, pages: dict[str, Page]):
    for name, page in pages.items():
        for address in page.loads:
            for part in address.split(",") if address.count(" ") else [address]:
                assert urlsplit(part.strip()).scheme in ("", "data") and not part.startswith("//"), f"{name}: {address}"
    for path in site.rglob("*.css"):
        addresses = re.findall(r"url\(\s*['\"]?([^'\")]*)|@import\s+['\"]([^'\"]*)", path.read_text(encoding="utf-8"))
        assert [a or b for a, b in addresses if not (a or b).startswith(("data:", "#", "../", "./"))] == [], path.name
    loaded = [*site.glob("assets/javascripts/*.js"), *site.glob("assets/javascripts/workers/*.js")]
    scripts = "".join(re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL) for path in loaded)
    asked = {address for address in re.findall(r"https?://[\w./-]+", scripts) if "www.w3.org" not in address}
    assert len(loaded) == 2 and asked <= THEME_ASKS.keys() | NEVER_ASKED
    texts = {name: (site / name).read_text(encoding="utf-8") for name in pages}
    assert [name for name, text in texts.items() for mark in THEME_ASKS.values() if mark in text] == []


@pytest.mark.slow
def test_every_link_leads_to_a_page_and_a_place_on_it(site: Path, pages: dict[str, Page]):
    for name, page in pages.items():
        if name == "404.html":  # its addresses begin at the root of the host
            continue
        for address in (*page.links, *page.loads):
            parts = urlsplit(address)
            if parts.scheme:
                continue
            target = (
                posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path))) if parts.path else name
            )
            target = "index.html" if target == "." else target
            assert (site / target).is_file(), f"{name}: {address}"
            if parts.fragment and parts.fragment != "__comments" and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{name}: {address}"


@pytest.mark.slow
def test_every_page_is_in_the_menu(pages: dict[str, Page]):
    written = {
        site_files.page_of(path.relative_to(ROOT).as_posix())
        for pattern in ("docs/*.md", "docs/experiments/*.md", "notebooks/*.ipynb")
        for path in ROOT.glob(pattern)
    }
    expected = {name.removesuffix(".md") + ".html" for name in {*written, *site_files.PAGES.values()}}
    menu = {address.lstrip("/") for address in pages["404.html"].links}  # its addresses begin at the root
    assert expected - {"index.html"} <= menu
    assert {*expected, "reference/errors.html", "source/configs/i2v_internvid.yaml.html"} <= pages.keys()


@pytest.mark.slow
def test_formulas_are_mathml(site: Path):
    for name in ("diffusion", "baselines"):
        source = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        page = (site / f"{name}.html").read_text(encoding="utf-8")
        assert page.count('<div class="formula"><math') == len(re.findall(r"^```math$", source, re.MULTILINE)) > 0
        assert 'class="arithmatex"' not in page and "\\(" not in page
        body = re.sub(r"<(code|script)\b.*?</\1>", "", page, flags=re.DOTALL)
        assert not re.search(r"\\(?:frac|text|mid|alpha)\b", body)


@pytest.mark.slow
def test_pictures_have_texts_and_videos_play(site: Path, pages: dict[str, Page]):
    with PIL.Image.open(site / "media" / "sprites.webp") as video:
        assert video.n_frames > 8
    assert [name for name, page in pages.items() if not all(page.alts)] == []


@pytest.mark.slow
def test_release_notes_are_the_changelog(site: Path):
    page = (site / "release-notes.html").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(versions) >= 2 and all(re.search(rf"<h2 [^>]*>\[{re.escape(version)}\]", page) for version in versions)


@pytest.mark.slow
def test_search_knows_pages_and_docstrings_and_no_source(site: Path):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    text = {entry["location"]: entry["text"] for entry in index["docs"]}
    assert any("variational" in entry for place, entry in text.items() if place.startswith("diffusion.html"))
    assert "reference/errors.html#cdcd_video.errors.UserError" in text
    assert [place for place in text if place.startswith("source/")] == []
