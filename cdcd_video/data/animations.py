"""Moving pictures that Pillow reads better than FFmpeg, or alone: WebP, and AVIF with its transparency."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from fractions import Fraction

import av
from PIL import Image, features

from cdcd_video.data.decoding import Reader, Source, open_video
from cdcd_video.data.images import MAX_PIXELS, as_array
from cdcd_video.data.shown import Refused
from cdcd_video.errors import UserError
from cdcd_video.memory import raise_if_out_of_memory

_AVIF_BRANDS = (b"avif", b"avis")

# Frames that say they are shown for no longer than this are shown for a tenth of a second, as in every browser.
_HURRIED_MS, _INSTEAD_MS = 10, 100


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], start: Fraction, patience_s: float) -> Iterator[Reader]:
    """Opens a video of any kind, from `start` seconds on; `open_video` tells of its patience.

    Raises:
      Refused: it cannot be used.
      av.FFmpegError, ValueError, OverflowError: as PyAV raises them for damaged files.
    """
    image = _opened_image(path)
    if image is not None:
        with image:
            yield Animation(image)
    else:
        with open_video(path, patience_s) as container:
            yield Source(container, start)


class Animation(Reader):
    """The frames of an animated WebP or AVIF, from the first on.

    Args:
      image: the open picture.

    Raises:
      Refused: it does not move, or is too large.
    """

    def __init__(self, image: Image.Image):
        super().__init__()
        self._image = image
        if image.width * image.height > MAX_PIXELS:
            raise Refused(f"it is {image.width} x {image.height}, more than {MAX_PIXELS:,} pixels")
        if getattr(image, "n_frames", 1) == 1:
            raise Refused("it is one picture and no video; save what stands still as mp4 or gif")

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yields every frame with its time in seconds."""
        time = Fraction(0)
        for place in range(self._image.n_frames):
            with _damage_told(self._image.format):
                self._image.seek(place)
                pixels = as_array(self._image.copy())
                told_ms = self._image.info.get("duration", 0)
            length = Fraction(told_ms if told_ms > _HURRIED_MS else _INSTEAD_MS).limit_denominator(1000) / 1000
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            self._note(frame, time, length)
            yield frame, time
            time += length


def _opened_image(path: str | os.PathLike[str]) -> Image.Image | None:
    """The file as Pillow opens it; None for anything but the two formats, as the content tells them."""
    with open(path, "rb") as file:
        head = file.read(64)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        kind = "WEBP"
    elif head[4:8] == b"ftyp" and any(brand in head[8 : int.from_bytes(head[:4], "big")] for brand in _AVIF_BRANDS):
        kind = "AVIF"
    else:
        return None
    if kind == "AVIF" and not features.check("avif"):
        raise Refused("it is an AVIF, which this Pillow does not read; convert it to mp4")
    with warnings.catch_warnings(), _damage_told(kind):
        warnings.simplefilter("ignore")  # a lower limit of Pillow's own
        return Image.open(path, formats=(kind,))


@contextlib.contextmanager
def _damage_told(kind: str) -> Iterator[None]:
    """Pillow meets broken files with whatever exception it stumbles on."""
    try:
        yield
    except MemoryError:
        raise
    except Image.UnidentifiedImageError:
        raise Refused(f"it is a damaged {kind}") from None
    except Image.DecompressionBombError:
        raise Refused(f"it is larger than {MAX_PIXELS:,} pixels") from None
    except UserError as error:
        raise Refused(str(error)) from None
    except Exception as error:
        raise_if_out_of_memory(error)
        raise Refused(f"it is a damaged {kind} ({error})") from error
