"""Baseline: Gaussian diffusion on the codes' continuous values, by flow matching (Lipman et al. 2023).

The path from data to noise is straight, x_t = (1 - t) x_0 + t eps with t from 0 (data) to 1 (noise), and the network learns
its velocity v = eps - x_0. It predicts x_0, and v = (x_t - x_0) / t follows: what does not move can then be copied from the
source, as the denoiser's logits copy its digits, and the last step ends on a prediction of the frame itself. The loss is
the squared error of the velocity. Sampling is Euler's method on evenly spaced times.

In common with the discrete diffusion:

| ours | here |
|---|---|
| input: each code's table entry and a free embedding | the same table entries; each channel normalised |
| logits copy the digits of source and first frame; at first the source's | gates copy values; likewise |
| t from the chain's steps, `full_share` of the batch at t = 1 | t from a thousand steps, the same share |
| weights of codes that change, and of clips in which nothing does (L_aux) | the same weights, on the values of those codes |
| `source_jitter`: a share of the source's codes is another example's | the same, and as much noise |
| `first_dropout`, `caption_dropout`, classifier-free guidance | the same; guidance on x_0, hence on the velocity |
| `temperature` divides the logits | standard deviation of the noise at t = 1 |
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cdcd_video.config import DenoiserConfig, DiffusionConfig, LossConfig, SamplingParams
from cdcd_video.diffusion.sampler import even_times
from cdcd_video.diffusion.schedule import sample_times
from cdcd_video.networks.conditional_transformer import CachedCondition, ConditionalTransformer
from cdcd_video.networks.conditioning import Condition, with_dropped_captions, with_empty_captions
from cdcd_video.networks.step_inputs import (
    condition_before,
    gets_own_source,
    masked_mean,
    noisy_source,
    token_weights,
    weight_sum,
)
from cdcd_video.records import CodePair, LossTerms, RowGenerator

NUM_TIMES = 1000
"""t is one of 1/1000, ..., 1 in training."""
LEAST_T = 0.05
"""Errors of x_0 are divided by t in the loss, but by no less than this, which bounds the weight near the data."""


class FlowDenoiser(ConditionalTransformer):
    """E[x_0 | x_t, t, source, first frame, caption, dt] in code values: the denoiser's blocks between linear maps.

    Args:
      table: (K, d) where each code lies.
      num_patches, groups: patches per frame, and codes per patch: V = groups x d values each.
      text_width: width of the caption's token states.
      mlp_width: of the blocks.
    """

    table: Tensor
    middle: Tensor
    spread: Tensor

    def __init__(
        self,
        cfg: DenoiserConfig,
        *,
        levels: tuple[int, ...],
        table: Float[Tensor, "K d"],
        num_patches: int,
        groups: int,
        text_width: int,
        mlp_width: int,
    ):
        super().__init__()
        width, self.groups = cfg.width, groups
        table = table.detach().float()
        self.register_buffer("table", table.clone(), persistent=False)
        self.register_buffer("middle", table.mean(0).repeat(groups))
        self.register_buffer("spread", table.std(0, correction=0).repeat(groups))
        num_values = groups * table.shape[1]

        self.values_in = nn.Linear(3 * num_values, width)
        self._add_trunk(cfg, num_patches=num_patches, text_width=text_width, mlp_width=mlp_width)
        self.to_values = nn.Linear(width, num_values)
        self.to_copy = nn.Linear(width, 3 * num_values)
        for layer in (self.to_values, self.to_copy):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.to_copy.bias[:num_values] = 1.0  # begin by copying the source

    # --------------------------------------------------------------------------------------------------- the network

    def forward(
        self, x_t: Float[Tensor, "B P V"], t: Float[Tensor, "B"], condition: Condition | CachedCondition
    ) -> Float[Tensor, "B P V"]:
        """Noisy normalised values at times t in (0, 1] -> the expected clean ones, normalised."""
        prepared = self.prepare(condition) if isinstance(condition, Condition) else condition
        x = self._read(x_t, 0) + self.values_in.bias + prepared.positions
        x = self._trunk(x, t, prepared)
        gates = self.to_copy(x).float().chunk(3, -1)
        copied = sum(gate * values for gate, values in zip(gates, (*prepared.copies, x_t), strict=True))
        return self.to_values(x).float() + copied

    def _read(self, values: Float[Tensor, "B P V"], role: int) -> Float[Tensor, "B P D"]:
        """Normalised values in one of three roles (x_t, source, first) -> their part of the input."""
        return nn.functional.linear(values, self.values_in.weight.chunk(3, 1)[role])

    def _latents(self, values: Float[Tensor, "B P V"]) -> Float[Tensor, "B P V"]:
        return self._normal(values)

    def _copies(self, source: Tensor, first: Tensor, is_there: Tensor) -> tuple[Tensor, Tensor]:
        return source, first * is_there

    def _no_first(self, like: Tensor) -> Tensor:
        return self.no_first

    def _normal(self, values: Float[Tensor, "B P V"]) -> Float[Tensor, "B P V"]:
        return (values - self.middle) / self.spread

    # ------------------------------------------------------------------------------------------------ codes and values

    def fit_normalization(self, codes: Int[Tensor, "M N"]) -> None:
        """Fixes the scale of each channel: mean 0 and deviation 1 over these frames, like the noise.

        The deviation is at least a tenth of that of the table, so that nothing is divided by zero.
        """
        values = self.begin(codes.to(self.table.device)).flatten(0, 1)
        least = self.table.std(0, correction=0).repeat(self.groups) / 10
        self.middle.copy_(values.mean(0))
        self.spread.copy_(torch.maximum(values.std(0, correction=0), least))

    def begin(self, codes: Int[Tensor, "B N"]) -> Float[Tensor, "B P V"]:
        """Codes -> code values, patch by patch."""
        return self.table[codes].unflatten(1, (-1, self.groups)).flatten(2)

    def nearest(self, values: Float[Tensor, "B P V"]) -> Int[Tensor, "B N"]:
        """The nearest codes; for metrics and weights only, never while sampling."""
        apart = torch.cdist(values.float().unflatten(-1, (self.groups, -1)).flatten(1, 2), self.table[None])
        return apart.argmin(-1)

    # -------------------------------------------------------------------------------------------- training and sampling

    def learn(
        self,
        batch: CodePair,
        cfg: DiffusionConfig,
        loss: LossConfig,
        rows: RowGenerator,
        *,
        own_share: float = 0.0,
        temperature: float = 1.0,
    ) -> LossTerms:
        """One step of flow matching, on the denoiser's batch; see `Baseline.learn`.

        L is the mean over values of w |v(x_t, t) - (eps - x_0)|^2 (Lipman et al. 2023, the conditional objective on the
        straight path), with the token weights w of our L_aux. In normalised values squared.
        """
        first, target = self.begin(batch.first), self.begin(batch.target)
        source = self.begin(batch.source)
        if own_share:
            source = self._with_own_source(batch, source, own_share, temperature, rows)
            batch = replace(batch, source=self.nearest(source))
        noisy = self._noisy_source(source, cfg.source_jitter, rows)
        text = with_dropped_captions(batch.text, cfg.caption_dropout, rows.rand(len(batch.target), 1))
        condition = Condition(noisy, first, batch.has_first, batch.gap_s, batch.age_s, text)

        num = rows.reduce.num_all(len(target))
        t = rows.reduce.own(sample_times(num, NUM_TIMES, rows.generator, cfg.full_share).index) / NUM_TIMES
        x_0 = self._normal(target)
        noise = rows.randn(*x_0.shape)
        x_0_hat = self(noised(x_0, noise, t), t, condition)
        squared = (x_0_hat - x_0).square().unflatten(-1, (self.groups, -1)).mean(-1).flatten(1)
        velocity = squared / t.clamp_min(LEAST_T).square()[:, None]
        weight = token_weights(batch, loss)
        total = (weight * velocity).sum() / weight_sum(weight, rows.reduce)
        changed = batch.target != batch.source
        predicted = self.nearest((x_0_hat * self.spread + self.middle).detach())
        parts = dict(
            velocity_squared=velocity.mean(),
            x0_squared_changed=masked_mean(squared, changed, rows.reduce),
            x0_squared_still=masked_mean(squared, ~changed, rows.reduce),
            right_changed=masked_mean((predicted == batch.target).float(), changed, rows.reduce),
        )
        return LossTerms(total, {name: value.detach().float() for name, value in parts.items()})

    @torch.no_grad()
    def next_frame(
        self, condition: Condition, params: SamplingParams, streams: Sequence[torch.Generator]
    ) -> Float[Tensor, "B P V"]:
        """The next frame's code values: from noise of the deviation `temperature` to data in `num_steps` Euler steps."""
        source = condition.source
        rows = [torch.randn(source.shape[1:], generator=stream, device=source.device) for stream in streams]
        noise = params.temperature * torch.stack(rows)
        x_0 = euler_sampler(self._guided(condition, params.guidance), noise, params.num_steps)
        return x_0 * self.spread + self.middle

    def _guided(self, condition: Condition, scale: float) -> Callable[[Tensor, Tensor], Tensor]:
        """The network with guidance in one batch; what does not change between steps is computed here, once."""
        if scale == 1:
            prepared = self.prepare(condition)
            return lambda x_t, t: self(x_t, t, prepared)
        prepared = self.prepare(with_empty_captions(condition))

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            conditional, unconditional = self(torch.cat([x_t, x_t]), torch.cat([t, t]), prepared).chunk(2)
            return torch.lerp(unconditional, conditional, scale)

        return denoise

    def _noisy_source(self, source: Float[Tensor, "B P V"], most: float, rows: RowGenerator) -> Float[Tensor, "B P V"]:
        """The source as in a roll-out: some codes are another example's, and all values are a little off the grid."""
        values = source.unflatten(-1, (self.groups, -1)).flatten(1, 2)
        noise, uniforms = rows.rand(len(source), 1), rows.rand(*values.shape[:2])
        wrong = noisy_source(values, most, noise, uniforms, rows.reduce).view_as(source)
        deviation = most * rows.rand(len(source), 1, 1)
        return wrong + deviation * rows.randn(*source.shape) * self.spread

    @torch.no_grad()
    def _with_own_source(
        self,
        batch: CodePair,
        source: Float[Tensor, "B P V"],
        share: float,
        temperature: float,
        rows: RowGenerator,
    ) -> Float[Tensor, "B P V"]:
        """Replaces a share of the source frames by the model's own samples, in one step from the frame before."""
        before = replace(condition_before(batch), source=self.begin(batch.before), first=self.begin(batch.first))
        noise = temperature * rows.randn(*source.shape)
        predicted = self(noise, torch.ones(len(source), device=source.device), before) * self.spread + self.middle
        is_own = gets_own_source(batch, share, rows.rand(len(source)))
        return torch.where(is_own[:, None, None], predicted, source)


