"""Names that are not UTF-8: refused before anything is done, or told in a list; never half of what was asked for."""

import ast
import io
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest
from video_files import grey_steps, write_clip

import evaluate
import inference
from cdcd_video.data.tables import read_table
from cdcd_video.errors import UserError, exit_code, is_text, spelled
from cdcd_video.model import folder_of
from cdcd_video.rate.prepare import make
from cdcd_video.rate.study import Recipe
from data_prep import __main__ as data_prep
from data_prep.items import Item

ROOT = Path(__file__).resolve().parent.parent
ODD = os.fsdecode(b"caf\xe9")
CAPTION = "the red circle moves right"


@pytest.fixture
def odd_file(tmp_path: Path):
    """Makes a file whose name is not UTF-8, where the file system knows such names."""

    def made(name: str, content: bytes = b"") -> Path:
        try:
            (tmp_path / name).write_bytes(content)
        except OSError:
            pytest.skip("the file system takes names in UTF-8 only")
        return tmp_path / name

    return made


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (inference.main, ["--frame", f"{ODD}.png", "--text", CAPTION]),
        (inference.main, ["--frame", "x.png", "--text", CAPTION, "--out", f"{ODD}.mp4"]),
        (inference.main, ["--frame", "x.png", "--text", f"{ODD} moves"]),
        (inference.main, ["--frame", "x.png", "--text", CAPTION, "--checkpoint", ODD]),
        (inference.main, ["--from-json", f"{ODD}.json"]),
        (inference.main, [f"--out={ODD}/"]),
        (evaluate.main, ["--videos", ODD]),
        (evaluate.main, ["--out", ODD]),
        (data_prep.main, ["folder", ODD, "--out", "x"]),
        (data_prep.main, ["folder", "x", "--out", ODD]),
    ],
)
def test_a_command_line_that_is_not_utf8_is_refused_before_anything_is_done(
    main, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    assert exit_code(main) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: the argument '") and "caf\\udce9" in told and "rename" in told
    assert not list(tmp_path.iterdir())


def test_every_command_is_run_by_what_refuses_them():
    """A script that reads arguments ends in `exit_code(main)`."""
    folders = [ROOT / name for name in ("cdcd_video", "data_prep", "patches")]
    files = [*ROOT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    found = 0
    for path in files:
        text = path.read_text(encoding="utf-8")
        guards = [
            node for node in ast.parse(text).body if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
        ]
        if guards and any(word in text for word in ("argparse", "OptionParser", "sys.argv")):
            assert "exit_code(" in ast.unparse(guards[0]), path
            found += 1
    assert found > 20


def test_what_a_terminal_cannot_show_is_spelled(monkeypatch: pytest.MonkeyPatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "argv", ["command"])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="utf-8", errors="strict"))

    def main() -> None:
        sys.stdout.write(f"out/{ODD}/x.mp4 caf\u00e9\n")
        sys.stdout.flush()

    assert exit_code(main) == 0
    assert shown.getvalue().decode() == "out/caf\\udce9/x.mp4 caf\u00e9\n"


def test_text_and_its_spelling():
    assert is_text("caf\u00e9 \U0001f600 \x00") and not is_text(ODD) and not is_text("\ud83d")
    assert spelled(f"{ODD} \u00e9") == "caf\\udce9 \u00e9"


def test_a_model_in_such_a_folder_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="is not UTF-8"):
        folder_of(tmp_path / ODD)


# ------------------------------------------------------------------------------------- found in folders and in tars


def test_such_clips_are_refused_by_name_and_the_others_taken(
    odd_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    clip = write_clip(tmp_path / "one.mp4", grey_steps(9)).read_bytes()
    for name in ("one", ODD):
        odd_file(f"{name}.mp4", clip)
        odd_file(f"{name}.txt", CAPTION.encode())
    with tarfile.open(tmp_path / "more.tar", "w", encoding="utf-8", errors="surrogateescape") as tar:
        for name in ("two", ODD):
            for ending, content in (("mp4", clip), ("txt", CAPTION.encode())):
                member = tarfile.TarInfo(f"{name}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    out = tmp_path.parent / f"{tmp_path.name}-out"
    monkeypatch.setattr(sys, "argv", ["data_prep", "folder", str(tmp_path), "--out", str(out), "--size-px", "32"])
    assert exit_code(data_prep.main) == 0, capsys.readouterr().err
    taken = [json.loads(line)["id"] for line in (out / "clips.jsonl").read_text(encoding="utf-8").splitlines()]
    refused = [json.loads(line) for line in (out / "rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(taken) == ["more.tar/two.mp4", "one.mp4"]
    named = {line["id"]: line["reason"] for line in refused}
    assert sorted(named) == ["caf\\udce9.mp4", "more.tar/caf\\udce9.mp4"]
    assert set(named.values()) == {"its name is not UTF-8; rename the file"}


def test_a_caption_of_half_a_letter_is_refused():
    item = Item("x.mp4", Path("x.mp4"), "x.mp4", ("it moves", "it \ud83d stops"), "train")
    assert "not valid Unicode" in item.refusal and item.captions == ()
    assert Item("x.mp4", Path("x.mp4"), "x.mp4", ("it \U0001f600 moves",), "train").refusal is None


def test_a_row_of_half_a_letter_is_refused(tmp_path: Path):
    lines = ['{"path": "caf\\udce9.mp4"}', '{"path": "\\ud83d\\ude00.mp4"}', '{"path": "\\\\udce9.mp4"}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    faults = [row.fault for row in read_table(tmp_path / "t.jsonl", "captions", ("path",)).rows]
    assert "lone surrogate" in faults[0] and faults[1:] == [None, None]


def test_a_study_of_such_videos_is_refused(odd_file, tmp_path: Path):
    odd_file(f"{ODD}.mp4", b"x")
    with pytest.raises(UserError, match="is not UTF-8; rename it"):
        make(Recipe(kind="single", videos={"ours": str(tmp_path)}), tmp_path, tmp_path / "study")
