"""Sentences of the world "sprites" that say something else of the same first frame: another motion, or phrases exchanged."""

import re
from collections.abc import Iterable, Sequence

from cdcd_video.data.sprites_words import ADVERBS, COLOURS, HELD_OUT_SHAPE_MOTION, MOTIONS, SHAPES, SIZES, VERBS

Phrase = tuple[str, str, str]
"""What an object is, what it does, and how: ("the red circle", "moves left", " slowly")."""


def _one_of(words: Iterable[str | None]) -> str:
    return "|".join(re.escape(word) for word in sorted(filter(None, words), key=len, reverse=True))


_OBJECT = rf"the (?:(?:{_one_of(SIZES)}) )?(?:{_one_of(COLOURS)}) (?:{_one_of(SHAPES)})"
_PHRASE = re.compile(rf"({_OBJECT}) ({_one_of((*MOTIONS, *VERBS))})((?: (?:{_one_of(ADVERBS)}))?)")


def exchanged_caption(caption: str) -> str | None:
    """The sentence with what its two objects do exchanged: "the red circle moves left and the blue star spins slowly" becomes
    "the red circle spins slowly and the blue star moves left".

    Returns:
      None if it has not two objects, if both do the same, or if a pair of shape and motion would be one that is held out.
    """
    phrases = _phrases(caption)
    if len(phrases) != 2 or phrases[0][1:] == phrases[1][1:]:
        return None
    (one, *_), (other, *_) = phrases
    return _sentence([(one, *phrases[1][1:]), (other, *phrases[0][1:])])


def moved_captions(caption: str, motions: Sequence[str] = MOTIONS) -> tuple[str, ...]:
    """The sentence with another motion of one of its objects, all of them; none for a sentence of another world.

    A motion is replaced by each other one; a verb that leaves the direction out ("moves") by each other such verb. A circle does
    not spin, which would look like standing still, what stays still has no adverb, and no held-out pair is made.

    Args:
      motions: those of the world at hand; others would give themselves away by words that training never has.
    """
    phrases = _phrases(caption)
    verbs = [verb for verb, allowed in VERBS.items() if set(allowed) & set(motions)]
    found = []
    for place, (what, motion, adverb) in enumerate(phrases):
        for other in verbs if motion in VERBS else motions:
            if other != motion and not (other == "spins" and what.endswith(" circle")):
                phrase = (what, other, "" if other == "stays still" else adverb)
                found.append(_sentence([*phrases[:place], phrase, *phrases[place + 1 :]]))
    return tuple(filter(None, found))


def _phrases(caption: str) -> list[Phrase]:
    """What is said of each object; empty for a sentence of another world."""
    first = _PHRASE.match(caption)
    if first is None:
        return []
    rest = caption[first.end() :]
    if not rest:
        return [_of(first)]
    second = _PHRASE.fullmatch(rest.removeprefix(" and "))
    return [_of(first), _of(second)] if second and rest.startswith(" and ") else []


def _of(found: re.Match[str]) -> Phrase:
    what, motion, adverb = found.groups()
    return what, motion, adverb


def _sentence(phrases: list[Phrase]) -> str | None:
    """The sentence; None if it names a held-out pair of shape and motion."""
    if any((what.split()[-1], motion) in HELD_OUT_SHAPE_MOTION for what, motion, _ in phrases):
        return None
    return " and ".join(f"{what} {motion}{adverb}" for what, motion, adverb in phrases)
