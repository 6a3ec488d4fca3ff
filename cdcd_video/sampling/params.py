"""The dials of a drawing."""

from dataclasses import asdict, dataclass

from cdcd_video.config.ranges import check_dials
from cdcd_video.diffusion.sampler import WALKS
from cdcd_video.errors import UserError


@dataclass(frozen=True)
class Drawing:
    """Every dial of a drawing."""

    num_frames: int = 16
    fps: float = 8.0
    num_steps: int = 4
    """Reverse steps per frame."""
    guidance: float = 1.5
    """Classifier-free guidance (Ho & Salimans 2022, eq. 6, as 1 + w): 1 is off."""
    temperature: float = 0.5
    top_p: float = 1.0
    order: str = "ancestral"
    """Which codes settle first: one of `cdcd_video.diffusion.sampler.WALKS`."""
    contrast: float = 0.0
    """Strength of the contrast as guidance, in nats per nat of `cdcd_video.contrast.contrastive_guidance.closeness`; 0 is off."""
    seed: int = 0

    def __post_init__(self):
        check_dials(asdict(self))
        if self.order not in WALKS:
            raise UserError(f"order is {self.order}; it must be one of {', '.join(WALKS)}")
