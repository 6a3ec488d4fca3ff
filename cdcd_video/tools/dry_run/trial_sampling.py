"""A drawing that takes place with noise in the place of what large networks say: its tensors and its FLOPs."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cdcd_video.config import SamplingParams
from cdcd_video.model import Model
from cdcd_video.pipeline import ImageToVideo
from cdcd_video.tools.dry_run.cost_meters import Call, count_flops, unreal, watching
from cdcd_video.tools.dry_run.number_format import scaled, underlined
from cdcd_video.tools.dry_run.tensor_table import Table
from cdcd_video.tools.dry_run.tensors import SHOWN, prediction
from cdcd_video.tools.dry_run.trial_networks import Line


@dataclass(frozen=True)
class _Drawn:
    """A video of two frames, and what it cost; FLOPs."""

    dials: SamplingParams
    starts: UInt8[np.ndarray, "1 H W 3"]
    latents: Int[Tensor, "1 2 N"] | Float[Tensor, "1 2 P V"]
    """Codes, or code values."""
    frames: UInt8[np.ndarray, "1 2 H W 3"]
    calls: dict[str, Call]
    """The last call of the denoiser, if it was called whole."""
    once: int
    """Image and caption read."""
    walked: int
    """The way to one frame."""
    decoded: float
    """One frame from its codes."""


def sampling_section(line: Line) -> str:
    """The tensors of a drawing of two frames and its FLOPs, as text."""
    drawn = _draw(line)
    is_autoregressive = line.config.baseline is not None and line.config.baseline.kind == "autoregressive"
    steps = "one pass per patch" if is_autoregressive else f"{drawn.dials.num_steps} reverse steps"
    costs = [
        f"  FLOPs: {scaled(drawn.once, 'FLOP')} once (reading image and caption), then for each frame"
        f" {scaled(drawn.walked + drawn.decoded, 'FLOP')}:",
        f"  {scaled(drawn.walked, 'FLOP')} for {steps} (guidance {drawn.dials.guidance:g}),"
        f" {scaled(drawn.decoded, 'FLOP')} for the decoder. Counted on a drawing with noise for logits.",
    ]
    return "\n".join([*underlined("Tensors of a drawing of two frames"), _table(line, drawn).told({}), *costs])


def _draw(line: Line) -> _Drawn:
    pipe = ImageToVideo(Model(line.config, line.clip, line.codec.eval(), line.denoiser.eval(), digest=""))
    dials = pipe.defaults().changed(num_frames=2)
    size, caption = line.config.data.size_px, line.clips.caption(0)
    starts = np.zeros((1, size, size, 3), np.uint8)
    large = [line.codec.decoder, *([] if line.config.baseline else [line.denoiser])]
    with unreal(*large), watching(dict(denoiser=line.denoiser)) as calls:
        once, _ = count_flops(lambda: pipe.roll_out(starts, [caption], dials.changed(num_frames=1), [0]))
        both, latents = count_flops(lambda: pipe.roll_out(starts, [caption], dials, [0]))
        decoding, frames = count_flops(lambda: pipe.decode(latents, starts))
    return _Drawn(dials, starts, latents, frames, calls, once, walked=both - once, decoded=decoding / 2)


def _table(line: Line, drawn: _Drawn) -> Table:
    codec, caption = line.codec, line.clips.caption(0)
    ids, is_word = line.clip.tokenize([caption])
    text = line.clip.encode_text([caption])
    height, width = drawn.starts.shape[1:3]
    table = Table(B=1, F=2, H=height, W=width, N=codec.num_tokens, K=codec.num_codes, L=line.num_words)
    table.add("start", drawn.starts, "B H W 3", "the user's image, RGB in 0..255")
    table.add("token ids", ids, "B L", "the caption")
    table.add("is word", is_word, "B L", "False on padding")
    table.add("token states", text.tokens, "B L Dt", "what the denoiser reads")
    table.add("caption embedding", text.embedding, "B J", "unit norm")
    table.sizes |= dict(P=codec.num_patches, V=codec.groups * codec.table.shape[1])
    rows = "2B" if drawn.dials.guidance != 1 else "B"
    kind = line.config.baseline.kind if line.config.baseline else None
    letters = "P V" if kind == "gaussian" else "N"
    if kind in SHOWN:  # a causal transformer never makes a whole pass when it draws
        walked = "code values" if kind else "codes"
        x_t = drawn.calls["denoiser"].given[0]
        table.add("x_t", x_t, f"{rows} {letters}", f"walked {walked}; twice, with and without caption, if guided")
        name, made, shape, _ = prediction(kind, drawn.calls["denoiser"].out)
        table.add(name, made, shape.replace("B", rows), "at each reverse step")
    name = "code values" if kind == "gaussian" else "codes"
    table.add(name, drawn.latents, f"B F {letters}", "frame after frame; never decoded in between")
    table.add("frames", drawn.frames, "B F H W 3", "the video, RGB in 0..255; frame 0 is the image itself")
    return table
