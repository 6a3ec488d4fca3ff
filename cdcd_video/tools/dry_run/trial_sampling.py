"""Tensors and FLOPs of sampling, with noise in place of the output of large networks."""

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
from cdcd_video.tools.dry_run.tensors import X_T, prediction
from cdcd_video.tools.dry_run.trial_networks import Line


@dataclass(frozen=True)
class _Sampled:
    """A sampled video of two frames, with its FLOPs."""

    params: SamplingParams
    starts: UInt8[np.ndarray, "1 H W 3"]
    latents: Int[Tensor, "1 2 N"] | Float[Tensor, "1 2 P V"]
    """Codes, or code values."""
    frames: UInt8[np.ndarray, "1 2 H W 3"]
    calls: dict[str, Call]
    """The last full call of the denoiser, if there was one."""
    once: int
    """FLOPs of encoding image and caption."""
    per_frame: int
    """FLOPs of the reverse process of one frame."""
    decoded: float
    """FLOPs of decoding one frame."""


def sampling_section(line: Line) -> str:
    """The tensors and FLOPs of sampling two frames, as text."""
    sampled = _sample(line)
    is_autoregressive = line.config.baseline is not None and line.config.baseline.kind == "autoregressive"
    steps = "one pass per patch" if is_autoregressive else f"{sampled.params.num_steps} reverse steps"
    costs = [
        f"  FLOPs: {scaled(sampled.once, 'FLOP')} once (encoding image and caption), then per frame"
        f" {scaled(sampled.per_frame + sampled.decoded, 'FLOP')}:",
        f"  {scaled(sampled.per_frame, 'FLOP')} for {steps} (guidance {sampled.params.guidance:g}),"
        f" {scaled(sampled.decoded, 'FLOP')} for the decoder. Counted with noise as logits.",
    ]
    return "\n".join([*underlined("Tensors of sampling two frames"), _table(line, sampled).render({}), *costs])


def _sample(line: Line) -> _Sampled:
    pipe = ImageToVideo(Model(line.config, line.clip, line.codec.eval(), line.denoiser.eval(), digest=""))
    params = pipe.defaults().changed(num_frames=2)
    size, caption = line.config.data.size_px, line.clips.caption(0)
    starts = np.zeros((1, size, size, 3), np.uint8)
    large = [line.codec.decoder, *([] if line.config.baseline else [line.denoiser])]
    with unreal(*large), watching(dict(denoiser=line.denoiser)) as calls:
        once, _ = count_flops(lambda: pipe.roll_out(starts, [caption], params.changed(num_frames=1), [0]))
        both, latents = count_flops(lambda: pipe.roll_out(starts, [caption], params, [0]))
        decoding, frames = count_flops(lambda: pipe.decode(latents, starts))
    return _Sampled(params, starts, latents, frames, calls, once, per_frame=both - once, decoded=decoding / 2)


def _table(line: Line, sampled: _Sampled) -> Table:
    codec, caption = line.codec, line.clips.caption(0)
    ids, is_word = line.clip.tokenize([caption])
    text = line.clip.encode_text([caption])
    height, width = sampled.starts.shape[1:3]
    table = Table(B=1, F=2, H=height, W=width, N=codec.num_tokens, K=codec.num_codes, L=line.num_words)
    table.add("start", sampled.starts, "B H W 3", "the user's image, RGB in 0..255")
    table.add("token ids", ids, "B L", "the caption")
    table.add("is word", is_word, "B L", "False on padding")
    table.add("token states", text.tokens, "B L Dt", "input of the denoiser")
    table.add("caption embedding", text.embedding, "B J", "unit norm")
    table.sizes |= dict(P=codec.num_patches, V=codec.groups * codec.table.shape[1])
    rows = "2B" if sampled.params.guidance != 1 else "B"
    kind = line.config.baseline.kind if line.config.baseline else None
    letters = "P V" if kind == "gaussian" else "N"
    if kind in X_T:  # a causal transformer has no full pass when it samples
        values = "code values" if kind else "codes"
        x_t = sampled.calls["denoiser"].given[0]
        shape = f"{rows} P V" if kind else f"{rows} N"
        table.add("x_t", x_t, shape, f"noisy {values}; twice, with and without caption, if guided")
        name, made, shape, _ = prediction(kind, sampled.calls["denoiser"].out)
        table.add(name, made, shape.replace("B", rows), "at each reverse step")
    name = "code values" if kind == "gaussian" else "codes"
    table.add(name, sampled.latents, f"B F {letters}", "frame by frame, without decoding in between")
    table.add("frames", sampled.frames, "B F H W 3", "the video, RGB in 0..255; frame 0 is the image itself")
    return table
