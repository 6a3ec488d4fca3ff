"""Metrics of the built-in world: whether each object moves as the caption says, and everything else stays unchanged.

The scene is known: its background image, the colours of its objects and its true motion. Each object is found by colour;
its position, size and angle (`sprites_tracking`) are compared with the true ones. Nothing is learned, so the scores mean the
same for every model. The true video is the ceiling. A frozen first frame is the floor, and right exactly where the true
object is still: show both beside a model.
"""

import dataclasses
import math

import numpy as np

from cdcd_video.data import sprites, sprites_render
from cdcd_video.data.sprites import Scene, Truth
from cdcd_video.errors import UserError
from cdcd_video.metrics.sprites_tracking import Track, track, without_noise

# The tolerances are wide enough for a soft picture and narrow enough to distinguish the three speeds.
LENGTH_RATIO = (0.65, 1.4)
"""Least and greatest measured over true length of a straight move, and angle of a spin."""
GROWTH_RATIO = (0.6, 1.4)
"""Least and greatest measured over true logarithm of the size's factor."""
SWEEP_RATIO = (0.5, 1.6)
"""Least and greatest measured over true area swept by a circling path."""
START_PX = 4.0
"""An object that is farther than this from its true start in the first frame is taken for another one."""
DIRECTION_RAD = math.radians(25)
LOOSE_DIRECTION_RAD = math.radians(45)
PATH_ERROR = 0.4
"""Greatest root mean square distance from the true path over that path's own root mean square displacement."""
STILL_PX = 1.0
IN_PLACE_PX = 2.0
STILL_LOG_RADIUS = 0.15
MOVING_LOG_RADIUS = 0.3
STILL_ANGLE_RAD = math.radians(12)
SPIN_SCATTER_RAD = math.radians(12)
LEAST_PRESENT = 0.9
BEST_PSNR_DB = 60.0
"""Score of an unchanged background, so that means stay finite."""


@dataclasses.dataclass(frozen=True)
class SpritesScore:
    """One video's scores, for O objects in F frames.

    Attributes:
      does_right_thing: bool (O,), the object does what the sentence says and nothing else.
      direction_right: bool (O,), the change is of the right kind and sign, by any amount.
      position_error_px: float64 (O, F), NaN where the object is absent.
      identity_iou: float64 (O, F), overlap of the object's colour with the true shape laid over the tracked centre, so
        that shape, size, angle, colour and stray copies count and the position does not; 0 where absent.
      steadiness_iou: float64 (O, F - 1), overlap of what has the object's colour in a frame and in the one before: of a still
        object, how still its outline is; 1 where it is in neither.
      background_psnr_db: float64 (F,), over the pixels that neither a true nor a tracked object covers.
      lost_share: fraction of objects and frames where the object is absent.
    """

    does_right_thing: np.ndarray
    direction_right: np.ndarray
    position_error_px: np.ndarray
    identity_iou: np.ndarray
    steadiness_iou: np.ndarray
    background_psnr_db: np.ndarray
    lost_share: float

    @property
    def all_right(self) -> bool:
        """Whether every object does the right thing."""
        return bool(self.does_right_thing.all())


def score(frames: np.ndarray, scene: Scene, times_s: np.ndarray, tracked: Track | None = None) -> SpritesScore:
    """Judges a video by the scene that says what should happen.

    Args:
      frames: uint8 (F, H, W, 3), one pixel for each unit of the scene's view: 64x64, or another size.
      scene: first frame and sentence; for a counterfactual, the scene with the other sentence.
      times_s: (F,) times of the frames in seconds, rising.
      tracked: the tracks of these frames, where they are known; they do not depend on the motions of the scene.

    Raises:
      UserError: if the frames are not RGB in uint8 of the size of the view, or the times do not match them.
    """
    times = np.asarray(times_s, dtype=np.float64)
    if times.shape != frames.shape[:1] or (np.diff(times) <= 0).any():
        raise UserError(f"sprites score: need one rising time per frame; got {times.shape} for frames {frames.shape}.")
    tracked = track(frames, scene) if tracked is None else tracked
    known = sprites.truth(scene, times)
    does_right_thing, direction_right = motions_right(scene, tracked, times)
    return SpritesScore(
        does_right_thing=does_right_thing,
        direction_right=direction_right,
        position_error_px=np.linalg.norm(tracked.centres - known.centres, axis=-1),
        identity_iou=_identity(scene, tracked, known),
        steadiness_iou=_overlap(tracked.coverage[:, 1:], tracked.coverage[:, :-1]),
        background_psnr_db=_background_psnr(frames, scene, tracked, known),
        lost_share=float(1.0 - tracked.present.mean()),
    )


