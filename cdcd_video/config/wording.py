"""Formats values, paths and texts of other programs for a one-line message."""

import json
from pathlib import Path
from typing import Any

from cdcd_video.errors import spelled


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
