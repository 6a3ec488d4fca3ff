"""The map of upstream is whole and true, and no text of upstream is here."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from cdcd_video.errors import UserError, exit_code
from patches import audit, catalogue, ours, pin, sidebyside
from patches.__main__ import main
from patches.catalogue import Symbol
from patches.upstream import Checkout, definitions, parsed, tree_hash

ROOT = Path(__file__).resolve().parent.parent
MAP = catalogue.load()
HEADS = [verdict for verdict in MAP.verdicts if not verdict.is_glob]


@pytest.fixture(scope="session")
def checkout() -> Checkout:
    """The user's checkout of upstream, named by the environment variable CDCD_UPSTREAM."""
    folder = os.environ.get("CDCD_UPSTREAM")
    if not folder:
        pytest.skip("CDCD_UPSTREAM names no checkout of L-YeZhu/CDCD")
    return Checkout(Path(folder))


@pytest.fixture
def little(tmp_path: Path) -> Path:
    """A folder that looks like a checkout, with two functions of our own making under upstream's names."""
    folder = tmp_path / "little"
    path = folder / "synthesis/modeling/transformers/diffusion_transformer.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        'def alpha_schedule(steps):\n    """Says nothing."""\n    return "<one> & " + "long " * 60 + str(steps)\n'
    )
    return folder


def run(*arguments: object) -> int:
    return exit_code(lambda: main([str(each) for each in arguments]))


# ------------------------------------------------------------------------------------------------------------- the map


def test_every_symbol_falls_under_exactly_one_entry():
    assert len(MAP.rows) == len(MAP.symbols) == MAP.upstream["symbols"] == 1284
    assert len({symbol.path for symbol in MAP.symbols}) <= MAP.upstream["files"] == 127
    assert sum(MAP.totals().values()) == 1284
    assert all(count == 1 for count in Counter(symbol.full for symbol in MAP.symbols).values())


def test_every_entry_is_about_something():
    used = {id(verdict) for _, verdict in MAP.rows}
    for verdict in MAP.verdicts:
        assert id(verdict) in used, verdict.upstream
        for pattern in verdict.patterns:
            alone = catalogue.Verdict((pattern,), verdict.status, verdict.why)
            assert any(alone.matches(symbol) for symbol in MAP.symbols), f"{pattern} is in no file of upstream"


def test_the_hashes_of_the_map_are_those_of_the_list():
    digests = {symbol.full: symbol.digest for symbol in MAP.symbols}
    for verdict in HEADS:
        assert re.fullmatch("[0-9a-f]{64}", verdict.sha256), verdict.upstream
        assert verdict.sha256.startswith(digests[verdict.upstream[0]]), verdict.upstream


@pytest.mark.parametrize("verdict", [v for v in MAP.verdicts if v.ours], ids=lambda v: v.upstream[0].split("/")[-1])
def test_ours_exists(verdict: catalogue.Verdict):
    for name in verdict.ours:
        assert ours.find(name).lines


def test_what_is_new_exists():
    for entry in MAP.new:
        for name in [entry["ours"]] if isinstance(entry["ours"], str) else entry["ours"]:
            assert ours.find(name).lines


def test_every_check_is_one_of_parity():
    named = {verdict.check for verdict in HEADS if verdict.check}
    tree = ast.parse((ROOT / "patches" / "parity.py").read_text(encoding="utf-8"))
    checks = next(node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) and node.target.id == "CHECKS")
    assert named <= {node.id for node in ast.walk(checks.value) if isinstance(node, ast.Name)}
    assert all(verdict.check for verdict in HEADS if verdict.status in catalogue.CHECKED)
    assert not any(verdict.check for verdict in MAP.verdicts if verdict.status not in catalogue.CHECKED)


def test_citations_are_in_the_references():
    references = (ROOT / "docs" / "references.md").read_text(encoding="utf-8")
    for cites in [*(v.cites for v in MAP.verdicts if v.cites), *(entry.get("cites", "ours") for entry in MAP.new)]:
        for cite in cites.split("; "):
            tag = re.match(r"(.+? \d{4})\b|(\w+)", cite)
            assert f"| {tag[1]} |" in references or f"| `{tag[2]}` |" in references, cite


def test_the_readme_has_the_totals_and_the_findings_of_the_map():
    text = (ROOT / "patches" / "README.md").read_text(encoding="utf-8")
    for status, count in MAP.totals().items():
        assert f"| {status} | {count} |" in text
    rows = re.findall(r"^\| ([a-z0-9-]+) \| `([^`]+:\d+)` \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    found = [(f["id"], f["see"].replace("synthesis/modeling/", "../"), f["what"], f["ours"]) for f in MAP.findings]
    assert rows == found
    assert len({row[0] for row in rows}) == len(rows) > 30


def test_a_symbol_is_found_by_any_of_its_names():
    head = "synthesis/modeling/transformers/diffusion_transformer.py::DiffusionTransformer.q_posterior"
    for asked in ("q_posterior", "DiffusionTransformer.q_posterior", head):
        assert MAP.find(asked)[0].full == head, "the first of an entry stands for its copies"
    copy = MAP.find("diffusion_semantic.py::DiffusionTransformer.q_posterior")
    assert "semantic" in copy[0].path and copy[1] is MAP.find(head)[1]
    assert MAP.find("comm.py::Comm.local_rank#2")[1].status == "dropped"
    with pytest.raises(UserError, match="q_posteriour.*`python -m patches map` lists all"):
        MAP.find("q_posteriour")
    with pytest.raises(UserError, match="could be .*dalle.py::DALLE.forward.* and [0-9]+ more; name one in full"):
        MAP.find("forward")


ENTRY = {
    "upstream": "a.py::f",
    "sha256": "0" * 64,
    "status": "kept",
    "why": "As it was.",
    "ours": "m:f",
    "check": "c",
    "tolerance": 1e-6,
}


def written(tmp_path: Path, *entries: dict, symbols: str = "a.py 1\n  0123456789abcdef f\n") -> catalogue.Catalogue:
    lines = ["[upstream]", 'commit = "0000000"', "[glossary]"]
    for entry in entries:
        lines += [f"[[{'symbol' if 'sha256' in entry else 'glob'}]]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
    (tmp_path / "map.toml").write_text("\n".join(lines))
    (tmp_path / "symbols.txt").write_text(symbols)
    return catalogue.load(tmp_path / "map.toml", tmp_path / "symbols.txt")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"status": "taken"}, "'taken', which is none of kept"),
        ({"check": ""}, "needs a check and a tolerance"),
        ({"tolerance": 1}, "needs a check and a tolerance"),
        ({"ours": []}, "needs `ours`"),
        ({"note": "so"}, "unknown keys: note"),
        ({"upstream": "a.py::g"}, "a.py::f must fall under one entry, but falls under none"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_wrong_entry_is_reported(tmp_path: Path, change: dict, complaint: str):
    assert len(written(tmp_path, ENTRY).rows) == 1
    with pytest.raises(UserError, match=complaint):
        assert written(tmp_path, ENTRY | change).rows


def test_entries_exclude_each_other_and_lists_are_whole(tmp_path: Path):
    glob = {"upstream": "a.py::{f,g}", "status": "dropped", "why": "No use."}
    with pytest.raises(UserError, match="falls under a.py::f and a.py::{f,g}"):
        assert written(tmp_path, ENTRY, glob).rows
    with pytest.raises(UserError, match="damaged"):
        written(tmp_path, ENTRY, symbols="a.py 2\n  0123456789abcdef f\n")
    with pytest.raises(UserError, match="cannot be read"):
        catalogue.load(tmp_path / "none.toml")


def test_braces_members_and_copies_say_what_they_look_like():
    verdict = catalogue.Verdict(("a.py::C.f",), "dropped", "", copies=("{b,c}.py", "d.py::g"), members=("C", "C.{h,i}"))
    matched = {f"{path}::{name}" for path in ("a.py", "b.py", "c.py") for name in ("C.f", "C", "C.h", "C.i")}
    assert set(verdict.patterns) == matched | {"d.py::g"}
    everything = catalogue.Verdict(("x/*",), "dropped", "")
    assert everything.matches(Symbol("x/y/z.py", "f", "")) and not everything.matches(Symbol("xy.py", "f", ""))


# ------------------------------------------------------------------------------------------------------ reading upstream


def test_a_hash_hears_what_code_says_and_not_how_it_is_set():
    plain = "def f(x):\n    return x + 1\n"
    same = 'def f(x):  # a comment\n    """A docstring."""\n    return (x +\n            1)\n'
    (first,), (second,) = definitions("a.py", plain), definitions("a.py", same)
    assert first.sha256 == second.sha256
    others = ["def f(x):\n    return x + 2\n", "def f(y):\n    return y + 1\n", "def g(x):\n    return x + 1\n"]
    assert len({definitions("a.py", text)[0].sha256 for text in [plain, *others]}) == 4
    known = "b74f1878b78986ac172ac2ff186004f8bcfa59f3d5e1ff301a0b9b6090106836"
    assert tree_hash(ast.parse(plain).body[0]) == known, "the same under every version of Python"


def test_which_definitions_count():
    text = textwrap.dedent(
        """
        def outer():
            def inner(): pass
        if True:
            class C:
                @property
                def size(self): return 1
                @size.setter
                def size(self, value): pass
                class D:
                    async def go(self): pass
        """
    )
    found = {each.name: each for each in definitions("a.py", text)}
    assert list(found) == ["outer", "C", "C.size", "C.size#2", "C.D", "C.D.go"]
    assert found["C.size"].first_line == 6, "decorators belong to it"
    changed = {each.name: each.sha256 for each in definitions("a.py", text.replace("return 1", "return 2"))}
    assert [name for name in found if changed[name] != found[name].sha256] == ["C.size"], "a class is not its methods"
    with pytest.raises(UserError, match="b.py is not Python"):
        definitions("b.py", "def :")


# ----------------------------------------------------------------------------------------------------------- the guard

PASSAGE = """\
def weigh(apples, pears):
    total = sum(apples) + 2 * len(pears)
    print("weighing", total, 'grams of fruit')
    # the scale is read three times, as the manual asks
    # and the middle one of its readings is believed
    # since the needle trembles for a second or two
    middle = sorted(scale.read(total) for turn in range(3))[1]
    return middle - scale.tare
