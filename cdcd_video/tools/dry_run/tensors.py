"""The tensors of a training step of each stage, with descriptions.

Each function gets the name of the stage, its batch size and batch, the calls of its networks (`cost_meters.watching`) and the
scalars of the step, and returns a table as text.
"""

from typing import Any

from torch import Tensor

from cdcd_video.tools.dry_run.tensor_table import Table
from cdcd_video.tools.dry_run.trial_networks import Line

X_T = {
    None: "corrupted codes, in 0..K; K is [MASK]",
    "gaussian": "noisy code values, normalised per channel",
    "categorical_flow": "noisy code values, normalised per channel",
}
"""Descriptions of x_t by the kind of baseline; a causal transformer has none."""


def clip_table(line: Line, name: str, batch_size: int, batch: tuple, calls: dict, scalars: dict) -> str:
    """The tensors of CLIP: images and captions."""
    table = Table(B=batch_size, L=line.num_words, J=line.clip.joint_width)
    table.add("frame", batch[0], "B 3 S S", "normalised: (frame - mean) / deviation")
    table.add("token ids", batch[1], "B L", "captions as byte-level BPE, padded")
    table.add("is word", batch[2], "B L", "False on padding")
    table.add("caption", batch[3], "B", "number of the distinct caption: equal ones are not negatives")
    table.add("patch states", calls["vision"].out.last_hidden_state, "B T Dv", "last layer; T is patches and class")
    table.add("pooled image", calls["vision"].out.pooler_output, "B Dv", "projected to the joint width J")
    table.add("word states", calls["text"].out.last_hidden_state, "B L Dw", "last layer")
    table.add("pooled text", calls["text"].out.pooler_output, "B Dw", "projected to the joint width J")
    return table.render(scalars)


def codec_table(line: Line, name: str, batch_size: int, batch: Any, calls: dict, scalars: dict) -> str:
    """The tensors of the codec, or of its decoder alone: pairs of frames."""
    clip, codec, size = line.clip, line.codec, line.config.data.size_px
    # The codec reads target and source of each pair; the decoder alone needs the target only.
    both = "2B" if name == "codec" else "B"
    table = Table(B=batch_size, H=size, W=size, S=clip.image_size, P=clip.num_patches, G=codec.groups)
    table.sizes |= dict(N=codec.num_tokens, K=codec.num_codes, J=clip.joint_width, d=codec.table.shape[1])
    for part in ("first", "source", "target"):
        table.add(part, getattr(batch, part), "B 3 H W", f"{part} frame of the pair, in [0, 1]")
    pixels = calls["vision"].named["pixel_values"]
    table.add("pixels", pixels, f"{both} 3 S S", "input of CLIP: (frame - mean) / deviation")
    for layer, states in zip(codec.cfg.layers, calls["projection"].given[0], strict=True):
        depth = "patch embedding" if layer == 0 else f"after CLIP block {layer}"
        table.add(f"patch states {layer}", states, f"{both} P Dv", depth)
    table.add("latents", calls["projection"].out, f"{both} P V", "projected, before rounding")
    quantized = calls["quantizer"].out
    table.add("code values", quantized.values, f"{both} P G d", "points of the quantiser, about [-1, 1]")
    table.add("codes", quantized.codes, f"{both} P G", "in 0..K-1; flattened to N = P G")
    start, patches, shallow = calls["decoder"].given[1]
    table.add("start", start, "B 3 H W", "first frame, an input of the decoder")
    table.add("start patches", patches, "B P Dd", "its shallow features, patch by patch")
    table.add("start pixels", shallow, "B C H W", "its shallow features, pixel by pixel")
    table.add("decoded", calls["decoder"].out, "B 3 H W", "decoded frame, about [0, 1]")
    if "embed" in calls:
        table.add("embed", calls["embed"].out, f"{both} J", "embed(codes), unit norm")
    return table.render(scalars)


