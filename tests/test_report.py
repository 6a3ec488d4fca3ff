"""`scores.jsonl`, the terminal's table and the page: complete, self-contained, and safe whatever a caption holds."""

import base64
import dataclasses
import html.parser
import importlib.util
import io
import json
import re
from pathlib import Path

import chromium
import numpy as np
import pytest
from PIL import Image

from cdcd_video.data.clips import read_clip
from cdcd_video.errors import UserError
from cdcd_video.evaluation import report
from cdcd_video.evaluation.report import html_page as page_maker
from cdcd_video.evaluation.report import plots
from cdcd_video.evaluation.report.markdown import as_is
from cdcd_video.evaluation.report.saved_previews import read_previews
from cdcd_video.evaluation.report.score_files import write_scores
from cdcd_video.evaluation.report.score_table import tables
from cdcd_video.evaluation.report.summary_text import terminal_table
from cdcd_video.metrics.protocol import Protocol, SettledProtocol
from cdcd_video.metrics.score_entries import find, formatted, interval
from cdcd_video.metrics.scores import MEASURES, Score
from cdcd_video.metrics.suite import Evaluation, Example
from cdcd_video.metrics.summary import PerVideo

SETTLED = SettledProtocol(
    Protocol(num_videos=20, num_real=20, num_frames=4, fps=8.0, size_px=16, window=4, frame_network="sprites-frame"),
    {"frame": "cd" * 32, "video": None},
    "ef" * 32,
)
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
    score("psnr", 37.0, low=36.0, high=38.0),
    score("psnr_retention", 0.95, low=0.9, high=0.99),
    score("psnr_slope", -1.0, low=-1.2, high=-0.8),
    score("psnr_frames_kept", 4.0, low=3.0, high=4.0, is_at_least=True),
    score("fid", 12.34, low=10.0, high=14.0, features="sprites-frame", features_sha256="cd" * 32),
    score("fid", 3.3, "truth", 2.0, 5.0, features="sprites-frame", features_sha256="cd" * 32),
    *(score("fvd", 5.0 + first, window=(first, first + 3), features="sprites-video") for first in (0, 2)),
]
VIDEOS = [PerVideo("model", "psnr", "a", None, 111.0, 3.0), PerVideo("model", "psnr", "a", 1, 39.0, 1.0)]
COST = {"commit": "abcdef", "seconds": {"drawing": 12.5}}


def pixels(seed: int, side: int = 8) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=seed))
    return rng.integers(0, 256, (4, side, side, 3), dtype=np.uint8)


def written(folder: Path, **more) -> dict[str, Path]:
    examples = [EXAMPLE, dataclasses.replace(EXAMPLE, kind="worst", measured=("psnr", 21.234))]
    paths = report.write(Evaluation(SCORES, examples, VIDEOS), SETTLED, FACTS, folder, cost=COST, **more)
    return {path.name: path for path in paths}


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
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return written(tmp_path_factory.mktemp("report"), notes=["nothing is <sure>"])


def test_every_line_of_scores_stands_alone(made: dict[str, Path]):
    lines = [json.loads(line) for line in made["scores.jsonl"].read_text().splitlines()]
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


def test_the_page_needs_no_other_file_and_runs_nothing(made: dict[str, Path]):
    text = made["report.html"].read_text()
    page = Page(text)
    assert page.addresses and all(one.startswith(("data:image/", "data:video/mp4", "#")) for one in page.addresses)
    assert not re.search(r"https?://|url\(|@import", re.sub(r'"data:[^"]*"', "", text))
    assert "script" not in page.tags and "b" not in page.tags  # the caption's own tags are text
    assert any("<script>alert(1)</script>" in one for one in page.texts)


def test_the_page_says_what_was_found(made: dict[str, Path]):
    texts = Page(made["report.html"].read_text()).texts
    (verdict,) = [text for text in texts if "move as the caption says;" in text]
    assert verdict == (
        "62% of 20 objects move as the caption says; the codec's reconstruction has 95%; a frozen first frame has 10%. "
        "With another caption of the same image, 50% do; a model that ignores captions would have 5%. "
        "FID 12.3 on sprites-frame features; true videos have 3.3."
    )
    for expected in ("62%", "50 to 75", "n = 20 objects", "3.1 px", "spins", "another sentence was given", "ab" * 32):
        assert expected in texts
    assert "drawing: guidance" in texts and "1.5" in texts


