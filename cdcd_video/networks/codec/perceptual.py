"""Perceptual and adversarial loss of decoded frames: LPIPS, and a patch critic."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from cdcd_video.config import PictureConfig

Distance = Callable[[Float[Tensor, "B 3 H W"], Float[Tensor, "B 3 H W"]], Float[Tensor, "B"]]
"""(decoded, true), both in [-1, 1] -> perceptual distance, differentiable in the first."""


class Critic(nn.Module):
    """A patch discriminator after Isola et al. (2017, section 3.2), whose patches have 70 px a side. Here each number depends on
    54 x 54 px: three convolutions of stride 2, and two without.

    Args:
      width: channels after the first convolution; doubled twice.
    """

    def __init__(self, width: int):
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        layers += [
            nn.Conv2d(4 * width, 4 * width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, padding=1),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, frames: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 h w"]:
        """Frames in [-1, 1] -> a number for each patch, high for real ones."""
        return self.layers(frames).float()


@dataclass(frozen=True)
class Picture:
    """The two terms.

    Attributes:
      cfg: their weights.
      distance: None if the perceptual term has no weight.
      critic: None if the adversarial term has none.
    """

    cfg: PictureConfig
    distance: Distance | None = None
    critic: Critic | None = None

    def __call__(
        self, decoded: Float[Tensor, "B 3 H W"], truth: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The weighted sum and its terms by name, for frames about [0, 1].

        The critic learns in the same step, by the hinge loss (Lim & Ye 2017). Its loss has no gradient to the frame, and the
        adversarial term none to the critic, so that one backward pass and one optimiser serve both.
        """
        decoded, truth = decoded.float() * 2 - 1, truth.float() * 2 - 1
        total, parts = decoded.new_zeros(()), {}
        if self.distance is not None:
            with torch.autocast(decoded.device.type, enabled=False):
                parts["perceptual"] = self.distance(decoded, truth).mean()
            total = total + self.cfg.perceptual * parts["perceptual"]
        if self.critic is not None:
            fixed = {name: value.detach() for name, value in self.critic.named_parameters()}
            parts["adversarial"] = -functional_call(self.critic, fixed, (decoded,)).mean()
            of_truth, of_drawn = self.critic(truth), self.critic(decoded.detach())
            parts["critic"] = F.relu(1 - of_truth).mean() + F.relu(1 + of_drawn).mean()
            total = total + self.cfg.adversarial * parts["adversarial"] + parts["critic"]
        return total, {name: value.detach() for name, value in parts.items()}
