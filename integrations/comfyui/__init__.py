"""ComfyUI nodes: load a model, and sample videos from images and a sentence. README.md says how to install them."""

from typing import Any, get_args

import comfy.model_management
import comfy.utils
import torch

from cdcd_video import ImageToVideo
from cdcd_video.config.ranges import RANGES
from cdcd_video.config.value_types import FitMode
from cdcd_video.errors import UserError, notes_on_stderr
from cdcd_video.sampling.captions import parse_lines
from cdcd_video.sampling.model_hub import find_model
from cdcd_video.sampling.start_images import pixels

MODEL = "CDCD_VIDEO_MODEL"
OWN = "the model's own"
NUM_SEEDS = RANGES["seed"].high + 1


class LoadModel:
    """Loads a model; ComfyUI keeps it as long as it keeps the output of this node."""

    CATEGORY, FUNCTION = "video/cdcd", "load"
    RETURN_TYPES = (MODEL,)
    DESCRIPTION = "A model of cdcd_video. Nothing is downloaded: a model of the Hub must be in its cache."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        tooltip = "A shipped model, a model or run folder, or owner/name of the Hub."
        return {"required": {"name": ("STRING", {"default": "sprites", "tooltip": tooltip})}}

    @classmethod
    def IS_CHANGED(cls, name: str | None) -> str | float:
        """Changes when a file of the model does, so that a model that was trained on is loaded again.

        A name that comes from another node is None here: ComfyUI asks before that node has run. No value equals nan.
        """
        if name is None:
            return float("nan")
        files = sorted(find_model(name, local_files_only=True).rglob("*"))
        try:
            return str([(file.name, file.stat().st_mtime_ns) for file in files])
        except FileNotFoundError:  # replaced at this moment, as by a training
            return float("nan")

    def load(self, name: str) -> tuple[ImageToVideo]:
        device = comfy.model_management.get_torch_device()
        return (ImageToVideo.from_pretrained(name, device=device, local_files_only=True),)


class SampleVideo:
    """Samples a video of every image of a batch."""

    CATEGORY, FUNCTION = "video/cdcd", "sample"
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "FLOAT"), ("video", "fps")
    OUTPUT_IS_LIST = (True, False)
    DESCRIPTION = (
        "An image and a sentence give the frames of a video. Of a batch of images each gives a video of its own."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        zero = f"0: {OWN}."
        lines = "What happens. A line such as '8: it stops' holds from frame 8 on."
        seed = f"Seeds from {NUM_SEEDS} on give the same as those from 0 on."
        fit = "What becomes of an image of another shape than the model's frames."
        hidden = "Where it is 1, the image is transparent and becomes white."
        return {
            "required": {
                "model": (MODEL,),
                "image": ("IMAGE",),
                "text": ("STRING", {"multiline": True, "dynamicPrompts": True, "tooltip": lines}),
                "num_frames": ("INT", {"default": 16, **_limits("num_frames")}),
                "seed": (
                    "INT",
                    {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True, "tooltip": seed},
                ),
                "fit": ([OWN, *get_args(FitMode)], {"tooltip": fit}),
            },
            "optional": {
                "mask": ("MASK", {"tooltip": hidden}),
                "fps": ("FLOAT", {"default": 0.0, **_limits("fps", low=0.0), "step": 0.01, "tooltip": zero}),
                "num_steps": ("INT", {"default": 0, **_limits("num_steps", low=0), "tooltip": zero}),
                "guidance": ("FLOAT", {"default": 0.0, **_limits("guidance", low=0.0), "step": 0.01, "tooltip": zero}),
            },
        }

    def sample(
        self,
        model: ImageToVideo,
        image: torch.Tensor,
        text: str,
        num_frames: int,
        seed: int,
        fit: str,
        mask: torch.Tensor | None = None,
        fps: float = 0.0,
        num_steps: int = 0,
        guidance: float = 0.0,
    ) -> tuple[list[torch.Tensor], float]:
        """Samples.

        Args:
          image: (B, H, W, C), floats from 0 to 1; or (H, W, C).
          mask: (B, H, W) or (1, H, W), of any size; or (H, W), as some nodes give it.

        Returns:
          A float32 tensor (F, H, W, 3) from 0 to 1 for each image, and the frames per second.
        """
        how = None if fit == OWN else fit
        starts = [model.sizes.fitted(pixels(one), how)[0] for one in with_alpha(image, mask).numpy()]
        bar = comfy.utils.ProgressBar(len(starts) * (num_frames - 1))

        def after_frame(num: int) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            bar.update(num)

        given = {"fps": fps or None, "num_steps": num_steps or None, "guidance": guidance or None}
        given |= {"num_frames": num_frames, "seed": seed % NUM_SEEDS}
        with notes_on_stderr():  # else Python would show a note once, and not for the next video
            found = model(starts, parse_lines(text), **given, output_type="np", progress=after_frame)
        return [torch.from_numpy(frames) for frames in found.frames], found.settings[0]["fps"]


def with_alpha(image: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Images on the CPU as float32 (B, H, W, C); with a mask, its opposite is the fourth channel.

    Values a little outside of 0 to 1, as other nodes leave them, are cut off.
    """
    image = image[None] if image.ndim == 3 else image
    if image.ndim != 4:
        raise UserError(f"the images have the shape {tuple(image.shape)}; give (images, height, width, channels)")
    image = image.float().cpu().clamp(0, 1)
    if mask is None:
        return image
    mask = mask[None] if mask.ndim == 2 else mask[:, 0] if mask.ndim == 4 and mask.shape[1] == 1 else mask
    if mask.ndim != 3:
        raise UserError(f"the masks have the shape {tuple(mask.shape)}; give (masks, height, width)")
    if len(mask) not in (1, len(image)):
        raise UserError(f"there are {len(mask)} masks for {len(image)} images; give one of each, or one mask for all")
    # Without transparency, LoadImage gives a mask of zeros that has a size of its own.
    alpha = 1 - torch.nn.functional.interpolate(mask.float().cpu()[:, None], image.shape[1:3], mode="bilinear")
    alpha = alpha.movedim(1, -1).clamp(0, 1).expand(*image.shape[:3], 1)
    return torch.cat([image[..., :3], alpha], dim=-1)


def _limits(name: str, low: float | None = None) -> dict[str, float]:
    """The range of a widget; `low` in place of the least value."""
    return {"min": RANGES[name].low if low is None else low, "max": RANGES[name].high}


NODE_CLASS_MAPPINGS = {"CDCDVideoLoadModel": LoadModel, "CDCDVideoSample": SampleVideo}
NODE_DISPLAY_NAME_MAPPINGS = {
    "CDCDVideoLoadModel": "Load Model (CDCD Video)",
    "CDCDVideoSample": "Image to Video (CDCD Video)",
}