def test_the_report_of_other_videos_begins_with_a_sentence_and_the_videos(tmp_path: Path):
    scores = [score("warp_error", 6.9, low=5.0, high=8.0, n=6), score("warp_error", 0.0, "copy-first", n=6)]
    frames = np.broadcast_to(np.array([200, 40, 90], np.uint8), (4, 16, 16, 3)).copy()
    example = Example({"model": "it moves"}, {"model": frames}, "a")
    text = report.write_report(scores, [example], tmp_path / "r.html", settled=SETTLED, facts=FACTS).read_text()
    assert "Warp error is 6.9 over 6 videos; a frozen first frame has 0." in Page(text).texts
    (links,) = re.findall(r"<nav.*?</nav>", text, re.DOTALL)
    assert re.findall(r'href="#(\w+)"', links)[0] == "videos"
    assert 0 < text.index("<video") < text.index("<table"), "the videos come first"
    (still,) = re.findall(r'<video src="data:video/mp4[^"]*" poster="data:image/webp;base64,([^"]*)"', text)
    with Image.open(io.BytesIO(base64.b64decode(still))) as picture:
        assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - frames[0]).max() < 12


def test_previews_hold_every_frame_of_the_first_videos(made: dict[str, Path]):
    (preview,) = read_previews(made["previews.json"].parent)  # the second example was chosen by its score
    assert (preview.caption, preview.num_frames, preview.fps) == (EXAMPLE.captions["model"], 4, 8.0)
    assert set(preview.pictures) == {"model", "truth"}
    with Image.open(io.BytesIO(base64.b64decode(preview.pictures["model"].split(",", 1)[1]))) as picture:
        assert picture.size == (4 * 8, 8)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        '[{"name": 1}]',
        '[{"name": "a", "caption": "b", "num_frames": 4, "fps": 8, "pictures": {"model": "x.png"}}]',
    ],
)
def test_previews_that_are_damaged_or_lead_elsewhere_are_refused(tmp_path: Path, text: str):
    (tmp_path / "previews.json").write_text(text)
    with pytest.raises(UserError, match="previews.json is damaged"):
        read_previews(tmp_path)
    assert read_previews(tmp_path / "earlier") == []


def test_the_page_holds_the_very_pixels(made: dict[str, Path]):
    page = Page(made["report.html"].read_text())
    pictures = [opened(one) for one in page.addresses if one.startswith("data:image/png")]
    still = [np.asarray(picture) for picture in pictures]
    drawn, true = EXAMPLE.videos["model"], EXAMPLE.videos["truth"]
    for strip, frames in zip(still, (drawn, true), strict=False):  # the drawn video above its truth
        assert strip.shape == (8, 4 * 8 + 3 * 2, 4)
        for frame in range(4):
            np.testing.assert_array_equal(strip[:, 10 * frame : 10 * frame + 8, :3], frames[frame])


def test_the_videos_can_be_played(tmp_path: Path):
    ramp = np.linspace(20, 220, 6).astype(np.uint8)[:, None, None, None] * np.ones((1, 64, 64, 3), np.uint8)
    (tmp_path / "video.mp4").write_bytes(base64.b64decode(plots.movie(ramp, 8.0).split(",", 1)[1]))
    clip = read_clip(tmp_path / "video.mp4", size_px=64)
    assert clip.fps == pytest.approx(8) and (clip.source_width, clip.source_height) == (192, 192)
    np.testing.assert_allclose(clip.frames.mean(axis=(1, 2, 3)), ramp.mean(axis=(1, 2, 3)), atol=3)


def test_long_and_large_videos_are_shown_small(tmp_path: Path):
    frames = np.concatenate([pixels(seed, 200) for seed in range(10)])
    picture = Image.open(io.BytesIO(base64.b64decode(plots.strip(frames).split(",", 1)[1])))
    assert picture.format == "WEBP" and picture.size == (14 * 98 - 2, 96)  # every third of 40


