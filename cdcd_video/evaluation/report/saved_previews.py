"""The first videos of an evaluation as previews, kept beside its scores so that a comparison can show them.

A preview is one picture that holds all frames side by side. A page that shows one frame of each at a time keeps any number of
videos exactly in step.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cdcd_video.errors import UserError
from cdcd_video.evaluation.report import plots
from cdcd_video.metrics.suite import Example
from cdcd_video.storage.small_file import MIB, Missing, read_small_json
from cdcd_video.video import whole_file

FILE = "previews.json"
MODEL, TRUTH = "model", "truth"
_MOST_BYTES = 64 * MIB
_PICTURE = re.compile(r"data:image/webp;base64,[A-Za-z0-9+/]+=*")


@dataclass(frozen=True)
class Preview:
    """One video, as previews by system.

    Attributes:
      name: of the video, by which evaluations are matched.
      caption: it was sampled from.
      num_frames: of each preview.
      fps: at which they are shown.
      pictures: of `MODEL`, and of `TRUTH` where it is known, as data URLs.
    """

    name: str
    caption: str
    num_frames: int
    fps: float
    pictures: dict[str, str] = field(default_factory=dict)


def write_previews(examples: Sequence[Example], fps: float, path: Path) -> Path:
    """Writes the examples that were not chosen by their scores.

    Args:
      examples: of the evaluation.
      fps: frames per second.
      path: the file.

    Raises:
      UserError: the place cannot be written.
    """
    found = []
    for example in examples:
        if not example.kind and MODEL in example.videos:
            every = -(-len(example.videos[MODEL]) // plots.MOST_IN_PREVIEW)
            shown = {name: example.videos[name][::every] for name in (MODEL, TRUTH) if name in example.videos}
            found.append(
                {
                    "name": example.name,
                    "caption": example.captions.get(MODEL, ""),
                    "num_frames": len(shown[MODEL]),
                    "fps": fps / every,
                    "pictures": {name: plots.preview(frames) for name, frames in shown.items()},
                }
            )
    with whole_file(path) as part:
        part.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return path


def read_previews(folder: Path) -> list[Preview]:
    """The previews of an evaluation; none where an earlier version wrote it.

    Raises:
      UserError: the file is damaged.
    """
    path = folder / FILE
    try:
        return [_checked(one) for one in read_small_json(path, kind=list, limit=_MOST_BYTES)]
    except Missing:
        return []
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{path} is damaged; run evaluate.py again, or remove it") from None


def _checked(one: Mapping[str, object]) -> Preview:
    preview = Preview(**{name: one[name] for name in ("name", "caption", "num_frames", "fps", "pictures")})  # type: ignore[arg-type]
    is_whole = isinstance(preview.name, str) and isinstance(preview.caption, str) and type(preview.num_frames) is int
    is_whole = is_whole and 0 < preview.num_frames <= plots.MOST_IN_PREVIEW and 0 < float(preview.fps) < 1000
    pictures = {name: preview.pictures[name] for name in (MODEL, TRUTH) if name in preview.pictures}
    if not is_whole or MODEL not in pictures or not all(map(_PICTURE.fullmatch, pictures.values())):
        raise ValueError
    return preview


def side_by_side(previews: Mapping[str, Sequence[Preview]]) -> list[dict[str, object]]:
    """The videos that at least two systems have, for the page: caption, length, and a picture for each system.

    Args:
      previews: by system.
    """
    by_name = {system: {preview.name: preview for preview in own} for system, own in previews.items()}
    found = []
    for name in dict.fromkeys(preview.name for own in previews.values() for preview in own):
        there = {system: own[name] for system, own in by_name.items() if name in own}
        first = next(iter(there.values()))
        if len(there) > 1 and all(preview.num_frames == first.num_frames for preview in there.values()):
            true = next((preview.pictures[TRUTH] for preview in there.values() if TRUTH in preview.pictures), None)
            columns = ([("true video", true)] if true else []) + [
                (system, preview.pictures[MODEL]) for system, preview in there.items()
            ]
            found.append(
                {"caption": first.caption, "num_frames": first.num_frames, "fps": first.fps, "columns": columns}
            )
    return found
