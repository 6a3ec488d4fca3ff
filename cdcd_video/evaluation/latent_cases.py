"""What a look at the latent space draws, so that it belongs to the evaluation it stands in: the protocol says all of it."""

from cdcd_video.config import SamplingParams
from cdcd_video.errors import UserError
from cdcd_video.evaluation import real_videos
from cdcd_video.metrics.eval_dataset import choose_clips
from cdcd_video.metrics.latent.counterfactuals import Cases, ClipsCases, SpritesCases
from cdcd_video.metrics.protocol import SPRITES, Protocol
from cdcd_video.pipeline import ImageToVideo

IMAGES, CAPTIONS, BANK = 16, 6, 64
"""Source images, sentences for each, and real videos of other images: what `tools.latents` takes, from 128 videos on."""


def cases_of(pipe: ImageToVideo, rule: Protocol, params: SamplingParams) -> Cases:
    """Images with several sentences each: the first scenes or clips of the protocol, fewer where it asks for few videos.

    Args:
      pipe: the model, whose world sprites are from and whose size frames have.
      rule: settled.
      params: settings, with the protocol's number of frames and rate.

    Raises:
      UserError: there are too few images, sentences or frames.
    """
    if rule.num_frames < 3:
        raise UserError("paths need 3 frames at least; raise --num-frames")
    images = max(2, min(IMAGES, rule.num_videos // 8))
    captions = max(2, min(CAPTIONS, rule.num_videos // 4))
    sizes = {"size_px": pipe.size_px, "bank_size": min(BANK, rule.num_real)}
    if rule.data == SPRITES:
        chosen = {"fps": params.fps, "split": rule.split, "world": real_videos.world_of(pipe.model.config)}
        return SpritesCases(rule.seed, images, captions, num_frames=rule.num_frames, **chosen, **sizes)
    clips = real_videos.stored(rule)
    reached = (rule.num_frames - 1) * rule.stride + 1
    fitting = choose_clips(clips, images, reached, pipe.size_px)
    captions = min(captions, len({clips.caption(clip) for clip in fitting}))
    if captions < 2:
        raise UserError(f"it takes two clips with different captions, and {rule.data} has none; give more clips")
    return ClipsCases(clips, len(fitting), captions, num_frames=reached, fps=clips.fps, **sizes)
