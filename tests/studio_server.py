"""A studio on a free port of this machine, for tests; and what its pages hold."""

import base64
import contextlib
import io
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapes
import uvicorn
from PIL import Image

from cdcd_video.rate.address import listen
from cdcd_video.studio.__main__ import create_app
from cdcd_video.studio.model_shelf import ModelShelf
from cdcd_video.studio.page_events import PageEvents
from cdcd_video.studio.studio_limits import Limits
from cdcd_video.studio.temporary_files import temporary_files


class Studio:
    """A running studio.

    Attributes:
      address: of the page.
      folder: of its temporary files.
      shelf: its models.
    """

    def __init__(self, address: str, folder: Path, shelf: ModelShelf):
        self.address, self.folder, self.shelf = address, folder, shelf

    def visitor(self, **options: Any) -> Any:
        """A client with a session of its own, which begins as the page does in a browser."""
        from gradio_client import Client

        options = {"httpx_kwargs": {"timeout": 300}} | options  # a busy machine answers late
        client = Client(self.address, verbose=False, analytics_enabled=False, **options)
        client.predict("red-circle", "the red circle moves right", self.shelf.names[0], api_name="/example")
        return client


@contextlib.contextmanager
def served(names: Sequence[str], limits: Limits, token: str = "", *, is_open: bool = False) -> Iterator[Studio]:
    """Serves models until the end of the block."""
    with (
        listen("127.0.0.1", 0) as opened,
        temporary_files(60 * limits.keep_minutes) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        shapes.as_without_checks(
            patch, PageEvents, "sample"
        )  # Gradio asks whether it is a generator, which a check is not
        shelf = ModelShelf(names, is_open=is_open)
        app = create_app(shelf, limits, token)
        running = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            yield Studio(f"http://127.0.0.1:{opened.getsockname()[1]}/", folder, shelf)
        finally:
            running.should_exit = True
            thread.join(30)


def videos_in(page: str) -> list[np.ndarray]:
    """The exact frames of every video of a finished page, (F, H, W, 3), by its strips."""
    return [np.stack(pictures_in(strip)) for strip in re.findall(r'<div class="strip".*?</div>', page, re.DOTALL)]


def pictures_in(page: str) -> list[np.ndarray]:
    """The pixels of every PNG on a page."""
    return [
        np.array(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))
        for content in re.findall(r"data:image/png;base64,([\w+/=]+)", page)
    ]
