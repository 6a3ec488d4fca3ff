"""What a call returns: videos, or frames in the layouts that diffusers names."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

import cdcd_video
from cdcd_video.errors import UserError
from cdcd_video.sampled_video import Video
from cdcd_video.sampling.call_names import check_function
from cdcd_video.sampling.latent_pipeline import OnFrame

OutputType = Literal["np", "pil", "pt", "latent"]
OTHER_OUTPUT_TYPES = MappingProxyType(
    {
        **dict.fromkeys(("numpy", "array", "ndarray"), "np"),
        **dict.fromkeys(("tensor", "torch", "pytorch"), "pt"),
        **dict.fromkeys(("image", "images", "pillow"), "pil"),
        **dict.fromkeys(("codes", "latents"), "latent"),
    }
)
"""Words of other libraries for an `OutputType`."""
CallbackOnStepEnd = Callable[[Any, int, int, dict[str, Any]], Mapping[str, Any] | None]
"""(pipeline, step, frame, {"latents": ...}) -> {"latents": ...}; see `on_frame_of`."""
CALLBACK_TENSORS = ("latents",)
"""What `callback_on_step_end` can be given."""


@dataclass(frozen=True)
class VideoOutput:
    """What diffusers' pipelines return: `frames`, always with a batch in front."""

    frames: Any
    """For "np" a float32 array (B, F, H, W, 3) from 0 to 1; for "pt" a tensor (B, F, 3, H, W), likewise; for "pil" a list of
    Pillow images per video; for "latent" codes (B, F, N), or code values (B, F, P, V) of a baseline on those."""
    settings: list[dict[str, Any]]
    """What reproduces each video."""

    def __getitem__(self, index: Any) -> Any:
        """`output[0]` is `frames`."""
        return (self.frames,)[index]


def check_layout(starts: Sequence[UInt8[np.ndarray, "_ _ 3"]], output_type: str | None) -> None:
    """Refuses a layout of one array for videos of several sizes, before anything is sampled.

    Raises:
      UserError: the starting frames have several sizes.
    """
    sizes = list(dict.fromkeys(start.shape[:2] for start in starts))
    if output_type in ("np", "pt", "latent") and len(sizes) > 1:
        found = " and ".join(f"{height}x{width}" for height, width in sizes)
        raise UserError(
            f"the videos have frames of {found} px, and output_type {output_type} puts them into one array; leave it out, or"
            " call once for each size"
        )


def in_layout(videos: Sequence[UInt8[np.ndarray, "F H W 3"]], output_type: str) -> Any:
    """Frames of videos of equal length as `VideoOutput.frames` has them."""
    if output_type == "pil":
        return [Video(frames, 1.0).to_pil() for frames in videos]
    if output_type == "pt":
        return torch.stack([Video(frames, 1.0).to_tensor() for frames in videos])
    return np.stack(videos).astype(np.float32) / 255


def on_frame_of(pipeline: Any, callback: CallbackOnStepEnd | None, names: Any, num_codes: int) -> OnFrame:
    """`callback_on_step_end` as the roll-out calls it. A step is a frame: all reverse steps of a frame lie in one.

    Args:
      pipeline: its first argument.
      callback: gets the pipeline, the step from 0 on, the number of the frame in the video (step + 1, since frame 0 is given)
        and the tensors that `names` lists: `latents`, the frame's codes (B, N), or code values (B, P, V) of a baseline on
        those. Latents that it returns take the place of the sampled ones: they are decoded, and the next frame follows them.
      names: of `CALLBACK_TENSORS`, in a sequence; or one, or None.
      num_codes: codes that it returns are below this.

    Raises:
      UserError: it is no function, or is to be given something else.
    """
    check_function("callback_on_step_end", callback)
    if callback is None:
        return None
    if isinstance(names, str) or names is None:
        names = [names] if names else ()
    if not isinstance(names, Sequence):
        raise UserError(
            f"callback_on_step_end_tensor_inputs is of the type {type(names).__name__}; give a list of names"
        )
    for name in names:
        if name not in CALLBACK_TENSORS:
            raise UserError(f"callback_on_step_end can be given {', '.join(CALLBACK_TENSORS)}, not {name!r}")

    def on_frame(number: int, latents: Tensor) -> Tensor | None:
        given = {name: latents.clone() for name in names}  # what it changes in place counts only if it is returned
        returned = callback(pipeline, number - 1, number, given)
        if returned is None:
            return None
        if not isinstance(returned, Mapping):
            raise UserError(
                f"callback_on_step_end returned {type(returned).__name__}; return a dictionary, such as its last argument"
            )
        replaced = returned.get("latents")
        return None if replaced is None or _is_same(replaced, latents) else _checked(replaced, latents, num_codes)

    return on_frame


def _is_same(replaced: Any, latents: Tensor) -> bool:
    return isinstance(replaced, Tensor) and replaced.shape == latents.shape and bool((replaced == latents).all())


def _checked(replaced: Any, latents: Tensor, num_codes: int) -> Tensor:
    if not isinstance(replaced, Tensor) or replaced.shape != latents.shape or replaced.dtype != latents.dtype:
        found = (
            f"{tuple(replaced.shape)} of {replaced.dtype}" if isinstance(replaced, Tensor) else type(replaced).__name__
        )
        raise UserError(
            f"the latents that callback_on_step_end returned are {found}, and must be {tuple(latents.shape)} of"
            f" {latents.dtype}"
        )
    if not latents.is_floating_point() and not bool(((replaced >= 0) & (replaced < num_codes)).all()):
        raise UserError(
            f"the latents that callback_on_step_end returned are no codes; they go from 0 to {num_codes - 1}"
        )
    if latents.is_floating_point() and not bool(replaced.isfinite().all()):
        raise UserError("the latents that callback_on_step_end returned are not finite")
    return replaced.to(latents.device)


def versions() -> dict[str, str]:
    """What the bits of a video may depend on."""
    return {
        "cdcd_video": cdcd_video.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
