"""New identifiers use the words of the field: the glossary of CONTRIBUTING.md, and a baseline of older names that shrinks."""

import ast
import json
import re
import subprocess
import sys

import pytest

from cdcd_video.errors import UserError
from cdcd_video.tools.dev import baseline, glossary

TABLE = """
## Glossary

| dialect | say | meaning |
|---|---|---|
| `walk` `walks` | `sampler` | reverse steps |
| `told` | `message`, `notes` | text |
"""
WORDS = {"walk": "sampler", "walks": "sampler", "told": "message, notes"}


def test_no_new_identifier_is_in_the_dialect():
    words = glossary.replacements(glossary.PAGE.read_text(encoding="utf-8"))
    found = glossary.in_dialect(glossary.ROOT / "cdcd_video", words)
    sentences = glossary.verdict(found, baseline.read(glossary.BASELINE), words)
    assert not sentences, "\n".join(sentences)


def test_the_table_is_read():
    assert glossary.replacements(TABLE) == WORDS
    with pytest.raises(UserError, match="no table of words"):
        glossary.replacements("# A page\n")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("told_in_a_sentence", ["told", "in", "a", "sentence"]),
        ("CodeWalk", ["code", "walk"]),
        ("_WALKS", ["walks"]),
        ("FSQWalk2", ["fsq", "walk"]),
        ("sidewalk", ["sidewalk"]),
    ],
)
def test_identifiers_are_split_into_words(name: str, parts: list[str]):
    assert glossary.parts_of(name) == parts


def test_every_kind_of_definition_counts_and_local_names_do_not():
    text = """
WALKS, LIMIT = {}, 3
class CodeWalk:
    told: str = ""
    def __init__(self, walk, *walks, told=None, **walked_by_walk):
        self.last_walk = walk
        local_walk = 3
async def walk(one): ...
"""
    names = [name for name, _ in glossary.defined_names(ast.parse(text))]
    kept = [name for name in names if set(glossary.parts_of(name)) & set(WORDS)]
    assert sorted(kept) == sorted(
        ["WALKS", "CodeWalk", "told", "walk", "walks", "told", "walked_by_walk", "last_walk", "walk"]
    )


def test_a_new_name_and_one_more_of_an_old_name_fail(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "walk.py").write_text("def go(told): ...\n")
    found = glossary.in_dialect(tmp_path / "pack", WORDS)
    assert found == {"walk": ["pack/walk.py:1"], "told": ["pack/walk.py:1"]}
    assert glossary.verdict(found, {"walk": 1, "told": 1}, WORDS) == []
    assert glossary.verdict(found, {"walk": 1}, WORDS) == [
        "The name told (pack/walk.py:1) uses the word told; say message, notes instead."
    ]
    (sentence,) = glossary.verdict({**found, "walk": found["walk"] * 2}, {"walk": 1, "told": 1}, WORDS)
    assert "uses the word walk; say sampler" in sentence
    (sentence,) = glossary.verdict(found, {"walk": 1, "told": 3}, WORDS)
    assert sentence.startswith("2 names in the dialect are gone") and sentence.endswith("glossary --update")


def test_the_command_writes_what_shrank_and_refuses_what_grew(monkeypatch, tmp_path, capsys):
    package = tmp_path / "cdcd_video"
    package.mkdir()
    (package / "names.py").write_text("def walk(): ...\n")
    (tmp_path / "page.md").write_text(TABLE)
    file = tmp_path / "baseline.json"
    for name, value in {"ROOT": tmp_path, "PAGE": tmp_path / "page.md", "BASELINE": file}.items():
        monkeypatch.setattr(glossary, name, value)

    def run(allowed: dict[str, int], *flags: str) -> int:
        baseline.write(file, allowed)
        monkeypatch.setattr("sys.argv", ["glossary", *flags])
        return glossary.main()

    assert run({"walk": 1}) == 0
    assert run({"walk": 2}) == 1 and "are gone" in capsys.readouterr().out
    assert run({"walk": 2}, "--update") == 0 and json.loads(file.read_text()) == {"walk": 1}
    with pytest.raises(UserError, match="The name walk"):
        run({}, "--update")
    assert run({}, "--anew") == 0 and json.loads(file.read_text()) == {"walk": 1}


def test_the_page_uses_plain_sentences():
    """No sentence of CONTRIBUTING.md has more than 35 words; code and tables are not sentences."""
    text = re.sub(r"```.*?```", "", glossary.PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for line in text.splitlines() if not line.startswith(("|", "#"))]
    sentences = re.split(r"(?<=[.:?!])\s+|\n\s*\n|\n- ", "\n".join(lines))
    long = [" ".join(sentence.split()) for sentence in sentences if len(sentence.split()) > 35]
    assert long == []


def test_the_baseline_is_read_without_torch():
    """`make check` begins with it, and so must be quick."""
    quick = "import cdcd_video.tools.dev.glossary, cdcd_video.tools.dev.type_baseline, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", quick], cwd=glossary.ROOT, check=False).returncode == 0
