"""The dials of a drawing."""

from dataclasses import dataclass

from cdcd_video.diffusion.sampler import WALKS
from cdcd_video.errors import UserError

MAX_FRAMES = 10_000


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
    """Strength of the contrast as guidance, in nats per nat of `cdcd_video.contrast.guidance.closeness`; 0 is off."""
    seed: int = 0

    def __post_init__(self):
        allowed = {
            "num_frames": (1 <= self.num_frames <= MAX_FRAMES, f"from 1 to {MAX_FRAMES}"),
            "fps": (0 < self.fps <= 240, "above 0 and at most 240"),
            "num_steps": (1 <= self.num_steps <= 1000, "from 1 to 1000"),
            "guidance": (0 <= self.guidance <= 100, "from 0 to 100"),
            "temperature": (0 <= self.temperature <= 10, "from 0 to 10"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "order": (self.order in WALKS, f"one of {', '.join(WALKS)}"),
            "contrast": (0 <= self.contrast <= 10_000, "from 0 to 10000"),
            "seed": (0 <= self.seed < 2**63, "from 0 to 2**63 - 1"),
        }
        for name, (is_good, words) in allowed.items():
            if not is_good:
                raise UserError(f"{name} is {getattr(self, name)}; it must be {words}")
