"""Captions in files beside a video, in a folder or in a tar: the lines of a .txt, or `caption` or `captions` of a
.json."""

import json
import re
from collections.abc import Callable

from data_prep.items import one_line

ENDINGS = ("txt", "json")
MOST_BYTES = 1 << 20
"""A larger one is refused."""


class Unusable(Exception):
    """The reason why a caption file cannot be used."""


def captions_beside(read: Callable[[str], bytes | None]) -> tuple[str, ...]:
    """The captions of the .txt, or where it has none those of the .json; each once, without empty ones.

    Args:
      read: gives the content of the neighbour with this ending, None if there is none; at most `MOST_BYTES`.

    Raises:
      Unusable: the neighbour that counts is damaged, or a .json without a caption.
    """
    for ending in ENDINGS:
        content = read(ending)
        if content is None:
            continue
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise Unusable(f"its .{ending} is not UTF-8") from None
        # By line ends alone: str.splitlines would also part a sentence at U+2028 and the like.
        lines = re.split(r"\r\n|\r|\n", text) if ending == "txt" else _captions_of_json(text)
        captions = tuple(dict.fromkeys(filter(None, map(one_line, lines))))
        if captions:
            return captions
    return ()


def _captions_of_json(text: str) -> list[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Unusable("its .json is damaged") from None
    if isinstance(value, dict):
        captions = value["captions"] if "captions" in value else [value.get("caption")]
        if isinstance(captions, list) and all(isinstance(caption, str) for caption in captions):
            return captions
    raise Unusable("its .json has no caption")
