"""Configs and example images that come with the project, by name, wherever it is installed. Imports no torch."""

import difflib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from cdcd_video.config.wording import quoted
from cdcd_video.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
MODELS = _PACKAGE / "models"
"""The shipped models, a folder each."""
Kind = Literal["configs", "examples"]
_ENDING: dict[Kind, str] = {"configs": ".yaml", "examples": ".png"}
_SINGULAR: dict[Kind, str] = {"configs": "config", "examples": "example"}


def shipped_folder(kind: Kind) -> Path:
    """The folder of the configs or of the example images: beside the package in a checkout, inside of it once installed."""
    inside = _PACKAGE / "shipped" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def shipped_names(kind: Kind, within: str = "") -> list[str]:
    """The names that `named_file` knows, sorted; those of subfolders contain a `/`.

    Args:
      kind: of the files.
      within: a subfolder that names are relative to.
    """
    folder, ending = shipped_folder(kind) / within, _ENDING[kind]
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob(f"*{ending}"))


def named_file(kind: Kind, within: str = "") -> Callable[[str], Path]:
    """What an argument names, as the `type` of an option: a path, or one of `shipped_names`.

    A file that exists wins over a name. A path that leads nowhere is returned as it is; whoever reads it says so.

    Raises:
      UserError: by the function that is returned, for a name that is neither a path nor shipped, or an address.
    """

    def find(text: str) -> Path:
        path = Path(text)
        _refuse_address(text)
        if os.path.lexists(path) and not os.path.isdir(path):
            return path
        if os.path.isdir(path) and text not in shipped_names(kind, within):
            return path
        return shipped_file(kind, text, within) or path

    return find


_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/|data:", re.IGNORECASE)
"""Two letters or more before the colon: one is a drive. A `Path` has made one slash of two."""


def _refuse_address(text: str) -> None:
    scheme = _ADDRESS.match(text)
    if scheme is None or os.path.lexists(text):
        return
    kind = scheme[0].lower()
    if kind == "data:":
        raise UserError(f"{text[:40]}... is an address with a file in it; save the file, and give its path")
    if kind == "file:/":
        raise UserError(f"{text} is an address; give the path of the file, which is the part after file://")
    raise UserError(f"{text} is an address, and nothing is downloaded; save the file, and give its path")


def shipped_file(kind: Kind, text: str, within: str = "") -> Path | None:
    """The file of a name of `shipped_names`; None for a path, which has a suffix.

    Raises:
      UserError: a name that is not shipped, or the path that a shipped file has in a checkout.
    """
    path, ending, names = Path(text), _ENDING[kind], shipped_names(kind, within)
    if text in names:
        return shipped_folder(kind) / within / f"{text}{ending}"
    if path.suffix:  # no name, but a path; it may be one of a checkout
        name = path.as_posix().removeprefix("configs/" if kind == "configs" else "examples/")
        name = name.removeprefix(f"{within}/" if within else "").removesuffix(ending)
        if not path.is_absolute() and name in names:
            raise UserError(f"{text} does not exist here; the one that comes with the project is called {name}")
        return None
    near = difflib.get_close_matches(text, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"give a path, or one of {', '.join(names)}"
    raise UserError(f"there is no {_SINGULAR[kind]} {quoted(text)}; {hint}")
