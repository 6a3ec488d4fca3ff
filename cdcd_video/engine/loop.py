"""The training loop: step, log, evaluate, save, resume, stop; independent of what is trained."""

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import nn

from cdcd_video.engine import checkpoint, distributed, optim, parallel, runtime
from cdcd_video.engine.distributed import NullLogger
from cdcd_video.engine.ema import Ema
from cdcd_video.engine.failures import as_user_error
from cdcd_video.engine.log import Averages, Console, Journal, NotFiniteError
from cdcd_video.engine.optim import TrainSettings
from cdcd_video.engine.stop_signals import Stop, listening
from cdcd_video.engine.throughput import Clock, TimedTask, memory
from cdcd_video.engine.train_step import Task, train_step
from cdcd_video.engine.watch import Watchers
from cdcd_video.errors import UserError
from cdcd_video.storage.tensor_file import find_fault
from cdcd_video.video import contact_sheet


@dataclass(frozen=True)
class TrainResult:
    """How a call of `train` ended."""

    step: int
    """Steps taken so far, over all starts."""
    is_finished: bool
    """False if the time was up first."""
    checkpoint: Path
    """The newest checkpoint."""
    evaluation: dict[str, float]
    """The latest evaluation."""
    seconds: float
    """Wall-clock time over all starts."""


def train(
    task: Task,
    settings: TrainSettings,
    out: Path,
    *,
    seed: int,
    identity: dict[str, str],
    formerly: Mapping[str, Collection[str]] = MappingProxyType({}),
    watch: Sequence[str] = (),
    shard: str = "ddp",
) -> TrainResult:
    """Trains a task up to `settings.num_steps`, from the newest checkpoint in `out`.

    On a CPU a run that was stopped and resumed ends with the same bits as one that was not. After SIGINT or SIGTERM it
    finishes the step, saves and exits with 130 or 143.

    Args:
      out: the run's folder: `checkpoints/TASK/` and `log.jsonl`; several tasks may share it, one after another.
      seed: of all random numbers.
      identity: what must not change between starts, such as the hashes of config, data and codec. The number of steps may
        grow.
      formerly: by key of `identity`, values that older checkpoints of the same run may have.
      watch: loggers, of `engine.watch.WATCHERS`.
      shard: how several processes share the model, of `engine.parallel.SHARDS`; a resumed run may change it, and their
        number.

    Returns:
      How it ended; the task's model has the last weights, not the averaged ones.

    Raises:
      UserError: a loss that is not finite, damaged checkpoints or those of another run, memory or disk is full.
      SystemExit: stopped by a signal, after saving.
    """
    runtime.set_threads(settings.num_threads)
    run = _Run(task, settings, out, seed, {"seed": str(seed), **identity}, shard, formerly)
    run.resume()
    run.open_watchers(watch)
    devices = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices), listening() as stop:
        try:
            with as_user_error(task.name, lambda: run.step + 1, run.last_good):
                run.go(stop)
                run.leave()
        finally:
            run.console.close()
            run.watchers.close()
    if stop.received is not None:
        raise SystemExit(128 + stop.received)
    is_finished = run.step >= settings.num_steps
    return TrainResult(run.step, is_finished, cast(Path, run.saved), run.evaluation, run.seconds)


