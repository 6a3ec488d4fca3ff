"""The common interface of video readers."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

from cdcd_video.data.display import AS_CODED, Placing, is_turned, to_srgb
from cdcd_video.data.images import FitMode, NearestShape, fit


class Reader(ABC):
    """Frames in the order of their times, counted from the first one; what is known of them grows as they are read.

    Attributes:
      display_width: width of the video as shown, pixels; 0 before the first frame.
      display_height: its height.
      num_read: frames read.
      first_s: time of the first one that was read.
      last_s: that of the last one.
      end_s: when the last one ends.
    """

    _matrix: int | None = None
    """Of a codec that has but one."""

    def __init__(self):
        self.display_width = self.display_height = self.num_read = 0
        self.first_s: Fraction | None = None
        self.last_s = self.end_s = Fraction(0)

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel over its height."""
        return 1.0

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yields every frame from where frames are wanted, or from before, with its time in seconds."""

    def pixels(self, frame: av.VideoFrame, size_px: int | tuple[int, int] | NearestShape, mode: FitMode) -> np.ndarray:
        """RGB pixels of a frame as shown, at the size wanted."""
        if isinstance(size_px, NearestShape):
            size_px = size_px.of(self.display_height, self.display_width)
        placing = self.placing(frame)
        aspect = 1 / self.pixel_aspect if is_turned(placing) else self.pixel_aspect
        return fit(to_srgb(frame, placing, self._matrix), size_px, mode, aspect)

    def placing(self, frame: av.VideoFrame) -> Placing:
        """How a frame is mirrored and turned."""
        return AS_CODED

    @abstractmethod
    def check_promise(self) -> None:
        """Refuses a file that ended long before the time in its header.

        Raises:
          Refused: it did.
        """

    def mean_fps(self) -> float:
        """Frames per second, over what was read."""
        if self.num_read > 1 and self.first_s is not None:
            return float((self.num_read - 1) / (self.last_s - self.first_s))
        return float(1 / self.end_s) if self.end_s else 1.0

    def _note(self, frame: av.VideoFrame, time: Fraction, length: Fraction) -> None:
        if self.first_s is None:
            self.first_s = time
            width = round(frame.width * self.pixel_aspect)
            is_upright = not is_turned(self.placing(frame))
            self.display_width, self.display_height = (width, frame.height) if is_upright else (frame.height, width)
        self.num_read += 1
        self.last_s, self.end_s = time, time + length
