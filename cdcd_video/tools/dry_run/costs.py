"""Sections of the report on FLOPs, memory and disk space."""

from collections.abc import Mapping, Sequence

from torch import nn

from cdcd_video.config import Config
from cdcd_video.tools.dry_run.number_format import lasting, scaled, underlined
from cdcd_video.tools.dry_run.trial_clips import ClipFacts
from cdcd_video.tools.dry_run.trial_networks import Line
from cdcd_video.tools.dry_run.trial_steps import MeasuredStage
from cdcd_video.training.run_folder import passes_over, repeated_too_often
from cdcd_video.training.stage_settings import settings_for

ASSUMED_FLOPS = 30e12
"""Assumed sustained FLOP/s of a GPU: a 24 GB card with a peak of 70e12 to 165e12 in 16 bits."""
_WORTH_A_GPU_S = 600


def stages_section(config: Config, data: ClipFacts, stages: Sequence[MeasuredStage], precision: str) -> str:
    """Length, precision and FLOPs of each stage, and how they were counted.

    Args:
      config: settled.
      data: facts of the clips.
      stages: with measurements.
      precision: the note on precision `auto`.
    """
    lines = underlined("Stages, in order")
    head = (
        f"  {'stage':<11}{'steps':>7}{'batch':>7}{'samples':>11}{'trained':>12}{'FLOPs/step':>15}{'total FLOPs':>15}"
        f"{'precision':>11}"
    )
    lines.append(head)
    for stage in stages:
        train = getattr(config.train, stage.name)
        samples = train.num_steps * train.batch_size * train.accumulate
        lines.append(
            f"  {stage.name:<11}{train.num_steps:>7} {train.batch_size:>6} {samples:>10,} {stage.num_trained:>11,}"
            f"{scaled(stage.flops, 'FLOP'):>15}{scaled(stage.flops * train.num_steps, 'FLOP'):>15}{train.precision:>11}"
        )
    lines.append(f"  {precision}")
    lines += _time_lines(config, stages)
    if data.num_clips:
        passes = [f"{passes_over(config, data.num_clips, stage.name):,.1f}" for stage in stages]
        lines.append(f"  Samples per training clip ({data.num_clips:,} clips): {', '.join(passes)}.")
        too_often = repeated_too_often(config, data.num_clips, [stage.name for stage in stages])
        lines += [f"  WARNING: {sentence}." for sentence in too_often]
    lines += [
        "  FLOPs: forward and backward of one whole step, counted by torch's FlopCounterMode: matrix products,",
        "  convolutions and attention, two per multiply-add; elementwise work is left out.",
    ]
    on: dict[str, list[str]] = {}
    for stage in stages:
        on.setdefault(_measured_on(stage), []).append(stage.name)
    lines += [f"  Measured on {what}: {', '.join(names)}." for what, names in on.items()]
    return "\n".join(lines)


def _measured_on(stage: MeasuredStage) -> str:
    kind = "fake tensors (shapes without numbers)" if stage.how == "fake" else "real steps"
    if len(stage.examples) == 1:
        return f"{kind} with the whole batch"
    few, more = stage.examples
    return f"{kind}, of {few:,} and {more:,} examples, extrapolated to the batch"


def _time_lines(config: Config, stages: Sequence[MeasuredStage]) -> list[str]:
    """Training time: on this processor by measurement, and on an assumed GPU where it is long."""
    steps = {stage.name: getattr(config.train, stage.name) for stage in stages}
    on_gpu = {stage.name: stage.flops * steps[stage.name].num_steps / ASSUMED_FLOPS for stage in stages}
    on_cpu = {stage.name: stage.step_s * steps[stage.name].num_steps for stage in stages if stage.step_s is not None}
    lines = []
    if len(on_cpu) == len(stages):
        few = [stage.name for stage in stages if stage.timed_size < steps[stage.name].batch_size]
        continued = f"; of {', '.join(few)} a smaller batch, extrapolated)" if few else ")"
        of = f"the fastest of three timed steps of each stage, without data loading{continued}"
        how = f"On this processor under its present load ({of}"
        lines.append(_time_line(how, on_cpu))
    if not lines or sum(on_gpu.values()) > _WORTH_A_GPU_S:
        how = f"At an assumed {ASSUMED_FLOPS / 1e12:.0f} TFLOP/s sustained (a GPU; computed, not measured)"
        lines.append(_time_line(how, on_gpu))
    return lines


def _time_line(how: str, seconds: Mapping[str, float]) -> str:
    by_stage = ", ".join(f"{name} {lasting(spent)}" for name, spent in seconds.items())
    return f"  {how}: {by_stage}; {lasting(sum(seconds.values()))} in total."


def memory_section(stages: Sequence[MeasuredStage]) -> str:
    """Memory of a step of each stage, by use."""
    lines = [
        *underlined("Memory by stage"),
        f"  {'stage':<11}{'weights':>12}{'gradients':>12}{'AdamW':>12}{'average':>12}{'activations':>14}{'total':>12}",
    ]
    for stage in stages:
        parts = [stage.weights, *(4 * stage.num_trained * times for times in (1, 2, 1)), stage.activations]
        columns = [scaled(part, "B") for part in (*parts, stage.memory)]
        lines.append(
            f"  {stage.name:<11}" + "".join(f"{c:>{w}}" for c, w in zip(columns, (12,) * 4 + (14, 12), strict=True))
        )
    lines += [
        "  Weights: all networks in memory, frozen ones included, 4 bytes each. Activations: peak of live tensors in a step",
        "  (kept for the backward pass, temporaries, 16-bit copies), without gradients.",
        "  Not counted: Python and its libraries (about 0.6 GB), the batch, workspaces of kernels, allocator overhead. On a",
        "  CPU, resident memory rose by 1.3 to 1.4 times the activations and gradients in a real step.",
    ]
    return "\n".join(lines)


def disk_section(data: ClipFacts, line: Line, stages: Sequence[MeasuredStage]) -> str:
    """Size of the files of training: checkpoints, cache, model."""
    config, lines = line.config, underlined("On disk")

    def row(name: str, num_bytes: float, remark: str) -> None:
        lines.append(f"  {name:<26}{scaled(num_bytes, 'B'):>12}   {remark}")

    keep = settings_for(config.train.codec, 0).keep_checkpoints
    for stage in stages:
        row(f"checkpoint of {stage.name}", stage.checkpoint, f"weights, average, AdamW; the newest {keep} are kept")
    per_frame = round(line.codec.num_tokens * data.relative_area)
    codes = sum(data.num_frames) * per_frame * 2
    each = line.num_words * (2 * line.clip.text_width + 1) + 4 * line.clip.joint_width
    if data.num_clips:
        row("cache: codes", codes, f"{sum(data.num_frames):,} frames of {per_frame} codes, 2 bytes each")
        row("cache: captions", sum(data.num_captions) * each, "at most; equal captions are stored once")
    else:
        lines.append(f"  {'cache':<26}{'unknown':>12}   the clips are missing")
    shipped = {name: 2 * _numbers_of(module) for name, module in (("codec", line.codec), ("denoiser", line.denoiser))}
    if config.clip.kind == "builtin":
        shipped = {"CLIP": line.clip_bytes} | shipped
    row("the model", sum(shipped.values()), ", ".join(f"{name} {scaled(size, 'B')}" for name, size in shipped.items()))
    lines.append(
        "  The model is written in 16 bits"
        + ("." if config.clip.kind == "builtin" else f"; its CLIP stays in {config.clip.folder}.")
    )
    return "\n".join(lines)


def _numbers_of(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())
