"""A user's mistake is one clear sentence and exit code 2, never a traceback."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can put right. The message is one sentence that names the thing and the way out."""


def exit_code(main: Callable[[], int | None]) -> int:
    """Runs an entrance; turns a `UserError` into its sentence on stderr and exit code 2.

    Args:
      main: the entrance; returns an exit code, or None for success.

    Returns:
      0 or what `main` returned; 2 for a user's mistake; 130 for Ctrl-C.
    """
    try:
        return main() or 0
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except BrokenPipeError:  # `... | head` closed our output; nothing is wrong
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("stopped.\n")
        return 130
