"""Which clips go to validation, and what to do where none did."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence

from cdcd_video.data.store_files import ClipRow


def position_of(name: str) -> float:
    """A number from 0 to below 1 that depends on the name alone; a share takes the names below it for the split val."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "backslashreplace")).digest()[:8], "big") / 2**64


def share_for_val(names: Iterable[str]) -> float | None:
    """The roundest share that leaves a name for val and one for train; None where there are not two names."""
    positions = sorted(set(map(position_of, names)))
    if len(positions) < 2:
        return None
    least, most = positions[0], positions[-1]
    for digits in range(1, 16):
        share = (math.floor(least * 10**digits) + 1) / 10**digits
        if least < share <= most:
            return share
    return most


def way_to_val(recipe: object, rows: Sequence[ClipRow]) -> str:
    """What to do so that some clips of a prepared folder are of the split val, where none is; the end of a sentence.

    An advice is given only if it works for these very clips: two may need a share of 0.8, and most recipes take no share.

    Args:
      recipe: of the manifest: what `data_prep` was asked for.
      rows: of the folder, or of the folders of all sizes.
    """
    asked = recipe if isinstance(recipe, Mapping) else {}
    kind, split = asked.get("recipe"), asked.get("split")
    if kind == "sprites":
        splits = asked.get("splits")
        return f"prepare again with --split {' '.join(map(str, splits if isinstance(splits, list) else ['train']))} val"
    if kind == "msrvtt" and split != "official":
        return f"prepare again with --split official, because the split {split} has no clips for it"
    if kind == "msrvtt":
        return "add videos of that split to --videos, because none of them could be used"
    if kind in ("join", "augment"):
        return f"{kind} {'folders of which one' if kind == 'join' else 'a folder that'} has clips of that split"
    if kind in ("folder", "internvid"):
        return _way_by_share(asked, [row for row in rows if row.split == "train"])
    return "prepare again so that some clips are of that split"


def _way_by_share(asked: Mapping[str, object], train: Sequence[ClipRow]) -> str:
    group = "youtube_id" if asked["recipe"] == "internvid" else asked.get("group_column")
    column = asked.get("split_column")
    names = [row.id if group is None else row.about.get(str(group)) for row in train]
    # A group that is not kept with the clips cannot be looked up, but a column of splits is of use in any case.
    share = None if None in names else share_for_val(map(str, names))
    option = None if share is None else f"--{'val-from-train' if column else 'val-share'} {share}"
    by_column = f"val in the column {column} for some clips" if column else ""
    if option is not None:
        return f"prepare again with {option}{f', or with {by_column}' if column else ''}"
    if len(train) > 1 and asked["recipe"] == "folder" and group is not None:
        return f"prepare again with {by_column or '--split-column NAME, a column that says train or val for each clip'}"
    if asked["recipe"] == "internvid":
        return "prepare clips of more videos, because those of one are never divided"
    return "prepare more clips, because one alone cannot be divided"
