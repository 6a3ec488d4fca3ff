"""The web server of the rating page. It never sends the names of systems and files."""

import hmac
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field

from cdcd_video.errors import UserError
from cdcd_video.pages.templates import STYLE
from cdcd_video.rate.address import names_this_machine
from cdcd_video.rate.answers import Page, Progress, Refused, Store
from cdcd_video.rate.database import Unavailable
from cdcd_video.rate.limits import BoundedBodies, Operator
from cdcd_video.rate.study import NOISE, Study, media_file
from cdcd_video.storage.small_file import Unreadable

if TYPE_CHECKING:
    from fastapi import FastAPI

_HERE = Path(__file__).parent
_STATIC = {"/style.css": STYLE, "/page.css": _HERE / "page.css", "/page.js": _HERE / "page.js"}
_KINDS = {".css": "text/css", ".js": "text/javascript"}
_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".png": "image/png"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the token is in the first address
    "Cache-Control": "no-store",
}
_YEAR_S = 365 * 24 * 3600
_NEEDED = "the rating page needs FastAPI and uvicorn; run python -m pip install '.[rate]' in the folder of the project"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Entrance(_Body):
    """The name of a rater."""

    name: str = Field(max_length=1000)


class Answer(_Body):
    """The answers to a page."""

    trial: str = Field(max_length=100)
    attempt: int
    answers: dict[str, int]
    seconds: float = Field(allow_inf_nan=False)


class Undo(_Body):
    """Undoes the last answer."""

    trial: str = Field(max_length=100)


def serve(app: "FastAPI", opened: socket.socket) -> None:
    """Runs the server until Ctrl-C.

    Args:
      app: of `create_app`.
      opened: of `listen`.

    Raises:
      UserError: uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise UserError(_NEEDED) from error

    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[opened])


def create_app(
    study: Study, store: Store, folder: Path, *, is_public: bool = False, operator: Operator | None = None
) -> "FastAPI":
    """The server as an application.

    Args:
      study: what is rated.
      store: of the answers.
      folder: of the study, with its media.
      is_public: every visitor must send the current token of the store. Otherwise only this machine is served, and requests
        with another Host header are refused, which prevents DNS rebinding.
      operator: receives errors that raters cannot fix.

    Raises:
      UserError: FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.concurrency import run_in_threadpool
        from fastapi.exceptions import RequestValidationError
        from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse
    except ImportError as error:
        raise UserError(_NEEDED) from error

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(BoundedBodies)  # inside of the guard, which is added later
    operator = operator or Operator()
    token_cookie, rater_cookie = f"token-{study.id}", f"rater-{study.id}"

    def keep(response: Any, cookie: str, value: str) -> None:
        # Lax and not Strict: a link in a mail leads here across a redirect. Posts from other pages carry no Lax cookie.
        response.set_cookie(cookie, value, max_age=_YEAR_S, httponly=True, samesite="lax")

    def unavailable(_: Request | None, error: Unavailable) -> JSONResponse:
        operator.report(str(error))
        return JSONResponse({"error": error.for_rater}, 503)

    async def may_enter(request: Request) -> bool:
        if not is_public:
            return names_this_machine(request.headers.get("host", ""))
        given = request.query_params.get("token", request.cookies.get(token_cookie, ""))
        return hmac.compare_digest(given.encode(), (await run_in_threadpool(store.token)).encode())

    async def admitted(request: Request, call_next: Any) -> Any:
        try:
            if not await may_enter(request):
                return PlainTextResponse("Access denied. Open the complete link that you received.\n", 403)
        except Unavailable as error:
            return unavailable(None, error)
        if request.method == "POST" and request.headers.get("content-type", "") != "application/json":
            return PlainTextResponse("The request must be JSON.\n", 415)
        return await call_next(request)

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Any:
        response = await admitted(request, call_next)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    app.add_exception_handler(Unavailable, unavailable)

    @app.exception_handler(Refused)
    def refused(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 409)

    @app.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": "The request is invalid; please reload the page."}, 422)

    @app.get("/")
    def page(request: Request) -> Any:
        if "token" in request.query_params and is_public:  # moved from the address bar to a cookie
            others = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "token"])
            response = RedirectResponse(f"/?{others}" if others else "/", 303)
            keep(response, token_cookie, request.query_params["token"])
            return response
        return FileResponse(_HERE / "page.html", media_type="text/html")

    @app.get("/style.css")
    @app.get("/page.css")
    @app.get("/page.js")
    def static(request: Request) -> FileResponse:
        path = _STATIC[request.url.path]
        return FileResponse(path, media_type=_KINDS[path.suffix])

    @app.get("/media/{name}")
    def media(name: str) -> Any:
        if name not in study.media:
            return PlainTextResponse("There is no such file.\n", 404)
        try:
            path = media_file(folder, study.media[name])
        except Unreadable as error:
            operator.report(str(error))
            return PlainTextResponse("This file is missing.\n", 404)
        headers = {"Cache-Control": "private, max-age=86400"}
        return FileResponse(path, media_type=_TYPES[path.suffix], headers=headers)

    @app.get("/api/state")
    def state(request: Request) -> dict[str, Any]:
        return _state(study, store.progress(request.cookies.get(rater_cookie, "")))

    @app.post("/api/enter")
    def enter(entrance: Entrance) -> JSONResponse:
        key = store.enter(entrance.name)
        response = JSONResponse(_state(study, store.progress(key)))
        keep(response, rater_cookie, key)
        return response

    @app.post("/api/leave")
    def leave() -> JSONResponse:
        response = JSONResponse(_state(study, None))
        response.delete_cookie(rater_cookie)
        return response

    @app.post("/api/answer")
    def answer(given: Answer, request: Request) -> dict[str, Any]:
        key = request.cookies.get(rater_cookie, "")
        return _state(study, store.answer(key, given.trial, given.attempt, given.answers, given.seconds))

    @app.post("/api/undo")
    def undo(given: Undo, request: Request) -> dict[str, Any]:
        return _state(study, store.undo(request.cookies.get(rater_cookie, ""), given.trial))

    return app


def _state(study: Study, progress: Progress | None) -> dict[str, Any]:
    """Everything that the browser of a rater receives."""
    state: dict[str, Any] = {"title": study.title, "kind": study.kind, "questions": study.questions, "rater": None}
    if progress is not None:
        state |= {"rater": progress.rater, "done": progress.done, "total": progress.total, "last": progress.last}
        state |= {"page": _page(study, progress.page), "upcoming": _page(study, progress.upcoming)}
    return state


def _page(study: Study, page: Page | None) -> dict[str, Any] | None:
    if page is None:
        return None
    item = next(item for item in study.items if item.name == page.task.item)
    names = [item.noise if system == NOISE else item.videos[system] for system in page.task.systems]
    return {
        "trial": page.trial,
        "attempt": page.attempt,
        "prompt": item.prompt,
        "frame": f"/media/{item.frame}" if item.frame else None,
        "videos": [f"/media/{name}" for name in names],
    }
