"""The sections of the built-in forward processes, under `diffusion.process`. Nothing here imports torch before it builds."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from cdcd_video.config.registries import PROCESSES, ProcessSection

if TYPE_CHECKING:
    from cdcd_video.diffusion.process import DiscreteProcess
    from cdcd_video.diffusion.schedule import Schedule

Share = Annotated[float, Field(ge=0.0, le=1.0)]


@PROCESSES.register("mask")
class MaskProcess(ProcessSection):
    """Absorbing state (Austin et al. 2021) [D3PM sec. 3.1]."""

    kind: Literal["mask"] = "mask"
    schedule: Literal["linear", "cosine"] = "linear"

    def build(self, num_codes: int, num_steps: int) -> "DiscreteProcess":
        """See `ProcessSection.build`."""
        from cdcd_video.diffusion.process import mask

        return mask(num_codes, _schedule(self.schedule))


@PROCESSES.register("replace")
class ReplaceProcess(ProcessSection):
    """Mask and replace, after VQ-Diffusion (Gu et al. 2022) [VQD eq. 7], but a [MASK] is resampled like any other
    code."""

    kind: Literal["replace"] = "replace"
    uniform: Share = 0.1
    """Share of uniform redraws."""
    schedule: Literal["linear", "cosine"] = "linear"

    def build(self, num_codes: int, num_steps: int) -> "DiscreteProcess":
        """See `ProcessSection.build`."""
        from cdcd_video.diffusion.process import replace

        return replace(num_codes, self.uniform, _schedule(self.schedule))


@PROCESSES.register("bridge")
class BridgeProcess(ProcessSection):
    """From the next frame's codes to the earlier frame's: at t = 1 the codes are those of the earlier frame."""

    kind: Literal["bridge"] = "bridge"
    uniform: Share = 0.05
    """Share of uniform redraws."""
    schedule: Literal["linear", "cosine"] = "linear"

    def build(self, num_codes: int, num_steps: int) -> "DiscreteProcess":
        """See `ProcessSection.build`."""
        from cdcd_video.diffusion.process import bridge

        return bridge(num_codes, self.uniform, _schedule(self.schedule))


@PROCESSES.register("hybrid")
class HybridProcess(ProcessSection):
    """Mask, uniform and source combined; the share of the source is the remainder."""

    kind: Literal["hybrid"] = "hybrid"
    mask: Share = 0.5
    uniform: Share = 0.05
    schedule: Literal["linear", "cosine"] = "linear"

    @model_validator(mode="after")
    def _shares_sum_to_at_most_one(self) -> "HybridProcess":
        if self.mask + self.uniform > 1:
            raise ValueError(f"mask + uniform is {self.mask + self.uniform:g}, but must be at most 1")
        return self

    def build(self, num_codes: int, num_steps: int) -> "DiscreteProcess":
        """See `ProcessSection.build`."""
        from cdcd_video.diffusion.process import hybrid

        return hybrid(num_codes, self.mask, self.uniform, _schedule(self.schedule))


@PROCESSES.register("cdcd")
class CdcdProcess(ProcessSection):
    """The chain of CDCD's code with its constants: a [MASK] is absorbing, and the uniform mass is 1e-6 [VQD eq. 7].

    Upstream runs it with 80 or 100 steps.
    """

    kind: Literal["cdcd"] = "cdcd"

    def build(self, num_codes: int, num_steps: int) -> "DiscreteProcess":
        """See `ProcessSection.build`."""
        from cdcd_video.diffusion.vq_diffusion import cdcd_chain

        return cdcd_chain(num_codes, num_steps)


def _schedule(name: str) -> "Schedule":
    from cdcd_video.diffusion.schedule import SCHEDULES

    return SCHEDULES[name]
