"""Files of the repository as pages of the site: where each lies there, its text, and links from one to another."""

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "release-notes.md",
    "CONTRIBUTING.md": "contributing.md",
    "data_prep/README.md": "data-prep.md",
    "findings/README.md": "findings.md",
    "patches/README.md": "patches.md",
}
"""Markdown outside docs/ -> its page."""
ARTICLE = ROOT / "out" / "article" / "index.html"
"""The article, where it was built."""
BUILT_ARTICLE = "article/index.html"
"""Its place in the site."""
REFERENCE = (
    *("pipeline", "records", "video", "model", "objective", "errors"),
    *("config", "diffusion", "contrast", "contrast_terms", "networks", "baselines", "sampling", "extensions"),
    *("data", "metrics", "evaluation", "training", "engine"),
)
"""Modules and packages of cdcd_video that the reference shows, a page each."""
_LANGUAGES = {
    ".py": "python",
    ".yaml": "yaml",
    ".cff": "yaml",
    ".toml": "toml",
    ".sh": "sh",
    ".cpp": "cpp",
    ".txt": "text",
}
_CODE_OR_LINK = re.compile(
    r"^( *)(`{3,}).*?^ *\2`*$|`[^`\n]*`|(?<=\]\()(?P<target>[^)\s]+)(?=\))", re.DOTALL | re.MULTILINE
)


def page_of(file: str) -> str:
    """The page, or the copy, of a file of the repository.

    Args:
      file: relative to the repository, such as `configs/tiny.yaml`.

    Returns:
      Its path below docs/, as MkDocs counts; that of a file that is not there as well.
    """
    if file in PAGES:
        return PAGES[file]
    if file.startswith("docs/article/") and file.endswith(".md") and ARTICLE.is_file():
        return BUILT_ARTICLE
    if file.startswith("docs/"):
        return file.removeprefix("docs/")
    if file.endswith(".md"):
        return file
    if file.startswith("notebooks/") and file.endswith(".ipynb"):
        return file.removesuffix(".ipynb") + ".md"
    return f"source/{file}.md" if Path(file).suffix in _LANGUAGES else f"source/{file}"


def target_file(target: str, file: str) -> str | None:
    """The file of the repository to which a link leads; None of a link to a web page, or within the page.

    Args:
      target: of the link, relative to the folder of `file`.
      file: the file that contains the link, relative to the repository.
    """
    path = target.split("#")[0]
    if not path or "://" in path or path.startswith(("/", "mailto:")):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(file), path))


def links(text: str) -> Iterator[str]:
    """Targets of the links of a Markdown text; none of what is code."""
    return (found["target"] for found in _CODE_OR_LINK.finditer(text) if found["target"])


def between_pages(text: str, file: str) -> str:
    """A text whose links between files of the repository lead from page to page.

    Args:
      text: Markdown.
      file: of the text, relative to the repository.
    """

    def moved(found: re.Match[str]) -> str:
        target = found["target"] and target_file(found["target"], file)
        if not target:
            return found[0]
        _, sharp, anchor = found[0].partition("#")
        return posixpath.relpath(page_of(target), posixpath.dirname(page_of(file)) or ".") + sharp + anchor

    return _CODE_OR_LINK.sub(moved, text)


def text_page(file: str) -> str:
    """Markdown that shows a file that is not Markdown: a notebook cell by cell, anything else as code.

    Args:
      file: relative to the repository; its text is UTF-8.
    """
    text = (ROOT / file).read_text(encoding="utf-8")
    if file.endswith(".ipynb"):
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
        return "\n\n".join(source if kind == "markdown" else _fenced(source, "python") for kind, source in cells) + "\n"
    head = f"---\ntitle: {file}\nsearch: {{exclude: true}}\n---\n\n# `{file}`\n\n"
    return head + _fenced(text, _LANGUAGES[Path(file).suffix]) + "\n"


def _fenced(code: str, language: str) -> str:
    fence = max(["```", *(run + "`" for run in re.findall(r"`{3,}", code))], key=len)
    return f"{fence}{language}\n{code.rstrip()}\n{fence}"


def reference_page(name: str) -> str:
    """The page of the reference for a part of cdcd_video, to be filled by mkdocstrings.

    Args:
      name: of a module or a package, directly below cdcd_video.
    """
    top = ROOT / "cdcd_video" / name
    files = sorted(path for path in top.rglob("*.py") if path.name != "__main__.py") or [top.with_suffix(".py")]
    modules = [path.relative_to(ROOT).with_suffix("").as_posix().removesuffix("/__init__") for path in files]
    return f"# {name}\n\n" + "\n\n".join(f"::: {module.replace('/', '.')}" for module in modules) + "\n"
