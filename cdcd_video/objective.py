"""How it learns: codes -> corrupt -> denoise -> bound, auxiliary, contrast."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cdcd_video.codec.codec import Codec
from cdcd_video.config import ContrastConfig, DiffusionConfig, LossConfig
from cdcd_video.contrast.loss import info_nce
from cdcd_video.denoiser import Condition, Denoiser
from cdcd_video.diffusion.bound import auxiliary, variational_bound
from cdcd_video.diffusion.categorical import truncate_logits
from cdcd_video.diffusion.process import Process
from cdcd_video.diffusion.schedule import draw_times
from cdcd_video.records import CodePair, LossTerms, TextStates


def diffusion_objective(
    denoiser: Denoiser,
    process: Process,
    codec: Codec,
    batch: CodePair,
    cfg: DiffusionConfig,
    loss: LossConfig,
    generator: torch.Generator,
) -> LossTerms:
    """One step: what the denoiser pays for a batch of code pairs.

    L = w_b L_vb + w_a L_aux + w_ff L_ff + w_ft L_ft: the variational bound [D3PM eq. 1], the x0 term [D3PM eq. 5], and the
    two contrastive terms [ours, in the place of CDCD's] on `embed(softmax(logits))`. Bound and auxiliary are nats per
    token, the contrasts nats per frame.
    """
    times = draw_times(len(batch.target), cfg.num_steps, generator, cfg.full_share)
    s, t = times.spans(cfg.num_steps)
    source = jittered(batch.source, cfg.source_jitter, generator)
    x_t = process.sample(batch.target, t, source, generator)
    text = with_dropped_captions(batch.text, cfg.caption_dropout, generator)
    condition = Condition(source, batch.first, batch.has_first, batch.gap_s, batch.age_s, text)
    log_p0 = denoiser(x_t, t.float(), condition).float().log_softmax(-1)

    steps = variational_bound(process, log_p0, batch.target, x_t, s, t, source)
    bound = (cfg.num_steps * times.weight[:, None] * steps).mean()
    nll = auxiliary(log_p0, batch.target)
    weight = token_weights(batch, loss)
    weighted = (weight * nll).sum() / weight.sum()
    total = loss.bound * bound + loss.auxiliary * weighted
    changed = batch.target != batch.source
    parts = dict(
        bound=bound,
        auxiliary=weighted,
        auxiliary_changed=masked_mean(nll, changed),
        auxiliary_still=masked_mean(nll, ~changed),
        right_changed=masked_mean((log_p0.argmax(-1) == batch.target).float(), changed),
    )
    if loss.contrast.frame_frame or loss.contrast.frame_text:
        contrast, apart = contrast_terms(log_p0, batch, codec, loss.contrast)
        total, parts = total + contrast, parts | apart
    return LossTerms(total, {name: value.detach() for name, value in parts.items()})


def contrast_terms(
    log_p0: Float[Tensor, "B N K"], batch: CodePair, codec: Codec, cfg: ContrastConfig
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Frame-frame and frame-text InfoNCE of the drawn frames, on the first `cfg.share` of the batch.

    Frame-frame: the positive is the earlier frame; negatives are the earlier frames of other clips (inter) and a far
    frame of the same clip (intra). Frame-text: the positive is the clip's caption; negatives are other captions.
    """
    rows = max(2, round(cfg.share * len(log_p0)))
    drawn = codec.embed_soft(log_p0[:rows].exp())
    with torch.no_grad():
        earlier, far = codec.embed(batch.source[:rows]), codec.embed(batch.far[:rows])
    caption, clip = batch.caption[:rows], batch.clip[:rows]
    own = torch.eye(rows, dtype=torch.bool, device=clip.device)
    is_negative = torch.cat([clip[:, None] != clip, own & (batch.far != batch.source)[:rows].any(1)], 1)
    frame_frame, near_wins = info_nce(drawn, earlier, torch.cat([earlier, far]), is_negative, cfg.temperature)
    said = batch.text.embedding[:rows]
    frame_text, text_wins = info_nce(drawn, said, said, caption[:, None] != caption, cfg.temperature)
    total = cfg.frame_frame * frame_frame.mean() + cfg.frame_text * frame_text.mean()
    parts = dict(
        frame_frame=frame_frame.mean(),
        frame_text=frame_text.mean(),
        frame_frame_wins=near_wins.mean(),
        frame_text_wins=text_wins.mean(),
    )
    return total, parts


def token_weights(batch: CodePair, loss: LossConfig) -> Float[Tensor, "B N"]:
    """Weight of each token in L_aux: what changes counts more, a clip in which nothing changes counts less."""
    changed = batch.target != batch.source
    weight = 1 + (loss.changed - 1) * changed.float()
    return torch.where(changed.any(1, keepdim=True), weight, weight * loss.still_clip)


def jittered(codes: Int[Tensor, "B N"], most: float, generator: torch.Generator) -> Int[Tensor, "B N"]:
    """Source codes as a roll-out will see them: of each row a share, uniform in [0, most], is taken from another row."""
    share = most * torch.rand(len(codes), 1, generator=generator, device=codes.device)
    is_wrong = torch.rand(codes.shape, generator=generator, device=codes.device) < share
    return torch.where(is_wrong, codes.roll(1, 0), codes)


@torch.no_grad()
def with_own_source(
    denoiser: Denoiser, process: Process, batch: CodePair, share: float, temperature: float, generator: torch.Generator
) -> CodePair:
    """Replaces a share of the source frames by what the model itself draws there, in one step from the frame before.

    A roll-out stands on its own drawings; a model that has only ever stood on true frames drifts (scheduled sampling,
    Bengio et al. 2015). First frames stay: they are the user's.
    """
    age_s = (batch.age_s - batch.before_gap_s).clamp_min(0)  # 0 where there is no first frame
    condition = Condition(batch.before, batch.first, batch.has_first, batch.before_gap_s, age_s, batch.text)
    end = torch.ones(len(batch.before), dtype=torch.float64, device=batch.before.device)
    x_t = process.prior(batch.before, generator)
    log_p0 = truncate_logits(denoiser(x_t, end.float(), condition).float(), temperature, 1.0, 0)
    drawn = process.sample_reverse(log_p0, x_t, torch.zeros_like(end), end, batch.before, generator)
    is_own = torch.rand(len(drawn), generator=generator, device=drawn.device) < share
    is_own &= batch.before_gap_s > 0
    return replace(batch, source=torch.where(is_own[:, None], drawn, batch.source))


def with_dropped_captions(text: TextStates, share: float, generator: torch.Generator) -> TextStates:
    """A share of the captions becomes the empty caption: one word of zeros."""
    is_dropped = torch.rand(len(text.tokens), 1, generator=generator, device=text.tokens.device) < share
    empty = empty_text(text)
    return TextStates(
        torch.where(is_dropped[..., None], empty.tokens, text.tokens),
        torch.where(is_dropped, empty.is_word, text.is_word),
        torch.where(is_dropped, empty.embedding, text.embedding),
    )


def empty_text(text: TextStates) -> TextStates:
    """The empty caption, in the shape of `text`."""
    is_word = torch.zeros_like(text.is_word)
    is_word[:, 0] = True
    return TextStates(torch.zeros_like(text.tokens), is_word, torch.zeros_like(text.embedding))


def masked_mean(values: Float[Tensor, "B N"], mask: Tensor) -> Float[Tensor, ""]:
    """Mean where `mask` holds; 0 where it holds nowhere."""
    return (values * mask).sum() / mask.sum().clamp_min(1)
