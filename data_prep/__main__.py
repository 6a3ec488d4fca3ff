"""`python -m data_prep` and `cdcd-video prepare`: Prepares a folder of clips for training, or encodes clips as codes."""

import argparse
import sys
from collections.abc import Sequence

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import exit_code, extras_named
from data_prep.prepare import Plan, prepare
from data_prep.recipes import RECIPES

PROGRAM = "python -m data_prep"


def parser(prog: str = PROGRAM) -> argparse.ArgumentParser:
    """All recipes with their options; `prog` is how the program is called."""
    about, after = __doc__.split(": ", 1)[1], f"{prog} RECIPE --help lists the options of a recipe"
    root = OptionParser(prog=prog, description=about, epilog=after)
    recipes = root.add_subparsers(title="recipes", metavar="RECIPE")
    for name, recipe in RECIPES.items():
        options = recipes.add_parser(name, help=recipe.summary, description=recipe.description)
        options.formatter_class = argparse.RawDescriptionHelpFormatter
        recipe.add_options(options)
        options.set_defaults(run=recipe.run)
    return root


def main(argv: Sequence[str] | None = None, prog: str = PROGRAM) -> int:
    """Runs one recipe and prints what it made; without a recipe, prints the help.

    Args:
      argv: the words of the command line; None: those of this process.
      prog: how the command is called.
    """
    options = parser(prog).parse_args(argv)
    if not hasattr(options, "run"):
        parser(prog).print_help()
        return 0
    with extras_named("data"):
        result = options.run(options)
        print(prepare(result) if isinstance(result, Plan) else result)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
