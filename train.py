"""Trains every stage that a config needs; `cdcd-video train` is the same."""

import sys

from cdcd_video.commands.train_command import main
from cdcd_video.errors import exit_code

if __name__ == "__main__":
    sys.exit(exit_code(main))
