"""An upper bound of how much a tokenizer lengthens a text: its rules are not trusted, and run on captions before truncation."""

import json
import math
from collections.abc import Iterator
from typing import Any

from cdcd_video.errors import UserError

MOST_GROWTH = 1_000
"""Characters that one may become; with CLIP's own tokenizer 60 at most."""
MOST_CHARACTERS = 32_000_000
"""Largest length of a caption after all rules: a gigabyte in the tokenizer's memory."""
_MOST_AFFIX = 100
_FACTORS = {
    # Of Unicode's forms, by its own tables [UAX 15, section 12].
    "NFC": 3,
    "NFD": 4,
    "NFKC": 18,
    "NFKD": 18,
    "Lowercase": 3,
    "BertNormalizer": 12,
    # A character is up to four bytes, and a space may be put before each piece.
    "ByteLevel": 5,
    "Metaspace": 2,
    **dict.fromkeys(("Strip", "StripAccents", "Nmt", "BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Split"), 1),
    **dict.fromkeys(("Punctuation", "Digits", "Delimiter", "CharDelimiterSplit", "UnicodeScripts", "FixedLength"), 1),
}


def growth_of(tokenizer: Any, folder: str) -> float:
    """The largest number of characters that one character of a caption can become by the rules of a tokenizer.

    Args:
      tokenizer: a fast one of `transformers`.

    Raises:
      UserError: it is above `MOST_GROWTH`, or a rule is unknown.
    """
    backend, growth = tokenizer.backend_tokenizer, 1.0
    for part in (backend.normalizer, backend.pre_tokenizer):
        for entry in _rules(json.loads(part.__getstate__()) if part is not None else None):
            factor = _factor(entry)
            if factor is None:
                raise UserError(
                    f"CLIP folder {folder} has a tokenizer with the rule {entry.get('type')}, which is unknown here and may"
                    " lengthen a text without limit; use CLIP's own tokenizer.json"
                )
            growth *= factor
    affixes = [getattr(backend.model, name, None) for name in ("continuing_subword_prefix", "end_of_word_suffix")]
    if growth > MOST_GROWTH or any(len(affix or "") > _MOST_AFFIX for affix in affixes):
        raise UserError(
            f"CLIP folder {folder} has a tokenizer that can turn one character into {growth:,.0f}, and at most"
            f" {MOST_GROWTH:,} are allowed, so that no caption fills the memory; use CLIP's own tokenizer.json"
        )
    return growth


def _rules(held: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A rule, or those of a sequence."""
    if held is None:
        return
    if held["type"] == "Sequence":
        for inner in [*held.get("normalizers", ()), *held.get("pretokenizers", ())]:
            yield from _rules(inner)
    else:
        yield held


def _factor(entry: dict[str, Any]) -> float | None:
    match entry["type"]:
        case "Replace":
            put = len(entry["content"])
            taken = len(entry["pattern"].get("String", ""))
            return max(1.0, put / taken) if taken else 1.0 + put  # a regular expression may match between any two
        case "Prepend":  # before each piece between two special tokens
            return 1.0 + len(entry["prepend"])
        case kind:
            return _FACTORS.get(kind)


def most_characters(growth: float) -> int:
    """The largest length of a caption that stays within `MOST_CHARACTERS`."""
    return math.floor(MOST_CHARACTERS / growth)
