"""Image-to-video by contrastive diffusion over CLIP latents.

The line, and where to read it:

    learn   clip + caption -> FramePair -> latents -> codes -> corrupted -> logits -> LossTerms    objective.py
    draw    frame + caption -> codes -> reverse walk, frame after frame -> frames -> Video         generate.py
    judge   Video (+ truth) -> Score -> report                                                     metrics/, report/

Letters: B batch, F frames, N tokens per frame, L caption tokens, K codes, D width, J joint width, M negatives,
P patches, C H W pixels. Diffusion time runs from data (0) to source (1); a chain of S steps has times i / S.

Start reading at: records -> diffusion/process -> diffusion/bound -> contrast/loss -> denoiser -> objective -> generate.
"""

from typing import TYPE_CHECKING, Any

from cdcd_video.errors import DrawingWarning

if TYPE_CHECKING:
    from cdcd_video.pipeline import ImageToVideo

__version__ = "0.2.0"
__all__ = ["DrawingWarning", "ImageToVideo", "__version__"]


def __getattr__(name: str) -> Any:
    """`ImageToVideo` is imported when first asked for: torch takes seconds, `--help` should not."""
    if name == "ImageToVideo":
        from cdcd_video.pipeline import ImageToVideo

        return ImageToVideo
    raise AttributeError(f"module 'cdcd_video' has no attribute {name!r}")
