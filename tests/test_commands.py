"""`cdcd-video` before it is installed: its commands, configs and examples by name, and what a missing extra says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_model import ROOT

import evaluate
import inference
import train
from cdcd_video import __version__
from cdcd_video.ablate import plan
from cdcd_video.commands import command_line, command_table, evaluate_command, sample_command, train_command
from cdcd_video.config import Config, config_file, shipped_files, wording
from cdcd_video.config.registry import named
from cdcd_video.config.shipped_files import named_file, shipped_folder, shipped_names
from cdcd_video.config.video_record import SAMPLING
from cdcd_video.errors import EXTRAS, UserError, exit_code, extras_named, require
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.request import read_request

NAMES = tuple(command.name for command in command_table.COMMANDS)
CHANGED = ("--set", "data.num_clips=4", "--set", "data.num_val_clips=2")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs `cdcd-video` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["/somewhere/bin/cdcd-video", *words])
        try:
            code = command_line.run()
        except SystemExit as left:
            code = left.code
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


# ----------------------------------------------------------------------------------------------------- the command line


def test_help_lists_every_command_config_and_example(call):
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    assert call() == call("-h") == (0, out, "")
    lines = [line.split() for line in out.splitlines()]
    for command in command_table.COMMANDS:
        assert [command.name, *command.summary.split()] in lines
    for name in ("sprites", "tiny", "i2v_msrvtt", "red-circle", "square-and-star"):
        assert f" {name}" in out


def test_version(call):
    assert call("--version") == (0, f"cdcd-video {__version__}\n", "")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("sampel", 'there is no command "sampel"; did you mean sample?'),
        ("Train", 'there is no command "Train"; did you mean train?'),
        ("evalute", "did you mean evaluate?"),
        ("xyz", f"the commands are {', '.join(NAMES)}"),
        ("--config", "stands before any command; write cdcd-video COMMAND --config"),
    ],
)
def test_a_wrong_command_is_answered_with_the_nearest(word: str, hint: str, call):
    code, out, err = call(word, "--config", "tiny")
    assert (code, out) == (2, "") and err.startswith("error: ") and hint in err and err.count("\n") == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_a_help_that_is_called_by_its_name(name: str, call):
    code, out, err = call(name, "--help")
    assert code == 0 and err == "" and out.startswith(f"usage: cdcd-video {name} [-h]")
    assert f"python -m cdcd_video.{name}" not in out and "python inference.py" not in out


def test_a_wrong_option_is_answered_by_the_command(call):
    code, out, err = call("train", "--confg", "tiny")
    assert (code, out, err) == (2, "", "error: there is no option --confg; did you mean --config?\n")


@pytest.mark.parametrize("words", [("--text", "it moves"), ("--text", "it moves", "--num-seeds", "2")])
def test_without_a_frame_an_example_is_offered(words: tuple[str, ...], call):
    code, _, err = call("sample", *words)
    assert code == 2 and "--frame x.png, or --frame red-circle" in err and err.count("\n") == 1


def test_the_scripts_are_the_commands():
    assert train.main is train_command.main
    assert inference.main is sample_command.main
    assert evaluate.main is evaluate_command.main


def test_help_and_mistakes_take_no_torch():
    quick = (
        "import sys\nfrom cdcd_video.commands.command_line import main\nmain(['--help'])\n"
        "try:\n    main(['sampel'])\nexcept Exception as error:\n    assert 'did you mean' in str(error)\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", quick], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_module_is_the_same_program():
    """As torchrun starts it: `torchrun -m cdcd_video train ...`."""
    for words, code, text in ((["--version"], 0, f"cdcd-video {__version__}\n"), ([], 0, "Start reading at: records")):
        done = subprocess.run(
            [sys.executable, "-m", "cdcd_video", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == code and text in done.stdout, done.stderr


def test_a_run_remembers_the_command_that_began_it(call, monkeypatch: pytest.MonkeyPatch):
    """Also where its program stands in some folder of this machine, which is nobody's business."""
    monkeypatch.setattr("cdcd_video.training.training_run.TrainingRun.train", lambda self, stages: None)
    code, out, err = call("train", "--config", "tiny", *CHANGED, "--watch", "none")
    assert code == 0, err
    assert "trained tiny" in out and Path("runs/tiny/config.yaml").is_file()
    command = json.loads(Path("runs/tiny/run.json").read_text())["command"]
    assert command == ["cdcd-video", "train", "--config", "tiny", *CHANGED, "--watch", "none"]