# Motion -----------------------------------------------------------------------------------------------------------


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _share_of(measured: np.ndarray, true: np.ndarray) -> float:
    """The factor that best turns the true curve into the measured one, least squares through the origin."""
    return float((measured * true).sum() / max((true * true).sum(), 1e-9))


def _total_change(values: np.ndarray, times: np.ndarray) -> float:
    """Change over the whole time of the straight line through the values, which one bad frame moves little."""
    centred = times - times.mean()
    slope = (values * centred).sum() / max((centred * centred).sum(), 1e-9)
    return float(slope * (times[-1] - times[0]))


def motions_right(scene: Scene, tracked: Track, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each object whether it does the right thing, and whether at least its kind and sign are right; bool (O,) each."""
    known = sprites.truth(scene, times_s)
    verdicts = [_motion_is_right(scene, place, tracked, known, times_s) for place in range(len(scene.objects))]
    right, loosely = np.array(verdicts, dtype=bool).T
    return right, loosely


def _motion_is_right(scene: Scene, place: int, tracked: Track, known: Truth, times: np.ndarray) -> tuple[bool, bool]:
    """Whether one object does the right thing, and whether at least its kind and sign are right."""
    motion = scene.objects[place].motion
    present = tracked.present[place]
    if present.mean() < LEAST_PRESENT or not present[0] or not present[-1] or len(times) < 2:
        return False, False
    if np.linalg.norm(tracked.centres[place, 0] - known.centres[place, 0]) > START_PX:
        return False, False
    times = times[present]
    path = tracked.centres[place][present]
    path = path - path[0]
    true_path = known.centres[place][present]
    true_path = true_path - true_path[0]
    log_radii = 0.5 * np.log(tracked.areas[place][present] / tracked.areas[place][0])
    angles = tracked.angles_rad[place][present]
    angles = angles - angles[0]
    farthest = float(np.linalg.norm(path, axis=-1).max())
    growth, turn = _total_change(log_radii, times), _total_change(angles, times)

    if motion == "stays still":
        steady = abs(growth) <= STILL_LOG_RADIUS and abs(turn) <= STILL_ANGLE_RAD
        return farthest < STILL_PX and steady, farthest < IN_PLACE_PX
    if motion in sprites.SIZE_MOTIONS:
        true_growth = np.log(known.radii[place][present] / known.radii[place][0])
        share = _share_of(log_radii, true_growth)
        grew = abs(growth) > STILL_LOG_RADIUS and share > 0
        return farthest < IN_PLACE_PX and _within(share, GROWTH_RATIO), grew
    if motion == "spins":
        true_angles = known.angles_rad[place][present]
        share = _share_of(angles, true_angles)
        scatter = float(np.sqrt(np.mean((angles - share * true_angles) ** 2)))
        whole = farthest < IN_PLACE_PX and abs(growth) <= MOVING_LOG_RADIUS
        right = whole and _within(share, LENGTH_RATIO) and scatter <= SPIN_SCATTER_RAD
        return right, turn > STILL_ANGLE_RAD

    path_error = math.sqrt(((path - true_path) ** 2).sum() / max((true_path**2).sum(), 1e-9))
    whole = abs(growth) <= MOVING_LOG_RADIUS and path_error <= PATH_ERROR
    agreement = _share_of(path, true_path)
    moved = farthest >= IN_PLACE_PX
    if motion in sprites.STRAIGHT_MOTIONS:
        length, off, bulge = _straightness(path, true_path)
        bent = bulge > max(1.5, 0.1 * float(np.linalg.norm(true_path[-1])))
        right = whole and not bent and off <= DIRECTION_RAD and _within(length, LENGTH_RATIO)
        return right, moved and off <= LOOSE_DIRECTION_RAD
    if motion in sprites.CIRCLE_MOTIONS:
        sweep = _swept(true_path)
        if not sweep:  # at two times only, a circle is a chord: the path decides
            return whole, moved and agreement > 0
        share = _swept(path) / sweep
        return whole and _within(share, SWEEP_RATIO), moved and share > 0 and agreement > 0
    return whole, moved and agreement > 0  # bounces: the path decides


def _straightness(path: np.ndarray, true_path: np.ndarray) -> tuple[float, float, float]:
    """Length over the true one, angle from the true direction, and greatest distance from the path's own line in px."""
    way = np.linalg.norm(true_path, axis=-1)
    velocity = (way[:, None] * path).sum(axis=0) / max((way * way).sum(), 1e-9)
    direction = true_path[-1] / max(way[-1], 1e-9)
    length = float(np.hypot(*velocity))
    across = direction[0] * velocity[1] - direction[1] * velocity[0]
    off = abs(math.atan2(across, float(direction @ velocity)))
    aside = path[:, 0] * velocity[1] - path[:, 1] * velocity[0]
    return length, off, float(np.abs(aside).max()) / max(length, 1e-9)


def _swept(path: np.ndarray) -> float:
    """Signed area between a path (F, 2) and its chord, positive when it runs clockwise."""
    return 0.5 * float((path[:-1, 0] * path[1:, 1] - path[:-1, 1] * path[1:, 0]).sum())


# Identity an-------------------------------------------------------------------------------------------------------


def _identity(scene: Scene, tracked: Track, known: Truth) -> np.ndarray:
    overlaps = np.zeros(tracked.present.shape)
    for place, sprite in enumerate(scene.objects):
        frames = np.flatnonzero(tracked.present[place])
        if not len(frames):
            continue
        shape = without_noise(
            sprites_render.render_object_mask(
                sprite.shape,
                tracked.centres[place, frames],
                known.radii[place, frames],
                known.angles_rad[place, frames],
                look=sprite.look,
                view=scene.view,
            )
        )
        overlaps[place, frames] = _overlap(shape, tracked.coverage[place, frames])
    return overlaps


def _overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of coverages (..., H, W)."""
    shared = np.minimum(one, other).sum(axis=(-2, -1), dtype=np.float64)
    either = np.maximum(one, other).sum(axis=(-2, -1), dtype=np.float64)
    return np.where(either > 0, shared / np.maximum(either, 1e-9), 1.0)


def _background_psnr(frames: np.ndarray, scene: Scene, tracked: Track, known: Truth) -> np.ndarray:
    free = np.ones(frames.shape[:3], dtype=bool)
    rows, columns = (np.arange(side) + 0.5 for side in frames.shape[1:3])
    for place, sprite in enumerate(scene.objects):
        masks = sprites_render.render_object_mask(
            sprite.shape,
            known.centres[place],
            known.radii[place],
            known.angles_rad[place],
            look=sprite.look,
            view=scene.view,
        )
        centres = np.nan_to_num(tracked.centres[place], nan=-1e6)
        x, y = (pixels - centres[:, axis, None] for axis, pixels in enumerate((columns, rows)))
        near = (x * x)[:, None, :] + (y * y)[:, :, None] <= (tracked.reach_px[place] ** 2)[:, None, None]
        free &= (masks == 0) & ~(near & (tracked.coverage[place] > 0))
    under = sprites_render.render_background(scene.background)
    squares = ((frames.astype(np.float32) - under) ** 2).mean(axis=-1)
    errors = (squares * free).sum(axis=(1, 2), dtype=np.float64) / np.maximum(free.sum(axis=(1, 2)), 1)
    least = 255.0**2 / 10 ** (BEST_PSNR_DB / 10)
    return 10 * np.log10(255.0**2 / np.maximum(errors, least))
