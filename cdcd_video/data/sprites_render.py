"""Draws sprites scenes: anti-aliased shapes from signed distances, on patterned backgrounds, in numpy.

A pixel's coverage is `clip(1/2 - d, 0, 1)` with d the signed distance of its centre from the shape's outline, in pixels
of the picture. Only a crop around each object is computed, for all frames of a clip at once. Any picture size
works; the scene's own unit is the 64x64 view.
"""

import functools
import math
import time

import numpy as np

from cdcd_video.data.sprites_motion import truth
from cdcd_video.data.sprites_sampling import sample_scene
from cdcd_video.data.sprites_scene import (
    OUTER_RADIUS,
    SQUARE_HALF_SIDE,
    STAR_CIRCUMRADIUS,
    STAR_INNER,
    TRIANGLE_CIRCUMRADIUS,
    VIEW_PX,
    Background,
    Scene,
    World,
)
from cdcd_video.data.sprites_words import COLOURS

_EDGE_PX = 1.5  # an anti-aliased edge reaches this far beyond the shape's circumscribed circle


def render(scene: Scene, times_s: np.ndarray, size_px: int = VIEW_PX) -> np.ndarray:
    """Draws the scene at the given times.

    Args:
      scene: what to draw.
      times_s: (F,) in seconds, in any order and spacing.
      size_px: height and width of the pictures.

    Returns:
      uint8 (F, size_px, size_px, 3), RGB.
    """
    known = truth(scene, times_s)
    scale = size_px / VIEW_PX
    background = _background(scene.background, size_px)
    frames = np.repeat((background + 0.5).astype(np.uint8)[None], known.radii.shape[1], axis=0)
    for place, sprite in enumerate(scene.objects):
        colour = np.array(COLOURS[sprite.colour], dtype=np.float32)
        crops, corners = _crops(
            sprite.shape, known.centres[place] * scale, known.radii[place] * scale, known.angles_rad[place]
        )
        for frame, crop, corner in zip(frames, crops, corners, strict=True):
            under, alpha = _overlap(frame, crop, corner)
            under[:] = (under + alpha[..., None] * (colour - under) + 0.5).astype(np.uint8)
    return frames


def render_background(background: Background, size_px: int = VIEW_PX) -> np.ndarray:
    """The scene without its objects, uint8 (size_px, size_px, 3): the very bytes `render` leaves uncovered."""
    return (_background(background, size_px) + 0.5).astype(np.uint8)


def render_object_mask(
    shape: str, centres: np.ndarray, radii: np.ndarray, angles_rad: np.ndarray, size_px: int = VIEW_PX
) -> np.ndarray:
    """Coverage of every pixel by one object, whatever else is in the scene.

    Args:
      shape: one of `SHAPES`.
      centres: (F, 2) as (x, y) in px of the 64x64 view; may lie outside it.
      radii: (F,) nominal radii in px of the view.
      angles_rad: (F,), clockwise; 0 is upright.
      size_px: height and width of the pictures.

    Returns:
      float32 (F, size_px, size_px) in 0..1.
    """
    scale = size_px / VIEW_PX
    crops, corners = _crops(
        shape, np.asarray(centres, float) * scale, np.asarray(radii, float) * scale, np.asarray(angles_rad, float)
    )
    masks = np.zeros((len(crops), size_px, size_px), dtype=np.float32)
    for mask, crop, corner in zip(masks, crops, corners, strict=True):
        under, alpha = _overlap(mask, crop, corner)
        under[:] = alpha
    return masks


def frames_per_second(num_clips: int = 100, num_frames: int = 16, size_px: int = VIEW_PX) -> float:
    """Measures `render` on clips of the full world, without the sampling of the scenes, by the time of the processor."""
    world = World(num_frames=num_frames)
    scenes = [sample_scene(0, index, world=world) for index in range(num_clips)]
    render(scenes[0], world.times_s, size_px)
    start = time.thread_time()
    for scene in scenes:
        render(scene, world.times_s, size_px)
    return num_clips * num_frames / (time.thread_time() - start)


# Shapes -----------------------------------------------------------------------------------------------------------


