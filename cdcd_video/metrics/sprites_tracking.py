"""Finds the objects of a sprites scene in a video: each by its colour, where it is, how large and how turned.

The scene's background image and its objects' colours are known; its true motion is not used, and nothing is learned.
"""

import dataclasses
import math

import numpy as np

from cdcd_video.data import sprites, sprites_render
from cdcd_video.data.sprites import Scene
from cdcd_video.errors import UserError

# Colours are compared as RGB distances in 0..441.
_NOISE_COVERAGE = 0.12  # coverage below this is noise of the background, above one minus this it is full
_OTHER_MARGIN, _OTHER_LIMIT = 15.0, 45.0  # how much better another colour word may explain a pixel: free, at most
_STRANGE_MARGIN, _STRANGE_LIMIT = 50.0, 100.0  # how far a pixel may be from every mix with the background: likewise
_TIE = 2.0  # a grey outline of a white object lies between that and a black ground: it explains no worse than they do
_PEAK_BOX_PX = 9
_LEAST_AREA_PX = 5.0
_LEAST_AREA_SHARE = 0.1  # of the area in the true first frame


@dataclasses.dataclass(frozen=True)
class Track:
    """The tracks of O objects in F frames.

    Attributes:
      centres: float64 (O, F, 2) as (x, y) in px; NaN where the object is absent.
      areas: float64 (O, F) in square px.
      angles_rad: float64 (O, F), clockwise, followed from frame to frame, which is right while an object turns less
        than half its symmetry (36 degrees for a star) per frame; NaN where absent, 0 for circles.
      present: bool (O, F).
      coverage: float32 (O, F, H, W), how much of each pixel has the object's colour, wherever it lies.
      reach_px: float64 (O, F), radius around the centre within which the coverage was taken for the object itself.
    """

    centres: np.ndarray
    areas: np.ndarray
    angles_rad: np.ndarray
    present: np.ndarray
    coverage: np.ndarray
    reach_px: np.ndarray


def track(frames: np.ndarray, scene: Scene) -> Track:
    """Finds the scene's objects by colour in every frame without using the true motion.

    Args:
      frames: uint8 (F, H, W, 3), one pixel for each unit of the scene's view: 64x64, or another size.
      scene: background and objects.

    Raises:
      UserError: if the frames have another shape or type.
    """
    height, width = sprites_render.view_size(scene.view)
    if frames.ndim != 4 or frames.shape[1:] != (height, width, 3) or frames.dtype != np.uint8 or not len(frames):
        raise UserError(
            f"sprites score: frames must be uint8 (F, {height}, {width}, 3), got {frames.dtype} {frames.shape}."
        )
    coverage = _unmix(frames, scene)
    parts = [_locate(sprite, cover) for sprite, cover in zip(scene.objects, coverage, strict=True)]
    centres, areas, angles, present, reach = (np.stack(part) for part in zip(*parts, strict=True))
    return Track(centres, areas, angles, present, coverage, reach)


def _unmix(frames: np.ndarray, scene: Scene) -> np.ndarray:
    """How much of each pixel has each object's colours, float32 (O, F, H, W).

    A pixel is read as a mix of the true background and an object's colour or one of the other colour words'. An object gets
    the best mix with its own colour, unless another colour explains the pixel clearly better or none explains it. Reading
    pixels as mixes keeps soft edges right; asking for a margin forgives a colour that is a little off. Where the background
    itself has a colour, that colour explains nothing: an object of it cannot be seen there. A pixel between an object's
    outline and its area is all the object's, and its outline counts only beside its area.
    """
    own = [sprite.rgb for sprite in scene.objects]
    words = {sprite.colour for sprite in scene.objects}
    others = [np.array(rgb, dtype=np.float32) for word, rgb in sprites.COLOURS.items() if word not in words]
    outlined = [place for place, sprite in enumerate(scene.objects) if sprite.look and sprite.look.outline_px]
    outlines = [np.array(scene.objects[place].look.outline_rgb, dtype=np.float32) for place in outlined]  # type: ignore[union-attr]
    under = sprites_render.render_background(scene.background).astype(np.float32)
    change = frames - under
    energy = np.einsum("fhwc,fhwc->fhw", change, change)
    # Most pixels are too close to the background to count for any object: only the others are looked at.
    nearest = np.min([((colour - under) ** 2).sum(axis=-1) for colour in own + outlines], axis=0)
    pixels = np.nonzero(energy > _NOISE_COVERAGE**2 * nearest)
    found, ground = frames[pixels].astype(np.float32), under[pixels[1:]]
    mixes = [_mixed(found, ground, colour) for colour in (*own, *outlines, *others)]
    inner = [_mixed(found, colour, own[place]) for place, colour in zip(outlined, outlines, strict=True)]
    misfit = np.stack([misfit for _, misfit in (*mixes, *inner)])
    kept = np.clip((_OTHER_LIMIT - (misfit - misfit.min(axis=0))) / (_OTHER_LIMIT - _OTHER_MARGIN), 0.0, 1.0)
    kept *= np.clip((_STRANGE_LIMIT - misfit) / (_STRANGE_LIMIT - _STRANGE_MARGIN), 0.0, 1.0)
    area = np.zeros((len(own), *frames.shape[:3]), dtype=np.float32)
    best = misfit[: len(own)].min(axis=0)
    for place, cover in enumerate(area):
        cover[pixels] = without_noise(mixes[place][0]) * kept[place] * (misfit[place] <= best)
    for number, place in enumerate(outlined):
        rim, within = len(own) + number, len(mixes) + number
        of_rim = without_noise(mixes[rim][0]) * kept[rim] * (misfit[rim] <= best + _TIE)
        of_both = kept[within] * (misfit[within] + _TIE <= np.minimum(best, misfit[rim]))
        edge = np.zeros(frames.shape[:3], dtype=np.float32)
        edge[pixels] = np.maximum(of_rim, of_both)
        look = scene.objects[place].look
        assert look is not None
        area[place] = np.maximum(area[place], edge * _near(area[place], math.ceil(3 * look.outline_px + 2)))
    return area


