"""Draws scenes of the world "sprites", and other sentences for the same first frame."""

import colorsys
import dataclasses
import functools
import math

import numpy as np

from cdcd_video.data.sprites_looks import sample_ground, sample_look
from cdcd_video.data.sprites_motion import LEAST_FREE_SHARE, apart, start_room
from cdcd_video.data.sprites_scene import Background, Scene, SpriteObject, World, caption_of, held_out
from cdcd_video.data.sprites_words import (
    ADVERBS,
    HELD_OUT_COLOUR_SHAPE,
    HELD_OUT_SHAPE_MOTION,
    SIZES,
    SPLITS,
    Split,
)
from cdcd_video.errors import UserError

_RADIUS_JITTER_PX, _WIDER_JITTER_PX = 0.4, 1.2
_TIMES_AS_OFTEN = {"spins": 4, "bounces left and right": 2, "bounces up and down": 2}
"""What is hard to learn is trained on more often in the second world, and measured as often as the rest."""
STOPPED_SHARE = 0.3
"""In the second world, the share of straight moves for which the edge of the view may leave less than the whole room."""
OPEN_SHARE = 0.5
"""In the world "open", the share of the captions with a direction that leave it out."""
_WORD_SHARE = 0.6  # how often a size or an adverb is said
_PLACINGS = 64  # starting points tried at once for a given sentence
_SENTENCES = 40  # sentences tried before the scene is given one object fewer


def sample_scene(seed: int, index: int, split: Split = "train", *, world: World | None = None) -> Scene:
    """Draws scene number `index` of a split: the same arguments give the same scene on every machine.

    Each split has its own random stream. "train" and "val" never hold a held-out combination; each scene of "heldout"
    holds exactly one, of either kind.

    Args:
      seed: 0 or more; names the data set.
      index: 0 or more; any order, any subset.
      split: "train", "val" or "heldout".
      world: the dials; None means the full world.

    Raises:
      UserError: if the split is unknown, a number is negative, or the world leaves nothing to draw.
    """
    world = world or World()
    if split not in SPLITS:
        raise UserError(f"sprites: split must be one of {', '.join(SPLITS)}, got {split!r}.")
    if not (0 <= seed < 2**64 and 0 <= index < 2**64):
        raise UserError(f"sprites: seed and index must be 0 or more and below 2**64, got {seed} and {index}.")
    # The key names the stream; the index sits in the counter's highest word, so that scenes never share numbers.
    rng = np.random.Generator(np.random.Philox(key=[seed, SPLITS.index(split)], counter=[0, 0, 0, index]))
    wants_two = rng.random() < world.two_object_share
    most = 2 if wants_two and world.max_objects == 2 and len(world.colours) > 1 else 1
    for count in range(most, 0, -1):
        for _ in range(_SENTENCES):
            objects = _sample_objects(rng, count, split, world)
            if objects:
                background = (
                    _sample_background(rng, world) if world.version == "v1" else sample_ground(rng, world, objects)
                )
                scene = Scene(objects, background, caption_of(objects), seed, index, split)
                return _sometimes_open(scene) if world.version == "open" else scene
    raise UserError(f"sprites: no {split} scene fits into this world; allow more motions, shapes or colours: {world}.")


def _sometimes_open(scene: Scene) -> Scene:
    """The scene, its directions left out of the caption in a share `OPEN_SHARE` of those that have one.

    The choice has a random stream of its own, so that everything else is as in the world "v2".
    """
    if all(sprite.open_motion == sprite.motion for sprite in scene.objects):
        return scene
    key, counter = [scene.seed, SPLITS.index(scene.split)], [0, 0, 1, scene.index]
    if np.random.Generator(np.random.Philox(key=key, counter=counter)).random() >= OPEN_SHARE:
        return scene
    return dataclasses.replace(scene, caption=caption_of(scene.objects, is_open=True), is_open=True)


@functools.lru_cache(maxsize=64)
def trained_pairs(world: World) -> dict[str, tuple[str, ...]]:
    """For each motion of the world, the shapes it may be seen with outside "heldout"."""
    pairs = {}
    for motion in world.motions:
        shapes = tuple(
            shape
            for shape in world.shapes
            if (shape, motion) not in HELD_OUT_SHAPE_MOTION
            and (shape, motion) != ("circle", "spins")  # a circle that spins looks like one that does not
            and any((colour, shape) not in HELD_OUT_COLOUR_SHAPE for colour in world.colours)
        )
        if shapes:
            pairs[motion] = shapes
    return pairs


