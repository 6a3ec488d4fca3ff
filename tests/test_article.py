"""The article: its numbers are those of the documentation, its page is whole and valid, and a build can be repeated."""

import base64
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import html5lib
import numpy as np
import pytest
from PIL import Image

from cdcd_video.config import config_file
from cdcd_video.data import sprites
from cdcd_video.errors import UserError, exit_code
from cdcd_video.tools.dev.article import article_command, article_page, interval_chart, latent_path, side_by_side
from cdcd_video.tools.dev.article.article_plan import ArticlePlan, Panel, ResultFile
from cdcd_video.tools.dev.article.article_text import ArticleText
from cdcd_video.tools.dev.article.citations import Citations
from cdcd_video.tools.dev.article.frame_sheet import frame_sheet

ROOT = Path(__file__).resolve().parent.parent
ARTICLE, REFERENCES = ROOT / "docs" / "article", ROOT / "docs" / "references.md"
RESULTS = article_page.read_results(ARTICLE / "results")
SECTIONS = {path.name: path.read_text(encoding="utf-8") for path in sorted(ARTICLE.glob("*.md"))}
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e-\d+)?")
MOST_BYTES = 5_000_000
SMALL = (
    "latent_path={index: 0, motions: [stays still, shrinks], num_frames: 4, num_training: 2}",
    "side_by_side={kinds: [straight], failures: [straight], num_tried: 3, num_frames: 4}",
)


# ------------------------------------------------------------------------------------------------------- the numbers


def section(page: str, heading: str) -> str:
    """The text of a document under one heading."""
    parts = re.split(r"^#+ ", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    (found,) = [part for part in parts if part.partition("\n")[0] == heading]
    return found


def table_cell(page: str, heading: str, row: str, column: str) -> str:
    """A cell of the one table under a heading that has this column and this beginning of a row."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", section(page, heading), re.MULTILINE):
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        if column in lines[0]:
            keys = row.split(" | ")
            found += [line[lines[0].index(column)] for line in lines[2:] if line[: len(keys)] == keys]
    assert len(found) == 1, f"{page}, {heading}: {len(found)} cells for {row!r} and {column!r}"
    return found[0]


@pytest.mark.parametrize("name", RESULTS)
def test_every_number_of_a_chart_is_that_of_its_table(name: str):
    result = RESULTS[name]
    for panel in result.panels:
        for cell in panel.cells:
            there = table_cell(result.page, result.heading, cell.row, cell.column)
            assert tuple(map(float, NUMBER.findall(there))) == cell.numbers, f"{cell.row}, {cell.column}: {there}"
            assert cell.bold == ("**" in there)
            shown = interval_chart.plotted_numbers(panel, cell)
            assert all(panel.low <= number <= panel.high for number in shown), f"{panel.title}: {shown} is off the axis"
            if panel.plotted != "dots":
                value, low, high = shown
                assert low <= value <= high


def test_the_numbers_of_the_text_are_those_of_the_documentation():
    """Intervals, and the text before them, stand in a document in the same words."""
    pages = [path for path in (ROOT / "docs").rglob("*.md") if path.parent != ARTICLE]
    known = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in pages).replace("**", "")
    quoted = [
        found
        for text in SECTIONS.values()
        for found in re.findall(r"[-+]?\d+(?:\.\d+)?(?: %| points)? \[-?\d[^\]]*\]", " ".join(text.split()))
    ]
    assert len(quoted) > 10
    assert [found for found in quoted if found not in known] == []


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_file_says_what_its_page_says(name: str):
    """Commits, and a command of the same module as one of the page's or of the ablation that it describes."""
    result = RESULTS[name]
    page = " ".join((ROOT / result.page).read_text(encoding="utf-8").split())
    for digest in re.findall(r"\b[0-9a-f]{7,8}\b", result.commit):
        assert digest in page
    module = re.match(r"python -m (\S+)", result.command)
    assert module and module[0] in page


def test_files_that_the_article_names_exist():
    texts = [*SECTIONS.values(), *(result.command for result in RESULTS.values()), *(r.page for r in RESULTS.values())]
    named = {found for text in texts for found in re.findall(r"(?:docs|configs|tests|cdcd_video)/[\w./-]*\w", text)}
    assert len(named) > 8 and [name for name in sorted(named) if not (ROOT / name).exists()] == []


# ---------------------------------------------------------------------------------------------------------- the page


def build(out: Path, *changes: str) -> int:
    with pytest.MonkeyPatch.context() as patched:
        options = [word for change in changes for word in ("--set", change)]
        patched.setattr(sys, "argv", ["article", "--out", str(out), *options])
        return exit_code(article_command.main)


@pytest.fixture(scope="module")
def page(restless_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The article of a tiny model with random weights."""
    out = tmp_path_factory.mktemp("article") / "deep" / "index.html"
    assert build(out, f"checkpoint={restless_model}", *SMALL) == 0
    return out.read_text(encoding="utf-8")


def elements(page: str) -> Iterator:
    """All elements; a page that is not valid HTML is an error."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(page).iter()


def test_the_same_build_gives_the_same_bytes(page: str, restless_model: Path, tmp_path: Path):
    assert build(tmp_path / "again.html", f"checkpoint={restless_model}", *SMALL) == 0
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page
    assert build(tmp_path / "other.html", f"checkpoint={restless_model}", *SMALL, "seed=1") == 0
    assert (tmp_path / "other.html").read_text(encoding="utf-8") != page


def test_the_page_is_valid_and_needs_no_other_file(page: str):
    assert len(page.encode()) < MOST_BYTES
    ids, targets = [], []
    for element in elements(page):
        ids += [element.attrib["id"]] if "id" in element.attrib else []
        for name, value in element.attrib.items():
            assert name != "src" and not str(name).startswith("on"), f"{element.tag} has {name}={value[:60]}"
            targets += [value] if str(name).endswith("href") else []
        assert element.tag not in {"iframe", "object", "embed", "base", "form"}
    assert len(set(ids)) == len(ids)
    assert [one for one in targets if one[0] == "#" and one[1:] not in ids] == []
    assert [one for one in targets if not one.startswith(("#", "https://", "data:,"))] == []
    assert set(re.findall(r"url\((.{5})", page)) == {"data:"} and "@import" not in page
    for call in ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "localStorage", "innerHTML"):
        assert call not in page


def test_what_can_be_moved_and_what_is_a_picture_says_what_it_is(page: str):
    found = list(elements(page))
    for label in (one for one in found if one.tag == "label"):
        assert "".join(label.itertext()).strip() and [one for one in label if one.tag == "input"]
    inputs = [one for one in found if one.tag == "input"]
    labelled = [inner for label in found if label.tag == "label" for inner in label.iter() if inner.tag == "input"]
    assert len(inputs) == len(labelled) == 4  # two sentences, and a slider for each moving figure
    pictures = [one for one in found if str(one.tag).rpartition("}")[2] == "svg" or one.attrib.get("class") == "sheet"]
    assert len(pictures) > 8
    assert [one for one in pictures if one.attrib.get("role") != "img" or not one.attrib.get("aria-label")] == []


def test_every_figure_has_its_caption_and_its_command(page: str):
    numbers = re.findall(r'<figure id="figure-(\d+)"', page)
    assert numbers == [str(number) for number in range(1, len(RESULTS) + 3)]
    assert re.findall(r"<figcaption><b>Figure (\d+)\.</b> \S", page) == numbers
    again = page[page.index('id="every-figure-again"') :]
    for result in RESULTS.values():
        assert result.command.replace('"', "&#34;") in again
    assert again.count("<code>make article</code></td>") == 2
    assert "[@" not in page and "$" not in re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)


