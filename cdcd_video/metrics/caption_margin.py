"""The caption margin: how much better a model predicts the true next frame with the right sentence than with a wrong one.

Nothing is sampled: each frame of a true video is predicted from the true frame before it and from fully corrupted codes, so that
only source, first frame and sentence say what comes next. Both sentences start from the same corrupted codes. The margin is

    sum over changed codes of (-log p(code | wrong sentence) + log p(code | right sentence)) / number of changed codes

in nats; a model that ignores sentences has 0. A code has changed where it differs from that of the frame before: the others can
be copied. The codes are those of the model's codec, so two models can be compared only if they share it.
"""

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from cdcd_video.errors import UserError
from cdcd_video.metrics.eval_dataset import EvalDataset
from cdcd_video.metrics.measurements import EvalVideo, Measurement


@runtime_checkable
class CaptionModel(Protocol):
    """What a model must implement to be scored; `pipeline.ImageToVideo` does."""

    @property
    def size_px(self) -> int:
        """Side of the frames, where they are square; frames of other shapes have patches of the same size."""

    def code_nats(
        self, frames: UInt8[np.ndarray, "F H W 3"], captions: Sequence[str], fps: float, seed: int
    ) -> tuple[Float64[np.ndarray, "C F-1 N"], Bool[np.ndarray, "F-1 N"]]:
        """Cross-entropy of each token of the frames 1, 2, ... under each caption in nats, and whether the token changes."""


def measure_caption_margin(
    model: CaptionModel,
    eval_video: EvalVideo,
    frames: UInt8[np.ndarray, "F H W 3"],
    right: str,
    wrong: str,
    fps: float,
    seed: int,
) -> Measurement:
    """The margin of each frame, weighted by its number of changed codes; frame 0 is given and has none.

    Args:
      model: whose margin it is.
      eval_video: the video.
      frames: the true video at the model's size.
      right, wrong: the caption of the video, and another one.
      fps: rate of the video.
      seed: of the corrupted codes.
    """
    nats, changed = model.code_nats(frames, [right, wrong], fps, seed)
    counts = changed.sum(axis=1).astype(np.float64)
    is_known = counts > 0
    total = np.where(is_known, ((nats[1] - nats[0]) * changed).sum(axis=1), math.nan)
    weight = np.where(is_known, counts, math.nan)
    values = (np.concatenate([[math.nan], side]) for side in (total, weight))
    return Measurement("caption_margin", eval_video, eval_video.groups, *values)


def wrong_captions(dataset: EvalDataset) -> Sequence[str]:
    """A wrong sentence for each video: one that the dataset knows to be wrong, else that of the next video with another one.

    Raises:
      UserError: all videos have the same caption.
    """
    for name in ("wrong", "counterfactual"):
        if name in dataset.captions:
            return dataset.captions[name]
    captions = list(dataset.captions["model"])
    if len(set(captions)) < 2:
        raise UserError("caption_margin needs videos with different captions; leave it out of --metrics, or add clips")
    following = captions * 2
    return [
        next(other for other in following[place + 1 :] if other != caption) for place, caption in enumerate(captions)
    ]
