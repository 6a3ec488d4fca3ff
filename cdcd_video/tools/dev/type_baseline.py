"""Types, as `make types` checks them: no error in the packages of `CLEAN`, and elsewhere no more than a baseline allows.

The baseline, tests/type_baseline.json, may only shrink. A count that shrank is reported too, until `--update` has written the
smaller number down. Counts depend on Python and on the versions in `VERSIONS`; with others only the packages of `CLEAN` are held.
"""

import collections
import importlib.metadata
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError, exit_code
from cdcd_video.tools.dev import baseline

CLEAN = (
    *("baselines", "config", "contrast", "contrast_terms", "data", "diffusion", "engine", "model"),
    *("networks", "objective", "pipeline", "sampling", "storage", "training"),
)
"""Packages and modules of cdcd_video without a type error, whatever the versions."""
VERSIONS = ("mypy", "numpy", "torch")
"""Distributions whose types the counts depend on."""
COMMAND = "python -m cdcd_video.tools.dev.type_baseline"
ROOT = Path(__file__).resolve().parents[3]
BASELINE = ROOT / "tests" / "type_baseline.json"

_ERROR = re.compile(r"cdcd_video[/\\](\w+)[\w/\\]*\.py:\d+: error: ")


def count_errors(lines: Sequence[str]) -> dict[str, int]:
    """Errors by the package, or the module, directly below cdcd_video.

    Args:
      lines: the output of mypy.
    """
    found = (_ERROR.match(line) for line in lines)
    return dict(collections.Counter(match[1] for match in found if match))


def verdict(found: Mapping[str, int], allowed: Mapping[str, int], *, same_versions: bool = True) -> list[str]:
    """One sentence for each reason why the check fails; empty where it passes.

    Args:
      found: errors by package.
      allowed: the baseline.
      same_versions: whether the baseline was counted with the versions at hand.
    """
    grown, shrunk = baseline.changes(found, allowed)
    sentences = []
    for name, more in grown.items():
        if name in CLEAN:
            sentences.append(f"cdcd_video/{name} has {found[name]} type errors and must have none; fix them.")
        elif same_versions:
            sentences.append(
                f"cdcd_video/{name} has {found[name]} type errors, {more} more than the baseline allows; fix the new ones."
            )
    if same_versions and shrunk:
        fewer = ", ".join(f"{name} by {value}" for name, value in shrunk.items())
        sentences.append(f"The type errors shrank ({fewer}); write that down: {COMMAND} --update")
    return sentences


def updated(found: Mapping[str, int], allowed: Mapping[str, int]) -> dict[str, int]:
    """The baseline after `--update`.

    Raises:
      UserError: a count would grow.
    """
    grown, _ = baseline.changes(found, allowed)
    if grown:
        raise UserError(
            f"the type errors of {', '.join(grown)} grew, and the baseline may only shrink; fix the new ones first"
        )
    return dict(found)


def versions() -> dict[str, str]:
    """Major and minor version of Python and of each distribution of `VERSIONS`.

    Raises:
      UserError: one of them is not installed.
    """
    try:
        known = {name: importlib.metadata.version(name) for name in VERSIONS}
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(f"{error.name} is not installed; make setup installs it") from None
    known["python"] = platform.python_version()
    return {name: ".".join(version.split(".")[:2]) for name, version in known.items()}


def run_mypy() -> list[str]:
    """The lines that mypy prints about the package, with the settings in pyproject.toml.

    Raises:
      UserError: mypy ended before it had checked everything.
    """
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise UserError(f"mypy could not check the package ({reason[0]}); run it by hand: python -m mypy")
    return done.stdout.splitlines()


def main() -> int:
    parser = OptionParser(prog=COMMAND, description=__doc__.splitlines()[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--update", action="store_true", help="write smaller counts into the baseline")
    choice.add_argument("--anew", action="store_true", help="write the counts as they are, after a change of versions")
    args = parser.parse_args()
    known = {"errors": {}, "versions": {}} if args.anew and not BASELINE.exists() else baseline.read(BASELINE)
    here, lines = versions(), run_mypy()
    found, allowed = count_errors(lines), known["errors"]
    if args.update or args.anew:
        errors = found if args.anew else updated(found, allowed)
        baseline.write(BASELINE, {"errors": errors, "versions": here})
        sys.stdout.write(f"{sum(errors.values())} type errors are allowed; see tests/{BASELINE.name}\n")
        return 0
    is_same = known["versions"] == here
    grown = baseline.changes(found, allowed)[0]
    shown = [line for line in lines if (match := _ERROR.match(line)) and match[1] in grown]
    sentences = verdict(found, allowed, same_versions=is_same)
    if sentences:
        sys.stdout.write("\n".join([*shown, *sentences, ""]))
        return 1
    if not is_same:
        sys.stdout.write(f"Held to no error: {', '.join(CLEAN)}; the baseline was counted with {known['versions']}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
