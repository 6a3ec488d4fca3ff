"""What every section of a config has in common."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of every section: frozen, no unknown keys; the text under a field is its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    shorthand: ClassVar[str] = ""
    """The field that is meant where a file gives plain text in place of the section; empty: none."""
    earlier_keys: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Earlier name of a top-level key -> its name now. Files and `--set` may use either."""
