"""Serves the studio, a page for sampling videos, on this machine, or with a token on another address."""

import argparse
import secrets
import socket
import sys
from collections.abc import Sequence
from typing import Any

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError, exit_code, extras_named, require
from cdcd_video.rate.address import is_local, links, listen
from cdcd_video.storage.small_file import MIB
from cdcd_video.studio import studio_limits
from cdcd_video.studio.studio_guard import StudioGuard
from cdcd_video.studio.studio_limits import Limits
from cdcd_video.studio.temporary_files import temporary_files


def parse_arguments(arguments: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    """Reads and checks the command line; see `main`."""
    parser = OptionParser(prog=prog or "python -m cdcd_video.studio", description=__doc__)
    add = parser.add_argument
    models = (
        "a shipped model, a model or run folder, or owner/name on the Hub; repeat to offer several (default: sprites)"
    )
    add("--model", action="append", metavar="NAME_OR_DIR", help=models)
    add("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    add("--host", default="127.0.0.1", help="address to serve on; 0.0.0.0 for all (default: this machine alone)")
    add("--port", type=int, default=7860, help="port; 0 for any free one (default: 7860)")
    token = "what visitors must know (default: none on this machine, and a random one on other addresses)"
    add("--token", metavar="WORD", help=token)
    studio_limits.add_flags(parser)
    args = parser.parse_args(arguments)
    require("gradio", extra="studio")  # now, and not after the model is loaded
    if args.token is not None and not (args.token.isascii() and args.token.isalnum() and len(args.token) >= 8):
        raise UserError(
            "--token is no word of at least 8 letters and digits, which fits into a link; leave it out for a random one"
        )
    args.limits = studio_limits.from_flags(vars(args))
    return args


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Serves until Ctrl-C.

    Args:
      arguments: the words of the command line; None: those of this process.
      prog: how the command is called; None: as a module.
    """
    args = parse_arguments(arguments, prog)
    is_public = not is_local(args.host)
    token = args.token or (secrets.token_hex(16) if is_public else "")
    with listen(args.host, args.port) as opened, temporary_files(60 * args.limits.keep_minutes), extras_named("studio"):
        from cdcd_video.studio.model_shelf import ModelShelf

        # Over a network nobody asks this machine for any folder or download.
        shelf = ModelShelf(args.model or ["sprites"], is_open=not token, device=args.device)
        app = create_app(shelf, args.limits, token)
        for address in links(opened):
            sys.stdout.write(f"{address}?token={token}\n" if token else f"{address}\n")
        sys.stdout.flush()
        serve(app, opened)
    return 0


def create_app(shelf: Any, limits: Limits, token: str = "") -> Any:
    """The page behind its guard, as an ASGI application.

    Args:
      shelf: the models.
      limits: of a visitor.
      token: what visitors must know; "" serves this machine alone.
    """
    import gradio
    from fastapi import FastAPI

    from cdcd_video.studio.studio_page import build_page, launch_options

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(StudioGuard, token=token, max_bytes=(limits.max_megabytes + 1) * MIB)
    page = build_page(shelf, limits)
    page.has_launched = True  # else Gradio takes any path of this machine for a file that a visitor has sent
    return gradio.mount_gradio_app(app, page, path="/", **launch_options(limits))


def serve(app: Any, opened: socket.socket) -> None:
    """Runs the server until Ctrl-C."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=3
    )
    uvicorn.Server(config).run(sockets=[opened])


if __name__ == "__main__":
    sys.exit(exit_code(main))
