"""Reports in a real browser: nothing is cut off on a phone, nothing is fetched, and what can be pointed at answers."""

import re
import sys
from pathlib import Path

import pytest
from chromium import Chromium, Tab, find

import evaluate
from cdcd_video.errors import exit_code

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium or Chrome on this machine")

ROOT = Path(__file__).resolve().parent.parent
SMALL = ("--protocol", ROOT / "configs/eval/small.yaml", "--num-videos", 3, "--num-frames", 4)
LOADED = (
    "document.readyState === 'complete' && document.querySelectorAll('video').length > 0"
    " && [...document.querySelectorAll('video')].every((video) => video.readyState > 1)"
)
CUT_OFF = """
[...document.querySelectorAll('body *')].filter((part) => {
    const box = part.getBoundingClientRect()
    if (!box.width || (box.left >= 0 && box.right <= innerWidth)) return false
    for (let above = part; above; above = above.parentElement)
        if (['auto', 'scroll'].includes(getComputedStyle(above).overflowX)) return false
    return !part.closest('svg')
}).map((part) => part.outerHTML.slice(0, 80))
"""
"""What sticks out of the page, apart from what lies in a box of its own that can be scrolled."""


@pytest.fixture(scope="module")
def pages(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report with everything in it, and a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        for out, more in (("a", ("--steps", 1)), ("b", ("--steps", 2, "--no-latents"))):
            how = (*SMALL, "--checkpoint", tiny_model, *more, "--out", out)
            how += ("--metrics", "sprites", "psnr", "flow", "clip_first", "fid", "is")
            patched.setattr(sys, "argv", ["evaluate.py", *map(str, how)])
            assert exit_code(evaluate.main) == 0
        patched.setattr(sys, "argv", ["evaluate.py", "--compare", "a", "b", "--out", "c"])
        assert exit_code(evaluate.main) == 0
    return {"report": folder / "a" / "report.html", "compare": folder / "c" / "compare.html"}


def opened(browser: Chromium, page: Path, width: int, dark: bool) -> Tab:
    tab = browser.tab(page.as_uri(), width, dark=dark)
    tab.wait(LOADED if page.name == "report.html" else "document.readyState === 'complete'")
    return tab


@pytest.mark.parametrize("name", ["report", "compare"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_page_fits_any_screen_and_asks_for_nothing(browser: Chromium, pages: dict[str, Path], name: str, dark: bool):
    assert pages[name].stat().st_size < 15_000_000
    for width in (1280, 390):
        tab = opened(browser, pages[name], width, dark)
        assert tab.value("document.documentElement.scrollWidth") <= width
        assert tab.value(CUT_OFF) == []
        assert tab.value("[...document.images].every((image) => image.naturalWidth > 0)")
        assert tab.complaints() == [] and tab.fetched() == [pages[name].as_uri()]
        sides = tab.value("['color', 'backgroundColor'].map((side) => getComputedStyle(document.body)[side])")
        ink, paper = (sum(map(int, re.findall(r"\d+", side)[:3])) for side in sides)
        assert (ink > paper) is dark, sides
        tab.close()


def test_compared_videos_are_side_by_side_and_several_fit_beside_each_other(browser: Chromium, pages: dict[str, Path]):
    tops = "[...document.querySelectorAll(%s)].map((one) => Math.round(one.getBoundingClientRect().top))"
    for width in (1280, 390):
        tab = opened(browser, pages["compare"], width, dark=False)
        of_first = tab.value(tops % "'.preview:first-child figure'")
        assert len(of_first) >= 2 and len({*of_first}) == 1
        cards = tab.value(tops % "'.preview'")
        assert len(cards) == 3 and (cards[0] == cards[1]) is (width == 1280)
        tab.close()


def test_pointing_at_a_latent_path_reads_its_sentence(browser: Chromium, pages: dict[str, Path]):
    for width in (1280, 390):
        tab = opened(browser, pages["report"], width, dark=False)
        point = "document.querySelector('.plane .part:last-child .model circle[data-f=\"2\"]')"
        caption = tab.value(f"{point}.closest('.path').dataset.tip")
        assert caption.startswith("sampled: the ")
        assert not tab.text().count(caption)
        tab.point_at(point)
        said = tab.value("document.querySelector('.latents .read').textContent")
        assert said.partition(", frame ")[0].startswith("sampled: the ") or said.startswith("real: the ")
        shown = tab.value("document.querySelector('.latents .read').getBoundingClientRect().toJSON()")
        assert shown["height"] > 10 and shown["top"] >= 0 and shown["bottom"] <= tab.value("innerHeight") + 1
        dimmed = "document.querySelector('.plane .part:not(:hover)')"
        assert float(tab.value(f"getComputedStyle({dimmed}).opacity")) < 0.2
        tab.value("document.querySelector('h1').scrollIntoView()")
        tab.point_at("document.querySelector('h1')")
        assert tab.value("document.querySelector('.latents .read').textContent") == ""
        tab.close()


def test_the_parts_of_the_page_can_be_jumped_to(browser: Chromium, pages: dict[str, Path]):
    for page in pages.values():
        tab = opened(browser, page, 390, dark=False)
        lost = "[...document.querySelectorAll('nav a')].filter((link) => !document.querySelector(link.getAttribute('href')))"
        assert tab.value("document.querySelectorAll('nav a').length") > 3 and tab.value(f"{lost}.length") == 0
        tab.close()
    tab = opened(browser, pages["report"], 390, dark=False)
    links = tab.value("[...document.querySelectorAll('nav a')].map((link) => link.getAttribute('href'))")
    assert {"#headline", "#sets", "#along", "#videos", "#the-latent-space", "#protocol", "#cost"} <= set(links)
    tab.value("document.querySelector('nav a[href=\"#the-latent-space\"]').click()")
    tab.wait("Math.abs(document.getElementById('the-latent-space').getBoundingClientRect().top) < 60")
    tab.close()
