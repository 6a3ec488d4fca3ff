"""What is fuzzed: a name, valid examples, how one is broken, and who reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Break = Callable[[Path, np.random.Generator], None]
"""Puts one broken input into an empty folder."""


@dataclass(frozen=True)
class Target:
    """One reader of what users bring."""

    name: str
    share: float
    """Of all inputs; the shares of all targets need not sum to one."""
    put: Break
    """Writes a broken input to a folder that may hold the last one."""
    read: Callable[[Path], object]
    """Reads it; a `UserError` is a clear refusal, anything else that is raised is a defect."""