def _mixed(found: np.ndarray, ground: np.ndarray, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of a colour over a ground that explains pixels (n, 3) best, 0 where they are equal, and the distance left."""
    change, towards = found - ground, colour - ground
    length = np.einsum("...c,...c->...", towards, towards)
    along = np.einsum("nc,...c->n", change, towards) if towards.ndim == 1 else np.einsum("nc,nc->n", change, towards)
    mix = np.clip(np.divide(along, length, out=np.zeros_like(along), where=length > 0), 0.0, 1.0)
    energy = np.einsum("nc,nc->n", change, change)
    return mix, np.sqrt(np.maximum(energy - mix * (2 * along - mix * length), 0.0))


def _near(coverage: np.ndarray, reach_px: int) -> np.ndarray:
    """Whether a pixel (F, H, W) is within a box of this reach around one that is mostly covered."""
    near = np.asarray(coverage > 0.5)
    for axis in (1, 2):
        padded = np.pad(near, [(reach_px, reach_px) if place == axis else (0, 0) for place in range(3)])
        near = np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach_px + 1, axis).any(axis=-1))
    return near


def without_noise(coverage: np.ndarray) -> np.ndarray:
    """Stretches the contrast around one half, so that areas are kept and faint coverage vanishes."""
    return np.clip((coverage - _NOISE_COVERAGE) / (1 - 2 * _NOISE_COVERAGE), 0.0, 1.0)


def _locate(sprite: sprites.SpriteObject, coverage: np.ndarray) -> tuple[np.ndarray, ...]:
    """Centre, area, angle, presence and reach per frame of the largest blob in coverage (F, H, W)."""
    count = len(coverage)
    frames, rows, columns = np.nonzero(coverage)
    mass, x, y = coverage[frames, rows, columns].astype(np.float64), columns + 0.5, rows + 0.5
    centres = _peaks(coverage)
    reach = np.full(count, float(_PEAK_BOX_PX))
    for _ in range(6):  # a window that follows the mass and size of the blob, so that far pixels drop out
        away = np.hypot(x - centres[frames, 0], y - centres[frames, 1])
        blob = mass * (away <= reach[frames])
        areas = np.bincount(frames, blob, count)
        moments = np.stack([np.bincount(frames, blob * x, count), np.bincount(frames, blob * y, count)], axis=-1)
        centres = np.where(areas[:, None] > 0, moments / np.maximum(areas, 1e-9)[:, None], centres)
        # A triangle reaches 1.55 times as far as the circle of its area, the farthest of all shapes.
        reach = np.clip(1.7 * np.sqrt(areas / math.pi) + 2.0, 5.0, max(coverage.shape[1:]))
    least = max(_LEAST_AREA_PX, _LEAST_AREA_SHARE * sprites.AREA[sprite.shape] * sprite.radius**2)
    present = areas >= least
    arms = (x - centres[frames, 0]) + 1j * (y - centres[frames, 1])
    angles = _follow_angles(sprite.shape, frames, blob, arms, present)
    return np.where(present[:, None], centres, np.nan), areas, angles, present, reach


def _peaks(coverage: np.ndarray) -> np.ndarray:
    """Where a box holds the most coverage, (F, 2) as (x, y)."""
    box = _PEAK_BOX_PX
    total = np.pad(coverage, ((0, 0), (box // 2 + 1, box // 2), (box // 2 + 1, box // 2)))
    for axis in (1, 2):
        sums = np.cumsum(total, axis=axis, dtype=np.float64)
        length = sums.shape[axis]
        total = np.take(sums, np.arange(box, length), axis) - np.take(sums, np.arange(length - box), axis)
    places = total.reshape(len(coverage), -1).argmax(axis=1)
    rows, columns = np.unravel_index(places, total.shape[1:])
    return np.stack([columns, rows], axis=-1) + 0.5


_TIP_RAD = {"square": math.pi / 4, "triangle": -math.pi / 2, "star": -math.pi / 2}  # where an upright shape has a tip


def _follow_angles(
    shape: str, frames: np.ndarray, mass: np.ndarray, arms: np.ndarray, present: np.ndarray
) -> np.ndarray:
    """Angles (F,) by the phase of the shape's own angular harmonic.

    Matching a template of an n-fold shape at every angle and taking the best is, in the first harmonic of the match,
    the phase of `sum mass rho^2 exp(i n phi)` around the centre; the phase needs no search. The sum runs over pixels
    (P,): the frame each belongs to, its mass, and its complex offset `arms` from the centre.
    """
    folds = sprites.SYMMETRY[shape]
    angles = np.where(present, 0.0, np.nan)
    if not folds:
        return angles
    length = np.maximum(np.abs(arms), 1e-6)
    wave = mass * length**2 * (arms / length) ** folds
    real, imaginary = (np.bincount(frames, part, len(present)) for part in (wave.real, wave.imag))
    phases = np.arctan2(imaginary, real)
    period = 2 * math.pi / folds
    turned = (phases / folds - _TIP_RAD[shape] + period / 2) % period - period / 2
    angles[present] = np.unwrap(turned[present], period=period)
    return angles
