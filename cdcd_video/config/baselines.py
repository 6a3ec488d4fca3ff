"""The sections of the built-in baselines, under `baseline`. Nothing here imports torch before it builds."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cdcd_video.config.registries import BASELINES, BaselineSection
from cdcd_video.config.registry import named
from cdcd_video.config.section import Section

if TYPE_CHECKING:
    from torch import nn


class _BuiltIn(BaselineSection):
    network: ClassVar[str]
    """`module:class` of the network; imported only when it is built."""

    def build(self, denoiser: Section, **shape: Any) -> "nn.Module":
        """See `BaselineSection.build`."""
        network: Any = named(self.network)
        return network(denoiser, **shape)


@BASELINES.register("gaussian")
class GaussianBaseline(_BuiltIn):
    """Gaussian diffusion on the codes' continuous values: flow matching (Lipman et al. 2023) with a standard sampler."""

    kind: Literal["gaussian"] = "gaussian"
    network: ClassVar[str] = "cdcd_video.baselines.flow_matching:FlowDenoiser"
    unused: ClassVar[tuple[str, ...]] = ("top_p", "top_k")


@BASELINES.register("autoregressive")
class AutoregressiveBaseline(_BuiltIn):
    """A causal transformer over the same codes, patch after patch."""

    kind: Literal["autoregressive"] = "autoregressive"
    network: ClassVar[str] = "cdcd_video.baselines.autoregressive:CausalTransformer"
    unused: ClassVar[tuple[str, ...]] = ("num_steps",)
