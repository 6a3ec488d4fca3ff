"""What README.md promises works: its commands, its files, its Python."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cdcd_video.commands.command_table import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
SCRIPTS = ("train.py", "inference.py", "evaluate.py")
MADE_LATER = ("out/", "../CDCD", "runs/", "data/", "videos/", "x.png", "captions.tsv", "configs/NAME.yaml")
"""What a command of README.md makes itself, or what stands for the reader's own."""


def commands() -> list[str]:
    """The lines of shell blocks, without prompts, comments and line breaks in the middle of a command."""
    shell = [text for language, text in BLOCKS if language in ("sh", "bash", "shell", "console", "")]
    lines = "\n".join(shell).replace("\\\n", " ").splitlines()
    lines = [re.sub(r"^\$ ", "", line.strip()).split("  #")[0].strip() for line in lines]
    return [line for line in lines if re.match(r"(python3?|make|git|pip|cdcd-video) ", line)]


def help_of(*arguments: str) -> str:
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *arguments, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_first_screen_are_there():
    found = "\n".join(commands())
    for command in ("make demo", "make test", *(f"python {script}" for script in SCRIPTS)):
        assert command in found, f"README.md does not show `{command}`"


@pytest.mark.parametrize("script", SCRIPTS)
def test_options_in_readme_are_options_of_the_script(script: str):
    known = help_of(script)
    assert "usage: " in known
    for command in commands():
        words = shlex.split(command, comments=True)
        if words[1:2] == [script]:
            options = [word.split("=")[0] for word in words if word.startswith("--")]
            assert [option for option in options if option not in known] == [], command


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_the_table_has_every_command_and_its_options(name: str):
    assert f"| `cdcd-video {name}` |" in README
    known = help_of("-m", "cdcd_video", name)
    for command in commands():
        words = shlex.split(command, comments=True)
        if words[:2] == ["cdcd-video", name]:
            options = [word.split("=")[0] for word in words if word.startswith("--")]
            assert [option for option in options if option not in known] == [], command


@pytest.mark.parametrize("command", commands())
def test_a_command_names_what_exists(command: str):
    first, *words = shlex.split(command, comments=True)
    if first == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert [word for word in words if "=" not in word and word not in targets] == []
    elif first == "cdcd-video":
        assert words[0] in [command.name for command in COMMANDS]
    elif words[0] == "-m" and words[1] not in ("pip", "venv", "pytest", "ruff"):
        module = ROOT / words[1].replace(".", "/")
        assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), command
    paths = [word for word in words if "/" in word or Path(word).suffix in (".py", ".yaml", ".png", ".tsv")]
    for path in paths:
        path = path.split("=")[-1]  # NAME=FOLDER
        if "://" not in path and not path.startswith(MADE_LATER) and not path.isupper():
            assert (ROOT / path).exists(), f"{command}: {path} is not in the repository"


def test_links_and_pictures_lead_somewhere():
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", README) + re.findall(r'(?:src|href)="([^"#]+)"', README)
    for target in targets:
        assert "://" in target or (ROOT / target).exists(), f"README.md links to {target}, which does not exist"


def test_the_python_of_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In this process: that the package serves a new one is seen by every test of a command."""
    blocks = [text for language, text in BLOCKS if language == "python"]
    assert blocks, "README.md shows no Python"
    (tmp_path / "examples").symlink_to(ROOT / "examples")  # it may read the examples; what it writes is not kept
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("readme", script)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert any(path.suffix in (".mp4", ".gif", ".webp") for path in tmp_path.iterdir()), (
        "README's Python saves no video"
    )
