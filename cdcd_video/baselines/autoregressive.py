"""Baseline: a causal transformer over the same codes, patch after patch in raster order, the codes of a patch in turn.

p(x_0 | c) = prod_n p(x_0^n | x_0^<n, c), exactly: a patch attends to the patches before it, and each of its codes also depends
on those before it in the patch. The source frame is a prefix with attention in both directions, so that a patch can attend to
any place of the source frame.

In common with the discrete diffusion:

| ours | here |
|---|---|
| inputs: codes, caption, dt, age; logits: copies of the digits of source and first frame, free logits per code | the same |
| input x_t, attention between all places | input: the patch before; causal attention, and the prefix |
| a time t, several passes per frame | none; one pass per patch, with a cache of keys and values |
| bound and x_0 term | the exact negative log-likelihood, with the token weights of our L_aux |
| `source_jitter`, `first_dropout`, `caption_dropout`, classifier-free guidance, temperature, top-p | the same |
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn

from cdcd_video.baselines.code_loss import cross_entropy_terms, training_condition
from cdcd_video.config import DenoiserConfig, DiffusionConfig, LossConfig, SamplingParams
from cdcd_video.diffusion.categorical import guided, sample_categorical, truncate_logits
from cdcd_video.networks.conditional_transformer import TIME_EMBEDDING_WIDTH, CachedCondition
from cdcd_video.networks.conditioning import Condition, with_empty_captions
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.step_inputs import condition_before, gets_own_source
from cdcd_video.networks.transformer import SquaredReLU
from cdcd_video.records import CodePair, LossTerms, RowGenerator

Choose = Callable[[Float[Tensor, "B K"], int], Int[Tensor, "B"]]
"""(logits of a token, its number in the frame) -> its code."""


class CausalTransformer(Denoiser):
    """p(code | codes before it, source, first frame, caption, dt): inputs, blocks and heads of `Denoiser`, made causal."""

    needs_digits = True

    def __init__(self, cfg: DenoiserConfig, **shape: Any):
        """Arguments as for `Denoiser`."""
        super().__init__(cfg, **shape)
        width, groups = cfg.width, self.groups
        self.clock_in = nn.Sequential(
            nn.Linear(2 * TIME_EMBEDDING_WIDTH + 1, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.group = nn.Parameter(torch.randn(groups, width) * 0.02)
        known_in = [nn.Embedding(self.num_codes, width) for _ in range(groups - 1)]
        self.known_in = nn.ModuleList(known_in)
        self.chain = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), SquaredReLU(), nn.Linear(2 * width, width)
        )
        for table_in in known_in:
            nn.init.normal_(table_in.weight, std=0.02)

    # --------------------------------------------------------------------------------------------------- the network

    def forward(  # type: ignore[override]  # no time t: a frame is sampled once, code by code
        self, codes: Int[Tensor, "B N"], condition: Condition | CachedCondition
    ) -> Float[Tensor, "B N K"]:
        """Codes of a whole frame -> logits of each code given those before it."""
        prepared = self.prepare(condition) if isinstance(condition, Condition) else condition
        x = torch.cat([prepared.positions, prepared.positions + self._read(self._delayed(codes), 0)], 1)
        rotation = None if prepared.rotation is None else torch.cat([prepared.rotation] * 2, 1)
        num_patches = prepared.positions.shape[1]
        is_visible = _is_visible(num_patches, x.device)
        recalls = [lambda keys_values: (keys_values, is_visible)] * len(self.blocks)
        x = self._through(x, prepared, recalls, rotation)
        x = x[:, num_patches:]
        per_patch = codes.unflatten(1, (-1, self.groups))
        rows = [self._logits_of(g, x, per_patch[..., :g], prepared.copies) for g in range(self.groups)]
        return torch.stack(rows, 2).flatten(1, 2)

    @torch.no_grad()
    def unroll(self, prepared: CachedCondition, choose: Choose) -> Int[Tensor, "B N"]:
        """Samples a frame code by code, with a cache of keys and values: one pass of one token for each patch."""
        positions = prepared.positions
        num_patches = positions.shape[1]
        caches = [_Cache(2 * num_patches) for _ in self.blocks]
        self._through(positions, prepared, caches, prepared.rotation)
        before = torch.full((len(positions), self.groups), self.mask_id, device=positions.device)
        frame = []
        for place in range(num_patches):
            here = slice(place, place + 1)
            rotation = None if prepared.rotation is None else prepared.rotation[:, here]
            x = self._through(positions[:, here] + self._read(before, 0), prepared, caches, rotation)
            copied = tuple(onehot[:, here] for onehot in prepared.copies)
            before = before[:, :0]
            for group in range(self.groups):
                logits = self._logits_of(group, x, before[:, None], copied)[:, 0]
                before = torch.cat([before, choose(logits, place * self.groups + group)[:, None]], 1)
            frame.append(before)
        return torch.cat(frame, 1)

    def _delayed(self, codes: Int[Tensor, "B N"]) -> Int[Tensor, "B N"]:
        """The input of each patch: the codes of the patch before it; [MASK] at the first."""
        return torch.cat([torch.full_like(codes[:, : self.groups], self.mask_id), codes[:, : -self.groups]], 1)

    def _through(
        self,
        x: Float[Tensor, "B M D"],
        prepared: CachedCondition,
        recalls: Sequence,
        rotation: Float[Tensor, "2 M r"] | None,
    ) -> Float[Tensor, "B M D"]:
        modulation = self.to_modulation(nn.functional.silu(self.clock_in(prepared.time_features))).unflatten(
            -1, (6, -1)
        )
        is_word = prepared.condition.text.is_word
        for block, keys_values, recall in zip(self.blocks, prepared.keys_values, recalls, strict=True):
            given = dict(modulation=modulation, context=keys_values, is_key=is_word, rotation=rotation)
            x = block(x, recall=recall, **given)
        return self.norm(x)

    def _logits_of(
        self,
        group: int,
        x: Float[Tensor, "B M D"],
        known: Int[Tensor, "B M g"],
        copied: tuple[Float[Tensor, "B M Q"], ...],
    ) -> Float[Tensor, "B M K"]:
        """Logits of one code of each patch, given the patch's codes before it; the heads are the denoiser's, cut in groups."""
        x = x + self.group[group] + sum(table(known[..., g]) for g, table in enumerate(self.known_in[:group]))
        x = x + self.chain(x)

        def head(layer: nn.Linear, of: int = 1) -> Tensor:
            weight, bias = (part.unflatten(0, (of, self.groups, -1))[:, group] for part in (layer.weight, layer.bias))
            return nn.functional.linear(x, weight.flatten(0, 1), bias.flatten()).float()

        per_digit = head(self.to_digits)
        repeats = torch.tensor(self.levels, device=x.device)
        for pull, onehot in zip(head(self.to_copy, 2).chunk(2, -1), copied, strict=True):
            own = onehot.unflatten(-1, (self.groups, -1))[..., group, :]
            per_digit = per_digit + pull.repeat_interleave(repeats, -1) * own
        return per_digit @ self.digits.T + head(self.to_codes)

    # -------------------------------------------------------------------------------------------- training and sampling

    def fit_normalization(self, codes: Int[Tensor, "M N"]) -> None:
        """Nothing to do: only the weights depend on the data."""

    def begin(self, codes: Int[Tensor, "B N"]) -> Int[Tensor, "B N"]:
        """The codes themselves."""
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
        """The weighted cross-entropy of the true codes, nats per token, on the denoiser's batch; see `Baseline.learn`."""
        if own_share:
            batch = self._with_own_source(batch, own_share, temperature, rows)
        logits = self(batch.target, training_condition(batch, cfg, rows))
        return cross_entropy_terms(logits, batch, loss, rows.reduce, "nll")

    @torch.no_grad()
    def next_frame(
        self, condition: Condition, params: SamplingParams, streams: Sequence[torch.Generator]
    ) -> Int[Tensor, "B N"]:
        """The next frame's codes, one after the other; `num_steps` is unused."""
        is_guided = params.guidance != 1
        prepared = self.prepare(with_empty_captions(condition) if is_guided else condition)
        num_tokens = condition.source.shape[1]
        rows = [torch.rand(num_tokens, generator=stream, device=condition.source.device) for stream in streams]
        uniforms = torch.stack(rows)

        def choose(logits: Tensor, token: int) -> Tensor:
            if is_guided:
                conditional, unconditional = logits.chunk(2)
                logits = guided(conditional, unconditional, params.guidance)
            p = truncate_logits(logits, params.temperature, params.top_p, params.top_k).softmax(-1)
            chosen = sample_categorical(p, uniforms[:, token])
            return torch.cat([chosen, chosen]) if is_guided else chosen

        return self.unroll(prepared, choose)[: len(streams)]

    @torch.no_grad()
    def nll(
        self, condition: Condition, codes: Int[Tensor, "B N"], generator: torch.Generator
    ) -> Float64[Tensor, "B N"]:
        """-log p(code | codes before it, condition), exactly; see `Likelihood`. The generator is unused."""
        logits = self(codes, condition)
        return nn.functional.cross_entropy(logits.transpose(1, 2), codes, reduction="none").double()

    def code_nats(
        self, condition: Condition, codes: Int[Tensor, "B N"], generator: torch.Generator
    ) -> Float64[Tensor, "B N"]:
        """The same as `nll`, whose terms are cross-entropies of single codes; see `CodePrediction`."""
        return self.nll(condition, codes, generator)

    @torch.no_grad()
    def _with_own_source(self, batch: CodePair, share: float, temperature: float, rows: RowGenerator) -> CodePair:
        """Replaces a share of the source frames by the model's own samples, given the frame before, all codes in one pass.

        Each code is sampled given the *true* codes before it (parallel scheduled sampling, Duckworth et al. 2019, with one
        pass): as many passes as `objective.with_own_source` makes.
        """
        logits = truncate_logits(self(batch.source, condition_before(batch)), temperature)
        predicted = sample_categorical(logits.softmax(-1), rows.rand(*batch.source.shape))
        is_own = gets_own_source(batch, share, rows.rand(len(batch.source)))
        return replace(batch, source=torch.where(is_own[:, None], predicted, batch.source))


def _is_visible(num_patches: int, device: torch.device) -> Bool[Tensor, "M M"]:
    """Which places see which: the source frame's see each other, and those of the frame what is before them and themselves."""
    causal = torch.ones(2 * num_patches, 2 * num_patches, dtype=torch.bool, device=device).tril()
    causal[:num_patches, :num_patches] = True
    return causal


class _Cache:
    """Keys and values of one block's self-attention over the tokens so far, `num_tokens` at most."""

    def __init__(self, num_tokens: int):
        self.num_tokens, self.length = num_tokens, 0
        self.kept: tuple[Tensor, ...] = ()

    def __call__(self, keys_values: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, ...], None]:
        """Appends those of the new tokens and returns all; no mask, which is causal if tokens come one by one."""
        if not self.kept:
            batch, heads, _, width = keys_values[0].shape
            self.kept = tuple(part.new_empty(batch, heads, self.num_tokens, width) for part in keys_values)
        begin, self.length = self.length, self.length + keys_values[0].shape[2]
        for kept, part in zip(self.kept, keys_values, strict=True):
            kept[:, :, begin : self.length] = part
        return tuple(kept[:, :, : self.length] for kept in self.kept), None
