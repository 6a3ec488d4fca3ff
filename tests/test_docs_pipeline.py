"""docs/pipeline.md: its examples run, one after the other, and its names are names of the pipeline."""

import inspect
import re
from pathlib import Path

import pytest
from shapes import unchecked

from cdcd_video import ImageToVideo

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "pipeline.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    known: dict[str, object] = {}
    assert len(BLOCKS) >= 7
    with unchecked():
        for number, block in enumerate(BLOCKS):
            exec(compile(block, f"block {number} of docs/pipeline.md", "exec"), known)  # noqa: S102
    assert {"circle.mp4", "sheet.png", "circle.gif", "saved"} <= {path.name for path in tmp_path.iterdir()}
    shown = capsys.readouterr().out.splitlines()
    assert f"print(video)  # {shown[0]}" in PAGE and shown[1:3] == ["0 1 (1, 384)", "1 2 (1, 384)"]
    assert shown[3:] == [f"{number} (1, 64, 64, 3)" for number in range(1, 5)]


@pytest.mark.parametrize("method", ["__call__", "from_pretrained"])
def test_the_tables_name_arguments(method: str):
    of_call, of_loading = PAGE.split("## Devices")
    names = inspect.signature(getattr(ImageToVideo, method)).parameters
    rows = re.findall(r"^\| (`[^|]+)\|([^|]*)\|", of_call if method == "__call__" else of_loading, re.MULTILINE)
    given = [name for row in rows for name in re.findall(r"`(\w+)`", " ".join(row[: 2 if method == "__call__" else 1]))]
    assert (
        len(given) >= 5
        and [name for name in given if name not in names and name not in ("frames", "output_type")] == []
    )


def test_what_it_names_is_there():
    for path in re.findall(r"`(tests/\w+\.py)`", PAGE):
        assert (ROOT / path).is_file(), path
