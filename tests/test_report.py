"""`scores.jsonl`, the terminal's table and the page: complete, self-contained, and safe whatever a caption holds."""

import base64
import html.parser
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cdcd_video import report
from cdcd_video.errors import UserError
from cdcd_video.metrics.scores import MEASURES, Score
from cdcd_video.metrics.suite import Evaluation, Example
from cdcd_video.report import figures
from cdcd_video.report.table import find, interval, shown, terminal_table, write_scores

FACTS = {
    "data": "sprites",
    "split": "val",
    "seed": 3,
    "checkpoint": "sprites",
    "model_sha256": "ab" * 32,
    "drawing": {"num_frames": 4, "fps": 8.0, "guidance": 1.5},
    "versions": {"torch": "2.15"},
}


def score(metric: str, value: float | None, row: str = "model", low=None, high=None, n=20, **more) -> Score:
    measure = MEASURES[metric]
    return Score(metric, value, low, high, n, measure.counted, measure.unit, measure.better, row, **more)


SCORES = [
    score("does_right_thing", 0.625, low=0.5, high=0.75),
    score("does_right_thing", 0.1, "copy-first", 0.0, 0.2),
    score("does_right_thing", 0.95, "codec-ceiling", 0.9, 1.0),
    score("does_right_thing", 1.0, "truth", 1.0, 1.0),
    score("does_right_thing", 0.25, low=0.0, high=0.5, n=4, group="motion=spins"),
    score("does_right_thing", 0.5, "counterfactual", 0.4, 0.6, group="sentence=changed"),
    score("does_right_thing", 0.05, "sentence-ignored", 0.0, 0.1, group="sentence=changed"),
    score("position_error", 3.14159, low=2.0, high=4.0),
    score("motion_ratio", None, n=4),
    *(score("psnr", 40.0 - frame, low=35.0 - frame, high=41.0, frame=frame) for frame in range(4)),
    *(score("psnr", 20.0, "copy-first", 19.0, 21.0, frame=frame) for frame in range(4)),
]


def pixels(seed: int, side: int = 8) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=seed))
    return rng.integers(0, 256, (4, side, side, 3), dtype=np.uint8)


EXAMPLE = Example(
    {"model": 'the <b>"red"</b> circle & co <script>alert(1)</script>', "counterfactual": "the red circle spins"},
    {row: pixels(seed) for seed, row in enumerate(("model", "counterfactual", "copy-first", "codec-ceiling", "truth"))},
)


def opened(address: str) -> Image.Image:
    head, content = address.split(",", 1)
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


