"""The training loss: codes -> corrupt -> denoise -> bound, x0 term, contrast. Pure: random numbers come in as `StepDraws`."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cdcd_video.config import CdcdContrastConfig, DiffusionConfig, LossConfig
from cdcd_video.contrast.cdcd import Negatives, push_weights, with_negatives
from cdcd_video.contrast.gradient_shares import gradient_shares
from cdcd_video.contrast.negatives import others, reordered, shifted
from cdcd_video.contrast_terms import DenoisingStep, Temperatures, contrast_terms, needs_of
from cdcd_video.diffusion.categorical import truncate_logits
from cdcd_video.diffusion.loss import weighted_terms
from cdcd_video.diffusion.process import DiscreteProcess
from cdcd_video.networks.codec.frame_codec import CodeSpace
from cdcd_video.networks.conditioning import Condition, with_dropped_captions
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.step_encoder import StepTextEncoder
from cdcd_video.networks.step_inputs import (
    conditions_before,
    gets_own_source,
    masked_mean,
    noisy_source,
    token_weights,
    weight_sum,
)
from cdcd_video.records import ALONE, CodePair, Collectives, LossTerms, RefineDraws, StepDraws


def diffusion_objective(
    denoiser: Denoiser,
    process: DiscreteProcess,
    codec: CodeSpace | None,
    batch: CodePair,
    draws: StepDraws,
    cfg: DiffusionConfig,
    loss: LossConfig,
    temperatures: Temperatures | None = None,
    step_encoder: StepTextEncoder | None = None,
    reduce: Collectives = ALONE,
    *,
    reference: Denoiser | None = None,
    heads: nn.ModuleDict | None = None,
) -> LossTerms:
    """The loss of one step on a batch of code pairs; a pure function of its arguments.

    L = w_b L_vb + w_a L_aux + w_ff L_ff + w_ft L_ft: the variational bound [D3PM eq. 1], the x0 term [D3PM eq. 5], and the
    two contrastive terms [ours, in the place of CDCD's] on embedded soft codes (`contrast_terms`). Bound and auxiliary are
    nats per token, the contrasts nats per frame. CDCD's own contrast can be switched on beside them (`loss.cdcd`), and so can
    the terms of `loss.contrast.extra`.

    Args:
      denoiser: p(x0 | x_t, t, condition).
      codec: frozen; embeds soft codes for the contrastive terms.
      batch: this process's examples.
      cfg: length of the chain, noise of the source, dropout of captions.
      temperatures: of the contrast, if they are learned.
      step_encoder: frozen, for `loss.contrast.text_eye: step`.
      reference: frozen, for terms that compare the denoiser with an earlier self; they are left out without it.
      heads: of the terms that train one.
    """
    s, t = draws.times.spans(cfg.num_steps)
    source = noisy_source(batch.source, cfg.source_jitter, draws.source_noise, draws.source_uniforms, reduce)
    x_t = process.corrupt(batch.target, t, source, draws.corruption) if draws.x_t is None else draws.x_t
    text = with_dropped_captions(batch.text, cfg.caption_dropout, draws.caption_uniforms)
    condition = Condition(
        source, batch.first, batch.has_first, batch.gap_s, batch.age_s, text, last=batch.last, grid=batch.grid
    )
    if "hidden" in needs_of(loss.contrast):
        logits, hidden = denoiser.with_hidden(x_t, t.float(), condition)
    else:
        logits, hidden = denoiser(x_t, t.float(), condition), None

    negatives = wrong_codes(batch.target, loss.cdcd, draws.negative_orders, reduce)
    importance = (cfg.num_steps * draws.times.weight.double())[:, None].expand(batch.target.shape)
    weight = token_weights(batch, loss).double()
    kl_weight, ce_weight = push_weights(batch.target, s, importance / weight.numel(), negatives)
    kl_weight[..., 0] = loss.bound * importance / weight.numel()
    ce_weight[..., 0] = loss.auxiliary * weight / weight_sum(weight, reduce)
    posterior = process.posterior(x_t, s, t, source)
    candidates = with_negatives(batch.target, negatives)
    terms = weighted_terms(posterior, logits, candidates, kl_weight, ce_weight)

    total = terms.total
    changed = batch.target != batch.source
    parts = dict(
        bound=(importance * terms.bound).mean(),
        auxiliary=(weight * terms.x0_nll).sum() / weight_sum(weight, reduce),
        auxiliary_changed=masked_mean(terms.x0_nll, changed, reduce),
        auxiliary_still=masked_mean(terms.x0_nll, ~changed, reduce),
        right_changed=masked_mean((logits.argmax(-1) == batch.target).double(), changed, reduce),
    )
    if negatives:
        parts["cdcd"] = terms.contrast
    has_caption = (draws.caption_uniforms >= cfg.caption_dropout)[:, 0]
    step = DenoisingStep(denoiser, x_t, t.float(), condition, has_caption, hidden, reference, heads)
    contrast = contrast_terms(
        logits, posterior, batch, codec, loss.contrast, temperatures, draws.shuffled_orders, step_encoder, reduce, step
    )
    for name, term in contrast.items():
        total = total + term.weighted
        parts |= {name: term.nats, f"{name}_wins": term.wins}
        if isinstance(term.temperature, Tensor):  # learned
            parts[f"{name}_temperature"] = term.temperature

    def shares() -> dict[str, Tensor]:
        weighted = {name: term.weighted for name, term in contrast.items()}
        reads = {name: term.reads for name, term in contrast.items()}
        found = gradient_shares(logits, posterior, candidates, kl_weight, ce_weight, weighted, reduce.total, reads)
        return {f"gradient_share_{name}": share for name, share in found.items()}

    groups = {
        "bound_by_time_decile": by_time_decile(t, (importance * terms.bound).mean(1)),
        "auxiliary_by_time_decile": by_time_decile(t, terms.x0_nll.mean(1)),
    }
    return LossTerms(total, {name: value.detach().float() for name, value in parts.items()}, shares, groups)


@torch.no_grad()
def by_time_decile(t: Float[Tensor, "B"], values: Float[Tensor, "B"]) -> Float[Tensor, "2 10"]:
    """Sums and counts of examples' values, by tenths of diffusion time: (0, 0.1], (0.1, 0.2], ... (0.9, 1]."""
    decile = (10 * t.double() - 1e-9).ceil().long().clamp(1, 10) - 1  # times of a chain lie on the boundaries
    of = torch.stack([values.double(), torch.ones_like(values, dtype=torch.double)])
    return torch.zeros(2, 10, dtype=torch.double, device=t.device).index_add(1, decile, of).float()


def wrong_codes(
    target: Int[Tensor, "B N"],
    cfg: CdcdContrastConfig,
    orders: Int[Tensor, "B M c"] | None,
    reduce: Collectives = ALONE,
) -> tuple[Negatives, ...]:
    """CDCD's negatives of a batch, those with a weight: the frame's own chunks in other orders, other examples' frames."""
    groups = []
    if cfg.intra:
        if cfg.chunks == "shift":
            wrong = shifted(target, cfg.num_chunks)
        else:
            assert orders is not None, "reordered negatives need orders of the chunks"
            wrong = reordered(target, orders)
        groups.append(Negatives(wrong, cfg.intra, cfg.intra_mode))
    if cfg.inter:
        gathered = reduce.gather(target)
        wrong = reduce.own(others(gathered, min(cfg.num_negatives, len(gathered) - 1)))
        groups.append(Negatives(wrong, cfg.inter, cfg.inter_mode))
    return tuple(groups)


@torch.no_grad()
def with_own_source(
    denoiser: Denoiser, process: DiscreteProcess, batch: CodePair, share: float, temperature: float, draws: RefineDraws
) -> CodePair:
    """Replaces a share of the source frames by the model's own samples, each in one step from the frame before.

    A roll-out continues from its own samples, and a model trained on true frames only drifts (scheduled sampling, Bengio
    et al. 2015). With `batch.generations` above 1 it samples the frames between as well, one from the other, as a roll-out
    does. First frames are not replaced: in a roll-out they are the user's.
    """
    end = torch.ones(len(batch.before), dtype=torch.float64, device=batch.before.device)
    sampled = batch.before
    for condition, start, sample in zip(
        conditions_before(batch, batch.generations), draws.start, draws.sample, strict=True
    ):
        x_t = process.start(sampled, start)
        logits = denoiser(x_t, end.float(), replace(condition, source=sampled))
        log_p0 = truncate_logits(logits.float(), temperature, 1.0, 0)
        sampled = process.posterior(x_t, torch.zeros_like(end), end, sampled).sample(log_p0, sample)
    is_own = gets_own_source(batch, share, draws.row_uniforms)
    return replace(batch, source=torch.where(is_own[:, None], sampled, batch.source))