def step_encoder_table(line: Line, name: str, batch_size: int, batch: Any, calls: dict, scalars: dict) -> str:
    """The tensors of the step-text encoder: steps and their captions."""
    table = Table(B=batch_size, N=line.codec.num_tokens, L=line.num_words, Dt=line.clip.text_width)
    table.add("source", batch.source, "B N", "codes of the earlier frame")
    table.add("target", batch.target, "B N", "codes of the next frame")
    table.add("gap", batch.gap_s, "B", "seconds from source to target")
    table.add("token states", batch.text.tokens, "B L Dt", "word embedding and last layer of CLIP's text tower")
    table.add("step", calls["step"].out, "B E", "embedding of the step, before normalisation")
    table.add("sentence", calls["text"].out, "B E", "embedding of its caption, likewise")
    return table.render(scalars)


def diffusion_table(line: Line, name: str, batch_size: int, batch: Any, calls: dict, scalars: dict) -> str:
    """The tensors of the denoiser or the baseline in its place."""
    codec = line.codec
    table = Table(B=batch_size, N=codec.num_tokens, K=codec.num_codes, L=line.num_words)
    table.sizes |= dict(Dt=line.clip.text_width, J=line.clip.joint_width, P=codec.num_patches)
    table.sizes |= dict(V=codec.groups * codec.table.shape[1])
    for part, meaning in dict(
        source="codes of the earlier frame",
        target="codes of the next frame: x0",
        first="codes of the first frame",
        far="codes of a far frame of the clip: intra negative",
        before="codes of a frame before the source (for `refine`)",
    ).items():
        table.add(part, getattr(batch, part), "B N", meaning)
    table.add("has first", batch.has_first, "B", "whether the first frame is given")
    table.add("gap", batch.gap_s, "B", "seconds from source to target")
    table.add("age", batch.age_s, "B", "seconds from first frame to source")
    table.add("gap before", batch.before_gap_s, "B", "seconds from that frame to the source")
    if batch.last is not None:
        table.add("last", batch.last.codes, "B N", "codes of a later frame, in which a video may end")
        table.add("has last", batch.last.is_there, "B", "whether that frame is given")
        table.add("until", batch.last.until_s, "B", "seconds from target to that frame")
    table.add("clip", batch.clip, "B", "number of the clip, to exclude false negatives")
    table.add("caption", batch.caption, "B", "number of the caption, likewise")
    table.add("token states", batch.text.tokens, "B L Dt", "word embedding and last layer of CLIP's text tower")
    table.add("is word", batch.text.is_word, "B L", "False on padding")
    table.add("caption embedding", batch.text.embedding, "B J", "in the joint space, unit norm")
    kind = line.config.baseline.kind if line.config.baseline else None
    if kind not in (*X_T, "autoregressive"):
        return table.render(scalars)  # a baseline of an extension: only its inputs are known
    x_t, *time, condition = calls["denoiser"].given
    letters = "B P V" if kind == "gaussian" else "B N"
    table.add("jittered source", condition.source, letters, "the source with noise, as the denoiser gets it")
    if kind != "autoregressive":
        table.add("x_t", x_t, "B N" if kind is None else "B P V", X_T[kind])
        table.add("t", *time, "B", "diffusion time: 0 is data, 1 the source distribution")
    table.add(*prediction(kind, calls["denoiser"].out))
    if "embed" in calls:
        table.add(
            "soft code values",
            calls["embed"].given[0],
            "M P V",
            "expected code values of the M examples of the contrast",
        )
        table.add("embed", calls["embed"].out, "M J", "embed(softmax(logits)), unit norm")
    return table.render(scalars)


def prediction(kind: str | None, out: Tensor) -> tuple[str, Tensor, str, str]:
    """The output of the denoiser or the baseline: name, tensor, letters, meaning."""
    if kind == "gaussian":
        return "x0", out, "B P V", "the expected code values, normalised per channel"
    is_causal = kind == "autoregressive"
    return "logits", out, "B N K", "of p(code | codes before it, ...)" if is_causal else "of p(x0 | x_t, ...)"