"""


def prints(text: str) -> frozenset[str]:
    return frozenset(digest for _, digest in audit.shingles(text))


def test_this_project_holds_no_text_of_upstream():
    files = audit.project_files()
    assert {ROOT / "README.md", ROOT / "patches" / "map.toml", ROOT / "configs" / "sprites.yaml"} <= set(files)
    assert not any(part.startswith(".") for path in files for part in path.relative_to(ROOT).parts)
    assert audit.hits(files, audit.read_fingerprints()) == []


@pytest.mark.parametrize("suffix", [".py", ".md", ".toml", ".yaml"])
def test_a_planted_passage_is_found(tmp_path: Path, monkeypatch, capsys, suffix: str):
    (tmp_path / "fingerprints.txt").write_text("# hashes\n" + "\n".join(prints(PASSAGE)))
    (tmp_path / "docs").mkdir()
    (tmp_path / ".venv").mkdir()
    (tmp_path / "docs" / f"page{suffix}").write_text("first line\n\n" + textwrap.indent(PASSAGE, "  "))
    (tmp_path / ".venv" / "theirs.py").write_text(PASSAGE)
    known, files = audit.read_fingerprints(tmp_path / "fingerprints.txt"), audit.project_files(tmp_path)
    monkeypatch.setattr(audit, "read_fingerprints", lambda: known)
    monkeypatch.setattr(audit, "project_files", lambda: files)
    monkeypatch.setattr(audit.hits, "__defaults__", (tmp_path,))
    assert run("audit") == 1
    assert f"docs/page{suffix}:3: three lines from here are upstream's" in capsys.readouterr().out


def test_the_guard_sees_through_layout_and_comments_and_no_further():
    known = prints(PASSAGE)
    without = "".join(f"{line}\n" for line in PASSAGE.splitlines() if not line.strip().startswith("#"))
    spaced = without.replace("(", "( ").replace("'", '"').replace("    ", "\t")
    assert prints(without) <= known and prints(spaced) <= known
    remarks = [line.strip() for line in PASSAGE.splitlines() if line.strip().startswith("#")]
    assert prints("\n\n".join(f"x = 1  {remark}" for remark in remarks)) <= known, "comments are read as well"
    renamed = PASSAGE.replace("total", "sum_of_all").replace("needle", "hand")
    assert not prints(renamed) & known
    lines = PASSAGE.splitlines(keepends=True)
    assert not prints("".join(lines[:2])), "two lines are not a passage"
    assert not prints("import os\nfrom a import b, c, d\nelse:\n)\n" * 9), "what everybody writes is not one either"


def test_fingerprints_that_are_gone_are_reported(tmp_path: Path):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    for path in (tmp_path / "none.txt", tmp_path / "empty.txt"):
        with pytest.raises(UserError, match="python -m patches pin --upstream DIR"):
            audit.read_fingerprints(path)


def test_what_is_pinned_holds_names_and_hashes_only():
    for line in audit.FINGERPRINTS.read_text().splitlines():
        assert re.fullmatch(r"[0-9a-f]{16}|# .*", line)
    for line in catalogue.SYMBOLS.read_text().splitlines():
        assert re.fullmatch(r"  [0-9a-f]{16} [\w.]+(#2)?|[\w./]+\.py \d+|# .*", line)


# --------------------------------------------------------------------------------------------------------- the commands


def test_the_map_needs_neither_torch_nor_a_checkout():
    code = "import sys; from patches.__main__ import main; main(['map']); sys.exit(3 if 'torch' in sys.modules else 0)"
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^total +1284 ", done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert len(re.findall(r"^  (?:kept|changed|replaced|dropped) ", done.stdout, re.MULTILINE)) == 1284


def test_the_map_for_machines_and_of_one_status(capsys):
    assert run("map", "--json", "--status", "kept") == 0
    table = json.loads(capsys.readouterr().out)
    assert {row["status"] for row in table["symbols"]} == {"kept"}
    assert len(table["symbols"]) == table["totals"]["kept"] == MAP.totals()["kept"]
    assert len(table["findings"]) == len(MAP.findings)
    assert all(row["check"] and row["tolerance"] >= 0 and row["ours"] for row in table["symbols"])


@pytest.mark.parametrize("columns", ["60", "120", "200"])
def test_diff_shows_both_sides_within_the_terminal(little: Path, monkeypatch, capsys, columns: str):
    monkeypatch.setenv("COLUMNS", columns)
    assert run("diff", "alpha_schedule", "--upstream", little) == 0
    told = capsys.readouterr()
    assert "kept" in told.out and "def alpha_schedule(steps):" in told.out and "def cdcd_constants(" in told.out
    assert max(map(len, told.out.splitlines())) <= int(columns)
    assert (" | " in told.out) == (int(columns) > 90)
    assert told.err.count("\n") == 1 and "is not what it is at 667f9c0" in told.err


def test_diff_writes_a_page_outside_of_the_repository_only(little: Path, tmp_path: Path, capsys):
    page = tmp_path / "page.html"
    assert run("diff", "alpha_schedule", "--upstream", little, "--html", page) == 0
    text = page.read_text(encoding="utf-8")
    assert "&lt;one&gt; &amp;" in text and "<one>" not in text and "def cdcd_constants(" in text
    capsys.readouterr()
    for inside in (ROOT / "page.html", ROOT / "docs" / ".." / "page.html", ROOT / "none" / "page.html"):
        assert run("diff", "alpha_schedule", "--upstream", little, "--html", inside) == 2
        assert "lies in the repository" in capsys.readouterr().err
        assert not inside.exists()
    assert run("diff", "alpha_schedule", "--upstream", little, "--html", tmp_path / "none" / "page.html") == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["diff", "alpha_schedule", "--upstream", "LITTLE/none"], "is not a checkout of L-YeZhu/CDCD"),
        (["diff", "q_posterior", "--upstream", "LITTLE"], "has no synthesis.*commit"),
        (["diff", "nobody", "--upstream", "LITTLE"], "upstream has no symbol 'nobody'"),
        (["diff", "alpha_schedule"], "--upstream"),
        (["pin", "--upstream", "LITTLE"], "which .* does not have"),
        (["map", "--status", "stolen"], "stolen"),
        (["mapp"], "mapp"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_mistake_is_one_sentence(little: Path, capsys, arguments: list[str], complaint: str):
    before = catalogue.SYMBOLS.read_bytes(), audit.FINGERPRINTS.read_bytes(), catalogue.MAP.read_bytes()
    assert run(*(each.replace("LITTLE", str(little)) for each in arguments)) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and re.search(complaint, told)
    assert before == (catalogue.SYMBOLS.read_bytes(), audit.FINGERPRINTS.read_bytes(), catalogue.MAP.read_bytes())


# --------------------------------------------------------------------------------------- with a checkout, CDCD_UPSTREAM


def test_the_pinned_list_is_the_checkout(checkout: Checkout):
    assert len(checkout.paths) == MAP.upstream["files"]
    assert {symbol.full: symbol.digest for symbol in MAP.symbols} == {
        symbol: found.sha256[:16] for symbol, found in checkout.definitions.items()
    }
    everywhere = sum(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for path in checkout.paths
        for node in ast.walk(parsed(path, checkout.text(path)))
    )
    assert everywhere - len(MAP.symbols) == 36, "as many are inside a function, as the map's rule says"


def test_pinning_changes_nothing(checkout: Checkout, tmp_path: Path, monkeypatch):
    for module, name in ((catalogue, "SYMBOLS"), (catalogue, "MAP"), (audit, "FINGERPRINTS")):
        copy = tmp_path / getattr(module, name).name
        shutil.copy(getattr(module, name), copy)
        monkeypatch.setattr(module, name, copy)
    assert set(pin.pin(checkout).values()) == {False}
    text = catalogue.MAP.read_text()
    catalogue.MAP.write_text(re.sub(r'sha256 = "\w+"', 'sha256 = ""', text))
    catalogue.SYMBOLS.unlink()
    assert pin.pin(checkout) == {"symbols.txt": True, "fingerprints.txt": False, "map.toml": True}
    assert catalogue.MAP.read_text() == text


@pytest.mark.parametrize("suffix", [".py", ".md"])
def test_upstreams_own_lines_are_found(checkout: Checkout, tmp_path: Path, suffix: str):
    known = audit.read_fingerprints()
    for verdict in HEADS:
        found, lines = checkout.source(verdict.upstream[0])
        if len(lines) > 12:
            path = tmp_path / f"planted{suffix}"
            path.write_text("\n".join(lines))
            assert audit.hits([path], known, tmp_path), f"{found.symbol} could be copied unseen"


def test_findings_point_at_lines_that_are_there(checkout: Checkout):
    for finding in MAP.findings:
        path, line = finding["see"].rsplit(":", 1)
        lines = (checkout.folder / path).read_text(encoding="utf-8", errors="replace").splitlines()
        assert 1 <= int(line) <= len(lines), finding["id"]


def test_every_entry_can_be_shown(checkout: Checkout):
    for verdict in HEADS:
        symbol, same = MAP.find(verdict.upstream[0])
        definition, theirs, our_panels = sidebyside.panels(checkout, symbol, same)
        assert same is verdict and not MAP.drifted(symbol, definition.sha256)
        shown = sidebyside.terminal(sidebyside.verdict_lines(symbol, verdict), theirs, our_panels, 120)
        assert max(map(len, shown.splitlines())) <= 120
