"""Results of evaluate.py, tools.bars, tools.action_scores and tools.open_future in one small form, for the page of benchmarks."""

import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from cdcd_video.errors import UserError
from cdcd_video.metrics.scores import Score
from cdcd_video.metrics.statistics import saved_evaluation
from cdcd_video.storage.small_file import read_small_json
from cdcd_video.video import whole_file

ACTIONS, OPEN = "scores.json", "open_future.json"
"""Files of `tools.action_scores` and `tools.open_future`."""
Kind = Literal["evaluate", "action_scores", "open_future"]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table: one score of every system."""

    title: str
    metric: str
    group: str = "all"


OTHER_CAPTION = ("sentence=changed", "sentence=swapped")
"""Groups of videos that are sampled, or only measured, with another caption of the same first frame."""
COLUMNS = (
    Column("one object right", "all_right", "objects=1"),
    Column("both objects right", "all_right", "objects=2"),
    Column("other caption followed", "does_right_thing", "sentence=changed"),
    Column("identity (IoU)", "identity_iou"),
    Column("all digits right", "digits_right"),
    Column("motions exchanged, both right", "digits_right", "sentence=swapped"),
    Column("digit's identity", "digit_identity"),
    Column("PSNR", "psnr"),
    Column("SSIM", "ssim"),
    Column("motion (1 is right)", "motion_ratio"),
)
"""Of evaluations, as far as they were measured."""
SYSTEMS = ("model", "sentence-ignored", "copy-first", "codec-ceiling")
"""Of evaluations. `sentence-ignored` is the videos of the model, measured by another caption than they were sampled with."""
OPEN_UNITS = {"right": "share", "diversity": "ratio", "edges": "ratio", "identity_last": "ratio"}


class Result(BaseModel):
    """A model with its controls under one protocol, and what the figures came from."""

    kind: Kind
    world: str
    protocol: str
    """In words; results of one world and protocol share a table."""
    model: str
    model_sha256: str
    baseline: str | None = None
    seed: int
    command: str
    commit: str
    dirty: bool | str
    machine: dict[str, Any]
    scores: list[Score]

    @property
    def file_name(self) -> str:
        """The same for results of the same model, kind and protocol, so that a new one replaces the old one."""
        words = f"{self.world} {self.kind} {self.protocol} {self.model_sha256[:8]}"
        return "-".join("".join(letter if letter.isalnum() else " " for letter in words.lower()).split()) + ".json"


def results_in(folder: Path) -> list[Result]:
    """The results in the output folder of a tool, or in the folders in it, as `tools.bars` writes them.

    Raises:
      UserError: there are none, a file is damaged, or it does not say what it came from.
    """
    places = [folder, *sorted(path for path in folder.glob("*") if path.is_dir())]
    found = [result for place in places for result in _of_folder(place)]
    if not found:
        raise UserError(
            f"{folder} has no results; name an output folder of evaluate.py, tools.bars, tools.action_scores or"
            " tools.open_future"
        )
    return found


def _of_folder(folder: Path) -> Iterator[Result]:
    readers = {saved_evaluation.SCORES: _evaluation, ACTIONS: _action_scores, OPEN: _open_future}
    for name, reader in readers.items():
        if (folder / name).is_file():
            try:
                yield reader(folder)
            except (KeyError, TypeError, ValidationError) as error:
                raise UserError(f"{folder / name} lacks what the page needs ({_what(error)}); measure again") from error


def _what(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


def _evaluation(folder: Path) -> Result:
    read = saved_evaluation.read(folder)
    facts, rules = read.scores[0], read.protocol
    columns = {(column.metric, column.group) for column in COLUMNS}
    scores = []
    for line in read.scores:
        if line.get("frame") is not None or line.get("window") is not None:
            continue
        row, group = line["row"], line["group"]
        if group in OTHER_CAPTION:
            row = {"counterfactual": "model", "sentence-ignored": row}.get(row, "")
        if row in SYSTEMS and (line["metric"], group) in columns:
            scores.append(_score(line | {"row": row}))
    words = (
        f"{rules['num_videos']} videos of {rules['num_frames']} frames, {rules['fps'] / rules['stride']:g} per second"
    )
    words += f", split {rules['split']}"
    if sizes := rules.get("size"):  # left out where frames are squares
        words += f", frames of {' and '.join([sizes] if isinstance(sizes, str) else sizes)}"
    cost = read_small_json(folder / saved_evaluation.COST, "command, commit and machine of an evaluation")
    origin = _origin(cost, facts["checkpoint"], facts)
    return Result(kind="evaluate", world=PurePath(facts["data"]).name, protocol=words, scores=scores, **origin)


def _action_scores(folder: Path) -> Result:
    found = read_small_json(folder / ACTIONS, "scores of tools.action_scores")
    scores = [
        _score(
            {**one, "row": one["system"], "group": one["set"], "counted": "videos", "unit": "share", "better": "higher"}
        )
        for one in found["scores"]
    ]
    words = f"sentences of other actions, {found['sampling']['num_frames']} frames, split {found['split']}"
    origin = _origin(found, found["model"], found)
    return Result(kind="action_scores", world=found["data"], protocol=words, scores=scores, **origin)


def _open_future(folder: Path) -> Result:
    found = read_small_json(folder / OPEN, "result of tools.open_future")
    scores = []
    for row in found["rows"]:
        name = row["system"] if row["num_steps"] is None else f"{row['system']}, {row['num_steps']} steps"
        for metric, unit in OPEN_UNITS.items():
            ends = dict(zip(("value", "low", "high"), row[metric], strict=True))
            more = {"n": found["num_starts"], "counted": "first frames", "unit": unit, "better": "real"}
            scores.append(_score({"metric": metric, "row": name, **ends, **more}))
    words = f"captions without a direction, {found['num_samples']} videos of each of {found['num_starts']} first frames"
    origin = _origin(found, found["checkpoint"], found["params"] | {"model_sha256": found["model_sha256"]})
    return Result(kind="open_future", world="sprites", protocol=words, scores=scores, **origin)


def _score(line: Mapping[str, Any]) -> Score:
    return Score(**{one.name: line[one.name] for one in dataclasses.fields(Score) if one.name in line})


def _origin(cost: Mapping[str, Any], model: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a result that say where it came from; of paths on one machine only the name is left."""
    words = [PurePath(word).name if PurePath(word).is_absolute() else word for word in shlex.split(cost["command"])]
    if words[0].endswith(".py"):
        words.insert(0, "python")
    return {
        "model": PurePath(model).name,
        "command": shlex.join(words),
        **{name: cost[name] for name in ("commit", "dirty", "machine")},
        **{name: facts.get(name) for name in ("model_sha256", "baseline", "seed")},
    }


def write_result(result: Result, folder: Path) -> Path:
    """Writes a result into the folder of results and returns its path."""
    with whole_file(folder / result.file_name) as part:
        part.write_text(json.dumps(result.model_dump(mode="json", exclude_defaults=True), indent=1) + "\n")
    return folder / result.file_name


def read_results(folder: Path) -> list[Result]:
    """All results of a folder, by name.

    Raises:
      UserError: one is damaged.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(Result.model_validate(read_small_json(path, "a result of the page of benchmarks")))
        except ValidationError as error:
            raise UserError(f"{path} is damaged ({_what(error)}); delete it, and add the result again") from error
    return found
