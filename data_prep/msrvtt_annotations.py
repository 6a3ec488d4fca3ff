"""MSR-VTT's annotation files as they are published, read into videos with captions and a category.

All layouts are an object with `videos` (`video_id`, `split`, `category`, ...) and `sentences` (`video_id`, `caption`):
two files in 2016, with the splits `train` and `validate`, and `test`; one file in 2017, which writes `val`.
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

from cdcd_video.errors import UserError
from data_prep.items import Item, one_line, refusal_of_id, refused, split_named
from data_prep.packed import Packed

CATEGORIES = (
    "music",
    "people",
    "gaming",
    "sports/actions",
    "news/events/politics",
    "education",
    "tv shows",
    "movie/comedy",
    "animation",
    "vehicles/autos",
    "howto",
    "travel",
    "science/technology",
    "animals/pets",
    "kids/family",
    "documentary",
    "food/drink",
    "cooking",
    "beauty/fashion",
    "advertisement",
)
"""Names of the categories by number, as in the official `category.txt`."""

PUBLISHED_TRAIN = 6513
_LAST_TRAIN, _LAST_VAL = PUBLISHED_TRAIN - 1, 7009
"""The official splits by the number in the id, as the official `readme.txt` has them."""


@dataclasses.dataclass
class Video:
    """One annotated video.

    Attributes:
      split: "train", "val" or "test"; None where the file says something else.
      category: a number, 0 to 19; None where the file has none.
      captions: in the order of the file; repeated ones are kept, as there are 20 per video.
    """

    split: str | None
    category: int | None
    captions: list[str] = dataclasses.field(default_factory=list)

    @property
    def about(self) -> dict[str, object]:
        """What is kept of it beside the captions."""
        if self.category is None:
            return {}
        return {"category": self.category, "category_name": CATEGORIES[self.category]}


@dataclasses.dataclass
class Annotations:
    """What some annotation files say.

    Attributes:
      videos: by id, in the order of the files.
      refused: rows that cannot be used, with the reason.
      is_relabelled: whether the splits come from the ids, because the files call everything "train".
    """

    videos: dict[str, Video] = dataclasses.field(default_factory=dict)
    refused: list[Item] = dataclasses.field(default_factory=list)
    is_relabelled: bool = False


def read_annotations(files: Sequence[Packed]) -> Annotations:
    """Reads one or more annotation files.

    `MSRVTT_data.json`, which comes with CLIP4Clip, calls all videos "train". Believing it would train on the test videos,
    so if more are marked so than there are, the splits are taken from the ids.

    Raises:
      UserError: if a file is no annotation file, or two files have the same video.
    """
    read = Annotations()
    contents = {file: _content(file) for file in files}
    origins: dict[str, Packed] = {}
    unusable: set[str] = set()
    for file, content in contents.items():
        for number, row in enumerate(content["videos"]):
            _add_video(row, f"videos[{number}] of {file.name}", file, origins, unusable, read)
    for file, content in contents.items():
        for number, row in enumerate(content["sentences"]):
            _add_caption(row, f"sentences[{number}] of {file.name}", unusable, read)
    numbers = [_number(name) for name in read.videos]
    if sum(video.split == "train" for video in read.videos.values()) > PUBLISHED_TRAIN and None not in numbers:
        read.is_relabelled = True
        for video, number in zip(read.videos.values(), numbers, strict=True):
            video.split = "train" if number <= _LAST_TRAIN else "val" if number <= _LAST_VAL else "test"
    return read


def _number(name: str) -> int | None:
    """N of an official id, `videoN`."""
    found = re.fullmatch(r"video([0-9]{1,4})", name)
    return int(found[1]) if found else None


def _content(file: Packed) -> dict[str, list[Any]]:
    try:
        content = json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON ({error}); get another copy") from None
    if not (isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("videos", "sentences"))):
        raise UserError(
            f"{file} is not an annotation file of MSR-VTT: it has no lists videos and sentences; give another file"
        )
    return content


def _add_video(
    row: Any, where: str, file: Packed, origins: dict[str, Packed], unusable: set[str], read: Annotations
) -> None:
    name = row.get("video_id") if isinstance(row, dict) else None
    reason = refusal_of_id(name)
    if reason is not None:
        is_named = isinstance(name, str) and name.strip() != "" and name not in unusable
        unusable.update([name] if is_named else [])
        read.refused.append(refused(name if is_named else where, reason))
    elif origins.get(name, file) != file:
        raise UserError(f"{name} is in {origins[name]} and in {file}; give only one of these files")
    elif name in origins:
        read.refused.append(refused(where, f"{name} occurs twice"))
    else:
        origins[name] = file
        split, category = row.get("split"), row.get("category")
        is_category = type(category) is int and 0 <= category < len(CATEGORIES)
        read.videos[name] = Video(split_named(split), category if is_category else None)


def _add_caption(row: Any, where: str, unusable: set[str], read: Annotations) -> None:
    name, caption = (row.get("video_id"), row.get("caption")) if isinstance(row, dict) else (None, None)
    text = one_line(caption) if isinstance(caption, str) else ""
    if not isinstance(name, str) or not text:
        read.refused.append(refused(where, "it needs a video_id and a caption"))
    elif name in read.videos:
        read.videos[name].captions.append(text)
    elif name not in unusable:
        unusable.add(name)
        read.refused.append(refused(where, f"it refers to {name[:200]!r}, which is not a video of these files"))
