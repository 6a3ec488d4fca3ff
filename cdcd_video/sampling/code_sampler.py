"""Samples the next frame by discrete diffusion."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from cdcd_video.config import Config, SamplingParams
from cdcd_video.contrast.contrastive_guidance import closeness, tilted
from cdcd_video.diffusion.categorical import guided
from cdcd_video.diffusion.loss_reference import chain_bound
from cdcd_video.diffusion.process import DiscreteProcess
from cdcd_video.diffusion.sampler import SAMPLERS, Denoise, has_order
from cdcd_video.networks.codec.frame_codec import CodeSpace
from cdcd_video.networks.conditional_transformer import CachedCondition
from cdcd_video.networks.conditioning import Condition, with_empty_captions
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.records import TextStates

NLL_STEPS = 16
"""Steps of the chain that `nll` evaluates for a frame: all of them in a chain as long as this or shorter."""

Captions = tuple[TextStates, TextStates | None]
"""The captions of a batch, and the negative ones of guidance."""

ROUNDED_TO = 16
"""Expected values are multiples of the largest code value over this: last bits of logits depend on the batch, and after rounding
they hardly ever reach the pixels."""


class DiscreteSampler:
    """Samples the next frame's codes by the reverse process of the discrete diffusion."""

    def __init__(self, denoiser: Denoiser, process: DiscreteProcess, codec: CodeSpace, config: Config):
        self.denoiser, self.process, self.codec, self.config = denoiser, process, codec, config
        self._caption_cache: tuple[Captions, int, tuple[tuple[Tensor, Tensor], ...]] | None = None

    def begin(self, codes: Int[Tensor, "B N"]) -> Int[Tensor, "B N"]:
        """The codes themselves. Forgets the caption of an earlier video."""
        self._caption_cache = None
        return codes

    def next_frame(
        self, condition: Condition, params: SamplingParams, streams: Sequence[torch.Generator]
    ) -> Int[Tensor, "B N"]:
        """Codes of the next frame, given those of the source."""
        return self._sampled(self._denoise(condition, params), condition, params, streams)

    def next_frame_and_values(
        self, condition: Condition, params: SamplingParams, streams: Sequence[torch.Generator]
    ) -> tuple[Int[Tensor, "B N"], Float[Tensor, "B P V"]]:
        """The same codes, and the code values that were expected in the last reverse step; see `ExpectedValues`.

        In the process `mask` a code that was set before that step is itself: it cannot change any more, and the denoiser has
        learned nothing about it.
        """
        denoise = self._denoise(condition, params)
        last: list[tuple[Tensor, Tensor]] = []

        def remembered(x_t: Tensor, t: Tensor) -> Tensor:
            last[:] = [(x_t, denoise(x_t, t))]
            return last[0][1]

        codes = self._sampled(remembered, condition, params, streams)
        x_t, logits = last[0]
        step = self.codec.table.abs().max() / ROUNDED_TO
        expected = (self.codec.soft_values(logits.float().softmax(-1)) / step).round() * step
        if not has_order(self.process):
            return codes, expected
        is_set = (x_t != self.process.mask_id).unflatten(1, (-1, self.codec.groups))
        width = expected.shape[-1] // self.codec.groups
        return codes, torch.where(is_set.repeat_interleave(width, -1), self.codec.values(codes), expected)

    def _denoise(self, condition: Condition, params: SamplingParams) -> Denoise:
        denoise = self._guided(condition, params.guidance)
        return self._contrasted(denoise, condition, params.contrast) if params.contrast else denoise

    def _sampled(
        self, denoise: Denoise, condition: Condition, params: SamplingParams, streams: Sequence[torch.Generator]
    ) -> Int[Tensor, "B N"]:
        return SAMPLERS[params.order](
            denoise,
            self.process,
            condition.source,
            params.num_steps,
            streams,
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
        )

    @torch.no_grad()
    def nll(
        self, condition: Condition, codes: Int[Tensor, "B N"], generator: torch.Generator
    ) -> Float64[Tensor, "B N"]:
        """An unbiased estimate of the bound along the chain it was trained on; see `Likelihood` and `chain_bound`."""
        prepared = self.denoiser.prepare(condition)

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            return self.denoiser(x_t, t, prepared)

        steps = self.config.diffusion.num_steps
        return chain_bound(self.process, denoise, codes, condition.source, steps, generator, NLL_STEPS)

    @torch.no_grad()
    def code_nats(
        self, condition: Condition, codes: Int[Tensor, "B N"], generator: torch.Generator
    ) -> Float64[Tensor, "B N"]:
        """-log p(x_0 = codes | x_1, condition) with x_1 sampled from p(x_1), where sampling begins; see `CodePrediction`."""
        uniforms = torch.rand(2, *codes.shape, generator=generator, device=codes.device)
        x_t = self.process.start(condition.source, uniforms)
        t = torch.ones(len(codes), device=codes.device)
        logits = self.denoiser(x_t, t, self.denoiser.prepare(condition)).double()
        return torch.nn.functional.cross_entropy(logits.transpose(1, 2), codes, reduction="none")

    def _guided(self, condition: Condition, scale: float):
        """The denoiser with guidance in one batch; what does not change between steps is computed here, once."""
        denoiser, num = self.denoiser, len(condition.source)
        if scale == 1:
            prepared = self._prepared(condition, condition)
            return lambda x_t, t: denoiser(x_t, t, prepared)
        prepared = self._prepared(condition, with_empty_captions(condition))

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            logits = denoiser(torch.cat([x_t, x_t]), torch.cat([t, t]), prepared)
            return guided(logits[:num], logits[num:], scale)

        return denoise

    def _prepared(self, condition: Condition, wanted: Condition) -> CachedCondition:
        """`Denoiser.prepare` of `wanted`, which contains `condition`; keys and values of a caption are computed once."""
        (text, negative), num, keys_values = self._caption_cache or ((None, None), 0, None)
        is_known = text is condition.text and negative is condition.negative and num == len(wanted.source)
        prepared = self.denoiser.prepare(wanted, keys_values if is_known else None)
        self._caption_cache = ((condition.text, condition.negative), len(wanted.source), prepared.keys_values)
        return prepared

    def _contrasted(self, denoise: Denoise, condition: Condition, strength: float) -> Denoise:
        """A denoiser tilted towards the earlier frame and the caption in the codec's embedding space."""
        near = (self.codec.embed(condition.source, condition.grid), condition.text.embedding)

        def score(soft: Float[Tensor, "B N K"]) -> Float[Tensor, "B"]:
            return closeness(self.codec.embed_soft(soft, condition.grid), near)

        return lambda x_t, t: tilted(denoise(x_t, t), score, strength)
