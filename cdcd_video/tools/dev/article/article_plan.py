"""What the article consists of, as docs/article/article.yaml declares it, and the result files that its charts show."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cdcd_video.config import Section
from cdcd_video.data.sprites import Split

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Seed = Annotated[int, Field(ge=0)]


class LatentPath(Section):
    """The interactive figure: videos of one starting frame under several sentences, as paths in the latent space."""

    split: Split = "val"
    index: Annotated[int, Field(ge=0)]
    """Number of the scene whose first frame is used."""
    motions: Annotated[tuple[str, ...], Field(min_length=2, max_length=6)]
    """What the first object does, a sentence each."""
    num_frames: Annotated[int, Field(ge=3, le=32)] = 24
    fps: Annotated[float, Field(gt=0, le=60)] = 12.0
    num_training: Annotated[int, Field(ge=2)] = 24
    """Training videos whose paths span the plane."""


class SideBySide(Section):
    """Videos of the model beside references."""

    split: Split = "heldout"
    kinds: Annotated[tuple[str, ...], Field(min_length=1)]
    """Of `side_by_side.KINDS`: the first scene of each is shown, whatever the model makes of it."""
    failures: tuple[str, ...] = ()
    """Likewise: the first scene of each that the model gets wrong is shown."""
    num_tried: Annotated[int, Field(ge=1)] = 8
    """Scenes of each kind among which a failure is looked for."""
    num_frames: Annotated[int, Field(ge=3, le=32)] = 16
    fps: Annotated[float, Field(gt=0, le=60)] = 8.0


class ArticlePlan(Section):
    """The whole article."""

    title: str
    description: str
    """One paragraph under the title, and the page's description."""
    sections: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Files NAME.md beside the plan, in order."""
    checkpoint: str = "sprites"
    """A shipped model, or the folder of one."""
    seed: Seed = 0
    """Of scenes and of sampling."""
    latent_path: LatentPath
    side_by_side: SideBySide


class Cell(Section):
    """One cell of a table in the documentation, and its place in a chart."""

    row: str
    column: str
    """Row and column of the table, by their titles."""
    label: str
    """In the chart."""
    group: str = ""
    """Heading above this cell and those that follow with the same one."""
    numbers: tuple[float, ...]
    """All numbers of the cell, in order."""
    bold: bool = False
    """Whether the table marks the difference as distinguishable from 0."""


class Panel(Section):
    """One axis of a chart."""

    title: str
    unit: str = ""
    plotted: Literal["value", "difference", "dots"]
    """The first three numbers of each cell (value and interval), the next three, or every number as a dot of its own."""
    better: Literal["higher", "lower", ""] = ""
    line: float | None = None
    """A line across the chart, such as 0 for differences."""
    low: float
    high: float
    """Ends of the axis."""
    cells: Annotated[tuple[Cell, ...], Field(min_length=1)]


class ResultFile(Section):
    """Numbers of one table of the documentation, and how they were measured."""

    page: str
    """The document, from the root of the repository."""
    heading: str
    """The table stands under it."""
    command: str
    commit: str
    seeds: tuple[Seed, ...]
    n: str
    panels: Annotated[tuple[Panel, ...], Field(min_length=1)]
    """All with the same labels in the same order."""

    @model_validator(mode="after")
    def _labels_agree(self) -> "ResultFile":
        labels = [[(cell.group, cell.label) for cell in panel.cells] for panel in self.panels]
        if any(own != labels[0] for own in labels):
            raise ValueError("the panels must have the same groups and labels in the same order")
        return self
