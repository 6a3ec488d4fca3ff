"""Metrics of videos whose caption leaves the direction out: any future that it allows is right, and one is done sharply.

A video between two futures is none of them. It shows in the motion, which fits no future, and in the edges: an object that is
spread over two places has fewer and softer ones.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from cdcd_video.data import sprites
from cdcd_video.data.sprites import Scene
from cdcd_video.metrics import sprites_metrics
from cdcd_video.metrics.sprites_metrics import SpritesScore
from cdcd_video.metrics.sprites_tracking import Track, track


@dataclasses.dataclass(frozen=True)
class FutureScore:
    """One video's scores by the future that it comes closest to, for O objects in F frames.

    Attributes:
      scene: that future.
      score: the scores by it.
      edge_energy: float64 (F,), see `edge_energy`.
    """

    scene: Scene
    score: SpritesScore
    edge_energy: np.ndarray

    @property
    def motions(self) -> tuple[str, ...] | None:
        """What the objects do, with their directions; None where one of them does nothing that its caption allows."""
        return tuple(sprite.motion for sprite in self.scene.objects) if self.score.all_right else None


def score(frames: np.ndarray, scene: Scene, times_s: np.ndarray) -> FutureScore:
    """Scores a video by the future, of those that the caption allows, in which most objects do the right thing.

    Among such futures the one with most motions of the right kind is taken, then the one with the least position error.

    Args:
      frames: as for `sprites_metrics.score`.
      scene: first frame and caption. Where the caption names all directions, it allows one future.
      times_s: (F,) times of the frames in seconds, rising from 0.

    Raises:
      UserError: as `sprites_metrics.score`.
    """
    tracked = track(frames, scene)

    def fit(future: Scene) -> tuple[int, int, float]:
        right, loosely = sprites_metrics.motions_right(future, tracked, times_s)
        away = tracked.centres - sprites.truth(future, times_s).centres
        error = float(np.square(away[tracked.present]).sum(axis=-1).mean()) if tracked.present.any() else 0.0
        return int(right.sum()), int(loosely.sum()), -error

    allowed = sprites.futures(scene, times_s)
    best = max(allowed, key=fit) if len(allowed) > 1 else scene
    return FutureScore(best, sprites_metrics.score(frames, best, times_s, tracked), edge_energy(tracked))


def edge_energy(tracked: Track) -> Float[np.ndarray, " F"]:
    """Sum of the squared differences of neighbouring pixels of each object's coverage, by frame.

    It grows with the length of the edges and falls as they soften: an object that is blurred to twice the width of its edges
    has about half of it. Compare it with that of the true video.
    """
    coverage = tracked.coverage.astype(np.float64)
    return sum(np.square(np.diff(coverage, axis=axis)).sum(axis=(0, 2, 3)) for axis in (2, 3))


def expected_distinct(probabilities: Float[np.ndarray, " n"], num_samples: int) -> float:
    """Expected number of different outcomes among independent samples: the sum of 1 - (1 - p) ** num_samples."""
    return float((1.0 - (1.0 - probabilities) ** num_samples).sum())
