"""Tables as people's programs write them: quotes of both conventions, every line end, commas that nobody quoted."""

import csv
import io
import json

import pytest

from cdcd_video.data.tables import Row, parse, read_rows, read_table
from cdcd_video.errors import UserError


def cells(text: str, kind: str = ".csv", sentence: str = "caption") -> list[tuple]:
    """Path and caption of each row, or its line where it is refused."""
    table = parse(text, kind, "t", ("path", "caption"), sentence=sentence)
    return [row.line if row.fault else (row.cells.get("path"), row.cells.get("caption")) for row in table.rows]


def test_columns_without_a_name_are_no_part_of_the_sentence():
    """Spreadsheets write every column that anything ever stood in."""
    assert cells("path,caption,,,\na.mp4,it moves,,,\nb.mp4,left, then up,,\nc.mp4,up\n") == [
        ("a.mp4", "it moves"),
        ("b.mp4", "left, then up"),
        ("c.mp4", "up"),
    ]
    assert cells("path\tcaption\t\na.mp4\tit moves\t\n", ".tsv") == [("a.mp4", "it moves")]


HOSTILE = [
    'he said "go", then left',
    "two\nlines",
    "a\ttab",
    "",
    '"',
    '""',
    '5" screen',
    " spaces ",
    "x\r\ny",
    "\u2028",
    "a,b;c",
]


