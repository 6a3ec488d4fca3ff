"""Detects a model that freezes or whose latent space collapses, from its samples and the true frames.

A contrastive term with the earlier frame is smallest without motion, and one with a caption if every image gives the same
frame. The terms themselves do not show either; these metrics do.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from cdcd_video.metrics.latent.clusters import alignment, potentials, uniformity

FREEZES_BELOW = 0.5
"""Alarm level of `motion_ratio`. A copy of the source has 0, the truth 1; docs/diffusion.md has values of trained models."""
FADES_BELOW = 0.45
"""Alarm level of `rolled_motion_ratio`. It is lower, because even good models slow down in a roll-out."""
COLLAPSES_BELOW = 0.5
"""Alarm level of `rank_ratio`. Samples with at most half the effective rank of the true frames have lost content."""
OVERFITS_AT = 2
"""Evaluations in a row at which the validation bound has risen."""
CHECKED_FROM = 0.5
"""Fraction of the training before which there is no alarm: every denoiser copies its source at first."""
ROLLED_FROM = 0.9
"""The same for roll-outs, which accumulate the errors of their steps and improve until the end of training."""


def effective_rank(points: Float[np.ndarray, "n D"]) -> float:
    """Effective rank of points: exp of the entropy of the normalised singular values (Roy & Vetterli 2007).

    The mean is not subtracted, so that points that nearly coincide have rank 1; otherwise their noise would have full rank.

    Args:
      points: not all zero.

    Returns:
      From 1, where all lie on a line through the origin, to min(n, D), where they are orthogonal and of one length.
    """
    values = np.linalg.svd(np.asarray(points, np.float64), compute_uv=False)
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def motion(values: Float[np.ndarray, "*n P V"], before: Float[np.ndarray, "*n P V"]) -> float:
    """Mean distance between a patch's code values and those of an earlier frame, in units of the codebook; 0 for a copy."""
    return float(np.linalg.norm(np.asarray(values, np.float64) - before, axis=-1).mean())


def health(
    sampled: Mapping[str, np.ndarray],
    real: Mapping[str, np.ndarray],
    earlier: Mapping[str, np.ndarray],
    captions: np.ndarray,
) -> dict[str, float]:
    """Metrics of sampled frames, and the same of the true frames.

    Args:
      sampled, real, earlier: of each example's sampled, true and earlier frame the code values (n, P, V) in `values` and the
        unit-norm joint embeddings (n, J) in `embedding`.
      captions: (n, J) unit-norm embeddings of the captions.

    Returns:
      For `drawn` (the samples) and `real` each: motion (see `motion`), rank (see `effective_rank`), alignment to the earlier
      frame and to the caption, uniformity (Wang & Isola 2020, sec. 4.1); and the ratios of motion and rank, sampled over real,
      where the true frames move.
    """
    figures: dict[str, float] = {}
    for name, frames in {"drawn": sampled, "real": real}.items():
        points = frames["embedding"]
        figures |= {
            f"{name}_motion": motion(frames["values"], earlier["values"]),
            f"{name}_rank": effective_rank(points),
            f"{name}_alignment": float(alignment(points, earlier["embedding"]).mean()),
            f"{name}_text_alignment": float(alignment(points, captions).mean()),
            f"{name}_uniformity": uniformity(potentials(points[:, None]))[0],
        }
    if figures["real_motion"] > 0:
        figures["motion_ratio"] = figures["drawn_motion"] / figures["real_motion"]
    figures["rank_ratio"] = figures["drawn_rank"] / figures["real_rank"]
    return figures


def rolled_motion(sampled: Float[np.ndarray, "n F P V"], real: Float[np.ndarray, "n F P V"]) -> dict[str, float]:
    """Motion in the later half of roll-outs, beside that of the true videos.

    A model that moves slightly too little in each step need not freeze in one step, but does in a roll-out, where each frame
    depends on the one before. Hence only the motion (see `motion`) into the later half of the frames counts.

    Args:
      sampled: code values of roll-outs, the first frame given; at least two frames.
      real: those of the true frames.

    Returns:
      `rolled_motion`, `rolled_real_motion` and, where the truth moves, their ratio `rolled_motion_ratio`.
    """
    later = real.shape[1] // 2
    moved, should = (motion(frames[:, later:], frames[:, later - 1 : -1]) for frames in (sampled, real))
    figures = {"rolled_motion": moved, "rolled_real_motion": should}
    return figures | ({"rolled_motion_ratio": moved / should} if should > 0 else {})


def alarms(figures: Mapping[str, float], progress: float) -> list[str]:
    """One message per alarm; on sampled frames none before `CHECKED_FROM` of the training, on roll-outs `ROLLED_FROM`.

    Args:
      figures: of `health` and `rolled_motion`, and possibly others.
      progress: fraction of the training that is done.
    """
    found = []
    rises = figures.get("val_bound_rises", 0)
    if rises >= OVERFITS_AT:
        found.append(
            f"the model learns its clips by heart: its bound on validation clips has risen {rises:.0f} times in a row; use more"
            " clips, or fewer steps"
        )
    if progress < CHECKED_FROM:
        return found
    moved, spread, rolled = (figures.get(f"{name}_ratio") for name in ("motion", "rank", "rolled_motion"))
    if moved is not None and moved < FREEZES_BELOW:
        found.append(
            f"the model freezes: its frames have {moved:.0%} of the true motion from their source (alarm below "
            f"{FREEZES_BELOW:.0%})"
        )
    elif (
        progress >= ROLLED_FROM and rolled is not None and rolled < FADES_BELOW
    ):  # a model that freezes in a step also does here
        found.append(
            f"roll-outs freeze: in their later half they have {rolled:.0%} of the true motion from frame to frame (alarm below "
            f"{FADES_BELOW:.0%})"
        )
    if spread is not None and spread < COLLAPSES_BELOW:
        found.append(
            f"the latent space collapses: sampled frames have effective rank {figures['drawn_rank']:.1f}, true ones "
            f"{figures['real_rank']:.1f} (alarm below {COLLAPSES_BELOW:.0%})"
        )
    return found