def test_messages_name_the_command_that_is_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])
    assert [wording.command_name(name) for name in ("sample", "train", "evaluate")] == [
        "inference.py",
        "train.py",
        "evaluate.py",
    ]
    for program in ("/somewhere/bin/cdcd-video", "C:/somewhere/cdcd-video.exe"):
        monkeypatch.setattr(sys, "argv", [program])
        assert wording.command_name("evaluate") == "cdcd-video evaluate"
    monkeypatch.setattr(sys, "argv", ["a_notebook"])
    monkeypatch.setattr(wording, "_CHECKOUT", tmp_path)  # as in a wheel, beside which there are no scripts
    assert wording.command_name("sample") == "cdcd-video sample"


# ------------------------------------------------------------------------------------------- configs and examples by name


def test_every_config_is_read_by_its_name_with_its_bases(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    by_kind = {"": Config, "eval": Protocol, "ablations": plan.Ablation}
    found = 0
    for path in (ROOT / "configs").rglob("*.yaml"):
        folder = path.parent.relative_to(ROOT / "configs").as_posix()
        within = folder if folder in ("eval", "ablations") else ""
        name = path.relative_to(ROOT / "configs" / within).with_suffix("").as_posix()
        assert name in shipped_names("configs", within)
        by_name = config_file.load(named_file("configs", within)(name), by_kind[within])
        assert by_name == config_file.load(path, by_kind[within])
        found += 1
    assert found == len(shipped_names("configs")) > 30


def test_the_parts_of_an_ablation_are_found_from_another_folder(call):
    code, out, err = call("ablate", "remedies", "--table")
    assert code == 2 and "runs/ablations/remedies has no finished cell" in err, (out, err)


@pytest.mark.parametrize("name", ["sprites_open", "gate", "codec/four_groups"])
def test_models_that_shipped_configs_name_are_shipped_or_made_by_a_run(name: str):
    config = config_file.load(named_file("configs")(name), Config)
    for model in filter(None, (config.reuse, config.init)):
        is_shipped = (ROOT / "cdcd_video" / "models" / model / "config.yaml").is_file()
        assert is_shipped or model.startswith("runs/"), model


def test_a_file_wins_over_a_name_and_a_folder_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    shipped = ROOT / "configs" / "tiny.yaml"
    assert named_file("configs")("tiny") == shipped
    (tmp_path / "tiny").mkdir()
    assert named_file("configs")("tiny") == shipped
    assert named_file("configs")("./tiny") == Path("tiny")  # whoever reads it says that it is a folder
    (tmp_path / "tiny").rmdir()
    (tmp_path / "tiny").write_text("seed: 3\n")
    assert named_file("configs")("tiny") == Path("tiny")
    assert named_file("configs")(str(shipped)) == shipped
    assert named_file("configs")("mine.yaml") == Path("mine.yaml")  # likewise, that it does not exist


@pytest.mark.parametrize(
    ("kind", "within", "text", "message"),
    [
        ("configs", "", "sprites_opn", 'there is no config "sprites_opn"; did you mean sprites_open?'),
        ("configs", "", "zzz", 'there is no config "zzz"; give a path, or one of ablations/contrast, .*, tiny'),
        ("configs", "", "configs/sprites.yaml", "does not exist here; the one that comes .* is called sprites"),
        ("configs", "", "configs/codec/vq.yaml", "is called codec/vq"),
        ("configs", "eval", "configs/eval/small.yaml", "is called small"),
        ("configs", "eval", "tiny", 'there is no config "tiny"'),
        ("examples", "", "red-circel", 'there is no example "red-circel"; did you mean red-circle?'),
        ("examples", "", "examples/red-circle.png", "is called red-circle"),
        ("configs", "", "../configs/sprites", 'there is no config "../configs/sprites"'),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    kind, within, text, message, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        named_file(kind, within)(text)


def test_an_installed_package_has_them_inside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    inside = tmp_path / "cdcd_video" / "shipped" / "configs"
    monkeypatch.setattr(shipped_files, "_PACKAGE", tmp_path / "cdcd_video")
    assert shipped_folder("configs") == tmp_path / "configs"
    inside.mkdir(parents=True)
    assert shipped_folder("configs") == inside


def test_an_example_is_a_starting_frame(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    fields = ("from_json", "checkpoint", "device", "scale")
    asked = dict.fromkeys((*fields, *SAMPLING)) | {"frame": "red-circle", "text": ["it moves"]}
    by_name, by_path = (read_request(asked | given) for given in ({}, {"frame": str(ROOT / "examples/red-circle.png")}))
    assert by_name.file == by_path.file == "red-circle.png" and by_name.sha256 == by_path.sha256


# ---------------------------------------------------------------------------------------------------- extras


@pytest.mark.parametrize(
    ("words", "module", "extra"),
    [
        (["evaluate"], "cv2", "eval"),
        (["evaluate", "--compare", "a", "b"], "matplotlib", "eval"),
        (["studio", "--port", "0"], "gradio", "studio"),
        (["prepare", "folder", ".", "--out", "x"], "scenedetect", "data"),
        (["prepare", "augment", "CLIPS", "--out", "x"], "cv2", "data"),
        (["ablate", "contrast"], "cv2", "eval"),
        (["ablate", "contrast", "--dry-run"], "matplotlib", "eval"),
        (["train", "--config", "codec/vq", *CHANGED, "--set", "clip={kind: builtin}"], "vector_quantize_pytorch", "vq"),
    ],
)
def test_a_missing_extra_is_named_before_anything_is_done(
    words: list[str], module: str, extra: str, call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setitem(sys.modules, module, None)  # for Python, it is not installed
    code, out, err = call(*words)
    assert (code, out) == (2, ""), err
    (sentence,) = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert f"needs the library {module}, which is not installed" in sentence and f'install ".[{extra}]"' in sentence
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert written <= {"config.yaml", "run.json"}, "it had begun to work"


def test_a_library_of_an_extra_that_is_found_missing_late_is_named(capsys: pytest.CaptureFixture[str]):
    def load(module: str) -> None:
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    assert exit_code(lambda: load("torchmetrics.functional")) == 2
    assert capsys.readouterr().err.endswith('run python -m pip install ".[eval]" in the folder of the project\n')
    with pytest.raises(UserError, match=r"cv2.*\.\[data\]"), extras_named("data"):
        load("cv2")
    with pytest.raises(UserError, match=r"cv2.*\.\[eval\]"), extras_named("rate"):
        load("cv2")
    with pytest.raises(ModuleNotFoundError, match="of_the_user"):  # not ours: it is shown as it is
        exit_code(lambda: load("of_the_user"))
    require("json", "os")
    assert set(EXTRAS) & {"torch", "transformers"} == set()


def test_every_command_can_be_imported_by_its_entrance():
    for command in command_table.COMMANDS:
        assert callable(named(command.entrance))
        assert not command.extra or any(command.extra in extras for extras in EXTRAS.values())
    assert len(set(NAMES)) == len(NAMES) and os.path.basename(command_line.PROGRAM) == "cdcd-video"
