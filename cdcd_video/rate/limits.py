"""Limits the size of requests, and how often the operator sees the same error."""

import contextlib
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

MAX_BODY_BYTES = 64 * 1024
QUIET_S = 60.0
"""The same error is reported at most once in this time."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_TOO_LARGE = b"The request is too large.\n"


class BoundedBodies:
    """ASGI middleware: answers 413 to requests larger than `MAX_BODY_BYTES`, with or without a Content-Length.

    Args:
      app: receives complete bodies.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]):
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        length = dict(scope["headers"]).get(b"content-length", b"0")
        while more and _count(length) <= MAX_BODY_BYTES and len(body) <= MAX_BODY_BYTES:
            message = await receive()
            if message["type"] != "http.request":  # the client has disconnected
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if _count(length) > MAX_BODY_BYTES or len(body) > MAX_BODY_BYTES:
            headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(_TOO_LARGE))]
            headers.append((b"connection", b"close"))  # the rest is not read
            await send({"type": "http.response.start", "status": 413, "headers": headers})
            await send({"type": "http.response.body", "body": _TOO_LARGE})
            return
        waiting = [{"type": "http.request", "body": body, "more_body": False}]
        await self._app(scope, lambda: _next(waiting, receive), send)


async def _next(waiting: list[Message], receive: Receive) -> Message:
    return waiting.pop() if waiting else await receive()


def _count(header: bytes) -> int:
    return int(header) if header.isdigit() else MAX_BODY_BYTES + 1


class Operator:
    """Reports errors to the operator, one line each, and the same one at most every `QUIET_S`.

    Args:
      write: takes a line; stderr by default.
    """

    def __init__(self, write: Callable[[str], Any] | None = None):
        self._write = write or _to_stderr
        self._lock = threading.Lock()
        self._reported: dict[str, tuple[float, int]] = {}

    def report(self, text: str) -> None:
        """Reports an error, or counts it for the next report."""
        now = time.monotonic()
        with self._lock:
            last, missed = self._reported.get(text, (None, 0))
            is_due = last is None or now - last >= QUIET_S
            self._reported[text] = (now, 0) if is_due else (last, missed + 1)
        if is_due:
            self._write(f"error: {text}" + (f" ({missed} more times since the last report)" if missed else ""))


def _to_stderr(line: str) -> None:
    with contextlib.suppress(OSError):  # stderr is closed
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
