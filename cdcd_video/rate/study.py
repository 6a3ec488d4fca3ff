"""What a study is: its questions, items, videos and checks, as kept in `study.json`."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cdcd_video.errors import UserError
from cdcd_video.storage.small_file import MIB, open_plain, read_small

MAX_BYTES = 16 * MIB
"""Of a `study.json`, which may be a stranger's."""
MOST_SYSTEMS = 64
MEDIA_SUFFIXES = (".mp4", ".webm", ".png")

Kind = Literal["pair", "single"]
Question = Literal["coherence", "relevance", "first_frame"]
QUESTIONS: tuple[Question, ...] = ("coherence", "relevance", "first_frame")
NOISE = "!noise"
"""Stands in for a system's name where frozen noise is shown; no system can be called so."""
SCALE = (1, 2, 3, 4, 5)
"""Answers about a single video; of a pair they are -1 (left), 0 (no difference) and 1 (right)."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+()-]{0,63}")


class Record(BaseModel):
    """Base of what is kept: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Recipe(Record):
    """How a study is made: the options of `make`, or a YAML file."""

    videos: Annotated[dict[str, str], Field(max_length=MOST_SYSTEMS)] = {}
    """Folder of each system, by the system's name."""
    prompts: str | None = None
    """Table of prompts: .tsv, .csv or .jsonl with the columns file, prompt and, if there are pictures, frame."""
    frames_from: str | None = None
    """System whose videos begin with the starting picture itself: their first frame is shown where no table names one."""
    kind: Kind = "pair"
    questions: tuple[Question, ...] = QUESTIONS
    checks: Annotated[int, Field(ge=0, le=100)] = 4
    """Attention checks per rater."""
    repeats: Annotated[int, Field(ge=0, le=100)] = 2
    """Items per rater that are shown twice."""
    tasks_per_rater: Annotated[int, Field(ge=1)] | None = None
    """Videos or pairs per rater, checks and repeats not counted; all of them when not given."""
    title: Annotated[str, Field(max_length=120)] = "Which videos are better?"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of every rater's order and sides."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Recipe":
        _check_names(self.videos, self.questions)
        if self.frames_from is not None and self.frames_from not in self.videos:
            raise ValueError(f"frames_from is {self.frames_from!r}, which is none of the systems")
        return self


def _check_names(systems: Collection[str], questions: Sequence[str]) -> None:
    for name in systems:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a system cannot be called {name!r}; use up to 64 letters, digits, spaces and ._+()-")
    if not questions or len(set(questions)) != len(questions):
        raise ValueError("questions must be some of coherence, relevance and first_frame, each once")


class Item(Record):
    """One prompt, and what each system made of it."""

    name: str
    """What the files are called; scores are matched by it."""
    prompt: str
    frame: str | None
    """The starting picture, as a name in `media`."""
    videos: dict[str, str]
    """Each system's video, as a name in `media`."""
    noise: str | None = None
    """Frozen noise of the same size, where the item serves as an attention check."""


class Media(Record):
    """A file that raters are shown, under a name that says nothing."""

    file: str
    """Within the study's folder."""
    sha256: str
    """Of the file it was made from."""
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """How long the video lasts."""

    @field_validator("file")
    @classmethod
    def _stays_inside(cls, file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or "\\" in file or path.suffix not in MEDIA_SUFFIXES:
            raise ValueError("a file that is shown lies in the study's folder and is a video or a picture")
        return file


class Study(Record):
    """A study, complete: `study.json`."""

    format: Literal[1] = 1
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    """Random; keeps the cookies of studies on one machine apart."""
    title: str
    kind: Kind
    questions: tuple[Question, ...]
    systems: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_SYSTEMS)]
    items: Annotated[tuple[Item, ...], Field(min_length=1)]
    media: dict[str, Media]
    checks: Annotated[int, Field(ge=0, le=100)]
    repeats: Annotated[int, Field(ge=0, le=100)]
    tasks_per_rater: Annotated[int, Field(ge=1)] | None
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    left_out: tuple[str, ...] = ()
    """Items that not every system has."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Study":
        _check_names(self.systems, self.questions)
        if len(set(self.systems)) != len(self.systems) or (self.kind == "pair" and len(self.systems) < 2):
            raise ValueError("every system is there once, and of pairs there are two at least")
        if len({item.name for item in self.items}) != len(self.items):
            raise ValueError("two items have one name")
        for item in self.items:
            if set(item.videos) != set(self.systems):
                raise ValueError(f"the item {item.name} is not there for every system")
            shown = [*item.videos.values(), *filter(None, (item.frame, item.noise))]
            if not all(name in self.media for name in shown):
                raise ValueError(f"the item {item.name} shows what is not in media")
        return self

    @property
    def choices(self) -> tuple[int, ...]:
        """The answers that a question allows."""
        return SCALE if self.kind == "single" else (-1, 0, 1)


def open_study(folder: Path) -> Study:
    """Reads a study.

    Args:
      folder: made by `prepare.make`.

    Raises:
      UserError: there is no study, or it is damaged.
    """
    path = folder / "study.json"
    if not path.exists():
        raise UserError(
            f"there is no study in {folder}; make one: python -m cdcd_video.rate make --study {folder}"
            " --videos NAME=DIR --videos OTHER=DIR --prompts TABLE"
        )
    content = read_small(path, "study", within=folder, limit=MAX_BYTES)
    try:
        return Study.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{path} is damaged at {place or 'its beginning'} ({reason}); make the study again elsewhere"
        ) from error


def media_file(folder: Path, media: Media) -> Path:
    """The path of a file that raters are shown.

    Args:
      folder: the study's.
      media: of the study.

    Raises:
      Unreadable: it is missing, no plain file, or a link that leads out of the folder.
    """
    path = folder / media.file
    open_plain(path, "media", within=folder).close()
    return path
