"""Videos as paths in a latent space: step length, curvature, and distance to real paths.

Paths in (V, F, D), one value per video and frame out; NaN where a frame has none.
"""

import importlib
import importlib.util
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from cdcd_video.errors import UserError

STILL = 1e-4
"""A step shorter than this fraction of the longest one has no direction."""
UMAP_NEIGHBOURS = 15
"""The default of the library; fewer where there are fewer points."""


class Plane(NamedTuple):
    """A plane through `mean`, along the rows of `axes`."""

    mean: Float[np.ndarray, " D"]
    axes: Float[np.ndarray, "A D"]
    explained: Float[np.ndarray, " A"]
    """Share of the fitted points' variance along each axis."""

    def project(self, points: Float[np.ndarray, "*n D"]) -> Float[np.ndarray, "*n A"]:
        """Coordinates of any points in the plane."""
        return (np.asarray(points, np.float64) - self.mean) @ self.axes.T


def fit_plane(points: Float[np.ndarray, "*n D"], num_axes: int = 2) -> Plane:
    """Principal components (Pearson 1901) of points, each axis turned so that its largest entry is positive."""
    flat = np.asarray(points, np.float64).reshape(-1, np.shape(points)[-1])
    mean = flat.mean(axis=0)
    _, lengths, axes = np.linalg.svd(flat - mean, full_matrices=False)
    axes = axes[:num_axes] * np.sign(axes[np.arange(num_axes), np.abs(axes[:num_axes]).argmax(axis=1)])[:, None]
    variance = lengths**2
    return Plane(mean, axes, variance[:num_axes] / max(variance.sum(), 1e-12))


def umap_library() -> Any:
    """The optional library umap-learn (McInnes et al. 2018).

    Raises:
      UserError: it is not installed.
    """
    if importlib.util.find_spec("umap") is None:
        raise UserError("--umap needs the library umap-learn (pip install '.[umap]'); without --umap the plots use PCA")
    return importlib.import_module("umap")


def umap_view(
    real: Float[np.ndarray, "*n D"], others: Float[np.ndarray, "*m D"], seed: int
) -> tuple[Float[np.ndarray, "*n 2"], Float[np.ndarray, "*m 2"]]:
    """A UMAP fitted on real points, and the others in it; see `umap_library`."""
    points = real.reshape(-1, real.shape[-1])
    # With a seed the library uses one job, and warns unless that is set.
    options = {"n_neighbors": min(UMAP_NEIGHBOURS, len(points) - 1), "random_state": seed, "n_jobs": 1}
    mapping = umap_library().UMAP(n_components=2, **options)
    placed = mapping.fit_transform(points)
    moved = mapping.transform(others.reshape(-1, others.shape[-1]))
    return np.reshape(placed, (*real.shape[:-1], 2)), np.reshape(moved, (*others.shape[:-1], 2))


def step_length(paths: Float[np.ndarray, "V F D"]) -> Float[np.ndarray, "V F"]:
    """Distance from the frame before; NaN for the first frame."""
    lengths = np.linalg.norm(np.diff(np.asarray(paths, np.float64), axis=1), axis=-1)
    return np.concatenate([np.full((len(paths), 1), np.nan), lengths], axis=1)


def curvature(paths: Float[np.ndarray, "V F D"]) -> Float[np.ndarray, "V F"]:
    """Angle between the step into a frame and the step out of it, in degrees (Henaff et al. 2019).

    0 is straight on, 180 is reversal; independent steps in many dimensions have 90, and a path that jitters around one
    place about 120. NaN for the first and the last frame, and beside a step of no length.
    """
    steps = np.diff(np.asarray(paths, np.float64), axis=1)
    lengths = np.linalg.norm(steps, axis=-1)
    is_step = lengths > STILL * max(lengths.max(initial=0.0), 1e-12)
    directions = steps / np.where(is_step, lengths, 1.0)[..., None]
    before, after = directions[:, :-1], directions[:, 1:]
    # The half angle by its tangent: the arc cosine cannot tell small angles from rounding.
    angles = 2 * np.arctan2(np.linalg.norm(before - after, axis=-1), np.linalg.norm(before + after, axis=-1))
    angles = np.where(is_step[:, :-1] & is_step[:, 1:], np.degrees(angles), np.nan)
    ends = np.full((len(paths), 1), np.nan)
    return np.concatenate([ends, angles, ends], axis=1) if paths.shape[1] > 1 else ends


def distance_to_paths(points: Float[np.ndarray, "n D"], bank: Float[np.ndarray, "R F D"]) -> Float[np.ndarray, " n"]:
    """Distance of each point to the nearest path of a bank; between frames a path is a straight line."""
    points, bank = np.asarray(points, np.float64), np.asarray(bank, np.float64)
    if bank.shape[1] == 1:
        bank = np.repeat(bank, 2, axis=1)
    begins, steps = bank[:, :-1].reshape(-1, bank.shape[2]), np.diff(bank, axis=1).reshape(-1, bank.shape[2])
    lengths = (steps**2).sum(axis=1)
    along = points @ steps.T - (begins * steps).sum(axis=1)
    share = np.clip(along / np.where(lengths > 0, lengths, 1.0), 0.0, 1.0)
    away = (points**2).sum(axis=1)[:, None] + (begins**2).sum(axis=1) - 2 * points @ begins.T
    away += share * (share * lengths - 2 * along)
    nearest = away.argmin(axis=1)
    # Small values above are differences of large ones, so the distance to the nearest place is computed directly.
    rows = np.arange(len(points))
    feet = begins[nearest] + share[rows, nearest][:, None] * steps[nearest]
    return np.linalg.norm(points - feet, axis=1)


def distance_to_own(paths: Float[np.ndarray, "V F D"], own: Float[np.ndarray, "V G D"]) -> Float[np.ndarray, "V F"]:
    """Distance of each frame of a path to its own true path, at the nearest time.

    A path that never leaves its start has 0: compare it with `distance_in_time`.
    """
    return np.stack([distance_to_paths(path, true[None]) for path, true in zip(paths, own, strict=True)])


def distance_in_time(paths: Float[np.ndarray, "V F D"], own: Float[np.ndarray, "V F D"]) -> Float[np.ndarray, "V F"]:
    """Distance of each frame of a path to the true one at the same time."""
    return np.linalg.norm(np.asarray(paths, np.float64) - own, axis=-1)
