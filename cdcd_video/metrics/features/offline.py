"""Small feature networks for the built-in world, shipped with the package: distances that need no download.

`sprites-frame` takes one frame, `sprites-video` 16. They were trained on sprites with true labels by
`python -m cdcd_video.tools.train_features`, and say little about other videos.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cdcd_video.errors import UserError
from cdcd_video.storage.memory import raise_if_out_of_memory
from cdcd_video.storage.small_file import MIB, read_small
from cdcd_video.storage.tensor_file import MOST_IN_16_BITS, check_numbers

FOLDER = Path(__file__).resolve().parents[2] / "models" / "features"
SIZE_PX = 64
NUM_FRAMES, SHORT_FRAMES = 16, 8
"""The length that `sprites-video` was trained on, and the shortest windows for which its distances are useful."""
NUM_FEATURES = 96
_MOST_BYTES = 64 * MIB

FRAME_HEADS = {"identity": 32, "background": 5}
"""Classes: colour and shape of an object, and the kind of background."""
VIDEO_HEADS = {"motion": 16, **FRAME_HEADS}


class _Classifier(nn.Module):
    """A trunk whose last states, averaged over space and time, are the features; one linear head per label."""

    def __init__(self, trunk: nn.Module, heads: Mapping[str, int]):
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict({name: nn.Linear(NUM_FEATURES, classes) for name, classes in heads.items()})

    def forward(self, pixels: Tensor) -> tuple[Float[Tensor, "B D"], dict[str, Tensor]]:
        """Pixels in [-1, 1] -> features and each head's logits."""
        features = self.trunk(pixels).flatten(2).mean(dim=2)
        return features, {name: head(features) for name, head in self.heads.items()}


class FrameNetwork(_Classifier):
    """Frames (B, 3, 64, 64) -> features; the classes are the objects' colours and shapes."""

    classes = "identity"

    def __init__(self):
        sizes = ((3, 32, 5, 2), (32, 48, 3, 2), (48, 64, 3, 2), (64, NUM_FEATURES, 3, 1))
        layers = [
            nn.Sequential(
                nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU()
            )
            for before, after, kernel, stride in sizes
        ]
        super().__init__(nn.Sequential(*layers), FRAME_HEADS)


class VideoNetwork(_Classifier):
    """Videos (B, 3, 16, 64, 64) -> features; the classes are the objects' motions.

    Its input has each frame beside its difference from the one before, because most pixels do not move.
    """

    classes = "motion"

    def __init__(self):
        sizes = ((6, 16, (1, 5, 5), (1, 2, 2)), (16, 32, 3, 2), (32, 64, 3, 2), (64, NUM_FEATURES, 3, 2))
        layers = [
            nn.Sequential(
                nn.Conv3d(before, after, kernel, stride, (0, 2, 2) if before == 6 else 1, bias=False),
                nn.BatchNorm3d(after),
                nn.ReLU(),
            )
            for before, after, kernel, stride in sizes
        ]
        super().__init__(nn.Sequential(*layers), VIDEO_HEADS)

    def forward(self, pixels: Tensor) -> tuple[Float[Tensor, "B D"], dict[str, Tensor]]:
        change = F.pad(pixels[:, :, 1:] - pixels[:, :, :-1], (0, 0, 0, 0, 1, 0))
        return super().forward(torch.cat([pixels, change], dim=1))


NETWORKS: dict[str, type[FrameNetwork] | type[VideoNetwork]] = {
    "sprites-frame": FrameNetwork,
    "sprites-video": VideoNetwork,
}


def load(name: str, folder: Path = FOLDER) -> tuple[nn.Module, str]:
    """One of `NETWORKS` with its weights from `folder`, ready for use, and the sha256 of their file.

    Raises:
      UserError: the file is missing or damaged.
    """
    from safetensors.torch import load as parsed

    path = folder / f"{name}.safetensors"
    way_out = "install the package again, or make the file by `python -m cdcd_video.tools.train_features`"
    try:
        data = read_small(path, limit=_MOST_BYTES)
        network = NETWORKS[name]()
        network.load_state_dict({key: values.float() for key, values in parsed(data).items()})
    except Exception as error:  # a damaged file can raise anything
        raise_if_out_of_memory(error)
        raise UserError(f"{path} is missing or damaged ({type(error).__name__}); {way_out}") from error
    check_numbers(network.state_dict(), str(path), way_out)
    return network.eval().requires_grad_(False), hashlib.sha256(data).hexdigest()


def save(network: nn.Module, name: str, folder: Path) -> Path:
    """Writes a network's weights in 16 bits.

    Raises:
      UserError: a weight is not finite, or too large for 16 bits; nothing is written.
    """
    way_out = "nothing was written; train it with a lower learning rate"
    check_numbers(network.state_dict(), f"the new network {name}", way_out, MOST_IN_16_BITS)
    from safetensors.torch import save as serialised

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    state = {key: values for key, values in network.state_dict().items() if values.is_floating_point()}
    path.write_bytes(serialised({key: values.half().contiguous() for key, values in state.items()}))
    return path


def as_pixels(frames: UInt8[Tensor, "B *F H W 3"]) -> Tensor:
    """Frames of any size as input of the networks: (B, 3, *F, 64, 64) in [-1, 1]."""
    pixels = frames.movedim(-1, 1).float() / 127.5 - 1
    if pixels.shape[-2:] != (SIZE_PX, SIZE_PX):
        flat = pixels.movedim(1, -3).flatten(0, -4)
        flat = F.interpolate(flat, size=(SIZE_PX, SIZE_PX), mode="bilinear", antialias=True)
        pixels = flat.unflatten(0, pixels.movedim(1, -3).shape[:-3]).movedim(-3, 1)
    return pixels.contiguous()
