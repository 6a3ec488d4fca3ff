"""Changes a clip as a whole without changing what happens in it: mirror, zoom, shift, brightness, a later beginning."""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import UInt8

ZOOM = (0.88, 1.2)
SHIFT_SHARE = 6 / 64
"""Greatest shift along each axis, of the side of a frame: 6 px of 64."""
GAIN, GAMMA = (0.85, 1.15), (0.85, 1.2)
MOST_SKIPPED_S = 0.5
"""Greatest part of a clip's beginning that is left out."""
LEAST_FRAMES = 8
"""Frames of the first shot that are kept in any case."""

Frames = UInt8[np.ndarray, "F H W 3"]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom of what is not a black bar, px."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """One change, the same for all frames of a clip; the default changes nothing.

    Attributes:
      is_mirrored: left and right are exchanged; the caption is another then, see `mirrored_caption`.
      zoom: over 1 the picture is larger.
      right_px, down_px: shift of the picture.
      gain, gamma: a value v of 0 to 1 becomes gain * v ** gamma.
      skipped: frames that are left out at the beginning.
    """

    is_mirrored: bool = False
    zoom: float = 1.0
    right_px: float = 0.0
    down_px: float = 0.0
    gain: float = 1.0
    gamma: float = 1.0
    skipped: int = 0

    def apply(self, frames: Frames, box: Box) -> UInt8[np.ndarray, "_ H W 3"]:
        """The changed frames without those that are skipped; `frames` stays as it is.

        Bars stay where they are and black: only what lies in the box is moved and brightened. Where the picture no longer
        covers the box, its edge is continued.

        Args:
          frames: RGB pixels of a clip.
          box: of the clip's content; see `images.content_box`.
        """
        left, top, right, bottom = box
        content = frames[self.skipped :, top:bottom, left:right]
        if self.is_mirrored:
            content = content[:, :, ::-1]
            left, right = frames.shape[2] - right, frames.shape[2] - left
        changed = np.zeros_like(frames[self.skipped :])
        changed[:, top:bottom, left:right] = np.stack([self._moved(frame) for frame in content])
        changed[:, top:bottom, left:right] = self._levels()[changed[:, top:bottom, left:right]]
        return changed

    def _moved(self, content: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        if (self.zoom, self.right_px, self.down_px) == (1.0, 0.0, 0.0):
            return content
        import cv2  # of the extra `data`; other recipes do without

        height, width = content.shape[:2]
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        offset = (1 - self.zoom) * middle + (self.right_px, self.down_px)
        matrix = np.array([[self.zoom, 0, offset[0]], [0, self.zoom, offset[1]]])
        how = {"flags": cv2.INTER_CUBIC, "borderMode": cv2.BORDER_REPLICATE}
        return cv2.warpAffine(np.ascontiguousarray(content), matrix, (width, height), **how)

    def _levels(self) -> UInt8[np.ndarray, " 256"]:
        values = np.linspace(0, 1, 256)
        return np.clip(255 * self.gain * values**self.gamma, 0, 255).round().astype(np.uint8)


def clip_rng(seed: int, name: str, copy: int) -> np.random.Generator:
    """The random numbers of one copy of one clip; they depend on no other clip."""
    key = hashlib.sha256(f"{seed}/{copy}/{name}".encode("utf-8", "backslashreplace")).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "big")))


def sample_augmentation(
    rng: np.random.Generator, *, size_px: int, fps: float, first_shot: int, is_mirrored: bool
) -> Augmentation:
    """A random change.

    Args:
      rng: of this copy of this clip.
      size_px: side of square frames; frames of other shapes are shifted as far.
      fps: frames per second.
      first_shot: frames of the clip's first shot.
      is_mirrored: whether left and right are exchanged, too.
    """
    room = max(0, min(int(MOST_SKIPPED_S * fps), first_shot - LEAST_FRAMES))
    right_px, down_px = rng.uniform(-1, 1, 2) * SHIFT_SHARE * size_px
    zoom = np.exp(rng.uniform(*np.log(ZOOM)))
    return Augmentation(
        is_mirrored=is_mirrored,
        zoom=float(zoom),
        right_px=float(right_px),
        down_px=float(down_px),
        gain=float(rng.uniform(*GAIN)),
        gamma=float(rng.uniform(*GAMMA)),
        skipped=int(rng.integers(room + 1)),
    )
