"""`python -m data_prep RECIPE ...`: Prepares a folder of clips for training, or encodes clips as codes."""

import argparse
import sys

from cdcd_video.errors import exit_code
from data_prep.prepare import Plan, prepare
from data_prep.recipes import RECIPES


def parser() -> argparse.ArgumentParser:
    """All recipes with their options."""
    about, after = __doc__.split(": ", 1)[1], "python -m data_prep RECIPE --help lists the options of a recipe"
    root = argparse.ArgumentParser(prog="python -m data_prep", description=about, epilog=after)
    recipes = root.add_subparsers(title="recipes", metavar="RECIPE")
    for name, recipe in RECIPES.items():
        options = recipes.add_parser(name, help=recipe.summary, description=recipe.description)
        options.formatter_class = argparse.RawDescriptionHelpFormatter
        recipe.add_options(options)
        options.set_defaults(run=recipe.run)
    return root


def main(argv: list[str] | None = None) -> int:
    """Runs one recipe and prints what it made; without a recipe, prints the help."""
    options = parser().parse_args(argv)
    if not hasattr(options, "run"):
        parser().print_help()
        return 0
    result = options.run(options)
    print(prepare(result) if isinstance(result, Plan) else result)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
