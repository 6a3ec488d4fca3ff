"""Animations that are read with Pillow instead of FFmpeg: WebP, and AVIF with transparency."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from fractions import Fraction

import av
from PIL import Image, features

from cdcd_video.data.colour import Unfit, profile_of
from cdcd_video.data.decoding import HURRIED_S, INSTEAD_S, Source, open_video
from cdcd_video.data.display import Refused
from cdcd_video.data.images import MAX_PIXELS, MOST_WHOLE_BYTES, as_array
from cdcd_video.data.video_reader import Reader
from cdcd_video.errors import UserError
from cdcd_video.storage.memory import raise_if_out_of_memory

_AVIF_BRANDS = (b"avif", b"avis")


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], start: Fraction, patience_s: float) -> Iterator[Reader]:
    """Opens a video of any format, from `start` seconds on; for the timeout see `open_video`.

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
            yield Source(container, start, _profile_of_png(path) if container.format.name == "apng" else None)


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
            raise Refused("it is a single image, not a video; save a still video as mp4 or gif")
        try:
            self._profile = profile_of(image)  # now: a frame of its own no longer knows its file
        except Unfit as error:
            raise Refused(f"it {error}") from None

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yields every frame with its time in seconds."""
        time = Fraction(0)
        for place in range(getattr(self._image, "n_frames", 1)):
            with _damage_as_refusal(self._image.format):
                self._image.seek(place)
                picture = self._image.copy()
                picture.info["icc_profile"] = self._profile
                pixels = as_array(picture)
                told_ms = self._image.info.get("duration", 0)
            length = Fraction(told_ms).limit_denominator(1000) / 1000
            length = length if length > HURRIED_S else INSTEAD_S
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            self._note(frame, time, length)
            yield frame, time
            time += length

    def check_promise(self) -> None:
        """Nothing to check: Pillow raises an error when data are missing."""


def _opened_image(path: str | os.PathLike[str]) -> Image.Image | None:
    """The file opened by Pillow; None for everything but the two formats, judging by the content."""
    with open(path, "rb") as file:
        head, num_bytes = file.read(64), os.fstat(file.fileno()).st_size
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        kind = "WEBP"
    elif head[4:8] == b"ftyp" and any(brand in head[8 : int.from_bytes(head[:4], "big")] for brand in _AVIF_BRANDS):
        kind = "AVIF"
    else:
        return None
    if kind == "AVIF" and not features.check("avif"):
        raise Refused("it is an AVIF, which the installed Pillow cannot read; convert it to mp4")
    if num_bytes > MOST_WHOLE_BYTES:
        raise Refused(
            f"it has more than {MOST_WHOLE_BYTES >> 20} MiB, too much to decode {kind} in one piece; convert it to mp4"
        )
    with warnings.catch_warnings(), _damage_as_refusal(kind):
        warnings.simplefilter("ignore")  # a lower limit of Pillow's own
        return Image.open(path, formats=(kind,))


def _profile_of_png(path: str | os.PathLike[str]) -> bytes | None:
    """The ICC profile in a PNG, which PyAV does not provide; FFmpeg handles its other colour information."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=("PNG",)) as image:
            warnings.simplefilter("ignore")
            return image.info.get("icc_profile")
    except Exception as error:  # FFmpeg will say what is wrong with it
        raise_if_out_of_memory(error)
        return None


@contextlib.contextmanager
def _damage_as_refusal(kind: str | None) -> Iterator[None]:
    """Turns any exception of Pillow on a broken file into `Refused`."""
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
