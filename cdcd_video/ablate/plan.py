"""An ablation as a file: a question, a config, arms that change it, and evaluations. Imports no torch."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from cdcd_video.ablate.endpoint_section import Endpoint, checked_endpoints
from cdcd_video.config import Config, Section, config_file
from cdcd_video.errors import UserError
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.scores import checked_metrics

BASE = "base"
"""What the bases of `from` are called: their folders are base-SEED."""
Changes = tuple[str, ...]
"""As after `--set`: section.key=value."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class Measured(Section):
    """One evaluation of every cell."""

    protocol: str
    """A file of configs/eval, relative to the ablation's."""
    metrics: Annotated[tuple[str, ...], Field(min_length=1)]
    set: Changes = ()
    """Overrides of that file."""


class BaseRun(Section):
    """What every arm begins with: one trained model for each seed, whose denoiser all arms of that seed train further."""

    set: Changes = ()
    """Overrides of the base's config, beside those of every cell."""
    stages: Annotated[tuple[str, ...], Field(min_length=1)] = ("diffusion",)
    """Stages of the base that are trained."""


class Ablation(Section):
    """Cells = (arms x across, then null arms, then baselines) x seeds, all with the same data, steps, codec and CLIP."""

    earlier_keys: ClassVar[Mapping[str, str]] = MappingProxyType({"rivals": "baselines"})

    question: str
    """The question, as one sentence."""
    config: str
    """The config of every cell, relative to this file."""
    set: Changes = ()
    """Overrides for every cell."""
    stages: Annotated[tuple[str, ...], Field(min_length=1)] = ("diffusion",)
    """Stages that are trained."""
    arms: Annotated[dict[Name, Changes], Field(min_length=1)]
    """The arms, with their overrides. All are compared with the first, unless `reference` names another."""
    across: dict[Name, Changes] = Field(default_factory=dict)
    """Conditions that are crossed with every arm; arms are compared within each condition."""
    null_arms: dict[Name, Name] = Field(default_factory=dict)
    """Arms that repeat another arm with other random numbers, by name: their difference from it is chance alone."""
    baselines: dict[Name, Changes] = Field(default_factory=dict)
    """Further arms that are not crossed."""
    base_run: BaseRun | None = Field(default=None, alias="from")
    """Where given, all arms of a seed begin with the weights of one trained base, and differences are paired by it."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2)
    """Training seeds: of weights, order of the examples, corruption. With `from` one base is trained for each."""
    reference: Name | None = None
    endpoints: tuple[Endpoint, ...] = ()
    """What is tested, declared before training; all other scores are listed without a test, and the ablation cannot be changed
    once it has begun. Without endpoints every score is compared by its interval, as in earlier versions."""
    pilot: str | None = None
    """Folder of an earlier ablation, whose differences tell the deviation that the power is computed from."""
    measured: Annotated[dict[Name, Measured], Field(min_length=1)]
    """The evaluations of every cell, by name."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Ablation":
        for name, repeated in self.null_arms.items():
            if repeated not in self.arms:
                raise ValueError(f"the null arm {name} repeats {repeated!r}, which is not one of arms")
        names = [arm.name for arm in self.every_arm()]
        if len(set(names)) < len(names) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("two arms or two seeds are equal")
        if self.reference is not None and self.reference not in {**self.arms, **self.baselines}:
            raise ValueError(f"reference is {self.reference!r}, which is not an arm")
        if self.base_run and (BASE in names or "diffusion" not in self.stages):
            raise ValueError(f"with `from`, no arm can be called {BASE}, and stages must have diffusion")
        checked_endpoints(self.endpoints, {name: measured.metrics for name, measured in self.measured.items()})
        return self

    def every_arm(self) -> list["Arm"]:
        """All arms in the order in which they are trained: one column after the other, then the baselines."""
        reference = self.reference or next(iter(self.arms))
        columns = self.across or {"": ()}
        arms = []
        for (column, crossed), (name, changes) in itertools.product(columns.items(), self.arms.items()):
            full = f"{name}-{column}" if column else name
            held = f"{reference}-{column}" if column and reference in self.arms else reference
            arms.append(Arm(full, held, (*crossed, *changes)))
        first, by_name = arms[0].reference, {arm.name: arm for arm in arms}
        for (column, _), (stream, (name, repeated)) in itertools.product(
            columns.items(), enumerate(self.null_arms.items(), 1)
        ):
            end = f"-{column}" if column else ""
            arms.append(Arm(name + end, repeated + end, by_name[repeated + end].changes, stream))
        return arms + [Arm(name, first, changes) for name, changes in self.baselines.items()]


@dataclass(frozen=True)
class Arm:
    """One variant that is compared."""

    name: str
    reference: str
    """The arm that it is compared with; its own name for that arm itself."""
    changes: Changes
    stream: int = 0
    """Which random numbers it is trained with; another one than 0 for null arms alone."""

    @property
    def is_null(self) -> bool:
        """Whether it only repeats its reference."""
        return self.stream > 0


