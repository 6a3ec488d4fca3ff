"""A real browser for tests: headless Chromium over its debugging pipe, with the standard library alone."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions", "--mute-audio")
NAMES = "--enable-blink-features=ComputedAccessibilityInfo"
"""Gives elements `computedName`, what a screen reader calls them."""
_SPECIAL = {"Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}


def find() -> str | None:
    """The browser's path, or None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Chromium:
    """One browser with a profile of its own; close it after use.

    Attributes:
      patience_s: how long an answer may take; the page of a large framework keeps a busy machine from answering for minutes.
    """

    def __init__(self, profile: Path, patience_s: float = 30):
        self.patience_s = patience_s
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def hand_over() -> None:  # the browser reads commands from 3 and writes answers to 4
            copies = os.dup(to_browser), os.dup(from_browser)  # the originals may well be 3 or 4 themselves
            os.dup2(copies[0], 3)
            os.dup2(copies[1], 4)

        command = [find(), *FLAGS, NAMES, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            command, preexec_fn=hand_over, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_browser)
        os.close(from_browser)
        self._numbers, self._rest, self.events = itertools.count(1), b"", []

    def call(self, method: str, session: str | None = None, **params: Any) -> dict:
        """Sends one command and waits for its answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(time.monotonic() + self.patience_s)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def tab(self, address: str, width: int = 1280, height: int = 800, dark: bool = False) -> "Tab":
        """Opens a page."""
        return Tab(self, address, width, height, dark)

    def close(self) -> None:
        """Ends the browser."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def _next(self, deadline: float) -> dict:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            more = os.read(self._read, 1 << 16)
            assert more, "the browser has ended"
            self._rest += more
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)


class Tab:
    """One page of a browser."""

    def __init__(self, browser: Chromium, address: str, width: int, height: int, dark: bool):
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=address)

    def call(self, method: str, **params: Any) -> dict:
        """Sends one command to this page."""
        return self._browser.call(method, self._session, **params)

    def value(self, expression: str) -> Any:
        """What JavaScript makes of an expression (a promise is waited for)."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 20) -> None:
        """Waits until an expression is true; one that fails, as long as the page is not there, is not."""
        end = time.monotonic() + seconds
        while not self.value(f"(() => {{ try {{ return Boolean({condition}) }} catch {{ return false }} }})()"):
            assert time.monotonic() < end, f"{condition} did not become true; the page says {self.text()!r}"
            time.sleep(0.05)

    def text(self) -> str:
        """What can be read on the page."""
        return self.value("document.body.innerText")

    def press(self, *keys: str) -> None:
        """Presses and releases keys, one after the other."""
        for key in keys:
            code = _SPECIAL.get(key, ord(key[0].upper()))
            text = {"text": "\r" if key == "Enter" else key} if key == "Enter" or len(key) == 1 else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Types into what has the focus."""
        self.call("Input.insertText", text=text)

    def point_at(self, element: str) -> None:
        """Moves the mouse onto the middle of an element, given as JavaScript, after scrolling it into view."""
        self.value(f"{element}.scrollIntoView({{block: 'center'}})")
        box = self.value(
            f"(() => {{ const b = {element}.getBoundingClientRect(); return [b.x, b.y, b.width, b.height] }})()"
        )
        x, y, width, height = box
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + width / 2, y=y + height / 2)

    def picture(self, path: Path) -> None:
        """Saves what is seen as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def complaints(self) -> list[str]:
        """Errors that the page has put into the browser's log."""
        mine = [event for event in self._browser.events if event.get("sessionId") == self._session]
        errors = [
            event["params"]["exceptionDetails"]["text"]
            for event in mine
            if event["method"] == "Runtime.exceptionThrown"
        ]
        entries = [event["params"]["entry"] for event in mine if event["method"] == "Log.entryAdded"]
        return errors + [entry["text"] for entry in entries if entry["level"] == "error"]

    def fetched(self) -> list[str]:
        """Addresses that the page has asked for, apart from those whose content they hold themselves."""
        mine = [event for event in self._browser.events if event.get("sessionId") == self._session]
        asked = [event["params"]["request"]["url"] for event in mine if event["method"] == "Network.requestWillBeSent"]
        return [address for address in asked if not address.startswith("data:")]

    def close(self) -> None:
        """Closes the tab, as a rater does."""
        self._browser.call("Target.closeTarget", targetId=self._target)
