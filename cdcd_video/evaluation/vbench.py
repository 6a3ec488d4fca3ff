"""Writes the videos of an evaluation as VBench reads its users' own (Huang et al. 2024): `--mode=custom_input`.

| place | holds | VBench's option |
|---|---|---|
| `videos/000000.mp4` | the videos, by their number in the evaluation | `--videos_path` |
| `prompts.json` | the caption of each file in `videos` | `--prompt_file` |
| `images/000000.png` | the given frame of each, under the same name | `--custom_image_folder`, of VBench-I2V |

VBench takes a name up to a closing `-NUMBER` for the prompt, and finds images by it, so names have no hyphen.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cdcd_video import video
from cdcd_video.config.wording import command_name
from cdcd_video.engine import distributed
from cdcd_video.errors import UserError
from cdcd_video.storage.folder_lock import folder_lock
from cdcd_video.storage.free_name import is_there
from cdcd_video.storage.whole_file import remove_left_parts


@contextlib.contextmanager
def custom_input(target: Path | None, fps: float) -> Iterator["CustomInput | None"]:
    """Writes beside `target` and renames at the end, so that `target` is complete or absent.

    Args:
      target: a new folder; None writes nothing.
      fps: frames per second of the videos.

    Yields:
      What takes the videos; None without a target.

    Raises:
      UserError: something is there, it cannot be written, or several processes share the evaluation.
    """
    if target is None:
        yield None
        return
    if distributed.world().size > 1:
        raise UserError(
            f"--vbench writes the videos of one process; start {command_name('evaluate')} without torchrun, or leave it out"
        )
    with folder_lock(target):
        if is_there(target):
            raise UserError(f"{target} exists, and --vbench replaces nothing; delete it, or name another folder")
        remove_left_parts(target.parent, target.name)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with video.refused_by_disk(target):
                part.mkdir(parents=True)
            made = CustomInput(part, fps)
            yield made
            made.finish()
            with video.refused_by_disk(target):
                os.replace(part, target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


class CustomInput:
    """The files of VBench's custom input in a folder.

    Args:
      folder: an empty one.
      fps: frames per second of the videos.
    """

    def __init__(self, folder: Path, fps: float):
        self._folder, self._fps = folder, fps
        self._prompts: dict[str, str] = {}

    def add(
        self, number: int, caption: str, frames: UInt8[np.ndarray, "F H W 3"], given: UInt8[np.ndarray, "H W 3"]
    ) -> None:
        """Writes a video (H.264) and the frame it was sampled from (PNG)."""
        name = f"{number:06d}"
        self._prompts[f"{name}.mp4"] = caption
        video.save(frames, self._folder / "videos" / f"{name}.mp4", self._fps)
        with video.whole_file(self._folder / "images" / f"{name}.png") as part:
            Image.fromarray(given).save(part, "PNG")

    def finish(self) -> None:
        """Writes the captions."""
        with video.whole_file(self._folder / "prompts.json") as part:
            part.write_text(json.dumps(self._prompts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
