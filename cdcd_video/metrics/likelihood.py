"""How likely a model finds real videos: the negative log-likelihood of their codes, in bits per token.

Nothing that the model draws is looked at. Each frame of a true video is scored given the true frame before it. Codes are those of
the model's own codec, so two models can be compared only where they share it.
"""

import math
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, UInt8

from cdcd_video.metrics.measurements import EvalVideo, Seen, measured

TOLD = {"model": "model", "sentence-ignored": "counterfactual"}
"""The rows that are scored, and whose sentence is told. The second has another sentence than the true video's: what the
model would pay if it did not read, and the gap to the first row is what it gains by reading."""


@runtime_checkable
class Likelihood(Protocol):
    """What a model must be able to do to be scored; `pipeline.ImageToVideo` is one."""

    @property
    def size_px(self) -> int:
        """Side of the frames."""

    def nll(
        self, frames: UInt8[np.ndarray, "F S S 3"], caption: str, fps: float, seed: int
    ) -> Float64[np.ndarray, "F-1 N"]:
        """Nats for each token of the frames 1, 2, ...: exact, or an unbiased estimate of an upper bound."""


def measure_likelihood(
    model: Likelihood, subject: EvalVideo, frames: UInt8[np.ndarray, "F S S 3"], caption: str, fps: float, seed: int
) -> Seen:
    """Bits per token of each frame; frame 0 is given and has none.

    Args:
      model: whose likelihood it is.
      subject: the video.
      frames: the true video at the model's size.
      caption: the sentence that the model is told.
      fps: rate of the video.
      seed: of what is drawn on the way; the same for every sentence, so that differences are not made of noise.
    """
    return measured("nll", subject, [math.nan, *bits_per_token(model.nll(frames, caption, fps, seed))])


def bits_per_token(nats: Float64[np.ndarray, "T N"]) -> Float64[np.ndarray, " T"]:
    """The mean over the tokens of each frame, as logarithms to base 2."""
    return nats.mean(axis=1) / math.log(2)
