"""Scenes of the world "sprites" with left and right exchanged, in the picture and in the sentence.

A scene and its mirror image are an antithetic pair (Hammersley & Morton 1956): a model that prefers one side is right in one
of the two and wrong in the other, so that the mean over the pair does not depend on which side the sampled scene has.
"""

import dataclasses
from typing import TypeVar

from cdcd_video.data.mirrored_captions import mirrored_caption
from cdcd_video.data.sprites_sampling import with_motion
from cdcd_video.data.sprites_scene import Background, Look, Scene, World, caption_of, held_out

Part = TypeVar("Part", Background, Look)

WITHOUT_MIRROR = ("bounces left and right", "spins")
"""Motions whose mirror image has no sentence: the first begins to the left, and the second turns clockwise."""


def mirrored_motion(motion: str) -> str | None:
    """The motion that is seen in a mirror; None where no sentence says it."""
    return None if motion in WITHOUT_MIRROR else mirrored_caption(motion)


def mirrored(scene: Scene) -> Scene | None:
    """The scene seen in a mirror that exchanges left and right: its pictures are those of the scene, mirrored.

    Returns:
      A scene with the same seed, number and split; None where a motion has no mirror image, or the mirror image has other
      held-out combinations than the scene, so that it would belong to another split.
    """
    objects = []
    for sprite in scene.objects:
        motion = mirrored_motion(sprite.motion)
        if motion is None:
            return None
        look = _turned(sprite.look) if sprite.look else None
        other = dataclasses.replace(sprite, motion=motion, x=scene.view[0] - sprite.x, look=look)
        if held_out(other) != held_out(sprite):
            return None
        objects.append(other)
    background, caption = _turned(scene.background), caption_of(tuple(objects), scene.is_open)
    return dataclasses.replace(scene, objects=tuple(objects), background=background, caption=caption)


def is_mirrored(scene: Scene) -> bool:
    """Whether a scene is the mirror image of a sampled one."""
    return scene.background.is_mirrored


def with_mirrored_change(scene: Scene, other: Scene, changed: Scene, *, world: World | None = None) -> Scene | None:
    """What `changed` is to `other`, mirrored: the scene with the other sentence that `changed` gives to its mirror image.

    Args:
      scene: the mirror image of `other`.
      other: a scene.
      changed: the same first frame with another motion of one object, as of `counterfactual`.
      world: as for `with_motion`.

    Returns:
      The first frame of `scene`, bit for bit; None where the mirrored motion has no sentence, does not fit, or makes a
      held-out combination that `changed` does not have.
    """
    pairs = zip(other.objects, changed.objects, strict=True)
    place = next(place for place, (old, new) in enumerate(pairs) if old != new)
    new = changed.objects[place]
    motion = mirrored_motion(new.motion)
    found = None if motion is None else with_motion(scene, place, motion, new.adverb, world=world)
    return found if found and held_out(found.objects[place]) == held_out(new) else None


def _turned(part: Part) -> Part:
    return dataclasses.replace(part, is_mirrored=not part.is_mirrored)
