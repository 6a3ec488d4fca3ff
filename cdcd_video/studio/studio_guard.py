"""Who may use the studio: this machine alone, or whoever has the token; and how large a request may be."""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from cdcd_video.rate.address import names_this_machine

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
COOKIE = "studio-token"
_HEADERS = (
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    # Nothing is loaded from elsewhere, and no other page frames this one. Gradio compiles its templates in the page.
    (
        b"content-security-policy",
        b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'",
    ),
)


class _TooLarge(Exception):
    """A request has more bytes than it may."""


class StudioGuard:
    """ASGI middleware.

    - Without a token only this machine is served, and another Host header is refused, which prevents DNS rebinding.
    - With one, a request carries it as `?token=` (which becomes a cookie), as that cookie, or as `Authorization: Bearer`.
    - A page of another origin cannot post.
    - A body of more than `max_bytes` is refused with 413, with or without a Content-Length.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]], token: str, max_bytes: int):
        self._app, self._token, self._max_bytes = app, token, max_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serves a request, or refuses it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        refusal = self._refusal(scope, headers, query)
        if refusal is not None:
            await _answer(scope, send, *refusal)
        elif scope["type"] == "http" and scope["method"] == "GET" and "token" in query and self._token:
            rest = urlencode([(name, value) for name, value in query.items() if name != "token"])
            place = f"{scope['path']}?{rest}" if rest else scope["path"]
            cookie = f"{COOKIE}={self._token}; HttpOnly; SameSite=Lax; Path=/"
            moved = [(b"location", place.encode("latin-1", "ignore")), (b"set-cookie", cookie.encode())]
            await _answer(scope, send, 303, "", moved)  # the token leaves the address bar
        else:
            await self._serve(scope, receive, send)

    def _refusal(self, scope: Message, headers: dict[str, str], query: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._token and not names_this_machine(host):
            return 403, "Access denied. This studio serves its own machine alone; start it with --host and a token."
        if self._token and not self._has_token(headers, query):
            return 403, "Access denied. Open the complete link, with its token, that the studio printed at its start."
        origin = headers.get("origin", "")
        if origin and scope.get("method") not in ("GET", "HEAD") and urlsplit(origin).netloc != host:
            return 403, "A page of another address cannot use this studio."
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._max_bytes:
            return 413, "The request is too large."
        return None

    def _has_token(self, headers: dict[str, str], query: dict[str, str]) -> bool:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        cookie = cookies[COOKIE].value if COOKIE in cookies else ""
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        given = (query.get("token", ""), cookie, bearer)
        return any(hmac.compare_digest(one.encode(), self._token.encode()) for one in given)

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        num_bytes, has_begun = 0, False

        async def bounded() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b"")) if message["type"] == "http.request" else 0
            if num_bytes > self._max_bytes:
                raise _TooLarge
            return message

        async def sent(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                known = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in _HEADERS if one[0] not in known)]
            await send(message)

        try:
            await self._app(scope, bounded, sent)
        except _TooLarge:
            if not has_begun:
                await _answer(scope, send, 413, "The request is too large.")


async def _answer(
    scope: Message, send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    body = f"{text}\n".encode() if text else b""
    head = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    head += [(b"connection", b"close")] if status == 413 else []
    head += [(b"cache-control", b"no-store"), *_HEADERS, *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
