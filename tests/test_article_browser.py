"""The article in a real browser: sliders, buttons and dragging do what they say, on a desk and on a phone, without a network."""

import sys
from pathlib import Path

import pytest
from chromium import Chromium, Tab, find
from test_article import SMALL
from test_report_browser import CUT_OFF

from cdcd_video.errors import exit_code
from cdcd_video.tools.dev.article import article_command

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium or Chrome on this machine")

READ = "document.querySelector('.latent-path output').textContent"
SHIFT = "document.querySelector('.{} .sheet').style.backgroundPosition"
SLIDER = "document.querySelector('.{} input[type=range]')"
BUTTON = "document.querySelector('.{} button')"


@pytest.fixture(scope="module")
def page(restless_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("article") / "index.html"
    options = [word for change in (f"checkpoint={restless_model}", *SMALL) for word in ("--set", change)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["article", "--out", str(out), *options])
        assert exit_code(article_command.main) == 0
    return out


def opened(browser: Chromium, page: Path, width: int = 1280, dark: bool = False, *, still: bool = True) -> Tab:
    tab = browser.tab(page.as_uri(), width, dark=dark)
    features = [{"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}]
    features.append({"name": "prefers-color-scheme", "value": "dark" if dark else "light"})
    tab.call("Emulation.setEmulatedMedia", features=features)
    tab.call("Page.reload")
    tab.wait(f"document.readyState === 'complete' && {READ}.startsWith('Frame')")
    return tab


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_cut_off_and_nothing_is_fetched(browser: Chromium, page: Path, width: int, dark: bool):
    tab = opened(browser, page, width, dark)
    assert tab.value(CUT_OFF) == []
    assert tab.complaints() == [] and set(tab.fetched()) == {page.as_uri()}
    seen = "[...document.querySelectorAll('figure')].every((figure) => figure.getBoundingClientRect().height > 60)"
    assert tab.value(seen)
    dim = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((level) => level < 60)"
    assert tab.value(dim) is dark


def test_the_slider_and_the_sentences_answer_to_keys(browser: Chromium, page: Path):
    tab = opened(browser, page)
    assert "Frame 2," in tab.value(READ)  # the middle of four frames
    tab.value(SLIDER.format("latent-path") + ".focus()")
    tab.press("ArrowRight")
    assert tab.value(READ).startswith("Frame 3, at 0.25 s:") and tab.value(SHIFT.format("latent-path")) == "100% 0%"
    mark = "document.querySelectorAll('.plane .mark')[1].getAttribute('cx')"
    before = tab.value(mark)
    tab.value("document.querySelector('.latent-path input[type=radio]').focus()")
    tab.press("ArrowDown")
    assert tab.value(SHIFT.format("latent-path")) == "100% 100%" and tab.value(mark) != before
    chosen = "[...document.querySelectorAll('.plane .sampled')].map((line) => line.classList.contains('chosen'))"
    assert tab.value(chosen) == [False, True, False, True]
    lit = "[...document.querySelectorAll('.codes rect')].filter((cell) => cell.style.fill).length"
    assert f" {tab.value(lit)} of 32 codes" in tab.value(READ)


def test_a_path_can_be_dragged_along(browser: Chromium, page: Path):
    tab = opened(browser, page)
    at = """(() => {
        const picture = document.querySelectorAll('.plane')[1]
        picture.scrollIntoView({block: 'center'})
        const place = (line, number) => {
            const [x, y] = line.getAttribute('points').split(' ')[number].split(',').map(Number)
            const there = new DOMPoint(x, y).matrixTransform(picture.getScreenCTM())
            return [there.x, there.y]
        }
        const places = [0, 1, 2, 3].map((number) => place(picture.querySelectorAll('.sampled')[1], number))
        const apart = (one) => Math.min(...places.filter((other) => other !== one)
            .map((other) => Math.hypot(one[0] - other[0], one[1] - other[1])))
        const to = [0, 1, 2].sort((a, b) => apart(places[b]) - apart(places[a]))[0]
        return [places[3], places[to], to]
    })()"""
    (x, y), (to_x, to_y), to = tab.value(at)  # to a frame whose point is not another frame's as well
    held = {"button": "left", "buttons": 1, "clickCount": 1}
    tab.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **held)
    assert tab.value(READ).startswith("Frame 3,")
    assert tab.value("document.querySelectorAll('.latent-path input[type=radio]')[1].checked") is True
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=to_x, y=to_y, **held)
    assert tab.value(READ).startswith(f"Frame {to},") and tab.value(SLIDER.format("latent-path") + ".value") == str(to)
    tab.call("Input.dispatchMouseEvent", type="mouseReleased", x=to_x, y=to_y, button="left", clickCount=1)
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert tab.value(READ).startswith(f"Frame {to},")


def test_videos_play_when_seen_and_rest_where_motion_is_not_wanted(browser: Chromium, page: Path):
    tab = opened(browser, page, still=False)
    button = BUTTON.format("side-by-side")
    assert tab.value(button + ".textContent") == "Play"
    tab.value(button + ".scrollIntoView()")
    tab.wait(button + ".textContent === 'Pause' && " + SLIDER.format("side-by-side") + ".value > 0")
    tab.value(button + ".click()")
    assert tab.value(button + ".textContent") == "Play"
    rows = "[...document.querySelectorAll('.side-by-side .sheet')].map((one) => one.style.backgroundPosition.split(' ')[0])"
    assert len(set(tab.value(rows))) == 1, "all videos show the same frame"

    tab = opened(browser, page, still=True)
    tab.value(button + ".scrollIntoView()")
    tab.value("new Promise((done) => setTimeout(done, 600))")
    assert tab.value(button + ".textContent") == "Play" and tab.value(SLIDER.format("side-by-side") + ".value") == "0"
    tab.value(button + ".click()")
    tab.wait(SLIDER.format("side-by-side") + ".value > 0")
