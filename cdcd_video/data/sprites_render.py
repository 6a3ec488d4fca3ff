"""Draws sprites scenes: anti-aliased shapes from signed distances, on patterned backgrounds, in numpy.

A pixel's coverage is `clip(1/2 - d, 0, 1)` with d the signed distance of its centre from the shape's outline, in pixels
of the picture. Only a crop around each object is computed, for all frames of a clip at once. Any picture size
works; the scene's own unit is the 64x64 view.
"""

import math
import time

import numpy as np

from cdcd_video.config.value_types import Size
from cdcd_video.data.sprites_grounds import ground, sides_px
from cdcd_video.data.sprites_motion import truth
from cdcd_video.data.sprites_sampling import sample_scene
from cdcd_video.data.sprites_scene import (
    OUTER_RADIUS,
    SQUARE_HALF_SIDE,
    SQUARE_VIEW,
    STAR_CIRCUMRADIUS,
    STAR_INNER,
    TRIANGLE_CIRCUMRADIUS,
    VIEW_PX,
    Background,
    Look,
    Scene,
    SpriteObject,
    World,
)

_EDGE_PX = 1.5  # an anti-aliased edge reaches this far beyond the shape's circumscribed circle


def render(scene: Scene, times_s: np.ndarray, size_px: int = VIEW_PX) -> np.ndarray:
    """Draws the scene at the given times.

    Args:
      scene: what to draw.
      times_s: (F,) in seconds, in any order and spacing.
      size_px: height and width of the pictures of a 64x64 view; those of another view have the same scale.

    Returns:
      uint8 (F, H, W, 3), RGB.
    """
    known = truth(scene, times_s)
    scale = size_px / VIEW_PX
    background = ground(scene.background, size_px)
    frames = np.repeat((background + 0.5).astype(np.uint8)[None], known.radii.shape[1], axis=0)
    for place, sprite in enumerate(scene.objects):
        radii = known.radii[place] * scale
        outside, corners = _signed_distances(
            sprite.shape, known.centres[place] * scale, radii, known.angles_rad[place], sprite.look
        )
        for frame, distance, corner, radius in zip(frames, outside, corners, radii, strict=True):
            under, away = _overlap(frame, distance, corner)
            colour = _area_colour(sprite, away, float(radius))
            under[:] = (under + _coverage(away)[..., None] * (colour - under) + 0.5).astype(np.uint8)
    return frames


def _area_colour(sprite: SpriteObject, outside: np.ndarray, radius: float) -> np.ndarray:
    """What covers the ground within the contour: the object's colour and, where it has one, its outline; (3,) or (h, w, 3)."""
    look = sprite.look
    if look is None or not look.outline_px:
        return sprite.rgb
    outline = np.array(look.outline_rgb, dtype=np.float32)
    inner = _coverage(outside + np.float32(look.outline_px * radius / sprite.radius))
    return outline + inner[..., None] * (sprite.rgb - outline)


def view_size(view: tuple[float, float], size_px: int = VIEW_PX) -> Size:
    """Height and width of the pictures of a view, where those of a 64x64 view have `size_px`.

    Raises:
      UserError: they are no whole numbers.
    """
    return Size(*sides_px(view, size_px))


def render_background(background: Background, size_px: int = VIEW_PX) -> np.ndarray:
    """The scene without its objects, uint8 (H, W, 3): the very bytes `render` leaves uncovered."""
    return (ground(background, size_px) + 0.5).astype(np.uint8)


def render_object_mask(
    shape: str,
    centres: np.ndarray,
    radii: np.ndarray,
    angles_rad: np.ndarray,
    size_px: int = VIEW_PX,
    look: Look | None = None,
    view: tuple[float, float] = SQUARE_VIEW,
) -> np.ndarray:
    """Coverage of every pixel by one object, whatever else is in the scene.

    Args:
      shape: one of `SHAPES`.
      centres: (F, 2) as (x, y) in px of the view; may lie outside it.
      radii: (F,) nominal radii in px of the view.
      angles_rad: (F,), clockwise; 0 is upright.
      size_px: height and width of the pictures of a 64x64 view.
      look: how the object is drawn; its outline belongs to it.
      view: width and height of the view.

    Returns:
      float32 (F, H, W) in 0..1.
    """
    scale = size_px / VIEW_PX
    outside, corners = _signed_distances(
        shape, np.asarray(centres, float) * scale, np.asarray(radii, float) * scale, np.asarray(angles_rad, float), look
    )
    masks = np.zeros((len(outside), *sides_px(view, size_px)), dtype=np.float32)
    for mask, distance, corner in zip(masks, outside, corners, strict=True):
        under, away = _overlap(mask, distance, corner)
        under[:] = _coverage(away)
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


def _signed_distances(
    shape: str, centres: np.ndarray, radii: np.ndarray, angles: np.ndarray, look: Look | None
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Distance outside the contour in square crops that hold the whole object, px: float32 (F, P, P) and each (left, top)."""
    wobble = look.wobble if look else 0.0
    reach = math.ceil((OUTER_RADIUS[shape] + wobble) * float(radii.max()) + _EDGE_PX)
    corners = np.floor(centres).astype(int) - reach
    pixels = corners[:, :, None] + np.arange(2 * reach + 1) + 0.5 - centres[:, :, None]  # (F, 2, P)
    x, y = pixels[:, 0, None, :].astype(np.float32), pixels[:, 1, :, None].astype(np.float32)
    if angles.any():
        cosine, sine = (turn(angles).astype(np.float32)[:, None, None] for turn in (np.cos, np.sin))
        x, y = cosine * x + sine * y, cosine * y - sine * x
    radius = radii.astype(np.float32)[:, None, None]
    outside = _SIGNED_DISTANCES[shape](x, y, radius)
    if look is not None and wobble:
        outside = outside - np.float32(wobble) * radius * _deviation(look.seed, -x if look.is_mirrored else x, y)
    return outside, [(int(left), int(top)) for left, top in corners]


def _coverage(outside: np.ndarray) -> np.ndarray:
    """How much of a pixel lies within a contour, by the distance of its centre from it."""
    return np.clip(0.5 - outside, 0.0, 1.0)


def _deviation(seed: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far an unsteady hand draws outside the contour in each direction, within -1..1: waves around the centre."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    shares = rng.dirichlet(np.ones(len(_DEVIATION_WAVES))).astype(np.float32)
    phases = rng.uniform(0, 2 * math.pi, len(_DEVIATION_WAVES)).astype(np.float32)
    around = np.arctan2(y, x)
    total = np.zeros((1, 1), dtype=np.float32)
    for waves, share, phase in zip(_DEVIATION_WAVES, shares, phases, strict=True):
        total = total + share * np.cos(waves * around + phase)
    return total


_DEVIATION_WAVES = (2, 3, 4, 5, 6, 7)
"""Waves around an object; the fewest that leave it where it is."""


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
