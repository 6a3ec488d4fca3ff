"""A small study, a served page, and raters with known tastes, for the tests of `cdcd_video.rate`."""

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import uvicorn
from PIL import Image

from cdcd_video import video
from cdcd_video.rate import server
from cdcd_video.rate.address import listen
from cdcd_video.rate.answers import Store
from cdcd_video.rate.limits import Operator
from cdcd_video.rate.prepare import make
from cdcd_video.rate.study import Recipe, Study

NASTY = "<img src=x onerror=alert(1)>"
SYSTEMS = ("secret-ours", "secret-theirs", "secret-third")
SIDE_PX, NUM_FRAMES, FPS = 32, 6, 8


def write_material(root: Path, num_items: int = 6, systems: tuple[str, ...] = SYSTEMS[:2]) -> Recipe:
    """Videos of each system, pictures and a table of prompts; one prompt and one file name try to be markup."""
    rng = np.random.Generator(np.random.Philox(key=0))
    names = [f"clip{number}" for number in range(num_items - 1)] + ["<b>last"]
    (root / "pictures").mkdir(parents=True)
    rows = ["file\tprompt\tframe"]
    for number, name in enumerate(names):
        first = np.full((SIDE_PX, SIDE_PX, 3), 30 * number, np.uint8)
        Image.fromarray(first).save(root / "pictures" / f"{number}.png")
        rows.append(f"{name}.mp4\t{NASTY if number == 0 else 'a square'} {number}\tpictures/{number}.png")
        for system in systems:
            noise = rng.integers(0, 80, (NUM_FRAMES, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
            video.save(first // 2 + noise, root / system / f"{name}.mp4", FPS)
    (root / "prompts.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return Recipe(videos={system: system for system in systems}, prompts="prompts.tsv")


def write_study(folder: Path, **changes: Any) -> Study:
    """A study in `folder`, of material in a folder beside it."""
    root = folder.with_name(f"{folder.name}-material")
    recipe = write_material(root, changes.pop("num_items", 6), changes.pop("systems", SYSTEMS[:2]))
    return make(Recipe(**(recipe.model_dump() | changes)), root, folder)


class Answer(NamedTuple):
    """What a server said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        return json.loads(self.body)


class Visitor:
    """A browser's cookies and nothing else; addresses are sent as they are written, which browsers would not do."""

    def __init__(self, port: int):
        self.port, self.cookies = port, {}

    def get(self, path: str, **headers: str) -> Answer:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self._ask("POST", path, json.dumps(body), {"Content-Type": "application/json"} | headers)

    def enter(self, name: str) -> dict[str, Any]:
        return self.post("/api/enter", {"name": name}).told

    def answer(self, state: dict[str, Any], value: int = 1, **changes: Any) -> Answer:
        page = state["page"]
        answers = dict.fromkeys(state["questions"], value)
        body = {"trial": page["trial"], "attempt": page["attempt"], "answers": answers, "seconds": 2.5}
        return self.post("/api/answer", body | changes)

    def _ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Answer:
        if self.cookies:
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} | headers
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        found = Answer(answer.status, answer.headers, answer.read())
        connection.close()
        for text in found.headers.get_all("Set-Cookie", []):
            name, _, value = text.split(";")[0].partition("=")
            self.cookies[name] = value
        return found


@contextlib.contextmanager
def served(study: Study, folder: Path, *, is_public: bool = False, told: list[str] | None = None) -> Iterator[int]:
    """The study's page on a free port of this machine; what the operator is told is added to `told`."""
    store = Store(folder / "answers.sqlite", study)
    operator = None if told is None else Operator(told.append)
    app = server.create_app(study, store, folder, is_public=is_public, operator=operator)
    with listen("127.0.0.1", 0) as opened:
        running = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            yield opened.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join(20)
            store.close()
