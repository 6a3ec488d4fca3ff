"""Losses of the codec: reconstruction weighted by change, stable codes where nothing moves, agreement with CLIP."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cdcd_video.config import CodecConfig
from cdcd_video.contrast.info_nce import batch_info_nce, info_nce
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.codec.decoder import psnr
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.networks.codec.perceptual import Picture
from cdcd_video.networks.patch_grid import square_grid
from cdcd_video.records import ALONE, Collectives, FramePair, Grid, LossTerms

CHANGED = 8 / 255
"""A pixel that differs from the starting frame by more than this has changed."""
EQUAL = 1e-6
"""Values in [0, 1] that differ by no more are equal up to rounding."""


def codec_objective(
    codec: Codec, clip: FrozenClip, pair: FramePair, picture: Picture | None = None, reduce: Collectives = ALONE
) -> LossTerms:
    """The loss of the codec.

    - reconstruction: L1 + 4 L2 of the decoded target frame, changed pixels weighted more;
    - still: latents of two frames of a clip agree where their patches are equal within the tolerance of the config, so that
      codes of a static background do not flicker (the bridge process starts from them);
    - embed: 1 - cosine between `embed(codes)` and CLIP's own embedding of the frame;
    - frame_frame, frame_text: the contrast in the latent space itself, if weighted; see `latent_contrast`;
    - the terms of `picture`, if given.
    """
    cfg, grid = codec.cfg, codec.grid_of(*pair.target.shape[-2:])
    states = clip.encode_image(torch.cat([pair.target, pair.source]), cfg.layers, grid)
    latents, quantized = codec.quantize(states.patches)
    values = quantized.values.flatten(2)
    decoded = codec.decoder(values[: len(pair.target)], codec.decoder.start_features(pair.first))

    reconstruction = reconstruction_loss(decoded, pair, cfg.change_weight, reduce)
    still = still_loss(latents, pair, cfg.still_tolerance, reduce, grid=grid)
    embedded = codec.embed_head(values, grid)
    embed = 1 - (embedded * states.embedding).sum(-1).mean()
    total = reconstruction + cfg.still_weight * still + cfg.embed_weight * embed + quantized.commitment
    parts = dict(
        reconstruction=reconstruction, still=still, embed=embed, psnr_db=psnr(decoded.clamp(0, 1), pair.target).mean()
    )
    if cfg.frame_frame or cfg.frame_text:
        contrast, apart = latent_contrast(embedded, pair, cfg, reduce)
        total, parts = total + contrast, parts | apart
    if picture:
        further, apart = picture(decoded, pair.target)
        total, parts = total + further, parts | apart
    return LossTerms(total, {name: value.detach() for name, value in parts.items()})


def decoder_objective(
    codec: Codec, clip: FrozenClip, pair: FramePair, picture: Picture | None = None, reduce: Collectives = ALONE
) -> LossTerms:
    """The loss of the decoder alone, with fixed codes: the terms of `codec_objective` that depend on the decoded frame."""
    with torch.no_grad():
        states = clip.encode_image(pair.target, codec.cfg.layers, codec.grid_of(*pair.target.shape[-2:]))
        values = codec.values(codec.encode(states.patches))
    decoded = codec.decoder(values, codec.decoder.start_features(pair.first))
    loss = reconstruction_loss(decoded, pair, codec.cfg.change_weight, reduce)
    psnr_db = psnr(decoded.detach().clamp(0, 1), pair.target).mean()
    parts = {"reconstruction": loss.detach(), "psnr_db": psnr_db}
    if picture:
        further, apart = picture(decoded, pair.target)
        loss, parts = loss + further, parts | apart
    return LossTerms(loss, parts)


def latent_contrast(
    embedded: Float[Tensor, "BB J"], pair: FramePair, cfg: CodecConfig, reduce: Collectives = ALONE
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Frame-frame and frame-text InfoNCE of the frames' own codes, with gradients into the projection and the embed head.

    The embeddings are those of the rounded codes, with a straight-through gradient, because the head and the diffusion use
    rounded codes too. Frame-frame: two frames of a clip are positives, frames of other clips negatives. Frame-text: each
    frame and its caption are positives, other captions negatives. Frames of one clip, and equal captions, are no negatives
    of each other.

    Args:
      embedded: `embed` of the target frames, then of the source frames.
      pair: the batch; with clip, caption and sentences.

    Returns:
      The weighted sum in nats per frame, and each term and its accuracy (does the positive win?) by name; a term of weight
      0 is not computed.
    """
    target, source = embedded.chunk(2)
    total = embedded.new_zeros(())
    parts: dict[str, Tensor] = {}
    if cfg.frame_frame:
        assert pair.clip is not None, "the frame-frame term needs the clip of each example"
        is_other = pair.clip[:, None] != reduce.gather(pair.clip)
        every = None if reduce.size == 1 else (reduce.gather(target), reduce.gather(source))
        nats, wins = batch_info_nce(target, source, is_other, cfg.temperature, symmetric=True, among=every)
        total = total + cfg.frame_frame * nats.mean()
        parts |= dict(frame_frame=nats.mean(), frame_frame_wins=wins.mean())
    if cfg.frame_text:
        assert pair.caption is not None and pair.caption_embedding is not None, (
            "the frame-text term needs captions and their embeddings"
        )
        is_other = (pair.caption[:, None] != reduce.gather(pair.caption)).repeat(2, 1)
        negatives = reduce.gather(pair.caption_embedding)
        nats, wins = info_nce(embedded, pair.caption_embedding.repeat(2, 1), negatives, is_other, cfg.temperature)
        total = total + cfg.frame_text * nats.mean()
        parts |= dict(frame_text=nats.mean(), frame_text_wins=wins.mean())
    return total, parts


