"""The words of the field in identifiers: names that use the older dialect are counted, and may only become fewer.

The table of words is the glossary of CONTRIBUTING.md. `python -m cdcd_video.tools.dev.glossary --update` writes smaller counts
into tests/dialect_baseline.json.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError, exit_code
from cdcd_video.tools.dev import baseline

COMMAND = "python -m cdcd_video.tools.dev.glossary"
ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "CONTRIBUTING.md"
BASELINE = ROOT / "tests" / "dialect_baseline.json"

_ROW = re.compile(r"\| ((?:`\w+` ?)+)\| ([^|]+) \|")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def replacements(page: str) -> dict[str, str]:
    """Word of the dialect -> what to say instead, from the section "Glossary" of a page.

    Raises:
      UserError: the page has no such table.
    """
    _, _, section = page.partition("\n## Glossary\n")
    rows = (_ROW.match(line) for line in section.splitlines())
    found = {word: row[2].replace("`", "") for row in rows if row for word in re.findall(r"\w+", row[1])}
    if not found:
        raise UserError(f"{PAGE.name} has no table of words in its section Glossary; restore it")
    return found


def parts_of(identifier: str) -> list[str]:
    """The words of an identifier in small letters: `sample_videos` and `SampleVideos` are both sample, videos."""
    return [part.lower() for part in _PART.findall(identifier)]


def defined_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names that a file defines, and their lines: classes, functions, arguments, attributes and constants; no local names."""
    yield from _assigned(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            yield node.name, node.lineno
        if isinstance(node, _FUNCTIONS):
            given = node.args
            known = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            yield from ((one.arg, one.lineno) for one in known if one is not None)
        elif isinstance(node, ast.ClassDef):
            yield from _assigned(node.body)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, int]]:
    for statement in body:
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        for target in targets:
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            yield from ((part.id, part.lineno) for part in parts if isinstance(part, ast.Name))


def in_dialect(package: Path, words: Mapping[str, str]) -> dict[str, list[str]]:
    """Identifiers of a package with a word of the dialect -> where each is defined, FILE:LINE.

    Args:
      package: its folder.
      words: as `replacements` gives them.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package.parent).as_posix()
        text = path.read_text(encoding="utf-8")
        names = [(path.stem, 1), *defined_names(ast.parse(text))]
        for name, line in names:
            if any(part in words for part in parts_of(name)):
                found.setdefault(name, []).append(f"{place}:{line}")
    return found


def verdict(found: Mapping[str, list[str]], allowed: Mapping[str, int], words: Mapping[str, str]) -> list[str]:
    """One sentence for each reason why the test fails; empty where it passes.

    Args:
      found: as `in_dialect` gives it.
      allowed: the baseline, identifier -> how often it may be defined.
      words: as `replacements` gives them.
    """
    grown, shrunk = baseline.changes({name: len(places) for name, places in found.items()}, allowed)
    sentences = []
    for name in grown:
        word = next(part for part in parts_of(name) if part in words)
        places = ", ".join(found[name][:5])
        sentences.append(f"The name {name} ({places}) uses the word {word}; say {words[word]} instead.")
    if shrunk:
        sentences.append(f"{sum(shrunk.values())} names in the dialect are gone; write that down: {COMMAND} --update")
    return sentences


def main() -> int:
    parser = OptionParser(prog=COMMAND, description=__doc__.splitlines()[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--update", action="store_true", help="write smaller counts into the baseline")
    choice.add_argument(
        "--anew", action="store_true", help="write the counts as they are, after a change of the glossary"
    )
    args = parser.parse_args()
    words = replacements(PAGE.read_text(encoding="utf-8"))
    found = in_dialect(ROOT / "cdcd_video", words)
    allowed = {} if args.anew else baseline.read(BASELINE)
    sentences = [] if args.anew else verdict(found, allowed, words)
    if args.update or args.anew:
        if any(sentence.startswith("The name ") for sentence in sentences):
            raise UserError("; ".join(sentences[:5]))
        baseline.write(BASELINE, {name: len(places) for name, places in found.items()})
        return 0
    sys.stdout.write("".join(f"{sentence}\n" for sentence in sentences))
    return 1 if sentences else 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
