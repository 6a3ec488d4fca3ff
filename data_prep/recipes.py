"""The registry of the recipes of `python -m data_prep`, built in and from extensions."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from cdcd_video.config.registry import Registry
from cdcd_video.errors import UserError
from data_prep.prepare import Plan


@dataclass(frozen=True)
class Recipe:
    """How clips of one source become a prepared folder.

    Attributes:
      description: for `--help`; its first line also stands in the list of recipes.
      add_options: adds the recipe's own options, and those of `Settings` where it makes a plan.
      run: does it: a `Plan` is then carried out by `prepare`, text is printed.
      reads_videos: whether it makes a plan of video files, so that `encode` can follow it, too.
    """

    description: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Plan | str]
    reads_videos: bool = True

    @property
    def summary(self) -> str:
        """One line."""
        return self.description.splitlines()[0]


def _check(name: str, recipe: Recipe) -> None:
    if not isinstance(recipe, Recipe) or not recipe.description:
        raise UserError(
            f"the dataset recipe {name} is registered with {recipe!r}, which is not a Recipe with a description"
        )


_BUILT_IN = ("folder", "msrvtt", "internvid", "sprites", "digits", "join", "augment", "encode")
RECIPES: Registry[Recipe] = Registry(
    "dataset recipe",
    "cdcd_video.datasets",
    "data_prep.extensions",
    {name: f"data_prep.{name}" for name in _BUILT_IN},
    _check,
)
"""All recipes; each is registered at the end of its file."""
