"""A wrong sentence for each example of a batch: another motion or exchanged phrases of the same scene, or another clip's."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import pad

from cdcd_video.config import SpritesData
from cdcd_video.data.buckets import Caches, buckets_of
from cdcd_video.data.cache import CodeCache
from cdcd_video.data.counterfactual_captions import exchanged_caption, moved_captions
from cdcd_video.data.sprites_words import MOTIONS
from cdcd_video.data.store import Clips
from cdcd_video.engine import distributed
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.records import TextStates, WrongSentences
from cdcd_video.training.training_data import sprites_world

EXCHANGED_SHARE = 0.5
"""Of the sentences with two objects: how often what they do is exchanged, instead of one motion being replaced."""


class SentenceMaker:
    """Chooses wrong sentences for the examples of a cache.

    Args:
      clip: encodes sentences that no clip has; without it all are captions of other clips.
      captions: every caption of the cache, in its order; needed with `clip`.
      motions: of the built-in world, those that its clips have.
    """

    def __init__(self, clip: FrozenClip | None = None, captions: Sequence[str] = (), motions: Sequence[str] = MOTIONS):
        self.clip, self.captions, self.motions = clip, captions, motions

    def sentences(self, cache: CodeCache, caption: np.ndarray, rng: np.random.Generator) -> WrongSentences:
        """A wrong sentence for each of this process's rows, encoded as the cache's own are.

        Args:
          cache: whose captions they are.
          caption: numbers of the right captions of the whole batch.
          rng: the step's generator.
        """
        others = distributed.own(other_captions(caption, cache.sentence))
        text, is_wrong = cache.text(others), cache.sentence[others] != cache.sentence[distributed.own(caption)]
        if self.clip is not None:
            chosen = [counterfactual_caption(self.captions[number], rng, self.motions) for number in caption.tolist()]
            pairs = zip(distributed.own(chosen), distributed.own(caption).tolist(), strict=True)
            made = {row: (said, self.captions[number]) for row, (said, number) in enumerate(pairs) if said is not None}
            if made:
                said, right = zip(*made.values(), strict=True)
                is_wrong[list(made)] = _read_differently(self.clip, said, right)
                text = _with_rows(text, list(made), self._encoded(self.clip, said))
        return WrongSentences(text, torch.from_numpy(is_wrong))

    @torch.no_grad()
    def _encoded(self, clip: FrozenClip, sentences: Sequence[str]) -> TextStates:
        """In 16 bits, as in a cache, so that the precision does not give a wrong sentence away."""
        found = clip.encode_text(sentences)
        return TextStates(found.tokens.half().float().cpu(), found.is_word.cpu(), found.embedding.cpu())


def makers_of_world(
    data: SpritesData, clip: FrozenClip, splits: Sequence[Clips], caches: Sequence[Caches]
) -> dict[CodeCache, SentenceMaker]:
    """For clips of the built-in world, which all are in the cache of their split: makers of sentences that no clip has."""
    motions, made = sprites_world(data).motions, {}
    for whole, cache in zip(splits, caches, strict=True):
        for clips, bucket in zip(buckets_of(whole), buckets_of(cache), strict=True):
            captions = [caption for number in range(len(clips)) for caption in clips.captions(number)]
            made[bucket] = SentenceMaker(clip, captions, motions)
    return made


def _read_differently(clip: FrozenClip, sentences: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """Whether the tower reads two sentences differently: it cuts long ones off, maybe before they differ."""
    ids, is_word = clip.tokenize([*sentences, *others])
    one, other = torch.where(is_word, ids, -1).chunk(2)
    return (one != other).any(1).cpu().numpy()


def other_captions(caption: np.ndarray, sentence: np.ndarray) -> np.ndarray:
    """For each row the caption of the next row, cyclically, that is another sentence; its own where all are the same.

    Args:
      caption: numbers of captions.
      sentence: of each caption, a number that equal sentences share.
    """
    found, said = caption.copy(), sentence[caption]
    is_open = np.ones(len(caption), bool)
    for step in range(1, len(caption)):
        following = np.roll(caption, -step)
        takes = is_open & (sentence[following] != said)
        found[takes] = following[takes]
        is_open &= ~takes
    return found


def counterfactual_caption(caption: str, rng: np.random.Generator, motions: Sequence[str] = MOTIONS) -> str | None:
    """A sentence of the built-in world about the same first frame that says something else; None for other sentences."""
    is_exchanged, choice = rng.random() < EXCHANGED_SHARE, rng.random()
    exchanged, moved = exchanged_caption(caption), moved_captions(caption, motions)
    if exchanged is not None and is_exchanged:
        return exchanged
    return moved[int(choice * len(moved))] if moved else None


def _with_rows(text: TextStates, rows: list[int], other: TextStates) -> TextStates:
    """The sentences of some rows replaced, all padded to the longest."""
    length = max(text.is_word.shape[1], other.is_word.shape[1])
    text, other = (
        TextStates(
            pad(part.tokens, (0, 0, 0, length - part.is_word.shape[1])),
            pad(part.is_word, (0, length - part.is_word.shape[1])),
            part.embedding,
        )
        for part in (text, other)
    )
    tokens = (text.tokens * text.is_word[..., None]).index_copy(
        0, torch.tensor(rows), other.tokens * other.is_word[..., None]
    )
    is_word = text.is_word.clone()
    is_word[rows] = other.is_word
    return TextStates(tokens, is_word, text.embedding.index_copy(0, torch.tensor(rows), other.embedding))
