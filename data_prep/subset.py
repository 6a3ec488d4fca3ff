"""Describes which clips a prepared folder contains, so that a result can name them."""

import hashlib
from collections.abc import Iterable

from cdcd_video.data.store_files import ClipRow


def describe(rows: Iterable[ClipRow], *, with_ids: bool) -> dict[str, dict[str, object]]:
    """For each split: how many clips, the SHA-256 of their ids, and the ids if wanted.

    What is hashed are the ids in the order of their characters' numbers, a line each, so that a shell can do it too:
    `jq -r 'select(.split == "train").id' clips.jsonl | LC_ALL=C sort | sha256sum`.
    """
    splits: dict[str, list[str]] = {}
    for row in rows:
        splits.setdefault(row.split, []).append(row.id)
    return {split: _described(sorted(ids), with_ids) for split, ids in sorted(splits.items())}


def _described(ids: list[str], with_ids: bool) -> dict[str, object]:
    lines = "".join(f"{name}\n" for name in ids).encode("utf-8", "backslashreplace")
    entry: dict[str, object] = {"num_clips": len(ids), "ids_sha256": hashlib.sha256(lines).hexdigest()}
    return {**entry, "ids": ids} if with_ids else entry
