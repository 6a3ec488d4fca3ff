"""The goals of a model of the built-in world, beside what it reaches."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cdcd_video.errors import exit_code
from cdcd_video.tools import bars


def score(row: str, value: float, metric: str = "all_right", group: str = "all", frame: int | None = None):
    limits = dict(low=value - 0.1, high=value + 0.1, n=7)
    return SimpleNamespace(row=row, value=value, metric=metric, group=group, frame=frame, window=None, **limits)


def test_a_row_is_the_score_of_its_group_and_frame_of_every_system():
    scores = [
        score("model", 0.5, group="objects=1"),
        score("codec-ceiling", 0.9, group="objects=1"),
        score("model", 0.2, group="objects=2"),
        score("model", 0.7, "identity_iou", frame=15),
        score("model", 0.8, "identity_iou", frame=3),
    ]
    one = bars.row(bars.Line("one", "all_right", "objects=1", goal=0.6), scores, 16)
    assert (one["value"], one["low"], one["high"], one["n"]) == (0.5, 0.4, 0.6, 7)
    assert one["codec-ceiling"] == 0.9 and one["copy-first"] is None
    last = bars.row(bars.Line("identity", "identity_iou", frame=-1, goal=0.6), scores, 16)
    assert last["value"] == 0.7
    missing = bars.row(bars.Line("spins", "all_right", "motion=spins", goal=0.8), scores, 16)
    assert missing["value"] is None and missing["n"] == 0
    lines = [
        bars.as_text(bars.Line(found["title"], "all_right", goal=found["goal"]), found)
        for found in (one, last, missing)
    ]
    assert ["below" in line for line in lines] == [True, False, False]
    assert "0.500 [0.400, 0.600], n = 7" in lines[0] and "-, n = 0" in lines[2]


def test_a_model_is_set_beside_its_goals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    none = ["--num-heldout", "0", "--num-rates", "0", "--num-long", "0"]
    asked = [
        "--checkpoint",
        "sprites",
        "--num-videos",
        "2",
        *none,
        "--lookback",
        "0.25",
        "--out",
        str(tmp_path / "x"),
    ]
    monkeypatch.setattr(sys, "argv", ["bars", *asked])
    assert exit_code(bars.main) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(bars.WHOLE) and all(line.startswith("seen") for line in lines[1:])
    rows = json.loads((tmp_path / "x" / "seen" / "bars.json").read_text())
    (whole,) = [row for row in rows if row["title"] == "identity, last frame (IoU)"]
    assert 0.3 < whole["value"] < 1 and whole["n"] >= 2 and whole["goal"] == 0.93
    assert "lookback_s" in (tmp_path / "x" / "seen" / "report.md").read_text()


@pytest.mark.parametrize(
    "option",
    ["--num-videos 0", "--num-long -1", "--decoded guessed", "--size 6x9x6", "--seed -1", "--num-videos 1000000000"],
)
def test_mistakes_are_sentences(option: str, monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path):
    monkeypatch.setattr(sys, "argv", ["bars", "--out", str(tmp_path), *option.split()])
    assert exit_code(bars.main) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert re.search("must be|such as 64x96|(greater|less) than", said)
