"""The request of `inference.py`: checked before slow imports, and stored beside the video as a `.json`.

The `.json` holds the starting frame itself, every setting, and the hash of the model, so that the same video can be
reproduced, bit for bit, from this one file and the model.
"""

import hashlib
import itertools
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import UInt8
from pydantic import Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from cdcd_video import video
from cdcd_video.config.ranges import (
    MAX_CAPTION_CHARACTERS,
    MAX_CAPTION_FRAME,
    MAX_CAPTIONS,
    RANGES,
    check_settings,
)
from cdcd_video.config.sampling_params import NEWER, SamplingParams
from cdcd_video.config.shipped_files import named_file
from cdcd_video.config.value_types import Fit
from cdcd_video.errors import UserError
from cdcd_video.sampling.captions import CaptionSchedule, parse_captions
from cdcd_video.sampling.frame_record import FrameRecord, GivenFrame, frame_record, given_frame, recorded_frame
from cdcd_video.storage.folder_lock import folder_lock
from cdcd_video.storage.free_name import free_name, is_there, numbered
from cdcd_video.storage.memory import check_fits
from cdcd_video.storage.record_files import MOST_BYTES, held_record
from cdcd_video.storage.small_file import read_small

SUFFIXES = (".mp4", ".gif", ".webp")
"""Video files that can be written; see `cdcd_video.video.save`."""
VIEW_PX = 256
"""Small videos are enlarged to about this side."""
_NAME_LETTERS, _NAME_BYTES = 60, 100
"""Limits of each half of a generated name."""
SAMPLING = tuple(SamplingParams.model_fields)
"""Names of the settings."""

Beginning = Annotated[int, Field(ge=0, le=MAX_CAPTION_FRAME)]
Sentence = Annotated[str, Field(max_length=MAX_CAPTION_CHARACTERS)]


_LATER = (*NEWER, "order", "contrast")
"""Settings that older records do not have."""


def _record_field(name: str, field: FieldInfo) -> tuple[Any, Any]:
    """A setting as a field of a record; required, unless it was introduced later."""
    kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return kind, field.default if name in _LATER else ...


_Sampling = create_model(
    "_Sampling", **{name: _record_field(name, field) for name, field in SamplingParams.model_fields.items()}
)


class Record(_Sampling, extra="ignore"):
    """The `.json` beside a video."""

    format: Literal[1] = 1
    video: str
    checkpoint: str
    model: str
    model_sha256: str
    clip_stand_in: str | None = None
    """The warning for a model whose CLIP has random weights; None, and left out, for every other."""
    text: Annotated[list[tuple[Beginning, Sentence]], Field(min_length=1, max_length=MAX_CAPTIONS)]
    scale: Annotated[int, RANGES["scale"].field]
    device: str
    threads: Annotated[int, RANGES["threads"].field]
    """CPU threads; the last bits of sums depend on their number."""
    versions: dict[str, str]
    frame: FrameRecord
    last_frame: FrameRecord | None = None
    """None, and left out, where none was given."""
    fit: Fit | None = None
    """How given frames that were no square became one; None, and left out, where it was not asked for."""


@dataclass(frozen=True)
class Request:
    """One video to be sampled."""

    start: UInt8[np.ndarray, "H W 3"]
    """The starting frame as it was given."""
    file: str
    sha256: str
    """Name and hash of the file it came from."""
    captions: CaptionSchedule
    """The captions."""
    checkpoint: str
    device: str
    sampling: dict[str, Any]
    """The settings that were given; the model has its own defaults for the others."""
    scale: int | None
    again: Record | None
    """The record of the video that is to be reproduced."""
    fit: Fit | None = None
    """How frames that are no square become one; None: as the model's training frames did."""
    last: GivenFrame | None = None
    """The frame in which the video ends, as it was given; None for none."""


