"""The exponential moving average of the weights, which is evaluated and shipped."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from cdcd_video.engine.optim import trained_parameters
from cdcd_video.engine.parallel import share, shared_like


class Ema:
    """A slow copy of the trained parameters; buffers and frozen parameters are the model's own."""

    def __init__(self, model: nn.Module, decay: float):
        """Starts at the model's present weights.

        Args:
          model: whose parameters with `requires_grad` are followed.
          decay: share of the old average kept per step, in [0, 1); smaller at first, see `update`.
        """
        self.decay = decay
        self.followed = trained_parameters(model)
        self.average = {name: value.detach().clone() for name, value in self.followed.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average towards the weights after step number `step` (from 0).

        The decay is min(decay, (1 + step) / (10 + step)), so that the initial weights are forgotten quickly.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        average, followed = ([share(value) for value in side.values()] for side in (self.average, self.followed))
        torch._foreach_lerp_(average, followed, 1.0 - decay)

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The model has the average as its weights inside the `with`, and afterwards its own, bit for bit."""
        own = {name: value.detach().clone() for name, value in self.followed.items()}
        _copy(self.average, self.followed)
        try:
            yield
        finally:
            _copy(own, self.followed)

    def state_dict(self, model: nn.Module) -> dict[str, Tensor]:
        """A whole state dict of the model with averaged parameters; tied parameters agree under all their names."""
        with self.swapped_in():
            return {name: value.detach().clone() for name, value in model.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state_dict` returned."""
        _copy(state, self.average)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, value in target.items():
        value.copy_(shared_like(source[name], value))
