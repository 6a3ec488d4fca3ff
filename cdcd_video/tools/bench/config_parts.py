"""The measurements of `bench config`: training steps of a stage by the engine, and sampling of whole videos."""

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import DeviceType

from cdcd_video.engine import optim
from cdcd_video.engine.ema import Ema
from cdcd_video.engine.precision import for_sampling
from cdcd_video.engine.runtime import generator
from cdcd_video.engine.train_step import train_step
from cdcd_video.model import Model, clip_folder
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.pipeline import ImageToVideo
from cdcd_video.records import WrongSentences
from cdcd_video.tools.bench.side_process import base_and_peak, clock_of, measure, product_rate, profile
from cdcd_video.tools.dry_run.assembly import FixedBatch, assemble
from cdcd_video.tools.dry_run.trial_networks import Line
from cdcd_video.tools.dry_run.trial_steps import measure as measure_shapes
from cdcd_video.training.stage_settings import settings_for

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PRODUCT_SIDES = {"cuda": 8192, "cpu": 2048}
"""Size of the square matrices whose product gives the peak rate of a device."""
NUM_KERNELS = 6
"""How many of the slowest kernels are listed."""
KINDS = {
    "compiled": "triton",
    "attention": "flash|fmha|attention|mha_",
    "convolutions": "conv|wgrad|dgrad|fprop|winograd",
    "matrix products": "gemm|nvjet|cutlass|xmma|splitk",
    "optimiser and average": "multi_tensor|foreach|adam",
    "norms, softmax and sums": "norm|softmax|reduce|sum",
    "gathering and scattering": "index|gather|scatter|embedding|sort|scan",
    "copies": "copy|memcpy|memset|catarray|fill",
    "elementwise": "elementwise",
}
"""Patterns of GPU kernel names by kind; the first match counts."""


class WholeLine(Line):
    """Networks with weights, including the CLIP of the config."""

    def _clip(self, captions: Sequence[str], folder: Path) -> FrozenClip:
        if self.config.clip.kind == "builtin":
            return super()._clip(captions, folder)
        return FrozenClip(clip_folder(self.config, folder))


def rates(device: torch.device) -> dict[str, float]:
    """FLOP/s of torch.mm by precision, by wall-clock time on a GPU and by CPU time elsewhere."""
    side, clock = PRODUCT_SIDES.get(device.type, 2048), clock_of(device).removesuffix("_s")
    return {name: product_rate(dtype, device, side)["mm"][clock] for name, dtype in DTYPES.items()}


def stage_costs(
    shapes: Line, line: WholeLine, name: str, device: torch.device, steps: int, repeats: int, rate: dict[str, float]
) -> dict[str, Any]:
    """Time, FLOPs, memory and profile of a training step of a stage.

    Args:
      shapes: networks on fake tensors, to count FLOPs.
      line: networks with weights, to be timed.
      name: the stage.
      device: to run on.
      steps: in a timed round; on a GPU without synchronisation between them.
      repeats: rounds.
      rate: FLOP/s of a matrix product by precision.
    """
    train = getattr(line.config.train, name)
    line.clip.to(device)
    task = assemble(line, name, train.batch_size, device).task
    given = FixedBatch(name, task.model, _noisy(task.batch(0), line.codec.num_codes), task.objective)
    settings = settings_for(train, line.config.num_threads)
    optimizer, average = optim.make_optimizer(task.model, settings), Ema(task.model, settings.ema_decay)
    count = itertools.count()

    def step() -> None:
        train_step(given, optimizer, average, settings, step=next(count), seed=line.config.seed)

    def round_of_steps() -> None:
        for _ in range(steps):
            step()

    step()  # initialises the optimiser
    _, peak = base_and_peak(step, device)
    (times,) = measure([round_of_steps], 1, repeats, device)
    seconds = times[clock_of(device)] / steps
    flops = measure_shapes(shapes, name).flops
    found = {
        "stage": name,
        "precision": train.precision,
        "batch": train.batch_size * train.accumulate,
        "s": seconds,
        "n": steps * repeats,
        "examples_per_s": train.batch_size * train.accumulate / seconds,
        "flops": flops,
        "share_mm": flops / seconds / rate[train.precision],
        "peak_bytes": peak,
    }
    if device.type != "cuda":
        return found | {"profile": profile(step), "kernels": [], "idle": None}
    by_kind, kernels, busy_s = kernels_of(step)
    return found | {"profile": by_kind, "kernels": kernels[:NUM_KERNELS], "idle": max(0.0, 1 - busy_s / seconds)}


