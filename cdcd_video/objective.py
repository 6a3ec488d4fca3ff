"""How it learns: codes -> corrupt -> denoise -> bound, auxiliary, contrast."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from cdcd_video.config import CdcdContrastConfig, DiffusionConfig, LossConfig
from cdcd_video.contrast.cdcd import Negatives, push_weights, with_negatives
from cdcd_video.contrast.gradient_shares import gradient_shares
from cdcd_video.contrast.negatives import chunk_orders, others, reordered, shifted
from cdcd_video.contrast_terms import Temperatures, contrast_terms
from cdcd_video.diffusion.categorical import truncate_logits
from cdcd_video.diffusion.loss import weighted_terms
from cdcd_video.diffusion.process import Chain
from cdcd_video.diffusion.schedule import Times, draw_times
from cdcd_video.engine import distributed
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.networks.denoiser import Condition, Denoiser
from cdcd_video.networks.step_encoder import StepEye
from cdcd_video.records import CodePair, LossTerms, TextStates


def diffusion_objective(
    denoiser: Denoiser,
    process: Chain,
    codec: Codec,
    batch: CodePair,
    cfg: DiffusionConfig,
    loss: LossConfig,
    generator: torch.Generator,
    temperatures: Temperatures | None = None,
    eye: StepEye | None = None,
) -> LossTerms:
    """One step: what the denoiser pays for a batch of code pairs.

    L = w_b L_vb + w_a L_aux + w_ff L_ff + w_ft L_ft: the variational bound [D3PM eq. 1], the x0 term [D3PM eq. 5], and the
    two contrastive terms [ours, in the place of CDCD's] on embedded soft codes (`contrast_terms`). Bound and auxiliary are
    nats per token, the contrasts nats per frame. CDCD's own contrast can be switched on beside them (`loss.cdcd`).
    """
    times = own_times(len(batch.target), cfg.num_steps, generator, cfg.full_share)
    s, t = times.spans(cfg.num_steps)
    source = jittered(batch.source, cfg.source_jitter, generator)
    x_t = process.corrupt(batch.target, t, source, uniforms(2, batch.target, generator))
    text = with_dropped_captions(batch.text, cfg.caption_dropout, generator)
    condition = Condition(source, batch.first, batch.has_first, batch.gap_s, batch.age_s, text)
    logits = denoiser(x_t, t.float(), condition)

    negatives = wrong_codes(batch.target, loss.cdcd, generator)
    importance = (cfg.num_steps * times.weight.double())[:, None].expand(batch.target.shape)
    weight = token_weights(batch, loss).double()
    kl_weight, ce_weight = push_weights(batch.target, s, importance / weight.numel(), negatives)
    kl_weight[..., 0] = loss.bound * importance / weight.numel()
    ce_weight[..., 0] = loss.auxiliary * weight / whole(weight)
    reverse = process.reverse(x_t, s, t, source)
    candidates = with_negatives(batch.target, negatives)
    terms = weighted_terms(reverse, logits, candidates, kl_weight, ce_weight)

    total, nll = terms.total, terms.cross_entropy[..., 0]
    changed = batch.target != batch.source
    parts = dict(
        bound=(importance * terms.kl[..., 0]).mean(),
        auxiliary=(weight * nll).sum() / whole(weight),
        auxiliary_changed=masked_mean(nll, changed),
        auxiliary_still=masked_mean(nll, ~changed),
        right_changed=masked_mean((logits.argmax(-1) == batch.target).double(), changed),
    )
    if negatives:
        pushed = kl_weight[..., 1:] * terms.kl[..., 1:] + ce_weight[..., 1:] * terms.cross_entropy[..., 1:]
        parts["cdcd"] = pushed.sum()
    contrast = contrast_terms(logits, reverse, batch, codec, loss.contrast, temperatures, generator, eye)
    for name, term in contrast.items():
        total = total + term.weighted
        parts |= {name: term.nats, f"{name}_wins": term.wins}
        if temperatures is not None:
            parts[f"{name}_temperature"] = term.temperature

    def shares() -> dict[str, Tensor]:
        weighted = {name: term.weighted for name, term in contrast.items()}
        found = gradient_shares(logits, reverse, candidates, kl_weight, ce_weight, weighted, distributed.total)
        return {f"gradient_share_{name}": share for name, share in found.items()}

    groups = {
        "bound_by_time_decile": by_time_decile(t, (importance * terms.kl[..., 0]).mean(1)),
        "auxiliary_by_time_decile": by_time_decile(t, nll.mean(1)),
    }
    return LossTerms(total, {name: value.detach().float() for name, value in parts.items()}, shares, groups)


@torch.no_grad()
def by_time_decile(t: Float[Tensor, "B"], paid: Float[Tensor, "B"]) -> Float[Tensor, "2 10"]:
    """Sums and counts of what examples pay, by tenths of diffusion time: (0, 0.1], (0.1, 0.2], ... (0.9, 1]."""
    decile = (10 * t.double() - 1e-9).ceil().long().clamp(1, 10) - 1  # times of a chain lie on the borders
    of = torch.stack([paid.double(), torch.ones_like(paid, dtype=torch.double)])
    return torch.zeros(2, 10, dtype=torch.double, device=t.device).index_add(1, decile, of).float()


def wrong_codes(
    target: Int[Tensor, "B N"], cfg: CdcdContrastConfig, generator: torch.Generator
) -> tuple[Negatives, ...]:
    """CDCD's negatives of a batch: the frame's own chunks in other orders, other samples' frames; as far as weighted."""
    groups = []
    if cfg.intra and cfg.chunks == "shift":
        groups.append(Negatives(shifted(target, cfg.num_chunks), cfg.intra, cfg.intra_mode))
    elif cfg.intra:
        num_all = distributed.num_all(len(target))
        orders = distributed.own(chunk_orders(num_all, cfg.num_negatives, cfg.num_chunks, generator))
        groups.append(Negatives(reordered(target, orders), cfg.intra, cfg.intra_mode))
    if cfg.inter:
        everyone = distributed.everyones(target)
        wrong = distributed.own(others(everyone, min(cfg.num_negatives, len(everyone) - 1)))
        groups.append(Negatives(wrong, cfg.inter, cfg.inter_mode))
    return tuple(groups)


def token_weights(batch: CodePair, loss: LossConfig) -> Float[Tensor, "B N"]:
    """Weight of each token in L_aux: what changes counts more, a clip in which nothing changes counts less."""
    changed = batch.target != batch.source
    weight = 1 + (loss.changed - 1) * changed.float()
    return torch.where(changed.any(1, keepdim=True), weight, weight * loss.still_clip)


def whole(weight: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """What a sum weighted so is divided by for a mean over the whole batch; where nothing has a weight, the mean is 0."""
    return distributed.mean(weight.sum()).clamp_min(torch.finfo(weight.dtype).tiny)


def jittered(codes: Shaped[Tensor, "B N *d"], most: float, generator: torch.Generator) -> Shaped[Tensor, "B N *d"]:
    """Source codes (or their values) as a roll-out will see them: of each row a share, even in [0, most], is another row's."""
    share = most * distributed.drawn(torch.rand, (len(codes), 1), generator=generator, device=codes.device)
    is_wrong = distributed.drawn(torch.rand, codes.shape[:2], generator=generator, device=codes.device) < share
    others = distributed.own(distributed.everyones(codes).roll(1, 0))
    return torch.where(is_wrong.view(*is_wrong.shape, *[1] * (codes.ndim - 2)), others, codes)


@torch.no_grad()
def with_own_source(
    denoiser: Denoiser, process: Chain, batch: CodePair, share: float, temperature: float, generator: torch.Generator
) -> CodePair:
    """Replaces a share of the source frames by what the model itself draws there, in one step from the frame before.

    A roll-out stands on its own drawings; a model that has only ever stood on true frames drifts (scheduled sampling,
    Bengio et al. 2015). First frames stay: they are the user's.
    """
    condition = condition_before(batch)
    end = torch.ones(len(batch.before), dtype=torch.float64, device=batch.before.device)
    x_t = process.start(batch.before, uniforms(2, batch.before, generator))
    log_p0 = truncate_logits(denoiser(x_t, end.float(), condition).float(), temperature, 1.0, 0)
    reverse = process.reverse(x_t, torch.zeros_like(end), end, batch.before)
    drawn = reverse.sample(log_p0, uniforms(3, x_t, generator))
    is_own = stands_on_own(batch, share, generator)
    return replace(batch, source=torch.where(is_own[:, None], drawn, batch.source))


def condition_before(batch: CodePair) -> Condition:
    """What was known when the source frame was drawn: the frame before it, and the same sentence."""
    age_s = (batch.age_s - batch.before_gap_s).clamp_min(0)  # 0 where there is no first frame
    return Condition(batch.before, batch.first, batch.has_first, batch.before_gap_s, age_s, batch.text)


def stands_on_own(batch: CodePair, share: float, generator: torch.Generator) -> Bool[Tensor, "B"]:
    """Which examples stand on a frame that the model drew itself; never where the source is the first frame."""
    device = batch.source.device
    is_own = distributed.drawn(torch.rand, batch.source.shape[:1], generator=generator, device=device) < share
    return is_own & (batch.before_gap_s > 0)


def with_dropped_captions(text: TextStates, share: float, generator: torch.Generator) -> TextStates:
    """A share of the captions becomes the empty caption: one word of zeros."""
    shape, device = (len(text.tokens), 1), text.tokens.device
    is_dropped = distributed.drawn(torch.rand, shape, generator=generator, device=device) < share
    empty = empty_text(text)
    return TextStates(
        torch.where(is_dropped[..., None], empty.tokens, text.tokens),
        torch.where(is_dropped, empty.is_word, text.is_word),
        torch.where(is_dropped, empty.embedding, text.embedding),
    )


def beside_empty(condition: Condition) -> Condition:
    """The condition twice, one batch after the other: with its captions, and without (for classifier-free guidance)."""
    empty = empty_text(condition.text)
    parts = [(getattr(condition.text, name), getattr(empty, name)) for name in ("tokens", "is_word", "embedding")]
    text = TextStates(*(torch.cat(pair) for pair in parts))
    known = (condition.source, condition.first, condition.has_first, condition.gap_s, condition.age_s)
    return Condition(*(torch.cat([value, value]) for value in known), text)


def empty_text(text: TextStates) -> TextStates:
    """The empty caption, in the shape of `text`."""
    is_word = torch.zeros_like(text.is_word)
    is_word[:, 0] = True
    return TextStates(torch.zeros_like(text.tokens), is_word, torch.zeros_like(text.embedding))


def masked_mean(values: Float[Tensor, "B N"], mask: Tensor) -> Float[Tensor, ""]:
    """Mean where `mask` holds; 0 where it holds nowhere. Its mean over the processes is that of the whole batch."""
    return (values * mask).sum() / distributed.counted(mask.sum())


def own_times(batch: int, num_steps: int, generator: torch.Generator, full_share: float) -> Times:
    """The times of this process's rows, out of those that are drawn for the whole batch; see `draw_times`."""
    times = draw_times(distributed.num_all(batch), num_steps, generator, full_share)
    return Times(*map(distributed.own, times))


def uniforms(count: int, like: Shaped[Tensor, "B N"], generator: torch.Generator) -> Float[Tensor, "count B N"]:
    """Numbers in [0, 1) for each token of this process's rows."""
    shape = (count, *like.shape)
    return distributed.drawn(torch.rand, shape, dim=1, generator=generator, device=like.device)