def _crops(
    shape: str, centres: np.ndarray, radii: np.ndarray, angles: np.ndarray
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Coverage in square crops that hold the whole object: float32 (F, P, P) and each crop's (left, top) pixel."""
    reach = math.ceil(OUTER_RADIUS[shape] * float(radii.max()) + _EDGE_PX)
    corners = np.floor(centres).astype(int) - reach
    pixels = corners[:, :, None] + np.arange(2 * reach + 1) + 0.5 - centres[:, :, None]  # (F, 2, P)
    x, y = pixels[:, 0, None, :].astype(np.float32), pixels[:, 1, :, None].astype(np.float32)
    if angles.any():
        cosine, sine = (turn(angles).astype(np.float32)[:, None, None] for turn in (np.cos, np.sin))
        x, y = cosine * x + sine * y, cosine * y - sine * x
    outside = _SIGNED_DISTANCES[shape](x, y, radii.astype(np.float32)[:, None, None])
    return np.clip(0.5 - outside, 0.0, 1.0), [(int(left), int(top)) for left, top in corners]


def _overlap(picture: np.ndarray, crop: np.ndarray, corner: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The parts of a picture and of a crop placed at `corner` (left, top) that lie on each other; both are views."""
    left, top = corner
    under = picture[max(top, 0) : max(top + len(crop), 0), max(left, 0) : max(left + len(crop), 0)]
    return under, crop[max(-top, 0) :, max(-left, 0) :][: under.shape[0], : under.shape[1]]


def _circle(x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y) - radius


def _square(x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    half = np.float32(SQUARE_HALF_SIDE) * radius
    return np.maximum(np.abs(x) - half, np.abs(y) - half)


def _triangle(x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Point up, centroid at the origin: the farthest of the three sides, two of them mirror images."""
    inner = np.float32(0.5 * TRIANGLE_CIRCUMRADIUS) * radius
    slanted = np.float32(math.cos(math.pi / 6)) * np.abs(x) - np.float32(0.5) * y
    return np.maximum(slanted, y) - inner


_STAR_TIP = np.array([0.0, -1.0])
_STAR_NOTCH = STAR_INNER * np.array([math.sin(math.pi / 5), -math.cos(math.pi / 5)])
_STAR_EDGE = _STAR_NOTCH - _STAR_TIP
_STAR_NORMAL = np.array([-_STAR_EDGE[1], _STAR_EDGE[0]]) / -np.hypot(*_STAR_EDGE)


def _star(x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Five tips, one up: mirrored into the tenth between a tip and a notch, where the outline is one straight edge."""
    x, y = np.broadcast_arrays(np.abs(x), y)
    for turn in (2, 1):  # mirror lines through the origin, away from the tip above by twice, then once, a tenth turn
        normal_x, normal_y = math.cos(turn * math.pi / 5), math.sin(turn * math.pi / 5)
        beyond = 2 * np.maximum(np.float32(normal_x) * x + np.float32(normal_y) * y, 0)
        x, y = x - beyond * np.float32(normal_x), y - beyond * np.float32(normal_y)
        x = np.abs(x)
    height = np.float32(STAR_CIRCUMRADIUS * float(_STAR_NORMAL @ _STAR_TIP)) * radius
    return np.float32(_STAR_NORMAL[0]) * x + np.float32(_STAR_NORMAL[1]) * y - height


_SIGNED_DISTANCES = {"circle": _circle, "square": _square, "triangle": _triangle, "star": _star}


# Backgrounds ------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def _background(background: Background, size_px: int) -> np.ndarray:
    """The background in 0..255, float32 (H, W, 3), read-only because it is shared."""
    axis = ((np.arange(size_px) + 0.5) * (VIEW_PX / size_px)).astype(np.float32)
    mix = _PATTERNS[background.kind](background, axis[None, :], axis[:, None])
    mix = np.broadcast_to(mix, (size_px, size_px))[..., None].astype(np.float32)
    first, second = np.array([background.first, background.second], dtype=np.float32) * 255
    picture = first + mix * (second - first)
    picture.flags.writeable = False
    return picture


def _along(background: Background, x: np.ndarray, y: np.ndarray, turn: float = 0.0) -> np.ndarray:
    """Distance from the view's middle along the pattern's direction, in px."""
    angle, middle = background.angle_rad + turn, VIEW_PX / 2
    return (x - middle) * math.cos(angle) + (y - middle) * math.sin(angle)


def _soft_square_wave(way: np.ndarray, period: float, phase: float) -> np.ndarray:
    """-1 and 1 in turns, with edges about 1.5 px wide so that they do not shimmer."""
    ramp = np.abs((way / period + phase) % 1.0 - 0.5) - 0.25  # a triangle wave in -1/4..1/4, slope 1 / period
    return np.clip(ramp * period / 0.75, -1.0, 1.0)


def _plain(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.zeros((1, 1))


def _gradient(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.clip(_along(background, x, y) / (1.2 * VIEW_PX) + 0.5, 0.0, 1.0)


def _stripes(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * _soft_square_wave(_along(background, x, y), background.period_px, background.phase)


def _checker(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    period = 1.5 * background.period_px
    one = _soft_square_wave(_along(background, x, y), period, background.phase)
    return 0.5 + 0.5 * one * _soft_square_wave(_along(background, x, y, math.pi / 2), period, background.phase)


def _blobs(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=background.seed))
    total = np.zeros((1, 1))
    for angle, phase, wavelength in zip(
        rng.uniform(0, 2 * math.pi, 6), rng.uniform(0, 2 * math.pi, 6), rng.uniform(18, 48, 6), strict=True
    ):
        total = total + np.cos((x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / wavelength) + phase)
    return 0.5 + 0.5 * np.tanh(total / 1.5)


_PATTERNS = {"plain": _plain, "gradient": _gradient, "stripes": _stripes, "checker": _checker, "blobs": _blobs}
