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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cdcd_video import video
from cdcd_video.config.ranges import check_settings
from cdcd_video.config.shipped_files import named_file
from cdcd_video.config.value_types import Fit
from cdcd_video.config.video_record import SAMPLING, FrameRecord, Record, read_record
from cdcd_video.errors import UserError
from cdcd_video.sampling.captions import CaptionSchedule, parse_captions
from cdcd_video.sampling.given_frame import GivenFrame, given_frame
from cdcd_video.storage.folder_lock import folder_lock
from cdcd_video.storage.free_name import free_name, is_there, numbered
from cdcd_video.storage.memory import check_fits
from cdcd_video.storage.picture_format import check_frames
from cdcd_video.storage.record_files import held_record
from cdcd_video.storage.whole_file import remove_left_parts

NO_FRAME = "no starting frame is given; give an image, or an example: --frame x.png, or --frame red-circle"
NO_CAPTION = 'no caption is given; describe what should happen: --text "the red circle moves right"'
SUFFIXES = (".mp4", ".gif", ".webp")
"""Video files that can be written; see `cdcd_video.video.save`."""
VIEW_PX = 256
"""Small videos are enlarged to about this side."""
_NAME_LETTERS, _NAME_BYTES = 60, 100
"""Limits of each half of a generated name."""


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
    has_recipe: bool = True
    """Whether the video itself carries its record, too."""

    @property
    def negative_prompt(self) -> str:
        """What guidance leads away from, in a video that is reproduced; "" is the empty caption."""
        return (self.again and self.again.negative_prompt) or ""


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
        record: FrameRecord | None = getattr(again, name, None)
        return GivenFrame(record.read(name), record.file, record.sha256) if record else None

    first = picture("frame")
    if first is None:
        raise UserError(NO_FRAME)
    if not again and asked["text"] is None:
        raise UserError(NO_CAPTION)
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
        has_recipe=asked.get("recipe") is not False,
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
            with tempfile.TemporaryFile(dir=target.parent, prefix=f".{target.name}."):
                pass
        record = held.enter_context(held_record(target))
        for one in (target, record, *([path / "frames"] if is_folder else [])):
            remove_left_parts(one.parent, one.name)
        yield Target(target, record, path / "frames" if is_folder else None)


def _is_taken(path: Path) -> bool:
    return is_there(path) or is_there(path.with_suffix(".json"))


def write(
    parts: Iterator[UInt8[np.ndarray, "_ H W 3"]],
    settings: Mapping[str, Any],
    target: Target,
    request: Request,
    last: UInt8[np.ndarray, "H W 3"] | None = None,
    **facts: Any,
) -> list[Path]:
    """Writes a video while it is sampled, its exact frames if the output is a folder, and finally the `.json`.

    Args:
      parts: the video's frames, part after part; frame 0 is the starting frame at the model's size.
      settings: what it is sampled with.
      target: where.
      request: what was asked for.
      last: the last frame that was given, at the model's size; None for none.
      facts: device and threads that were used.

    Returns:
      The paths written.
    """
    begin = next(parts)
    scale = request.scale
    if scale is None:  # .webp is exact unless something else is asked for
        scale = 1 if target.video.suffix.lower() == ".webp" else max(1, VIEW_PX // begin.shape[1])
    check_frames(target.video.suffix, begin.shape[2], begin.shape[1], scale)
    if target.video.suffix.lower() != ".mp4":  # which is written frame after frame
        height, width = begin.shape[1:3]
        held = settings["num_frames"] * height * width * scale**2 * 3
        check_fits(
            held, f"a {target.video.suffix} of this length and scale", "lower --scale or --num-frames, or take .mp4"
        )
    frames = {"frame": FrameRecord.of(begin[0], request.file, request.sha256)}
    if request.last and last is not None:
        frames["last_frame"] = FrameRecord.of(last, request.last.file, request.last.sha256)
    name, checkpoint = target.video.name, request.checkpoint
    record = Record(video=name, checkpoint=checkpoint, **settings, scale=scale, fit=request.fit, **facts, **frames)
    places = [(target.video, scale), *([(target.frames, 1)] if target.frames else [])]
    recipe = record.recipe() if request.has_recipe else ""
    written = video.save_while_sampled(itertools.chain([begin], parts), places, settings["fps"], recipe)
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
