"""`cdcd-video COMMAND ...`: finds the command and hands it the other words. Imports no torch."""

import difflib
import sys
from collections.abc import Sequence

from cdcd_video import __version__
from cdcd_video.commands.command_table import COMMANDS
from cdcd_video.config.registry import named
from cdcd_video.config.shipped_files import shipped_names
from cdcd_video.config.wording import quoted
from cdcd_video.errors import UserError, exit_code, extras_named

PROGRAM = "cdcd-video"


def help_text() -> str:
    """What `cdcd-video --help` prints."""
    width = max(len(command.name) for command in COMMANDS)
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND ...",
            "",
            "Image to video by contrastive discrete diffusion over CLIP latents.",
            "",
            "commands, each with --help:",
            *(f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS),
            "",
            "options:",
            "  -h, --help  show this message and exit",
            "  --version   show the version and exit",
            "",
            f'example: {PROGRAM} sample --frame red-circle --text "the red circle moves right"',
            f"examples of frames: {', '.join(shipped_names('examples'))}",
            f"configs: {', '.join(name for name in shipped_names('configs') if '/' not in name)}",
            "",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; without one, prints the help.

    Args:
      arguments: the words after the program's name; None: those of this process.

    Raises:
      UserError: there is no such command.
    """
    first, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if first in ("-h", "--help"):
        sys.stdout.write(help_text())
        return 0
    if first == "--version":
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        return 0
    command = {command.name: command for command in COMMANDS}.get(first)
    if command is None:
        raise UserError(_unknown(first))
    with extras_named(command.extra):
        code = named(command.entrance)(rest, f"{PROGRAM} {first}")
    return code if isinstance(code, int) else 0


def run() -> int:
    """The entrance of the installed program; returns the exit code."""
    return exit_code(main)


def _unknown(word: str) -> str:
    if word.startswith("-"):
        return (
            f"the option {quoted(word)} stands before any command; write {PROGRAM} COMMAND {word}, see {PROGRAM} --help"
        )
    names = [command.name for command in COMMANDS]
    near = difflib.get_close_matches(word.lower(), names, 1)
    hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(names)}"
    return f"there is no command {quoted(word)}; {hint}"
