"""Feature networks by name: pixels in, features and class logits out, with the hash of the weights.

| name | input | features | classes |
|---|---|---|---|
| `inception` | frames | 2048, FID's | 1008, for IS |
| `i3d`, `i3d:videogpt` | videos | 400 logits, FVD's | 400, for a video IS |
| `videomae`, `videomae:FOLDER` | videos | mean token of the last layer, for content-debiased FVD | the folder's, if any |
| `vjepa2`, `vjepa2:FOLDER` | videos | output of the attentive pooler, else mean token, for JEDi | the folder's, if any |
| `flow-histograms` | videos | 64 histogram bins of optical flow; no network | none |
| `clip:FOLDER` | frames | unit-norm image embedding | none |
| `sprites-frame`, `sprites-video` | frames, videos | 96 | 32 objects, 16 motions |
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cdcd_video.errors import UserError
from cdcd_video.metrics.features import feature_weights, flow_histograms, i3d, offline
from cdcd_video.networks.clip.clip_files import check_plain, sha256_of
from cdcd_video.storage.memory import raise_if_out_of_memory
from cdcd_video.storage.tensor_file import check_numbers

InputKind = Literal["frames", "videos"]
PREFERRED: dict[InputKind, tuple[str, str]] = {
    "frames": ("inception", "sprites-frame"),
    "videos": ("i3d", "sprites-video"),
}
"""The network that `auto` means: the first if its weights are here, else the second, which is built in."""


@dataclass(frozen=True)
class NetworkOutput:
    """Features and logits of n frames or videos."""

    features: Float[np.ndarray, "n D"]
    """float64."""
    logits: Float[np.ndarray, "n K"] | None
    """float64; None where the network has no classes."""


@dataclass(frozen=True)
class FeatureNetwork:
    """A frozen network for frames (n, H, W, 3) or videos (n, F, H, W, 3) in uint8."""

    name: str
    input_kind: InputKind
    digest: str
    """sha256 of the weights."""
    run: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    """uint8 batch on `device` -> features and logits."""
    device: torch.device
    batch_size: int
    """Frames or videos at a time; the result does not depend on it beyond rounding."""
    least_frames: int = 1
    most_frames: int | None = None
    short_frames: int | None = None
    """Length of the shorter windows that give a curve along a video of one window; None where there are none."""

    @torch.inference_mode()
    def __call__(self, pixels: UInt8[np.ndarray, "n *F H W 3"]) -> NetworkOutput:
        """Features of n frames or videos.

        Raises:
          UserError: the videos are shorter or longer than the network takes.
        """
        assert pixels.dtype == np.uint8 and pixels.ndim == {"frames": 4, "videos": 5}[self.input_kind] and len(pixels)
        if self.input_kind == "videos":
            num_frames, most = pixels.shape[1], self.most_frames or pixels.shape[1]
            if num_frames != self.short_frames and not self.least_frames <= num_frames <= most:
                wanted = f"{self.least_frames}" + ("" if self.most_frames else " or more")
                raise UserError(f"{self.name} takes {wanted} frames, not {num_frames}; choose another --window")
        outputs = [
            self.run(torch.from_numpy(pixels[begin : begin + self.batch_size].copy()).to(self.device))
            for begin in range(0, len(pixels), self.batch_size)
        ]
        features = torch.cat([output[0] for output in outputs]).double().cpu().numpy()
        logits = [output[1] for output in outputs if output[1] is not None]
        return NetworkOutput(features, torch.cat(logits).double().cpu().numpy() if logits else None)


def preferred(kind: InputKind) -> str:
    """The network that `auto` means: the usual one if its weights are here, else the built-in one."""
    field, built_in = PREFERRED[kind]
    return field if feature_weights.is_here(field) else built_in


def load(name: str, device: str | torch.device = "cpu") -> FeatureNetwork:
    """A network by its name.

    Args:
      name: see the table above.
      device: where it runs.

    Raises:
      UserError: there is no such network, or its weights are not here.
    """
    kind, _, detail = name.partition(":")
    if kind not in _LOADERS or (detail and kind in _WITHOUT_DETAIL):
        known = "inception, i3d, i3d:videogpt, videomae, videomae:FOLDER, vjepa2, vjepa2:FOLDER, clip:FOLDER, "
        known += ", ".join((flow_histograms.NAME, *offline.NETWORKS))
        raise UserError(f"there is no feature network {name!r}; choose one of {known}")
    return _LOADERS[kind](name, detail, torch.device(device))


def _load_inception(name: str, detail: str, device: torch.device) -> FeatureNetwork:
    """torch-fidelity's Inception with TensorFlow 1's resize, as pytorch-fid and torchmetrics use it."""
    state = feature_weights.read("inception")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # It unpickles any file that it is given, so it gets one that is written here, from checked tensors.
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    network = FeatureExtractorInceptionV3(name, ["2048", "logits_unbiased"], feature_extractor_weights_path=file)
    network.to(device)

    def run(frames: Tensor) -> tuple[Tensor, Tensor]:
        return network(frames.permute(0, 3, 1, 2))

    return FeatureNetwork(name, "frames", feature_weights.WEIGHTS["inception"].sha256, run, device, batch_size=32)


def _load_i3d(name: str, detail: str, device: torch.device) -> FeatureNetwork:
    resize = detail or "stylegan-v"
    if resize not in i3d.RESIZES:
        raise UserError(f"i3d has no resize {resize!r}; choose one of {', '.join(i3d.RESIZES)}")
    network = i3d.I3D()
    network.load_state_dict(feature_weights.read("i3d"))
    network.to(device).eval().requires_grad_(False)

    def run(videos: Tensor) -> tuple[Tensor, Tensor]:
        logits = network(i3d.RESIZES[resize](videos))
        return logits, logits

    digest = feature_weights.WEIGHTS["i3d"].sha256
    return FeatureNetwork(name, "videos", digest, run, device, batch_size=4, least_frames=i3d.LEAST_FRAMES)


def _load_videomae(name: str, folder: str, device: torch.device) -> FeatureNetwork:
    """VideoMAE (Tong et al. 2022), whose features depend more on motion than I3D's (Ge et al. 2024)."""
    network, has_classes, digest = _pretrained("videomae", "VideoMAE", folder, device)
    side, num_frames = network.config.image_size, network.config.num_frames

    def run(videos: Tensor) -> tuple[Tensor, Tensor | None]:
        out = network(pixel_values=_for_imagenet(videos, side), output_hidden_states=has_classes)
        last = out.hidden_states[-1] if has_classes else out.last_hidden_state
        return last.mean(dim=1), out.logits if has_classes else None

    return FeatureNetwork(name, "videos", digest, run, device, 4, least_frames=num_frames, most_frames=num_frames)


