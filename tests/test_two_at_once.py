"""Two commands on one folder: the second is told who holds it, and the first is unharmed."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from fixtures_model import ROOT

import data_prep.__main__
import evaluate
import inference
import train
from cdcd_video import demo
from cdcd_video.ablate import cell
from cdcd_video.data.store import StoredClips
from cdcd_video.data.store_writer import StoreWriter
from cdcd_video.errors import UserError, exit_code
from cdcd_video.rate import __main__ as rate
from cdcd_video.request import chosen_target
from cdcd_video.storage.folder_lock import FolderInUse, folder_lock
from cdcd_video.tools import guidance, latents, ruler, stand_in_clip
from cdcd_video.tools.dev import codec_reconstruction, feature_training, killed_runs
from cdcd_video.tools.dev.fuzzing import fuzz_command as fuzz
from cdcd_video.training import run_folder, stage_order

SPRITES = ("sprites", "--num-clips", 2, "--num-frames", 3, "--size-px", 8)
TINY = ROOT / "configs" / "tiny.yaml"


@contextmanager
def elsewhere(folder: Path, **how: bool) -> Iterator[None]:
    """Somebody else, another thread, holds a folder."""
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with folder_lock(folder, **how):
            held.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    try:
        yield
    finally:
        leave.set()
        thread.join()


def is_held(folder: Path) -> bool:
    """Whether somebody else would be refused."""
    found: list[bool] = []

    def ask() -> None:
        try:
            with folder_lock(folder):
                found.append(False)
        except FolderInUse:
            found.append(True)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Calls an entrance in this process, in an empty folder; gives exit code and what was said."""
    monkeypatch.chdir(tmp_path)

    def call(entrance: Callable[[], object], *arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        code = exit_code(entrance)
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def write_inputs(folder: Path) -> None:
    """What commands look at before they look at the folder that they write."""
    (folder / "videos").mkdir()
    (folder / "videos" / "a.mp4").touch()
    (folder / "videos" / "a.txt").write_text("it moves")
    (folder / "a.png").write_bytes((ROOT / "examples" / "red-circle.png").read_bytes())


PREP = data_prep.__main__.main
DRAW = ("--frame", "a.png", "--text", "it moves")
COMMANDS = {
    "prepare videos": (PREP, "folder", "videos", "--out", "held"),
    "prepare sprites": (PREP, *SPRITES, "--out", "held"),
    "encode": (PREP, "encode", "--model", "sprites", "--data", "x", "--out", "held"),
    "encode a shard": (PREP, "encode", "--model", "sprites", "--data", "x", "--num-shards", 2, "--out", "held"),
    "train": (train.main, "--config", TINY, "--out", "held", "--watch", "none"),
    "draw a file": (inference.main, *DRAW, "--out", "held.mp4"),
    "draw a folder": (inference.main, *DRAW, "--out", "held"),
    "evaluate": (evaluate.main, "--out", "held"),
    "compare": (evaluate.main, "--compare", "x", "y", "--out", "held"),
    "make a study": (rate.main, "make", "--study", "held", "--videos", "a=videos", "--videos", "b=videos"),
    "latents": (latents.main, "--out", "held"),
    "guidance": (guidance.main, "--out", "held"),
    "ruler": (ruler.main, "--out", "held"),
    "reconstruct": (codec_reconstruction.main, "sprites", "--data", "x", "--out", "held"),
    "feature networks": (feature_training.main, "--out", "held"),
    "a stand-in": (stand_in_clip.main, "tiny", "--out", "held"),
    "kill and resume": (killed_runs.main, "--out", "held"),
    "fuzz": (fuzz.main, "--out", "held"),
    "demo": (demo.main, "--out", "held"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_second_process_is_refused_and_touches_nothing(name: str, run, tmp_path: Path):
    write_inputs(tmp_path)
    entrance, *arguments = COMMANDS[name]
    held = tmp_path / next(word for word in map(str, arguments) if word.startswith("held"))
    with elsewhere(held):
        before = sorted(tmp_path.rglob("*"))
        code, said = run(entrance, *arguments)
        after = sorted(tmp_path.rglob("*"))
    assert code == 2
    assert "is being written by process" in said and "wait for it to finish" in said
    assert after == before


def test_a_command_holds_its_folder_while_it_works(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    finish = StoreWriter.finish
    monkeypatch.setattr(
        StoreWriter, "finish", lambda self, *args: (seen.append(is_held(tmp_path / "clips")), finish(self, *args))[1]
    )
    assert run(PREP, *SPRITES, "--out", "clips")[0] == 0
    assert seen == [True] and not is_held(tmp_path / "clips")
    assert len(StoredClips(tmp_path / "clips")) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips"], "no lock is left behind"


def test_locks_that_were_left_behind_do_no_harm(run, tmp_path: Path):
    for place in (".clips.lock", "clips/.lock", "clips/.frames.lock", "clips.part/.lock"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("{}")
    assert run(PREP, *SPRITES, "--out", "clips")[0] == 0
    assert run(PREP, *SPRITES, "--out", "plain")[0] == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "clips").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "plain").iterdir()
    }


@pytest.mark.parametrize("name", ["notes.txt", "checkpoint-000100", "frames-0.npy.bak", "runs", ".git"])
def test_what_is_kept_in_a_prepared_folder_is_not_replaced_with_it(run, tmp_path: Path, name: str):
    assert run(PREP, *SPRITES, "--out", "clips")[0] == 0
    (tmp_path / "clips" / name).mkdir()
    before = {path: path.read_bytes() for path in (tmp_path / "clips").iterdir() if path.is_file()}
    code, said = run(PREP, *SPRITES, "--seed", 1, "--out", "clips")
    assert (
        code == 2 and f"contains more than a prepared folder ({name}); choose another, or move that file away" in said
    )
    assert {path: path.read_bytes() for path in (tmp_path / "clips").iterdir() if path.is_file()} == before
    (tmp_path / "clips" / name).rename(tmp_path / name)
    (tmp_path / "clips" / ".DS_Store").touch()
    assert run(PREP, *SPRITES, "--seed", 1, "--out", "clips")[0] == 0


def test_what_lies_beside_a_prepared_folder_is_nobody_elses(run, tmp_path: Path):
    """`clips.old` is what people call a copy that they keep; `clips.part` may be theirs, too."""
    assert run(PREP, *SPRITES, "--out", "clips")[0] == 0
    (tmp_path / "clips.old").mkdir()
    (tmp_path / "clips.old" / "notes.txt").write_text("mine")
    assert run(PREP, *SPRITES, "--seed", 1, "--out", "clips")[0] == 0
    assert (tmp_path / "clips.old" / "notes.txt").read_text() == "mine"
    (tmp_path / "clips.part").mkdir()
    (tmp_path / "clips.part" / "thesis.txt").write_text("mine")
    code, said = run(PREP, *SPRITES, "--seed", 2, "--out", "clips")
    assert code == 2 and "clips.part contains more than an unfinished prepared folder (thesis.txt)" in said
    assert (tmp_path / "clips.part" / "thesis.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "clips.old", "clips.part"]


@pytest.mark.parametrize(
    "outs", [("held", "held/video.mp4"), ("held/video.mp4", "held")], ids=["folder first", "file first"]
)
def test_a_folder_and_the_video_in_it_are_one_place(run, tmp_path: Path, outs: tuple[str, str]):
    write_inputs(tmp_path)
    (tmp_path / "held").mkdir()
    first, second = ({"out": out} for out in outs)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with chosen_target(first):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert entered.wait(10)
        with pytest.raises(FolderInUse), chosen_target(second):
            pass
    finally:
        leave.set()
        thread.join()


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("data_prep.__main__", "`python -m data_prep sprites --out clips`"),
        ("cdcd_video.tools.ruler", "`python -m cdcd_video.tools.ruler sprites --out clips`"),
        (None, "`train.py sprites --out clips`"),
    ],
)
def test_the_sentence_names_the_command_as_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str | None, told: str
):
    spec = None if module is None else ModuleSpec(module, None)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", "sprites", "--out", "clips"])
    with elsewhere(tmp_path / "clips"), pytest.raises(FolderInUse) as refusal, folder_lock(tmp_path / "clips"):
        pass
    assert told in str(refusal.value)


