"""Where the objects of a sprites scene are at any time, how large and how turned: closed forms of the time in seconds.

Angles are radians, clockwise as seen.
"""

import dataclasses
import math

import numpy as np

from cdcd_video.data.sprites_scene import (
    OUTER_RADIUS,
    SQUARE_HALF_SIDE,
    SQUARE_VIEW,
    STAR_CIRCUMRADIUS,
    TRIANGLE_CIRCUMRADIUS,
    Scene,
    SpriteObject,
    World,
)
from cdcd_video.data.sprites_words import BOUNCES, CIRCLES, DIRECTIONS, SIZE_MOTIONS

SPEED_PX_S = {"slowly": 8.0, None: 14.0, "quickly": 22.0}
SPIN_RAD_S = {"slowly": math.radians(45), None: math.radians(90), "quickly": math.radians(150)}
SIZE_FACTOR = {"slowly": 1.45, None: 1.9, "quickly": 2.2}
"""By what "grows" multiplies the radius, and "shrinks" divides it, over `SIZE_SECONDS`."""
SIZE_SECONDS = 2.0
SWING_PX = 10.0
"""Amplitude of a bounce and radius of a circling path."""
FREE_SECONDS = 2.0
"""A straight move started in a sampled scene is not stopped by the edge of the view before this time."""
LEAST_FREE_SHARE = 0.4
"""In the second world a straight move may be stopped earlier, after this share of the time at least."""
GAP_PX = 2.0
"""Least space between the circumscribed circles of two objects."""

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


def truth(scene: Scene, times_s: np.ndarray) -> Truth:
    """Centres, radii and angles of every object at the given times (F,) in seconds, which need not be even."""
    times = np.atleast_1d(np.asarray(times_s, dtype=np.float64))
    starts = [np.array([sprite.x, sprite.y]) for sprite in scene.objects]
    return Truth(
        centres=np.stack(
            [_centres(sprite, start, times, scene.view) for sprite, start in zip(scene.objects, starts, strict=True)]
        ),
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


def _centres(
    sprite: SpriteObject, starts: np.ndarray, times: np.ndarray, view: tuple[float, float] = SQUARE_VIEW
) -> np.ndarray:
    """Centres (..., F, 2) at times (F,) if the object started at `starts` (..., 2)."""
    speed = SPEED_PX_S[sprite.adverb]
    offsets = np.zeros((len(times), 2))
    if sprite.motion in DIRECTIONS:
        direction = np.array(DIRECTIONS[sprite.motion])
        low, high = _room(sprite, view)
        # The move ends where the first edge is reached. A start beyond its room (a hand-made scene) does not move.
        with np.errstate(divide="ignore", invalid="ignore"):
            ways = np.where(direction > 0, (high - starts) / direction, (low - starts) / direction)
        way = np.maximum(np.where(direction == 0, np.inf, ways).min(axis=-1), 0.0)
        return starts[..., None, :] + np.minimum(speed * times, way[..., None])[..., None] * direction
    if sprite.motion in BOUNCES:
        wave = np.abs((speed * times - SWING_PX) % (4 * SWING_PX) - 2 * SWING_PX) - SWING_PX
        offsets = wave[:, None] * np.array(BOUNCES[sprite.motion])
    elif sprite.motion in CIRCLES:
        turn = CIRCLES[sprite.motion] * speed / SWING_PX * times
        offsets = SWING_PX * np.stack([np.sin(turn), 1.0 - np.cos(turn)], axis=-1)
    return starts[..., None, :] + offsets


def _room(sprite: SpriteObject, view: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The least and greatest centre (x, y) at which the whole object is in view, at its largest, at any of its angles."""
    radius = sprite.radius * (SIZE_FACTOR[sprite.adverb] if sprite.motion == "grows" else 1.0)
    reach = (OUTER_RADIUS[sprite.shape],) * 4 if sprite.motion == "spins" else _UPRIGHT_REACH[sprite.shape]
    left, up, right, down = (radius * side for side in reach)
    return np.array([left, up]), np.array([view[0] - right, view[1] - down])


def start_room(sprite: SpriteObject, world: World, free_share: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The least and greatest start (x, y) from which the motion stays in view; empty where least exceeds greatest.

    Args:
      sprite: what moves.
      world: its view, and its window, which is how long a straight move is free of the edges, at most `FREE_SECONDS`.
      free_share: share of that time, where a move may end at an edge earlier.
    """
    low, high = _room(sprite, world.view)
    before, after = np.zeros(2), np.zeros(2)  # how far the path goes to smaller and to greater coordinates
    if sprite.motion in DIRECTIONS:
        seconds = min((world.num_frames - 1) / world.fps, FREE_SECONDS)
        travel = free_share * SPEED_PX_S[sprite.adverb] * seconds * np.array(DIRECTIONS[sprite.motion])
        before, after = np.maximum(-travel, 0.0), np.maximum(travel, 0.0)
    elif sprite.motion in BOUNCES:
        before = after = SWING_PX * np.abs(BOUNCES[sprite.motion])
    elif sprite.motion in CIRCLES:
        before, after = np.array([SWING_PX, 0.0]), np.array([SWING_PX, 2 * SWING_PX])
    return low + before, high - after


def apart(
    first: SpriteObject,
    second: SpriteObject,
    starts: np.ndarray,
    times: np.ndarray,
    view: tuple[float, float] = SQUARE_VIEW,
) -> np.ndarray | np.bool_:
    """For pairs of starts (..., 2, 2), whether the two objects keep their distance at all times; bool (...)."""
    between = _centres(first, starts[..., 0, :], times, view) - _centres(second, starts[..., 1, :], times, view)
    outer = OUTER_RADIUS[first.shape] * _radii(first, times) + OUTER_RADIUS[second.shape] * _radii(second, times)
    return (np.hypot(between[..., 0], between[..., 1]) > outer + GAP_PX).all(axis=-1)
