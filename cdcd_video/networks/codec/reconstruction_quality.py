"""Reconstruction quality of a starting frame, compared with that of validation frames.

A frame unlike the training data (another background, a photograph) is reconstructed badly, and so is a video from it. The
codec's error on such a frame is far above its error on validation frames, which is known before sampling.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from cdcd_video.data.store import Clips
from cdcd_video.errors import UserError
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.codec.decoder import psnr
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.storage.small_file import Missing, read_small

FILE = "round_trip.json"
"""In a model folder, beside the codec."""
MOST_FRAMES = 256
QUANTILE = 0.01
MARGIN_DB = 2.0
"""Below the quantile: room for noise and JPEG (quality 30 costs the shipped codec 0.5 dB), not for other data (over 4)."""
_BATCH = 64


@torch.no_grad()
def round_trip_db(codec: Codec, clip: FrozenClip, frames: UInt8[np.ndarray, "B S S 3"]) -> Float[np.ndarray, "B"]:
    """PSNR in dB of starting frames that are encoded and decoded, each as its own starting frame."""
    device, found = codec.table.device, []
    for begin in range(0, len(frames), _BATCH):
        part = torch.from_numpy(frames[begin : begin + _BATCH]).to(device).permute(0, 3, 1, 2).float().div(255)
        codes = codec.encode(clip.encode_image(part, codec.cfg.layers).patches)
        found.append(psnr(codec.decode(codes, part).float(), part).cpu().numpy())
    return np.concatenate(found)


def measure(codec: Codec, clip: FrozenClip, clips: Clips) -> str:
    """The text of `FILE`: `least_db`, below which a starting frame is unlike those of these clips.

    Args:
      clips: validation clips; the first frames of the first `MOST_FRAMES` are used.
    """
    frames = np.stack([clips.frames(number, range(1))[0] for number in range(min(MOST_FRAMES, len(clips)))])
    found = round_trip_db(codec, clip, frames)
    quantile = float(np.quantile(found, QUANTILE))
    # Rounded: last bits depend on the machine.
    facts = {"least_db": round(quantile - MARGIN_DB, 2), "quantile_db": round(quantile, 2), "num_frames": len(found)}
    return json.dumps(facts, indent=1) + "\n"


def read_least_db(folder: Path) -> float | None:
    """`least_db` of a model folder; None if it was never measured.

    Raises:
      UserError: the file is damaged.
    """
    path = folder / FILE
    try:
        least = json.loads(read_small(path))["least_db"]
    except Missing:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        least = None
    if not isinstance(least, int | float) or isinstance(least, bool) or not math.isfinite(least):
        raise UserError(
            f"{path} is damaged; copy it again, or measure it: python -m cdcd_video.tools.round_trip {folder}"
        )
    return float(least)
