"""Estimates the cost of a stage on many processes: bytes and FLOPs are counted, speeds are assumptions.

FLOPs, weights and activations are those of the dry run (`cdcd_video.tools.dry_run`), which runs steps; traffic is computed for
the collectives of `engine.parallel` and of the objective. Nothing is timed.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.config.setting_words import add_setting_flag, with_flags
from cdcd_video.errors import UserError


@dataclass(frozen=True)
class Work:
    """One step of one stage on the whole batch. Bytes unless said otherwise.

    Attributes:
      rows: of the whole batch.
      flops: FLOPs, forward and backward.
      trained: of the weights that learn, 4 a number; their gradients and average are as large, AdamW's memory twice.
      frozen: of all other weights, which every process holds.
      activations: at the whole batch, in one process.
      forwards: how often the trained model is run in a step.
      codes: of the source codes of the whole batch, which all processes show each other.
      embeddings: of what the contrast shows all processes.
      differentiable: of those the part whose gradients come back.
      checkpoint: of a checkpoint.
    """

    rows: int
    flops: float
    trained: int
    frozen: int
    activations: float
    forwards: int
    codes: int
    embeddings: int
    differentiable: int
    checkpoint: int


@dataclass(frozen=True)
class Speeds:
    """What is assumed, per second.

    Attributes:
      flops: FLOPs that each process keeps up.
      link: bytes it sends to others of its machine.
      network: bytes that a machine sends to others: a ring leaves each machine once, however many processes it has.
      per_node: processes on a machine.
    """

    flops: float
    link: float
    network: float
    per_node: int


@dataclass(frozen=True)
class Share:
    """One process of several: bytes and seconds, the seconds without any overlap of computing and sending."""

    memory: float
    sent: float
    computing_s: float
    sending_s: float

    @property
    def efficiency(self) -> tuple[float, float]:
        """Share of the time that is computing: if nothing overlaps, and if everything does."""
        return (
            self.computing_s / (self.computing_s + self.sending_s),
            self.computing_s / max(self.computing_s, self.sending_s),
        )


def gathered(num_bytes: float, size: int) -> float:
    """Sent by each process for all of them to have `num_bytes`, of which each has an equal part; reducing sends as much."""
    return num_bytes * (size - 1) / size


def share_of(work: Work, speeds: Speeds, size: int, shard: str) -> Share:
    """One of `size` processes that share a batch.

    All exchanges are counted as rings, which send the least there is (Patarasuk & Yuan 2009): gathering n bytes sends
    n (W - 1) / W from each process, reducing them to parts as much, and adding them up for all (all-reduce) twice that.

    Args:
      work: of the whole batch.
      speeds: of each process.
      size: W.
      shard: "ddp" or "fsdp".
    """
    states = 5 * work.trained  # weights, gradients, two moments, average
    sent = gathered(work.codes + work.embeddings, size) + 2 * gathered(work.differentiable, size)
    if shard == "ddp":
        memory, sent = states, sent + 2 * gathered(work.trained, size)
    else:  # weights are gathered for each forward and again for the backward pass, gradients reduced to parts
        memory, sent = states / size + work.trained, sent + (work.forwards + 2) * gathered(work.trained, size)
    rate = speeds.link if size <= speeds.per_node else min(speeds.link, speeds.network)
    return Share(
        memory=memory + work.frozen + work.activations / size,
        sent=sent,
        computing_s=work.flops / size / speeds.flops,
        sending_s=sent / rate,
    )


def table(work: Work, speeds: Speeds, sizes: Sequence[int]) -> list[str]:
    """Markdown: a row for each number of processes and each way to share the model."""
    lines = [
        "| processes | rows each | parallelism | memory each | sent each per step | compute | communication | compute fraction |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size in sizes:
        for shard in ("ddp", "fsdp") if size > 1 else ("ddp",):
            one = share_of(work, speeds, size, shard)
            apart, overlapped = (f"{100 * part:.0f} %" for part in one.efficiency)
            both = "100 %" if size == 1 else f"{apart} to {overlapped}"
            lines.append(
                f"| {size} | {work.rows / size:g} | {shard if size > 1 else 'none'} | {one.memory / 1e9:.2f} GB |"
                f" {one.sent / 1e6:,.0f} MB | {1e3 * one.computing_s:.1f} ms | {1e3 * one.sending_s:.1f} ms | {both} |"
            )
    return lines


def work_of(config, stage: str) -> Work:
    """Counts a stage of a config, by the dry run's steps.

    Raises:
      UserError: the config does not train it.
    """
    from cdcd_video.contrast_terms import cosine_terms_of
    from cdcd_video.tools.dry_run.trial_clips import look_at_data
    from cdcd_video.tools.dry_run.trial_networks import Line
    from cdcd_video.tools.dry_run.trial_steps import measure
    from cdcd_video.training.resolved import foreseen

    config, _ = foreseen(config)
    with tempfile.TemporaryDirectory() as folder:
        line = Line(config, look_at_data(config), Path(folder))
        if stage not in line.stages:
            raise UserError(f"this config has no stage {stage!r}; choose from {', '.join(line.stages)}")
        found = measure(line, stage)
        num_tokens, joint_width = line.codec.num_tokens, line.clip.joint_width
    rows = getattr(config.train, stage).batch_size
    contrast, on_codes = config.loss.contrast, stage in ("diffusion", "refine")
    judged = max(2, round(contrast.share * rows)) * len(cosine_terms_of(contrast)) if on_codes else 0
    points = judged * joint_width * 4
    return Work(
        rows=rows,
        flops=found.flops,
        trained=4 * found.num_trained,
        frozen=found.weights - 4 * found.num_trained,
        activations=found.activations,
        forwards=2 if stage == "refine" else 1,
        codes=rows * num_tokens * 8 if on_codes else 0,
        embeddings=points * (2 if contrast.symmetric else 1) + 8 * judged,  # and which clip or sentence each is of
        differentiable=points if contrast.symmetric else 0,
        checkpoint=found.checkpoint,
    )


def _counted(text: str) -> Work:
    try:
        return Work(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"--counted is invalid ({error}); use the JSON after 'Counted:' in the output of this command"
        ) from None


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.scaling", description=__doc__)
    add = parser.add_argument
    add("--config", type=Path, required=True, help="the config, such as a file of configs/")
    add_setting_flag(parser, "override a config value")
    add("--stage", default="diffusion", help="the stage (default: %(default)s)")
    add("--counted", metavar="JSON", help="the counts of an earlier run of this command, instead of counting again")
    add("--processes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 64], metavar="W", help="numbers of processes")
    add("--flops", type=float, default=300e12, help="sustained FLOP/s of each process (default: %(default)g)")
    add("--link", type=float, default=200e9, help="bytes per second within a machine (default: %(default)g)")
    add("--network", type=float, default=100e9, help="bytes per second between machines (default: %(default)g)")
    add("--per-node", type=int, default=8, metavar="G", help="processes per machine (default: %(default)s)")
    args = parser.parse_args(with_flags(None))

    from cdcd_video.config import Config, config_file

    config = config_file.load(args.config, Config, args.set)
    work = _counted(args.counted) if args.counted else None
    rows = work.rows if work else getattr(getattr(config.train, args.stage, None), "batch_size", None)
    uneven = [size for size in args.processes if rows and (size < 1 or rows % size)]
    if uneven:
        raise UserError(
            f"a batch of {rows} cannot be divided among {uneven[0]} processes; name divisors, or set the batch size"
        )
    work = work or work_of(config, args.stage)
    speeds = Speeds(args.flops, args.link, args.network, args.per_node)
    facts = [
        f"{config.name}, stage {args.stage}, {work.rows} rows: {work.flops / 1e12:.2f} TFLOP per step;"
        f" {work.trained / 4e6:.1f} million trained weights, {work.frozen / 1e9:.2f} GB of others,"
        f" {work.activations / 1e9:.2f} GB of activations; a checkpoint has {work.checkpoint / 1e9:.2f} GB.",
        f"Counted: {json.dumps(asdict(work))}",
        f"Assumed: {json.dumps(asdict(speeds))}",
    ]
    sys.stdout.write("\n".join([*facts, "", *table(work, speeds, args.processes), ""]))
    return 0
