"""Contrastive step-text encoder: embeds the step from one frame to the next, and the caption, in one space.

An embedding of single frames, and a caption embedding learned with it, contain no motion. This small pair of towers is
trained on true steps before the diffusion (stage `eye`), then frozen, and replaces `embed` in the frame-text term
(`loss.contrast.text_eye: step`).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cdcd_video.contrast.info_nce import batch_info_nce
from cdcd_video.networks.codec.frame_codec import CodeSpace
from cdcd_video.networks.conditional_transformer import TIME_EMBEDDING_WIDTH, normalized_halves, time_embedding
from cdcd_video.networks.patch_grid import positions_on
from cdcd_video.networks.transformer import Block
from cdcd_video.records import ALONE, CodePair, Collectives, Grid, LossTerms, TextStates

NUM_LAYERS = 2


class StepTextEncoder(nn.Module):
    """Steps and sentences -> unit-norm embeddings in a space of their own.

    Args:
      code_width: V, values per patch.
      num_patches: P of the square grid.
      text_width: of the caption's token states.
      width: of the towers and of the space.
      normalised_text: as for the denoiser.
    """

    def __init__(
        self, code_width: int, num_patches: int, text_width: int, width: int, *, normalised_text: bool = False
    ):
        super().__init__()
        self.normalised_text = normalised_text
        self.step_in = nn.Linear(2 * code_width, width)
        self.gap_in = nn.Linear(TIME_EMBEDDING_WIDTH, width)
        self.position = nn.Parameter(torch.randn(num_patches, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, width // 32) for _ in range(NUM_LAYERS))
        self.norm = nn.LayerNorm(width)
        self.step_out = nn.Linear(width, width)
        self.text_in = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, 2 * width), nn.SiLU())
        self.text_out = nn.Linear(2 * width, width)

    def encode_step(
        self,
        source: Float[Tensor, "B P V"],
        values: Float[Tensor, "B P V"],
        gap_s: Float[Tensor, "B"],
        grid: Grid | None = None,
    ) -> Float[Tensor, "B J"]:
        """The step from a source frame to (soft) code values; differentiable in both."""
        x = (
            self.step_in(torch.cat([source, values - source], -1))
            + self.gap_in(time_embedding(gap_s))[:, None]
            + positions_on(self.position, grid)
        )
        for block in self.blocks:
            x = block(x)
        return F.normalize(self.step_out(self.norm(x).mean(1)).float(), dim=-1)

    def encode_text(self, text: TextStates) -> Float[Tensor, "B J"]:
        """Captions, word by word: word embeddings keep the words of motion, which the last layer loses."""
        tokens = normalized_halves(text.tokens) if self.normalised_text else text.tokens
        words = self.text_in(tokens) * text.is_word[..., None]
        return F.normalize(self.text_out(words.sum(1) / text.is_word.sum(1, keepdim=True)).float(), dim=-1)


def step_encoder_objective(
    step_encoder: StepTextEncoder, codec: CodeSpace, batch: CodePair, temperature: float, reduce: Collectives = ALONE
) -> LossTerms:
    """The loss of the encoder's own training: CLIP's loss (Radford et al. 2021) between true steps and their sentences."""
    steps = step_encoder.encode_step(codec.values(batch.source), codec.values(batch.target), batch.gap_s, batch.grid)
    text = step_encoder.encode_text(batch.text)
    is_other = batch.caption[:, None] != reduce.gather(batch.caption)
    among = None if reduce.size == 1 else (reduce.gather(steps), reduce.gather(text))
    nats, wins = batch_info_nce(steps, text, is_other, temperature, symmetric=True, among=among)
    return LossTerms(nats.mean(), {"eye_nats": nats.mean().detach(), "eye_wins": wins.mean()})
