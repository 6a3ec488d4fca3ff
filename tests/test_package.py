"""The package as it is installed: what is in the wheel, what each part of it needs, and every command from another folder."""

import ast
import functools
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_model import ROOT

from cdcd_video import __version__
from cdcd_video.commands.command_table import COMMANDS
from cdcd_video.errors import EXTRAS

PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
FOLDERS = ("cdcd_video", "data_prep", "patches")
IMPORTED_AS = {"opencv-python-headless": "cv2", "scenedetect-headless": "scenedetect", "umap-learn": "umap"}
"""Where the name that is imported is not the name that is installed (apart from - and _)."""
MOST_BYTES = 20 * 2**20
"""Of the wheel; the weights are 13 of them."""
LONGEST_S = 600
"""For which a command is waited for: much, for the machine may be busy."""


def extras_of_pyproject() -> dict[str, set[str]]:
    """The extras with the modules that they bring, but for `test`."""
    section = re.search(r"^\[project.optional-dependencies\]\n(.*?)^\[", PYPROJECT, re.DOTALL | re.MULTILINE)[1]
    found = {}
    for name, lines in re.findall(r"^(\w+) = \[\n(.*?)^\]", section, re.DOTALL | re.MULTILINE):
        installed = re.findall(r'^ +"([\w-]+)', lines, re.MULTILINE)
        found[name] = {IMPORTED_AS.get(each, each.replace("-", "_")) for each in installed}
    del found["test"], found["docs"]  # for work on the project
    return found


# ------------------------------------------------------------------------------------------------------------ extras


def test_the_extras_that_messages_name_are_those_of_pyproject():
    named: dict[str, set[str]] = {}
    for module, extras in EXTRAS.items():
        for extra in extras:
            named.setdefault(extra, set()).add(module)
    assert named == extras_of_pyproject()
    assert set(named) == {"eval", "data", "rate", "studio", "vq", "watch", "umap", "cluster"}


def module_file(name: str) -> Path | None:
    stem = ROOT / name.replace(".", "/")
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


@functools.cache
def imported_at_once(path: Path) -> tuple[str, ...]:
    """Full names that a file imports when it is itself imported: not those of functions, nor for type checkers alone."""

    def of(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
                yield from of([*node.body, *node.orelse])
            elif isinstance(node, (ast.Try, ast.With, ast.ClassDef)):
                yield from of(node.body)

    return tuple(of(ast.parse(path.read_text(encoding="utf-8")).body))


def needed_at_once(*modules: str) -> dict[str, str]:
    """Modules of extras that importing these needs -> the file of ours that imports each."""
    found: dict[str, str] = {}
    seen, waiting = set(), list(modules)
    while waiting:
        name = waiting.pop()
        path = module_file(name)
        if name in seen or path is None:
            continue
        seen.add(name)
        parts = name.split(".")
        waiting += [".".join(parts[:length]) for length in range(1, len(parts))]
        for imported in imported_at_once(path):
            if imported.split(".")[0] in EXTRAS:
                found[imported.split(".")[0]] = path.relative_to(ROOT).as_posix()
            waiting.append(imported)
    return found


def test_every_entrance_starts_without_any_extra():
    """Else it would end in a traceback, before what names the extra has begun."""
    entrances = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    ]
    assert len(entrances) > 30
    assert {name: needed for name in entrances if (needed := needed_at_once(name))} == {}


def test_sampling_training_and_preparing_need_no_extra():
    parts = (
        "cdcd_video.pipeline",
        "cdcd_video.request",
        "cdcd_video.training.training_run",
        "cdcd_video.tools.dry_run",
    )
    assert needed_at_once(*parts, "data_prep.prepare", "data_prep.encoding", "data_prep.sprites") == {}
    assert set(needed_at_once("cdcd_video.evaluation.report")) == {
        "matplotlib",
        "jinja2",
    }  # the walk finds what there is


