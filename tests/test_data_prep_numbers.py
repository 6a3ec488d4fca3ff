"""Numbers and places that no prepared folder can be made with: refused at once, in one sentence, and nothing is left."""

import re
from pathlib import Path

import pytest

from cdcd_video.errors import exit_code
from data_prep.__main__ import main

ROW = '{"YoutubeID": "aaaaaaaaaaa", "Start_timestamp": "0:00", "End_timestamp": "0:01", "Caption": "a box"}\n'


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("sprites --seed -1", "seed is -1; it must be from 0 to 2\\*\\*63 - 1"),
        ("sprites --size-px 100000", "--size-px must be from 8 to 4096, not 100000"),
        ("sprites --num-frames 1000000000", "num_frames is 1000000000; it must be from 1 to 10000"),
        ("sprites --fps 1e300", "fps is 1e\\+300; it must be from 0.1 to 240"),
        ("folder clips --size-px 100000", "--size-px must be from 8 to 4096, not 100000"),
        ("folder clips --sizes 64x64 64x99999", "a side has 99999 px, and must have from 8 to 4096"),
        ("folder clips --workers 1000000", "--workers must be from 1 to 1024, not 1000000"),
        ("folder clips --fps nan", "argument --fps: it is nan, and must be a finite number"),
        ("folder clips --max-seconds inf", "argument --max-seconds: it is inf, and must be a finite number"),
        ("folder clips --fps x", "argument --fps: invalid float value: 'x'"),
        ("internvid --metadata rows.jsonl --videos clips --max-duration nan", "--max-duration: it is nan"),
        ("internvid --metadata rows.jsonl --videos rows.jsonl", "rows.jsonl is a file; name the folder that holds it"),
        ("internvid --metadata rows.jsonl --videos none", "none does not exist; check the path"),
        ("join rows.jsonl", "the prepared folder rows.jsonl is a file, and a prepared folder is wanted"),
        ("augment clips --copies 1000000000", "--copies must be from 1 to 1000 and --seed at least 0"),
    ],
)
def test_a_number_or_place_that_cannot_be_used_is_refused_at_once(
    command: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "rows.jsonl").write_text(ROW)
    try:
        code = exit_code(lambda: main([*command.split(), "--out", "out"]))
    except SystemExit as end:  # of the parser
        code = end.code
    said = capsys.readouterr().err
    assert code == 2 and "error: " in said
    assert re.search(told, said), said
    assert {path.name for path in tmp_path.iterdir()} == {"clips", "rows.jsonl"}
    assert not list((tmp_path / "clips").iterdir())


@pytest.mark.parametrize(("rank", "told"), [("", ""), ("first", "argument --shard: invalid int value: 'first'")])
def test_a_number_of_torchrun_that_is_none_stops_encode_alone(
    rank: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "")
    assert main([]) == 0
    assert "recipes" in capsys.readouterr().out
    if told:
        with pytest.raises(SystemExit) as end:
            main(["encode", "--model", "sprites", "--data", "clips", "--out", "out"])
        assert end.value.code == 2 and told in capsys.readouterr().err
