"""Learned positions on any grid of patches, interpolated from those of the square grid that a network was built for."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from cdcd_video.records import Grid


def square_grid(num_patches: int) -> Grid:
    """Rows and columns of a square grid.

    Raises:
      ValueError: the patches are no square.
    """
    side = math.isqrt(num_patches)
    if side**2 != num_patches:
        raise ValueError(f"{num_patches} patches are no square grid")
    return side, side


def positions_on(
    table: Float[Tensor, "S D"], grid: Grid | None, how: Literal["linear", "bicubic"] = "linear"
) -> Float[Tensor, "P D"]:
    """Positions of the patches of a grid, row by row (Dosovitskiy et al. 2021, sec. 3.2).

    Rows and columns are interpolated separately, as products with two small matrices: unlike the gradient of torch's own
    interpolation, theirs is the same in every run on a GPU.

    Args:
      table: learned positions, of a square grid where another one is asked for.
      grid: rows and columns; None for the network's own.
      how: linear, or bicubic as in published CLIPs; differentiable in `table`.

    Returns:
      `table` itself for its own grid, bit for bit.
    """
    if grid is None or grid == (square := square_grid(len(table))):
        return table
    with torch.autocast(table.device.type, enabled=False):  # in 16 bits neighbouring positions would become equal
        rows, columns = (_weights(square[0], side, how).to(table) for side in grid)
        return torch.einsum("rs,ct,std->rcd", rows, columns, table.unflatten(0, square)).flatten(0, 1)


def _weights(side: int, new_side: int, how: Literal["linear", "bicubic"]) -> Float[Tensor, "n s"]:
    """What each of the new places takes of each old one; the ends of both lie at the edges of the frame."""
    ones = torch.eye(side)[None, :, :, None]  # a channel for each old place
    if how == "linear":
        found = torch.nn.functional.interpolate(ones, size=(new_side, 1), mode="bilinear", align_corners=False)
    else:
        found = torch.nn.functional.interpolate(ones, size=(new_side, 1), mode="bicubic", align_corners=False)
    return found[0, :, :, 0].T