# ------------------------------------------------------------------------------------------------------------- wheel


def clean(environment: dict[str, str] = os.environ) -> dict[str, str]:
    """The environment without what makes Python look elsewhere."""
    return {name: value for name, value in environment.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout. Without hatchling in this environment, pip fetches it, as for a user."""
    out = tmp_path_factory.mktemp("wheel")
    how = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *how, "--wheel-dir", str(out), str(ROOT)]
    done = subprocess.run(command, env=clean(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_has_what_a_user_needs_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        content = {name: archive.read(name) for name in names if name.startswith("cdcd_video/shipped/")}
        points = archive.read(f"cdcd_video-{__version__}.dist-info/entry_points.txt").decode()
    about = f"cdcd_video-{__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {*FOLDERS, about}
    assert f"{about}/licenses/LICENSE" in names
    assert points.split() == ["[console_scripts]", "cdcd-video", "=", "cdcd_video.commands.command_line:run"]

    is_dev = re.compile(r"cdcd_video/tools/dev/")
    ours = {
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    copied = {
        f"cdcd_video/shipped/{path.relative_to(ROOT).as_posix()}": path.read_bytes()
        for folder in ("configs", "examples")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }
    assert {name for name in names if not name.startswith(about)} == {
        name for name in ours if not is_dev.match(name)
    } | set(copied)
    assert content == copied and "cdcd_video/py.typed" in names
    assert wheel.stat().st_size < MOST_BYTES
    assert not (ROOT / "cdcd_video" / "shipped").exists(), "the checkout has them once"


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`cdcd-video` in an environment of its own, which sees the libraries of this one."""
    home = tmp_path_factory.mktemp("environment")
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    for command in ([sys.executable, "-m", "venv", str(home)], pip):
        done = subprocess.run(command, env=clean(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    site = next(home.glob("lib/python*/site-packages"))
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "libraries.pth").write_text("".join(f"{path}\n" for path in sorted(paths)))
    return home / "bin" / "cdcd-video"


@pytest.fixture(scope="module")
def call(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command line in a folder that has nothing to do with the checkout."""
    elsewhere, called = tmp_path_factory.mktemp("elsewhere"), set()

    def run(line: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        words = [str(program) if word == "cdcd-video" else word for word in shlex.split(line)]
        words = [str(program.with_name("python")) if word == "python" else word for word in words]
        environment = clean() | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            words, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
        assert done.returncode == code, f"{line}\n{done.stdout}{done.stderr}"
        called.add(" ".join(line.split()[:2]))
        done.folder, done.called = elsewhere, called
        return done

    return run


FEW_STEPS = " ".join(
    f"--set train.{stage}.num_steps=2" for stage in ("clip", "codec", "decoder", "diffusion", "refine")
)


@pytest.mark.slow
def test_every_command_runs_once_from_another_folder(call):
    assert call("cdcd-video --version").stdout == f"cdcd-video {__version__}\n"
    place = Path(call("python -c 'import cdcd_video; print(cdcd_video.__file__)'").stdout.strip())
    assert "site-packages" in place.parts and not place.is_relative_to(ROOT)

    line = "cdcd-video sample --frame red-circle --text 'the red circle moves right' --num-frames 2"
    done = call(f"{line} --out ours/0.mp4")
    shutil.copytree(done.folder / "ours", done.folder / "theirs")
    few = "--set data.num_clips=4 --set data.num_val_clips=2 --watch none"
    done = call(f"cdcd-video train --config tiny {few} {FEW_STEPS}")
    assert done.stdout == "trained tiny; the model is runs/tiny/model\n"
    assert (done.folder / "runs" / "tiny" / "model" / "denoiser.safetensors").is_file()
    facts = json.loads((done.folder / "runs" / "tiny" / "run.json").read_text())
    assert facts["command"][:4] == ["cdcd-video", "train", "--config", "tiny"] and facts["commit"] == "unknown"
    done = call("cdcd-video train --config sprites_open --dry-run")  # with a base, and the shipped model by its name
    assert "CLIP and codec are those of sprites" in done.stdout

    done = call(
        "cdcd-video evaluate --checkpoint runs/tiny --protocol small --metrics psnr --num-videos 2 --no-latents"
    )
    assert (done.folder / "runs" / "tiny" / "report.html").is_file() and "PSNR" in done.stdout
    done = call("cdcd-video prepare sprites --num-clips 3 --out data/clips")
    assert done.stdout.startswith("data/clips: 3 clips")
    done = call("cdcd-video rate make --study study --videos ours=ours --videos theirs=theirs --checks 0 --repeats 0")
    assert "1 items of ours, theirs in study" in done.stdout
    assert "has no finished cell" in call("cdcd-video ablate contrast --table", code=2).stderr
    assert "as it is / one thread" in call("cdcd-video bench busy --videos 1 --busy 0 --repeats 1").stdout

    refused = call("cdcd-video studio --model no-such-model", code=2).stderr  # there is no such model, or no extra
    assert "no-such-model" in refused or "studio" in refused

    assert {f"cdcd-video {command.name}" for command in COMMANDS} <= done.called

    assert "checkout" in call("cdcd-video bench start", code=2).stderr
    assert "total" in call("python -m patches map --status kept").stdout
    assert "checkout" in call("python -m patches audit", code=2).stderr


# ------------------------------------------------------------------------------------------------------------- image


def instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile: name and arguments, continued lines joined."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined if line.strip())]


def test_the_image_is_built_of_what_is_there():
    found = instructions(ROOT / "Dockerfile")
    known = {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in found} == known
    arguments = dict(rest.split("=", 1) for word, rest in found if word == "ARG")
    least = re.search(r'requires-python = ">=3\.(\d+)"', PYPROJECT)[1]
    assert int(arguments["PYTHON"].split(".")[1]) >= int(least)
    assert set(arguments["EXTRAS"].strip('"').split(",")) <= set(extras_of_pyproject())
    assert arguments["TORCH_INDEX"] == '""', "the default is what pip asks by itself"
    for name in arguments:
        assert any(f"${{{name}}}" in rest for _, rest in found), f"{name} is not used"

    copied = [source for word, rest in found if word == "COPY" for source in rest.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*" and set(copied) == allowed
    needed = {*FOLDERS, "configs", "examples", "pyproject.toml", "README.md", "LICENSE"}
    assert set(copied) == needed, "what pyproject.toml builds the wheel of"

    runs = [rest for word, rest in found if word == "RUN"]
    torch = re.search(r'"(torch[^"]*)"', PYPROJECT)[1]
    commands = [shlex.split(command) for run in runs for command in re.findall(r"pip\s+install ([^;&]*)", run)]
    assert [[word for word in words if not word.startswith("-")] for words in commands] == [
        [torch, "torchvision"],
        [".${EXTRAS:+[${EXTRAS}]}"],
    ], "names that are known, and no other"
    for extras, asked in (("eval,data", ".[eval,data]"), ("", ".")):  # pip refuses `.[]`
        told = subprocess.run(
            ["sh", "-c", f"EXTRAS={extras}; echo {commands[1][-1]}"], capture_output=True, text=True, check=True
        )
        assert told.stdout.strip() == asked
    assert 'PIP_INDEX_URL="${TORCH_INDEX}" pip install' in runs[1] and '-n "${TORCH_INDEX}"' in runs[1]
    assert found[-2:] == [("ENTRYPOINT", '["cdcd-video"]'), ("CMD", '["--help"]')]
    assert re.search(r"^cdcd-video = ", PYPROJECT, re.MULTILINE)
    for run in runs:  # the shell of the image is dash; `sh -n` parses and runs nothing
        assert subprocess.run(["sh", "-n", "-c", run], check=False).returncode == 0, run