def _pick(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


def _sample_objects(
    rng: np.random.Generator, count: int, split: Split, world: World
) -> tuple[SpriteObject, ...] | None:
    """Draws a sentence, then places its objects; None where the sentence does not fit into the view."""
    odd_one = int(rng.integers(count)) if split == "heldout" else -1
    objects: list[SpriteObject] = []
    for place in range(count):
        words = _sample_held_out(rng, world) if place == odd_one else _sample_trained(rng, world, split)
        if words is None or any(words[0] == other.colour for other in objects):
            return None
        colour, shape, motion = words
        size = _pick(rng, ("small", "large")) if world.sizes and rng.random() < _WORD_SHARE else None
        adverb = _pick(rng, ("slowly", "quickly")) if world.adverbs and rng.random() < _WORD_SHARE else None
        jitter = _RADIUS_JITTER_PX if world.version == "v1" else _WIDER_JITTER_PX
        radius = SIZES[size] + jitter * rng.uniform(-1, 1)
        adverb = None if motion == "stays still" else adverb
        look = None if world.version == "v1" else sample_look(rng, colour, radius, objects)
        objects.append(SpriteObject(colour, shape, motion, 0.0, 0.0, radius, size, adverb, look))

    free = [1.0 if world.version == "v1" else _free_share(rng) for _ in objects]
    rooms = [start_room(sprite, world, share) for sprite, share in zip(objects, free, strict=True)]
    if any((low > high).any() for low, high in rooms):
        return None
    low, high = (np.stack(side) for side in zip(*rooms, strict=True))
    starts = low + (high - low) * rng.random((_PLACINGS, count, 2))
    if count == 2:
        starts = starts[apart(objects[0], objects[1], starts, world.times_s, world.view)]
        if not len(starts):
            return None
    return tuple(
        dataclasses.replace(sprite, x=float(x), y=float(y)) for sprite, (x, y) in zip(objects, starts[0], strict=True)
    )


def _free_share(rng: np.random.Generator) -> float:
    """Which part of a straight move the edge of the view leaves room for, in the second world: now and then not all of it."""
    share = rng.uniform(LEAST_FREE_SHARE, 1.0)
    return share if rng.random() < STOPPED_SHARE else 1.0


def _sample_trained(rng: np.random.Generator, world: World, split: Split) -> tuple[str, str, str] | None:
    """A colour, shape and motion of which no pair is held out."""
    pairs = trained_pairs(world)
    if not pairs:
        return None
    motions = tuple(pairs)
    if world.version != "v1" and split == "train":
        weights = _TIMES_AS_OFTEN | dict(world.motion_weights)
        motions = tuple(motion for motion in motions for _ in range(weights.get(motion, 1)))
    motion = _pick(rng, motions)
    shape = _pick(rng, pairs[motion])
    colours = tuple(colour for colour in world.colours if (colour, shape) not in HELD_OUT_COLOUR_SHAPE)
    return _pick(rng, colours), shape, motion


def _sample_held_out(rng: np.random.Generator, world: World) -> tuple[str, str, str] | None:
    """A colour, shape and motion of which exactly one pair is held out."""
    odd_triples = _held_out_triples(world)
    kinds = tuple(kind for kind in odd_triples if odd_triples[kind])
    return _pick(rng, odd_triples[_pick(rng, kinds)]) if kinds else None


@functools.lru_cache(maxsize=64)
def _held_out_triples(world: World) -> dict[str, tuple[tuple[str, str, str], ...]]:
    triples: dict[str, list[tuple[str, str, str]]] = {"colour-shape": [], "shape-motion": []}
    for colour in world.colours:
        for shape in world.shapes:
            for motion in world.motions:
                kinds = held_out(SpriteObject(colour, shape, motion, 0.0, 0.0, 1.0))
                if len(kinds) == 1 and (shape, motion) != ("circle", "spins"):
                    triples[kinds[0]].append((colour, shape, motion))
    return {kind: tuple(rows) for kind, rows in triples.items()}


def _sample_background(rng: np.random.Generator, world: World) -> Background:
    """Muted and dark, with little contrast, so that all object colours stand out from it."""
    kind = _pick(rng, world.backgrounds)
    hue, saturation, value = rng.random(), rng.uniform(0.15, 0.45), rng.uniform(0.16, 0.28)
    other_hue, other_value = hue + rng.uniform(-0.08, 0.08), value + rng.uniform(0.05, 0.12)
    angle, period, phase, seed = rng.uniform(0, 2 * math.pi), rng.uniform(9, 20), rng.random(), rng.integers(2**32)
    colours = [
        colorsys.hsv_to_rgb(hue % 1.0, saturation, value),
        colorsys.hsv_to_rgb(other_hue % 1.0, saturation, other_value),
    ]
    if rng.random() < 0.5:
        colours.reverse()
    return Background(kind, colours[0], colours[1], angle, period, phase, int(seed), view=world.view)


def with_motion(
    scene: Scene, object_index: int, motion: str, adverb: str | None = None, *, world: World | None = None
) -> Scene | None:
    """The same first frame, bit for bit, with another sentence about one object; directions are named.

    Args:
      scene: the scene to start from.
      object_index: whose motion changes.
      motion: one of `MOTIONS`.
      adverb: None, "slowly" or "quickly".
      world: its window is where the objects must not touch; None means the full world. The view is the scene's.

    Returns:
      The scene, or None where the motion cannot be seen (a circle that spins), has no adverb (stays still), would
      leave the view or touch the other object.
    """
    world = dataclasses.replace(world or World(), view=scene.view)
    old = scene.objects[object_index]
    if (old.shape, motion) == ("circle", "spins") or (motion == "stays still" and adverb is not None):
        return None
    new = dataclasses.replace(old, motion=motion, adverb=adverb)
    low, high = start_room(new, world)
    start = np.array([new.x, new.y])
    if (start < low).any() or (start > high).any():
        return None
    objects = tuple(new if place == object_index else sprite for place, sprite in enumerate(scene.objects))
    if len(objects) == 2:
        starts = np.array([[sprite.x, sprite.y] for sprite in objects])
        if not apart(*objects, starts, world.times_s, world.view):
            return None
    return dataclasses.replace(scene, objects=objects, caption=caption_of(objects), is_open=False)


def counterfactual(scene: Scene, rng: np.random.Generator, *, world: World | None = None) -> Scene:
    """The same first frame with one object doing something else, drawn from `rng`.

    The new motion is another one, not the old one at another speed, and outside "heldout" it makes no held-out pair.

    Raises:
      UserError: if the world knows no other motion that fits.
    """
    world = world or World()
    options = [
        (place, motion, adverb)
        for place in range(len(scene.objects))
        for motion in world.motions
        for adverb in (ADVERBS if world.adverbs else (None,))
        if motion != scene.objects[place].motion
    ]
    for choice in rng.permutation(len(options)):
        place, motion, adverb = options[choice]
        changed = with_motion(scene, place, motion, adverb, world=world)
        if changed and (scene.split == "heldout" or not held_out(changed.objects[place])):
            return changed
    raise UserError(f"sprites: no other motion of this world fits the scene {scene.caption!r}; allow more motions.")


def exchanged_caption(scene: Scene) -> str | None:
    """The sentence in which two objects exchange what they do: "A moves left and B spins" becomes "A spins and B moves left".

    It has the same words in another order, so that a model must bind motions to objects to know that it is wrong. Whether
    there is room for these motions does not matter to a sentence.

    Returns:
      None for one object, where the sentence would be the same, and where it would pair what is never seen in this split.
    """
    if len(scene.objects) != 2:
        return None
    first, second = scene.objects
    exchanged = (
        dataclasses.replace(first, motion=second.motion, adverb=second.adverb),
        dataclasses.replace(second, motion=first.motion, adverb=first.adverb),
    )
    is_seen = all((new.shape, new.motion) != ("circle", "spins") for new in exchanged)
    if scene.split != "heldout":
        is_seen = is_seen and not any(held_out(new) for new in exchanged)
    caption = caption_of(exchanged, scene.is_open)
    return caption if is_seen and caption != scene.caption else None