def test_a_full_page_leaves_examples_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    addresses = Page(written(tmp_path)["report.html"].read_text()).addresses
    both = sum(len(address) for address in addresses if "svg" not in address[:20])
    monkeypatch.setattr(page_maker, "MOST_PICTURE_BYTES", 3 * both // 4)
    texts = Page(written(tmp_path)["report.html"].read_text()).texts
    assert "Best and worst" not in texts and "Videos" in texts


@pytest.mark.skipif(chromium.find() is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_browser_shows_it_at_any_width(made: dict[str, Path], tmp_path: Path, dark: bool):
    browser = chromium.Chromium(tmp_path)
    try:
        for width in (1280, 390):
            tab = browser.tab(made["report.html"].as_uri(), width, dark=dark)
            tab.wait("[...document.querySelectorAll('video')].every(video => video.readyState > 1)")
            assert tab.value("document.documentElement.scrollWidth") <= width
            assert tab.value("[...document.images].every(image => image.naturalWidth > 0)")
            ink = tab.value("getComputedStyle(document.body).color")
            assert ink == ("rgb(233, 234, 236)" if dark else "rgb(29, 32, 38)") and tab.complaints() == []
            tab.close()
    finally:
        browser.close()


def test_the_same_scores_make_the_same_bytes(tmp_path: Path):
    first, again = written(tmp_path / "a"), written(tmp_path / "b")
    assert list(first) == [
        "scores.jsonl",
        "per_video.jsonl",
        "protocol.yaml",
        "previews.json",
        "cost.json",
        "report.md",
        "report.html",
    ]
    assert {name: path.read_bytes() for name, path in first.items()} == {
        name: path.read_bytes() for name, path in again.items()
    }


def test_the_protocol_and_the_cost_are_told(made: dict[str, Path]):
    texts = Page(made["report.html"].read_text()).texts
    for expected in (SETTLED.hash, "cd" * 32, "ef" * 32, "in_windows", "abcdef", "seconds: drawing", "12.5"):
        assert expected in texts
    assert SETTLED.hash in made["protocol.yaml"].read_text() and SETTLED.hash in made["report.md"].read_text()
    assert [json.loads(line) for line in made["per_video.jsonl"].read_text().splitlines()] == [
        {"row": "model", "metric": "psnr", "video": "a", "frame": None, "total": 111.0, "weight": 3.0},
        {"row": "model", "metric": "psnr", "video": "a", "frame": 1, "total": 39.0, "weight": 1.0},
    ]


def test_sets_stand_beside_their_floor_and_name_their_network(made: dict[str, Path]):
    texts = Page(made["report.html"].read_text()).texts
    for expected in ("Sets of videos", "FID", "12.3", "10 to 14", "3.3", "n = 20 videos, sprites-frame"):
        assert expected in texts


def test_the_figures_along_the_video_are_told(made: dict[str, Path]):
    table = tables(SCORES)["along"]
    (line,) = table.lines
    assert (line.title, line.note) == ("PSNR", "loss: -3 dB")
    assert [cell.value for cell in line.cells] == ["0.95", "-1", "4+", "-", "-"]
    assert "Along the video" not in tables([score("psnr", 30.0)]) and "along" not in tables([score("psnr", 30.0)])


def test_best_and_worst_notes_and_fragments_have_their_place(tmp_path: Path):
    examples = [dataclasses.replace(EXAMPLE, kind="worst", measured=("psnr", 21.234))]
    more = {
        "settled": SETTLED,
        "facts": FACTS,
        "notes": ["nothing is <sure>"],
        "fragments": {"Latent space": "<p>seen</p>"},
    }
    text = report.write_report(SCORES, examples, tmp_path / "report.html", **more).read_text()
    texts = Page(text).texts
    assert "worst by PSNR: 21.2" in texts and "nothing is <sure>." in texts
    begins = [text.index(f"{title}</h2>") for title in ("Best and worst", "Latent space", "Protocol")]
    assert begins == sorted(begins) and text.index("<p>seen</p>") > begins[1]
    links, ids = re.findall(r'href="#([^"]*)"', text), re.findall(r'<h2 id="([^"]*)"', text)
    assert links == ids and "latent-space" in ids and len(set(ids)) == len(ids), "the page's parts, in their order"


def test_markdown_holds_the_same_tables(made: dict[str, Path]):
    lines = made["report.md"].read_text().splitlines()
    assert lines[0] == "# Evaluation of sprites" and "Note: nothing is &lt;sure>." in lines
    (fid,) = [line for line in lines if line.startswith("| FID")]
    assert fid == "| FID (n = 20 videos, sprites-frame) | 12.3 [10 to 14] | - | - | 3.3 [2 to 5] |"
    titles = [line[3:] for line in lines if line.startswith("## ")]
    assert titles == [*(table.title for table in tables(SCORES).values()), "Protocol", "System", "Cost"]
    for part in made["report.md"].read_text().split("\n## ")[1:]:
        rows = [line for line in part.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) == 1, rows[0]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("12.3 [10 to 14], a_b, 5 * 3, at 10:30", "12.3 [10 to 14], a_b, 5 * 3, at 10:30"),
        ("[me](javascript:alert(1))", r"[me\](javascript:alert(1))"),
        ("[me][you]", r"[me\][you]"),
        ("[me]: x", r"[me\]: x"),
        ("see https://a.example", r"see https\://a.example"),
        ("<b>a\nb|c", r"&lt;b>a b\|c"),
        (r"C:\|x `y`", r"C:\\\|x \`y\`"),
    ],
)
def test_what_others_named_is_no_markup(text: str, written: str):
    assert as_is(text) == written


