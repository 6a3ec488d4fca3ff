"""Image-to-video by contrastive diffusion over CLIP latents.

The line, and where to read it:

    train     clip + caption -> FramePair -> latents -> codes -> corrupted -> logits -> LossTerms   objective.py
    sample    frame + caption -> codes -> reverse process, frame by frame -> frames -> Video        pipeline.py
    evaluate  Video (+ ground truth) -> scores -> report                                            metrics/, evaluation/

Letters: B batch, F frames, N tokens per frame, L caption tokens, K codes, D width, J joint width, M negatives,
P patches, C H W pixels. Diffusion time runs from data (0) to source (1); a chain of S steps has times i / S.

Start reading at: records -> diffusion/schedule -> process -> posterior -> loss -> contrast/info_nce ->
networks/codec/frame_codec -> networks/denoiser -> objective -> diffusion/sampler -> pipeline.
"""

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cdcd_video.errors import SamplingWarning, UserError

if TYPE_CHECKING:
    from cdcd_video.pipeline import ImageToVideo
    from cdcd_video.sampled_video import Video
    from cdcd_video.video import contact_sheet

__version__ = "0.2.0"
__all__ = ["ImageToVideo", "SamplingWarning", "UserError", "Video", "__version__", "contact_sheet"]

_LATER = {"ImageToVideo": "pipeline", "Video": "sampled_video", "contact_sheet": "video"}
"""Imported when first asked for: torch takes seconds, `--help` should not."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"cdcd_video.{_LATER[name]}"), name)
    near = get_close_matches(name, __all__, 1, 0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise AttributeError(f"module 'cdcd_video' has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
