"""Regularity of the codec's space: distances of neighbouring frames, of other clips and of captions, and uniformity."""

import numpy as np
from jaxtyping import Float

from cdcd_video.metrics.latent.clusters import alignment, distances, is_retrieved, potentials, uniformity
from cdcd_video.metrics.latent.health import effective_rank


def space_metrics(
    embedding: Float[np.ndarray, "V S 2 J"], values: Float[np.ndarray, "V S 2 D"], captions: Float[np.ndarray, "V J"]
) -> dict[str, float]:
    """Metrics of S pairs of neighbouring frames of each of V clips.

    Args:
      embedding: unit-norm joint embeddings; the third axis is the earlier and the later frame.
      values: another representation, such as all code values of the frames; in any unit.
      captions: unit-norm embedding of each clip's caption; clips with equal rows have the same caption.

    Returns:
      alignment (mean squared distance of a frame's embedding to its neighbour's) and uniformity (over frames of different
      clips; both Wang & Isola 2020, sec. 4.1), effective_rank (Roy & Vetterli 2007, at most J), near_ratio (mean distance
      to the neighbour over mean distance to frames of other clips) and value_near_ratio (the same of `values`), and
      caption_retrieval (fraction of frames whose own caption is the nearest one). Metrics that need two clips are NaN for
      a single one, and so is a ratio where all points coincide.
    """
    frames = embedding.reshape(len(captions), -1, embedding.shape[-1])
    sentences, own = np.unique(captions, axis=0, return_inverse=True)
    away = distances(frames.reshape(-1, frames.shape[-1]), sentences)
    return {
        "alignment": float(alignment(*_neighbours(embedding)).mean()),
        "uniformity": uniformity(potentials(frames))[0],
        "effective_rank": effective_rank(frames.reshape(-1, frames.shape[-1])),
        "near_ratio": _near_ratio(embedding),
        "value_near_ratio": _near_ratio(values),
        "caption_retrieval": float(is_retrieved(away, np.repeat(own.ravel(), frames.shape[1]), 1).mean()),
    }


def _neighbours(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = points.reshape(-1, 2, points.shape[-1])
    return flat[:, 0], flat[:, 1]


def _near_ratio(points: Float[np.ndarray, "V S 2 D"]) -> float:
    earlier, later = _neighbours(np.asarray(points, np.float64))
    near = np.linalg.norm(later - earlier, axis=1).mean()
    clip = np.repeat(np.arange(len(points)), points.shape[1])
    far = distances(earlier, later)[clip[:, None] != clip]
    return float(near / far.mean()) if far.any() else float("nan")
