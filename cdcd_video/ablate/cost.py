"""The cost of an ablation, measured on a few training steps of every arm and a few videos of every evaluation."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cdcd_video.ablate.bases import is_trained
from cdcd_video.ablate.cell import measure
from cdcd_video.ablate.plan import BASE, Cell, Plan
from cdcd_video.config import Config, config_file
from cdcd_video.pipeline import ImageToVideo
from cdcd_video.training import training_run
from cdcd_video.training.stage_order import stages_of

STEPS = (2, 6)
"""Steps between which a training step is timed; the first ones are slower."""
VIDEOS = 8


@dataclass(frozen=True)
class Cost:
    """Seconds for one cell of an arm, on this machine under its present load."""

    step_s: float
    training_s: float
    measuring_s: float


def of_arm(plan: Plan, cell: Cell) -> Cost:
    """Trains `STEPS` steps of every stage of the cell in a temporary folder, and evaluates `VIDEOS` videos.

    A cell that begins with a base begins with noise here: the base may not be trained yet, and a step costs the same. A base is
    not evaluated.
    """
    stages = plan.stages_of(cell)
    protocols = {} if plan.bases and cell.arm.name == BASE else plan.protocols
    small = [f"data.{name}={num}" for name, num in (("num_clips", 16), ("num_val_clips", 4))]
    first, last = STEPS
    steps = [f"train.{stage}.num_steps={last}" for stage in stages]
    steps += [f"train.{stage}.log_every={first}" for stage in stages]
    steps += [f"train.{stage}.evaluate_every={last}" for stage in stages]
    steps += ["init=null"] if plan.bases else []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        file.write_text(config_file.dump(cell.config))
        config = config_file.load(file, Config, [*(small if cell.config.data.is_rendered else ()), *steps])
        training = training_run.TrainingRun(config, Path(folder, "run"), ["probe"])
        training.train(stages)
        # Not every arm has every stage: the step-text encoder is trained only for the term that uses it.
        times = {stage: {} for stage in stages_of(config) if stage in stages}
        for line in map(json.loads, Path(folder, "run", "log.jsonl").read_text().splitlines()):
            if "loss" in line:
                times[line["task"]][line["step"]] = line["time_s"]
        step_s = {stage: (of[last] - of[first]) / (last - first) for stage, of in times.items()}
        pipe = ImageToVideo.from_pretrained(Path(folder, "run"))
        measuring = 0.0
        for name, protocol in protocols.items():
            few = replace(
                plan, protocols={**plan.protocols, name: protocol.settled(num_videos=VIDEOS, num_real=VIDEOS)}
            )
            seconds = measure(few, pipe, name, Path(folder, name), ("model",), VIDEOS)
            measuring += sum(seconds.values()) * protocol.num_videos / VIDEOS
    training_s = sum(step_s[stage] * getattr(cell.config.train, stage).num_steps for stage in step_s)
    return Cost(max(step_s.values()), training_s, measuring)


def table(plan: Plan, cells: Sequence[Cell]) -> str:
    """The open cells and their cost by arm, in minutes of one process."""
    if not cells:
        return f"All {len(plan.cells)} cells are finished."
    seeds = {cell.seed for cell in cells}
    bases = [base for seed, base in plan.bases.items() if seed in seeds and not is_trained(base)]
    lines = [f"{len(cells)} of {len(plan.cells)} cells are open; their cost, measured on a few steps:", ""]
    lines.append(f"{'arm':<24}{'cells':>6}{'ms per step':>13}{'training':>11}{'evaluation':>12}")
    total = 0.0
    every = [*bases, *cells]
    for arm in dict.fromkeys(cell.arm.name for cell in every):
        own = [cell for cell in every if cell.arm.name == arm]
        cost = of_arm(plan, own[0])
        total += len(own) * (cost.training_s + cost.measuring_s)
        minutes = f"{cost.training_s / 60:>7.1f} min{cost.measuring_s / 60:>8.1f} min"
        lines.append(f"{arm:<24}{len(own):>6}{1000 * cost.step_s:>13.0f}{minutes}")
    lines.append("")
    lines.append(
        f"{total / 3600:.1f} hours of one process on this machine under its present load, plus the encoding of the clips once."
        " Start the command again elsewhere to share the cells."
    )
    return "\n".join(lines)
