"""`python -m data_prep folder` over tables of captions: what people write into them, and the split that a set brings along."""

import json
from pathlib import Path

import pytest
from video_files import grey_steps, write_clip

from cdcd_video.data.store import StoredClips
from cdcd_video.errors import exit_code
from data_prep.__main__ import main
from data_prep.folder import read_items


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Eight equal videos, a.mp4 to h.mp4."""
    folder = tmp_path_factory.mktemp("videos")
    clip = write_clip(folder / "a.mp4", grey_steps(10)).read_bytes()
    for name in "bcdefgh":
        (folder / f"{name}.mp4").write_bytes(clip)
    return folder


def prepared(videos: Path, table: Path, out: Path, *options: str) -> tuple[dict[str, dict], dict[str, str]]:
    """Rows of what came out and reasons of what did not, by their ids."""
    arguments = ["folder", str(videos), "--captions", str(table), "--out", str(out), "--size-px", "8", "--cuts", "off"]
    assert exit_code(lambda: main([*arguments, "--workers", "1", *options])) == 0
    rows, refused = (
        [json.loads(line) for line in (out / name).read_text(encoding="utf-8").splitlines()]
        for name in ("clips.jsonl", "rejected.jsonl")
    )
    return {row["id"]: row for row in rows}, {row["id"]: row["reason"] for row in refused}


def test_sentences_keep_their_commas_quotes_and_lines(videos, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text(
        "path,caption\n"
        "a.mp4,a white box, seen from above, moves right\n"
        'b.mp4,"he said ""go"", then left"\n'
        'c.mp4,"over\ntwo lines"\n'
        'd.mp4,the 5" screen, switched off\n'
        'e.mp4,"nothing closes this\n'
        "f.mp4\n"
    )
    rows, refused = prepared(videos, table, tmp_path / "out")
    assert {name: row["captions"] for name, row in rows.items()} == {
        "a.mp4": ["a white box, seen from above, moves right"],
        "b.mp4": ['he said "go", then left'],
        "c.mp4": ["over two lines"],
        "d.mp4": ['the 5" screen, switched off'],
    }
    assert set(refused) == {"line 7 of t.csv", "f.mp4"}
    assert "a quote mark opens" in refused["line 7 of t.csv"] and refused["f.mp4"] == "it has no caption"


def test_a_row_too_long_is_refused_by_its_line_where_the_sentence_is_not_last(videos, tmp_path):
    (tmp_path / "t.tsv").write_text("path\tcaption\tnote\na.mp4\ta box\tmoves\tx\nb.mp4\tfine\tx\n")
    rows, refused = prepared(videos, tmp_path / "t.tsv", tmp_path / "out")
    assert list(rows) == ["b.mp4"]
    assert "it has 4 fields" in refused["line 2 of t.tsv"]


ROWS = [("a", "train"), ("b", "Training"), ("c", "validate"), ("d", " VAL "), ("e", "dev"), ("f", "test")]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_the_split_of_the_table_is_kept(videos, tmp_path, kind):
    rows = [*ROWS, ("g", "holdout"), ("h", ""), ("g", "test"), ("g", "train")]
    table = tmp_path / f"t.{kind}"
    if kind == "jsonl":
        lines = [json.dumps({"path": f"{n}.mp4", "caption": f"x {k}", "split": s}) for k, (n, s) in enumerate(rows, 2)]
        table.write_text("\n" + "\n".join(lines))
    else:
        mark = {"csv": ",", "tsv": "\t"}[kind]
        lines = [mark.join((f"{name}.mp4", split, f"x {number}")) for number, (name, split) in enumerate(rows, 2)]
        table.write_text("\n".join([mark.join(("path", "split", "caption")), *lines]))
    found, refused = prepared(videos, table, tmp_path / "out")
    wanted = {"a": "train", "b": "train", "c": "val", "d": "val", "e": "val", "f": "test"}
    assert {name: row["split"] for name, row in found.items()} == {f"{n}.mp4": split for n, split in wanted.items()}
    assert "split is 'holdout'" in refused[f"line 8 of t.{kind}"]
    assert (
        "its row has no split; give one, or ignore the column with --split-column ''" in refused[f"line 9 of t.{kind}"]
    )
    assert "several splits: test, train" in refused["g.mp4"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["splits"] == {"test": 1, "train": 2, "val": 3}
    assert manifest["recipe"]["split_column"] == "split"
    test = StoredClips(tmp_path / "out", "test")
    assert [test.name(clip) for clip in range(len(test))] == ["f.mp4"]


def test_the_split_column_may_have_another_name_or_mean_something_else(videos, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("path,part,split,caption\na.mp4,test,left,one\nb.mp4,train,right,two\n")
    found, _ = prepared(videos, table, tmp_path / "out", "--split-column", "part")
    assert {name: row["split"] for name, row in found.items()} == {"a.mp4": "test", "b.mp4": "train"}
    found, _ = prepared(videos, table, tmp_path / "none", "--split-column", "", "--val-share", "0")
    assert {name: row["split"] for name, row in found.items()} == {"a.mp4": "train", "b.mp4": "train"}
    assert "split_column" not in json.loads((tmp_path / "none" / "manifest.json").read_text())["recipe"]


def test_a_split_column_needs_a_table(videos, tmp_path, capsys):
    assert exit_code(lambda: main(["folder", str(videos), "--out", str(tmp_path / "o"), "--split-column", "x"])) == 2
    assert "--captions" in capsys.readouterr().err


def test_captions_of_one_clip_take_time_in_proportion_to_their_number(videos, tmp_path):
    """Pair by pair the 20,000 of this clip took half a minute."""
    captions = [f"sentence {number}" for number in range(20_000)]
    (tmp_path / "t.csv").write_text("path,caption\n" + "".join(f"a.mp4,{text}\n" for text in captions * 2))
    (item,), _ = read_items(videos, tmp_path / "t.csv", 0.1)
    assert item.captions == tuple(captions)


def test_a_column_that_is_nearly_called_split_is_not_passed_over(videos, tmp_path, capsys):
    """A set's official split would be lost without a word."""
    table = tmp_path / "captions.csv"
    table.write_text("path,caption,Split\na.mp4,it moves,test\n")
    arguments = ["folder", str(videos), "--captions", str(table), "--out", str(tmp_path / "out"), "--size-px", "8"]
    assert exit_code(lambda: main(arguments)) == 2 and "give --split-column Split" in capsys.readouterr().err


def test_of_a_few_clips_some_are_left_for_validation(tmp_path, capsys):
    for name in "abcdef":
        (tmp_path / f"{name}.mp4").touch()
        (tmp_path / f"{name}.txt").write_text("a red bar moves")
    items, _ = read_items(tmp_path, None, 0.01)
    splits = [item.split for item in items]
    assert {"train", "val"} == set(splits) and splits.count("val") <= 3
    assert "of 6 clips a share of 0.01 is none for val; 0.02 is taken instead" in capsys.readouterr().err
    assert {item.split for item in read_items(tmp_path, None, 0.0)[0]} == {"train"}  # none was asked for
