"""Detects cuts between shots with PySceneDetect's adaptive detector, on every frame of the file."""

from typing import Any

import av
import numpy as np
from jaxtyping import UInt8

DETECTOR: dict[str, Any] = {
    "detector": "adaptive",
    "rules": [{"threshold": 2.5, "least": 15.0}, {"threshold": 5.0, "least": 6.5}],
    "window": 2,
    "hue_range": 128,
}
"""Settings of the detection, as in a manifest. A cut is a frame that differs, by one of the rules, from the one before by at
least `least` (mean over hue, saturation and brightness, of 255) and by `threshold` times the mean of the differences within
`window` frames around: much, or less where little else moves, as at a jump cut. `hue_range` is that of
`chroma_detector.ChromaDetector`. Chosen by `python -m cdcd_video.tools.cuts`, see docs/data.md: a false cut only splits a shot,
but a missed cut puts a sudden change into training. The first threshold is therefore a little lower than PySceneDetect's own."""

SIDE_PX = 128
"""Frames are compared at this size."""

# Animation is drawn on every second or third frame, and a screen recorded at 30 fps may move at 5: the frames in between
# repeat, and against a neighbourhood of nothing every movement looks like a cut. So repetitions are left out, for so long
# after the last frame that was not. Not longer, or each picture of a slide show would have the next pictures as its
# neighbours, and none would be a cut.
_REPEATED_S = 0.25
_SAME = 0.5  # mean difference of two frames that are one, of 255: what compression adds

# Sizes by averaging (swscale's `area`), with accurate rounding and the same bits on every processor.
_AREA_SWSCALE = 0x20 | 0x40000 | 0x80000


def shrunk(frame: av.VideoFrame) -> UInt8[np.ndarray, "s s 3"]:
    """A frame as it is compared: blue, green, red; neither its shape nor its rotation matters for that."""
    return frame.reformat(
        width=SIDE_PX, height=SIDE_PX, format="bgr24", interpolation=_AREA_SWSCALE, threads=1
    ).to_ndarray()


class CutFinder:
    """Takes the frames of one video in order, and finds those at which a shot begins.

    It needs every frame of the video: at a few frames per second, ordinary motion changes frames as much as a cut does.

    Args:
      detectors: of the class `scenedetect.AdaptiveDetector`, in their first state; none: a `ChromaDetector` for each rule of
        `DETECTOR`.
    """

    def __init__(self, *detectors: Any):
        from scenedetect import FrameTimecode  # of the extra `data`; other recipes do without

        from cdcd_video.data.chroma_detector import ChromaDetector

        self._timecode = FrameTimecode
        self._detectors = detectors or [
            ChromaDetector(
                DETECTOR["hue_range"],
                adaptive_threshold=rule["threshold"],
                min_content_val=rule["least"],
                window_width=DETECTOR["window"],
                min_scene_len=0,
            )
            for rule in DETECTOR["rules"]
        ]
        self._numbers: list[int | None] = []  # number of each frame that the detectors have seen
        self._last: np.ndarray | None = None
        self._num_frames, self._last_s = 0, 0.0
        self._cuts: set[int] = set()

    def add_frame(self, frame: av.VideoFrame, time_s: float) -> None:
        """Takes the next frame, and when it is shown."""
        self.add_pixels(shrunk(frame), time_s)

    def add_pixels(self, pixels: UInt8[np.ndarray, "h w 3"], time_s: float) -> None:
        """The same of a frame that is `shrunk` already."""
        number, last = self._num_frames, self._last
        self._num_frames += 1
        self._last = pixels
        if last is None:
            self._pad(pixels)
        elif time_s < self._last_s + _REPEATED_S and np.abs(pixels.astype(np.int16) - last).mean() < _SAME:
            return
        self._last_s = time_s
        self._show(pixels, number)

    def finish(self) -> list[int]:
        """Numbers of the frames at which a new shot begins, ascending, counted from the first one seen."""
        if self._last is not None:
            self._pad(self._last)
        return sorted(number for number in self._cuts if number > 0)

    def _pad(self, pixels: np.ndarray) -> None:
        """Repeats the first or last frame, because a detector needs neighbours on both sides of a frame."""
        for _ in range(max(detector.window_width for detector in self._detectors)):
            self._show(pixels, None)

    def _show(self, pixels: np.ndarray, number: int | None) -> None:
        self._numbers.append(number)
        time = self._timecode(len(self._numbers) - 1, 25.0)
        for found in (cut for detector in self._detectors for cut in detector.process_frame(time, pixels)):
            number = self._numbers[found.frame_num]
            if number is not None:
                self._cuts.add(number)
