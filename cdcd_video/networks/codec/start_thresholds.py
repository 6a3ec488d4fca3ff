"""Whether a model can do something with a starting frame, judged before sampling by what validation frames are like.

A frame unlike the training data is reconstructed badly by the codec, and so is a video from it. Or CLIP finds that it does not
show what its sentence says: it is a picture of something else, or the sentence names an object that is not there.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from cdcd_video.data.buckets import spread
from cdcd_video.data.store import Clips
from cdcd_video.errors import UserError
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.codec.decoder import psnr
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.storage.small_file import Missing, read_small

FILE = "round_trip.json"
"""In a model folder, beside the codec."""


@dataclass(frozen=True)
class StartThresholds:
    """What starting frames like those of the validation clips reach; None: never measured.

    Attributes:
      least_db: PSNR of the codec's round trip.
      least_similarity: cosine of CLIP's embeddings of the frame and of its sentence.
    """

    least_db: float | None = None
    least_similarity: float | None = None


MOST_FRAMES = 256
QUANTILE = 0.01
MARGIN_DB = 2.0
"""Below the quantile: room for noise and JPEG (quality 30 costs the shipped codec 0.5 dB), not for other data (over 4)."""
_BATCH = 64


@torch.no_grad()
def round_trip_db(codec: Codec, clip: FrozenClip, frames: UInt8[np.ndarray, "B H W 3"]) -> Float[np.ndarray, "B"]:
    """PSNR in dB of starting frames that are encoded and decoded, each as its own starting frame."""
    device, found = codec.table.device, []
    for begin in range(0, len(frames), _BATCH):
        part = torch.from_numpy(frames[begin : begin + _BATCH]).to(device).permute(0, 3, 1, 2).float().div(255)
        codes = codec.encode(clip.encode_image(part, codec.cfg.layers, codec.grid_of(*part.shape[-2:])).patches)
        found.append(psnr(codec.decode(codes, part).float(), part).cpu().numpy())
    return np.concatenate(found)


@torch.no_grad()
def similarity(
    clip: FrozenClip, frames: UInt8[np.ndarray, "B H W 3"], captions: Sequence[str], codec: Codec | None = None
) -> Float[np.ndarray, "B"]:
    """Cosine of CLIP's embeddings of starting frames and their sentences.

    Args:
      codec: says which grid of patches frames have that are no squares; without it they are seen as squares.
    """
    device, found = clip.mean.device, []
    for begin in range(0, len(frames), _BATCH):
        part = torch.from_numpy(frames[begin : begin + _BATCH]).to(device).permute(0, 3, 1, 2).float().div(255)
        said = clip.encode_text(list(captions[begin : begin + _BATCH])).embedding
        grid = codec.grid_of(*part.shape[-2:]) if codec else None
        found.append((clip.encode_image(part, (), grid).embedding * said).sum(-1).cpu().numpy())
    return np.concatenate(found)


def are_unlike(
    thresholds: StartThresholds,
    codec: Codec,
    clip: FrozenClip,
    frames: UInt8[np.ndarray, "B H W 3"],
    captions: Sequence[str],
) -> Bool[np.ndarray, "B"]:
    """Which starting frames are below one of the thresholds, by themselves or with their sentences."""
    found = np.zeros(len(frames), bool)
    if thresholds.least_db is not None:
        found |= round_trip_db(codec, clip, frames) < thresholds.least_db
    if thresholds.least_similarity is not None:
        found |= similarity(clip, frames, captions, codec) < thresholds.least_similarity
    return found


def measure(codec: Codec, clip: FrozenClip, clips: Clips) -> str:
    """The text of `FILE`: the thresholds below which a starting frame, or it and its sentence, are unlike those of these clips.

    Args:
      clips: validation clips; the first frames of the first `MOST_FRAMES` are used.
    """
    decibels, similarities = [], []
    for bucket, numbers in spread(clips, MOST_FRAMES):
        frames = np.stack([bucket.frames(number, range(1))[0] for number in numbers])
        decibels.append(round_trip_db(codec, clip, frames))
        similarities.append(similarity(clip, frames, [bucket.caption(number) for number in numbers], codec))
    quantile = float(np.quantile(np.concatenate(decibels), QUANTILE))
    alike = float(np.quantile(np.concatenate(similarities), QUANTILE))
    # Rounded: last bits depend on the machine.
    facts = {
        "least_db": round(quantile - MARGIN_DB, 2),
        "quantile_db": round(quantile, 2),
        "least_similarity": round(alike, 3),
        "num_frames": sum(map(len, decibels)),
    }
    return json.dumps(facts, indent=1) + "\n"


def read_thresholds(folder: Path) -> StartThresholds:
    """The thresholds of a model folder; older ones have no `least_similarity`, or none at all.

    Raises:
      UserError: the file is damaged.
    """
    path = folder / FILE
    try:
        facts = json.loads(read_small(path))
        found = facts["least_db"], facts.get("least_similarity")
    except Missing:
        return StartThresholds()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        found = (None, None)
    if not _is_finite(found[0]) or not (found[1] is None or _is_finite(found[1])):
        raise UserError(
            f"{path} is damaged; copy it again, or measure it: python -m cdcd_video.tools.round_trip {folder}"
        )
    return StartThresholds(*found)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
