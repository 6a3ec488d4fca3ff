"""Captioned moving digits by their published protocols: which digits, where they start, how they move, and what is said of it.

Sync-DRAW (Mittal et al. 2017) has one or two digits that bounce off the edges for ever. MAGE (Hu et al. 2022) makes them longer,
and adds a modified double world: each digit goes straight and stops at the edge, or bounces once and stops at the other, and half
of the clips have a third digit that stays and is not in the sentence. Positions are shares of the 36 px that a digit of 28 px can
move in a view of 64.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from cdcd_video.data.digits_files import SIDE, Digits

VIEW_PX = 64
FREE_PX = VIEW_PX - SIDE
ProtocolName = Literal["sync-draw-single", "sync-draw-double", "mage-single", "mage-double", "mage-modified"]
DigitsSplit = Literal["train", "val"]
AXES = ("vertical", "horizontal")
_TOWARDS = (("up", "down"), ("left", "right"))
"""Words for moving to 0 and to 1, by axis."""
MOST_OVERLAP = 0.7
"""Of the distractor's first place with a moving digit's, as intersection over union."""
_MOST_POSITIONS = 21
_SALT = {"train": 0, "val": 2**40}


@dataclass(frozen=True)
class DigitsProtocol:
    """The constants of one published world.

    Attributes:
      num_digits: that move and are named.
      distinct: whether they show different digits.
      num_frames: of a clip.
      step: per frame, as a share of the free range.
      start: least and greatest position at the start.
      start_step: starts are multiples of it; 0: any number.
      stops: whether a digit stops at an edge, at the first or after one bounce; otherwise it bounces for ever.
      num_clips: of the training and of the validation split.
    """

    num_digits: int
    distinct: bool
    num_frames: int
    step: float
    start: tuple[float, float]
    start_step: float
    stops: bool
    num_clips: tuple[int, int]


PROTOCOLS: dict[str, DigitsProtocol] = {
    "sync-draw-single": DigitsProtocol(1, False, 10, 0.2, (0.0, 1.0), 0.0, False, (10_000, 2_000)),
    "sync-draw-double": DigitsProtocol(2, False, 10, 0.2, (0.0, 1.0), 0.0, False, (10_000, 2_000)),
    "mage-single": DigitsProtocol(1, False, 20, 0.2, (0.0, 1.0), 0.0, False, (10_000, 2_000)),
    "mage-double": DigitsProtocol(2, True, 20, 0.2, (0.15, 0.85), 0.01, False, (10_000, 2_000)),
    "mage-modified": DigitsProtocol(2, True, 20, 0.1, (0.15, 0.85), 0.01, True, (24_000, 6_000)),
}


@dataclass(frozen=True)
class MovingDigit:
    """One digit and its way.

    Attributes:
      label: what it shows.
      picture: number of its picture.
      axis: 0 vertical, 1 horizontal.
      forward: whether it begins downwards or to the right.
      bounces: whether it turns at the edge (once, where digits stop).
      start: (y, x) as shares of the free range.
    """

    label: int
    picture: int
    axis: int
    forward: bool
    bounces: bool
    start: tuple[float, float]


@dataclass(frozen=True)
class DigitsClip:
    """A clip before it is rendered."""

    digits: tuple[MovingDigit, ...]
    """Those that move, in the order of the sentence."""
    distractor: tuple[int, tuple[float, float]] | None
    """Picture and place of a digit that stays and is not named."""
    caption: str


def sample_clip(name: ProtocolName, digits: Digits, seed: int, index: int, split: DigitsSplit) -> DigitsClip:
    """A clip of a split; a function of its number, so that any clip can be made alone.

    Args:
      digits: pictures to choose from; both splits use all of them, as published: what is held out are combinations of digits
        and axes, see `is_held_out`.
      seed: of the set.
    """
    protocol = PROTOCOLS[name]
    rng = np.random.Generator(np.random.Philox(key=[seed, _SALT[split] + index]))
    while True:
        labels = (
            rng.permutation(10)[: protocol.num_digits]
            if protocol.distinct
            else rng.integers(10, size=protocol.num_digits)
        )
        axes = rng.integers(2, size=protocol.num_digits)
        if is_held_out(tuple(labels.tolist()), tuple(axes.tolist())) is (split == "val"):
            break
    moving = tuple(
        _moving(protocol, digits, rng, int(label), int(axis)) for label, axis in zip(labels, axes, strict=True)
    )
    distractor = None
    if protocol.stops and rng.random() < 0.5:
        distractor = _distractor(protocol, digits, rng, moving)
    return DigitsClip(moving, distractor, caption_of(name, moving))


def is_held_out(labels: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Whether a combination of digits and axes is of the validation split: half of those of each digit, or of each ordered pair.

    Of one digit one axis is held out, in turns from digit to digit. Of an ordered pair two of four combinations are: one in which
    both move along the same axis, and one in which they do not.
    """
    if len(labels) == 1:
        return (labels[0] + axes[0]) % 2 == 1
    first, second = labels
    turn = (first * 7 + second * 3 + (first > second)) % 4
    same, other = turn & 1, turn >> 1
    return axes[0] == (same if axes[0] == axes[1] else other)


