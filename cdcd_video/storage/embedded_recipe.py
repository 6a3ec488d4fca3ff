"""The recipe that a video or picture carries: comment of an mp4 or gif, EXIF comment of a webp, text of a png. ASCII JSON."""

import os
from pathlib import Path

import av
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cdcd_video.errors import UserError
from cdcd_video.storage.memory import raise_if_out_of_memory
from cdcd_video.storage.small_file import open_plain

FIRST_FRAME = "frame-00000.png"
"""The picture that carries the recipe of a folder of frames."""
PNG_KEY = "recipe"
_EXIF_IFD, _USER_COMMENT, _ASCII = 0x8769, 0x9286, b"ASCII\0\0\0"
"""Tags of EXIF 2.32, and how its UserComment names its character code (table 9)."""


def exif_with(recipe: str) -> bytes:
    """EXIF data whose UserComment is the recipe."""
    exif = Image.Exif()
    exif[_EXIF_IFD] = {_USER_COMMENT: _ASCII + recipe.encode("ascii")}
    return exif.tobytes()


def png_text_with(recipe: str) -> PngInfo:
    """PNG text chunks that hold the recipe, if there is one."""
    text = PngInfo()
    if recipe:
        text.add_text(PNG_KEY, recipe)
    return text


def read_embedded(path: str | os.PathLike[str]) -> str | None:
    """The recipe of a file, or of a folder of frames; None where it carries none, or is of a kind that has no place for one.

    Raises:
      UserError: the file is missing, cannot be read or is damaged.
    """
    path = Path(path)
    path = path / FIRST_FRAME if path.is_dir() else path
    with open_plain(path, "video") as file:
        head = file.peek(12)[:12]
        try:
            if head[4:8] == b"ftyp":
                with av.open(file, format="mp4") as container:
                    return container.metadata.get("comment")
            if head[:4] not in (b"GIF8", b"RIFF", b"\x89PNG"):
                return None
            with Image.open(file, formats=("GIF", "WEBP", "PNG")) as image:
                return _in_image(image)
        except UserError:
            raise
        except Exception as error:  # decoders meet broken files with any kind
            raise_if_out_of_memory(error)
            raise UserError(f"{path} is damaged or truncated ({error}); give another copy") from error


def _in_image(image: Image.Image) -> str | None:
    if image.format == "WEBP":
        comment = image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT)
        comment = comment.removeprefix(_ASCII) if isinstance(comment, bytes) else comment
    else:
        comment = image.info.get(PNG_KEY if image.format == "PNG" else "comment")
    return comment.decode("ascii", "replace") if isinstance(comment, bytes) else comment
