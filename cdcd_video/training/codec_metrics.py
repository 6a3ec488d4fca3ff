"""Metrics of a codec: fidelity, code usage, flicker where nothing moves, agreement with CLIP."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cdcd_video.data.shots import LongestShots
from cdcd_video.data.store import Clips
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.codec.codec_loss import has_changed, is_patch_changed, psnr
from cdcd_video.networks.codec.frame_codec import Codec

ObjectMask = Callable[[int, int], np.ndarray]
"""(clip, frame) -> bool (H, W): where the objects are."""


@dataclass(frozen=True)
class Neighbours:
    """Two pairs of neighbouring frames of each of V clips, from its first third or so and from its middle."""

    embedding: Float[np.ndarray, "V 2 2 J"]
    """Unit-norm joint embeddings of their codes; the third axis is the earlier and the later frame."""
    clip_embedding: Float[np.ndarray, "V 2 2 J"]
    """CLIP's own of the frames."""
    values: Float[np.ndarray, "V 2 2 PV"]
    """Their code values, patch after patch."""
    text_embedding: Float[np.ndarray, "V J"]
    """Unit-norm embeddings of the clips' first captions."""


@torch.no_grad()
def codec_metrics_of(
    codec: Codec,
    clip: FrozenClip,
    clips: Clips,
    num_clips: int,
    object_mask: ObjectMask | None = None,
    look: Callable[["Neighbours"], Mapping[str, float]] | None = None,
) -> dict[str, float]:
    """Encodes and decodes three frames of each of the first clips, and compares codes of neighbouring frames.

    Args:
      clips: validation clips; the longest shot of each is used.
      object_mask: where the objects are; without it, pixels that differ from the clip's first frame.
      look: further metrics, from the latents of neighbouring frames; clips of a single frame have none.

    Returns:
      psnr_db (mean over frames), object_psnr_db and background_psnr_db (pooled over pixels), usage (share of the K codes
      that occur), perplexity (exp of the codes' entropy), flicker (share of codes that change from a frame to the next
      in patches that are still; NaN where none is), still_share (of the patches, how many are), still_tolerance (what
      counts as still, in levels of 255; see `is_patch_changed`), embed_cosine; and what `look` finds.
    """
    device = codec.table.device
    error: dict[bool, list[Tensor]] = {True: [], False: []}
    overall, cosine, counts = [], [], torch.zeros(codec.num_codes)
    neighbours: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    flickers = still_codes = all_codes = 0
    tolerance = codec.cfg.still_tolerance
    clips = LongestShots(clips)
    for number in range(min(num_clips, len(clips))):
        length = clips.num_frames(number)
        frames = torch.from_numpy(clips.frames(number, range(length))).permute(0, 3, 1, 2).float().div(255).to(device)
        grid = codec.grid_of(*frames.shape[-2:])
        states = clip.encode_image(frames, codec.cfg.layers, grid)
        codes = codec.encode(states.patches)
        counts += torch.bincount(codes.flatten().cpu(), minlength=codec.num_codes)
        embedded = codec.embed(codes, grid)
        cosine.append((embedded * states.embedding).sum(-1).mean().item())
        if look and length > 1:
            begin = torch.tensor([min(length // 4, length - 2), min(length * 9 // 16, length - 2)])
            pairs = torch.stack([begin, begin + 1], 1)
            text_embedding = clip.encode_text(clips.captions(number)[:1]).embedding[0]
            neighbours.append(
                (embedded[pairs], states.embedding[pairs], codec.values(codes[pairs.flatten()]), text_embedding)
            )

        still = ~is_patch_changed(frames[1:], frames[:-1], grid, tolerance)
        moved = (codes[1:] != codes[:-1]).unflatten(1, (-1, codec.groups))
        flickers += int((moved & still[..., None]).sum())
        still_codes += int(still.sum()) * codec.groups
        all_codes += still.numel() * codec.groups

        chosen = sorted({length // 4, length * 9 // 16, length - 1})
        truth, start = frames[chosen], frames[:1].expand(len(chosen), -1, -1, -1)
        decoded = codec.decode(codes[chosen], start).float()
        overall.append(psnr(decoded, truth).mean().item())
        squared = (decoded - truth).square().mean(1)
        where = _masks(number, chosen, object_mask) if object_mask else has_changed(truth, start)[:, 0]
        for on_object in (True, False):
            error[on_object].append(squared[where.to(device) == on_object])
    share = counts / counts.sum()
    metrics = {
        "psnr_db": float(np.mean(overall)),
        "object_psnr_db": _decibel(error[True]),
        "background_psnr_db": _decibel(error[False]),
        "usage": float((counts > 0).float().mean()),
        "perplexity": float(torch.exp(-torch.special.xlogy(share, share).sum())),
        "flicker": flickers / still_codes if still_codes else float("nan"),
        "still_share": still_codes / all_codes if all_codes else float("nan"),
        "still_tolerance": tolerance,
        "embed_cosine": float(np.mean(cosine)),
    }
    if look and neighbours:
        at = [torch.stack(rows).float().cpu().numpy() for rows in zip(*neighbours, strict=True)]
        metrics |= look(Neighbours(at[0], at[1], at[2].reshape(*at[0].shape[:3], -1), at[3]))
    return metrics


def _masks(clip: int, frames: list[int], object_mask: ObjectMask) -> Tensor:
    return torch.from_numpy(np.stack([object_mask(clip, frame) for frame in frames]))


def _decibel(squared_errors: list[Tensor]) -> float:
    pooled = torch.cat(squared_errors)
    return float(-10 * pooled.mean().clamp_min(1e-10).log10()) if len(pooled) else float("nan")
