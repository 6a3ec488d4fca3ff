"""Natural calls in Python: what a user has, and what becomes of a call."""

import dataclasses
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import shapes
import torch

from cdcd_video import ImageToVideo, UserError, Video

PROMPT, OTHER = "the red circle moves right", "the blue square moves up"
SHORT = dict(num_frames=3)
SIDE = 32


@dataclasses.dataclass(frozen=True)
class Refused:
    """A sentence that a call ends with."""

    kind: type[Exception]
    words: str


Call = Callable[[Any], Any]
Outcome = Callable[[Any], Any] | Refused
Table = dict[str, tuple[Call, Outcome]]


def is_video(num_frames: int = 3) -> Outcome:
    return lambda out: isinstance(out, Video) and out.frames.shape == (num_frames, SIDE, SIDE, 3)


def are_videos(count: int) -> Outcome:
    return lambda out: isinstance(out, list) and len(out) == count and all(map(is_video(), out))


def user_error(words: str) -> Refused:
    return Refused(UserError, words)


def type_error(words: str) -> Refused:
    return Refused(TypeError, words)


def no_attribute(words: str) -> Refused:
    return Refused(AttributeError, words)


def frames_in(path: Any) -> int:
    with PIL.Image.open(path) as image:
        return image.n_frames if getattr(image, "is_animated", False) else 1


def is_pipeline(pipe: Any) -> bool:
    return isinstance(pipe, ImageToVideo)


def load(u: Any, *given: Any, **named: Any) -> ImageToVideo:
    return ImageToVideo.from_pretrained(u.folder, *given, **named)


def user_of(model: Path, tmp: Path) -> SimpleNamespace:
    """What a user has: `pipe`, `image` (Pillow), `file`, `tensor`, `video`, `folder` of a model, `tmp`."""
    image = PIL.Image.open("examples/red-circle.png").convert("RGB").resize((SIDE, SIDE))
    image.save(tmp / "x.png")
    pipe = ImageToVideo.from_pretrained(model, "cpu")
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    video = pipe(image, PROMPT, **SHORT)
    return SimpleNamespace(
        pipe=pipe, folder=model, image=image, file=tmp / "x.png", tensor=tensor, video=video, tmp=tmp
    )


def check(call: Call, outcome: Outcome, user: SimpleNamespace) -> None:
    """Holds a call to its outcome, without the checks of types that only tests have; a warning is none."""
    with warnings.catch_warnings(), shapes.unchecked():
        warnings.simplefilter("error")
        if not isinstance(outcome, Refused):
            assert outcome(call(user))
            return
        with pytest.raises(outcome.kind) as told:
            call(user)
    sentence = str(told.value)
    assert type(told.value) is outcome.kind and re.search(outcome.words, sentence), sentence
    assert "\n" not in sentence
