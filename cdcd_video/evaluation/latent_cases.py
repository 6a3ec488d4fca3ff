"""The images and captions of a study of the latent space, chosen by the protocol of the evaluation."""

from typing import Any

from cdcd_video.config import SamplingParams
from cdcd_video.config.value_types import Size
from cdcd_video.errors import UserError
from cdcd_video.evaluation import real_videos
from cdcd_video.metrics.eval_dataset import choose_clips
from cdcd_video.metrics.latent.counterfactuals import Cases, ClipsCases, SpritesCases
from cdcd_video.metrics.protocol import DIGITS, SPRITES, Protocol
from cdcd_video.pipeline import ImageToVideo

IMAGES, CAPTIONS, BANK = 16, 6, 64
"""Source images, captions of each, and real videos of other images, from 128 videos on; as in `tools.latents`."""


def studied(protocol: Protocol) -> Size:
    """The one size of frames that a study looks at: the square where there is one, else the first."""
    return next((size for size in protocol.sizes if size.height == size.width), protocol.sizes[0])


def cases_of(pipe: ImageToVideo, protocol: Protocol, params: SamplingParams) -> Cases:
    """Images with several captions each: the first scenes or clips of the protocol, fewer for few videos.

    Args:
      pipe: the model; it gives the world of sprites and the size of frames.
      protocol: settled.
      params: settings, with the protocol's number of frames and rate.

    Raises:
      UserError: there are too few images, captions or frames, or the data are digits.
    """
    if protocol.data == DIGITS:
        raise UserError("it needs other captions of one image, and those of other clips name digits that are not in it")
    if protocol.num_frames < 3:
        raise UserError("paths need at least 3 frames; raise --num-frames")
    images = max(2, min(IMAGES, protocol.num_videos // 8))
    captions = max(2, min(CAPTIONS, protocol.num_videos // 4))
    sizes: dict[str, Any] = {"size_px": pipe.size_px, "bank_size": min(BANK, protocol.num_real)}
    if protocol.data == SPRITES:
        chosen: dict[str, Any] = {
            "fps": params.fps,
            "split": protocol.split,
            "world": real_videos.world_of(pipe.model.config, protocol, studied(protocol)),
        }
        return SpritesCases(protocol.seed, images, captions, num_frames=protocol.num_frames, **chosen, **sizes)
    clips = real_videos.stored(protocol, studied(protocol))
    spanned = (protocol.num_frames - 1) * protocol.stride + 1
    fitting = choose_clips(clips, images, spanned, pipe.size_px)
    captions = min(captions, len({clips.caption(clip) for clip in fitting}))
    if captions < 2:
        raise UserError(f"a study needs two clips with different captions, and {protocol.data} has none; add clips")
    return ClipsCases(clips, len(fitting), captions, num_frames=spanned, fps=clips.fps, **sizes)
