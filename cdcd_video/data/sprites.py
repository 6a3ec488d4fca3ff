"""The built-in world "sprites": captioned moving shapes whose truth is known exactly.

A scene is one or two flat shapes on a quiet background, and the sentence that says what they do. What happens is a
deterministic function of the first frame and the sentence: position, size and angle are closed forms of the time in
seconds, so a scene can be rendered at any frame rate, and the same first frame with another sentence has its own truth.

This file holds the words, the sampling of scenes and the motion; `sprites_render` draws them. Lengths are pixels of the
64x64 view, x to the right and y down, with the first pixel's centre at (0.5, 0.5). Angles are radians, clockwise as
seen.
"""

import colorsys
import dataclasses
import functools
import math
from typing import Literal

import numpy as np

from cdcd_video.errors import UserError

Split = Literal["train", "val", "heldout"]

VIEW_PX = 64
"""Side of the square view, in the unit of every length in this file."""

SHAPES = ("circle", "square", "triangle", "star")
COLOURS = {
    "red": (232, 48, 52),
    "green": (56, 190, 76),
    "blue": (56, 108, 250),
    "yellow": (252, 216, 48),
    "purple": (176, 72, 226),
    "cyan": (64, 216, 230),
    "orange": (252, 138, 32),
    "white": (246, 246, 246),
}
"""Colour word to RGB in 0..255."""
SIZES = {"small": 6.0, None: 7.8, "large": 9.6}
"""Size word to the mean nominal radius; None is the size when no word is said."""
ADVERBS = (None, "slowly", "quickly")
SPLITS: tuple[Split, ...] = ("train", "val", "heldout")
BACKGROUNDS = ("plain", "gradient", "stripes", "checker", "blobs")

_DIAGONAL = math.sqrt(0.5)
_DIRECTIONS = {
    "moves left": (-1.0, 0.0),
    "moves right": (1.0, 0.0),
    "moves up": (0.0, -1.0),
    "moves down": (0.0, 1.0),
    "moves up and left": (-_DIAGONAL, -_DIAGONAL),
    "moves up and right": (_DIAGONAL, -_DIAGONAL),
    "moves down and left": (-_DIAGONAL, _DIAGONAL),
    "moves down and right": (_DIAGONAL, _DIAGONAL),
}
_BOUNCES = {"bounces left and right": (-1.0, 0.0), "bounces up and down": (0.0, -1.0)}
_CIRCLES = {"circles clockwise": 1.0, "circles counterclockwise": -1.0}

STRAIGHT_MOTIONS = tuple(_DIRECTIONS)
BOUNCE_MOTIONS = tuple(_BOUNCES)
CIRCLE_MOTIONS = tuple(_CIRCLES)
SIZE_MOTIONS = ("grows", "shrinks")
MOTIONS = (*STRAIGHT_MOTIONS, *BOUNCE_MOTIONS, *CIRCLE_MOTIONS, *SIZE_MOTIONS, "spins", "stays still")

VOCABULARY = tuple(
    sorted({"the", "and", "small", "large", "slowly", "quickly", *SHAPES, *COLOURS, *" ".join(MOTIONS).split()})
)
"""Every word a caption can hold."""

HELD_OUT_COLOUR_SHAPE = (("purple", "circle"), ("orange", "square"), ("cyan", "triangle"), ("green", "star"))
HELD_OUT_SHAPE_MOTION = (
    ("circle", "bounces up and down"),
    ("square", "moves down and left"),
    ("triangle", "circles counterclockwise"),
    ("star", "moves up"),
)
"""Combinations never seen in "train" and "val"; every colour, shape and motion is seen there in others."""

SPEED_PX_S = {"slowly": 8.0, None: 14.0, "quickly": 22.0}
SPIN_RAD_S = {"slowly": math.radians(45), None: math.radians(90), "quickly": math.radians(150)}
SIZE_FACTOR = {"slowly": 1.45, None: 1.9, "quickly": 2.2}
"""By what "grows" multiplies the radius, and "shrinks" divides it, over `SIZE_SECONDS`."""
SIZE_SECONDS = 2.0
SWING_PX = 10.0
"""Amplitude of a bounce and radius of a circling path."""
FREE_SECONDS = 2.0
"""A straight move started in a sampled scene is not stopped by the edge of the view before this time."""
GAP_PX = 2.0
"""Least space between the circumscribed circles of two objects."""

