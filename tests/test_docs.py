"""docs/diffusion.md and the code name the same functions; what the page cites, links and claims to be tested is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from test_house import closure

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "diffusion.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCES = (ROOT / "docs" / "references.md").read_text(encoding="utf-8")
FORMULAS, NOT_FORMULAS = PAGE.split("\n## 12 ", 1)
DEFINITION = (ast.FunctionDef, ast.ClassDef)


@cache
def defined(path: Path) -> dict[str, ast.AST]:
    """Functions, classes and methods of a file, by name: `Posterior`, `Posterior.log_posterior`."""
    nodes = {
        node.name: node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, DEFINITION)
    }
    for name, node in list(nodes.items()):
        if isinstance(node, ast.ClassDef):
            nodes |= {f"{name}.{inner.name}": inner for inner in node.body if isinstance(inner, DEFINITION)}
    return nodes


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def public() -> set[str]:
    files = [path for folder in ("diffusion", "contrast") for path in (ROOT / "cdcd_video" / folder).glob("*.py")]
    return {
        f"{module_of(path)}.{name}"
        for path in files
        for name in defined(path)
        if not any(part.startswith("_") for part in name.split("."))
    }


def named(text: str) -> set[str]:
    """What a text names in full: `cdcd_video.diffusion.posterior.Posterior.log_posterior`."""
    return set(re.findall(r"`(cdcd_video(?:\.\w+)+)`", text))


def exists(name: str) -> bool:
    """Whether there is a module of this name, or a definition of this name in a module."""
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        path = ROOT.joinpath(*parts[:length]).with_suffix(".py")
        if path.is_file():
            return length == len(parts) or ".".join(parts[length:]) in defined(path)
    return False


def ancestors(name: str) -> list[str]:
    """`a.b.c` -> `a.b.c`, `a.b`, `a`."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def is_module(name: str) -> bool:
    return ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file()


# ------------------------------------------------------------------------------------------------- the two lists


def test_every_formula_names_its_function():
    """The first line after a formula says what computes it, by full names."""
    blocks = list(re.finditer(r"^```math\n(.*?)^```\n", PAGE, re.DOTALL | re.MULTILINE))
    assert len(blocks) > 20
    for block in blocks:
        after = PAGE[block.end() :].lstrip("\n").split("\n", 1)[0]
        assert after.startswith("**Computed by** `cdcd_video.") and named(after), f"who computes this? {block[1]}"


def test_every_function_of_the_page_exists():
    assert [name for name in sorted(named(PAGE)) if not exists(name)] == []


def test_every_public_function_is_on_the_page():
    assert sorted(public() - named(PAGE)) == [], "not on the page"
    in_code = {name for name in named(PAGE) if name.startswith(("cdcd_video.diffusion.", "cdcd_video.contrast."))}
    assert sorted(in_code - public()) == [], "on the page, and not public"


def test_nothing_is_both_a_formula_and_none():
    assert sorted(named(FORMULAS) & named(NOT_FORMULAS)) == []
    for row in re.findall(r"^\| (`cdcd_video.*) \|$", NOT_FORMULAS, re.MULTILINE):
        assert re.search(r"` \| \S.+", row), f"no reason: {row}"


def test_what_the_page_and_the_reading_list_name_is_what_runs():
    """README's list is what a training step and a sampled video run, in order; it can be read in an evening."""
    runs = closure("train", "inference")
    listed = re.findall(r"^\d+\. \[\S+\]\((cdcd_video/\S+\.py)\)", README, re.MULTILINE)
    assert 8 <= len(listed) <= 11 and sum(len((ROOT / name).read_text().splitlines()) for name in listed) <= 2000
    assert [name for name in listed if name.removesuffix(".py").replace("/", ".") not in runs] == []
    modules = {next(m for m in ancestors(name) if is_module(m)) for name in named(FORMULAS)}
    assert sorted(modules - runs) == []


# ------------------------------------------------------------------------------------- what else the page claims


def test_every_test_of_the_page_exists():
    claimed = re.findall(r"`(tests/\w+\.py)::(\w+)`", PAGE)
    assert len(claimed) > 30
    assert [f"{path}::{name}" for path, name in claimed if name not in defined(ROOT / path)] == []


def test_the_quirks_are_those_of_the_code():
    quirks = defined(ROOT / "cdcd_video" / "diffusion" / "upstream_quirks.py")["Quirks"]
    assert isinstance(quirks, ast.ClassDef)
    fields = [node.target.id for node in quirks.body if isinstance(node, ast.AnnAssign)]
    assert re.findall(r"^\| `(\w+)` \| \S.* \| \S.* \|$", FORMULAS, re.MULTILINE) == fields


def test_every_citation_is_resolved():
    tags = set(re.findall(r"^\| `(\w+)` \|", REFERENCES, re.MULTILINE))
    cited = {
        piece.split()[0]
        for bracket in re.findall(r"(?<!\])\[([^][\n]+ (?:eq|sec|app|fig)\. [^][\n]*)\](?!\()", PAGE)
        for piece in bracket.split("; ")
    }
    assert {"D3PM", "VQD", "IVQD", "CFG", "VDM", "MaskGIT"} <= cited
    assert sorted(cited - tags) == []
    authors = set(re.findall(r"([A-Z]\w+ et al\.) \(?(\d{4}[a-z]?)", PAGE))
    assert authors
    for name, year in authors:
        assert f"{name} {year} |" in REFERENCES, f"{name} {year}"


def heading_link(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", ["diffusion.md", "references.md"])
def test_every_link_leads_somewhere(name: str):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    headings = {heading_link(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("https://"):
            assert (ROOT / "docs" / target.partition("#")[0]).is_file(), target
