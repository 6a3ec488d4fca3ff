"""An ablation as a file: a question, a config, arms that change it, and evaluations. Imports no torch."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from cdcd_video.config import Config, Section, config_file
from cdcd_video.errors import UserError
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.scores import checked_metrics

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


class Ablation(Section):
    """Cells = (arms x across, then baselines) x seeds, all with the same data, steps, codec and CLIP."""

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
    baselines: dict[Name, Changes] = Field(default_factory=dict)
    """Further arms that are not crossed."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2)
    """Training seeds: of weights, order of the examples, corruption."""
    reference: Name | None = None
    measured: Annotated[dict[Name, Measured], Field(min_length=1)]
    """The evaluations of every cell, by name."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Ablation":
        names = [arm.name for arm in self.every_arm()]
        if len(set(names)) < len(names) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("two arms or two seeds are equal")
        if self.reference is not None and self.reference not in {**self.arms, **self.baselines}:
            raise ValueError(f"reference is {self.reference!r}, which is not an arm")
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
        first = arms[0].reference
        return arms + [Arm(name, first, changes) for name, changes in self.baselines.items()]


@dataclass(frozen=True)
class Arm:
    """One variant that is compared."""

    name: str
    reference: str
    """The arm that it is compared with; its own name for that arm itself."""
    changes: Changes


@dataclass(frozen=True)
class Cell:
    """One training run: an arm with a seed, in a run folder of its own."""

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

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """By name, in order."""
        return {arm.name: arm for arm in self.ablation.every_arm()}

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
    cells = []
    for arm, seed in itertools.product(ablation.every_arm(), ablation.seeds):
        name = f"{arm.name}-{seed}"
        changes = [*ablation.set, *arm.changes, f"seed={seed}", f"name={name}"]
        try:
            config = config_file.load(path.parent / ablation.config, Config, changes)
        except UserError as error:
            raise UserError(f"{path}, cell {name}: {error}") from None
        cells.append(Cell(arm, seed, config, out / name))
    protocols = {}
    for name, measured in ablation.measured.items():
        protocols[name] = config_file.load(path.parent / measured.protocol, Protocol, measured.set)
        checked_metrics(measured.metrics, protocols[name].world)
    return Plan(path, ablation, out, tuple(cells), protocols)
