"""Reads the folder of an evaluation (scores, sums per video, protocol), and checks that two have the same protocol."""

import dataclasses
import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cdcd_video.config import strict_yaml
from cdcd_video.config.wording import command_name
from cdcd_video.errors import UserError
from cdcd_video.storage.small_file import MIB, Missing, Unreadable, read_small_text

SCORES, VIDEOS, PROTOCOL, COST = "scores.jsonl", "per_video.jsonl", "protocol.yaml", "cost.json"
"""Files of an evaluation."""
_NAMES = ("row", "group", "metric", "features")
"""Fields that identify a score; most have no network."""
_MOST_FIELDS = 3
_MOST_BYTES = 1024 * MIB
"""Largest file of scores or videos."""


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """The content of the folder of one evaluation."""

    folder: Path
    protocol: dict[str, Any]
    protocol_hash: str | None
    scores: list[dict[str, Any]]
    videos: dict[str, dict[str, tuple[float, float]]]
    """Of the model, by metric and clip: total and weight. Videos of one clip are not independent, so they count as one."""

    @functools.cached_property
    def by_key(self) -> dict[tuple[str, str, str, str | None], list[dict[str, Any]]]:
        """The scores by row, group, metric and network: of whole videos, and along them."""
        found: dict[tuple[str, str, str, str | None], list[dict[str, Any]]] = {}
        for score in self.scores:
            key = score["row"], score.get("group", "all"), score["metric"], score.get("features")
            found.setdefault(key, []).append(score)
        return found


def read(folder: Path) -> Evaluated:
    """Reads what `evaluate.py --out FOLDER` wrote.

    Raises:
      UserError: a file is missing or damaged, or its scores have two protocols.
    """
    scores = list(_lines_of(folder / SCORES, ("metric", "row")))
    if not scores:
        raise UserError(f"{folder / SCORES} is empty; run {command_name('evaluate')} --out {folder} again")
    path = folder / PROTOCOL
    try:
        protocol = strict_yaml.parse(read_small_text(path), str(path))
    except Missing:
        protocol = {}
    except UserError as error:
        raise UserError(f"{str(error).rstrip('.')}; run {command_name('evaluate')} --out {folder} again") from None
    if not isinstance(protocol, dict):
        raise UserError(f"{path} is damaged; run {command_name('evaluate')} --out {folder} again")
    hashes = {score.get("protocol") for score in scores}
    if len(hashes) > 1:
        raise UserError(f"{folder / SCORES} mixes two protocols; run {command_name('evaluate')} --out {folder} again")
    videos: dict[str, dict[str, tuple[float, float]]] = {}
    if (folder / VIDEOS).exists():
        for line in _lines_of(folder / VIDEOS, ("metric", "row", "video")):
            total, weight = number(line.get("total")), number(line.get("weight"))
            if line["row"] == "model" and line.get("frame") is None and None not in (total, weight):
                of_metric, clip = videos.setdefault(line["metric"], {}), str(line.get("clip") or line["video"])
                before = of_metric.get(clip, (0.0, 0.0))
                of_metric[clip] = before[0] + total, before[1] + weight
    return Evaluated(folder, protocol, next(iter(hashes)), scores, videos)


def _lines_of(path: Path, needed: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        text = read_small_text(path, limit=_MOST_BYTES)
    except Unreadable as error:
        raise UserError(f"{path} {error.reason}; name a folder that {command_name('evaluate')} wrote") from None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = json.loads(line)
            missing = [name for name in needed if entry[name] is None]
            missing += [name for name in _NAMES if not isinstance(entry.get(name), str | None)]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            missing = ["use"]
        if missing:
            raise UserError(f"line {number} of {path} is damaged; run {command_name('evaluate')} again")
        yield entry


def check_alike(first: Evaluated, other: Evaluated) -> None:
    """Checks that two evaluations can be compared.

    Raises:
      UserError: the protocols differ (it names the first fields), or the weights of a network.
    """
    ours, theirs = dict(_fields(first.protocol)), dict(_fields(other.protocol))
    differing = [name for name in dict.fromkeys([*ours, *theirs]) if ours.get(name) != theirs.get(name)]
    is_alike = first.protocol_hash == other.protocol_hash and (first.protocol_hash is not None or not differing)
    if not is_alike:  # with equal hashes the difference does not matter, such as the path of the same clips
        differences = [
            f"{name} is {_value(theirs, name)} instead of {_value(ours, name)}" for name in differing[:_MOST_FIELDS]
        ]
        differences += [f"and {len(differing) - _MOST_FIELDS} more"] if len(differing) > _MOST_FIELDS else []
        reason = (
            ", ".join(differences)
            or f"other weights, other real videos or another definition of a metric (see the first lines of both {PROTOCOL})"
        )
        raise UserError(
            f"{other.folder} and {first.folder} have different protocols: {reason}; evaluate both under one --protocol"
        )
    digests = {(score["metric"], score["features"]): score.get("features_sha256") for score in _networked(first)}
    for score in _networked(other):
        digest = digests.get((score["metric"], score["features"]), score.get("features_sha256"))
        if digest != score.get("features_sha256"):
            raise UserError(
                f"{other.folder} and {first.folder} used different weights of {score['features']} for {score['metric']}"
                " (features_sha256); evaluate both with the same file"
            )


def _networked(run: Evaluated) -> Iterator[dict[str, Any]]:
    return (score for score in run.scores if score.get("features"))


def _fields(protocol: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in protocol.items():
        if isinstance(value, Mapping) and value:
            yield from _fields(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _value(fields: Mapping[str, Any], name: str) -> str:
    text = json.dumps(fields[name], default=str) if name in fields else "missing"
    return text if len(text) <= 40 else f"{text[:37]}..."


def number(value: Any) -> float | None:
    """A finite number of a file, or None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None