def _moving(protocol: DigitsProtocol, digits: Digits, rng: np.random.Generator, label: int, axis: int) -> MovingDigit:
    candidates = digits.of_class[label]
    forward = bool(rng.random() < 0.5)
    bounces = bool(rng.random() < 0.5) if protocol.stops else True
    return MovingDigit(
        label, int(candidates[rng.integers(len(candidates))]), axis, forward, bounces, _place(protocol, rng)
    )


def _place(protocol: DigitsProtocol, rng: np.random.Generator) -> tuple[float, float]:
    low, high = protocol.start
    if not protocol.start_step:
        y, x = rng.uniform(low, high, 2).tolist()
        return y, x
    places = round((high - low) / protocol.start_step)
    y, x = (low + protocol.start_step * rng.integers(places + 1, size=2)).tolist()
    return y, x


def _distractor(
    protocol: DigitsProtocol, digits: Digits, rng: np.random.Generator, moving: tuple[MovingDigit, ...]
) -> tuple[int, tuple[float, float]]:
    others = sorted(set(range(10)) - {digit.label for digit in moving})
    candidates = digits.of_class[others[rng.integers(len(others))]]
    picture = int(candidates[rng.integers(len(candidates))])
    while True:
        place = _place(protocol, rng)
        if all(overlap(place, digit.start) <= MOST_OVERLAP for digit in moving):
            return picture, place


def overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Intersection over union of two digits' squares."""
    inside = np.prod([max(0.0, SIDE - FREE_PX * abs(a - b)) for a, b in zip(one, other, strict=True)])
    return float(inside / (2 * SIDE**2 - inside))


# ------------------------------------------------------------------------------------------------------------- the way


def positions(name: ProtocolName, clip: DigitsClip) -> Float64[np.ndarray, "D F 2"]:
    """Where the moving digits are in every frame, (y, x) as shares of the free range; one that has stopped rests."""
    protocol = PROTOCOLS[name]
    ways = np.empty((len(clip.digits), protocol.num_frames, 2))
    for number, digit in enumerate(clip.digits):
        ways[number] = digit.start
        ways[number, :, digit.axis] = _way(protocol, digit)
    return ways


def possible_positions(name: ProtocolName, clip: DigitsClip) -> Float64[np.ndarray, "D W F 2"]:
    """`positions` of every way that agrees with first frame and sentence, the true one first.

    W is 1, or 2 where the sentence names the axis of a motion and not the direction in which it begins.
    """
    ways = [positions(name, clip)]
    if name.startswith("sync-draw"):
        turned = tuple(replace(digit, forward=not digit.forward) for digit in clip.digits)
        ways.append(positions(name, replace(clip, digits=turned)))
    return np.stack(ways, axis=1)


