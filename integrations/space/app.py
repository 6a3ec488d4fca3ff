"""The studio as a Space: the page of `python -m cdcd_video.studio`, with limits for a machine that strangers share."""

from typing import Any

from cdcd_video.studio.model_shelf import ModelShelf
from cdcd_video.studio.studio_limits import Limits
from cdcd_video.studio.temporary_files import temporary_files

LIMITS = Limits(max_frames=64, max_steps=50, max_seconds=60)


def build() -> Any:
    """The page as Gradio blocks."""
    from cdcd_video.studio.studio_page import build_page

    return build_page(ModelShelf(["sprites"]), LIMITS)


if __name__ == "__main__":
    with temporary_files(60 * LIMITS.keep_minutes):
        from cdcd_video.studio.studio_page import launch_options

        build().launch(**launch_options(LIMITS))
