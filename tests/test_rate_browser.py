"""The rating page in a real browser: keys, a tab closed half-way, hostile texts, small screens."""

from pathlib import Path

import pytest
from chromium import Chromium, find
from rating import NASTY, Visitor, served, write_study

from cdcd_video.rate.answers import Store
from cdcd_video.rate.study import Study

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium or Chrome on this machine")

RATING = "state?.page && !document.getElementById('rate').hidden"
PLAYING = "[...document.querySelectorAll('video')].every((video) => video.currentTime > 0 && video.videoWidth)"


@pytest.fixture(autouse=True)
def no_cookies(browser: Chromium):
    browser.call("Storage.clearCookies")


def studied(folder: Path, **changes) -> tuple[Study, Path]:
    return write_study(folder, num_items=3, checks=1, repeats=0, **changes), folder


def values(study: Study, folder: Path) -> list[dict[str, int]]:
    """What is kept, as another process would read it."""
    store = Store(folder / "answers.sqlite", study)
    kept = [dict(vote.answers) for vote in store.votes()]
    store.close()
    return kept


def test_a_rater_closes_the_tab_half_way_and_goes_on(browser: Chromium, tmp_path: Path):
    study, folder = studied(tmp_path / "study")
    with served(study, folder) as port:
        address = f"http://127.0.0.1:{port}/"
        tab = browser.tab(address)
        tab.wait("document.activeElement.id === 'name'")
        tab.type("Anna")
        tab.press("Enter")
        tab.wait(f"{RATING} && {PLAYING}")
        tab.press("a", "t", "b", "Enter")
        tab.wait("state.done === 1")
        tab.press("ArrowRight", "ArrowLeft", "0", "Enter")
        tab.wait("state.done === 2")
        shown = tab.value("state.page.trial")
        tab.press("a", "a")  # the third page is begun, and not saved
        tab.close()
        assert values(study, folder) == [
            {"coherence": -1, "relevance": 0, "first_frame": 1},
            {"coherence": 1, "relevance": -1, "first_frame": 0},
        ]

        again = browser.tab(address)
        again.wait(RATING)
        assert again.value("[state.rater, state.done, state.page.trial]") == ["Anna", 2, shown]
        assert again.value("document.querySelectorAll('input:checked').length") == 0
        again.press("b", "b", "b", "Enter")
        again.wait("state.done === 3")
        again.press("b", "b", "b", "Enter")
        again.wait("!document.getElementById('thanks').hidden")
        assert "All done" in again.text() and len(values(study, folder)) == 4
        assert again.complaints() == []
        again.close()


def test_pressing_twice_saves_once_and_z_takes_back(browser: Chromium, tmp_path: Path):
    study, folder = studied(tmp_path / "study")
    with served(study, folder) as port:
        tab = browser.tab(f"http://127.0.0.1:{port}/?rater=Anna")
        tab.wait(RATING)
        assert tab.value("location.search") == ""
        first = tab.value("state.page.trial")
        tab.press("a", "a", "Enter")  # two of three questions
        assert tab.value("document.getElementById('save').disabled") and values(study, folder) == []
        tab.press("a")
        tab.value("document.getElementById('save').click(), document.getElementById('save').click(), save(), save()")
        tab.wait("state.done === 1 && !busy")
        assert tab.value("state.page.trial") != first
        tab.press("z")
        tab.wait("state.done === 0")
        assert tab.value("state.page.trial") == first and values(study, folder) == []
        tab.press("t", "t", "t", "Enter")
        tab.wait("state.done === 1")
        assert values(study, folder) == [dict.fromkeys(study.questions, 0)]
        tab.close()


def test_when_the_server_is_gone_the_answer_stays_and_can_be_sent_later(browser: Chromium, tmp_path: Path):
    study, folder = studied(tmp_path / "study")
    with served(study, folder) as port:
        tab = browser.tab(f"http://127.0.0.1:{port}/?rater=Anna")
        tab.wait(f"{RATING} && {PLAYING}")
        tab.press("a", "a", "a")
        tab.value("window.fetchOnline = window.fetch, window.fetch = () => Promise.reject(new TypeError('offline')), 0")
        tab.press("Enter")
        tab.wait("!document.getElementById('notice').hidden && !busy")
        assert "cannot be reached" in tab.text() and values(study, folder) == []
        tab.value("window.fetch = window.fetchOnline, 0")
        tab.press("Enter")
        tab.wait("state.done === 1 && document.getElementById('notice').hidden")
        assert values(study, folder) == [dict.fromkeys(study.questions, -1)]
        tab.close()


def test_hostile_texts_are_shown_as_text(browser: Chromium, tmp_path: Path):
    study, folder = studied(tmp_path / "study", title=f"Title {NASTY}", tasks_per_rater=None)
    with served(study, folder) as port:
        tab = browser.tab(f"http://127.0.0.1:{port}/")
        tab.wait("state")
        tab.value("window.alarms = 0, window.alert = () => { window.alarms += 1 }, 0")
        assert NASTY in tab.text()
        tab.value("document.getElementById('name').focus()")
        tab.type(f"Bob{NASTY}")
        tab.press("Enter")
        tab.wait(RATING)
        while not tab.value("state.page.prompt").startswith(NASTY):
            done = tab.value("state.done")
            tab.press("t", "t", "t", "Enter")
            tab.wait(f"state.done === {done + 1}")
        assert NASTY in tab.value("document.getElementById('prompt').innerText")
        assert NASTY in tab.value("document.getElementById('who').textContent")
        images = tab.value("[...document.images].map((image) => new URL(image.src).pathname)")
        assert len(images) == 1 and images[0].startswith("/media/") and tab.value("window.alarms") == 0
        tab.close()


@pytest.mark.parametrize("kind", ["pair", "single"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_it_fits_the_screen(browser: Chromium, tmp_path: Path, kind: str, width: int, height: int):
    study, folder = studied(tmp_path / "study", kind=kind)
    with served(study, folder) as port:
        tab = browser.tab(f"http://127.0.0.1:{port}/?rater=Anna", width, height, dark=True)
        tab.wait(f"{RATING} && {PLAYING}")
        assert tab.value("document.documentElement.scrollWidth") <= width
        assert tab.value("document.getElementById('save').getBoundingClientRect().bottom") <= height + 60
        small = (
            "[...document.querySelectorAll('.choices span')].filter((one) => one.getBoundingClientRect().height < 40)"
        )
        assert tab.value(f"{small}.length") == 0
        luminance = tab.value("getComputedStyle(document.body).backgroundColor")
        assert luminance == "rgb(20, 22, 26)"
        tab.press(*("1" if kind == "single" else "a") * 3, "Enter")
        tab.wait("state.done === 1")
        tab.close()


def test_a_mouse_and_the_tab_key_are_enough(browser: Chromium, tmp_path: Path):
    study, folder = studied(tmp_path / "study", kind="single", questions=("coherence",))
    with served(study, folder) as port:
        tab = browser.tab(f"http://127.0.0.1:{port}/?rater=Anna")
        tab.wait(RATING)
        tab.value("document.querySelectorAll('.choices label')[3].click(), document.getElementById('save').click()")
        tab.wait("state.done === 1")
        assert values(study, folder) == [{"coherence": 4}]
        for _ in range(8):  # play again, pause, then the scale
            tab.press("Tab")
            if tab.value("document.activeElement.type") == "radio":
                break
        tab.press(" ")
        assert tab.value("document.activeElement.checked")
        assert Visitor(port).enter("anna")["done"] == 1
        tab.close()
