"""Samples a video from an image and a caption; `cdcd-video sample` is the same."""

import sys

from cdcd_video.commands.sample_command import main
from cdcd_video.errors import exit_code

if __name__ == "__main__":
    sys.exit(exit_code(main))
