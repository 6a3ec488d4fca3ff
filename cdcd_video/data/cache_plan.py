"""What a cache of codes holds, fixed before the first clip is encoded."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cdcd_video.errors import UserError
from cdcd_video.records import Grid

VERSION = 2
TIMED_VERSION = 3
"""Of a cache that holds the times of its frames, which readers of version 2 would not look for."""
ARRAYS = ("codes", "words", "embeddings", "captions", "clips", "cuts")
TIMES = "times"


@dataclass(frozen=True)
class CachePlan:
    """The content of a cache, fixed before the first clip is encoded; two caches of one plan are equal byte for byte.

    Attributes:
      codes: SHA-256 of what makes the codes: the CLIP and the codec's part before the decoder.
      clip: SHA-256 of the CLIP's weights.
      data: SHA-256 of what names the clips.
      num_items: clips that are asked for, those that will be refused included.
      num_codes: K.
      num_tokens: N, codes per frame.
      num_patches: patches of a square frame, which the codec was built for.
      text_width: Dt, width of a caption's token states.
      joint_width: J, width of CLIP's joint space.
      size_px: side of the frames that are encoded.
      fps: frames per second.
      max_frames: frames of each clip that are encoded, from its first; None for all.
      codec: the codec's section of its config.
      recipe: what else decides which clips come out; plain JSON values.
      is_timed: whether frames are not evenly apart, and their times are kept.
      grid: rows and columns of the patches of frames that are no squares; None for the square grid of `num_patches`.
    """

    codes: str
    clip: str
    data: str
    num_items: int
    num_codes: int
    num_tokens: int
    num_patches: int
    text_width: int
    joint_width: int
    size_px: int
    fps: float
    max_frames: int | None
    codec: dict[str, Any]
    recipe: dict[str, Any]
    is_timed: bool = False
    grid: Grid | None = None

    def values(self) -> dict[str, Any]:
        """The plan as JSON values."""
        values = asdict(self)
        version = TIMED_VERSION if values.pop("is_timed") else VERSION
        if self.grid is None:  # as caches of square frames have always been written
            values.pop("grid")
        return json.loads(json.dumps({"version": version, **values}))

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays that it holds."""
        return (*ARRAYS, TIMES) if self.is_timed else ARRAYS

    def check(self, other: dict[str, Any], where: Path, way_out: str) -> None:
        """Refuses a cache, or the beginning of one, that was made by another plan.

        Args:
          other: that plan.
          where: its folder.
          way_out: what the user can do, the end of the sentence.

        Raises:
          UserError: the plans differ; the sentence names both hashes.
        """
        if other == self.values():
            return
        words = {"codes": "codec", "clip": "CLIP", "data": "data"}
        for name, word in reversed(words.items()):
            if name == "codes" and other.get("clip") != self.clip:
                continue  # the codes' hash depends on the CLIP, too
            theirs = str(other.get(name))
            if theirs != getattr(self, name):
                raise UserError(
                    f"{where} was made with the {word} {theirs[:16]}, but this is the {word} "
                    f"{getattr(self, name)[:16]}; {way_out}"
                )
        names = [name for name, value in self.values().items() if other.get(name) != value]
        raise UserError(
            f"{where} was made with {names[0]} {other.get(names[0])!r}, but this run has "
            f"{self.values()[names[0]]!r}; {way_out}"
        )