# Geometry per shape in units of the nominal radius. The sizes are a compromise: about equal weight to the eye, yet a
# large star that moves quickly for the whole window still fits between the edges of the view.
SQUARE_HALF_SIDE = 0.88
TRIANGLE_CIRCUMRADIUS = 1.25
STAR_CIRCUMRADIUS = 1.22
STAR_INNER = 0.5  # radius of the notches over that of the tips
OUTER_RADIUS = {
    "circle": 1.0,
    "square": SQUARE_HALF_SIDE * math.sqrt(2),
    "triangle": TRIANGLE_CIRCUMRADIUS,
    "star": STAR_CIRCUMRADIUS,
}
"""Circumscribed radius of each shape, in nominal radii."""
AREA = {
    "circle": math.pi,
    "square": 4 * SQUARE_HALF_SIDE**2,
    "triangle": 0.75 * math.sqrt(3) * TRIANGLE_CIRCUMRADIUS**2,
    "star": 5 * STAR_INNER * math.sin(math.pi / 5) * STAR_CIRCUMRADIUS**2,
}
"""Area of each shape at nominal radius 1."""
SYMMETRY = {"circle": 0, "square": 4, "triangle": 3, "star": 5}
"""Turns by 1/n of a full turn leave the shape unchanged; 0 where any turn does."""
_UPRIGHT_REACH = {  # how far the upright shape reaches left, up, right, down of its centre
    "circle": (1.0, 1.0, 1.0, 1.0),
    "square": (SQUARE_HALF_SIDE,) * 4,
    "triangle": (
        math.sin(math.pi / 3) * TRIANGLE_CIRCUMRADIUS,
        TRIANGLE_CIRCUMRADIUS,
        math.sin(math.pi / 3) * TRIANGLE_CIRCUMRADIUS,
        0.5 * TRIANGLE_CIRCUMRADIUS,
    ),
    "star": (
        math.sin(2 * math.pi / 5) * STAR_CIRCUMRADIUS,
        STAR_CIRCUMRADIUS,
        math.sin(2 * math.pi / 5) * STAR_CIRCUMRADIUS,
        math.cos(math.pi / 5) * STAR_CIRCUMRADIUS,
    ),
}

_RADIUS_JITTER_PX = 0.4
_WORD_SHARE = 0.6  # how often a size or an adverb is said
_PLACINGS = 64  # starting points tried at once for a given sentence
_SENTENCES = 40  # sentences tried before the scene is given one object fewer


@dataclasses.dataclass(frozen=True)
class World:
    """The dials of the world; the default is the full one.

    Attributes:
      max_objects: 1 or 2.
      two_object_share: share of scenes with two objects, 0..1, where `max_objects` allows it.
      motions, shapes, colours, backgrounds: which words and kinds may occur.
      sizes, adverbs: whether size words and adverbs occur.
      num_frames, fps: the window in which objects never touch each other.
    """

    max_objects: int = 2
    two_object_share: float = 0.4
    motions: tuple[str, ...] = MOTIONS
    shapes: tuple[str, ...] = SHAPES
    colours: tuple[str, ...] = tuple(COLOURS)
    sizes: bool = True
    adverbs: bool = True
    backgrounds: tuple[str, ...] = BACKGROUNDS
    num_frames: int = 16
    fps: float = 8.0

    def __post_init__(self):
        for name, known in (
            ("motions", MOTIONS),
            ("shapes", SHAPES),
            ("colours", tuple(COLOURS)),
            ("backgrounds", BACKGROUNDS),
        ):
            words = tuple(getattr(self, name))
            object.__setattr__(self, name, words)  # a list from a config would not be hashable
            if not words or len(set(words) & set(known)) < len(words):
                raise UserError(f"sprites: {name} must be one or more different ones of {known}; got {words}.")
        if self.max_objects not in (1, 2):
            raise UserError(f"sprites: max_objects must be 1 or 2, got {self.max_objects}.")
        if not 0 <= self.two_object_share <= 1:
            raise UserError(f"sprites: two_object_share must lie in 0..1, got {self.two_object_share}.")
        if self.num_frames < 1 or not self.fps > 0:
            raise UserError(f"sprites: need num_frames >= 1 and fps > 0, got {self.num_frames} and {self.fps}.")

    @property
    def times_s(self) -> np.ndarray:
        """Times of the window's frames in seconds, float64 (num_frames,)."""
        return np.arange(self.num_frames) / self.fps