def test_a_page_of_pixels_alone_has_no_empty_parts(tmp_path: Path):
    scores = [score("psnr", 30.0, low=29.0, high=31.0)]
    example = Example({"model": "a dog runs"}, {row: pixels(1, 200) for row in ("model", "copy-first", "truth")})
    path = report.write_report(scores, [example], tmp_path / "report.html", settled=SETTLED, facts=FACTS)
    page = Page(path.read_text())
    for title in (
        "By motion",
        "Does the model follow the caption?",
        "Sets of videos",
        "Along the video",
        "Best and worst",
        "Cost",
    ):
        assert title not in page.texts
    assert any(text.startswith("PSNR is 30.0 dB over 20 videos.") for text in page.texts)


def test_a_page_of_sets_alone_says_what_was_found(tmp_path: Path):
    scores = [one for one in SCORES if one.metric == "fid"]
    path = report.write_report(scores, [], tmp_path / "report.html", settled=SETTLED, facts=FACTS)
    texts = Page(path.read_text()).texts
    assert "Scores" not in texts and "Videos" not in texts and any(text.startswith("FID 12.3 on") for text in texts)


def test_a_curve_is_drawn_only_of_what_has_frames_or_windows():
    assert plots.curve(SCORES, "position_error", "px") is None
    address = plots.curve(SCORES, "psnr", "dB")
    picture = base64.b64decode(address.split(",", 1)[1]).decode()
    assert picture.count("<svg") == 1 and plots.COLOURS["model"] in picture and plots.COLOURS["copy-first"] in picture
    assert plots.COLOURS["truth"] not in picture
    assert plots.curve(SCORES, "fid", "FID") is None and plots.curve(SCORES, "fvd", "FVD", of_windows=True)


def test_numbers_are_rounded_to_what_they_can_bear():
    names = ("does_right_thing", "position_error", "motion_ratio", "psnr_frames_kept", "fid")
    assert [formatted(find(SCORES, "model", name)) for name in names] == ["62%", "3.1 px", "-", "4+", "12.3"]
    assert interval(find(SCORES, "model", "does_right_thing")) == "50 to 75"
    assert interval(find(SCORES, "model", "motion_ratio")) == "" and formatted(None) == "-"
    assert [formatted(score("fvd", value)) for value in (0.012345, 0.00012345, 1234.5)] == [
        "0.0123",
        "0.0001",
        "1234",
    ]
    assert find(SCORES, "model", "fvd") is None  # windows alone are no whole


def test_the_table_for_the_terminal():
    lines = terminal_table(SCORES).splitlines()
    assert lines[0].split() == ["n", "model", "[95%]", "copy-first", "codec-ceiling", "truth"]
    assert " ".join(lines[1].split()) == "does the right thing 20 62% [50 to 75] 10% 95% 100%"
    assert " ".join(lines[-3].split()) == "other caption followed 20 50% [40 to 60]"
    assert lines[-1] == "features: fid sprites-frame, fvd sprites-video"
    assert max(map(len, lines)) < 100


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        report.write(Evaluation(SCORES, []), SETTLED, FACTS, tmp_path / "file")


def test_a_score_that_is_measured_and_shown_nowhere_is_an_error_at_import(monkeypatch):
    from cdcd_video.evaluation.report import latent_tables
    from cdcd_video.metrics import score_entries
    from cdcd_video.metrics.latent import latent_scores

    def imported(module) -> None:
        again = importlib.util.module_from_spec(module.__spec__)  # a copy: the module that others hold stays as it is
        module.__spec__.loader.exec_module(again)

    imported(score_entries)
    imported(latent_tables)
    monkeypatch.setitem(MEASURES, "sharpness", MEASURES["psnr"])
    with pytest.raises(ValueError, match=r"metrics/score_entries.py: in no table: sharpness; not"):
        imported(score_entries)
    monkeypatch.delitem(MEASURES, "sharpness")
    monkeypatch.delitem(MEASURES, "fid_over_floor")
    with pytest.raises(ValueError, match="not measured: fid_over_floor"):
        imported(score_entries)
    monkeypatch.setitem(latent_scores.MEASURES, "spread", ("ratio", "higher"))
    with pytest.raises(ValueError, match=r"latent_tables.py: in no table: spread"):
        imported(latent_tables)