class Page(html.parser.HTMLParser):
    """Texts, addresses and tags of a page; complains about tags that do not close."""

    def __init__(self, text: str):
        super().__init__()
        self.texts, self.addresses, self.tags, self.open = [], [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append(" ".join(data.split()))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return report.write(Evaluation(SCORES, [EXAMPLE]), FACTS, tmp_path_factory.mktemp("report"))


def test_every_line_of_scores_stands_alone(made: list[Path]):
    lines = [json.loads(line) for line in made[0].read_text().splitlines()]
    assert len(lines) == len(SCORES)
    for line, one in zip(lines, SCORES, strict=True):
        assert {name: line[name] for name in FACTS} == FACTS
        names = ("metric", "value", "low", "high", "n", "counted", "unit", "better", "row", "group", "frame")
        assert {name: line[name] for name in names} == {name: getattr(one, name) for name in names}
    assert lines[8]["value"] is None  # nothing to measure is null, which every reader of JSON knows


def test_what_is_not_finite_never_reaches_the_file(tmp_path: Path):
    with pytest.raises(ValueError):
        write_scores([score("psnr", float("nan"))], FACTS, tmp_path / "scores.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_the_page_needs_no_other_file_and_runs_nothing(made: list[Path]):
    text = made[1].read_text()
    page = Page(text)
    assert page.addresses and all(address.startswith("data:image/") for address in page.addresses)
    assert not re.search(r"https?://|url\(|@import", re.sub(r'"data:[^"]*"', "", text))
    assert "script" not in page.tags and "b" not in page.tags  # the caption's own tags are text
    assert any("<script>alert(1)</script>" in one for one in page.texts)


def test_the_page_says_what_was_found(made: list[Path]):
    texts = Page(made[1].read_text()).texts
    (verdict,) = [text for text in texts if "do what the sentence says." in text]
    assert verdict == (
        "62% of 20 objects do what the sentence says. The codec alone would show 95%, a frozen first frame earns 10%. "
        "With another sentence for the same image it obeys in 50%, against 5% if it did not read it."
    )
    for expected in ("62%", "50 to 75", "n = 20 objects", "3.1 px", "spins", "another sentence was given", "ab" * 32):
        assert expected in texts
    assert "drawing: guidance" in texts and "1.5" in texts


def test_the_page_holds_the_very_pixels(made: list[Path]):
    addresses = Page(made[1].read_text()).addresses
    pictures = [opened(address) for address in addresses if address.startswith("data:image/png")]
    moving = [picture for picture in pictures if getattr(picture, "n_frames", 1) > 1]
    still = [np.asarray(picture) for picture in pictures if getattr(picture, "n_frames", 1) == 1]
    assert len(moving) == 3 and len(still) == 4
    drawn, true = EXAMPLE.videos["model"], EXAMPLE.videos["truth"]
    for strip, frames in zip(still, (drawn, true), strict=False):  # the drawn video above its truth
        assert strip.shape == (8, 4 * 8 + 3 * 2, 4)
        for frame in range(4):
            np.testing.assert_array_equal(strip[:, 10 * frame : 10 * frame + 8, :3], frames[frame])
    for frame in range(4):
        moving[0].seek(frame)
        np.testing.assert_array_equal(np.asarray(moving[0].convert("RGB")), drawn[frame])


def test_the_same_scores_make_the_same_bytes(made: list[Path], tmp_path: Path):
    again = report.write(Evaluation(SCORES, [EXAMPLE]), FACTS, tmp_path)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in made]


def test_a_page_of_pixels_alone_has_no_empty_parts(tmp_path: Path):
    scores = [one for one in SCORES if one.metric == "psnr"] + [score("psnr", 30.0, low=29.0, high=31.0)]
    example = Example({"model": "a dog runs"}, {row: pixels(1, 200) for row in ("model", "copy-first", "truth")})
    path = report.write_report(scores, [example], FACTS, tmp_path / "report.html")
    page = Page(path.read_text())
    assert "By motion" not in page.texts and "Is the sentence read?" not in page.texts
    assert any(text.startswith("PSNR 30.0 dB over 20 videos.") for text in page.texts)
    assert all(opened(one).height <= 96 for one in page.addresses if one.startswith("data:image/png"))


def test_a_curve_is_drawn_only_of_what_has_frames():
    assert figures.curve(SCORES, "position_error", "px") is None
    address = figures.curve(SCORES, "psnr", "dB")
    picture = base64.b64decode(address.split(",", 1)[1]).decode()
    assert (
        picture.count("<svg") == 1 and figures.COLOURS["model"] in picture and figures.COLOURS["copy-first"] in picture
    )
    assert figures.COLOURS["truth"] not in picture


def test_numbers_are_rounded_to_what_they_can_bear():
    assert [shown(find(SCORES, "model", name)) for name in ("does_right_thing", "position_error", "motion_ratio")] == [
        "62%",
        "3.1 px",
        "-",
    ]
    assert interval(find(SCORES, "model", "does_right_thing")) == "50 to 75"
    assert interval(find(SCORES, "model", "motion_ratio")) == "" and shown(None) == "-"


def test_the_table_for_the_terminal():
    lines = terminal_table(SCORES).splitlines()
    assert lines[0].split() == ["n", "model", "[95%]", "copy-first", "codec-ceiling", "truth"]
    assert " ".join(lines[1].split()) == "does the right thing 20 62% [50 to 75] 10% 95% 100%"
    assert " ".join(lines[-2].split()) == "other sentence obeyed 20 50% [40 to 60]"
    assert max(map(len, lines)) < 100


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        report.write(Evaluation(SCORES, []), FACTS, tmp_path / "file")
