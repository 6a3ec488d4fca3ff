"""The items that recipes produce: clips, each a part of a video file with captions and a split."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from cdcd_video.data.val_share import position_of
from cdcd_video.errors import is_text, spelled


@dataclasses.dataclass(frozen=True)
class Slice:
    """A part of a file that is a video by itself, as a tar keeps it: where it begins, its length, its name's suffix."""

    offset: int
    num_bytes: int
    suffix: str


@dataclasses.dataclass(frozen=True)
class Item:
    """One clip to prepare.

    Attributes:
      name: unique id.
      path: the video file.
      source: the same, relative to the folder of videos: what is written down.
      captions: sentences; none is a reason to refuse.
      split: "train", "val", ...
      start_s: where the clip begins in the video, seconds.
      end_s: where it ends; None for the end of the video.
      refusal: why the item is refused without looking at the video.
      about: what else is known of the clip; plain JSON values, kept in `clips.jsonl`.
      inside: where the video lies within `path`, if that is an archive.
    """

    name: str
    path: Path
    source: str
    captions: tuple[str, ...]
    split: str
    start_s: float = 0.0
    end_s: float | None = None
    refusal: str | None = None
    about: Mapping[str, object] = dataclasses.field(default_factory=dict)
    inside: Slice | None = None

    def __post_init__(self):
        """Refuses names and captions that are not valid Unicode; they could be neither reported nor tokenised."""
        if not all(map(is_text, self.captions)):
            self._refuse("one of its captions is not valid Unicode; save it as UTF-8")
        if not (is_text(self.name) and is_text(self.source)):
            self._refuse("its name is not UTF-8; rename the file")

    def _refuse(self, reason: str) -> None:
        changed = {"name": spelled(self.name), "source": spelled(self.source), "captions": (), "refusal": reason}
        for name, value in changed.items():
            object.__setattr__(self, name, value)

    def identity(self) -> tuple[object, ...]:
        """The identity of the clip, for the hash of all items."""
        named = (self.name, self.source, self.captions, self.split, self.start_s, self.end_s)
        return (*named, dict(self.about)) if self.about else named


@dataclasses.dataclass(frozen=True)
class ItemsDigest:
    """The number of items, and the SHA-256 of their identities."""

    num_items: int
    sha256: str


def digest_items(items: Iterable[Item]) -> ItemsDigest:
    """Counts and hashes items in one pass, without holding them."""
    sha256, num_items = hashlib.sha256(b"["), 0
    for item in items:
        sha256.update((", " if num_items else "").encode() + json.dumps(item.identity()).encode())
        num_items += 1
    sha256.update(b"]")
    return ItemsDigest(num_items, sha256.hexdigest())


SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Accepted spellings of the three splits."""


def split_named(value: object) -> str | None:
    """The split "train", "val" or "test" for an accepted spelling; None for everything else."""
    return SPLITS.get(value.strip().lower()) if isinstance(value, str) else None


def split_of(name: str, val_share: float | int) -> str:
    """ "val" for a share of all names, "train" for the others; a name's split never depends on the other names."""
    return "val" if position_of(name) < val_share else "train"


def one_line(caption: str) -> str:
    """A caption without stray spaces and line breaks, otherwise as it is; half characters become question marks."""
    return " ".join(caption.encode("utf-8", "replace").decode().split())


def refused(name: str, reason: str) -> Item:
    """An item for a row of an annotation file without a usable clip; it goes to `rejected.jsonl`."""
    return Item(name, Path(), "", (), "", refusal=reason)


def refusal_of_id(name: object) -> str | None:
    """Why something cannot be the id of a video; None if it can."""
    if not isinstance(name, str) or not name.strip():
        return "its row has no video id"
    if re.match(r"[/\\]|[A-Za-z]:[/\\]", name):
        return "its id is an absolute path"
    if re.search(r"[/\\]", name) or name in (".", ".."):
        return "its id contains a path separator"
    if re.search(r"[\x00-\x1f\x7f]", name) or len(name) > 200:
        return "its id is not a valid file name"
    return None
