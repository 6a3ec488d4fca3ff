"""Evaluates a model, or videos of another one; `cdcd-video evaluate` is the same."""

import sys

from cdcd_video.commands.evaluate_command import main
from cdcd_video.errors import exit_code

if __name__ == "__main__":
    sys.exit(exit_code(main))
