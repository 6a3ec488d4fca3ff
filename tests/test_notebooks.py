"""The notebooks: well-formed and without outputs, and each runs from its first cell to its last, in a short form."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PARAMETERS = "parameters"
"""Tag of the cell after which other values may be given, as papermill has it."""
LONGEST_S = 600
"""For a cell, and for the kernel to start: much, for the machine may be busy."""


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Runs a notebook as in a checkout where nothing is installed; returns what stands for the folder of the project."""
    for name in ("cdcd_video", "configs", "data_prep", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))

    def execute(name: str, **parameters: object) -> Path:
        notebook = read(name)
        place = next(n for n, cell in enumerate(notebook.cells) if PARAMETERS in cell.metadata.get("tags", ()))
        changes = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
        assert all(re.search(rf"^{key} = ", notebook.cells[place].source, re.MULTILINE) for key in parameters)
        notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(changes))
        where = {"metadata": {"path": str(tmp_path / "notebooks")}}
        limits = {"timeout": LONGEST_S, "startup_timeout": LONGEST_S}
        NotebookClient(notebook, kernel_name="python3", resources=where, **limits).execute()
        return tmp_path

    return execute


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_well_formed_and_has_no_outputs(path: Path):
    notebook = read(path.stem)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3" and set(notebook.metadata) == {"kernelspec", "language_info"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert sum(PARAMETERS in cell.metadata.get("tags", ()) for cell in code) == 1
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert prose[0].startswith("# ") and len(prose) > 4
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", "\n".join(prose)):
        assert (path.parent / target).exists(), target
    assert not re.search(r"(?<![\w./~<])/(?:home|root|work|Users|mnt|opt|scratch)/\w", path.read_text(encoding="utf-8"))


def test_there_are_two():
    assert [path.stem for path in NOTEBOOKS] == ["quickstart", "your_own_clips"]


@pytest.mark.slow
def test_the_quickstart_runs(run: Callable[..., Path]):
    out = run("quickstart", NUM_FRAMES=4, NUM_SEEDS=2) / "out" / "quickstart"
    names = {"circle.mp4", "circle.gif", "circle.webp", "sentences.png", "seeds.png"}
    assert {path.name for path in out.iterdir()} == names


@pytest.mark.slow
def test_your_own_clips_runs(run: Callable[..., Path]):
    steps = dict.fromkeys(("clip", "codec", "decoder", "diffusion", "refine"), 2)
    out = run("your_own_clips", STEPS=steps) / "out" / "your_own_clips"
    assert len(list((out / "videos").glob("*.mp4"))) == 6
    scores = [json.loads(line) for line in (out / "evaluation" / "scores.jsonl").read_text().splitlines()]
    assert {"psnr", "motion_ratio"} <= {score["metric"] for score in scores}
    assert {Path(score["data"]).name for score in scores} == {"prepared"}, "it evaluates the clips that it prepared"
    assert (out / "evaluation" / "report.html").is_file() and (out / "sheet.png").is_file()
