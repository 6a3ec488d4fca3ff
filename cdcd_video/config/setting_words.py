"""The option `--set` of a command line: one setting after each, or several after one. Imports no torch."""

import argparse
import re
import sys
from collections.abc import Sequence

FLAG, METAVAR = "--set", "section.key=value"
_SETTING = re.compile(r"[A-Za-z_][\w.]*=")


def add_setting_flag(parser: argparse.ArgumentParser, about: str) -> None:
    """Adds `--set` to a command whose words go through `with_flags`; the settings are a list of text, `args.set`."""
    several = "several may follow, and the option may be repeated"
    parser.add_argument(FLAG, action="append", default=[], metavar=METAVAR, help=f"{about}; {several}")


def with_flags(words: Sequence[str] | None) -> list[str]:
    """A command line in which every setting has a `--set` of its own: `--set a=1 b=2` is `--set a=1 --set b=2`.

    argparse could read several words itself (`nargs="+"`), but would then also take what follows and is no setting, as the file
    in `ablate --set seeds=[0] FILE`.

    Args:
      words: of the command line; None: those of this process.
    """
    found: list[str] = []
    is_value = is_begun = False
    for word in sys.argv[1:] if words is None else words:
        if is_value:
            is_value = False
        elif word == FLAG:
            is_value = is_begun = True
        elif word.startswith(f"{FLAG}="):
            is_begun = True
        elif is_begun and _SETTING.match(word):
            found.append(FLAG)
        else:
            is_begun = False
        found.append(word)
    return found