@dataclass
class _Run:
    """The state of one call of `train`."""

    task: Task
    settings: TrainSettings
    out: Path
    seed: int
    identity: dict[str, str]
    shard: str = "ddp"
    formerly: Mapping[str, Collection[str]] = field(default_factory=dict)
    step: int = 0
    seconds_before: float = 0.0
    saved: Path | None = None
    saved_step: int = 0
    evaluation: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    """Step and value of the evaluation with the lowest `settings.keep_best` so far."""

    def __post_init__(self):
        self.device = next(iter(optim.trained_parameters(self.task.model).values())).device
        self.spread = parallel.Spread(self.task, self.shard) if distributed.world().size > 1 else None
        self.optimizer = optim.make_optimizer(self.task.model, self.settings)
        self.ema = Ema(self.task.model, self.settings.ema_decay)
        self.journal = Journal(self.out / "log.jsonl", self.task.name) if distributed.is_main() else NullLogger()
        self.averages = Averages()
        self.clock = Clock()
        self.timed_task = TimedTask(self.spread or self.task, self.clock)
        self.started = self.saved_at = time.monotonic()
        with runtime.writing_to(self.out):
            self.out.mkdir(parents=True, exist_ok=True)

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def resume(self) -> None:
        """Loads the newest valid checkpoint, if there is one."""
        distributed.by_main(lambda: checkpoint.sweep(self.out, self.task.name))
        found = distributed.by_main(lambda: checkpoint.newest(self.out, self.task.name, set_aside=True))
        if not distributed.is_main():
            found = checkpoint.newest(self.out, self.task.name)
        distributed.check_alike(f"the newest checkpoint of {self.task.name}", found.step if found else 0)
        if found is not None:
            checkpoint.check_identity(found, self.identity, self.formerly)
            if found.step > self.settings.num_steps:
                raise UserError(
                    f"{found.folder} has taken {found.step} steps, and num_steps is {self.settings.num_steps}; a run cannot"
                    " be shortened: choose a new --out, or at least as many steps."
                )
            try:
                parallel.load_whole(self.task.model, found.tensors("model"))
            except RuntimeError as error:
                why = str(error).splitlines()[-1].strip()
                raise UserError(
                    f"{found.folder} does not fit the model that the config builds ({why}); choose a new --out, or delete"
                    f" {found.folder.parent} to start again."
                ) from None
            self.ema.load_state_dict(found.tensors("ema"))
            optim.load_optimizer_tensors(self.task.model, self.optimizer, found.tensors("optimizer"))
            self.step = self.saved_step = found.step
            self.saved = found.folder
            self.seconds_before = found.facts["seconds"]
            self.evaluation = found.facts["evaluation"]
            self.best = found.facts.get("best", {})
            if "averages" in found.facts:  # absent in older checkpoints
                self.averages.load(found.facts["averages"])
        self.journal.rewind(self.step)
        self.console = (
            Console(self.task.name, self.settings.num_steps, self.step) if distributed.is_main() else NullLogger()
        )
        if 0 < self.step < self.settings.num_steps:
            self.console.say(f"resuming from step {self.step} ({self.saved}).")

    def open_watchers(self, names: Sequence[str]) -> None:
        """Opens the loggers, unless the run is finished."""
        wanted = names if self.step < self.settings.num_steps and distributed.is_main() else ()
        facts = {**self.identity, **asdict(self.settings), "seed": self.seed}
        self.watchers = Watchers(wanted, self.out, self.task.name, self.step, facts)

    def go(self, stop: Stop) -> None:
        """Steps until the last one, a signal, or the end of the time allowed."""
        settings = self.settings
        self.task.model.train()
        self.clock.start()
        while self.step < settings.num_steps:
            is_last = self.step + 1 == settings.num_steps
            logs = is_last or self._is_due(settings.log_every, self.step + 1)
            try:
                values = train_step(
                    self.timed_task, self.optimizer, self.ema, settings, step=self.step, seed=self.seed, is_logged=logs
                )
            except (OSError, UserError):
                # The batch cannot be read, the weights are those of the last step. Several processes save together, if all
                # of them know of the failure.
                all_here = self.spread is None or self.spread.is_agreed
                if self.timed_task.is_reading and self.saved_step < self.step and all_here:
                    self._save()
                raise
            self.step += 1
            self.clock.step()
            self.averages.add(self.step, values)
            self.console.advance()

            now = time.monotonic()
            is_late = settings.max_minutes is not None and now - self.started >= 60 * settings.max_minutes
            is_old = settings.checkpoint_every_s is not None and now - self.saved_at >= settings.checkpoint_every_s
            is_late, is_old, heard = distributed.all_max(is_late, is_old, stop.received or 0)
            if heard:  # a signal to one process stops all
                stop.received = int(heard)
            must_stop = is_last or bool(is_late) or stop.received is not None
            evaluates = is_last or self._is_due(settings.eval_every, self.step)
            saves = must_stop or bool(is_old) or self._is_due(settings.checkpoint_every, self.step)

            # Reading a loss makes the CPU wait for the GPU, so with a GPU it is read only when it is needed.
            if self.device.type == "cpu" or logs or evaluates or saves:
                self.averages.settle()
            if logs:
                self._log()
            with self.clock.aside():
                if evaluates:
                    self._evaluate()
                elif self.step == settings.log_every:
                    self._first_sheet()
                if saves or (evaluates and self._is_best()):
                    self._save()
            if must_stop:
                if not is_last or stop.received is not None:
                    why = "" if stop.received is not None else f" after {(now - self.started) / 60:.1f} minutes"
                    self.console.say(
                        f"stopped at step {self.step}{why}; saved {self.saved}; run the same command again to resume."
                    )
                break

    def _is_best(self) -> bool:
        """Whether the evaluation of this very step is the best so far."""
        return self.best.get("step") == self.step

    def leave(self) -> None:
        """Turns a shared model back into a plain one."""
        if self.spread is not None:
            self.spread.close()

    def last_good(self) -> str:
        """A clause on the last good checkpoint."""
        return f"the last good checkpoint is {self.saved}" if self.saved else "no checkpoint had been saved yet"

    @staticmethod
    def _is_due(every: int | None, step: int) -> bool:
        return bool(every and step % every == 0)

    def _log(self) -> None:
        means, pace = self.averages.take(), self.clock.take()
        named = {name: means.pop(name) for name in ("loss", *optim.NORMS) if name in means}
        groups = {name: means.pop(name) for name in list(means) if isinstance(means[name], list)}
        line = {
            "lr": optim.learning_rate(self.step - 1, self.settings),
            **named,
            "precision": self.settings.precision,
            "terms": means,
        }
        if groups:
            line["groups"] = groups
        if hasattr(self.task, "batch_size"):
            line["samples_per_s"] = round(pace["steps_per_s"] * self.task.batch_size * self.settings.accumulate, 2)
        line["idle_share"] = round(pace["idle_share"], 4)
        self._record(**line, **memory(self.device))
        self.console.show(self.step, {"loss": named["loss"], **means})

    def _record(self, **values: Any) -> None:
        """Writes a line of the log, and hands it to the loggers."""
        self.watchers.record(self.journal.write(self.step, self.seconds, **values))

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        # All processes evaluate, alike: a shard of the weights cannot be evaluated, and nobody waits for long.
        whole = self.spread.whole() if self.spread else nullcontext()
        with whole, _evaluating(self.task.model), torch.no_grad():
            yield

    def _first_sheet(self) -> None:
        """The first sheet, with the last weights: so soon the averaged ones are still those of the beginning."""
        if hasattr(self.task, "pictures"):
            with self._evaluating():
                pictures = self.task.pictures()
            self._add_sheet(pictures)

    def _evaluate(self) -> None:
        with self.ema.swapped_in(), self._evaluating():
            now = {name: float(value) for name, value in self.task.evaluate().items()}
            pictures = self.task.pictures() if hasattr(self.task, "pictures") else None
        trends = self.task.trends(self.evaluation, now) if hasattr(self.task, "trends") else {}
        self.evaluation = now | trends
        value = now.get(self.settings.keep_best or "")
        if value is not None and value < self.best.get("value", math.inf):
            self.best = {"step": self.step, "value": value}
        if self.evaluation:
            line: dict[str, Any] = {"evaluation": self.evaluation}
            if hasattr(self.task, "alarms"):
                line["alarms"] = self.task.alarms(self.evaluation, self.step / self.settings.num_steps)
            self._record(**line)
            self.console.show(self.step, self.evaluation)
            for alarm in line.get("alarms", ()):
                self.console.say(f"step {self.step}: ALARM: {alarm}")
        if pictures is not None:
            self._add_sheet(pictures)

    def _add_sheet(self, pictures: tuple[Any, Any]) -> None:
        if distributed.is_main():
            rows, labels = pictures
            sheet = self.out / "samples" / f"{self.task.name}-{self.step:08d}.png"
            self.watchers.picture(self.step, contact_sheet(rows, sheet, labels))

    def _save(self) -> None:
        parts = {
            "model": parallel.collected(self.task.model.state_dict()),
            "ema": parallel.collected(self.ema.state_dict(self.task.model)),
            "optimizer": parallel.collected(optim.optimizer_tensors(self.task.model, self.optimizer)),
        }
        facts = {"seconds": self.seconds, "evaluation": self.evaluation, "averages": self.averages.state()}
        facts |= {"best": self.best} if self.best else {}

        def save() -> Path:
            for tensors in parts.values():  # the loss would show it a step later, after good checkpoints are deleted
                fault = find_fault(tensors)
                if fault is not None:
                    raise NotFiniteError(self.step, f"the weight {fault.tensor}", fault.value)
            how: dict[str, Any] = dict(identity=self.identity, facts=facts, keep=self.settings.keep_checkpoints)
            saved = checkpoint.save(
                self.out, self.task.name, self.step, parts, **how, spare=cast(int | None, self.best.get("step"))
            )
            is_wanted = self.settings.keep_best is None or self._is_best()
            if hasattr(self.task, "keep") and self.step < self.settings.num_steps and is_wanted:
                self.task.keep(parts["ema"], self.step)
            return saved

        saved = distributed.by_main(save)
        self.saved = saved or checkpoint.home(self.out, self.task.name) / checkpoint.name_of(self.step)
        self.saved_step, self.saved_at = self.step, time.monotonic()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the `with`; afterwards each module is in the mode it was in, frozen ones too."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
