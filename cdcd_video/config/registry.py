"""Registries of named entries that a config or a command chooses from, built in or from extensions. Imports no torch.

A registry is filled from three kinds of sources, and every source is a module that registers the name it is listed under:
the built-in ones, the files of its folder of extensions (`NAME.py`), and the entry points of its group that installed
packages offer (`NAME = "their.module"`). A module is imported when its name is first looked up, so an extension that loads
torch costs nothing to those who do not ask for it. docs/extending.md has a recipe for each registry.
"""

import difflib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Generic, TypeVar

from cdcd_video.errors import UserError

Entry = TypeVar("Entry")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class _Source:
    """A module that registers a name, and where it was found, as text."""

    module: str
    place: str
    is_built_in: bool = False


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Entries by name. Iterating and `in` go by names alone and import nothing; `registry[name]` imports what it needs.

    Args:
      what: one entry in words, for messages: "metric".
      group: of entry points: "cdcd_video.metrics".
      folder: the package whose modules are extensions: "cdcd_video.extensions.metrics".
      built_in: names that come with the project, in the order in which they are listed, with their modules.
      check: looks at an entry before it is taken; raises `UserError` for one that cannot be used.
    """

    def __init__(
        self,
        what: str,
        group: str,
        folder: str,
        built_in: Mapping[str, str],
        check: Callable[[str, Entry], None] | None = None,
    ):
        self.what, self.group, self.folder, self.check = what, group, folder, check
        self.added: Callable[[str, Entry], None] | None = None
        """Called with every new entry."""
        self.built_in = tuple(built_in)
        """Names that come with the project."""
        self._sources = {name: _Source(module, module, is_built_in=True) for name, module in built_in.items()}
        self._entries: dict[str, Entry] = {}
        self._owners: dict[str, str] = {}
        self._has_looked = False

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Registers an entry under a name, as a decorator or directly: `METRICS.register("sharpness")(Metric(...))`.

        Raises:
          UserError: the name is taken, or is not lower-case letters, digits and underscores; or the entry cannot be used.
        """
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_name != "<module>":
            frame = frame.f_back
        owner = frame.f_globals.get("__name__", "?")  # the module that is being imported, whoever calls for it

        def take(entry: Entry) -> Entry:
            if not _NAME.fullmatch(name):
                raise UserError(
                    f"{owner} registers the {self.what} {name!r}; a name consists of lower-case letters, digits and underscores"
                )
            if name in self._entries or (name in self.built_in and owner != self._sources[name].module):
                other = self._owners.get(name) or self._sources[name].module
                raise UserError(f"the {self.what} {name} is registered twice, by {other} and by {owner}; rename one")
            if self.check is not None:
                self.check(name, entry)
            self._entries[name], self._owners[name] = entry, owner
            if self.added is not None:
                self.added(name, entry)
            return entry

        return take

    def __getitem__(self, name: str) -> Entry:
        """The entry; imports the module that registers it where that has not happened yet.

        Raises:
          UserError: there is no such name, or the module that should register it cannot be imported or does not.
        """
        self._look()
        if name not in self._entries:
            if name not in self._sources:
                self.load_all()  # a module that should have registered this name is found out here
                raise UserError(self.unknown(name))
            self._load(name)
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._look()
        return iter(dict.fromkeys([*self._sources, *self._entries]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        self._look()
        return name in self._sources or name in self._entries

    def registered(self) -> dict[str, Entry]:
        """The entries whose modules have been imported, the built-in ones first; looks for no others."""
        names = dict.fromkeys([*self.built_in, *self._entries])
        return {name: self._entries[name] for name in names if name in self._entries}

    def unknown(self, name: str) -> str:
        """The error message for an unknown name."""
        near = difflib.get_close_matches(name, list(self), 1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(self)}"
        return f"there is no {self.what} {name!r}; {hint}"

    def load_all(self) -> None:
        """Imports every module that is known.

        Raises:
          UserError: one cannot be imported, or does not register its name.
        """
        for name in list(self):
            if name not in self._entries:
                self._load(name)

    def look_again(self) -> None:
        """Looks for extensions again, for a long-lived interpreter in which some were installed meanwhile."""
        self._has_looked = False
        self._sources = {name: source for name, source in self._sources.items() if source.is_built_in}

    def _look(self) -> None:
        """Finds the extensions, once; nothing of them is imported."""
        if self._has_looked:
            return
        found = [*self._in_folder(), *self._of_packages()]
        for place, (name, source) in enumerate(found):
            there = self._sources.get(name) or next((other for also, other in found[:place] if also == name), None)
            if there is not None:
                raise UserError(
                    f"the {self.what} {name} is defined twice, in {there.place} and in {source.place}; rename one"
                )
        self._sources.update(found)
        self._has_looked = True

    def _in_folder(self) -> list[tuple[str, _Source]]:
        try:
            spec = importlib.util.find_spec(self.folder)
        except ModuleNotFoundError:
            return []
        folders = spec.submodule_search_locations or [] if spec else []
        names = sorted({file.stem for folder in folders for file in Path(folder).glob("*.py")} - {"__init__"})
        return [
            (name, _Source(f"{self.folder}.{name}", f"{self.folder.replace('.', '/')}/{name}.py")) for name in names
        ]

    def _of_packages(self) -> list[tuple[str, _Source]]:
        found = {}
        for point in metadata.entry_points(group=self.group):
            package = point.dist.name if point.dist is not None else "?"
            place = f"the package {package} (entry point {point.name} = {point.value} of {self.group})"
            found[place] = (point.name, _Source(point.module, place))
        return list(found.values())

    def _load(self, name: str) -> None:
        source = self._sources[name]
        try:
            importlib.import_module(source.module)
        except (Exception, SystemExit) as error:
            self._entries.pop(name, None)  # half a module is none
            if source.is_built_in or isinstance(error, UserError):
                raise
            raise UserError(
                f"the {self.what} {name} cannot be loaded from {source.place}: {type(error).__name__}: {error};"
                " repair or remove it"
            ) from error
        if name not in self._entries:
            raise UserError(f"{source.place} does not register the {self.what} {name}; docs/extending.md explains how")


def named(dotted: str) -> Callable[..., object]:
    """The object named by `module:name`; imports the module."""
    module, _, name = dotted.partition(":")
    return getattr(importlib.import_module(module), name)
