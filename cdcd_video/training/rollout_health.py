"""Samples of a denoiser during training, for `metrics.latent.health`: single frames, and short roll-outs.

They use the sampling parameters of the config, but fewer steps, and stay in latent space.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cdcd_video.config import Config, SamplingParams
from cdcd_video.data.cache import CodeCache
from cdcd_video.engine.runtime import generator, to_device
from cdcd_video.metrics.latent import health
from cdcd_video.networks.codec.frame_codec import CodeSpace
from cdcd_video.networks.conditioning import Condition
from cdcd_video.networks.next_frame import NextFrame
from cdcd_video.records import CodePair

NUM_WATCHED = 64
"""Validation examples that are sampled, and shots that are rolled out, at each evaluation."""
MOST_STEPS = 2
"""Reverse steps of a frame, unless the config has fewer."""
ROLLED_FRAMES = 8
"""Frames of a roll-out with the given first one; fewer if no shot is as long."""


def single_frames(sampler: NextFrame, codec: CodeSpace, config: Config, batch: CodePair) -> dict[str, float]:
    """Health of frames that are sampled from true source frames; see `health.health`.

    Args:
      config: for the sampling parameters and the seed.
    """
    streams = [generator(config.seed, "health", row, device=batch.source.device) for row in range(len(batch.source))]
    source, first = sampler.begin(batch.source), sampler.begin(batch.first)
    condition = Condition(source, first, batch.has_first, batch.gap_s, batch.age_s, batch.text, grid=batch.grid)

    def arrays_of(latents: Tensor) -> dict[str, np.ndarray]:
        values = _values(codec, latents)
        return {"values": values.cpu().numpy(), "embedding": codec.embed_head(values, batch.grid).cpu().numpy()}

    sampled = sampler.next_frame(condition, _few_steps(config), streams)
    text_embedding = batch.text.embedding.float().cpu().numpy()
    return health.health(arrays_of(sampled), arrays_of(batch.target), arrays_of(batch.source), text_embedding)


def roll_outs(
    sampler: NextFrame, codec: CodeSpace, config: Config, cache: CodeCache, device: torch.device
) -> dict[str, float]:
    """Motion of roll-outs; see `health.rolled_motion`.

    Args:
      cache: validation clips; roll-outs start from first frames of their shots.
    """
    shots = cache.shots
    num_frames = min(ROLLED_FRAMES, int(shots.lengths.max()))
    long = np.flatnonzero(shots.lengths >= num_frames)
    shot = long[np.linspace(0, len(long) - 1, min(NUM_WATCHED, len(long))).astype(int)]
    clip = shots.clips[np.searchsorted(shots.first_of, shot, side="right") - 1]
    truth = [cache.frame_codes(clip, shots.begins[shot] + frame).to(device) for frame in range(num_frames)]
    text = to_device(cache.text(np.array([cache.caption_of[one][0] for one in clip.tolist()])), device)

    streams = [generator(config.seed, "roll-out", row, device=device) for row in range(len(clip))]
    gap = torch.full((len(clip),), 1 / cache.fps, device=device)
    has_first, params = torch.ones(len(clip), dtype=torch.bool, device=device), _few_steps(config)
    sampled = [sampler.begin(truth[0])]
    for number in range(num_frames - 1):
        condition = Condition(sampled[-1], sampled[0], has_first, gap, number * gap, text, grid=cache.grid)
        sampled.append(sampler.next_frame(condition, params, streams))

    def values(frames: list[Tensor]) -> Float[np.ndarray, "n F P V"]:
        return torch.stack([_values(codec, latents) for latents in frames], 1).cpu().numpy()

    return health.rolled_motion(values(sampled), values(truth))


def _few_steps(config: Config) -> SamplingParams:
    return config.sample.changed(num_steps=min(config.sample.num_steps, MOST_STEPS))


def _values(codec: CodeSpace, latents: Tensor) -> Float[Tensor, "n P V"]:
    return latents if latents.is_floating_point() else codec.values(latents)
