"""Baseline: Gaussian noise on code values, but the denoiser's own network, head and cross-entropy: it predicts p(x_0 | x_t).

As in continuous diffusion for categorical data (Dieleman et al. 2022, called CDCD like the method that this project succeeds)
and in variational flow matching (Eijkelboom et al. 2024). The path from data to noise is straight, x_t = (1 - t) e(x_0) + t eps,
where e(x_0) are the normalised values of the codes. A classifier of the codes gives the expected values, and with them the
velocity of the probability flow:

    x_0_hat(x_t) = sum over k of p(x_0 = k | x_t) e_k,    v(x_t, t) = (x_t - x_0_hat(x_t)) / t.

It differs from the discrete diffusion in the corruption and what follows from it, not in the network:

| ours | here |
|---|---|
| a corrupted code enters as its table entry and a free embedding | x_t enters as its values and an expected embedding |
| logits of a clean code: of its digits, of itself, copies of source and first frame | the same, weight for weight |
| bound and x_0 term, with the token weights of L_aux | the cross-entropy of the x_0 term alone, with the same token weights |
| t from the chain's steps, `full_share` of the batch at t = 1 | t from a thousand steps or logit-normal, the same share |
| ancestral sampling | Euler's or Heun's method; the last step samples codes |
| temperature, top-p, top-k and guidance of p(x_0 given x_t) | the same |
| `source_jitter`, `first_dropout`, `caption_dropout`, own sources while refining | the same |
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cdcd_video.baselines.code_loss import cross_entropy_terms, training_condition
from cdcd_video.baselines.code_values import CodeValues
from cdcd_video.baselines.straight_path import integrate, noised, training_times
from cdcd_video.config import CategoricalFlowBaseline, DenoiserConfig, DiffusionConfig, LossConfig, SamplingParams
from cdcd_video.diffusion.categorical import guided, sample_categorical, truncate_logits
from cdcd_video.diffusion.sampler import even_times
from cdcd_video.networks.conditional_transformer import CachedCondition
from cdcd_video.networks.conditioning import Condition, with_empty_captions
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.step_inputs import conditions_before, gets_own_source
from cdcd_video.records import CodePair, LossTerms, RowGenerator

Classify = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, P, V), t (B,)) -> logits of the clean codes (B, N, K)."""


