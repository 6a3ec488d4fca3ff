"""Formats values, paths and texts of other programs for a one-line message."""

import json
import sys
from pathlib import Path
from typing import Any

from cdcd_video.errors import spelled

_CHECKOUT = Path(__file__).resolve().parents[2]
_SCRIPTS = {"sample": "inference.py", "train": "train.py", "evaluate": "evaluate.py"}
"""Commands that a checkout also has as scripts."""


def quoted(value: Any) -> str:
    """A value as the user would write it, shortened if long."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def printable(path: Path) -> str:
    """A path as it can be printed on any terminal."""
    return " ".join(spelled(str(path)).split())


def one_line(text: str) -> str:
    """A text of several lines on one, without its full stop."""
    return " ".join(text.split()).rstrip(".")


def command_name(name: str) -> str:
    """How a command is called here: `evaluate.py` in a checkout; `cdcd-video evaluate` if that was called, or is all there is.

    Args:
      name: sample, train or evaluate.
    """
    script = _CHECKOUT / _SCRIPTS[name]
    return script.name if script.is_file() and Path(sys.argv[0]).stem != "cdcd-video" else f"cdcd-video {name}"
