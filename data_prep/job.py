"""A job of `encode`: what to encode and where to, as passed between the command and the tasks of a cluster."""

import dataclasses
from pathlib import Path

from cdcd_video.errors import UserError


@dataclasses.dataclass(frozen=True)
class Job:
    """The options of `encode`.

    Attributes:
      model: a run folder, a model folder or a shipped model: whose CLIP and codec.
      out: the cache to make.
      data: a prepared folder; or
      recipe: a recipe's name and its options.
      max_frames: frames of each clip that are encoded; None for all.
      device: `auto`, `cpu`, `cuda`, ...
      shard: which part of the work.
      num_shards: how many parts there are.
    """

    model: str
    out: Path
    data: Path | None
    recipe: tuple[str, ...]
    max_frames: int | None
    device: str
    shard: int = 0
    num_shards: int = 1

    def __post_init__(self):
        if bool(self.recipe) == (self.data is not None):
            raise UserError(
                "nothing to encode is given, or two things; give either --data FOLDER or a recipe with its options"
            )
        if self.num_shards < 1 or not 0 <= self.shard < self.num_shards:
            raise UserError(f"--shard must be from 0 to --num-shards - 1, not {self.shard} of {self.num_shards}")
        if self.max_frames is not None and self.max_frames < 1:
            raise UserError(f"--max-frames must be at least 1, not {self.max_frames}")
