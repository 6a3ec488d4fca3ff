"""`--set`: one setting after each, or several after one, in every command that has it."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from cdcd_video import UserError
from cdcd_video.config.setting_words import with_flags
from cdcd_video.tools import bench

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("--set a=1 b.c=2", "--set a=1 --set b.c=2"),
        ("--set a=1 --set b=2 c=3 --out x", "--set a=1 --set b=2 --set c=3 --out x"),
        ("--set=a=1 b=2", "--set=a=1 --set b=2"),
        ("--set a=1 FILE", "--set a=1 FILE"),
        ("--set a=1 FILE b=2", "--set a=1 FILE b=2"),
        ("--set a=1 runs/b=2", "--set a=1 runs/b=2"),
        ("--set a=1 --videos ours=out", "--set a=1 --videos ours=out"),
        ("--set a=1 -- b=2", "--set a=1 -- b=2"),
        ("--set a", "--set a"),
        ("a=1 b=2", "a=1 b=2"),
        ("", ""),
    ],
)
def test_every_setting_gets_a_flag_and_nothing_else_does(given: str, read: str):
    assert with_flags(given.split()) == read.split()


def test_without_words_those_of_the_process_are_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--set", "a=1", "b=2"])
    assert with_flags(None) == ["--set", "a=1", "--set", "b=2"]


COMMANDS = {
    "cdcd_video.commands.train_command": "--config configs/tiny.yaml --dry-run",
    "cdcd_video.ablate.__main__": "configs/ablations/contrast.yaml --dry-run",
    "cdcd_video.tools.bench.__main__": "config --config configs/tiny.yaml",
    "cdcd_video.tools.dev.scaling_estimate": "--config configs/tiny.yaml",
    "cdcd_video.tools.dev.article.article_command": "",
}
"""Module and the words that it needs; each reads its config itself."""


@pytest.mark.parametrize("module", COMMANDS)
def test_a_command_reads_every_setting(module: str, monkeypatch: pytest.MonkeyPatch):
    words = [*COMMANDS[module].split(), "--set", "no_such_key=1", "nor_this_one=2"]
    monkeypatch.setattr(sys, "argv", [module, *words])
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=r"(?s)no_such_key.*nor_this_one"):
        importlib.import_module(module).main()


def test_no_command_has_a_set_of_its_own():
    """Those that hand settings on to other processes are not run here; they are to read them by the same two functions."""
    package = ROOT / "cdcd_video"
    texts = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    own = [path for path, text in texts.items() if re.search(r'add(_argument)?\(\s*"--set"', text)]
    assert own == []
    adding = {path for path, text in texts.items() if "    add_setting_flag(parser" in text}
    benches = package / "tools" / "bench"
    assert len(adding) == 9 and Path(bench.__file__).parent == benches
    reading = {path for path in adding if path.parent != benches} | {benches / "__main__.py"}
    assert [path for path in sorted(reading) if "parse_args(with_flags(" not in texts[path]] == []
