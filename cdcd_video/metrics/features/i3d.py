"""I3D, the network behind FVD: Inception-v1 with every filter inflated by a time axis.

Written from the paper (Carreira & Zisserman 2017, fig. 3, and the table of Szegedy et al. 2015 that it inflates).
Parameters bear the names of the public checkpoint `i3d_pretrained_400.pt`, a conversion of the TensorFlow Hub module
`deepmind/i3d-kinetics-400/1` that FVD was defined with (Unterthiner et al. 2018).
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

NUM_CLASSES = 400
SIZE_PX = 224
LEAST_FRAMES = 9
"""With fewer, nothing is left to average over after the strides."""

_EPS = 1e-3  # of the module on TensorFlow Hub; some PyTorch copies normalise with 1e-5, and so report other FVDs

# Channels of each block's branches: 1x1; 1x1 then 3x3; 1x1 then 3x3; 1x1 after the pool.
_MIXED = {
    "Mixed_3b": (64, (96, 128), (16, 32), 32),
    "Mixed_3c": (128, (128, 192), (32, 96), 64),
    "Mixed_4b": (192, (96, 208), (16, 48), 64),
    "Mixed_4c": (160, (112, 224), (24, 64), 64),
    "Mixed_4d": (128, (128, 256), (24, 64), 64),
    "Mixed_4e": (112, (144, 288), (32, 64), 64),
    "Mixed_4f": (256, (160, 320), (32, 128), 128),
    "Mixed_5b": (256, (160, 320), (32, 128), 128),
    "Mixed_5c": (384, (192, 384), (48, 128), 128),
}


class I3D(nn.Module):
    """RGB video -> logits of the 400 Kinetics classes, which are FVD's features."""

    def __init__(self):
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, 7, stride=2)
        self.MaxPool3d_2a_3x3 = _SamePool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = _Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = _Unit(64, 192, 3)
        self.MaxPool3d_3a_3x3 = _SamePool((1, 3, 3), (1, 2, 2))
        self.Mixed_3b = _Mixed(192, *_MIXED["Mixed_3b"])
        self.Mixed_3c = _Mixed(256, *_MIXED["Mixed_3c"])
        self.MaxPool3d_4a_3x3 = _SamePool((3, 3, 3), (2, 2, 2))
        self.Mixed_4b = _Mixed(480, *_MIXED["Mixed_4b"])
        self.Mixed_4c = _Mixed(512, *_MIXED["Mixed_4c"])
        self.Mixed_4d = _Mixed(512, *_MIXED["Mixed_4d"])
        self.Mixed_4e = _Mixed(512, *_MIXED["Mixed_4e"])
        self.Mixed_4f = _Mixed(528, *_MIXED["Mixed_4f"])
        self.MaxPool3d_5a_2x2 = _SamePool((2, 2, 2), (2, 2, 2))
        self.Mixed_5b = _Mixed(832, *_MIXED["Mixed_5b"])
        self.Mixed_5c = _Mixed(832, *_MIXED["Mixed_5c"])
        self.logits = nn.Module()
        self.logits.conv3d = nn.Conv3d(1024, NUM_CLASSES, 1)

    def forward(self, video: Float[Tensor, "B 3 F 224 224"]) -> Float[Tensor, "B 400"]:
        """Logits, averaged over time.

        Args:
          video: in [-1, 1], at least `LEAST_FRAMES` frames; FVD is usually computed on 16.
        """
        states = video
        for name, stage in self.named_children():
            if name != "logits":
                states = stage(states)
        pooled = F.avg_pool3d(states, (2, 7, 7), stride=1)
        return self.logits.conv3d(pooled).mean(dim=(2, 3, 4))


class _Unit(nn.Module):
    """Convolution with TensorFlow's SAME padding, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out_channels, eps=_EPS)

    def forward(self, states: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv3d(pad_same(states, self.conv3d.kernel_size, self.conv3d.stride))))


class _SamePool(nn.Module):
    """Max pooling with SAME padding; what is pooled is never negative, so padding with 0 changes no maximum."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, states: Tensor) -> Tensor:
        return F.max_pool3d(pad_same(states, self.kernel, self.stride), self.kernel, self.stride)


class _Mixed(nn.Module):
    """Inception block: four branches side by side."""

    def __init__(self, width: int, ones: int, threes: tuple[int, int], more: tuple[int, int], pooled: int):
        super().__init__()
        self.b0 = _Unit(width, ones, 1)
        self.b1a, self.b1b = _Unit(width, threes[0], 1), _Unit(threes[0], threes[1], 3)
        self.b2a, self.b2b = _Unit(width, more[0], 1), _Unit(more[0], more[1], 3)
        self.b3a, self.b3b = _SamePool((3, 3, 3), (1, 1, 1)), _Unit(width, pooled, 1)

    def forward(self, states: Tensor) -> Tensor:
        branches = (self.b0(states), self.b1b(self.b1a(states)), self.b2b(self.b2a(states)))
        return torch.cat([*branches, self.b3b(self.b3a(states))], dim=1)


def pad_same(states: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Pads the last axes with zeros so that each comes out as ceil(size / stride); an odd zero goes behind, as in TF."""
    pads = []
    for size, wide, step in zip(
        reversed(states.shape[-len(kernel) :]), reversed(kernel), reversed(stride), strict=True
    ):
        missing = max((math.ceil(size / step) - 1) * step + wide - size, 0)
        pads += [missing // 2, missing - missing // 2]
    return F.pad(states, pads) if any(pads) else states


# What the network is shown ------------------------------------------------------------------------------------------


def squash(video: UInt8[Tensor, "B F H W 3"]) -> Float[Tensor, "B 3 F 224 224"]:
    """The habit of StyleGAN-V's and TATS's FVD: the whole frame becomes a square, whatever its aspect."""
    return _resized(video, SIZE_PX, SIZE_PX)


def crop(video: UInt8[Tensor, "B F H W 3"]) -> Float[Tensor, "B 3 F 224 224"]:
    """The habit of VideoGPT's FVD: the short side becomes 224, then the middle is cut out."""
    height, width = video.shape[2:4]
    scale = SIZE_PX / min(height, width)
    sides = [SIZE_PX if side == min(height, width) else math.ceil(side * scale) for side in (height, width)]
    frames = _resized(video, *sides)
    top, left = ((side - SIZE_PX) // 2 for side in sides)
    return frames[..., top : top + SIZE_PX, left : left + SIZE_PX]


RESIZES: dict[str, Callable[[Tensor], Tensor]] = {"stylegan-v": squash, "videogpt": crop}
"""How frames are brought to 224 px, by the name of the code whose FVDs are so computed.

Both interpolate between the four nearest pixels (bilinear, `align_corners=False`, no antialiasing) and agree on square
frames. TensorFlow 1, with which FVD was published, laid the pixel grid half a pixel differently.
"""


def _resized(video: Tensor, height: int, width: int) -> Tensor:
    frames = video.flatten(0, 1).permute(0, 3, 1, 2).float()
    frames = F.interpolate(frames, size=(height, width), mode="bilinear", align_corners=False)
    return (frames / 127.5 - 1).unflatten(0, video.shape[:2]).transpose(1, 2)
