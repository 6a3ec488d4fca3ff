"""What videos were made from, by their own records: the caption and the starting frame, which must be those of every system."""

import base64
import contextlib
import hashlib
import io
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cdcd_video.data.images import as_array
from cdcd_video.errors import UserError, is_text
from cdcd_video.storage.embedded_recipe import read_embedded
from cdcd_video.storage.record_files import MOST_BYTES, record_of
from cdcd_video.storage.small_file import read_small

_PARSE_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Exceptions when a .json file of another program is read."""
_SAME_LEVELS = 16
"""Levels of 255 by which pixels of one picture may differ: other versions decode and resize a photograph slightly differently."""


@dataclass(frozen=True)
class Origin:
    """What the record of a video says."""

    prompt: str
    frame: UInt8[np.ndarray, "H W 3"]
    """At the size of the model."""
    given_sha256: str | None
    """Of the file that was given as the starting frame; None where the record does not say, as the recipe inside of a video."""
    frame_sha256: str
    """Of the frame as the record holds it, a PNG; the frames that a batch keeps are such files, too."""

    def contradicts(self, other: "Origin") -> bool:
        """Whether the two began with different pictures, as far as the records tell.

        Models of different sizes have different frames of one picture. Only frames of one size can be compared themselves;
        others are of one picture if they were made from the same file, or one was made from the other.
        """
        if self.frame.shape == other.frame.shape:
            return int(np.abs(self.frame.astype(np.int16) - other.frame).max(initial=0)) > _SAME_LEVELS
        if self.given_sha256 is None or other.given_sha256 is None:
            return False
        return not {self.given_sha256, self.frame_sha256} & {other.given_sha256, other.frame_sha256}


def origin_of(path: Path) -> Origin | None:
    """Caption and frame from the .json that `inference.py` writes beside a video, or the recipe inside of it, if any.

    Raises:
      UserError: the record beside the video is too large, or a link that leads out of the folder.
    """
    beside = record_of(path)
    content: bytes | str | None = None
    if beside is not None:
        content = read_small(beside, "record", within=path.parent, limit=MOST_BYTES)
    else:
        with contextlib.suppress(UserError):  # one that cannot be read is refused where it is copied
            content = read_embedded(path)
    try:
        made = json.loads(content or "")
        prompt = ", then ".join(sentence for _, sentence in made["text"])
        if not is_text(prompt):
            return None
        png = base64.b64decode(made["frame"]["png_base64"], validate=True)
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            frame = as_array(image)
        own = hashlib.sha256(png).hexdigest()
        return Origin(prompt, frame, _given_sha256(made["frame"], own), own)
    except (*_PARSE_ERRORS, Image.DecompressionBombError):
        return None


def check_alike(name: str, origins: Mapping[str, Origin | None], row: Mapping[str, Any]) -> None:
    """Refuses videos that were made from different things, which raters would compare as if only the systems differed.

    Args:
      name: of the item.
      origins: by system; None where a video has no record.
      row: of the table of prompts. What it names is what raters see, so it is not compared.

    Raises:
      UserError: two systems have different captions or different starting frames.
    """
    known = [(system, origin) for system, origin in origins.items() if origin is not None]
    for (first, one), (second, other) in itertools.combinations(known, 2):
        if "prompt" not in row and one.prompt != other.prompt:
            raise UserError(
                f"{first} and {second} sampled {name} from different captions; compare videos of the same caption, or give"
                " the one that raters shall see in the column prompt of a table: --prompts TABLE"
            )
        if "frame" not in row and one.contradicts(other):
            raise UserError(
                f"{first} and {second} sampled {name} from different starting frames; compare videos of the same frame, or"
                " name the picture that raters shall see in the column frame of a table: --prompts TABLE"
            )


def _given_sha256(frame: Mapping[str, Any], own: str) -> str | None:
    """The hash of the file that was given. A record that holds none has that of its own PNG there, and may have anything."""
    given = frame.get("sha256")
    return given if isinstance(given, str) and len(given) == len(own) and given != own else None
