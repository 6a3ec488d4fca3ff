"""Builds each stage as `training_run` does, with the modules to watch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cdcd_video.config import Config
from cdcd_video.model import build_critic, build_process, build_step_encoder
from cdcd_video.tools.dry_run import tensors
from cdcd_video.tools.dry_run.trial_networks import Line
from cdcd_video.training.code_stages import DiffusionStage, RefineStage, StepEncoderStage
from cdcd_video.training.pixel_stages import ClipStage, CodecStage, DecoderStage

CPU = torch.device("cpu")


@dataclass(frozen=True)
class FixedBatch:
    """A stage with a fixed batch."""

    name: str
    model: nn.Module
    given: Any
    objective: Callable[..., Any]

    def batch(self, step: int) -> Any:
        return self.given


@dataclass(frozen=True)
class Assembly:
    """A stage: its task, the other networks, the modules to watch, and the function that makes its table of tensors."""

    task: Any
    beside: list[nn.Module]
    watched: dict[str, nn.Module]
    table: Callable[..., str]


def assemble(line: Line, name: str, batch_size: int, device: torch.device = CPU) -> Assembly:
    """A stage with untrained networks at a batch size. The CLIP stays on its device."""
    config, clips = _with_batch_size(line.config, name, batch_size), line.clips
    if name == "clip":
        model = line.fresh_clip()
        task = ClipStage(model, line.clip.tokenizer, config, clips, clips, device)
        return Assembly(task, [], dict(vision=model.vision_model, text=model.text_model), tensors.clip_table)
    codec, denoiser = line.fresh_codec_and_denoiser()
    if name in ("codec", "decoder"):
        kind = CodecStage if name == "codec" else DecoderStage
        watched = dict(vision=line.clip.model.vision_model, embed=codec.embed_head, projection=codec.projection)
        watched |= dict(quantizer=codec.quantizer, decoder=codec.decoder)
        critic = [build_critic(config)] if name == "decoder" else []
        task = kind(codec, line.clip, config, clips, clips, device, *critic)
        return Assembly(task, [line.clip], watched, tensors.codec_table)
    if name == "eye":
        encoder = build_step_encoder(config, codec, line.clip.text_width)
        watched = dict(step=encoder.step_out, text=encoder.text_out)
        task = StepEncoderStage(encoder, codec, config, line.cache, line.cache, device)
        return Assembly(task, [line.clip, codec], watched, tensors.step_encoder_table)
    kind = DiffusionStage if name == "diffusion" else RefineStage
    process = build_process(config, codec.num_codes)
    task = kind(denoiser, codec, process, config, line.cache, line.cache, device)
    watched = dict(denoiser=denoiser, embed=codec.embed_head)
    return Assembly(task, [line.clip, codec], watched, tensors.diffusion_table)


def _with_batch_size(config: Config, stage: str, batch_size: int) -> Config:
    """The config with another batch in one stage."""
    section = getattr(config.train, stage).model_copy(update={"batch_size": batch_size})
    return config.model_copy(update={"train": config.train.model_copy(update={stage: section})})
