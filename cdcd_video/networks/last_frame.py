"""What the denoiser reads of a frame in which a video ends: codes, their distance in time, and what logits may copy of them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cdcd_video.networks.conditional_transformer import TIME_EMBEDDING_WIDTH, time_embedding
from cdcd_video.records import LastFrame


class LastFrameInput(nn.Module):
    """Begins at zero, so that a denoiser that was trained without a last frame predicts what it did before.

    Args:
      width: of the denoiser.
      geometry_width: numbers that say where the codes of a patch lie.
      num_embeddings: codes and mask of every group.
      num_copied: digits of the codes of a patch, each of which a logit may copy.
    """

    def __init__(self, width: int, *, geometry_width: int, num_embeddings: int, num_copied: int):
        super().__init__()
        self.geometry_in = nn.Linear(geometry_width, width, bias=False)
        self.code_in = nn.Embedding(num_embeddings, width)
        self.time_in = nn.Linear(TIME_EMBEDDING_WIDTH + 1, width, bias=False)
        self.to_copy = nn.Linear(width, num_copied)
        self.no_last = nn.Parameter(torch.zeros(width))
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def read(
        self, geometry: Float[Tensor, "B P G"], rows: Int[Tensor, "B P g"], last: LastFrame
    ) -> Float[Tensor, "B P D"]:
        """The last frame's part of the input, patch by patch.

        Args:
          geometry: where the codes of a patch lie.
          rows: of the embeddings of its codes.
          last: which videos have a last frame.
        """
        found = self.geometry_in(geometry) + self.code_in(rows).sum(2)
        return torch.where(last.is_there[:, None, None], found, self.no_last.to(found.dtype))

    def time(self, last: LastFrame) -> Float[Tensor, "B D"]:
        """Its part of the embedding of the times: how far away the last frame is, and whether there is one."""
        is_there = last.is_there[:, None].float()
        return self.time_in(torch.cat([time_embedding(last.until_s) * is_there, is_there], -1))


def no_last_frame(codes: Int[Tensor, "B N"]) -> LastFrame:
    """That of videos without one, for codes of the same shape."""
    nothing = torch.zeros(len(codes), device=codes.device)
    return LastFrame(codes, nothing.bool(), nothing)