def frames_of(page: str, number: int) -> np.ndarray:
    sheet = re.search(rf"#figure-{number} .sheet {{ background-image: url\(data:image/webp;base64,([^)]+)\)", page)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet[1]))).convert("RGB"))


def test_the_moving_figures_show_the_models_frames_and_codes(page: str, restless_model: Path):
    from cdcd_video.data.sprites_render import render
    from cdcd_video.pipeline import ImageToVideo
    from cdcd_video.training.training_data import sprites_world

    first, last = json.loads(re.search(r'<script type="application/json">(.+?)</script>', page)[1]), len(RESULTS) + 2
    pipe = ImageToVideo.from_pretrained(restless_model, "cpu")
    world = sprites_world(pipe.model.config.data)
    scene = sprites.sample_scene(0, 0, "val", world=world)
    start = render(scene, np.zeros(1), pipe.size_px)[0]
    sheet = frames_of(page, 1)
    assert sheet.shape == (2 * 32, 4 * 32, 3)
    assert (sheet[:32, :32] == start).all() and (sheet[32:, :32] == start).all()
    params = pipe.defaults(num_frames=4, fps=12.0)
    captions = [sprites.with_motion(scene, 0, motion, world=world).caption for motion in ("stays still", "shrinks")]
    from cdcd_video.engine.runtime import seed_for

    codes = pipe.roll_out(
        np.stack([start] * 2), captions, params, [seed_for(0, "article", c) for c in captions]
    ).numpy()
    assert (codes[:, 1:] != codes[:, :1]).any(-1).all(), "the test needs codes that change"
    for video, frame in np.ndindex(2, 4):
        bits = first["changed"][video][frame]
        assert len(bits) == 2 * 16
        here = np.array([[int(bits[p : p + 2], 16) >> g & 1 for g in range(2)] for p in range(0, 32, 2)])
        assert (here == (codes[video, frame] != codes[video, 0]).reshape(16, 2)).all()
    assert frames_of(page, last).shape == (2 * 4 * 32, 4 * 32, 3)


def test_failures_are_failures_and_first_scenes_are_first(page: str):
    shown = re.findall(r'<div class="scene"><p>(.+?) <span class="soft">scene (\d+) of heldout, (.+?)</span>', page)
    verdicts = re.findall(r'<b>model</b>\s*<span class="(\w+)">', page)
    assert [chosen.split(",")[0] for _, _, chosen in shown] == ["the first of its kind", "the first failure"]
    assert verdicts[1] == "wrong"
    assert re.findall(r'<b>truth</b>\s*<span class="(\w+)">', page) == ["right", "right"]


