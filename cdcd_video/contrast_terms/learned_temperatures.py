"""Learned temperatures of the terms that compare cosines."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cdcd_video.config import ContrastConfig
from cdcd_video.contrast.temperature import held
from cdcd_video.contrast_terms.weighted_terms import cosine_terms_of


class Temperatures(nn.Module):
    """Learned temperatures, one for each term on cosines that has a weight, as log(1 / temperature) (Radford et al. 2021)."""

    def __init__(self, cfg: ContrastConfig):
        super().__init__()
        start = math.log(1 / cfg.temperature)
        self.log_scales = nn.ParameterDict({name: nn.Parameter(torch.tensor(start)) for name in cosine_terms_of(cfg)})

    def forward(self, name: str) -> Float[Tensor, ""]:
        """The temperature of a term. A scale beyond the largest is put back first, so that it can come down again."""
        return (-held(self.log_scales[name])).exp()
