"""The page of benchmarks: results of the tools in one small form, and tables that anybody can write again."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cdcd_video.errors import UserError, exit_code
from cdcd_video.evaluation.report.score_files import write_cost, write_scores
from cdcd_video.metrics.scores import Score
from cdcd_video.tools import benchmarks
from cdcd_video.tools.benchmark_results import read_results, results_in

ROOT = Path(__file__).resolve().parent.parent
MACHINE = {
    "cpu": "AMD EPYC",
    "cores": 2,
    "cpu_capability": "AVX2",
    "precision": "fp32",
    "gpu": None,
    "torch": "2.14.0",
}
ORIGIN = {"commit": "a" * 40, "dirty": False, "machine": MACHINE, "seconds": {"drawing": 1.5}}
PROTOCOL = "num_videos: 4\nnum_frames: 16\nfps: 8.0\nstride: 1\nsplit: val\n"


def score(row: str, metric: str, value: float | None, group: str = "all", unit: str = "share", **more: Any) -> Score:
    low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
    return Score(metric, value, low, high, 4, "videos", unit, "higher", row, group, **more)


SCORES = [
    score("model", "all_right", 0.5, "objects=1"),
    score("model", "all_right", 0.9, "objects=1", frame=3),  # of one frame: not on the page
    score("model", "psnr", 30.04, unit="dB"),
    score("model", "does_right_thing", 0.77, "sentence=changed"),  # of the caption that it was sampled with
    score("counterfactual", "does_right_thing", 0.6, "sentence=changed"),
    score("counterfactual", "all_right", 0.7, "objects=1"),
    score("sentence-ignored", "does_right_thing", 0.2, "sentence=changed"),
    score("copy-first", "psnr", 20.0, unit="dB"),
    score("codec-ceiling", "psnr", 40.0, unit="dB"),
    score("copy-first", "motion_ratio", None, unit="ratio"),
    score("truth", "psnr", 60.0, unit="dB"),
]


def evaluation(
    folder: Path, name: str = "sprites", digest: str = "1" * 64, data: str = "sprites", **facts: Any
) -> Path:
    folder.mkdir(parents=True)
    facts = {"data": data, "split": "val", "seed": 3, "checkpoint": name, "model_sha256": digest} | facts
    write_scores([dataclasses.replace(one, protocol="p") for one in SCORES], facts, folder / "scores.jsonl")
    (folder / "protocol.yaml").write_text(PROTOCOL)
    write_cost(ORIGIN | {"command": f"evaluate.py --checkpoint /elsewhere/{name}"}, folder / "cost.json")
    return folder


def tables(page: str) -> list[list[list[str]]]:
    """The cells of all tables below the first heading of a world."""
    found: list[list[list[str]]] = []
    for block in page.partition("\n## ")[2].split("\n\n"):
        if block.startswith("|"):
            lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
            found.append([lines[0], *lines[2:]])
    return found


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *folders: Path) -> int:
    asked = [*map(str, folders), "--results", str(tmp_path / "results"), "--out", str(tmp_path / "page.md")]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *asked])
    return exit_code(benchmarks.main)


def test_the_page_is_that_of_the_kept_results():
    text = benchmarks.page(read_results(ROOT / "docs" / "results"))
    assert text == (ROOT / "docs" / "benchmarks.md").read_text(), "run python -m cdcd_video.tools.benchmarks"
    assert tables(text), "no result is kept"


def test_kept_results_are_small_whole_and_committed_ones():
    for path in sorted((ROOT / "docs" / "results").glob("*.json")):
        assert path.stat().st_size < 200_000
    for result in read_results(ROOT / "docs" / "results"):
        assert result.dirty is False and len(result.commit) == 40 and len(result.model_sha256) == 64
        assert "/tmp" not in result.command and result.scores


def test_a_row_is_a_system_and_a_column_a_score(tmp_path: Path, monkeypatch, capsys):
    assert run(monkeypatch, tmp_path, evaluation(tmp_path / "a")) == 0
    (kept, page) = map(Path, capsys.readouterr().out.split())
    assert kept.parent == tmp_path / "results" and page == tmp_path / "page.md"
    ((head, *rows),) = tables(page.read_text())
    assert head == ["", "one object right", "other caption followed", "PSNR", "motion (1 is right)"]
    assert rows == [
        [
            "sprites (11111111)",
            "50 % [40 to 60], n = 4",
            "60 % [50 to 70], n = 4",
            "30.0 dB [29.9 to 30.1], n = 4",
            "-",
        ],
        ["shuffled captions", "-", "20 % [10 to 30], n = 4", "-", "-"],
        ["first frame repeated", "-", "-", "20.0 dB [19.9 to 20.1], n = 4", "-"],
        ["codec's reconstruction", "-", "-", "40.0 dB [39.9 to 40.1], n = 4", "-"],
    ]
    text = page.read_text()
    assert "### 4 videos of 16 frames, 8 per second, split val" in text and "No baseline has been measured" in text
    assert "`python evaluate.py --checkpoint sprites`; seed 3, commit aaaaaaa, 2 cores of AMD EPYC, AVX2, fp32" in text
    assert run(monkeypatch, tmp_path) == 0 and page.read_text() == text  # without a result: from those that are kept


def test_models_of_one_protocol_share_a_table_and_the_controls_that_are_equal(tmp_path: Path, monkeypatch):
    first = evaluation(tmp_path / "runs" / "a")
    second = evaluation(tmp_path / "runs" / "b", "gate", "2" * 64, baseline="gaussian")
    other = evaluation(tmp_path / "runs" / "c", "clips", "3" * 64, data="data/mine")
    assert run(monkeypatch, tmp_path, first.parent) == 0  # a folder of results, as tools.bars writes it
    assert {result.world for result in read_results(tmp_path / "results")} == {"sprites", "mine"}
    (_, *rows), (_, *others) = tables((tmp_path / "page.md").read_text())
    names = ["shuffled captions", "first frame repeated", "codec's reconstruction"]
    assert [row[0] for row in rows] == ["sprites (11111111)", *names, "gate (22222222, gaussian)"]
    assert others[0][0] == "clips (33333333)"
    again = [json.loads(line) for line in (second / "scores.jsonl").read_text().splitlines()]
    again[0]["value"] = 1.0
    (second / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in again))
    assert run(monkeypatch, tmp_path, second, other) == 0
    assert len(read_results(tmp_path / "results")) == 3, "a model that is measured again replaces its result"
    assert "gate (22222222, gaussian) | 100 % [" in (tmp_path / "page.md").read_text()


def test_scores_of_actions_and_of_open_futures(tmp_path: Path, monkeypatch):
    origin = {**ORIGIN, "command": "python -m x", "model_sha256": "4" * 64}
    ends = {"value": 0.25, "low": 0.125, "high": 0.5, "n": 18, "num_clips": 9}
    scores = [{"set": "walks", "metric": "action", "system": name, **ends} for name in ("other", "other - shuffled")]
    actions = {"model": "runs/acts", "data": "acts64", "split": "test", "seed": 0, "sampling": {"num_frames": 8}}
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions" / "scores.json").write_text(json.dumps({**origin, **actions, "scores": scores}))
    row = {
        "right": [0.5, 0.25, 0.75],
        "diversity": [1, None, None],
        "edges": [0.9, 0.8, 1],
        "identity_last": [0.7, 0.6, 0.8],
    }
    rows = [{"system": "truth", "num_steps": None, **row}, {"system": "model", "num_steps": 4, **row}]
    future = {"checkpoint": "sprites", "num_samples": 8, "num_starts": 64, "params": {"seed": 0}, "rows": rows}
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "open_future.json").write_text(json.dumps(origin | future))
    assert run(monkeypatch, tmp_path, tmp_path / "actions", tmp_path / "open") == 0
    opened, acted = tables((tmp_path / "page.md").read_text())
    assert [line[:3] for line in opened[1:]] == [
        ["true video", "50 % [25 to 75], n = 64", "1.00, n = 64"],
        ["sprites (44444444), 4 steps", "50 % [25 to 75], n = 64", "1.00, n = 64"],
    ]
    assert acted == [
        ["", "walks: action"],
        ["acts (44444444), with another caption", "25 % [12 to 50], n = 18"],
        ["minus shuffled captions", "25 % [12 to 50], n = 18"],
    ]


def test_results_that_cannot_be_used_are_named(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty has no results; name an output folder"):
        results_in(tmp_path / "empty")
    before = evaluation(tmp_path / "before")
    (before / "cost.json").unlink()
    with pytest.raises(UserError, match=r"cost\.json"):
        results_in(before)
    write_cost(ORIGIN, before / "cost.json")
    with pytest.raises(UserError, match=r"scores\.jsonl lacks what the page needs \('command'\); measure again"):
        results_in(before)
    for text in ("[]", "{", '{"kind": "evaluate"}'):
        (tmp_path / "results").mkdir(exist_ok=True)
        (tmp_path / "results" / "x.json").write_text(text)
        assert run(monkeypatch, tmp_path) == 2 and "x.json" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


def test_a_page_of_nothing_is_not_written(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "results").write_text("mine")
    assert (
        run(monkeypatch, tmp_path) == 2 and "is a file; name the folder of the kept results" in capsys.readouterr().err
    )
    (tmp_path / "results").unlink()
    assert run(monkeypatch, tmp_path) == 2 and "there are no results in" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_frames_that_are_no_squares_have_a_table_of_their_own():
    """They would take the place of the squares' result."""
    kept = [result for result in read_results(ROOT / "docs" / "results") if result.kind == "evaluate"]
    assert {"frames of 64x96 and 96x64" in result.protocol for result in kept} == {True, False}
    assert len({result.file_name for result in kept}) == len(kept)
