"""Lists of counts that may only shrink: what a check still allows, by name, in a JSON file that is committed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdcd_video.errors import UserError


def changes(found: Mapping[str, int], allowed: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Compares counts with a baseline; a name that one of the two lacks counts as 0 there.

    Args:
      found: what there is now.
      allowed: the baseline.

    Returns:
      How much each name grew, and how much each name shrank; names that did neither are left out.
    """
    names = sorted({*found, *allowed})
    difference = {name: found.get(name, 0) - allowed.get(name, 0) for name in names}
    grown = {name: value for name, value in difference.items() if value > 0}
    return grown, {name: -value for name, value in difference.items() if value < 0}


def read(path: Path) -> dict[str, Any]:
    """A baseline file.

    Raises:
      UserError: it is missing or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"the baseline {path} cannot be read ({error}); restore it with git checkout") from None
    if not isinstance(content, dict):
        raise UserError(f"the baseline {path} is not a JSON object; restore it with git checkout")
    return content


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a baseline file, sorted by name, so that two branches that shrink it rarely conflict."""
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
