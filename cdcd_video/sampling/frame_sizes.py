"""The size of a video's frames, by the shape of its starting frame: a trained one, or another grid of patches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from cdcd_video.config import Config
from cdcd_video.config.ranges import plain_number
from cdcd_video.config.value_types import Fit, FitMode
from cdcd_video.data.images import NearestShape, content_box, fit
from cdcd_video.errors import UserError
from cdcd_video.sampling.start_images import fitted
from cdcd_video.storage.numerals import significant

BEYOND = 1.5
"""How many times fewer or more patches than any trained frame a frame of another shape may have."""
Size = tuple[int, int]
"""Height and width, px."""


@dataclass(frozen=True)
class FrameSizes:
    """The sizes of frames that a model was trained on, and how other pictures are brought to them.

    Attributes:
      trained: height and width of each, px.
      patch_px: side of a patch, px: every side of a frame is a multiple of it.
      mode: what becomes of pictures of another shape, where nothing else is said.
      is_square: whether the model knows squares only; its videos are square.
    """

    trained: tuple[Size, ...]
    patch_px: int
    mode: FitMode
    is_square: bool

    @classmethod
    def of(cls, config: Config, patch_px: int) -> "FrameSizes":
        """Those of a model's config."""
        sizes = getattr(config.data, "sizes", None)
        square = (config.data.size_px, config.data.size_px)
        return cls(tuple(sizes or [square]), patch_px, config.data.mode, is_square=sizes is None)

    def fitted(
        self, image: UInt8[np.ndarray, "H W 3"], how: Fit | None = None, what: str = "image"
    ) -> tuple[UInt8[np.ndarray, "h w 3"], list[str]]:
        """A picture at the size of the video's frames, and a sentence where its shape is none that the model was trained on.

        A picture of a trained shape is resized. Without `how`, one whose shape is another grid of patches keeps it, and others
        are treated as `mode` says. Nothing is ever cut off or added without a word.

        Args:
          image: RGB pixels.
          how: see `Fit`; crop and letterbox always take the nearest trained shape.
          what: it is, for the sentence.

        Raises:
          UserError: it must have a trained shape, and has none.
        """
        if self.is_square:
            return fitted(image, self.trained[0][0], how or self.mode, what)
        height, width = image.shape[:2]
        alike = [size for size in self.trained if size[0] * width == size[1] * height]
        if alike:
            return fit(image, nearest_area(alike, (height, width)), self.mode), []
        given = f"the {what} has {named([(height, width)])} px (height x width)"
        about = f"{given}, and the model was trained on {named(self.trained)}"
        if how == "exact":
            raise UserError(f"{about}; set fit to crop or letterbox, or give an image of such a shape")
        own = self._own_grid(height, width) if how is None else None
        if own is not None:
            note = (
                f"{about}: the video has {named([own])}, a shape that it was not trained on, and may break down; set fit to"
                " crop or letterbox for the nearest trained shape"
            )
            return fit(image, own, self.mode), [note]
        return self._at(NearestShape(self.trained).of(height, width), image, how or self.mode, about)

    def fitted_to(
        self, size: Size, image: UInt8[np.ndarray, "H W 3"], how: Fit | None = None, what: str = "image"
    ) -> tuple[UInt8[np.ndarray, "h w 3"], list[str]]:
        """A picture at a given size, such as that of the starting frame, and a sentence on what was cut off or added.

        Raises:
          UserError: it must have this shape, and has another.
        """
        height, width = image.shape[:2]
        if self.is_square or size[0] * width == size[1] * height:
            return fitted(image, size[0], how or self.mode, what) if self.is_square else (fit(image, size), [])
        about = f"the {what} has {named([(height, width)])} px (height x width), and the video {named([size])}"
        if how == "exact":
            raise UserError(f"{about}; set fit to crop or letterbox, or give an image of this shape")
        return self._at(size, image, how or self.mode, about)

    def chosen(self, height: int | None, width: int | None) -> Size | None:
        """The size that a caller names; None where he leaves the choice to the picture.

        Raises:
          UserError: one side alone, or one that the model's frames cannot have.
        """
        if self.is_square:
            side = self.trained[0][0]
            for name, given in (("height", height), ("width", width)):
                if given not in (None, side):
                    raise UserError(f"{name} is {given}, but the model's frames are {side} x {side} px; leave it out")
            return None
        if height is None and width is None:
            return None
        height, width = (plain_number(side, is_whole=True) for side in (height, width))
        sides = [side for side in (height, width) if type(side) is int]
        if len(sides) < 2 or min(sides) < 1 or any(side % self.patch_px for side in sides):
            raise UserError(
                f"height and width are {height} and {width}; give both as multiples of {self.patch_px}, such as"
                f" {named(self.trained)}, or leave both out"
            )
        return sides[0], sides[1]

    def _at(self, size: Size, image: np.ndarray, mode: FitMode, about: str) -> tuple[np.ndarray, list[str]]:
        (height, width), (rows, columns) = image.shape[:2], size
        if mode == "crop":
            shape = columns / rows
            lost = 1 - min(width / shape, height) * min(width, height * shape) / (height * width)
            cut = significant(100 * lost, 2)
            note = f"{about}: at {named([size])} {cut} % of it is cut off; set fit to letterbox to keep all of it"
        else:
            left, top, right, bottom = content_box(width, height, size, mode)
            bars = 1 - (right - left) * (bottom - top) / (rows * columns)
            filled = significant(100 * bars, 2)
            note = (
                f"{about}: at {named([size])} black bars fill {filled} % of the frames; set fit to crop to show its"
                " centre alone"
            )
        return fit(image, size, mode), [note]

    def _own_grid(self, height: int, width: int) -> Size | None:
        """The size of exactly this shape, in about as many whole patches as trained frames have; None: there is none."""
        common = math.gcd(height, width)
        rows, columns = height // common, width // common
        counts = [size[0] * size[1] // self.patch_px**2 for size in self.trained]
        least, most = min(counts) / BEYOND, max(counts) * BEYOND
        grids = [(times * rows, times * columns) for times in range(1, math.isqrt(int(most)) + 1)]
        sizes = [(r * self.patch_px, c * self.patch_px) for r, c in grids if least <= r * c <= most]
        if (height, width) in sizes:
            return height, width
        middle = math.sqrt(min(counts) * max(counts)) * self.patch_px**2
        return min(sizes, key=lambda size: abs(math.log(size[0] * size[1] / middle)), default=None)


def nearest_area(sizes: Sequence[Size], size: Size) -> Size:
    """The size whose number of pixels is nearest to that of a picture, the first of equals."""
    return min(sizes, key=lambda one: abs(math.log(one[0] * one[1]) - math.log(size[0] * size[1])))


def named(sizes: Sequence[Size]) -> str:
    """Sizes as text, height x width."""
    texts = [f"{height}x{width}" for height, width in sizes]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"