@dataclasses.dataclass(frozen=True)
class SpriteObject:
    """One object: what the sentence says of it, and where it starts.

    Attributes:
      size, colour, shape, motion, adverb: words of the caption; `size` and `adverb` are None where not said.
      x, y: centre at time 0, in px.
      radius: nominal radius at time 0, in px (see `OUTER_RADIUS` and `AREA` for what it means to each shape).
    """

    colour: str
    shape: str
    motion: str
    x: float
    y: float
    radius: float
    size: str | None = None
    adverb: str | None = None

    @property
    def phrase(self) -> str:
        """This object's part of the caption."""
        words = ("the", self.size, self.colour, self.shape, self.motion, self.adverb)
        return " ".join(word for word in words if word)


@dataclasses.dataclass(frozen=True)
class Background:
    """A static, muted background: two RGB colours in 0..1 and the pattern between them.

    Attributes:
      kind: one of `BACKGROUNDS`.
      first, second: the two colours ("plain" shows the first alone).
      angle_rad, period_px, phase: direction, wavelength and offset (0..1) of the pattern.
      seed: stream of the waves that make up "blobs".
    """

    kind: str
    first: tuple[float, float, float]
    second: tuple[float, float, float]
    angle_rad: float = 0.0
    period_px: float = 16.0
    phase: float = 0.0
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Scene:
    """A first frame and the sentence that says what happens next."""

    objects: tuple[SpriteObject, ...]
    background: Background
    caption: str
    seed: int
    index: int
    split: Split


@dataclasses.dataclass(frozen=True)
class Truth:
    """What really happens: for O objects in F frames, all float64.

    Attributes:
      centres: (O, F, 2) as (x, y) in px.
      radii: (O, F) nominal radii in px.
      angles_rad: (O, F), clockwise, not wrapped.
    """

    centres: np.ndarray
    radii: np.ndarray
    angles_rad: np.ndarray


def caption_of(objects: tuple[SpriteObject, ...]) -> str:
    """The sentence for these objects, e.g. "the small red circle moves right and the blue square stays still"."""
    return " and ".join(sprite.phrase for sprite in objects)


def held_out(sprite: SpriteObject) -> tuple[str, ...]:
    """Which kinds of held-out combination an object shows: of "colour-shape" and "shape-motion", none, one or both."""
    kinds = []
    if (sprite.colour, sprite.shape) in HELD_OUT_COLOUR_SHAPE:
        kinds.append("colour-shape")
    if (sprite.shape, sprite.motion) in HELD_OUT_SHAPE_MOTION:
        kinds.append("shape-motion")
    return tuple(kinds)


# Motion -----------------------------------------------------------------------------------------------------------


def truth(scene: Scene, times_s: np.ndarray) -> Truth:
    """Centres, radii and angles of every object at the given times (F,) in seconds, which need not be even."""
    times = np.atleast_1d(np.asarray(times_s, dtype=np.float64))
    starts = [np.array([sprite.x, sprite.y]) for sprite in scene.objects]
    return Truth(
        centres=np.stack([_centres(sprite, start, times) for sprite, start in zip(scene.objects, starts, strict=True)]),
        radii=np.stack([_radii(sprite, times) for sprite in scene.objects]),
        angles_rad=np.stack([_angles(sprite, times) for sprite in scene.objects]),
    )


