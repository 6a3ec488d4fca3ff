"""The futures of a caption that leaves the direction out: what it allows, and how likely each is in the world "open"."""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float64

from cdcd_video.data.sprites_motion import LEAST_FREE_SHARE, apart, start_room
from cdcd_video.data.sprites_sampling import STOPPED_SHARE, trained_pairs
from cdcd_video.data.sprites_scene import Scene, SpriteObject, World, held_out
from cdcd_video.data.sprites_words import VERBS

_SHARES = np.linspace(LEAST_FREE_SHARE, 1.0, 121)
"""Nodes of the mean over the room that the edge of the view leaves; the first holds every future that is allowed."""


def futures(scene: Scene, times_s: Float64[np.ndarray, " F"]) -> tuple[Scene, ...]:
    """Every scene with this first frame and this caption: one for each future that the caption allows.

    A future is allowed if each object has as much room for it as the world leaves when it samples a motion, and if the
    objects never touch.

    Args:
      scene: its own future comes first.
      times_s: (F,) in seconds, rising from 0: for so long there must be room.

    Returns:
      The scenes; the scene alone where its caption is not open.
    """
    return _futures(scene, World(num_frames=2, fps=1.0 / max(float(times_s[-1]), 1e-6), view=scene.view), times_s)


def sampled_futures(scene: Scene, world: World) -> tuple[tuple[Scene, ...], Float64[np.ndarray, " n"]]:
    """The futures of an open caption that the world samples itself, and the probability of each given frame and caption.

    These are the ones of its own motions without a held-out pair. A motion is as likely as the world samples it with this
    shape and places its start here, which is the less likely the more room it has.

    Args:
      scene: of this world, of the split "train" or "val".
      world: the world, with the window in which it leaves room.

    Returns:
      The n scenes, the scene's own future first, and their probabilities, which sum to 1. For one object they are exact up to
      the quadrature; for two they leave out that starts are sampled again where the objects would touch.
    """
    known = [
        future
        for future in _futures(scene, world, world.times_s)
        if all(sprite.motion in world.motions for sprite in future.objects)
        and not any(held_out(sprite) for sprite in future.objects)
    ]
    weights = [np.prod([_density(sprite, world) for sprite in future.objects]) for future in known]
    return tuple(known), np.array(weights) / np.sum(weights)


def _futures(scene: Scene, window: World, times_s: np.ndarray) -> tuple[Scene, ...]:
    if not scene.is_open:
        return (scene,)
    found = [scene]
    for objects in itertools.product(*(_alternatives(sprite, window) for sprite in scene.objects)):
        if objects != scene.objects and _never_touch(objects, times_s, scene.view):
            found.append(dataclasses.replace(scene, objects=objects))
    return tuple(found)


def _alternatives(sprite: SpriteObject, window: World) -> list[SpriteObject]:
    """The object with each motion that its verb allows and for which there is room, its own among them."""
    others = [dataclasses.replace(sprite, motion=motion) for motion in VERBS.get(sprite.open_motion, (sprite.motion,))]
    return [other for other in others if other == sprite or _start_density(other, window, LEAST_FREE_SHARE)]


def _density(sprite: SpriteObject, world: World) -> float:
    """How likely the world samples this motion with this shape and places it here, up to a factor that all motions share."""
    stopped = float(np.mean([_start_density(sprite, world, share) for share in _SHARES]))
    of_start = STOPPED_SHARE * stopped + (1.0 - STOPPED_SHARE) * _start_density(sprite, world, 1.0)
    return of_start / len(trained_pairs(world)[sprite.motion])


def _start_density(sprite: SpriteObject, window: World, free_share: float) -> float:
    """Density of the object's start, uniform over the room that its motion leaves, per square px; 0 outside."""
    low, high = start_room(sprite, window, free_share)
    is_inside = low[0] <= sprite.x <= high[0] and low[1] <= sprite.y <= high[1]
    return 1.0 / float(np.prod(high - low)) if is_inside else 0.0


def _never_touch(objects: tuple[SpriteObject, ...], times_s: np.ndarray, view: tuple[float, float]) -> bool:
    if len(objects) == 1:
        return True
    starts = np.array([[sprite.x, sprite.y] for sprite in objects])
    return bool(apart(objects[0], objects[1], starts, times_s, view))
