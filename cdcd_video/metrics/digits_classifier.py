"""A small network that names a digit of 28 x 28 pixels, shipped with the package.

It was trained on MNIST's training half by `python -m cdcd_video.tools.train_digit_classifier`; `card.json` beside its weights has
its accuracy on the test half.
"""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, Real
from torch import Tensor, nn

from cdcd_video.errors import UserError
from cdcd_video.storage.memory import raise_if_out_of_memory
from cdcd_video.storage.network_folder import write_network
from cdcd_video.storage.small_file import MIB, read_small
from cdcd_video.storage.tensor_file import check_numbers

FOLDER = Path(__file__).resolve().parents[1] / "models" / "digits_classifier"
WEIGHTS = "classifier.safetensors"
_MOST_BYTES = 4 * MIB
_LAYERS = ((1, 32, 5, 2), (32, 32, 3, 1), (32, 48, 3, 2), (48, 64, 3, 1))
"""Channels before and after each convolution, side of its kernel, and stride."""


class DigitClassifier(nn.Module):
    """Four convolutions and a mean over the picture."""

    def __init__(self):
        super().__init__()
        layers = [
            nn.Sequential(
                nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU()
            )
            for before, after, kernel, stride in _LAYERS
        ]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(_LAYERS[-1][1], 10)

    def forward(self, pictures: Float[Tensor, "B 28 28"]) -> Float[Tensor, "B 10"]:
        """Pictures, white (1) on black (0) -> logits of the digits 0 to 9."""
        return self.head(self.trunk(pictures[:, None]).mean(dim=(2, 3)))


def name_digits(
    pictures: Real[np.ndarray, "B 28 28"], network: DigitClassifier | None = None
) -> Int64[np.ndarray, " B"]:
    """The digit that each picture shows most likely; one that shows none is named, too.

    Args:
      pictures: levels in 0 to 255, white on black.
      network: None for the shipped one.

    Raises:
      UserError: the shipped weights are missing or damaged.
    """
    if not len(pictures):
        return np.zeros(0, dtype=np.int64)
    network = network or shipped()[0]
    with torch.inference_mode():
        return network(torch.from_numpy(pictures.astype(np.float32) / 255)).argmax(dim=1).numpy()


@functools.lru_cache(maxsize=1)
def shipped() -> tuple[DigitClassifier, str]:
    """The shipped network; see `load`."""
    return load(FOLDER)


def load(folder: Path) -> tuple[DigitClassifier, str]:
    """A network with its weights, ready for use, and the sha256 of their file.

    Raises:
      UserError: the file is missing or damaged.
    """
    from safetensors.torch import load as parsed

    path = folder / WEIGHTS
    way_out = "install the package again, or make the file by `python -m cdcd_video.tools.train_digit_classifier`"
    try:
        data = read_small(path, limit=_MOST_BYTES)
        network = DigitClassifier()
        network.load_state_dict(parsed(data))
    except Exception as error:  # a damaged file can raise anything
        raise_if_out_of_memory(error)
        raise UserError(f"{path} is missing or damaged ({type(error).__name__}); {way_out}") from error
    check_numbers(network.state_dict(), str(path), way_out)
    return network.eval().requires_grad_(False), hashlib.sha256(data).hexdigest()


def save(network: DigitClassifier, card: Mapping[str, Any], folder: Path) -> Path:
    """Writes the weights, and the card beside them; returns the path of the weights; see `write_network`."""
    return write_network(network, card, folder / WEIGHTS)
