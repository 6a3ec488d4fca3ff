"""What makes two evaluations comparable, as a file: which videos, at what size and rate, and who looks at them.

Settings of the drawing (steps, guidance, temperature) are not here: they belong to the system that is measured, not to
the ruler. Two scores belong in one column only if the hash of their protocols is the same. Imports no torch.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, model_serializer, model_validator

from cdcd_video.config import MAX_CLIPS, Count, FitMode, Section, SizePx, config_file
from cdcd_video.config.fingerprint import saved_config
from cdcd_video.config.ranges import RANGES
from cdcd_video.config.shipped_files import MODELS, named_file
from cdcd_video.config.value_types import OneOrMoreSizes, Size
from cdcd_video.errors import UserError

OWN = "own"
"""The CLIP of the model that is measured."""
DEFINITIONS = {"ssim": "windows within the frame"}
"""Metrics that are worked out in another way than they once were, and how now: part of every protocol's hash, so that
scores of either way never stand in one column."""
SPRITES, DIGITS, TABLE = "sprites", "digits", "table"
"""Data that are no folder: the rendered worlds, and the truths in the table that comes with videos drawn already."""


class Protocol(Section):
    """An evaluation protocol. What is null or `auto` is settled by the data, the model and the weights before it is hashed."""

    data: str = SPRITES
    """sprites, digits (those of the model's config), a folder made by python -m data_prep, or table: the true videos in the
    table of --videos"""
    split: str = "val"
    """split of the data; for sprites also heldout, with pairs of words that never occur in training; of digits val has unseen
    combinations, and train those of training in other clips"""
    num_videos: Annotated[int, Field(ge=1, le=MAX_CLIPS)] = 64
    """number of sampled videos (twice as many with sprites and digits, to evaluate whether captions matter)"""
    scenes: Literal["single", "mirrored_pairs"] = "single"
    """mirrored_pairs: each scene of sprites is followed by its mirror image, with the mirrored sentence; the two count as one
    unit in every interval"""
    num_real: Annotated[int, Field(ge=0, le=MAX_CLIPS)] | None = None
    """number of other real videos that sets are compared with (null: as many as are sampled)"""
    captions_per_video: Count = 1
    """number of captions per clip"""
    num_frames: Annotated[int, Field(ge=2, le=RANGES["num_frames"].high)] = 16
    """number of frames per video, including the given one"""
    stride: Count = 1
    """use every N-th frame of the data"""
    fps: Annotated[float, Field(ge=RANGES["fps"].low, le=10_000)] | None = None
    """frames per second of the data, before the stride (null: as stored; for sprites and digits the model's)"""
    size_px: SizePx | None = None
    """side of the evaluated frames where they are squares; patches and objects of other frames are as large as in such a square
    (null: the model's)"""
    size: OneOrMoreSizes | None = None
    """height x width of the evaluated frames, such as 64x96, or several, each with an equal part of the videos (null: those of
    the prepared clips; of a rendered world squares of size_px, or those of a model that has no square)"""
    resize: Literal["area", "bicubic", "lanczos"] = "area"
    """how frames of another size are resized"""
    mode: FitMode | None = None
    """how frames are made square (null: as the prepared clips, else crop); must agree with the prepared clips"""
    given_frame: Literal["counts", "in_windows", "left_out"] = "in_windows"
    """whether frame 0 counts everywhere, only in windows, or nowhere"""
    storage: Literal["raw", "mp4"] = "raw"
    """mp4: encode all frames with H.264 before the evaluation, as the videos of other models are"""
    frame_network: str = "auto"
    """feature network for fid, kid and is (auto: inception if its weights are present, else sprites-frame)"""
    video_network: str = "auto"
    """feature network for fvd, kvd and video_is (auto: i3d if its weights are present, else sprites-video)"""
    clip: str = "sprites"
    """CLIP for clip_text, clip_first and smoothness: a shipped model, a run, model or CLIP folder, or own, the
    evaluated model's"""
    window: Count = 16
    """number of frames per window of the video network"""
    hop: Count = 8
    """number of frames between the beginnings of two windows"""
    seed: Annotated[int, Field(ge=0)] = 0
    """seed of the scenes, the samples and the intervals"""

    @model_validator(mode="after")
    def _the_parts_fit(self) -> "Protocol":
        odd = [size for size in self.size or () if size.height % 2 or size.width % 2]
        if self.storage == "mp4" and odd:
            raise ValueError(f"size is {odd[0]}, and H.264 wants even sides; take one more or less")
        if self.storage == "mp4" and self.size is None and (self.size_px or 0) % 2:
            raise ValueError(f"size_px is {self.size_px}, and H.264 wants even sizes; take one more or less")
        if self.scenes == "mirrored_pairs" and self.data != SPRITES:
            raise ValueError(f"scenes: mirrored_pairs is for data: {SPRITES} alone; leave it out for {self.data}")
        if self.scenes == "mirrored_pairs" and self.num_videos % 2:
            raise ValueError(f"num_videos is {self.num_videos}, and mirrored pairs need an even number; take one more")
        return self

    @model_serializer(mode="wrap")
    def _squares_as_ever(self, plain: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Without `size` where it is null, so that hash and files of squares are those of earlier versions."""
        values = plain(self)
        return {name: value for name, value in values.items() if name != "size" or value is not None}

    @property
    def square_px(self) -> int:
        """`size_px`, which must be settled."""
        assert self.size_px is not None
        return self.size_px

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Of the evaluated frames; `size_px` must be settled."""
        return self.size or (Size.square(self.square_px),)

    def at(self, sizes: Sequence[Size]) -> "Protocol":
        """The same with these sizes; squares of `size_px` alone are its short form."""
        return self.settled(size=None if tuple(sizes) == (Size.square(self.square_px),) else tuple(sizes))

    @property
    def rate(self) -> float:
        """Frames per second of the videos that are drawn; `fps` must be settled."""
        return self.fps / self.stride

    @property
    def world(self) -> str | None:
        """The rendered world that the data are, as `scores.Metric.world`; None for clips."""
        return self.data if self.data in (SPRITES, DIGITS) else None

    @property
    def first_counted(self) -> int:
        """The first frame that means, sets of frames and figures along the video count."""
        return 0 if self.given_frame == "counts" else 1

    def windows(self) -> list[tuple[int, int]]:
        """First and last frame of each window.

        Raises:
          UserError: the videos are too short for one.
        """
        begin = 1 if self.given_frame == "left_out" else 0
        starts = range(begin, self.num_frames - self.window + 1, self.hop)
        if not starts:
            raise UserError(
                f"videos of {self.num_frames} frames hold no window of {self.window}; set --num-frames to at least"
                f" {begin + self.window}, or a shorter --window if the network can see it"
            )
        return [(start, start + self.window - 1) for start in starts]

    def short_windows(self, length: int | None) -> list[tuple[int, int]]:
        """Shorter windows to follow a video by, where `windows` are only one; none where they move, or `length` is None."""
        whole = self.windows()
        if length is None or len(whole) > 1 or length >= self.window:
            return []
        begin, end = whole[0][0], self.num_frames
        return [(start, start + length - 1) for start in range(begin, end - length + 1, max(1, length // 4))]

    def settled(self, **found: Any) -> "Protocol":
        """The same with what was open filled in."""
        return Protocol.model_validate(self.model_dump() | found)


@dataclass(frozen=True)
class SettledProtocol:
    """A settled protocol and what else its hash rests on."""

    protocol: Protocol
    networks: Mapping[str, str | None]
    """Digest of the weights of the networks of frames and of videos, used or not; None where they are neither here nor
    used. CLIP's stands beside the scores that rest on it: no other score should change when it is trained again."""
    real: str
    """Digest of the real clips, or of the world."""
    clips: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Names of the real clips by what is done with them. For people: names differ from place to place, what `real` hashes does
    not."""

    @property
    def hash(self) -> str:
        """SHA-256 (hex) over canonical JSON, which goes into every score: equal exactly where scores may stand in one column.

        Folders differ from machine to machine, so what lies in them counts and not what they are called.
        """
        rule = self.protocol.model_dump(mode="json")
        rule["data"] = self.protocol.world or "clips"
        if rule["mode"] in (None, "crop"):  # as all were before there was a choice
            del rule["mode"]
        if rule["scenes"] == "single":
            del rule["scenes"]
        rule["clip"] = OWN if self.protocol.clip == OWN else "given"
        for name in ("frame_network", "video_network"):
            kind, _, detail = rule[name].partition(":")
            rule[name] = kind if kind in ("clip", "videomae", "vjepa2") else f"{kind}:{detail}"
        content = {"protocol": rule, "networks": dict(self.networks), "real": self.real, "definitions": DEFINITIONS}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        """Everything, by name, for people to read."""
        weights = {f"weights of {name}": digest for name, digest in self.networks.items()}
        ways = {f"definition of {name}": how for name, how in DEFINITIONS.items()}
        return {"hash": self.hash, **self.protocol.model_dump(mode="json"), **weights, **ways, "real videos": self.real}

    def as_yaml(self) -> str:
        """A file that `--protocol` takes, with what the hash rests on above it."""
        above = {"Protocol": self.hash, "Real videos": self.real}
        above |= {f"Weights of {name}": digest for name, digest in self.networks.items()}
        above |= {f"Definition of {name}": how for name, how in DEFINITIONS.items()}
        told = "".join(f"# {name}: {value}\n" for name, value in above.items())
        below = "".join(f"# {what}: {' '.join(map(repr, names))}\n" for what, names in self.clips.items() if names)
        return told + config_file.dump(self.protocol) + below


def add_flags(parser: argparse.ArgumentParser, default: Path) -> None:
    """`--protocol FILE`, and a flag for each of its fields that overrides the file."""
    parser.add_argument(
        "--protocol",
        type=named_file("configs", "eval"),
        metavar="FILE",
        help=f"evaluation protocol (default: {default.name}, digits.yaml for digits)",
    )
    group = parser.add_argument_group("overrides of the protocol, which change its hash")
    for name, dial in Protocol.model_fields.items():
        group.add_argument(
            f"--{_flag(name)}", help=" ".join(dial.description.split()), **_values_of(name, dial.annotation)
        )


def default_file(folder: Path, checkpoint: str, data: str | None) -> Path:
    """The protocol where none is named: that of the rendered world that a model was trained on.

    Args:
      folder: of the protocols.
      checkpoint: a shipped model, or a model or run folder; one that does not exist is reported when it is loaded.
      data: as named; other data than those of the model have the protocol of sprites.
    """
    places = (MODELS / checkpoint, Path(checkpoint), Path(checkpoint, "model"))
    found = next((place / "config.yaml" for place in places if (place / "config.yaml").is_file()), None)
    is_digits = data in (None, DIGITS) and found is not None and saved_config(found).data.kind == "digits"
    return folder / ("digits.yaml" if is_digits else "sprites.yaml")


def from_flags(args: argparse.Namespace, default: Path) -> Protocol:
    """The protocol of the file that `--protocol` names, with what other flags say.

    Size and rate of the default file are those of the built-in world; where `--data` names clips and no other file is
    named, they are the clips' own.

    Args:
      args: of a parser that has been through `add_flags`.
      default: the file where none is named.

    Raises:
      UserError: the file or a flag is not what it should be.
    """
    read = config_file.load(args.protocol or default, Protocol)
    if args.protocol is None and args.data not in (None, SPRITES, DIGITS, TABLE):
        read = read.settled(size_px=None, fps=None)
    return with_flags(read, {name: getattr(args, name) for name in Protocol.model_fields})


def with_flags(protocol: Protocol, given: Mapping[str, Any]) -> Protocol:
    """The protocol with the values of flags; those that are None were not given.

    Raises:
      UserError: a value is out of range; the flag is named.
    """
    try:
        return protocol.settled(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        mistake = error.errors(include_url=False)[0]
        if not mistake["loc"]:
            raise UserError(str(mistake["ctx"]["error"])) from None
        name, said = _flag(str(mistake["loc"][0])), mistake["msg"].removeprefix("Value error, ")
        raise UserError(f"--{name} is {mistake['input']}: {said[0].lower()}{said[1:]}") from None


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _values_of(name: str, annotation: Any) -> dict[str, Any]:
    """What a flag takes."""
    if name == "size":
        return {"nargs": "+", "metavar": "HEIGHTxWIDTH"}
    kind, choices = _kind_of(annotation)
    return {"choices": choices} if choices else {"type": kind, "metavar": kind.__name__.upper()}


def _kind_of(annotation: Any) -> tuple[type, tuple[str, ...]]:
    """The type of a field's values without its bounds, and the values themselves where they are few."""
    if annotation in (str, int, float):
        return annotation, ()
    parts = get_args(annotation)
    return (str, parts) if isinstance(parts[0], str) else _kind_of(parts[0])
