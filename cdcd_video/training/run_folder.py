"""A run's folder: locks, and which config it accepts."""

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from cdcd_video.config import Config, config_file
from cdcd_video.config.config_difference import describe_differences, unequal
from cdcd_video.config.data_section import STATEMENTS
from cdcd_video.config.fingerprint import text_digest, unnamed_in
from cdcd_video.engine import checkpoint, distributed, runtime
from cdcd_video.errors import UserError, say
from cdcd_video.kernels import compiled
from cdcd_video.model import folder_of
from cdcd_video.storage.folder_lock import folder_lock
from cdcd_video.storage.free_name import chosen_folder
from cdcd_video.storage.small_file import read_small
from cdcd_video.storage.whole_file import remove_left_parts
from cdcd_video.training.hub_card import FILE, renew_card
from cdcd_video.training.resolved import begun_in, precisions, settled, slow_ones
from cdcd_video.training.stage_order import BUILDS_ON, STAGES, stages_of

MOST_PASSES = 500
"""Uses of a training clip beyond which there is a warning. The shipped model used each 85 times."""
_STATED = {f"data.{name}" for name in STATEMENTS}
_SPEED = re.compile(r"num_threads|train\.\w+\.(compile|checkpoint_activations)")
"""Keys that change the speed of a run and the last bits of its sums, not what is trained."""
_BEFORE = "num_steps_before"
"""In run.json: the number of steps each stage had, if a later start has more."""


@contextmanager
def writing(out: Path, stages: Collection[str]) -> Iterator[None]:
    """Locks what the training of some stages writes in a run's folder, and against changes what they build on.

    Raises:
      FolderInUse: another process trains one of them or what they build on, or writes the whole folder.
    """
    needed = {before for stage in stages for before in BUILDS_ON[stage]}
    with ExitStack() as held:
        held.enter_context(folder_lock(out, shared=True))
        for stage in STAGES:
            if stage in stages or stage in needed:
                held.enter_context(folder_lock(checkpoint.home(out, stage), shared=stage not in stages))
        yield


@contextmanager
def evaluating(device: str, given: Path | None, checkpoint: str | None) -> Iterator[Path | None]:
    """Makes and locks the folder of an evaluation's results, for all processes that `torchrun` has started.

    Results in the model's own run folder are put on its card, too.

    Args:
      device: see `engine.distributed.joined`.
      given: the folder that the user chose.
      checkpoint: the model; without `given`, its results go into its run's folder, if it has one.

    Yields:
      The folder in the main process; None in the others.

    Raises:
      UserError: another process writes it, or it cannot be written; there is no such model.
    """
    run = None
    if given is None and checkpoint is not None and folder_of(checkpoint) == Path(checkpoint) / "model":
        run = given = Path(checkpoint)
    results = distributed.for_all(lambda: chosen_folder(given, Path("out/eval")))
    with distributed.joined(device), results as out:
        if out is not None:
            with runtime.writing_to(out):
                out.mkdir(parents=True, exist_ok=True)
                remove_left_parts(out)
        yield out
        if run is not None and out is not None and (run / "model" / FILE).is_file():
            renew_card(run / "model", run)


def claimed(
    out: Path, config: Config, device: torch.device, command: Sequence[str], marks: Mapping[str, str]
) -> Config:
    """Writes config.yaml and run.json into a run's folder, unless the folder does not accept the config.

    Args:
      out: the run's folder; made if missing.
      command: the command line, for run.json.
      marks: further entries of run.json.

    Returns:
      The resolved config, see `resolved.settled`.

    Raises:
      UserError: a file is in the way, or another config has been trained there.
    """
    file = out / "config.yaml"
    for place, is_fit in ((file, Path.is_file), (out / "model", Path.is_dir)):  # checked now, not after days
        if os.path.lexists(place) and not is_fit(place):
            raise UserError(f"{place} exists and is not what a run would put there; move it, or choose another --out")
    begun = begun_in(out)
    config = settled(config, device, begun, unnamed_in(file) if begun else {})
    raised = raised_steps(config, begun, out)
    text, stages = config_file.dump(config), stages_of(config)
    facts = {"config_sha256": text_digest(text), "precision": precisions(config, stages), **raised, **marks}
    slow = slow_ones(config, stages, device)
    if slow:
        say("warning", f"{slow}.")
        facts["precision_is_slow"] = slow
    if device.type == "cpu":  # last bits depend on it
        facts["kernels"] = "compiled" if compiled.kernels() else "torch's"
    runtime.write_run_json(out, command, **facts)
    runtime.replace_file(file, text)
    return config