def _load_vjepa2(name: str, folder: str, device: torch.device) -> FeatureNetwork:
    """V-JEPA 2 (Assran et al. 2025), the successor of the network of JEDi (Luo et al. 2024), which attends to motion likewise."""
    network, has_classes, digest = _pretrained("vjepa2", "VJEPA2", folder, device)
    side, num_frames = network.config.crop_size, network.config.frames_per_clip

    def run(videos: Tensor) -> tuple[Tensor, Tensor | None]:
        pixels = _for_imagenet(videos, side)
        if not has_classes:
            return network(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state.mean(dim=1), None
        tokens = network.vjepa2(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state
        pooled = network.pooler(tokens)
        return pooled, network.classifier(pooled)

    return FeatureNetwork(name, "videos", digest, run, device, 4, least_frames=num_frames, most_frames=num_frames)


def _pretrained(kind: str, title: str, folder: str, device: torch.device) -> tuple[Any, bool, str]:
    """A network of transformers from its folder, frozen; whether it has classes; the sha256 of its weights."""
    home = Path(folder or feature_weights.folder() / kind)
    missing = [file for file in ("config.json", "model.safetensors") if not (home / file).is_file()]
    if missing:
        raise UserError(
            f"{kind} needs {' and '.join(missing)} in {home}: put a folder there that {title}'s save_pretrained wrote,"
            f" with safetensors weights, or name it by {kind}:FOLDER; sprites-video needs no download"
        )
    check_plain(home)
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(home, local_files_only=True)
        with_classes = f"{title}ForVideoClassification"
        has_classes = with_classes in (config.architectures or ())
        kind_of_network = getattr(transformers, with_classes if has_classes else f"{title}Model")
        network = kind_of_network.from_pretrained(
            home, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
        network.to(device).eval().requires_grad_(False)
    except Exception as error:  # a broken file can raise anything
        raise_if_out_of_memory(error)
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{home} does not hold a {title} ({why}); copy it again") from error
    check_numbers(network.state_dict(), f"{home}/model.safetensors", "copy it again")
    return network, has_classes, sha256_of(home / "model.safetensors")


def _for_imagenet(videos: Tensor, side: int) -> Tensor:
    """uint8 videos (B, F, H, W, 3), resized and normalised, as (B, F, 3, side, side)."""
    mean, std = (torch.tensor(values, device=videos.device).view(3, 1, 1) for values in (_IMAGENET_MEAN, _IMAGENET_STD))
    frames = videos.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
    frames = nn.functional.interpolate(frames, size=(side, side), mode="bilinear", antialias=True)
    return ((frames - mean) / std).unflatten(0, videos.shape[:2])


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _load_clip(name: str, folder: str, device: torch.device) -> FeatureNetwork:
    if not folder:
        raise UserError("clip needs a folder that CLIPModel.save_pretrained wrote; name it by clip:FOLDER")
    from cdcd_video.networks.clip import FrozenClip

    clip = FrozenClip(folder).to(device)
    if clip.stand_in:
        raise UserError(f"{name} cannot be used for metrics: {clip.stand_in}")

    def run(frames: Tensor) -> tuple[Tensor, None]:
        return clip.encode_image(frames.permute(0, 3, 1, 2).float() / 255, ()).embedding, None

    return FeatureNetwork(name, "frames", clip.digest, run, device, batch_size=64)


def _load_offline(name: str, detail: str, device: torch.device) -> FeatureNetwork:
    network, digest = offline.load(name)
    network.to(device)

    def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = network(offline.as_pixels(pixels))
        return features, logits[network.classes]

    if name == "sprites-frame":
        return FeatureNetwork(name, "frames", digest, run, device, batch_size=256)
    only, short = offline.NUM_FRAMES, offline.SHORT_FRAMES
    return FeatureNetwork(name, "videos", digest, run, device, 16, only, only, short)


def _load_flow(name: str, detail: str, device: torch.device) -> FeatureNetwork:
    """Computed on the CPU, wherever networks run."""
    how = (flow_histograms.DIGEST, flow_histograms.run, torch.device("cpu"), 16)
    return FeatureNetwork(
        name, "videos", *how, least_frames=flow_histograms.LEAST_FRAMES, short_frames=flow_histograms.SHORT_FRAMES
    )


_WITHOUT_DETAIL = ("inception", flow_histograms.NAME, *offline.NETWORKS)
_LOADERS: dict[str, Callable[[str, str, torch.device], FeatureNetwork]] = {
    "inception": _load_inception,
    "i3d": _load_i3d,
    "videomae": _load_videomae,
    "vjepa2": _load_vjepa2,
    "clip": _load_clip,
    flow_histograms.NAME: _load_flow,
    **dict.fromkeys(offline.NETWORKS, _load_offline),
}


# Pairs of frames ----------------------------------------------------------------------------------------------------


def lpips(
    trunk: Literal["alex", "vgg"] = "alex", device: str | torch.device = "cpu"
) -> Callable[[UInt8[np.ndarray, "n H W 3"], UInt8[np.ndarray, "n H W 3"]], Float[np.ndarray, " n"]]:
    """Learned perceptual distance of pairs of frames, from 0 for equal ones; see `lpips_network`.

    Raises:
      UserError: the trunk's weights are not here.
    """
    return partial(_pairs, lpips_network(trunk, device), torch.device(device))


def lpips_network(trunk: Literal["alex", "vgg"], device: str | torch.device) -> nn.Module:
    """LPIPS (Zhang et al. 2018): two batches of frames in [-1, 1] -> a distance for each pair (B, 1, 1, 1); frozen.

    The linear heads are those in torchmetrics (version 0.1); the trunk's weights come from a file, see `weights`.

    Raises:
      UserError: the trunk's weights are not here.
    """
    if trunk not in ("alex", "vgg"):
        raise UserError(f"lpips has no trunk {trunk!r}; there are alex and vgg")
    state = feature_weights.read(f"lpips-{trunk}")
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    network = _NoTrainLpips(net=trunk, pnet_rand=True)
    # Its slices number their layers as torchvision's `features` do.
    network.net.load_state_dict(_in_slices(state, network.net))
    return network.to(device).eval().requires_grad_(False)


def _in_slices(state: dict[str, Tensor], trunk: nn.Module) -> dict[str, Tensor]:
    return {key: state[f"features.{key.split('.', 1)[1]}"] for key in trunk.state_dict()}


@torch.inference_mode()
def _pairs(network: nn.Module, device: torch.device, sampled: np.ndarray, true: np.ndarray) -> np.ndarray:
    values = []
    for begin in range(0, len(sampled), 32):
        pair = [torch.from_numpy(side[begin : begin + 32].copy()).to(device) for side in (sampled, true)]
        values.append(network(*(side.permute(0, 3, 1, 2).float() / 127.5 - 1 for side in pair)).flatten())
    return torch.cat(values).double().cpu().numpy()
