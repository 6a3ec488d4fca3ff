"""One cell: claimed, trained, evaluated. If a process dies, the next one continues its cell."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tqdm import tqdm

from cdcd_video import evaluation
from cdcd_video.ablate.plan import Cell, Plan
from cdcd_video.engine import runtime
from cdcd_video.evaluation.report.score_files import write_cost, write_protocol, write_scores, write_videos
from cdcd_video.metrics import suite
from cdcd_video.metrics.references import ORACLES, REFERENCES
from cdcd_video.metrics.statistics.saved_evaluation import COST
from cdcd_video.pipeline import ImageToVideo
from cdcd_video.storage.folder_lock import FolderInUse, folder_lock
from cdcd_video.training import training_run

REFERENCE_FOLDER = "references"
CACHE_FOLDER = "cache"
SCORES = "scores.jsonl"
"""Written last, so a cell is complete if this file exists."""


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether this process has the folder to itself inside the `with`; the lock ends with the process."""
    with ExitStack() as held:
        try:
            held.enter_context(folder_lock(folder))
            is_ours = True
        except FolderInUse:
            is_ours = False
        yield is_ours


def is_done(plan: Plan, folder: Path) -> bool:
    """Whether all evaluations of a cell (or of the references) are complete."""
    return all((folder / name / SCORES).is_file() for name in plan.ablation.measured)


def run(plan: Plan, cell: Cell, command: Sequence[str], batch_size: int) -> None:
    """Trains a cell from its last checkpoint, then runs its missing evaluations.

    Raises:
      UserError: from training or evaluation.
      SystemExit: stopped by a signal, after saving.
    """
    training = training_run.TrainingRun(cell.config, cell.folder, command, cache=plan.out / CACHE_FOLDER)
    training.train(plan.stages_of(cell))
    pipe = ImageToVideo.from_pretrained(cell.folder)
    for name in plan.ablation.measured:
        if not (cell.folder / name / SCORES).is_file():
            measure(plan, pipe, name, cell.folder / name, ("model",), batch_size)


def run_references(plan: Plan, cell: Cell, batch_size: int) -> None:
    """Evaluates the references once for all cells: they share videos, codec and CLIP.

    Args:
      plan: the ablation.
      cell: any finished one, for its codec.
      batch_size: videos at a time.
    """
    pipe, folder = ImageToVideo.from_pretrained(cell.folder), plan.out / REFERENCE_FOLDER
    for name in plan.ablation.measured:
        if not (folder / name / SCORES).is_file():
            measure(plan, pipe, name, folder / name, (*REFERENCES, *ORACLES), batch_size)


def measure(
    plan: Plan, pipe: ImageToVideo, name: str, folder: Path, systems: Sequence[str], batch_size: int
) -> dict[str, float]:
    """One evaluation of one model; writes the files of `evaluate.py` without the report. Returns the seconds it took."""
    metrics = plan.ablation.measured[name].metrics
    bench = evaluation.prepare(pipe, plan.protocols[name], metrics)
    frames = suite.frames_to_sample(bench.dataset, bench.settled.protocol, metrics, systems)
    with tqdm(total=frames, desc=f"{folder.parent.name}: {name}", unit="frame", mininterval=5) as bar:
        found = bench.run(batch_size, bar.update, systems)
    folder.mkdir(parents=True, exist_ok=True)
    write_videos(found.videos, folder / "per_video.jsonl")
    write_protocol(bench.settled, folder / "protocol.yaml")
    cost = runtime.provenance(threads=bench.threads, precision=bench.precision) | {"seconds": found.seconds}
    write_cost(cost, folder / COST)
    write_scores(found.scores, bench.facts(), folder / SCORES)
    return found.seconds
