"""docs/references.md and docs/related.md: every work that is cited is listed, once and in order, and no page claims priority."""

import calendar
import re
import unicodedata
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
REFERENCES = (ROOT / "docs" / "references.md").read_text(encoding="utf-8")
RELATED = (ROOT / "docs" / "related.md").read_text(encoding="utf-8")
AUTHORS = REFERENCES.split("## Author and year")[1]
ROWS = re.findall(r"^\| ([^|`]+ \d{4}[a-z]?|YAML \S+) \| (.*?) \| ?(.*?) ?\|$", AUTHORS, re.MULTILINE)
CITATION = re.compile(r"((?:van den |von )?[A-Z][\w-]+(?: et al\.| & [A-Z]\w+)),? \(?((?:19|20)\d\d[a-z]?)\b")
ALONE = re.compile(r"(?<=[(;])\s?([A-Z][a-z]+) ((?:19|20)\d\d[a-z]?)(?=[,;:)])")
FOLDERS = ("cdcd_video", "configs", "data_prep", "docs", "examples", "findings", "patches")
KINDS = ("*.md", "*.py", "*.toml", "*.yaml", "*.sh", "*.cpp")
FILES = [
    *(path for folder in FOLDERS for kind in KINDS for path in (ROOT / folder).rglob(kind)),
    *ROOT.glob("*.md"),
    *ROOT.glob("*.py"),
]
FILES.remove(ROOT / "docs" / "references.md")


def cited(text: str) -> set[str]:
    """`Bengio et al. 2015` of a text, also where a line ends before the year; a single author only in parentheses."""
    text = re.sub(r"\s*\n\s*(?:# |// )?", " ", text)
    alone = {f"{name} {year}" for name, year in ALONE.findall(text) if name not in calendar.month_name}
    return alone | {f"{names} {year}" for names, year in CITATION.findall(text)}


def plain(name: str) -> str:
    """Lower case, without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))


def test_citations_are_found_however_they_are_written():
    text = "As in (Vaswani et al. 2017, eq. 1)\n    and Wang & Isola (2020; Owen 2007); van den Oord\n    et al. 2018"
    names = {"Vaswani et al. 2017", "Wang & Isola 2020", "Owen 2007", "van den Oord et al. 2018"}
    assert cited(text + "\n# of von Rütte et al.\n# 2025 (November 2026)") == names | {"von Rütte et al. 2025"}


def test_every_author_and_year_is_listed():
    known = {name for name, *_ in ROWS}
    missing = {
        f"{path.relative_to(ROOT)}: {one}" for path in FILES for one in cited(path.read_text(encoding="utf-8")) - known
    }
    assert len(FILES) > 300 and sorted(missing) == []


def test_the_list_is_alphabetical_and_has_no_work_twice():
    assert len(ROWS) == len(re.findall(r"^\| ", AUTHORS, re.MULTILINE)) - 1, "a row of another form"
    names = [plain(name) for name, *_ in ROWS]
    assert len(names) > 100 and names == sorted(names) and len(set(names)) == len(names)
    numbers = re.findall(r"\]\(https://arxiv\.org/abs/([^)]+)\)", REFERENCES)
    assert len(set(numbers)) == len(numbers)
    assert re.findall(r"\[arXiv:([^]]+)\]\(https://arxiv\.org/abs/", REFERENCES) == numbers
    assert [number for number in numbers if not re.fullmatch(r"\d{4}\.\d{4,5}", number)] == []


def test_what_is_listed_as_related_is_compared_and_what_is_compared_is_listed():
    related = {name for name, _, use in ROWS if use == "Related work."}
    assert len(related) > 30 and sorted(related - cited(RELATED)) == []
    assert sorted(cited(RELATED) - {name for name, *_ in ROWS}) == []
    tags = set(re.findall(r"^\| `(\w+)` \|", REFERENCES, re.MULTILINE))
    assert {"CDCD", "IVQD", "MaskGIT"} <= tags & set(re.findall(r"`(\w+)`", RELATED))


def test_every_row_of_related_says_what_was_read():
    rows = re.findall(r"^\| (\S.*) \| (.+) \| (.+) \| (.+) \|$", RELATED, re.MULTILINE)
    works = [row for row in rows if row[0] != "work"]
    assert len(works) > 40
    assert [work for work, *_, read in works if not re.search(r"abstract|code|README|summary|section", read)] == []


def test_no_page_claims_to_be_first():
    """Whether a thing is new is for others to say; what comes closest stands in related.md."""
    claim = re.compile(
        r"\b(novel(?!ty)|unprecedented|state[- ]of[- ]the[- ]art|to our knowledge|as far as we know|nobody (?:has|else)"
        r"|for the first time|the first (?:to |open |library |project |published )|no other (?:library|project|model|work))",
        re.IGNORECASE,
    )
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in FILES
        if path.suffix == ".md"
        for match in claim.finditer(re.sub(r"\s+", " ", path.read_text(encoding="utf-8")))
    ]
    assert found == []


def headings(path: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    found = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("name", ["related.md", "references.md"])
def test_links_and_their_headings_are_there(name: str):
    page = ROOT / "docs" / name
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file, _, heading = target.partition("#")
        place = page.parent / file if file else page
        assert place.is_file() and (not heading or heading in headings(place)), target


def test_independent_negatives_only_move_away_from_the_mean():
    """The loss of related.md over a small joint table, minimised by Newton's step from any start: it is a quadratic."""
    draw = torch.Generator().manual_seed(0)
    joint = torch.rand(4, 3, generator=draw, dtype=torch.float64)  # of what is seen (x_t and c) and the target
    joint /= joint.sum()
    velocity, weight = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64), 0.3
    seen, target = joint.sum(1), joint.sum(0)

    def loss(v: torch.Tensor) -> torch.Tensor:
        error = (v[:, None] - velocity) ** 2
        return (joint * error).sum() - weight * (seen[:, None] * target * error).sum()

    start = torch.randn(4, generator=draw, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(start), start)
    curvature = torch.autograd.functional.hessian(loss, start.detach())
    assert torch.linalg.eigvalsh(curvature).min() > 0
    found = start.detach() - torch.linalg.solve(curvature, slope)
    expected = (joint / seen[:, None]) @ velocity
    torch.testing.assert_close(found, (expected - weight * (target @ velocity)) / (1 - weight))
    assert "v = (E[u | x_t, c] - w E[u']) / (1 - w)" in RELATED
