"""What a visitor may send, and how often the operator is told of the same trouble."""

import contextlib
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

MAX_BODY_BYTES = 64 * 1024
QUIET_S = 60.0
"""The operator reads of one trouble at most once in this time."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_TOO_LARGE = b"What was sent is too large.\n"


class BoundedBodies:
    """Answers 413 to a request whose body is larger than `MAX_BODY_BYTES`, whether or not it says so beforehand (ASGI).

    Args:
      app: is called with whole bodies only.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]):
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        told = dict(scope["headers"]).get(b"content-length", b"0")
        while more and _count(told) <= MAX_BODY_BYTES and len(body) <= MAX_BODY_BYTES:
            message = await receive()
            if message["type"] != "http.request":  # the visitor has gone
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if _count(told) > MAX_BODY_BYTES or len(body) > MAX_BODY_BYTES:
            headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(_TOO_LARGE))]
            headers.append((b"connection", b"close"))  # the rest of it is not waited for
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
    """Tells the operator of trouble, one line each, and of the same one not more often than every `QUIET_S`.

    Args:
      write: takes a line; stderr by default.
    """

    def __init__(self, write: Callable[[str], Any] | None = None):
        self._write = write or _to_stderr
        self._lock = threading.Lock()
        self._told: dict[str, tuple[float, int]] = {}

    def tell(self, text: str) -> None:
        """Says it, or counts it for the next time that it is said."""
        now = time.monotonic()
        with self._lock:
            last, missed = self._told.get(text, (None, 0))
            is_due = last is None or now - last >= QUIET_S
            self._told[text] = (now, 0) if is_due else (last, missed + 1)
        if is_due:
            self._write(f"error: {text}" + (f" ({missed} more times since it was last told)" if missed else ""))


def _to_stderr(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads any more
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
