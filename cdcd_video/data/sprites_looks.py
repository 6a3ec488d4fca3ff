"""Draws how the second world looks: grounds from black to white, shades of the eight colours, outlines, unsteady contours."""

import colorsys
import math
from collections.abc import Sequence

import numpy as np

from cdcd_video.data.sprites_grounds import ground
from cdcd_video.data.sprites_scene import VIEW_PX, Background, Look, SpriteObject, World
from cdcd_video.data.sprites_words import COLOURS

LEAST_CONTRAST = 90.0
"""No object is closer than this to any pixel of its ground, as a distance of RGB colours in 0..441."""
LEAST_OUTLINE_CONTRAST = 60.0
"""The same of outlines, so that an object ends where it is seen to end."""
OUTLINED_SHARE, UNSTEADY_SHARE = 0.4, 0.5
MOST_WOBBLE = 0.08
_HUE, _SATURATION, _VALUE = 0.018, 0.12, 0.10  # how far a shade lies from the colour that its word names, at most
_LEAST_MARGIN = 25.0  # a shade is closer to its own colour word than to any other by this
_GROUNDS = 60  # tried for the objects of a scene before a dark plain one is taken


def sample_look(rng: np.random.Generator, colour: str, radius: float, beside: Sequence[SpriteObject] = ()) -> Look:
    """The shade, outline and contour of an object with a colour word.

    Args:
      rng: every number comes from it.
      colour: one of `COLOURS`.
      radius: nominal, in px: small objects have thin outlines.
      beside: the scene's other objects; no outline has another object's colour.
    """
    rgb = _shade(rng, colour)
    outlined, unsteady = rng.random() < OUTLINED_SHARE, rng.random() < UNSTEADY_SHARE
    outline_px, wobble = rng.uniform(0.7, 0.26 * radius), rng.uniform(0.0, MOST_WOBBLE)
    kind, depth, seed = rng.random(), rng.uniform(0.25, 0.5), int(rng.integers(2**32))
    if kind < 0.6 or colour == "white":
        outline = rng.uniform(0, 45, 3)
    elif kind < 0.85 or colour == "yellow":
        outline = depth * np.array(rgb)
    else:
        outline = rng.uniform(225, 255, 3)
    outlined &= all(np.linalg.norm(outline - other.rgb) >= LEAST_CONTRAST for other in beside)
    red, green, blue = outline.tolist() if outlined else (0.0, 0.0, 0.0)
    return Look(
        rgb,
        (red, green, blue),
        float(outline_px) if outlined else 0.0,
        float(wobble) if unsteady else 0.0,
        seed,
    )


def _shade(rng: np.random.Generator, colour: str) -> tuple[float, float, float]:
    named = np.array(list(COLOURS.values()), dtype=float)
    own = list(COLOURS).index(colour)
    hue, saturation, value = colorsys.rgb_to_hsv(*(named[own] / 255))
    while True:
        turn, paler, darker = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(-1, 0.5)
        changed = (
            (hue + _HUE * turn) % 1.0,
            min(max(saturation + (0.3 if colour == "white" else 1.0) * _SATURATION * paler, 0.0), 1.0),
            min(max(value + _VALUE * darker, 0.0), 1.0),
        )
        shade = 255 * np.array(colorsys.hsv_to_rgb(*changed))
        away = np.linalg.norm(named - shade, axis=1)
        if away[own] + _LEAST_MARGIN <= np.delete(away, own).min():
            red, green, blue = shade.tolist()
            return red, green, blue


def sample_ground(rng: np.random.Generator, world: World, objects: tuple[SpriteObject, ...]) -> Background:
    """A ground that hides none of the objects: all of its pixels are `LEAST_CONTRAST` or more away from their colours."""
    kinds = tuple(kind for kind in world.backgrounds if kind != "photo" or world.photographs)
    if world.photographs:
        kinds = (*kinds, "photo") if "photo" not in kinds else kinds
    for _ in range(_GROUNDS):
        candidate = _some_ground(rng, kinds[int(rng.integers(len(kinds)))], world)
        if clearance(candidate, objects) >= 1:
            return candidate
    greys = (
        Background("plain", (level, level, level), (level, level, level), view=world.view)
        for level in np.linspace(0, 1, 33).tolist()
    )
    return max(greys, key=lambda grey: clearance(grey, objects))


def clearance(background: Background, objects: tuple[SpriteObject, ...]) -> float:
    """How far a ground stays from the colours of the objects and of their outlines, in units of the least contrast of each.

    Below 1 it hides one of them somewhere.
    """
    pixels = ground(background, VIEW_PX).reshape(-1, 3)
    found = math.inf
    for sprite in objects:
        limits = [(sprite.rgb, LEAST_CONTRAST)]
        if sprite.look and sprite.look.outline_px:
            limits.append((np.array(sprite.look.outline_rgb), LEAST_OUTLINE_CONTRAST))
        found = min(found, *(float(np.linalg.norm(pixels - rgb, axis=1).min()) / least for rgb, least in limits))
    return found


def _some_ground(rng: np.random.Generator, kind: str, world: World) -> Background:
    value, saturation = _value(rng), rng.uniform(0.0, 0.5) * rng.random()
    hue, step = rng.random(), rng.uniform(0.04, 0.22) * (1 if rng.random() < 0.5 else -1)
    other_hue, other_value = hue + rng.uniform(-0.15, 0.15), value + step
    if not 0 <= other_value <= 1:
        other_value = value - step
    angle, phase, seed = rng.uniform(0, 2 * math.pi), rng.random(), int(rng.integers(2**32))
    period, fine = rng.uniform(6, 24), math.exp(rng.uniform(math.log(2.0), math.log(32.0)))
    contrast, place = rng.uniform(0.02, 0.12), rng.random(3)
    first, second = (
        colorsys.hsv_to_rgb(tint % 1.0, saturation, min(max(light, 0.0), 1.0))
        for tint, light in ((hue, value), (other_hue, other_value))
    )
    if kind == "noise":
        return Background(kind, first, first, 0.0, fine, phase, seed, contrast, view=world.view)
    if kind == "photo":
        path = world.photographs[seed % len(world.photographs)]
        left, top, side = (float(part) for part in place)
        window = (left, top, 0.4 + 0.6 * side)
        return Background(kind, first, first, contrast=5 * contrast, path=path, window=window, view=world.view)
    return Background(kind, first, second, angle, period, phase, seed, view=world.view)


def _value(rng: np.random.Generator) -> float:
    """How light a ground is: black and white themselves, papers and nights more often than what is between."""
    which, between = rng.random(), rng.random()
    if which < 0.06:
        return 1.0
    if which < 0.12:
        return 0.0
    if which < 0.42:
        return 0.86 + 0.14 * between
    if which < 0.68:
        return 0.30 * between
    return 0.2 + 0.7 * between