class CategoricalFlow(CodeValues, Denoiser):
    """p(x_0 | x_t, t, source, first frame, caption, dt) for normalised code values x_t with Gaussian noise.

    Its weights are those of a `Denoiser` of the same arguments, name by name.

    Args:
      settings: times of training.
      **shape: as for `Denoiser`.
    """

    def __init__(
        self,
        cfg: DenoiserConfig,
        settings: CategoricalFlowBaseline = CategoricalFlowBaseline(),  # noqa: B008 - frozen
        *,
        table: Float[Tensor, "K d"],
        groups: int,
        **shape: Any,
    ):
        super().__init__(cfg, table=table, groups=groups, **shape)
        self.settings = settings
        self._add_table(table, groups)

    # --------------------------------------------------------------------------------------------------- the network

    def forward(
        self, x_t: Float[Tensor, "B P V"], t: Float[Tensor, "B"], condition: Condition | CachedCondition
    ) -> Float[Tensor, "B N K"]:
        """Noisy normalised values at times t in (0, 1] -> logits over clean codes."""
        prepared = self.prepare(condition) if isinstance(condition, Condition) else condition
        x = self._read_noisy(x_t, t) + prepared.positions
        return self._logits(self._trunk(x, t, prepared), prepared.copies)

    def _read_noisy(self, x_t: Float[Tensor, "B P V"], t: Float[Tensor, "B"]) -> Float[Tensor, "B P D"]:
        """`Denoiser._read` of corrupted codes, for values between them.

        A linear map reads the values themselves, so nothing is lost. The embedding of a code is replaced by its mean under
        `likelihood_of_codes`: near the data it is that of the code, in pure noise the mean of all. At a grid point, as t goes
        to 0, the whole is what the denoiser reads of the code there.
        """
        per_group = self._values(x_t).unflatten(-1, (self.groups, -1))
        geometry = nn.functional.pad(per_group, (0, 1)).flatten(2)  # no value is a [MASK]
        weight = self.geometry_in.weight.chunk(3, 1)[0]
        embeddings = self.code_in.weight[: self.groups * (self.num_codes + 1)].unflatten(0, (self.groups, -1))[:, :-1]
        likely = self.likelihood_of_codes(x_t, t).to(embeddings.dtype).unflatten(1, (-1, self.groups))
        expected = torch.einsum("bpgk,gkw->bpw", likely, embeddings)
        return nn.functional.linear(geometry, weight, self.geometry_in.bias) + expected

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def likelihood_of_codes(self, x_t: Float[Tensor, "B P V"], t: Float[Tensor, "B"]) -> Float[Tensor, "B N K"]:
        """N(x_t; (1 - t) e_k, t^2 I) for every code k, normalised over k: p(x_0 = k | x_t) if all codes were equally likely."""
        grid, kept = self._grid(), (1 - t)[:, None, None, None]
        near = torch.einsum("bpgd,gkd->bpgk", x_t.float().unflatten(-1, (self.groups, -1)), grid)
        log_p = kept * (near - kept * grid.square().sum(-1) / 2) / t.square()[:, None, None, None]
        return log_p.softmax(-1).flatten(1, 2)

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def expected_values(self, p: Float[Tensor, "B N K"]) -> Float[Tensor, "B P V"]:
        """Normalised values that are expected under a distribution of each code: sum over k of p(k) e_k; never in 16 bits."""
        return torch.einsum("bpgk,gkd->bpgd", p.unflatten(1, (-1, self.groups)), self._grid().to(p.dtype)).flatten(2)

    def _grid(self) -> Float[Tensor, "g K d"]:
        """e_k: the normalised values of every code in each group."""
        middle, spread = (scale.unflatten(0, (self.groups, 1, -1)) for scale in (self.middle, self.spread))
        return (self.table - middle) / spread

    # -------------------------------------------------------------------------------------------- training and sampling

    def begin(self, codes: Int[Tensor, "B N"]) -> Int[Tensor, "B N"]:
        """The codes themselves: only the frame that is being sampled leaves the grid."""
        return codes

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
        """The weighted cross-entropy -log p(x_0 | x_t) of the true codes, nats per token, on the denoiser's batch; see
        `Baseline.learn`.
        """
        if own_share:
            batch = self._with_own_source(batch, own_share, temperature, rows)
        condition = training_condition(batch, cfg, rows)
        t = training_times(len(batch.target), cfg.full_share, self.settings, rows)
        x_0 = self._normal(self.values_of(batch.target))
        logits = self(noised(x_0, rows.randn(*x_0.shape), t), t, condition).float()
        return cross_entropy_terms(logits, batch, loss, rows.reduce, "x0_nll")

    @torch.no_grad()
    def next_frame(
        self, condition: Condition, params: SamplingParams, streams: Sequence[torch.Generator]
    ) -> Int[Tensor, "B N"]:
        """Codes of the next frame; see `sample_codes`."""
        num_tokens, device = condition.source.shape[1], condition.source.device
        shape = (num_tokens // self.groups, self.groups * self.table.shape[1])
        noise = torch.stack([torch.randn(shape, generator=stream, device=device) for stream in streams])
        uniforms = torch.stack([torch.rand(num_tokens, generator=stream, device=device) for stream in streams])
        classify = self._guided(condition, params.guidance)

        def truncated(x_t: Tensor, t: Tensor) -> Tensor:
            return truncate_logits(classify(x_t, t).float(), params.temperature, params.top_p, params.top_k)

        return sample_codes(truncated, self.expected_values, noise, uniforms, params.num_steps, params.solver)

    def _guided(self, condition: Condition, scale: float) -> Classify:
        """The network with guidance in one batch; what does not change between steps is computed here, once."""
        if scale == 1:
            prepared = self.prepare(condition)
            return lambda x_t, t: self(x_t, t, prepared)
        prepared = self.prepare(with_empty_captions(condition))

        def classify(x_t: Tensor, t: Tensor) -> Tensor:
            conditional, unconditional = self(torch.cat([x_t, x_t]), torch.cat([t, t]), prepared).chunk(2)
            return guided(conditional, unconditional, scale)

        return classify

    @torch.no_grad()
    def _with_own_source(self, batch: CodePair, share: float, temperature: float, rows: RowGenerator) -> CodePair:
        """Replaces a share of the source frames by the model's own samples, each in one step from the frame before.

        As `objective.with_own_source`, also over `batch.generations`.
        """
        sampled, end = batch.before, torch.ones(len(batch.before), device=batch.before.device)
        for condition in conditions_before(batch, batch.generations):
            num_patches = sampled.shape[1] // self.groups
            noise = rows.randn(len(sampled), num_patches, self.groups * self.table.shape[1])
            logits = self(noise, end, replace(condition, source=sampled))
            p = truncate_logits(logits.float(), temperature).softmax(-1)
            sampled = sample_categorical(p, rows.rand(*sampled.shape))
        is_own = gets_own_source(batch, share, rows.rand(len(sampled)))
        return replace(batch, source=torch.where(is_own[:, None], sampled, batch.source))


@torch.no_grad()
def sample_codes(
    classify: Classify,
    expected_values: Callable[[Tensor], Tensor],
    noise: Float[Tensor, "B P V"],
    uniforms: Float[Tensor, "B N"],
    num_steps: int,
    solver: str = "euler",
) -> Int[Tensor, "B N"]:
    """From noise to codes: the velocity v down to t = 1 / S, and there a sample of each code from p(x_0 | x_t).

    The last step of Euler's method would end on the expected values, which lie between codes. In a single step it is a sample
    of p(x_0 | noise), token by token: what one step of the discrete diffusion samples too.

    Args:
      classify: logits of p(x_0 | x_t); a temperature and truncation are part of them.
      expected_values: probabilities of codes -> expected normalised values.
      noise: x_1.
      uniforms: in [0, 1), for the codes.
      num_steps: S.
      solver: a name in `straight_path.STEPS`.
    """
    times = even_times(num_steps)[:-1]

    def expected(x_t: Tensor, t: Tensor) -> Tensor:
        return expected_values(classify(x_t, t).softmax(-1))

    x_t = integrate(expected, noise, times, solver)
    t = torch.full((len(noise),), float(times[-1]), device=noise.device)
    return sample_categorical(classify(x_t, t).softmax(-1), uniforms)
