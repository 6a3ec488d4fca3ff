"""Baseline: Gaussian diffusion on the codes' continuous values, by flow matching (Lipman et al. 2023).

The path from data to noise is straight, x_t = (1 - t) x_0 + t eps with t from 0 (data) to 1 (noise), and the network learns
its velocity v = eps - x_0. It predicts x_0, and v = (x_t - x_0) / t follows: what does not move can then be copied from the
source, as the denoiser's logits copy its digits, and the last step ends on a prediction of the frame itself. The loss is
the squared error of the velocity. Sampling is Euler's or Heun's method on evenly spaced times.

In common with the discrete diffusion:

| ours | here |
|---|---|
| input: each code's table entry and a free embedding | the same table entries; each channel normalised |
| logits copy the digits of source and first frame; at first the source's | gates copy values; likewise |
| t from the chain's steps, `full_share` of the batch at t = 1 | t from a thousand steps or logit-normal, the same share |
| weights of codes that change, and of clips in which nothing does (L_aux) | the same weights, on the values of those codes |
| `source_jitter`: a share of the source's codes is another example's | the same, and as much noise where frames leave the grid |
| frames are codes | values, or with `quantized` those of the nearest codes |
| `first_dropout`, `caption_dropout`, classifier-free guidance | the same; guidance on x_0, hence on the velocity |
| `temperature` divides the logits | standard deviation of the noise at t = 1 |
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cdcd_video.baselines.code_values import CodeValues
from cdcd_video.baselines.straight_path import Expected, integrate, noised, training_times
from cdcd_video.config import DenoiserConfig, DiffusionConfig, GaussianBaseline, LossConfig, SamplingParams
from cdcd_video.diffusion.sampler import even_times
from cdcd_video.networks.conditional_transformer import CachedCondition, ConditionalTransformer
from cdcd_video.networks.conditioning import Condition, with_dropped_captions, with_empty_captions
from cdcd_video.networks.step_inputs import (
    conditions_before,
    gets_own_source,
    masked_mean,
    noisy_source,
    token_weights,
    weight_sum,
)
from cdcd_video.records import CodePair, LossTerms, RowGenerator

LEAST_T = 0.05
"""Errors of x_0 are divided by t in the loss, but by no less than this, which bounds the weight near the data."""


class FlowDenoiser(CodeValues, ConditionalTransformer):
    """E[x_0 | x_t, t, source, first frame, caption, dt] in code values: the denoiser's blocks between linear maps.

    Args:
      settings: times of training, and whether frames are put back on the grid of code values.
      table: (K, d) where each code lies.
      num_patches, groups: patches of a square frame, and codes per patch: V = groups x d values each.
      text_width: width of the caption's token states.
      mlp_width: of the blocks.
    """

    def __init__(
        self,
        cfg: DenoiserConfig,
        settings: GaussianBaseline = GaussianBaseline(),  # noqa: B008 - frozen
        *,
        levels: tuple[int, ...],
        table: Float[Tensor, "K d"],
        num_patches: int,
        groups: int,
        text_width: int,
        mlp_width: int,
    ):
        super().__init__()
        width, self.groups, self.settings = cfg.width, groups, settings
        self._add_table(table, groups)
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

    # ------------------------------------------------------------------------------------------------ codes and values

    def begin(self, codes: Int[Tensor, "B N"]) -> Float[Tensor, "B P V"]:
        """Codes -> code values, patch by patch."""
        return self.values_of(codes)

    def _frame(self, normal: Float[Tensor, "B P V"]) -> Float[Tensor, "B P V"]:
        """Normalised values of a sampled frame -> its code values; with `quantized`, those of the nearest codes."""
        values = self._values(normal)
        return self.values_of(self.nearest(values)) if self.settings.quantized else values

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
        condition = Condition(noisy, first, batch.has_first, batch.gap_s, batch.age_s, text, grid=batch.grid)

        t = training_times(len(target), cfg.full_share, self.settings, rows)
        x_0 = self._normal(target)
        noise = rows.randn(*x_0.shape)
        x_0_hat = self(noised(x_0, noise, t), t, condition)
        squared = (x_0_hat - x_0).square().unflatten(-1, (self.groups, -1)).mean(-1).flatten(1)
        velocity = squared / t.clamp_min(LEAST_T).square()[:, None]
        weight = token_weights(batch, loss)
        total = (weight * velocity).sum() / weight_sum(weight, rows.reduce)
        changed = batch.target != batch.source
        predicted = self.nearest(self._values(x_0_hat).detach())
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
        """The next frame's code values: from noise of the deviation `temperature` to data in `num_steps` steps of `solver`."""
        source = condition.source
        rows = [torch.randn(source.shape[1:], generator=stream, device=source.device) for stream in streams]
        noise = params.temperature * torch.stack(rows)
        denoise = self._guided(condition, params.guidance)
        return self._frame(integrate(denoise, noise, even_times(params.num_steps), params.solver))

    def _guided(self, condition: Condition, scale: float) -> Expected:
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
        """The source as in a roll-out: some codes are another example's, and all values a little off the grid if frames are."""
        values = source.unflatten(-1, (self.groups, -1)).flatten(1, 2)
        noise, uniforms = rows.rand(len(source), 1), rows.rand(*values.shape[:2])
        wrong = noisy_source(values, most, noise, uniforms, rows.reduce).view_as(source)
        if self.settings.quantized:
            return wrong
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
        """Replaces a share of the source frames by the model's own samples, each in one step from the frame before.

        As `objective.with_own_source`, also over `batch.generations`.
        """
        predicted, first = self.begin(batch.before), self.begin(batch.first)
        end = torch.ones(len(source), device=source.device)
        for condition in conditions_before(batch, batch.generations):
            noise = temperature * rows.randn(*source.shape)
            predicted = self._frame(self(noise, end, replace(condition, source=predicted, first=first)))
        is_own = gets_own_source(batch, share, rows.rand(len(source)))
        return torch.where(is_own[:, None, None], predicted, source)
