"""Which files Pillow writes pictures into, and how large a picture in each of them can be. Imports no torch."""

import io
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from cdcd_video.errors import UserError
from cdcd_video.storage.memory import check_fits

MOST_SIDE_PX = MappingProxyType(
    {
        "AVIF": 32_768,  # libavif writes larger ones, but refuses to read them again
        "GIF": 65_535,
        "JPEG": 65_500,  # of libjpeg; the format itself has 65,535
        "MP4": 16_384,  # of x264
        "MPO": 65_500,
        "PCX": 65_534,
        "SGI": 65_535,
        "TGA": 65_535,
        "WEBP": 16_383,
    }
)
"""The longest side of a picture or a frame by the name of its format, px; formats that are not here hold any that fits into
memory."""
_ICONS = ("ICNS", "ICO")
"""Pillow shrinks a picture to sizes of icons when it writes one."""


def picture_format(path: Path) -> str:
    """Pillow's name of the format of a picture file, by its suffix.

    Raises:
      UserError: Pillow does not know the suffix, or only reads such files, or writes them without colours or as icons.
    """
    kind = Image.registered_extensions().get(path.suffix.lower(), "")
    try:
        if kind in _ICONS:
            raise ValueError(kind)
        Image.new("RGB", (1, 1)).save(io.BytesIO(), kind)
    except (KeyError, ValueError, OSError):
        raise UserError(f"cannot write a picture as {path.suffix!r} ({path}); use .png") from None
    return kind


def check_sides(kind: str, width: int, height: int, what: str, way_out: str) -> None:
    """Refuses what is too wide or too high for the format of its file, before it is made.

    Args:
      kind: of `MOST_SIDE_PX`, or any other format.
      width, height: of the picture, px.
      what: it is, as the beginning of a sentence.
      way_out: what can be done.

    Raises:
      UserError: a side is longer than the format allows.
    """
    most = MOST_SIDE_PX.get(kind)
    if most is not None and max(width, height) > most:
        raise UserError(
            f"{what} has {width:,} x {height:,} px, and a side of a .{kind.lower()} has at most {most:,} px; {way_out}"
        )


def check_frames(suffix: str, width: int, height: int, scale: int) -> None:
    """Refuses frames that no file of this kind can hold, before more of them are made.

    Args:
      suffix: of the file; none for a folder of PNG.
      width, height: of a frame, px.
      scale: by which they are enlarged.

    Raises:
      UserError: a side is too long, or a frame does not fit into memory.
    """
    what, way_out = "a frame of this video", "lower scale" if scale > 1 else "save a folder of PNG files"
    check_sides(suffix[1:].upper(), width * scale, height * scale, what, way_out)
    check_fits(width * height * 3 * scale**2, what, way_out)