@dataclass(frozen=True)
class Cell:
    """One training run: an arm with a seed, in a run folder of its own. `seed` is that of its base, where there is one."""

    arm: Arm
    seed: int
    config: Config
    folder: Path


@dataclass(frozen=True)
class Plan:
    """An ablation whose configs are all read and valid."""

    file: Path
    ablation: Ablation
    out: Path
    cells: tuple[Cell, ...]
    protocols: Mapping[str, Protocol]
    """By the name of the evaluation."""
    bases: Mapping[int, Cell] = field(default_factory=dict)
    """By seed; empty without `from`."""

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """By name, in order."""
        return {arm.name: arm for arm in self.ablation.every_arm()}

    @property
    def tested_arms(self) -> list[Arm]:
        """Those that are compared with a reference in every endpoint."""
        return [arm for arm in self.arms.values() if arm.reference != arm.name and not arm.is_null]

    @property
    def num_tests(self) -> int:
        """Tests that were declared: of every endpoint and arm."""
        return len(self.ablation.endpoints) * len(self.tested_arms)

    def stages_of(self, cell: Cell) -> tuple[str, ...]:
        """The stages that are trained in a cell, or in a base."""
        base_run = self.ablation.base_run
        return base_run.stages if base_run and cell.arm.name == BASE else self.ablation.stages

    def of(self, arm: str) -> list[Cell]:
        """The cells of an arm, one per seed."""
        return [cell for cell in self.cells if cell.arm.name == arm]


def read(path: Path, overrides: Sequence[str], out: Path | None) -> Plan:
    """Reads an ablation and its configs and protocols.

    Args:
      path: a file of configs/ablations.
      overrides: as after `--set`, of the ablation's own fields.
      out: folder of the cells; runs/ablations/NAME when None.

    Raises:
      UserError: a file is missing, or a cell's config or a protocol is wrong; the cell is named.
    """
    ablation = config_file.load(path, Ablation, overrides)
    out = out or Path("runs/ablations") / path.stem
    bases: dict[int, Cell] = {}
    cells: list[Cell] = []
    if ablation.base_run:
        bases = {cell.seed: cell for cell in _cells(path, ablation, Arm(BASE, BASE, ablation.base_run.set), out, {})}
    for arm in ablation.every_arm():
        cells += _cells(path, ablation, arm, out, bases)
    protocols = {}
    for name, measured in ablation.measured.items():
        protocols[name] = config_file.load(path.parent / measured.protocol, Protocol, measured.set)
        checked_metrics(measured.metrics, protocols[name].world)
    return Plan(path, ablation, out, tuple(cells), protocols, bases)


def _cells(path: Path, ablation: Ablation, arm: Arm, out: Path, bases: Mapping[int, Cell]) -> list[Cell]:
    """The cells of an arm, or the bases; their configs differ in name, seed and base only, and so are read once."""
    first = f"{arm.name}-{ablation.seeds[0]}"
    try:
        changes = [*ablation.set, *arm.changes, f"name={first}"]
        read_once = config_file.load(path.parent / ablation.config, Config, changes)
    except UserError as error:
        raise UserError(f"{path}, cell {first}: {error}") from None
    if bases:
        _check_base(path, first, read_once, bases[ablation.seeds[0]].config)
    cells = []
    for seed in ablation.seeds:
        name = f"{arm.name}-{seed}"
        own: dict[str, Any] = {"name": name, "seed": training_seed(seed, arm.stream) if bases or arm.is_null else seed}
        own |= {"init": str(bases[seed].folder)} if bases else {}
        cells.append(Cell(arm, seed, read_once.model_copy(update=own), out / name))
    return cells


def training_seed(seed: int, stream: int) -> int:
    """The training seed of the cells that continue a base, or that repeat another cell.

    It differs from that of the base, whose batches would otherwise come again, and is the same for all arms of a stream: they
    have the same batches, times and corruption, so that their difference is due to what they train.
    """
    return int(np.random.SeedSequence((seed, stream)).generate_state(1)[0])


def _check_base(path: Path, name: str, mine: Config, its: Config) -> None:
    """Refuses an arm that cannot begin with the weights of its base."""
    if mine.reuse is None:
        raise UserError(
            f"{path}: with `from`, all bases share CLIP and codec; name a model that has them as reuse=MODEL in set"
        )
    for section in ("reuse", "data", "clip", "codec", "denoiser", "baseline"):
        if getattr(mine, section) != getattr(its, section):
            raise UserError(
                f"{path}, cell {name}: {section} is another than the base's, so that it cannot begin with its weights; change"
                f" {section} in `set`, for all"
            )
