"""Reads `map.toml` and `symbols.txt`: which verdict each of upstream's symbols falls under."""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property
from pathlib import Path
from typing import Any

from cdcd_video.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
MAP = HERE / "map.toml"
SYMBOLS = HERE / "symbols.txt"

STATUSES = ("kept", "changed", "replaced", "dropped")
"""kept: the same mathematics in our own words, and a check that must pass. changed: the same role with a named
difference; the check passes with the difference switched off. replaced: another method in its place. dropped: nothing
in its place."""
CHECKED = ("kept", "changed")
_LISTS = ("upstream", "ours", "copies", "members")
_COMMON = {"upstream", "status", "why"}
_FIELDS = {
    "symbol": (_COMMON | {"sha256"}, {"copies", "members", "origin", "ours", "cites", "check", "tolerance"}),
    "glob": (_COMMON, {"ours", "cites"}),
    "new": ({"ours", "why"}, {"cites"}),
    "finding": ({"id", "see", "what", "ours"}, set()),
}


@dataclass(frozen=True)
class Symbol:
    """One of upstream's functions, methods or classes, and the first 16 digits of its hash."""

    path: str
    name: str
    digest: str

    @property
    def full(self) -> str:
        """`path::name`."""
        return f"{self.path}::{self.name}"


@dataclass(frozen=True)
class Verdict:
    """What became of a symbol and its copies, or of everything that a pattern matches.

    Attributes:
      upstream: `path::name`; for a glob, patterns over it, `*` standing for anything and `{a,b}` for either.
      status: one of `STATUSES`.
      why: one or two sentences.
      ours: `module:symbol`, each of which exists.
      sha256: of the symbol's normalised syntax tree at the pinned commit; empty for a glob.
      copies: files that hold it too, or further `path::name`; their text may differ, `symbols.txt` has their hashes.
      members: names in the same files that are judged with it, such as a class and its other methods.
      origin: `cdcd`, or `vq-diffusion` where upstream took it from there.
      cites: where the mathematics is published, by the tags of docs/references.md.
      check, tolerance: the check of `patches.parity`, and the largest error it allows.
    """

    upstream: tuple[str, ...]
    status: str
    why: str
    ours: tuple[str, ...] = ()
    sha256: str = ""
    copies: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    origin: str = ""
    cites: str = ""
    check: str = ""
    tolerance: float | None = None

    @property
    def is_glob(self) -> bool:
        """Whether it is about whatever its patterns match, and so about no symbol in particular."""
        return not self.sha256

    @cached_property
    def patterns(self) -> tuple[str, ...]:
        """Every pattern over `path::name`, braces written out."""
        path, _, name = self.upstream[0].partition("::")
        full = [*self.upstream, *(copy for copy in self.copies if "::" in copy)]
        paths = [path, *(copy for copy in self.copies if "::" not in copy)]
        if name:
            full += [f"{place}::{each}" for place in paths for each in (name, *self.members)]
        return tuple(dict.fromkeys(pattern for each in full for pattern in _without_braces(each)))

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        """All patterns as one: tens of thousands of pairs are asked for, one after the other."""
        full = (pattern if "::" in pattern else f"{pattern}::*" for pattern in self.patterns)
        return re.compile("|".join(map(translate, full)))

    def matches(self, symbol: Symbol) -> bool:
        """Whether the symbol falls under this verdict."""
        return self._expression.match(symbol.full) is not None


@dataclass(frozen=True)
class Catalogue:
    """The whole map.

    Attributes:
      upstream: repository, commit, licence, and the rule by which symbols are counted.
      glossary: upstream's word -> ours.
      verdicts: of entries and globs, in the map's order.
      new: what upstream has nothing of.
      findings: upstream's defects.
      symbols: all of upstream's.
    """

    upstream: Mapping[str, Any]
    glossary: Mapping[str, str]
    verdicts: tuple[Verdict, ...]
    new: tuple[Mapping[str, Any], ...]
    findings: tuple[Mapping[str, str], ...]
    symbols: tuple[Symbol, ...]

    @cached_property
    def rows(self) -> tuple[tuple[Symbol, Verdict], ...]:
        """Every symbol with its verdict.

        Raises:
          UserError: if one falls under none, or under several.
        """
        rows = []
        for symbol in self.symbols:
            found = [verdict for verdict in self.verdicts if verdict.matches(symbol)]
            if len(found) != 1:
                others = " and ".join(verdict.upstream[0] for verdict in found) or "none"
                raise UserError(f"map.toml: {symbol.full} must fall under one entry, but falls under {others}.")
            rows.append((symbol, found[0]))
        return tuple(rows)

    def totals(self) -> dict[str, int]:
        """Number of symbols per status."""
        count = Counter(verdict.status for _, verdict in self.rows)
        return {status: count[status] for status in STATUSES}

    def find(self, asked: str) -> tuple[Symbol, Verdict]:
        """The symbol that somebody means by `q_posterior`, `Class.method`, `file.py::name` or the full `path::name`.

        Where several are called that, the first of an entry stands for its copies.

        Raises:
          UserError: if none is called that, or several that have nothing to do with each other.
        """
        path, _, name = asked.rpartition("::")
        found = [
            (symbol, verdict)
            for symbol, verdict in self.rows
            if ("." + symbol.name).endswith("." + name) and ("/" + symbol.path).endswith("/" + path if path else "")
        ]
        found = [row for row in found if row[0].name == name] or found
        heads = {}  # per verdict its own symbol, or else the first of those that fall under it
        for symbol, verdict in found:
            if id(verdict) not in heads or symbol.full in verdict.upstream:
                heads[id(verdict)] = (symbol, verdict)
        if not found:
            raise UserError(f"upstream has no symbol {asked!r}; `python -m patches map` lists all.")
        first, *others = sorted(heads.values(), key=lambda row: row[1].is_glob)
        if not others and (len(found) == 1 or not first[1].is_glob):
            return first
        several = [symbol.full for symbol, _ in ([first, *others] if others else found)]
        rest = f" and {len(several) - 5} more" if len(several) > 5 else ""
        raise UserError(f"{asked!r} could be {', '.join(several[:5])}{rest}; name one in full.")

    def drifted(self, symbol: Symbol, sha256: str) -> str | None:
        """One sentence if a checkout's symbol is not the pinned one."""
        if sha256.startswith(symbol.digest):
            return None
        return f"{symbol.full} is not what it is at {self.upstream['commit'][:7]}; the map may be wrong about it."