@pytest.mark.parametrize("mark", [",", "\t"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_what_a_writer_of_quotes_wrote_is_read(mark, ends):
    """csv.writer quotes as pandas and spreadsheets do."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=mark, lineterminator=ends)
    writer.writerows([("path", "caption", "more"), *((f"{n}.mp4", text, "x") for n, text in enumerate(HOSTILE))])
    kind = {",": ".csv", "\t": ".tsv"}[mark]
    assert cells(file.getvalue(), kind, "") == [(f"{n}.mp4", text) for n, text in enumerate(HOSTILE)]


@pytest.mark.parametrize("kind", [".csv", ".tsv"])
@pytest.mark.parametrize(
    "text", ['the 5" screen', '"so" it says', '"a" and "b"', "it's", 'ends with "', 'a ""doubled"" one']
)
def test_what_stands_without_quotes_is_itself(kind, text):
    mark = {".csv": ",", ".tsv": "\t"}[kind]
    assert cells(f"path{mark}caption\na.mp4{mark}{text}\nb.mp4{mark}plain\n", kind) == [
        ("a.mp4", text),
        ("b.mp4", "plain"),
    ]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_every_line_end_and_empty_lines(ends):
    lines = ["", "path,caption", "a.mp4,one", "", ",", "b.mp4,two\u2028still two\x0c\x1c\x85", "c.mp4,three"]
    for last in ("", ends, ends * 3):
        found = cells(ends.join(lines) + last)
        assert found == [("a.mp4", "one"), ("b.mp4", "two\u2028still two\x0c\x1c\x85"), ("c.mp4", "three")]


def test_a_byte_order_mark_and_spaces_around_quotes(tmp_path):
    (tmp_path / "t.csv").write_text('path, caption\na.mp4, "a box, moving" \n', encoding="utf-8-sig")
    rows = read_rows(tmp_path / "t.csv", ("path", "caption"), "captions", sentence="caption")
    assert rows == [Row(2, {"path": "a.mp4", "caption": "a box, moving"})]


@pytest.mark.parametrize(("kind", "mark"), [(".csv", ","), (".tsv", "\t"), (".csv", ";")])
def test_what_goes_beyond_the_last_column_belongs_to_the_sentence(kind, mark):
    text = mark.join(["path", "caption"]) + "\n"
    text += mark.join(["a.mp4", "a white box", " seen from above", " moves right"]) + "\n"
    text += mark.join(["b.mp4", '"Go"', " she said", ' "now"']) + "\n"
    text += mark.join(["c.mp4", "plain", "", ""]) + "\n"  # as spreadsheets end lines
    assert cells(text, kind) == [
        ("a.mp4", mark.join(["a white box", " seen from above", " moves right"])),
        ("b.mp4", mark.join(['"Go"', " she said", ' "now"'])),
        ("c.mp4", "plain"),
    ]


def test_too_many_fields_are_refused_by_line_where_the_sentence_is_not_last():
    text = 'caption,path\na box, moving,a.mp4\n"two\nlines",b.mp4\na box, again,c.mp4\nfine,d.mp4,,\n'
    assert cells(text) == [2, ("b.mp4", "two\nlines"), 5, ("d.mp4", "fine")]
    fault = parse(text, ".csv", "t", ("path",), sentence="caption").rows[0].fault
    assert "3 fields, but the first line has 2" in fault and "a comma needs quotes" in fault


@pytest.mark.parametrize("kind", [".csv", ".tsv"])
def test_a_quote_that_nothing_closes_is_refused_by_line_and_takes_no_other_row_with_it(kind):
    mark = {".csv": ",", ".tsv": "\t"}[kind]
    text = f'path{mark}caption\na.mp4{mark}"no end\nb.mp4{mark}"fine"\nc.mp4{mark}plain\n"d.mp4{mark}plain\n'
    assert cells(text, kind) == [2, ("b.mp4", "fine"), ("c.mp4", "plain"), 5]


def test_short_rows_lack_their_last_cells():
    assert cells("path,caption\na.mp4\n") == [("a.mp4", None)]


def test_fields_of_any_size(tmp_path):
    sentence = "x" * 300_000  # csv.field_size_limit is 131,072
    assert cells(f'path,caption\na.mp4,{sentence}\nb.mp4,"{sentence}"\n') == [("a.mp4", sentence), ("b.mp4", sentence)]


def test_a_column_that_is_there_twice_is_refused_if_it_is_used():
    with pytest.raises(UserError, match="t has the column caption twice"):
        cells("path,caption,caption\na,b,c\n")
    table = parse("path,caption,note,note\na.mp4,b,c,d\n", ".csv", "t", ("path", "caption"))
    assert table.rows[0].cells["caption"] == "b"


def test_a_missing_column_is_named():
    with pytest.raises(UserError, match="needs columns named path and caption; its first line has file, text"):
        cells("file,text\na,b\n")
    with pytest.raises(UserError, match="its first line has none"):
        cells("")


def test_lines_of_json_are_rows_by_their_lines():
    lines = [json.dumps({"path": "a.mp4", "caption": "one\u2028two"}, ensure_ascii=False), "", '{"path": "b.mp4"}']
    assert cells("\r\n".join(lines), ".jsonl") == [("a.mp4", "one\u2028two"), ("b.mp4", None)]
    for line in ("{", "[1]", "3", '{"path": "a", "path": "b"}', "[" * 100_000):
        with pytest.raises(UserError, match="t, line 2: expected a JSON object with path and caption"):
            cells("\n" + line, ".jsonl")


def test_a_strict_reader_names_the_line(tmp_path):
    for text, words in (
        ("file,prompt,fps\na,one\nb,x,y,z,8\n", "line 3: it has 5 fields"),
        ("file,prompt,fps\na,one,8\n\nb\n", "line 4, has no prompt; each needs file, prompt"),
    ):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(UserError, match=words):
            read_rows(tmp_path / "t.csv", ("file", "prompt"), "prompts", ("fps",), sentence="prompt")


def test_what_is_no_table_is_reported(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfep\0a\0")
    (tmp_path / "t.txt").write_text("path,caption\n")
    for name, words in (
        ("t.csv", "not UTF-8"),
        ("t.txt", "must be a .tsv, .csv or .jsonl"),
        ("u.csv", "does not exist"),
    ):
        with pytest.raises(UserError, match=words):
            read_table(tmp_path / name, "captions", ("path",))


def test_many_rows_take_time_in_proportion():
    rows = "".join(f'{number}.mp4,"a ""quoted"" caption, {number}"\n' for number in range(5_000))
    assert len(cells("path,caption\n" + rows)) == 5_000
    assert len(cells("path,caption\n" + 'a.mp4,"open\n' * 5_000)) == 5_000
