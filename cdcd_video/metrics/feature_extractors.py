"""The networks that an evaluation looks through: loaded before anything is drawn, each with the hash of its weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, UInt8

from cdcd_video.errors import UserError
from cdcd_video.metrics.features import feature_weights, networks
from cdcd_video.metrics.features.networks import FeatureNetwork
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.scores import METRICS, SETS
from cdcd_video.networks.clip import FrozenClip

LPIPS = "lpips-alex"
CLIP_SEES = ("clip_text", "clip_first", "smoothness")
"""Built-in metrics that look through CLIP."""


@dataclass(frozen=True)
class FeatureExtractors:
    """What the metrics asked for need, and no more."""

    networks: Mapping[str, FeatureNetwork] = field(default_factory=dict)
    """By who is meant in `scores.SETS`."""
    lpips: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    clip: "ClipEncoder | None" = None
    features: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Name and digest of the weights behind each metric that rests on some."""


class ClipEncoder:
    """A CLIP that looks at frames and reads sentences, in its joint space; every embedding has length 1."""

    def __init__(self, clip: FrozenClip):
        self.clip = clip

    @torch.inference_mode()
    def encode_image(self, frames: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, "F J"]:
        """Embeddings of frames."""
        pixels = torch.from_numpy(frames).to(self.clip.mean.device).permute(0, 3, 1, 2).float().div(255)
        return self.clip.encode_image(pixels, ()).embedding.double().cpu().numpy()

    @torch.inference_mode()
    def encode_text(self, caption: str) -> Float[np.ndarray, " J"]:
        """Embedding of a sentence; what does not fit into the tower is cut off."""
        return self.clip.encode_text([caption]).embedding[0].double().cpu().numpy()


def settle_networks(protocol: Protocol) -> Protocol:
    """The protocol with `auto` replaced by the networks it means on this machine."""
    return protocol.settled(
        frame_network=networks.preferred("frames") if protocol.frame_network == "auto" else protocol.frame_network,
        video_network=networks.preferred("videos") if protocol.video_network == "auto" else protocol.video_network,
    )


def load(
    metrics: Sequence[str],
    protocol: Protocol,
    *,
    clip: Callable[[], FrozenClip] | None = None,
    device: str | torch.device = "cpu",
) -> FeatureExtractors:
    """Loads what the metrics need.

    Args:
      metrics: some of `scores.METRICS`.
      protocol: with its networks settled.
      clip: makes the CLIP that some metrics look through; called where one of them is asked for.
      device: where everything runs.

    Raises:
      UserError: weights are missing (the sentence names file, hash, place and what does without); a network of frames is
        named where videos are to be seen, or the reverse; it knows no classes, for the scores that need them; or it
        cannot see as many frames as a window has.
    """
    names = {"frame": protocol.frame_network, "video": protocol.video_network, "debiased": "videomae"}
    found: dict[str, FeatureNetwork] = {}
    features: dict[str, tuple[str, str]] = {}
    for metric in (name for name in metrics if name in SETS):
        who = SETS[metric]
        if who not in found:
            found[who] = networks.load(names[who], device)
            knows_classes = _try_out(found[who], metric, protocol)
        if metric.endswith("is") and not knows_classes:
            raise UserError(
                f"{names[who]} knows no classes, which {metric} needs; leave it out, or take another network"
            )
        features[metric] = (found[who].name, found[who].digest)
    eye = None
    through_clip = [metric for metric in metrics if METRICS[metric].needs_clip]
    if through_clip:
        assert clip is not None
        eye = ClipEncoder(clip().to(torch.device(device)))
        scores = [score for metric in (*CLIP_SEES, *through_clip) for score in METRICS[metric].scores]
        features |= dict.fromkeys(scores, (f"clip-{eye.clip.digest[:8]}", eye.clip.digest))
    lpips = None
    if "lpips" in metrics:
        lpips = networks.lpips("alex", device)
        features["lpips"] = (LPIPS, feature_weights.WEIGHTS[LPIPS].sha256)
    return FeatureExtractors(found, lpips, eye, features)


def digest_of(name: str) -> str | None:
    """The hash of a network's weights, whether or not they are needed; None where they are not here."""
    kind = name.partition(":")[0]
    if kind in feature_weights.WEIGHTS:
        return feature_weights.WEIGHTS[kind].sha256
    try:
        return networks.load(name).digest
    except UserError:
        return None


def _try_out(network: FeatureNetwork, metric: str, protocol: Protocol) -> bool:
    """Shows a network one blank frame or window, so that what it cannot do is told now; says whether it knows classes."""
    wanted = "frames" if SETS[metric] == "frame" else "videos"
    if network.sees != wanted:
        raise UserError(f"{network.name} sees {network.sees}, and {metric} is about {wanted}; take another network")
    if wanted == "frames":
        blank = np.zeros((1, 64, 64, 3), np.uint8)
    else:
        protocol.windows()
        blank = np.zeros((1, protocol.window, 64, 64, 3), np.uint8)
    return network(blank).logits is not None
