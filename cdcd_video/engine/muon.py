"""Muon (Jordan et al. 2024): a matrix moves by its momentum made orthogonal.

`torch.optim.Muon` computes in bfloat16 whatever the weights are, which a CPU without such products emulates, and one matrix
after another. This one computes in the weights' own precision, with all matrices of a shape in one batch.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of x -> a x + b x^3 + c x^5, whose iterates bring singular values from (0, 1] near 1 [Jordan et al. 2024]."""
RMS_OF_ADAMW = 0.2
"""Root mean square of an update of AdamW at rate 1, to which that of an orthogonal matrix is scaled [Liu et al. 2025]."""


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay.

    Updates are scaled to the size of AdamW's, so that both can follow one learning rate.

    Args:
      parameters: matrices, or groups of them; those of a group with `parts` are that many matrices above each other, such as keys
        and values, and each of them is made orthogonal by itself.
      lr: learning rate.
      weight_decay: per unit of the learning rate.
      momentum: of the average of gradients.
      num_iterations: of the orthogonalisation.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        num_iterations: int = 5,
    ):
        given: list[Any] = list(parameters)
        super().__init__(given, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, parts=1))
        self.num_iterations = num_iterations

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is ever given
        """Moves every matrix that has a gradient."""
        for group in self.param_groups:
            of_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                average = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(average, group["momentum"])
                for part, its_update in zip(parameter.chunk(group["parts"]), update.chunk(group["parts"]), strict=True):
                    of_shape.setdefault(part.shape, []).append((part, its_update))
            for shape, moved in of_shape.items():
                directions = orthogonalized(torch.stack([update for _, update in moved]), self.num_iterations)
                size = group["lr"] * RMS_OF_ADAMW * max(shape) ** 0.5
                for (part, _), direction in zip(moved, directions, strict=True):
                    part.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=size)


def orthogonalized(matrices: Float[Tensor, "n a b"], num_iterations: int = 5) -> Float[Tensor, "n a b"]:
    """Matrices with nearly the same singular vectors and singular values near 1, by iterating a polynomial."""
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(num_iterations):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.mT if is_tall else x
