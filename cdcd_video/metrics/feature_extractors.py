"""The networks whose features metrics need: loaded before anything is sampled, each with the hash of its weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, UInt8

from cdcd_video.errors import UserError
from cdcd_video.metrics import digits_classifier
from cdcd_video.metrics.features import feature_weights, flow_histograms, networks
from cdcd_video.metrics.features.networks import FeatureNetwork
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.scores import METRICS, SETS
from cdcd_video.networks.clip import FrozenClip

LPIPS = "lpips-alex"
CLIP_METRICS = ("clip_text", "clip_first", "smoothness")
"""Built-in metrics that use CLIP."""


@dataclass(frozen=True)
class FeatureExtractors:
    """The networks that the metrics of one evaluation need."""

    networks: Mapping[str, FeatureNetwork] = field(default_factory=dict)
    """By the kinds in `scores.SETS`."""
    lpips: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    clip: "ClipEncoder | None" = None
    features: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Name and digest of the weights that each metric uses, where it uses some."""


class ClipEncoder:
    """A CLIP that embeds frames and captions in its joint space; every embedding has length 1."""

    def __init__(self, clip: FrozenClip):
        self.clip = clip

    @torch.inference_mode()
    def encode_image(self, frames: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, "F J"]:
        """Embeddings of frames."""
        pixels = torch.from_numpy(frames).to(self.clip.mean.device).permute(0, 3, 1, 2).float().div(255)
        return self.clip.encode_image(pixels, ()).embedding.double().cpu().numpy()

    @torch.inference_mode()
    def encode_text(self, caption: str) -> Float[np.ndarray, " J"]:
        """Embedding of a caption, truncated to what the tower takes."""
        return self.clip.encode_text([caption]).embedding[0].double().cpu().numpy()


def settle_networks(protocol: Protocol) -> Protocol:
    """The protocol with `auto` replaced by the networks that are used on this machine."""
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
    """Loads the networks that the metrics need.

    Args:
      metrics: some of `scores.METRICS`.
      protocol: with its networks settled.
      clip: makes the CLIP that some metrics use; called only if one of them is measured.
      device: where everything runs.

    Raises:
      UserError: weights are missing (the message names file, hash, place and an alternative); a network of frames is named for
        videos, or the reverse; it has no classes, for the scores that need them; or it does not take windows of this length.
    """
    names = {"frame": protocol.frame_network, "video": protocol.video_network, "debiased": "videomae"}
    names |= {"flow": flow_histograms.NAME, "jepa": "vjepa2"}
    found: dict[str, FeatureNetwork] = {}
    features: dict[str, tuple[str, str]] = {}
    for metric in (name for name in metrics if name in SETS):
        kind = SETS[metric]
        if kind not in found:
            found[kind] = networks.load(names[kind], device)
            has_classes = _check_network(found[kind], metric, protocol)
        if metric.endswith("is") and not has_classes:
            raise UserError(
                f"{metric} needs a classifier, and {names[kind]} has no classes; leave out {metric}, or choose another network"
            )
        features[metric] = (found[kind].name, found[kind].digest)
    encoder = None
    through_clip = [metric for metric in metrics if METRICS[metric].needs_clip]
    if through_clip:
        assert clip is not None
        encoder = ClipEncoder(clip().to(torch.device(device)))
        scores = [score for metric in (*CLIP_METRICS, *through_clip) for score in METRICS[metric].scores]
        features |= dict.fromkeys(scores, (f"clip-{encoder.clip.digest[:8]}", encoder.clip.digest))
    if "digits" in metrics:
        named = ("digits-classifier", digits_classifier.shipped()[1])
        features |= dict.fromkeys(("digit_identity", "digit_identity_end", "distractor_identity"), named)
    lpips = None
    if "lpips" in metrics:
        lpips = networks.lpips("alex", device)
        features["lpips"] = (LPIPS, feature_weights.WEIGHTS[LPIPS].sha256)
    return FeatureExtractors(found, lpips, encoder, features)


def digest_of(name: str) -> str | None:
    """The hash of a network's weights, whether or not they are needed; None where they are missing."""
    kind = name.partition(":")[0]
    if kind in feature_weights.WEIGHTS:
        return feature_weights.WEIGHTS[kind].sha256
    try:
        return networks.load(name).digest
    except UserError:
        return None


def _check_network(network: FeatureNetwork, metric: str, protocol: Protocol) -> bool:
    """Runs a network on one blank frame or window, so that errors come early; returns whether it has classes."""
    wanted = "frames" if SETS[metric] == "frame" else "videos"
    if network.input_kind != wanted:
        raise UserError(
            f"{network.name} takes {network.input_kind}, but {metric} is computed on {wanted}; choose another network"
        )
    if wanted == "frames":
        blank = np.zeros((1, 64, 64, 3), np.uint8)
    else:
        protocol.windows()
        blank = np.zeros((1, protocol.window, 64, 64, 3), np.uint8)
    return network(blank).logits is not None