def read_request(asked: Mapping[str, Any]) -> Request:
    """Builds a request from the command line, and from a `.json` where one is given.

    Args:
      asked: the options of `inference.py` by name; None where an option was not given. What is given goes before what
        the `.json` says.

    Returns:
      The request, with the starting frame read.

    Raises:
      UserError: a file that is missing or cannot be read, no image, no caption or an empty one, a scale out of range.
    """
    again = read_record(Path(asked["from_json"])) if asked["from_json"] else None
    kept = again.model_dump() if again else {}

    def chosen(name: str) -> Any:
        return kept.get(name) if asked[name] is None else asked[name]

    def picture(name: str) -> GivenFrame | None:
        if asked.get(name):
            return given_frame(named_file("examples")(asked[name]))
        record = getattr(again, name, None)
        return recorded_frame(record, name) if record else None

    first = picture("frame")
    if first is None:
        raise UserError("no starting frame is given; give an image: --frame x.png")
    if not again and asked["text"] is None:
        raise UserError('no caption is given; describe what should happen: --text "the red circle moves right"')
    scale = chosen("scale")
    if scale is not None:
        check_settings({"scale": scale})
    return Request(
        first.pixels,
        first.file,
        first.sha256,
        captions=CaptionSchedule.of(again.text) if again and asked["text"] is None else parse_captions(asked["text"]),
        checkpoint=chosen("checkpoint") or "sprites",
        device=chosen("device") or "auto",
        sampling={name: chosen(name) for name in SAMPLING if chosen(name) is not None},
        scale=scale,
        again=again,
        fit=asked.get("fit") or kept.get("fit"),
        last=picture("last_frame"),
    )


@dataclass(frozen=True)
class Target:
    """Paths of the output."""

    video: Path
    json: Path
    frames: Path | None
    """A folder for the exact frames, if the output is a folder."""


@contextmanager
def chosen_target(asked: Mapping[str, Any]) -> Iterator[Target]:
    """Chooses the paths of the output, checks that they can be written, and locks them meanwhile.

    Args:
      asked: the options of `inference.py` by name. `out` is a file with a suffix of `SUFFIXES`, or a folder, which gets
        `video.mp4`, `video.json` and `frames/`: what is there is replaced. None derives a name from the picture and the
        sentence, or from the `.json` that is reproduced, and takes the first that is free.

    Raises:
      UserError: the suffix is not known, the place cannot be written, or another process is writing there.
    """
    out = asked["out"] or _default_out(asked)
    path = Path(out)
    with video.refused_by_disk(path):
        is_folder = path.is_dir() or path.suffix == "" or out.endswith("/")
    if not is_folder and path.suffix.lower() not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise UserError(f"cannot write a video as {path.suffix!r} ({out}); use {known}, or a folder: {out}/")
    with ExitStack() as held:
        if asked["out"]:
            held.enter_context(folder_lock(path))
        else:
            path = held.enter_context(free_name(numbered(path), _is_taken))
        target = path / "video.mp4" if is_folder else path
        if is_folder:  # another process may have been given the file by its own name
            held.enter_context(folder_lock(target))
        with video.refused_by_disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=target.parent):
                pass
        record = held.enter_context(held_record(target))
        yield Target(target, record, path / "frames" if is_folder else None)


def _is_taken(path: Path) -> bool:
    return is_there(path) or is_there(path.with_suffix(".json"))


def differences(
    again: Record | None, made_with: Mapping[str, Any], earlier: Callable[[], Collection[str]] = frozenset
) -> list[str]:
    """Differences that may change the bits of a reproduced video.

    Args:
      again: the record of the first video, if there is one.
      made_with: model_sha256, device, threads and versions of this run.
      earlier: gives the digests of this model in older records; called only where the hashes differ.

    Returns:
      Notes, one sentence each.

    Raises:
      UserError: it is another model.
    """
    if again is None:
        return []
    if made_with["model_sha256"] != again.model_sha256 and again.model_sha256 not in earlier():
        raise UserError(
            f"the checkpoint's sha256 begins with {made_with['model_sha256'][:12]}, but the .json was made with"
            f" {again.model_sha256[:12]} ({again.checkpoint}); give that model with --checkpoint"
        )
    before = {**again.versions, "device": again.device, "threads": again.threads}
    now = {**made_with["versions"], "device": made_with["device"], "threads": made_with["threads"]}
    return [
        f"sampled with {name} {before.get(name)} before, and with {value} now; the last bits may differ"
        for name, value in now.items()
        if before.get(name) != value
    ]