# ---------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("sections=[motivation, nowhere]", "nowhere.md"),
        ("sections=[motivation]", "no section has the figure 'contrast-16'"),
        ("latent_path={index: 0, motions: [flies, grows]}", "cannot do 'flies'"),
        ("side_by_side={kinds: [somersault]}", "no kind 'somersault'"),
        ("side_by_side={kinds: [two], num_frames: 3}", "too few of kind 'two'"),
        ("latent_path.num_frames=2", "num_frames"),
        ("checkpoint=nowhere", "nowhere"),
    ],
)
def test_mistakes_in_the_plan_end_in_one_sentence(
    change: str, words: str, restless_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch
):
    monkeypatch.setattr(side_by_side, "MOST_SCENES", 20)
    assert build(tmp_path / "index.html", f"checkpoint={restless_model}", *SMALL, change) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said and not (tmp_path / "index.html").exists()


@pytest.mark.parametrize(("out", "words"), [("page.pdf", "must be an .html file"), ("file/index.html", "cannot write")])
def test_a_place_that_cannot_be_written_is_found_before_the_figures(
    out: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    (tmp_path / "file").write_text("")
    assert build(tmp_path / out, "checkpoint=nowhere") == 2
    assert words in capsys.readouterr().err


def test_a_model_that_never_fails_has_no_failure_to_show(restless_model: Path, monkeypatch: pytest.MonkeyPatch):
    from cdcd_video.pipeline import ImageToVideo

    plan = config_file.load(ARTICLE / "article.yaml", ArticlePlan, SMALL).side_by_side
    never = {"is_right": True, "position_error": None, "identity": 1.0}
    monkeypatch.setattr(side_by_side, "measured", lambda *given: never)
    with pytest.raises(UserError, match="right in the first 3 scenes"):
        side_by_side.side_by_side(ImageToVideo.from_pretrained(restless_model, "cpu"), plan, 0, lambda num: None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[@Nobody 1900]", "Nobody 1900"),
        ("```figure moon\nA caption.\n```", "'moon'"),
        ("[a page](../data.md)", "one page alone"),
        ("[a page](http://somewhere)", "one page alone"),
    ],
)
def test_what_a_text_refers_to_must_be_there(text: str, words: str):
    with pytest.raises(UserError, match=words):
        ArticleText(Citations(REFERENCES), {}).render(text)


def test_text_is_text_and_works_are_numbered_by_first_mention():
    text = ArticleText(Citations(REFERENCES), {"sun": lambda number, caption: f"<i>{number} {caption}</i>"})
    made = text.render(
        "<b>bold</b> $a < b$ [@FSQ; CDCD] and [@CDCD]\n\n```figure sun\n*hot* [@D3PM]\n```\n\n```sh\n<a>\n```"
    )
    assert (
        "&lt;b&gt;bold" in made and "<code>&lt;a&gt;" in made and "<math" in made and "&lt;" in made.split("<math")[1]
    )
    assert re.findall(r"#ref-(\d)", made) == ["1", "2", "2", "3"] and "<i>1 <em>hot</em>" in made
    assert [work.split(",")[0] for _, work in text.citations.listed] == ["Fabian Mentzer", "Ye Zhu", "Jacob Austin"]


def test_a_sheet_that_webp_cannot_hold_is_refused():
    with pytest.raises(UserError, match="do not fit into one picture"):
        frame_sheet(np.zeros((2, 3, 8200, 1, 3), np.uint8))


# ------------------------------------------------------------------------------------------------------------ charts


def test_marks_lie_where_the_axis_says():
    cells = [{"row": "", "column": "", "label": "one", "numbers": [5, 2.5, 10]}]
    panel = Panel.model_validate({"title": "t", "plotted": "value", "low": 0, "high": 10, "line": 0, "cells": cells})
    made = interval_chart.interval_chart(
        ResultFile(page="", heading="", command="", commit="", seeds=(0,), n="", panels=(panel,))
    )["panels"][0]
    (line,) = made["lines"]
    left, right = made["labels"], made["right"]
    assert made["line"] == left and line["span"] == [left + (right - left) / 4, right]
    assert (
        line["marks"] == [(left + right) / 2] and made["ticks"][0] == (left, "0") and made["ticks"][-1] == (right, "10")
    )


def test_panels_of_one_chart_have_the_same_lines():
    shown = {"title": "t", "plotted": "value", "low": 0, "high": 1}
    panels = [{**shown, "cells": [{"row": "", "column": "", "label": name, "numbers": [0, 0, 1]}]} for name in "ab"]
    facts = {"page": "", "heading": "", "command": "", "commit": "", "seeds": [0], "n": ""}
    with pytest.raises(ValueError, match="same groups and labels"):
        ResultFile.model_validate({**facts, "panels": panels})


def test_changed_codes_are_those_that_differ_from_the_first_frame():
    codes = np.array([[[1, 2, 3, 4], [1, 9, 3, 4], [1, 2, 0, 0]]])
    changed = latent_path.changed_codes(codes, groups=2)
    assert changed.tolist() == [[[[0, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 0], [1, 1]]]]