def reconstruction_loss(
    decoded: Float[Tensor, "B 3 H W"], pair: FramePair, change_weight: float, reduce: Collectives = ALONE
) -> Float[Tensor, ""]:
    """L1 + 4 L2, with pixels that differ from the starting frame weighted 1 + `change_weight` times."""
    error = decoded - pair.target
    weight = 1 + change_weight * has_changed(pair.target, pair.first).to(error.dtype)
    return (weight * (error.abs() + 4 * error.square())).mean() / reduce.mean(weight.mean())


def still_loss(
    latents: Float[Tensor, "BB P V"],
    pair: FramePair,
    tolerance: float,
    reduce: Collectives = ALONE,
    *,
    grid: Grid | None = None,
) -> Float[Tensor, ""]:
    """Mean squared difference of the two frames' latents over patches that are still; see `is_patch_changed`."""
    of_target, of_source = latents.chunk(2)
    grid = grid or square_grid(latents.shape[1])
    same = (~is_patch_changed(pair.target, pair.source, grid, tolerance)).to(latents.dtype)
    return ((of_target - of_source).square().mean(-1) * same).sum() / reduce.counted(same.sum())


def has_changed(frame: Float[Tensor, "B 3 H W"], other: Float[Tensor, "B 3 H W"]) -> Tensor:
    """Pixels (B, 1, H, W) that visibly differ."""
    return ((frame - other).abs() > CHANGED).any(1, keepdim=True)


def is_patch_changed(
    frame: Float[Tensor, "B 3 H W"], other: Float[Tensor, "B 3 H W"], grid: int | Grid, tolerance: float
) -> Tensor:
    """Patches (B, P) that differ by more than `tolerance` levels of 255, mean over their values; with 0, at all."""
    difference = (frame - other).abs()
    if not tolerance:
        return F.adaptive_max_pool2d(difference.amax(1, keepdim=True), grid).flatten(1) > EQUAL
    return F.adaptive_avg_pool2d(difference.mean(1, keepdim=True), grid).flatten(1) > tolerance / 255 + EQUAL
