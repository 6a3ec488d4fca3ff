"""`python -m cdcd_video` says what this is and where to go on; `python -m cdcd_video COMMAND ...` is `cdcd-video COMMAND ...`."""

import sys

import cdcd_video
from cdcd_video.commands.command_line import help_text, main
from cdcd_video.errors import exit_code


def about_or_command() -> int:
    """What the package is, or the command that is asked for."""
    if sys.argv[1:]:
        return main()
    sys.stdout.write(f"cdcd_video {cdcd_video.__version__}: {cdcd_video.__doc__}\n{help_text()}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(about_or_command))
