"""What a call is given, spread over videos: images, captions, negative captions and seeds, one of each per video."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from cdcd_video.config.ranges import plain_number
from cdcd_video.errors import UserError
from cdcd_video.sampling.captions import CaptionSchedule
from cdcd_video.sampling.start_images import listed, pixels

Generators = torch.Generator | Sequence[torch.Generator]
MOST_VIDEOS = 100_000
"""Of one call: beyond, even their seeds and captions would fill the memory before the first is sampled."""
_SEEDS = 2**63 - 1
"""Seeds that a generator chooses among: those of `SamplingParams.seed` without the last."""


@dataclass(frozen=True)
class CallInputs:
    """One entry per video each."""

    images: list[UInt8[np.ndarray, "_ _ 3"]]
    """RGB pixels of any size."""
    captions: list[CaptionSchedule]
    negatives: list[str]
    """Captions that guidance leads away from; "" is the empty caption."""
    seeds: list[int]
    is_list: bool
    """Whether the call asked for several videos, even if they are one."""
    lasts: list[UInt8[np.ndarray, "_ _ 3"]] | None = None
    """RGB pixels of the last frames; None where none are given."""

    @property
    def notes(self) -> list[str]:
        """Warnings on how the captions are given, one sentence each."""
        begun = (_FROM_FRAME.match(one.turns[0][1]) for one in self.captions if one.is_sentence)
        return [
            f'the prompt begins with "{match[0].strip()}", which is part of the sentence here; for sentences that begin at a'
            ' frame give [(0, "first sentence"), (8, "next sentence")]'
            for match in begun
            if match
        ]


_FROM_FRAME = re.compile(r"\s*\d{1,9}:(?!\d)")
"""As on the command line, where it says from which frame on a sentence holds."""


def call_inputs(
    image: Any,
    text: Any,
    negative: Any = None,
    seed: Any = None,
    generator: Any = None,
    num_videos_per_prompt: Any = 1,
    default_seed: int = 0,
    last: Any = None,
) -> CallInputs:
    """Spreads what a call is given over its videos.

    Images, captions, negative captions and last images are one for all videos, or as many as there are inputs. Every input gives
    `num_videos_per_prompt` videos, one after the other.

    Args:
      seed: the k-th video of every input has seed + k; or a list, one per video. A list makes several videos of one input.
      generator: gives each video its seed, one `torch.randint(2**63 - 1)` per video in order; or one generator per video.
      default_seed: where neither is given.
      last: images in which the videos end.

    Raises:
      UserError: something is missing, of another kind, or lists differ in length.
    """
    if num_videos_per_prompt is None:
        num_videos_per_prompt = 1
    if not _is_whole(num_videos_per_prompt) or num_videos_per_prompt < 1:
        raise UserError(f"num_videos_per_prompt is {num_videos_per_prompt!r}; it must be a whole number above 0")
    if seed is not None and generator is not None:
        raise UserError("both seed and generator are given; give one of them, since each sets the random numbers")
    lists = {"images": listed(image), "prompts": _captions(text), "negative prompts": _negatives(negative)}
    lists["last images"] = listed(last)
    counts = {name: len(values) for name, (values, is_list) in lists.items() if is_list}
    for name, count in counts.items():
        if not count:
            raise UserError(f"the list of {name} is empty; give at least one")
    several = {name: count for name, count in counts.items() if count > 1}
    if len(set(several.values())) > 1:
        found = " and ".join(f"{count} {name}" for name, count in several.items())
        raise UserError(f"there are {found}; give as many of each, or one for all")
    num_inputs = max(several.values(), default=1)
    given = _listed_seeds(seed) if generator is None else generator
    is_list = bool(counts) or num_videos_per_prompt > 1
    if isinstance(given, list | tuple | range):
        if not given:
            raise UserError(
                f"the list of {'seeds' if generator is None else 'generators'} is empty; give one per video"
            )
        if not is_list:
            num_videos_per_prompt = len(given)
        is_list = True
        if len(given) != num_inputs * num_videos_per_prompt:
            what = "seeds" if generator is None else "generators"
            raise UserError(
                f"there are {len(given)} {what} for {num_inputs * num_videos_per_prompt} videos; give one per video"
            )
    if num_inputs * num_videos_per_prompt > MOST_VIDEOS:
        raise UserError(
            f"the call asks for {num_inputs * num_videos_per_prompt:,} videos; ask for at most {MOST_VIDEOS:,} at once"
        )
    seeds = _seeds(given, generator is not None, num_inputs, num_videos_per_prompt, default_seed)
    images, captions, negatives, lasts = (
        [values[row if len(values) > 1 else 0] for row in range(num_inputs) for _ in range(num_videos_per_prompt)]
        for values, _ in lists.values()
    )
    if last is not None and any(one is None for one in lasts):
        raise UserError(
            "a place in the list of last images is empty; give one for every video, or leave last_image out"
        )
    ends = [] if last is None else lasts
    distinct = {id(one): one for one in (*images, *ends)}
    read = {key: pixels(one) for key, one in distinct.items()}  # once: an open file has nothing left the second time
    firsts, ends = ([read[id(one)] for one in given] for given in (images, ends))
    return CallInputs(firsts, captions, negatives, seeds, is_list, None if last is None else ends)


def _listed_seeds(seed: Any) -> Any:
    """An array of seeds as a list."""
    return seed.tolist() if isinstance(seed, np.ndarray | torch.Tensor) and seed.ndim == 1 else seed


def _captions(text: Any) -> tuple[list[CaptionSchedule], bool]:
    if text is None:
        raise UserError('no prompt is given; describe what should happen: prompt="the red circle moves right"')
    if isinstance(text, str | CaptionSchedule):
        return [CaptionSchedule.of(text)], False
    if isinstance(text, Mapping):
        return [CaptionSchedule.of(_turns_of(text))], False
    if isinstance(text, np.ndarray) and text.ndim == 1:
        text = text.tolist()
    if not isinstance(text, list | tuple):
        raise UserError(
            f"the prompt is of the type {type(text).__name__}; the order is image, prompt, and a prompt is a sentence or"
            ' [(0, "first sentence"), (8, "next sentence")]'
        )
    if text and all(_is_turn(part) for part in text):
        return [CaptionSchedule.of(text)], False
    return [one for part in text for one in _captions(part)[0]], True


def _turns_of(text: Mapping[Any, Any]) -> list[tuple[int, str]]:
    """The turns of a dictionary; one that was read from a `.json` has its frames as text."""
    turns = [(int(key) if _is_digits(key) else key, sentence) for key, sentence in text.items()]
    for frame, sentence in turns:
        if not _is_turn((frame, sentence)):
            raise UserError(
                f"the prompt is a dictionary with {frame!r}: {sentence!r}; its keys are the frames at which sentences begin, as"
                ' in {0: "first sentence", 8: "next sentence"}'
            )
    return turns


def _is_digits(key: Any) -> bool:
    return isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) <= _MOST_DIGITS


_MOST_DIGITS = 9
"""Of a frame at which a sentence begins, as on the command line."""


def _is_turn(part: Any) -> bool:
    """Whether it is a frame and a sentence: part of one caption, and not a caption of its own."""
    return isinstance(part, list | tuple) and len(part) == 2 and _is_whole(part[0]) and isinstance(part[1], str)


def _negatives(negative: Any) -> tuple[list[str], bool]:
    is_list = isinstance(negative, list | tuple)
    sentences = ["" if one is None else one for one in (negative if is_list else [negative])]
    for sentence in sentences:
        if not isinstance(sentence, str):
            raise UserError(f"the negative prompt is of the type {type(sentence).__name__}; give a sentence")
    return sentences, is_list


def _seeds(given: Any, is_generator: bool, num_inputs: int, repeats: int, default: int) -> list[int]:
    ones = list(given) if isinstance(given, list | tuple | range) else [given] * (num_inputs * repeats)
    if is_generator:
        for one in ones:
            if not isinstance(one, torch.Generator):
                raise UserError(
                    f"generator is of the type {type(one).__name__}; give a torch.Generator, a list of them, or seed=0"
                )
        return [int(torch.randint(_SEEDS, (), generator=one, device=one.device)) for one in ones]
    if isinstance(given, list | tuple | range):
        return [_seed(one) for one in ones]
    first = default if given is None else _seed(given)
    return [first + number for _ in range(num_inputs) for number in range(repeats)]


def _seed(value: Any) -> int:
    if isinstance(value, torch.Generator):
        raise UserError("seed is a torch.Generator; give it as generator=...")
    value = plain_number(value, is_whole=True)
    if not _is_whole(value):
        shown = " ".join(repr(value).split())  # an array is several lines
        raise UserError(f"seed is {shown}; it must be a whole number from 0 to 2**63 - 1, or a list of them")
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