def read_record(path: Path) -> Record:
    """Reads the `.json` beside a video.

    Raises:
      UserError: it is missing, not a regular file, damaged, of another format, or has a setting out of range.
    """
    content = read_small(path, "the .json of a video", limit=MOST_BYTES)
    try:
        return Record.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{path} is not the .json of a video ({place + ': ' if place else ''}{first['msg']})"
        ) from error


def write(
    parts: Iterator[UInt8[np.ndarray, "_ H W 3"]],
    settings: Mapping[str, Any],
    target: Target,
    request: Request,
    **facts: Any,
) -> list[Path]:
    """Writes a video while it is sampled, its exact frames if the output is a folder, and finally the `.json`.

    Args:
      parts: the video's frames, part after part; frame 0 is the starting frame at the model's size.
      settings: what it is sampled with.
      target: where.
      request: what was asked for.
      facts: device and threads that were used.

    Returns:
      The paths written.
    """
    begin = next(parts)
    scale = request.scale
    if scale is None:  # .webp is exact unless something else is asked for
        scale = 1 if target.video.suffix.lower() == ".webp" else max(1, VIEW_PX // begin.shape[1])
    if target.video.suffix.lower() != ".mp4":  # which is written frame after frame
        height, width = begin.shape[1:3]
        held = settings["num_frames"] * height * width * scale**2 * 3
        check_fits(
            held, f"a {target.video.suffix} of this length and scale", "lower --scale or --num-frames, or take .mp4"
        )
    frames = {"frame": frame_record(begin[0], request.file, request.sha256)}
    ends = [begin[-1]]  # of the parts so far; a given last frame is the last of all, at the model's size

    def watched() -> Iterator[UInt8[np.ndarray, "_ H W 3"]]:
        for part in itertools.chain([begin], parts):
            ends[0] = part[-1]
            yield part

    places = [(target.video, scale), *([(target.frames, 1)] if target.frames else [])]
    written = video.save_while_sampled(watched(), places, settings["fps"])
    if request.last:
        frames["last_frame"] = frame_record(ends[0], request.last.file, request.last.sha256)
    name, checkpoint = target.video.name, request.checkpoint
    record = Record(video=name, checkpoint=checkpoint, **settings, scale=scale, fit=request.fit, **facts, **frames)
    with video.whole_file(target.json) as part:
        part.write_text(record.model_dump_json(indent=1, exclude_none=True) + "\n", encoding="utf-8")
    return [*written, target.json]


def _default_out(asked: Mapping[str, Any]) -> str:
    if asked["from_json"]:
        first = Path(asked["from_json"])
        stem = Path(first.stem).stem if Path(first.stem).suffix.lower() in SUFFIXES else first.stem
        return str(first.with_name(f"{_shortened(stem)}-again.mp4"))
    return f"out/{_shortened(Path(asked['frame']).stem)}-{_slug(' '.join(asked['text']))}.mp4"


def _slug(sentence: str) -> str:
    """A caption as part of a file name: lower-case letters and digits of any script, with hyphens between words.

    One without any of them, such as emoji alone, is called by its hash.
    """
    folded = unicodedata.normalize("NFC", sentence.casefold())
    # Letters, the marks that belong to them (vowels of Hindi, Thai, Arabic), and numbers.
    kept = "".join(letter if unicodedata.category(letter)[0] in "LMN" else "-" for letter in folded)
    words = _shortened(re.sub("-+", "-", kept).strip("-"), _NAME_LETTERS).rstrip("-")
    return words or f"video-{hashlib.sha256(sentence.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _shortened(text: str, most: int = _NAME_BYTES) -> str:
    """Shortens a name to what fits: file systems count bytes, and allow 255 for the whole name."""
    text = text[:most]
    while len(os.fsencode(text)) > _NAME_BYTES:
        text = text[:-1]
    return text
