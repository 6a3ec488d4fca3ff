"""The record of a video: the `.json` beside it, and the recipe inside it. Both reproduce it, bit for bit. Imports no torch."""

import base64
import hashlib
import io
import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from cdcd_video.config.ranges import MAX_CAPTION_CHARACTERS, MAX_CAPTION_FRAME, MAX_CAPTIONS, MAX_SIZE_PX, RANGES
from cdcd_video.config.sampling_params import NEWER, SamplingParams
from cdcd_video.config.value_types import Fit
from cdcd_video.errors import UserError
from cdcd_video.storage.embedded_recipe import read_embedded
from cdcd_video.storage.record_files import MOST_BYTES
from cdcd_video.storage.small_file import read_small

SAMPLING = tuple(SamplingParams.model_fields)
"""Names of the settings."""

Beginning = Annotated[int, Field(ge=0, le=MAX_CAPTION_FRAME)]
Sentence = Annotated[str, Field(max_length=MAX_CAPTION_CHARACTERS)]
CARRIERS = (".mp4", ".gif", ".webp", ".png")
"""Suffixes of files that carry a recipe; every other file is read as a `.json`."""
Pixels = UInt8[np.ndarray, "H W 3"]


class FrameRecord(BaseModel):
    """A given frame in a record."""

    file: str
    """Name of the picture it was made from."""
    sha256: str
    """Hash of that file."""
    png_base64: str
    """The frame at the model's size, exactly."""

    @classmethod
    def of(cls, pixels: Pixels, file: str = "frame.png", sha256: str = "") -> "FrameRecord":
        """The record of a frame; without a file's hash, that of its own png."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        content = buffer.getvalue()
        sha256 = sha256 or hashlib.sha256(content).hexdigest()
        return cls(file=file, sha256=sha256, png_base64=base64.b64encode(content).decode())

    @property
    def pixels(self) -> Pixels:
        """The starting frame; see `read`."""
        return self.read("frame")

    def read(self, name: str) -> Pixels:
        """The frame.

        Args:
          name: of the option that gives such a frame, in words joined by `_`.

        Raises:
          UserError: it is damaged or too large.
        """
        try:
            content = base64.b64decode(self.png_base64, validate=True)
            with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
                if max(image.size) > MAX_SIZE_PX:
                    raise ValueError(
                        f"it is {image.width} x {image.height}, but the maximum is {MAX_SIZE_PX} pixels a side"
                    )
                return np.array(image.convert("RGB"))
        except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            which = "last" if name == "last_frame" else "starting"
            flag = f"--{name.replace('_', '-')}"
            raise UserError(
                f"the {which} frame in the .json is damaged ({error}); give it again: {flag} x.png"
            ) from error

    def without_names(self, file: str) -> dict[str, str]:
        """The record of the frame alone: a video that is handed on does not name the picture it was made from."""
        sha256 = hashlib.sha256(base64.b64decode(self.png_base64)).hexdigest()
        return {"file": file, "sha256": sha256, "png_base64": self.png_base64}


_LATER = (*NEWER, "order", "contrast")
"""Settings that older records do not have."""


def _record_field(name: str, field: FieldInfo) -> tuple[Any, Any]:
    """A setting as a field of a record; required, unless it was introduced later."""
    kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return kind, field.default if name in _LATER else ...


_FIELDS: dict[str, Any] = {name: _record_field(name, field) for name, field in SamplingParams.model_fields.items()}
_Sampling: Any = create_model("_Sampling", **_FIELDS)


class Record(_Sampling):
    """The `.json` beside a video; without the name of the video, the recipe inside it."""

    model_config = ConfigDict(extra="ignore")

    format: Literal[1] = 1
    video: str = ""
    checkpoint: str
    model: str
    model_sha256: str
    clip_stand_in: str | None = None
    """The warning for a model whose CLIP has random weights; None, and left out, for every other."""
    text: Annotated[list[tuple[Beginning, Sentence]], Field(min_length=1, max_length=MAX_CAPTIONS)]
    negative_prompt: Sentence | None = None
    """What guidance leads away from; None, and left out, for the empty caption."""
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

    @property
    def sampling(self) -> dict[str, Any]:
        """The settings by name."""
        return {name: getattr(self, name) for name in SAMPLING}

    def recipe(self) -> str:
        """What the video itself carries, in ASCII: the record without names of files, since videos are handed on."""
        held = self.model_dump(mode="json", exclude={"video"}, exclude_none=True)
        held["frame"] = self.frame.without_names("frame.png")
        if self.last_frame:
            held["last_frame"] = self.last_frame.without_names("last_frame.png")
        if os.path.isabs(self.checkpoint):
            held["checkpoint"] = self.model
        return json.dumps(held, separators=(",", ":"))


def read_record(path: str | os.PathLike[str]) -> Record:
    """Reads the `.json` beside a video, or the recipe that a video, a picture or a folder of frames carries.

    Of a folder that a video was written into as `video.mp4`, it is the `.json` beside that.

    Raises:
      UserError: it is no path, missing, damaged, of another format, carries no recipe, or has a setting out of range.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(
            f"a recipe is read from a path, not from a {type(path).__name__}; give a video file or its .json"
        )
    path = Path(path)
    if (path / "video.json").is_file():
        path = path / "video.json"
    is_video = path.is_dir() or path.suffix.lower() in CARRIERS
    if not is_video:
        return _parsed(
            read_small(path, "the .json of a video", limit=MOST_BYTES), f"{path} is not the .json of a video"
        )
    recipe = read_embedded(path)
    if not recipe or len(recipe) > MOST_BYTES or not recipe.startswith("{"):
        raise UserError(f"{path} carries no recipe; give the .json that was written beside it")
    return _parsed(recipe, f"the recipe in {path} is damaged")


def _parsed(content: str | bytes, fault: str) -> Record:
    try:
        return Record.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{fault} ({place + ': ' if place else ''}{first['msg']})") from error


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
