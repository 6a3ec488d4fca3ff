"""docs/running.md: its commands are commands, its options options, its tests and links there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cdcd_video.config import Config, config_file

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^(python .*|make .*)$", PAGE, re.MULTILINE)]


def entrance(words: list[str]) -> Path:
    if words[1] != "-m":
        return ROOT / words[1]
    module = ROOT / words[2].replace(".", "/")
    return module / "__main__.py" if module.is_dir() else module.with_suffix(".py")


ENTRANCES = sorted({entrance(words) for words in COMMANDS if words[0] == "python"})


def test_the_page_shows_what_it_promises():
    names = {path.relative_to(ROOT).as_posix() for path in ENTRANCES}
    assert names == {
        *("train.py", "cdcd_video/tools/kill_resume.py", "cdcd_video/tools/compare_loss.py"),
        *("cdcd_video/tools/fuzz.py", "cdcd_video/tools/card.py", "evaluate.py", "inference.py"),
    }
    assert ["make", "audit"] in COMMANDS
    assert re.search(r"^audit:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", ENTRANCES, ids=lambda path: path.name)
def test_every_option_is_one_of_the_command(path: Path):
    done = subprocess.run(
        [sys.executable, str(path), "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for words in COMMANDS:
        if words[0] == "python" and entrance(words) == path:
            assert [word for word in words if word.startswith("--") and word not in done.stdout] == [], words


def test_every_config_loads():
    for words in COMMANDS:
        if "--config" in words:
            assert config_file.load(ROOT / words[words.index("--config") + 1], Config)


def test_what_it_names_is_there():
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", PAGE):
        assert "://" in target or (ROOT / "docs" / target).exists(), target
    for path in re.findall(r"`(tests/\w+\.py|configs/[\w/]+\.yaml)`", PAGE):
        assert (ROOT / path).is_file(), path
    logged = "".join(
        (ROOT / "cdcd_video" / "engine" / f"{name}.py").read_text() for name in ("loop", "optim", "train_step")
    )
    for name in ("grad_norm", "param_norm", "update_norm", "idle_share", "groups"):
        assert f"`{name}`" in PAGE and f'"{name}"' in logged, name
