"""The content of a study: questions, items, videos and checks, as stored in `study.json`."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cdcd_video.errors import UserError
from cdcd_video.storage.small_file import MIB, open_plain, read_small

MAX_BYTES = 16 * MIB
"""Largest size of a `study.json`, which is not trusted."""
MOST_SYSTEMS = 64
MEDIA_SUFFIXES = (".mp4", ".webm", ".png")

Kind = Literal["pair", "single"]
Question = Literal["coherence", "relevance", "first_frame"]
QUESTIONS: tuple[Question, ...] = ("coherence", "relevance", "first_frame")
NOISE = "!noise"
"""The system of frozen noise in attention checks; not a valid name for other systems."""
SCALE = (1, 2, 3, 4, 5)
"""Answers for a single video; for a pair they are -1 (left), 0 (no difference) and 1 (right)."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+()-]{0,63}")


class Record(BaseModel):
    """Base of stored records: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Recipe(Record):
    """The options of a study, from the command line or a YAML file."""

    videos: Annotated[dict[str, str], Field(max_length=MOST_SYSTEMS)] = {}
    """Folder of each system, by the system's name."""
    prompts: str | None = None
    """Table of prompts: .tsv, .csv or .jsonl with the columns file, prompt and optionally frame."""
    frames_from: str | None = None
    """System whose videos begin with the given first frame; it is shown where no table names a picture."""
    kind: Kind = "pair"
    questions: tuple[Question, ...] = QUESTIONS
    checks: Annotated[int, Field(ge=0, le=100)] = 4
    """Attention checks per rater."""
    repeats: Annotated[int, Field(ge=0, le=100)] = 2
    """Items per rater that are repeated."""
    tasks_per_rater: Annotated[int, Field(ge=1)] | None = None
    """Videos or pairs per rater, without checks and repeats; all if not given."""
    title: Annotated[str, Field(max_length=120)] = "Which videos are better?"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the order and sides of every rater."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Recipe":
        _check_names(self.videos, self.questions)
        if self.frames_from is not None and self.frames_from not in self.videos:
            raise ValueError(f"frames_from is {self.frames_from!r}, which is not one of the systems")
        return self


def _check_names(systems: Collection[str], questions: Sequence[str]) -> None:
    for name in systems:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a system is named {name!r}; use up to 64 letters, digits, spaces and ._+()-")
    if not questions or len(set(questions)) != len(questions):
        raise ValueError("questions must be one or more of coherence, relevance and first_frame, each once")


class Item(Record):
    """One prompt, and the video of each system."""

    name: str
    """The name of the files; automatic scores are matched by it."""
    prompt: str
    frame: str | None
    """The given first frame, as a name in `media`."""
    videos: dict[str, str]
    """Each system's video, as a name in `media`."""
    noise: str | None = None
    """Frozen noise of the same size, for items with an attention check."""


class Media(Record):
    """A file for raters, under a random name."""

    file: str
    """Path in the folder of the study."""
    sha256: str
    """Digest of the original file."""
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Duration of the video."""

    @field_validator("file")
    @classmethod
    def _stays_inside(cls, file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or "\\" in file or path.suffix not in MEDIA_SUFFIXES:
            raise ValueError("a media file must be a video or a picture in the folder of the study")
        return file


class Study(Record):
    """A complete study: `study.json`."""

    format: Literal[1] = 1
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    """Random; separates the cookies of studies on one machine."""
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
    """Items for which a system has no video."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Study":
        _check_names(self.systems, self.questions)
        if len(set(self.systems)) != len(self.systems) or (self.kind == "pair" and len(self.systems) < 2):
            raise ValueError("system names must be unique, and pairs need at least two systems")
        if len({item.name for item in self.items}) != len(self.items):
            raise ValueError("two items have the same name")
        for item in self.items:
            if set(item.videos) != set(self.systems):
                raise ValueError(f"the item {item.name} must have one video of every system")
            files = [*item.videos.values(), *filter(None, (item.frame, item.noise))]
            if not all(name in self.media for name in files):
                raise ValueError(f"the item {item.name} uses a file that is not in media")
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
            f"{path} is damaged at {place or 'its beginning'} ({reason}); make the study again in another folder"
        ) from error


def media_file(folder: Path, media: Media) -> Path:
    """The path of a media file.

    Args:
      folder: of the study.
      media: of the study.

    Raises:
      Unreadable: it is missing, not a regular file, or a link out of the folder.
    """
    path = folder / media.file
    open_plain(path, "media", within=folder).close()
    return path
