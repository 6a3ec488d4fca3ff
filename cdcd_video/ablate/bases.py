"""The trained bases of an ablation with `from`: one for each seed, and all arms of the seed begin with its weights."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence

from cdcd_video.ablate import cell as cells
from cdcd_video.ablate.plan import Cell, Plan
from cdcd_video.engine.runtime import replace_file
from cdcd_video.errors import UserError
from cdcd_video.model import folder_of
from cdcd_video.storage.folder_lock import folder_lock
from cdcd_video.storage.small_file import read_small_json
from cdcd_video.training import training_run

FILE = "base.json"
"""In a base: the digest of its trained denoiser. In a cell: that of the one it began with."""


def is_trained(base: Cell) -> bool:
    """Whether a base has been trained to its end."""
    return (base.folder / FILE).is_file()


def train_all(plan: Plan, wanted: Iterable[Cell], command: Sequence[str], say: Callable[[str], None]) -> None:
    """Trains the bases of some cells; waits for those that another process trains, after the others.

    Args:
      plan: the ablation.
      wanted: cells.
      command: the command line, for run.json.
      say: takes a sentence for the user.
    """
    seeds = dict.fromkeys(cell.seed for cell in wanted if plan.bases)
    open_bases = [plan.bases[seed] for seed in seeds if not is_trained(plan.bases[seed])]
    for base in open_bases:
        with cells.claimed(base.folder) as is_ours:
            if is_ours:
                _train(plan, base, command, say)
    for base in open_bases:
        with folder_lock(base.folder, wait=say):  # trained by another process, which may have died
            _train(plan, base, command, say)


def _train(plan: Plan, base: Cell, command: Sequence[str], say: Callable[[str], None]) -> None:
    if is_trained(base):
        return
    say(f"{base.folder.name}: started")
    run = training_run.TrainingRun(base.config, base.folder, command, cache=plan.out / cells.CACHE_FOLDER)
    run.train(plan.stages_of(base))
    replace_file(base.folder / FILE, json.dumps({"denoiser_sha256": _digest(base)}) + "\n")


def begin_with_base(plan: Plan, cell: Cell) -> None:
    """Notes in a cell's folder which weights it begins with.

    Raises:
      UserError: it began with others, so that it is not paired with the other arms any more.
    """
    if not plan.bases:
        return
    now, file = _digest(plan.bases[cell.seed]), cell.folder / FILE
    if not file.is_file():
        cell.folder.mkdir(parents=True, exist_ok=True)
        replace_file(file, json.dumps({"denoiser_sha256": now}) + "\n")
    elif read_small_json(file) != {"denoiser_sha256": now}:
        raise UserError(
            f"{cell.folder} began with other weights than {plan.bases[cell.seed].folder} has now; delete {cell.folder} to train"
            " it again"
        )


def check_paired(plan: Plan) -> None:
    """Checks that the finished cells of each seed began with the same weights.

    Raises:
      UserError: two did not.
    """
    for cell in plan.cells if plan.bases else ():
        if cells.is_done(plan, cell.folder):
            begin_with_base(plan, cell)


def _digest(base: Cell) -> str:
    return hashlib.sha256((folder_of(str(base.folder)) / "denoiser.safetensors").read_bytes()).hexdigest()
