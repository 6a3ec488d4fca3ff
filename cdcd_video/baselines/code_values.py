"""Code values and their scale, for baselines that diffuse continuous values instead of codes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class CodeValues(nn.Module):
    """Mixin: codes <-> code values (V = groups x d for each patch) <-> values whose channels have mean 0 and deviation 1."""

    groups: int
    table: Tensor
    middle: Tensor
    spread: Tensor

    def _add_table(self, table: Float[Tensor, "K d"], groups: int) -> None:
        """Adds the table of the codec, which is not saved, and the scales, which are."""
        table = table.detach().float()
        self.register_buffer("table", table.clone(), persistent=False)
        self.register_buffer("middle", table.mean(0).repeat(groups))
        self.register_buffer("spread", table.std(0, correction=0).repeat(groups))

    def fit_normalization(self, codes: Int[Tensor, "M N"]) -> None:
        """Fixes the scale of each channel: mean 0 and deviation 1 over these frames, like the noise.

        The deviation is at least a tenth of that of the table, so that nothing is divided by zero.
        """
        values = self.values_of(codes.to(self.table.device)).flatten(0, 1)
        least = self.table.std(0, correction=0).repeat(self.groups) / 10
        self.middle.copy_(values.mean(0))
        self.spread.copy_(torch.maximum(values.std(0, correction=0), least))

    def values_of(self, codes: Int[Tensor, "B N"]) -> Float[Tensor, "B P V"]:
        """Codes -> code values, patch by patch."""
        return self.table[codes].unflatten(1, (-1, self.groups)).flatten(2)

    def nearest(self, values: Float[Tensor, "B P V"]) -> Int[Tensor, "B N"]:
        """The codes whose values are nearest."""
        apart = torch.cdist(values.float().unflatten(-1, (self.groups, -1)).flatten(1, 2), self.table[None])
        return apart.argmin(-1)

    def _normal(self, values: Float[Tensor, "B P V"]) -> Float[Tensor, "B P V"]:
        return (values - self.middle) / self.spread

    def _values(self, normal: Float[Tensor, "B P V"]) -> Float[Tensor, "B P V"]:
        return normal * self.spread + self.middle