def test_the_shards_of_one_cache_go_together_and_each_has_one_process(tmp_path: Path):
    from data_prep.encoding import held_for
    from data_prep.job import Job

    def job(shard: int, num_shards: int) -> Job:
        return Job("sprites", tmp_path / "cache", Path("x"), (), None, "cpu", shard, num_shards)

    refused: list[tuple[int, int]] = []

    def ask(*which: int) -> None:
        try:
            with held_for(job(*which)):
                pass
        except FolderInUse:
            refused.append(which)

    with held_for(job(0, 2)):
        for which in ((1, 2), (0, 2), (0, 1)):
            thread = threading.Thread(target=ask, args=which)
            thread.start()
            thread.join()
    assert refused == [(0, 2), (0, 1)], "the same shard, and the whole"
    assert list(tmp_path.iterdir()) == []


def test_two_trainings_of_one_folder_train_different_things(tmp_path: Path):
    """`decoder` and `diffusion` side by side; nothing beside what it builds on."""
    out, met = tmp_path / "run", []

    def ask(stage: str) -> None:
        try:
            with run_folder.writing(out, [stage]):
                met.append(stage)
        except FolderInUse:
            pass

    with run_folder.writing(out, ["decoder"]):
        for stage in stage_order.STAGES:
            thread = threading.Thread(target=ask, args=(stage,))
            thread.start()
            thread.join()
        assert is_held(out), "nobody else writes the folder as a whole"
    assert met == ["eye", "diffusion", "refine"]
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_a_cell_of_an_ablation_is_not_trained_from_outside(run, tmp_path: Path):
    with elsewhere(tmp_path / "cell", shared=True), cell.claimed(tmp_path / "cell") as is_ours:
        assert not is_ours
    with cell.claimed(tmp_path / "cell") as is_ours:
        assert is_ours and is_held(tmp_path / "cell")


def test_who_shares_may_be_many_and_the_last_clears_up(tmp_path: Path):
    with elsewhere(tmp_path / "a", shared=True), folder_lock(tmp_path / "a", shared=True):
        assert is_held(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_waiting_is_reported_once(tmp_path: Path):
    told: list[str] = []
    other = elsewhere(tmp_path / "cache")
    other.__enter__()

    def hear(sentence: str) -> None:
        told.append(sentence)
        other.__exit__(None, None, None)

    with folder_lock(tmp_path / "cache", wait=hear):
        assert is_held(tmp_path / "cache")
    assert len(told) == 1 and "is being written by process" in told[0] and "waiting" in told[0]


def test_a_server_shares_its_study_and_a_second_study_is_not_made_there(run, tmp_path: Path):
    write_inputs(tmp_path)
    with elsewhere(tmp_path / "study", shared=True):
        code, said = run(rate.main, "make", "--study", "study", "--videos", "a=videos", "--videos", "b=videos")
        assert code == 2 and "is being written by process" in said
        with folder_lock(tmp_path / "study", shared=True):
            pass
    with pytest.raises(UserError):
        open_nothing(tmp_path)


def open_nothing(folder: Path) -> None:
    from cdcd_video.rate.study import open_study

    open_study(folder / "study")
