"""The sentence of a mirrored clip: left and right change places, and so does the direction of a rotation."""

import re

_PAIRS = (
    ("left", "right"),
    ("leftward", "rightward"),
    ("leftwards", "rightwards"),
    ("leftmost", "rightmost"),
    ("lefthand", "righthand"),
    ("lefthanded", "righthanded"),
    ("clockwise", "counterclockwise"),
)
_MIRROR = {word: other for pair in _PAIRS for word, other in (pair, pair[::-1])}
_WORD = re.compile(rf"(?<!\w)(?:{'|'.join(_MIRROR)}|(?:counter|anti)[- ]?clockwise)(?!\w)", re.IGNORECASE)


def mirrored_caption(caption: str) -> str:
    """A sentence with whole words exchanged: left and right, -ward(s), -most, -hand(ed), clockwise and counterclockwise.

    Capitals stay. `anticlockwise` and other spellings become `clockwise`, whose mirror is `counterclockwise`; all other
    sentences come back when they are mirrored twice. The sense of a word is not known: `she left` becomes `she right`.
    """
    return _WORD.sub(lambda found: _cased(_MIRROR.get(found[0].lower(), "clockwise"), found[0]), caption)


def _cased(word: str, like: str) -> str:
    if like.isupper():
        return word.upper()
    return word.capitalize() if like[0].isupper() else word
