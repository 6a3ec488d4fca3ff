"""PySceneDetect's adaptive detector with hue as the angle that it is. Imports the extra `data`."""

import cv2
import numpy as np
from jaxtyping import UInt8
from scenedetect import AdaptiveDetector, FrameTimecode

HALF_TURN = 90
"""Largest difference of two hues: OpenCV divides the turn by 180, so that it fits into a byte."""


class ChromaDetector(AdaptiveDetector):
    """Compares frames by hue, saturation and brightness like its parent, for which 179 and 0, neighbouring reds, are opposites.

    The difference of two hues is that of the angles, times the lower saturation of both, since grey has no hue to speak of, and
    such that saturated opposites differ by `hue_range`. The score of a frame is the mean over the three, of 255.

    Args:
      hue_range: as above.
      options: of `scenedetect.AdaptiveDetector`.
    """

    def __init__(self, hue_range: float, **options: float):
        super().__init__(**options)
        self._hue_scale = hue_range / HALF_TURN / 255
        self._last: np.ndarray | None = None

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: UInt8[np.ndarray, "h w 3"]) -> float:
        """The score of a frame against the one before; 0 for the first."""
        hsv, last = cv2.cvtColor(frame_img, cv2.COLOR_BGR2HSV).astype(np.int16), self._last
        self._last = hsv
        if last is None:
            return 0.0
        hue, saturation, brightness = np.moveaxis(np.abs(hsv - last), -1, 0)
        angle = np.minimum(hue, 2 * HALF_TURN - hue)
        colourful = angle * np.minimum(hsv[..., 1], last[..., 1]).astype(np.int32)
        return float(self._hue_scale * colourful.mean() + saturation.mean() + brightness.mean()) / 3