def with_other_motions(name: ProtocolName, clip: DigitsClip) -> DigitsClip:
    """The same first frame with another sentence: the two digits exchange their motions.

    Where both move alike, or there is one digit, the first takes the other axis instead.
    """
    first, *rest = clip.digits
    motions = [(digit.axis, digit.forward, digit.bounces) for digit in clip.digits]
    if rest and motion_words(name, first) != motion_words(name, rest[0]):
        motions = motions[::-1]
    else:
        motions[0] = (1 - first.axis, first.forward, first.bounces)
    moving = tuple(
        replace(digit, axis=axis, forward=forward, bounces=bounces)
        for digit, (axis, forward, bounces) in zip(clip.digits, motions, strict=True)
    )
    return DigitsClip(moving, clip.distractor, caption_of(name, moving))


def _way(protocol: DigitsProtocol, digit: MovingDigit) -> Float64[np.ndarray, " F"]:
    """The coordinate that changes. At an edge it is set to the edge."""
    at, velocity = digit.start[digit.axis], protocol.step if digit.forward else -protocol.step
    way, turns = [at], 1 if digit.bounces else 0
    for frame in range(1, protocol.num_frames):
        at = at + velocity
        if not 0 < at < 1:
            at = min(max(at, 0.0), 1.0)
            if protocol.stops and not turns:
                velocity = 0.0
            velocity, turns = -velocity, turns - 1
        if protocol.stops and frame >= _MOST_POSITIONS:
            at = way[-1]
        way.append(at)
    return np.array(way)


def caption_of(name: ProtocolName, digits: tuple[MovingDigit, ...]) -> str:
    """The sentence of the protocol, with its own spelling and its space before the full stop."""
    words = [(digit.label, motion_words(name, digit)) for digit in digits]
    if name == "sync-draw-single":
        return f"the digits {words[0][0]} is moving {words[0][1]} ."
    if name == "sync-draw-double":
        return " and ".join(f"digit {label} is {motion}" for label, motion in words) + " ."
    return " and ".join(f"the digit {label} is moving {motion}" for label, motion in words) + " ."


def motion_words(name: ProtocolName, digit: MovingDigit) -> str:
    """The words for a motion: Sync-DRAW's name the axis, as `up and down`, MAGE's the way, as `left` or `up then down`."""
    if name.startswith("sync-draw"):
        return ("up and down", "left and right")[digit.axis]
    first, second = _TOWARDS[digit.axis][digit.forward], _TOWARDS[digit.axis][not digit.forward]
    return f"{first} then {second}" if digit.bounces else first


# ------------------------------------------------------------------------------------------------------------- pixels


def render_clip(
    name: ProtocolName, clip: DigitsClip, digits: Digits, frames: Int64[np.ndarray, " n"]
) -> UInt8[np.ndarray, "n 64 64 3"]:
    """Some frames of a clip: where digits overlap, the brighter one is seen.

    Args:
      frames: numbers of frames, each below the protocol's number.
    """
    ways = positions(name, clip)[:, frames]
    canvas = np.zeros((len(frames), VIEW_PX, VIEW_PX), np.uint8)
    still = (
        [] if clip.distractor is None else [(clip.distractor[0], np.broadcast_to(clip.distractor[1], (len(frames), 2)))]
    )
    for picture, way in [*((digit.picture, way) for digit, way in zip(clip.digits, ways, strict=True)), *still]:
        for frame, (top, left) in enumerate(corners(way)):
            part = canvas[frame, top : top + SIDE, left : left + SIDE]
            np.maximum(part, digits.images[picture], out=part)
    return np.repeat(canvas[..., None], 3, axis=-1)


def corners(way: Float64[np.ndarray, "... 2"]) -> Int64[np.ndarray, "... 2"]:
    """Positions -> the pixel of a digit's upper left corner (y, x), rounded down."""
    return np.floor(FREE_PX * way + 1e-9).astype(np.int64)
