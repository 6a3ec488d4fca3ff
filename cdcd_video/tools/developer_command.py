"""Commands for developers: `python -m cdcd_video.tools.NAME` runs modules of `tools/dev`, which is not installed."""

import importlib
import sys

from cdcd_video.errors import UserError, exit_code


def run(module: str) -> None:
    """Runs `main` of a module of `tools/dev` as a command, and ends this process with its exit code.

    Args:
      module: below `cdcd_video.tools.dev`, such as `fuzzing.fuzz_command`.

    Raises:
      SystemExit: always; 2 where the package was installed without its developers' tools.
    """

    def main() -> int:
        try:
            found = importlib.import_module(f"cdcd_video.tools.dev.{module}")
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("cdcd_video.tools.dev"):
                raise
            raise UserError(
                "this is a tool for developers, which is not part of the installed package; run it in a checkout"
            ) from None
        return found.main()

    sys.exit(exit_code(main))