def kernels_of(call: Callable[[], None]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], float]:
    """Profiles a call on the GPU.

    Returns:
      Fractions of the kernel time by kind, and by kernel, the slowest first; and that time in seconds.
    """
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        call()
        torch.cuda.synchronize()
    rows = [row for row in profiler.key_averages() if row.device_type == DeviceType.CUDA and not row.is_user_annotation]
    named: dict[str, float] = defaultdict(float)
    for row in rows:
        named[row.key] += row.self_device_time_total / 1e6
    return _shares(named, kind_of), _shares(named, _short), sum(named.values())


def kind_of(kernel: str) -> str:
    """The kind of a GPU kernel, by its name."""
    return next((kind for kind, words in KINDS.items() if re.search(words, kernel, re.IGNORECASE)), "other")


def sampling_costs(
    line: WholeLine, device: torch.device, steps: Sequence[int], together: int, repeats: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """The cost of sampling at several numbers of steps, of one video and of a batch.

    Returns:
      Rows: `s_per_frame` of whole sampling per sampled frame and video; `first_frame_s`, from image and caption to the first
      sampled frame; `decode_s_per_frame`, the part of the decoder.
    """
    line.clip.to(device)
    model = Model(line.config, line.clip, line.codec.to(device).eval(), line.denoiser.to(device).eval(), digest="")
    pipe = ImageToVideo(model, for_sampling(device))
    most = getattr(model.process, "num_steps", None) or max(steps)
    rows = []
    for num_steps in (one for one in steps if one <= most):
        say(f"sampling with {num_steps} step(s) per frame ...")
        for videos in sorted({1, together}):
            rows.append(_sampling_row(pipe, line.clips.caption(0), num_steps, videos, repeats, device))
    return rows


def _sampling_row(
    pipe: ImageToVideo, caption: str, num_steps: int, videos: int, repeats: int, device: torch.device
) -> dict[str, Any]:
    """One row of `sampling_costs`."""
    params = pipe.defaults(num_steps=num_steps)
    short = params.changed(num_frames=2)
    draws = np.random.Generator(np.random.Philox(key=0))
    starts = draws.integers(256, size=(videos, pipe.size_px, pipe.size_px, 3), dtype=np.uint8)
    given, seeds = (starts, [caption] * videos), range(videos)
    last = pipe.roll_out(*given, short, seeds)[:, -1:]
    calls = [
        lambda: pipe.sample(*given, params, seeds),
        lambda: pipe.sample(*given, short, seeds),
        lambda: pipe.decode(last, starts),
    ]
    whole, first, decoded = (one[clock_of(device)] for one in measure(calls, 1, repeats, device))
    return {
        "steps": num_steps,
        "is_default": num_steps == pipe.defaults().num_steps,
        "videos": videos,
        "frames": params.num_frames,
        "n": repeats,
        "s_per_frame": whole / videos / max(1, params.num_frames - 1),
        "first_frame_s": first,
        "decode_s_per_frame": decoded / videos,
        "videos_per_s": videos / whole,
    }


def _noisy(batch: Any, num_codes: int) -> Any:
    """Random frames and codes instead of black ones, whose arithmetic can be faster; and sentences that count as wrong."""
    if not is_dataclass(batch):  # CLIP's, whose frames are normalised
        return batch
    draws = generator("bench", "noise")

    def noise(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim == 4:
            return torch.rand(value.shape, generator=draws).to(value)
        if isinstance(value, Tensor) and value.ndim == 2 and value.dtype == torch.int64:
            return torch.randint(num_codes, value.shape, generator=draws).to(value)
        if isinstance(value, WrongSentences):  # the stand-in clips have one caption
            return replace(value, is_wrong=torch.ones_like(value.is_wrong))
        return value

    return replace(batch, **{field.name: noise(getattr(batch, field.name)) for field in fields(batch)})


def _short(kernel: str) -> str:
    """The name of a kernel without template arguments."""
    plain = kernel.removeprefix("void ").replace("(anonymous namespace)::", "")
    return re.sub(r"[<(].*", "", plain).rpartition("::")[2]


def _shares(seconds: dict[str, float], name_of: Callable[[str], str]) -> list[dict[str, Any]]:
    total: dict[str, float] = defaultdict(float)
    for name, spent in seconds.items():
        total[name_of(name)] += spent
    whole = sum(total.values())
    rows = [{"name": name, "share": spent / whole, "s": spent} for name, spent in total.items()]
    return sorted(rows, key=lambda row: -row["share"])