def raised_steps(config: Config, begun: Config | None, out: Path) -> dict[str, dict[str, int]]:
    """Checks that a run's folder accepts a config: any if nothing was trained there, otherwise the same with as many steps or
    more. Keys that change the speed alone may differ, with a warning that the last bits do.

    Args:
      begun: of the run in the folder, see `resolved.begun_in`.

    Returns:
      For run.json: the earlier numbers of steps that changed, by stage.

    Raises:
      UserError: the folder holds a run with another config; every key that differs is named, with both values.
    """
    if begun is None:
        return {}
    # Compared as configs: a key that is newer than the run has its default there.
    differences = {key: ends for key, ends in unequal(begun, config).items() if key not in _STATED}
    speed = {key: ends for key, ends in differences.items() if _SPEED.fullmatch(key)}
    differences = {key: ends for key, ends in differences.items() if key not in speed}
    stages = {key: match[1] for key in differences if (match := re.fullmatch(r"train\.(\w+)\.num_steps", key))}
    differing = describe_differences(differences)
    if len(stages) < len(differences):
        raise UserError(
            f"{out} holds a run with another config ({differing}); choose another --out, or delete that folder"
        )
    if speed:
        say(
            "warning",
            f"{out} was begun with other settings of speed ({describe_differences(speed)}); it goes on, and may end with"
            " other last bits than an uninterrupted run.",
        )
    before = {stages[key]: there for key, (there, _) in differences.items()}
    for key, (there, here) in differences.items():
        stage = stages[key]
        if here < there and _is_trained(out, stage):
            raise UserError(
                f"{out} holds a run with more steps ({differing}), and a run cannot be shortened: choose another --out, or"
                " at least as many steps"
            )
        later = [name for name, needed in BUILDS_ON.items() if stage in needed and _is_trained(out, name)]
        if later and _is_trained(out, stage):
            homes = " ".join(str(checkpoint.home(out, name)) for name in later)
            raise UserError(
                f"{out} holds a run with fewer steps ({differing}), and {', '.join(later)} was trained on the result of {stage};"
                f" choose another --out, or delete {homes} to train it again afterwards"
            )
    return {_BEFORE: before} if before else {}


def with_more_steps(config: Config, out: Path, stages: Sequence[str] | None, more: int) -> Config:
    """The config of a run, with more steps of stages that have ended.

    A stage that has not ended is continued to its end first, so that the same command can be given again after an interruption.

    Args:
      out: the run's folder.
      stages: those that get more steps; None for the last one that the run trains.
      more: how many.

    Raises:
      UserError: nothing was trained there, or not one of the stages.
    """
    if more < 1:
        raise UserError(f"--more-steps is {more}; give at least 1")
    begun = begun_in(out)
    if begun is None:
        raise UserError(f"--more-steps continues a run, but nothing was trained in {out}; leave it out to begin one")
    for stage in stages or stages_of(begun)[-1:]:
        newest = checkpoint.newest(out, stage)
        if newest is None:
            raise UserError(f"--more-steps: {out} holds no checkpoint of {stage}; name in --stages what was trained")
        train, has = getattr(config.train, stage), getattr(begun.train, stage).num_steps
        if newest.step < has:
            say(stage, f"has taken {newest.step:,} of its {has:,} steps; these are finished first, without more.")
        wanted = has if newest.step < has else has + more
        longer = train.model_copy(update={"num_steps": wanted})
        config = config.model_copy(update={"train": config.train.model_copy(update={stage: longer})})
    return config


def repeated_too_often(config: Config, num_clips: int, stages: Collection[str]) -> list[str]:
    """A warning if the training clips are so few that a model memorises them."""
    passes = {stage: passes_over(config, num_clips, stage) for stage in STAGES if stage in stages}
    often = {stage: times for stage, times in passes.items() if times > MOST_PASSES}
    if not often:
        return []
    uses = ", ".join(f"{times:,.0f} times by {stage}" for stage, times in often.items())
    return [
        f"too few clips: each of the {num_clips:,} training clips is used {uses}, so the model will memorise them; prepare more"
        " clips, or train for fewer steps"
    ]


def passes_over(config: Config, num_clips: int, stage: str) -> float:
    """How often a stage uses each training clip, on average."""
    train = getattr(config.train, stage)
    return train.num_steps * train.batch_size * train.accumulate / num_clips


def earlier_num_steps(out: Path, stage: str) -> list[int]:
    """The numbers of steps of a stage at earlier starts of a run, from run.json."""
    try:
        now = json.loads(read_small(out / "run.json", limit=runtime.MOST_RUN_JSON_BYTES))
        starts = [start.get(_BEFORE, {}).get(stage) for start in (now, *now.get("earlier", []))]
    except (UserError, ValueError, AttributeError, TypeError, RecursionError):
        return []  # unreadable, and a checkpoint may not need it
    return [steps for steps in starts if type(steps) is int]


def _is_trained(out: Path, stage: str) -> bool:
    return any(checkpoint.home(out, stage).glob("step-*"))
