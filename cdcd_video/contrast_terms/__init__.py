"""The contrastive terms of a training step, one file each; `weighted_terms` computes those that have a weight.

A term is a function from `TermInputs` to `Comparison`, or a `StepTerm`, registered in `CONTRAST_TERMS` under the name that has
a weight in the config. docs/extending.md has a recipe, docs/diffusion.md the formulas.
"""

from cdcd_video.contrast_terms import (
    alignment,
    counterfactual,
    difference,
    flow_contrast,
    frames_and_captions,
    own_negatives,
)
from cdcd_video.contrast_terms.learned_temperatures import Temperatures
from cdcd_video.contrast_terms.term_inputs import (
    Candidates,
    Comparison,
    ContrastTerm,
    DenoisingStep,
    FrameLosses,
    StepTerm,
    TermInputs,
)
from cdcd_video.contrast_terms.weighted_terms import (
    contrast_terms,
    cosine_terms_of,
    heads_of,
    needs_of,
    num_compared,
    weighted_terms_of,
)

__all__ = [
    "Candidates",
    "Comparison",
    "ContrastTerm",
    "DenoisingStep",
    "FrameLosses",
    "StepTerm",
    "Temperatures",
    "TermInputs",
    "alignment",
    "contrast_terms",
    "cosine_terms_of",
    "counterfactual",
    "difference",
    "flow_contrast",
    "frames_and_captions",
    "heads_of",
    "needs_of",
    "num_compared",
    "own_negatives",
    "weighted_terms_of",
]
