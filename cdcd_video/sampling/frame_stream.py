"""Videos that are looked at while they are sampled: every frame is decoded at once, and the whole again at the end."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cdcd_video.config import SamplingParams
from cdcd_video.kernels.threads import threads
from cdcd_video.sampling.captions import CaptionSchedule
from cdcd_video.sampling.latent_pipeline import OUT_OF_MEMORY, Frames, LatentPipeline, Seeds
from cdcd_video.storage.memory import user_error_when_out


class FrameStream(Iterator[Frames]):
    """An iterator over the frames of several videos that share their settings, (B, H, W, 3) at a time, the given ones first.

    Whoever stops asking stops the sampling: nothing runs between two frames, and each may be asked for in another thread.

    Attributes:
      params: the settings; their seed is unused.
    """

    def __init__(
        self,
        pipe: LatentPipeline,
        starts: Frames,
        captions: Sequence[CaptionSchedule],
        params: SamplingParams,
        seeds: Seeds,
        negatives: Sequence[str] = (),
    ):
        """Prepares the videos; see `LatentPipeline.sample` for the arguments."""
        self._pipe, self._starts, self.params = pipe, starts, params
        self._sampled = pipe.sampled_frames(starts, captions, params, seeds, None, negatives)
        self._latents: list[Tensor] = []
        self._values: list[Tensor] = []

    def __len__(self) -> int:
        """Frames that were sampled so far."""
        return len(self._latents)

    def __next__(self) -> Frames:
        with threads(self._pipe.num_threads), user_error_when_out(*OUT_OF_MEMORY), torch.no_grad():
            frame = next(self._sampled)
            self._latents.append(frame.latents)
            self._values.append(self._pipe.values(frame.to_decode))
            if len(self) == 1:
                return self._starts
            newest, first = self._values[-1][:, None], self._values[0]
            return self._pipe.decode(newest, self._starts, self.params, first)[:, 0]

    @property
    def latents(self) -> Int[Tensor, "B F N"] | Float[Tensor, "B F P V"]:
        """Latents of the frames so far."""
        return torch.stack(self._latents, 1)

    def videos(self) -> list[UInt8[np.ndarray, "F H W 3"]]:
        """The frames so far of each video, with the bits that a call of the pipeline of its own gives."""
        found = []
        with user_error_when_out(*OUT_OF_MEMORY):
            values = torch.stack(self._values, 1)
            for row, start in enumerate(self._starts):
                frames = self._pipe.decode(values[row : row + 1], start[None], self.params)[0]
                frames[0] = start
                found.append(frames)
        return found
