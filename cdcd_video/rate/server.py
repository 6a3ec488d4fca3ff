"""The page's server: who asks, what they see next, what they answered. Names of systems and files never leave it."""

import hmac
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field

from cdcd_video.errors import UserError
from cdcd_video.rate.address import is_asked_for_here
from cdcd_video.rate.answers import Page, Progress, Refused, Store
from cdcd_video.rate.database import Unavailable
from cdcd_video.rate.limits import BoundedBodies, Operator
from cdcd_video.rate.study import NOISE, Study, media_file
from cdcd_video.storage.small_file import Unreadable

if TYPE_CHECKING:
    from fastapi import FastAPI

_STATIC = {"/page.css": "text/css", "/page.js": "text/javascript"}
_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".png": "image/png"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the token is in the first address
    "Cache-Control": "no-store",
}
_YEAR_S = 365 * 24 * 3600
_NEEDED = "the rating page needs FastAPI and uvicorn; in the project's folder: python -m pip install '.[rate]'"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Entrance(_Body):
    """A rater says who they are."""

    name: str = Field(max_length=1000)


class Answer(_Body):
    """What a rater says about a page."""

    trial: str = Field(max_length=100)
    attempt: int
    answers: dict[str, int]
    seconds: float = Field(allow_inf_nan=False)


class Undo(_Body):
    """A rater takes the last answer back."""

    trial: str = Field(max_length=100)


def serve(app: "FastAPI", opened: socket.socket) -> None:
    """Answers until Ctrl-C.

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
      store: where answers go.
      folder: the study's, which holds the media.
      is_public: every visitor must show the store's token, as it is at that time. Otherwise this machine alone is served:
        requests that name another host are refused, so that no web page can reach it through a name that it makes resolve
        to here.
      operator: is told what visitors cannot mend.

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

    def unkept(_: Request | None, error: Unavailable) -> JSONResponse:
        operator.tell(str(error))
        return JSONResponse({"error": error.for_rater}, 503)

    async def may_enter(request: Request) -> bool:
        if not is_public:
            return is_asked_for_here(request.headers.get("host", ""))
        shown = request.query_params.get("token", request.cookies.get(token_cookie, ""))
        return hmac.compare_digest(shown.encode(), (await run_in_threadpool(store.token)).encode())

    async def admitted(request: Request, call_next: Any) -> Any:
        try:
            if not await may_enter(request):
                return PlainTextResponse("Not allowed. Use the whole link that you were given.\n", 403)
        except Unavailable as error:
            return unkept(None, error)
        if request.method == "POST" and request.headers.get("content-type", "") != "application/json":
            return PlainTextResponse("Send JSON.\n", 415)
        return await call_next(request)

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Any:
        response = await admitted(request, call_next)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    app.add_exception_handler(Unavailable, unkept)

    @app.exception_handler(Refused)
    def refused(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 409)

    @app.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": "The request is not understood; please load the page again."}, 422)

    @app.get("/")
    def page(request: Request) -> Any:
        if "token" in request.query_params and is_public:  # out of the address bar, into a cookie
            others = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "token"])
            response = RedirectResponse(f"/?{others}" if others else "/", 303)
            keep(response, token_cookie, request.query_params["token"])
            return response
        return FileResponse(Path(__file__).with_name("page.html"), media_type="text/html")

    @app.get("/page.css")
    @app.get("/page.js")
    def static(request: Request) -> FileResponse:
        path = request.url.path
        return FileResponse(Path(__file__).with_name(path[1:]), media_type=_STATIC[path])

    @app.get("/media/{name}")
    def media(name: str) -> Any:
        if name not in study.media:
            return PlainTextResponse("There is no such file.\n", 404)
        try:
            path = media_file(folder, study.media[name])
        except Unreadable as error:
            operator.tell(str(error))
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
        return _state(study, store.take_back(request.cookies.get(rater_cookie, ""), given.trial))

    return app


def _state(study: Study, progress: Progress | None) -> dict[str, Any]:
    """All that a rater's browser is told."""
    told: dict[str, Any] = {"title": study.title, "kind": study.kind, "questions": study.questions, "rater": None}
    if progress is not None:
        told |= {"rater": progress.rater, "done": progress.done, "total": progress.total, "last": progress.last}
        told |= {"page": _told(study, progress.page), "upcoming": _told(study, progress.upcoming)}
    return told


def _told(study: Study, page: Page | None) -> dict[str, Any] | None:
    if page is None:
        return None
    item = next(item for item in study.items if item.name == page.task.item)
    names = [item.noise if system == NOISE else item.videos[system] for system in page.task.shown]
    return {
        "trial": page.trial,
        "attempt": page.attempt,
        "prompt": item.prompt,
        "frame": f"/media/{item.frame}" if item.frame else None,
        "videos": [f"/media/{name}" for name in names],
    }
