"""Files of a sampled video, for download."""

import os
import tempfile
from pathlib import Path

from cdcd_video.request import VIEW_PX
from cdcd_video.studio.sampling_session import SamplingSession
from cdcd_video.video import whole_file

_VIDEOS = (".mp4", ".gif", ".webp")
WRITTEN = (*_VIDEOS, ".json")
"""Suffixes of the files, in the order of the page."""


def write_files(session: SamplingSession, place: int) -> list[Path]:
    """Writes a video in every format, and its `.json` where it was sampled to its end, into a new folder.

    Args:
      session: it has sampled.
      place: of the video.

    Returns:
      The paths; they lie where Gradio keeps its temporary files, and are deleted with these.
    """
    video = session.videos[place]
    folder = Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR")))
    name = f"video-{session.params[place].seed}"
    scale = max(1, VIEW_PX // video.frames.shape[1])
    paths = [video.save(folder / f"{name}{suffix}", scale=1 if suffix == ".webp" else scale) for suffix in _VIDEOS]
    if video.made_with:
        record = session.record(place).model_copy(update={"video": f"{name}.webp"})
        with whole_file(folder / f"{name}.json") as part:
            part.write_text(record.model_dump_json(indent=1, exclude_none=True) + "\n", encoding="utf-8")
        paths.append(folder / f"{name}.json")
    return paths
