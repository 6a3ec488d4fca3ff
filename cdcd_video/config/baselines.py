"""The sections of the built-in baselines, under `baseline`. Nothing here imports torch before it builds."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from cdcd_video.config.registries import BASELINES, BaselineSection
from cdcd_video.config.registry import named
from cdcd_video.config.section import Section
from cdcd_video.config.value_types import Positive

if TYPE_CHECKING:
    from torch import nn


class _BuiltIn(BaselineSection):
    network: ClassVar[str]
    """`module:class` of the network; imported only when it is built."""

    def build(self, denoiser: Section, **shape: Any) -> "nn.Module":
        """See `BaselineSection.build`."""
        network: Any = named(self.network)
        return network(denoiser, **shape)


class FlowSection(_BuiltIn):
    """What baselines with Gaussian noise have in common: the times of training."""

    times: Literal["uniform", "logit_normal"] = "uniform"
    """Distribution of t in training, beside the share `diffusion.full_share` at t = 1. With `logit_normal`, logit(t) has a
    normal distribution (Esser et al. 2024, sec. 3.1), so that most examples are half noise."""
    times_mean: Annotated[float, Field(ge=-5.0, le=5.0)] = 0.0
    """Of `logit_normal`: mean of logit(t); above 0 there is more noise."""
    times_deviation: Annotated[Positive, Field(le=5.0)] = 1.0
    """Of `logit_normal`: standard deviation of logit(t)."""

    refines_generations: ClassVar[bool] = True

    def build(self, denoiser: Section, **shape: Any) -> "nn.Module":
        """See `BaselineSection.build`."""
        return super().build(denoiser, settings=self, **shape)


@BASELINES.register("gaussian")
class GaussianBaseline(FlowSection):
    """Gaussian diffusion on the codes' continuous values: flow matching (Lipman et al. 2023) with a standard sampler."""

    kind: Literal["gaussian"] = "gaussian"
    quantized: bool = False
    """Whether every sampled frame is put back on the grid of code values, as frames of codes always are. Off, because configs
    and models without this field were trained and sampled off the grid; a fair comparison sets it."""
    network: ClassVar[str] = "cdcd_video.baselines.flow_matching:FlowDenoiser"
    unused: ClassVar[tuple[str, ...]] = ("top_p", "top_k")


@BASELINES.register("categorical_flow")
class CategoricalFlowBaseline(FlowSection):
    """Gaussian noise on the codes' values, with the denoiser's own network, head and cross-entropy (Dieleman et al. 2022)."""

    kind: Literal["categorical_flow"] = "categorical_flow"
    network: ClassVar[str] = "cdcd_video.baselines.categorical_flow:CategoricalFlow"


@BASELINES.register("autoregressive")
class AutoregressiveBaseline(_BuiltIn):
    """A causal transformer over the same codes, patch after patch."""

    kind: Literal["autoregressive"] = "autoregressive"
    network: ClassVar[str] = "cdcd_video.baselines.autoregressive:CausalTransformer"
    unused: ClassVar[tuple[str, ...]] = ("num_steps", "solver")
