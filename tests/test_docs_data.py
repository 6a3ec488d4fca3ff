"""The commands of docs/data.md and data_prep/README.md are commands of `python -m data_prep`; links lead somewhere."""

import itertools
import re
import shlex
from pathlib import Path

import pytest

from cdcd_video.config import Config, config_file
from data_prep.__main__ import RECIPES, parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("docs/data.md", "data_prep/README.md")


def commands(page: str) -> list[list[str]]:
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^python (.*)$", text, re.MULTILINE)]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_understood(page):
    found = commands(page)
    told = {words[2] for words in found if words[:2] == ["-m", "data_prep"]}
    assert told == set(RECIPES.built_in) - ({"sprites"} if page == "docs/data.md" else set())
    for words in found:
        if words[:2] == ["-m", "data_prep"]:
            parser().parse_args(words[2:])  # ends the test where an option is not known
        elif "--config" in words:
            config = ROOT / words[words.index("--config") + 1]
            changed = [after for word, after in itertools.pairwise(words) if word == "--set"]
            assert config_file.load(config, Config, changed)
        else:
            assert entrance(words).is_file(), words


def entrance(words: list[str]) -> Path:
    """The file that says which options a command has; of a script, that of the command it is a front of."""
    of_scripts = {"train.py": "train", "inference.py": "sample", "evaluate.py": "evaluate"}
    if words[0] in of_scripts:
        return ROOT / "cdcd_video" / "commands" / f"{of_scripts[words[0]]}_command.py"
    return ROOT / f"{words[1].replace('.', '/')}.py"


def test_every_recipe_and_option_of_the_page_is_there():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    text = re.sub(r"^yt-dlp .*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"python -m cdcd_video\.[^`\n]*", "", text)  # commands of others have options of their own
    helps = "".join(parser()._subparsers._group_actions[0].choices[name].format_help() for name in RECIPES.built_in)
    options = set(re.findall(r"--[a-z][a-z-]+", text)) - {"--revision"}  # of `hf`
    runs = {entrance(words) for page in PAGES for words in commands(page) if words[:2] != ["-m", "data_prep"]}
    helps += "".join(
        file.read_text(encoding="utf-8")
        for file in (
            *runs,
            ROOT / "cdcd_video" / "metrics" / "protocol.py",
            ROOT / "cdcd_video" / "config" / "setting_words.py",
        )
    )
    assert [option for option in sorted(options) if option not in helps] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8")):
        assert "://" in target or ((ROOT / page).parent / target).exists(), target
