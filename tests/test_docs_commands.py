"""docs/commands.md: every command is one, and has the options that the table names; so are links and rows."""

import contextlib
import io
import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cdcd_video.commands.command_table import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?!I want|---)(.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
CALLS = [shlex.split(call) for _, cell, _ in ROWS for call in re.findall(r"`([^`]+)`", cell)]
RECIPES = ("data_prep", "patches", "cdcd_video.rate", "cdcd_video.tools.weights")
"""Modules whose next word names a part with options of its own."""


def entrance(words: list[str]) -> tuple[str, ...]:
    """What is called with `--help`: a script or a module, and its part."""
    if words[1] != "-m":
        return (words[1],)
    return tuple(words[2:4]) if words[2] in RECIPES else (words[2],)


PYTHON = [words for words in CALLS if words[0] == "python"]
ENTRANCES = sorted({entrance(words) for words in PYTHON})


def print_helps() -> None:
    """Writes the help of each entrance that is read from stdin, as JSON; in one process, since imports are most of the time."""
    sys.path.insert(0, str(ROOT))
    helps = []
    for name, *part in json.load(sys.stdin):
        sys.argv = [name, *part, "--help"]
        code: object = "did not end"
        with contextlib.redirect_stdout(io.StringIO()) as out:
            try:
                runpy.run_module(name.removesuffix(".py"), run_name="__main__", alter_sys=True)
            except SystemExit as end:
                code = end.code
        helps.append([code, out.getvalue()])
    json.dump(helps, sys.stdout)


@pytest.fixture(scope="module")
def helps() -> dict[tuple[str, ...], str]:
    call = [sys.executable, "-c", "import test_docs_commands; test_docs_commands.print_helps()"]
    environment = {"COLUMNS": "200", "PYTHONPATH": f"{ROOT / 'tests'}"}
    done = subprocess.run(
        call, input=json.dumps(ENTRANCES), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = dict(zip(ENTRANCES, json.loads(done.stdout), strict=True))
    assert {name: code for name, (code, _) in found.items() if code != 0} == {}, done.stderr
    return {name: text for name, (_, text) in found.items()}


def test_every_command_has_the_options_of_its_row(helps: dict[tuple[str, ...], str]):
    assert len(PYTHON) > 40
    for words in PYTHON:
        text = helps[entrance(words)]
        assert "usage: " in text, words
        assert [word for word in words if word.startswith("--") and word not in text] == [], words


def test_make_has_the_targets():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [words[1] for words in CALLS if words[0] == "make"]
    assert len(named) >= 4 and [name for name in named if name not in targets] == []


def test_every_row_is_an_intention_a_command_and_a_page():
    assert len(ROWS) == len(re.findall(r"^\| ", PAGE, re.MULTILINE)) - PAGE.count("| I want to |") > 40
    intentions = [intention for intention, _, _ in ROWS]
    assert len(set(intentions)) == len(intentions)
    for _, cell, more in ROWS:
        assert "`" in cell and (re.search(r"\]\((\S+)\)", more) is not None), cell
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_every_main_command_is_named():
    head = PAGE.split("\n## ")[0]
    assert [command.name for command in COMMANDS if f"`{command.name}`" not in head.replace("`cdcd-video ", "`")] == []
