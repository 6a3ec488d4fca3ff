"""Sections of the report on the config, the tensors and the networks."""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from cdcd_video.config import Config
from cdcd_video.tools.dry_run.number_format import underlined
from cdcd_video.tools.dry_run.trial_clips import ClipFacts
from cdcd_video.tools.dry_run.trial_networks import Line
from cdcd_video.tools.dry_run.trial_steps import MeasuredStage

LETTERS = (
    "B batch, F frames, N tokens per frame, L caption tokens, K codes, C H W pixels, S side for CLIP,\n"
    "  P patches, G codes per patch, d digits per code, V = G d, J joint width, D... widths, M examples of the contrast."
)
"""The letters of all tables of tensors."""


def config_section(config: Config) -> str:
    """The whole config; values that differ from the default are marked."""
    return "\n".join(
        [*underlined("Config (values that differ from the default are marked)"), *config_lines(config, None)]
    )


def config_lines(section: BaseModel, usual: BaseModel | None, indent: str = "") -> Iterator[str]:
    """A section as YAML that `config_file.load` reads back, each value beside its default where they differ."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        is_same_kind = isinstance(usual, type(section))
        default = getattr(usual, name, None) if is_same_kind else field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from config_lines(value, default if isinstance(default, BaseModel) else None, indent + "  ")
            continue
        if name == "kind" and usual is not None:  # the default kind of this place, not that of this class
            default = getattr(usual, name, value)
        text = f"{indent}{name}: {_as_yaml(value)}"
        is_marked = value != default and not (field.is_required() and not is_same_kind)
        yield f"{text:<46}  # default: {_as_yaml(default)}" if is_marked else text


def _as_yaml(value: Any) -> str:
    return json.dumps(value)


def line_section(data: ClipFacts, line: Line) -> str:
    """Data flow of training and sampling, the letters of the tables, and notes on the data."""
    config = line.config
    lines = [
        *underlined("Data flow"),
        "  train   clip + caption -> pixels -> CLIP patch states -> latents -> codes -> corrupted codes -> logits -> loss",
        "  sample  frame + caption -> codes -> reverse process, frame by frame -> codes + first frame -> frames",
        "",
        f"  Letters: {LETTERS}",
        f"  L is {line.num_words}: the longest of {len(data.captions)} captions checked; the text tower takes at most"
        f" {line.clip.max_tokens} tokens.",
    ]
    if config.clip.kind == "builtin":
        lines.append(
            f"  The tokenizer is learned from the captions: {config.clip.vocabulary} token ids is its maximum,"
            " and is assumed here."
        )
    if config.reuse:
        lines.append(
            f"  CLIP and codec are those of {config.reuse}; the dry run uses untrained ones of the same config."
        )
    if config.init:
        lines.append(f"  CLIP, codec and denoiser begin with the weights of {config.init}, as far as they fit.")
    lines += [f"  Note: {note}" for note in (*line.notes, *data.notes)]
    return "\n".join(lines)


def tensor_sections(stages: Sequence[MeasuredStage]) -> Iterator[str]:
    """One table of tensors for each stage; consecutive stages with the same tensors share it."""
    for (tensors, examples), group in itertools.groupby(stages, lambda stage: (stage.tensors, stage.examples)):
        heading = underlined(f"Tensors of a step of {' and of '.join(stage.name for stage in group)}")
        fewer = [f"  This was a step of {examples[-1]:,} examples."] if len(examples) > 1 else []
        yield "\n".join([*heading, tensors, *fewer])


def networks_section(line: Line, stages: Sequence[MeasuredStage]) -> str:
    """Number of parameters of each network, and the stages that train it."""
    networks = {
        "CLIP image tower": (line.clip.model, ("vision_model.", "visual_projection.")),
        "CLIP text tower": (line.clip.model, ("text_model.", "text_projection.")),
        "codec projection": (line.codec, ("projection.",)),
        "codec quantiser": (line.codec, ("quantizer.",)),
        "codec decoder": (line.codec, ("decoder.",)),
        "codec embed head": (line.codec, ("embed_head.",)),
        "denoiser": (line.denoiser, ("",)),
    }
    lines, total = underlined("Networks"), 0
    for name, (model, prefixes) in networks.items():
        count = sum(value.numel() for key, value in model.named_parameters() if key.startswith(prefixes))
        total += count
        begins = tuple(f"{type(model).__name__}.{prefix}" for prefix in prefixes)
        where = [stage.name for stage in stages if any(trained.startswith(begins) for trained in stage.trained)]
        role = f"trained in {', '.join(where)}" if where else "frozen" if count else "no parameters with gradients"
        lines.append(f"  {name:<22}{count:>13,} parameters   {role}")
    lines.append(f"  {'together':<22}{total:>13,} parameters")
    return "\n".join(lines)
