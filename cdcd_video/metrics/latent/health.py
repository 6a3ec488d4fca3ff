"""Does a model freeze, or its space collapse? Figures of frames that it draws, beside those of the true frames.

Attraction to the earlier frame is cheapest by not moving, attraction to a sentence by drawing one and the same frame for
it. Both look fine to the terms themselves; these figures are what would show it.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from cdcd_video.metrics.latent.clusters import alignment, potentials, uniformity

FREEZES_BELOW = 0.5
"""Of `motion_ratio`. A copy of the source has 0, the truth 1; docs/diffusion.md says what trained models have."""
FADES_BELOW = 0.45
"""Of `rolled_motion_ratio`, likewise. Lower, because a roll-out leaves the truth, where even good models slow down."""
COLLAPSES_BELOW = 0.5
"""Of `rank_ratio`. Drawn frames that use half as many directions as the true ones, or fewer, have lost content."""
JUDGED_FROM = 0.5
"""Share of the training before which nothing is judged: a denoiser begins by copying its source, so all freeze at first."""
ROLLED_FROM = 0.9
"""The same for roll-outs, in which what little is missing from each step adds up: they go on waking up to the end."""


def effective_rank(points: Float[np.ndarray, "n D"]) -> float:
    """How many directions points spread over: exp of the entropy of the normalised singular values (Roy & Vetterli 2007).

    The mean is not taken off: points that all but coincide have rank 1, where what little noise is left between them
    would count as spread in every direction.

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
    drawn: Mapping[str, np.ndarray], real: Mapping[str, np.ndarray], earlier: Mapping[str, np.ndarray], said: np.ndarray
) -> dict[str, float]:
    """Figures of drawn frames, and the same of the true frames in their place.

    Args:
      drawn, real, earlier: of each example's drawn, true and earlier frame the code values (n, P, V) in `values` and the
        unit-norm joint embeddings (n, J) in `embedding`.
      said: (n, J) unit-norm embeddings of the sentences.

    Returns:
      For `drawn` and `real` each: motion (see `motion`), rank (see `effective_rank`), alignment to the earlier frame and to
      the sentence, uniformity (Wang & Isola 2020, sec. 4.1); and the ratios of motion and rank, drawn over real, where
      there is something to compare with.
    """
    figures: dict[str, float] = {}
    for name, frames in {"drawn": drawn, "real": real}.items():
        points = frames["embedding"]
        figures |= {
            f"{name}_motion": motion(frames["values"], earlier["values"]),
            f"{name}_rank": effective_rank(points),
            f"{name}_alignment": float(alignment(points, earlier["embedding"]).mean()),
            f"{name}_text_alignment": float(alignment(points, said).mean()),
            f"{name}_uniformity": uniformity(potentials(points[:, None]))[0],
        }
    if figures["real_motion"] > 0:
        figures["motion_ratio"] = figures["drawn_motion"] / figures["real_motion"]
    figures["rank_ratio"] = figures["drawn_rank"] / figures["real_rank"]
    return figures


def rolled_motion(drawn: Float[np.ndarray, "n F P V"], real: Float[np.ndarray, "n F P V"]) -> dict[str, float]:
    """How far roll-outs still move from frame to frame once they stand on frames of their own; beside the truth.

    A model that moves a little less than it should at each step need not freeze in one step, and yet does in a roll-out,
    where each frame stands on the one before. So the motion (see `motion`) into the later half of the frames is what counts.

    Args:
      drawn: code values of roll-outs, the first frame given; at least two frames.
      real: those of the true frames.

    Returns:
      `rolled_motion`, `rolled_real_motion` and, where the truth moves, their ratio `rolled_motion_ratio`.
    """
    later = real.shape[1] // 2
    moved, should = (motion(frames[:, later:], frames[:, later - 1 : -1]) for frames in (drawn, real))
    figures = {"rolled_motion": moved, "rolled_real_motion": should}
    return figures | ({"rolled_motion_ratio": moved / should} if should > 0 else {})


def alarms(figures: Mapping[str, float], progress: float) -> list[str]:
    """What is wrong with a model, in sentences; nothing before `JUDGED_FROM` of its training, of roll-outs `ROLLED_FROM`.

    Args:
      figures: of `health` and `rolled_motion`, and possibly others.
      progress: share of the training that is done.
    """
    if progress < JUDGED_FROM:
        return []
    found = []
    moved, spread, rolled = (figures.get(f"{name}_ratio") for name in ("motion", "rank", "rolled_motion"))
    if moved is not None and moved < FREEZES_BELOW:
        found.append(
            f"the model freezes: its frames move {moved:.0%} as far from their source as the true ones (alarm below "
            f"{FREEZES_BELOW:.0%})"
        )
    elif progress >= ROLLED_FROM and rolled is not None and rolled < FADES_BELOW:  # who freezes in a step does here too
        found.append(
            f"roll-outs freeze: after a few frames they move {rolled:.0%} as far from frame to frame as the true ones (alarm "
            f"below {FADES_BELOW:.0%})"
        )
    if spread is not None and spread < COLLAPSES_BELOW:
        found.append(
            f"the latent space collapses: drawn frames spread over {figures['drawn_rank']:.1f} directions, the true ones "
            f"over {figures['real_rank']:.1f} (alarm below {COLLAPSES_BELOW:.0%})"
        )
    return found
