"""Negative log-likelihood of the codes of real videos under a model, in bits per token.

Nothing is sampled: each frame of a true video is scored given the true frame before it. The codes are those of the model's
codec, so two models can be compared only if they share it.
"""

import math
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, UInt8

from cdcd_video.metrics.measurements import EvalVideo, Measurement, measured

CAPTION_OF = {"model": "model", "sentence-ignored": "counterfactual"}
"""The systems that are scored, and the system whose caption each is given. The second caption is not that of the video: its
value is what a model that ignores captions would have. The gap to the first shows how much the caption helps."""


@runtime_checkable
class Likelihood(Protocol):
    """What a model must implement to be scored; `pipeline.ImageToVideo` does."""

    @property
    def size_px(self) -> int:
        """Side of the frames, where they are square; frames of other shapes have patches of the same size."""

    def nll(
        self, frames: UInt8[np.ndarray, "F H W 3"], caption: str, fps: float, seed: int
    ) -> Float64[np.ndarray, "F-1 N"]:
        """Nats for each token of the frames 1, 2, ...: exact, or an unbiased estimate of an upper bound."""


def measure_likelihood(
    model: Likelihood, eval_video: EvalVideo, frames: UInt8[np.ndarray, "F H W 3"], caption: str, fps: float, seed: int
) -> Measurement:
    """Bits per token of each frame; frame 0 is given and has none.

    Args:
      model: whose likelihood it is.
      eval_video: the video.
      frames: the true video at the model's size.
      caption: the caption that the model is given.
      fps: rate of the video.
      seed: of the random numbers of an estimate; the same for every caption, so that noise cancels in differences.
    """
    return measured("nll", eval_video, [math.nan, *bits_per_token(model.nll(frames, caption, fps, seed))])


def bits_per_token(nats: Float64[np.ndarray, "T N"]) -> Float64[np.ndarray, " T"]:
    """The mean over the tokens of each frame, as logarithms to base 2."""
    return nats.mean(axis=1) / math.log(2)