def noised(x_0: Float[Tensor, "B P V"], noise: Float[Tensor, "B P V"], t: Float[Tensor, "B"]) -> Float[Tensor, "B P V"]:
    """The straight path from data to noise: (1 - t) x_0 + t eps (Lipman et al. 2023, optimal transport, sigma_min = 0)."""
    return torch.lerp(x_0, noise, t[:, None, None])


@torch.no_grad()
def euler_sampler(
    denoise: Callable[[Tensor, Tensor], Tensor], noise: Float[Tensor, "B P V"], num_steps: int
) -> Float[Tensor, "B P V"]:
    """Euler's method along dx/dt = v(x, t) = (x - E[x_0 | x]) / t, from t = 1 to 0 in evenly spaced steps.

    x_s = x_t + (s - t) v is x_0_hat + (s / t) (x_t - x_0_hat): no division by a small t, and the last step is x_0_hat.

    Args:
      denoise: (x_t, t) -> E[x_0 | x_t].
      noise: x_1.
    """
    x_t = noise
    times = even_times(num_steps).tolist()
    for t, s in zip(times[:-1], times[1:], strict=True):
        x_0 = denoise(x_t, torch.full((len(noise),), t, device=noise.device))
        x_t = torch.lerp(x_0, x_t, s / t)
    return x_t
