"""The parser of every command's options: a mistake is one sentence with the way out, like every other error."""

import argparse
import difflib
import itertools
import math
import sys
from collections.abc import Sequence
from typing import Any, NoReturn


class OptionParser(argparse.ArgumentParser):
    """`argparse.ArgumentParser`, which would print the usage of all options above a mistake in one.

    A number of the type float is finite: what compares with `nan` is false, and neither it nor `inf` is JSON.
    """

    def __init__(self, *args: Any, **options: Any):
        """Takes what `argparse.ArgumentParser` takes."""
        super().__init__(*args, **options)
        self.register("type", float, _finite)

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2 and one sentence on stderr.

        Args:
          message: what is wrong, as argparse says it.
        """
        rest = "" if message.endswith("?") else f"; {self.prog} --help lists the options"
        self.exit(2, f"error: {message}{rest}\n")

    def parse_args(  # type: ignore[override]  # one signature for what typeshed gives as three
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """As `argparse.ArgumentParser.parse_args`; for an option that there is not, the nearest one is offered.

        Options are looked up before anything is parsed: otherwise a misspelled one is reported as the one that is missing.
        """
        words, options = list(sys.argv[1:] if args is None else args), sorted(_options(self))
        looked_up = [] if _hands_the_rest_on(self, words) else itertools.takewhile(lambda word: word != "--", words)
        for word in looked_up:
            name = word.split("=")[0]
            if name.startswith("--") and not any(option.startswith(name) for option in options):
                near = difflib.get_close_matches(name.lower(), options, 1)
                self.error(f"there is no option {name}" + (f"; did you mean {near[0]}?" if near else ""))
        parsed, unknown = self.parse_known_args(words, namespace)
        if unknown := [word for word in unknown if word != "--"]:  # which newer Pythons leave out themselves
            self.error(f"nothing is known of {' '.join(unknown)}")
        return parsed


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"it is {text}, and must be a finite number")
    return value


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """The long options of a parser, and of the commands that it hands on to."""
    found: set[str] = set()
    for action in parser._actions:
        found.update(option for option in action.option_strings if option.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            found.update(*(_options(command) for command in action.choices.values()))
    return found


def _hands_the_rest_on(parser: argparse.ArgumentParser, words: Sequence[str]) -> bool:
    """Whether a command among these words reads what follows with a parser of its own."""
    commands = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    named = [command for choices in commands for name, command in choices.items() if name in words]
    return any(action.nargs == argparse.REMAINDER for command in named for action in command._actions)
