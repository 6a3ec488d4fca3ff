"""Baselines with the denoiser's number of parameters: the width of their MLPs makes up the difference."""

import torch
from torch import nn

from cdcd_video.config import BaselineSection, DenoiserConfig
from cdcd_video.errors import UserError
from cdcd_video.networks.denoiser import Denoiser


def num_parameters(network: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def build_baseline(section: BaselineSection, cfg: DenoiserConfig, **shape) -> nn.Module:
    """A baseline with fresh weights and, as nearly as whole widths allow, as many parameters as the denoiser of `cfg`.

    Args:
      **shape: the denoiser's other arguments.

    Raises:
      UserError: the denoiser is so small that no width fits.
    """
    with torch.random.fork_rng(devices=[]):  # counting must not advance the generator of the weights
        wanted = num_parameters(Denoiser(cfg, **shape))
        least = num_parameters(section.build(cfg, **shape, mlp_width=1))
    per_unit = cfg.num_layers * (2 * cfg.width + 1)  # a row, a column and a bias in each block
    mlp_width = 1 + round((wanted - least) / per_unit)
    if mlp_width < 1:
        raise UserError(
            f"the baseline {section.kind} needs more than the denoiser's {wanted:,} weights at denoiser.width {cfg.width} and "
            f"num_layers {cfg.num_layers}; raise one of them"
        )
    return section.build(cfg, **shape, mlp_width=mlp_width)