def load(map_path: Path = MAP, symbols_path: Path = SYMBOLS) -> Catalogue:
    """Reads and checks the map.

    Raises:
      UserError: if a file cannot be read, or an entry is not as it should be.
    """
    try:
        table = tomllib.loads(map_path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{map_path} cannot be read: {error}.") from None
    unknown = set(table) - {"upstream", "glossary", *_FIELDS}
    if unknown or not {"upstream", "glossary"} <= set(table):
        raise UserError(f"{map_path} needs [upstream] and [glossary], and knows no {sorted(unknown)}.")
    for kind in _FIELDS:
        for entry in table.get(kind, []):
            _check(kind, entry)
    return Catalogue(
        upstream=table["upstream"],
        glossary=table["glossary"],
        verdicts=tuple(_verdict(entry) for kind in ("symbol", "glob") for entry in table.get(kind, [])),
        new=tuple(table.get("new", [])),
        findings=tuple(table.get("finding", [])),
        symbols=tuple(read_symbols(symbols_path)),
    )


def read_symbols(path: Path = SYMBOLS) -> list[Symbol]:
    """The pinned list of upstream's symbols.

    It holds, for every file, a line `PATH COUNT`, and below it a line `  HASH NAME` for every symbol.

    Raises:
      UserError: if the file is missing, or was cut short.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    symbols, promised, here = [], Counter(), ""
    for line in lines:
        if line.startswith("#"):
            continue
        if found := re.fullmatch(r"  ([0-9a-f]{16}) (\S+)", line):
            symbols.append(Symbol(here, found[2], found[1]))
        elif found := re.fullmatch(r"(\S+\.py) (\d+)", line):
            here = found[1]
            promised[here] += int(found[2])
    if not symbols or Counter(symbol.path for symbol in symbols) != +promised:
        raise UserError(f"{path} is damaged: run `python -m patches pin --upstream DIR` to write it anew.")
    return symbols


def _check(kind: str, entry: Mapping[str, Any]) -> None:
    needed, allowed = _FIELDS[kind]
    name = entry.get("upstream") or entry.get("id") or entry.get("ours") or "an entry"
    if missing := sorted(needed - set(entry)):
        raise UserError(f"map.toml: [[{kind}]] {name} lacks {', '.join(missing)}.")
    if unknown := sorted(set(entry) - needed - allowed):
        raise UserError(f"map.toml: [[{kind}]] {name} has unknown keys: {', '.join(unknown)}.")
    if kind not in ("symbol", "glob"):
        return
    status = entry["status"]
    if status not in STATUSES:
        raise UserError(f"map.toml: {name} is {status!r}, which is none of {', '.join(STATUSES)}.")
    if status != "dropped" and not entry.get("ours"):
        raise UserError(f"map.toml: {name} is {status}, so it needs `ours`.")
    if status in CHECKED and not (entry.get("check") and isinstance(entry.get("tolerance"), float)):
        raise UserError(f"map.toml: {name} is {status}, so it needs a check and a tolerance.")


def _verdict(entry: Mapping[str, Any]) -> Verdict:
    given = {key: value for key, value in entry.items() if key not in _LISTS}
    lists = {key: _listed(entry.get(key, ())) for key in _LISTS}
    return Verdict(**given, **lists)


def _listed(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _without_braces(pattern: str) -> list[str]:
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [each for word in found[1].split(",") for each in _without_braces(before + word + after)]