def _radii(sprite: SpriteObject, times: np.ndarray) -> np.ndarray:
    if sprite.motion not in SIZE_MOTIONS:
        return np.full(times.shape, sprite.radius)
    sign = 1.0 if sprite.motion == "grows" else -1.0
    return sprite.radius * SIZE_FACTOR[sprite.adverb] ** (sign * np.minimum(times / SIZE_SECONDS, 1.0))


def _angles(sprite: SpriteObject, times: np.ndarray) -> np.ndarray:
    return times * (SPIN_RAD_S[sprite.adverb] if sprite.motion == "spins" else 0.0)


def _centres(sprite: SpriteObject, starts: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Centres (..., F, 2) at times (F,) if the object started at `starts` (..., 2)."""
    speed = SPEED_PX_S[sprite.adverb]
    offsets = np.zeros((len(times), 2))
    if sprite.motion in _DIRECTIONS:
        direction = np.array(_DIRECTIONS[sprite.motion])
        low, high = _room(sprite)
        # The move ends where the first edge is reached. A start beyond its room (a hand-made scene) does not move.
        with np.errstate(divide="ignore", invalid="ignore"):
            ways = np.where(direction > 0, (high - starts) / direction, (low - starts) / direction)
        way = np.maximum(np.where(direction == 0, np.inf, ways).min(axis=-1), 0.0)
        return starts[..., None, :] + np.minimum(speed * times, way[..., None])[..., None] * direction
    if sprite.motion in _BOUNCES:
        wave = np.abs((speed * times - SWING_PX) % (4 * SWING_PX) - 2 * SWING_PX) - SWING_PX
        offsets = wave[:, None] * np.array(_BOUNCES[sprite.motion])
    elif sprite.motion in _CIRCLES:
        turn = _CIRCLES[sprite.motion] * speed / SWING_PX * times
        offsets = SWING_PX * np.stack([np.sin(turn), 1.0 - np.cos(turn)], axis=-1)
    return starts[..., None, :] + offsets


def _room(sprite: SpriteObject) -> tuple[np.ndarray, np.ndarray]:
    """The least and greatest centre (x, y) at which the whole object is in view, at its largest, at any of its angles."""
    radius = sprite.radius * (SIZE_FACTOR[sprite.adverb] if sprite.motion == "grows" else 1.0)
    reach = (OUTER_RADIUS[sprite.shape],) * 4 if sprite.motion == "spins" else _UPRIGHT_REACH[sprite.shape]
    left, up, right, down = (radius * side for side in reach)
    return np.array([left, up]), np.array([VIEW_PX - right, VIEW_PX - down])


def _start_room(sprite: SpriteObject, world: World) -> tuple[np.ndarray, np.ndarray]:
    """The least and greatest start (x, y) from which the motion stays in view; empty where least exceeds greatest."""
    low, high = _room(sprite)
    before, after = np.zeros(2), np.zeros(2)  # how far the path goes to smaller and to greater coordinates
    if sprite.motion in _DIRECTIONS:
        seconds = min((world.num_frames - 1) / world.fps, FREE_SECONDS)
        travel = SPEED_PX_S[sprite.adverb] * seconds * np.array(_DIRECTIONS[sprite.motion])
        before, after = np.maximum(-travel, 0.0), np.maximum(travel, 0.0)
    elif sprite.motion in _BOUNCES:
        before = after = SWING_PX * np.abs(_BOUNCES[sprite.motion])
    elif sprite.motion in _CIRCLES:
        before, after = np.array([SWING_PX, 0.0]), np.array([SWING_PX, 2 * SWING_PX])
    return low + before, high - after


def _apart(first: SpriteObject, second: SpriteObject, starts: np.ndarray, times: np.ndarray) -> np.ndarray:
    """For pairs of starts (..., 2, 2), whether the two objects keep their distance at all times; bool (...)."""
    between = _centres(first, starts[..., 0, :], times) - _centres(second, starts[..., 1, :], times)
    outer = OUTER_RADIUS[first.shape] * _radii(first, times) + OUTER_RADIUS[second.shape] * _radii(second, times)
    return (np.hypot(between[..., 0], between[..., 1]) > outer + GAP_PX).all(axis=-1)


# Sampling ---------------------------------------------------------------------------------------------------------


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
            objects = _draw_objects(rng, count, split, world)
            if objects:
                background = _draw_background(rng, world)
                return Scene(objects, background, caption_of(objects), seed, index, split)
    raise UserError(f"sprites: no {split} scene fits into this world; allow more motions, shapes or colours: {world}.")


@functools.lru_cache(maxsize=64)
def _seen_pairs(world: World) -> dict[str, tuple[str, ...]]:
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


def _draw_objects(rng: np.random.Generator, count: int, split: Split, world: World) -> tuple[SpriteObject, ...] | None:
    """Draws a sentence, then places its objects; None where the sentence does not fit into the view."""
    odd_one = int(rng.integers(count)) if split == "heldout" else -1
    objects: list[SpriteObject] = []
    for place in range(count):
        words = _draw_held_out(rng, world) if place == odd_one else _draw_seen(rng, world)
        if words is None or any(words[0] == other.colour for other in objects):
            return None
        colour, shape, motion = words
        size = _pick(rng, ("small", "large")) if world.sizes and rng.random() < _WORD_SHARE else None
        adverb = _pick(rng, ("slowly", "quickly")) if world.adverbs and rng.random() < _WORD_SHARE else None
        radius = SIZES[size] + _RADIUS_JITTER_PX * rng.uniform(-1, 1)
        adverb = None if motion == "stays still" else adverb
        objects.append(SpriteObject(colour, shape, motion, 0.0, 0.0, radius, size, adverb))

    rooms = [_start_room(sprite, world) for sprite in objects]
    if any((low > high).any() for low, high in rooms):
        return None
    low, high = (np.stack(side) for side in zip(*rooms, strict=True))
    starts = low + (high - low) * rng.random((_PLACINGS, count, 2))
    if count == 2:
        starts = starts[_apart(objects[0], objects[1], starts, world.times_s)]
        if not len(starts):
            return None
    return tuple(
        dataclasses.replace(sprite, x=float(x), y=float(y)) for sprite, (x, y) in zip(objects, starts[0], strict=True)
    )


def _draw_seen(rng: np.random.Generator, world: World) -> tuple[str, str, str] | None:
    """A colour, shape and motion of which no pair is held out."""
    pairs = _seen_pairs(world)
    if not pairs:
        return None
    motion = _pick(rng, tuple(pairs))
    shape = _pick(rng, pairs[motion])
    colours = tuple(colour for colour in world.colours if (colour, shape) not in HELD_OUT_COLOUR_SHAPE)
    return _pick(rng, colours), shape, motion


def _draw_held_out(rng: np.random.Generator, world: World) -> tuple[str, str, str] | None:
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


def _draw_background(rng: np.random.Generator, world: World) -> Background:
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
    return Background(kind, colours[0], colours[1], angle, period, phase, int(seed))


# Other sentences for the same first frame -------------------------------------------------------------------------


def with_motion(
    scene: Scene, object_index: int, motion: str, adverb: str | None = None, *, world: World | None = None
) -> Scene | None:
    """The same first frame, bit for bit, with another sentence about one object.

    Args:
      scene: the scene to start from.
      object_index: whose motion changes.
      motion: one of `MOTIONS`.
      adverb: None, "slowly" or "quickly".
      world: its window is where the objects must not touch; None means the full world.

    Returns:
      The scene, or None where the motion cannot be seen (a circle that spins), has no adverb (stays still), would
      leave the view or touch the other object.
    """
    world = world or World()
    old = scene.objects[object_index]
    if (old.shape, motion) == ("circle", "spins") or (motion == "stays still" and adverb is not None):
        return None
    new = dataclasses.replace(old, motion=motion, adverb=adverb)
    low, high = _start_room(new, world)
    start = np.array([new.x, new.y])
    if (start < low).any() or (start > high).any():
        return None
    objects = tuple(new if place == object_index else sprite for place, sprite in enumerate(scene.objects))
    if len(objects) == 2:
        starts = np.array([[sprite.x, sprite.y] for sprite in objects])
        if not _apart(*objects, starts, world.times_s):
            return None
    return dataclasses.replace(scene, objects=objects, caption=caption_of(objects))


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
