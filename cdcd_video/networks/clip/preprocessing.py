"""Preprocessing of frames for an image tower: size, interpolation, mean and deviation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cdcd_video.errors import UserError
from cdcd_video.networks.clip.clip_files import ClipFiles, read_json

_MODES = {2: "bilinear", 3: "bicubic", "bilinear": "bilinear", "bicubic": "bicubic"}
"""Pillow's numbers, as in preprocessor_config.json, and OpenCLIP's words."""
_LEAST_STD, _MOST_SHIFT = 1e-4, 1e4
"""Far beyond those of pixels in [0, 1], or in 0..255."""


@dataclass(frozen=True)
class Pixels:
    """How frames are prepared."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mode: str = "bicubic"


def pixels_of(files: ClipFiles) -> Pixels:
    """Reads preprocessor_config.json, or the config of an OpenCLIP export.

    Raises:
      UserError: a number is missing, or the interpolation is not supported.
    """
    given = read_json(files.folder / "preprocessor_config.json")
    names = ("image_mean", "image_std", "resample")
    if not given:
        given = read_json(files.folder / "open_clip_config.json").get("preprocess_cfg", {})
        if not isinstance(given, dict):
            raise UserError(f"CLIP folder {files.folder} is damaged (preprocess_cfg is not a mapping); copy it again")
        names = ("mean", "std", "interpolation")
    return _pixels(given, *names, folder=files.folder)


def _pixels(given: dict[str, Any], mean: str, std: str, mode: str, folder: object) -> Pixels:
    means: Any = given.get(mean)
    stds: Any = given.get(std)
    wanted = given.get(mode, "bicubic")
    if given.get("do_normalize", True) is False:
        means, stds = (0.0,) * 3, (1.0,) * 3
    if not isinstance(wanted, (int, str)) or wanted not in _MODES:
        raise UserError(
            f"CLIP folder {folder} asks for the interpolation {wanted!r}; only bilinear and bicubic are supported"
        )
    for name, values in ((mean, means), (std, stds)):
        if not (isinstance(values, (list, tuple)) and len(values) == 3 and all(map(_is_number, values))):
            raise UserError(f"CLIP folder {folder} is damaged ({name} is {values!r}, not three numbers); copy it again")
    if min(stds) < _LEAST_STD:
        raise UserError(f"CLIP folder {folder} is damaged ({std} is {stds!r}; each must be above 0); copy it again")
    return Pixels(_three(means), _three(stds), _MODES[wanted])


def _three(values: Sequence[Any]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _is_number(value: Any) -> bool:
    """Whether it is a usable number; JSON may have NaN, and integers of any length."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _MOST_SHIFT


def resized(images: Float[Tensor, "B 3 H W"], size: tuple[int, int], mode: str) -> Float[Tensor, "B 3 h w"]:
    """Whole frames in [0, 1] at another height and width: not cropped, because every patch of a frame must be encoded.

    As in Pillow, the filter is wider where the frame shrinks (antialiasing), and values are clamped to [0, 1].
    """
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size=size, mode=mode, antialias=True).clamp(0, 1)
