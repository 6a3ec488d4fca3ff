"""docs/extending.md, followed to the letter: its five examples as an outside package; and what registries refuse."""

import importlib
import json
import re
import shlex
import sys
from pathlib import Path

import children
import pytest
from fixtures_model import ROOT
from video_files import moving_bar, write_clip

from cdcd_video.config import BASELINES, CONTRAST_TERMS, PROCESSES, Config, ProcessSection, config_file
from cdcd_video.config.registry import Registry
from cdcd_video.errors import UserError, exit_code
from cdcd_video.metrics.scores import METRICS
from data_prep.recipes import RECIPES

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
REGISTRIES = {
    "PROCESSES": PROCESSES,
    "CONTRAST_TERMS": CONTRAST_TERMS,
    "METRICS": METRICS,
    "BASELINES": BASELINES,
    "RECIPES": RECIPES,
}
FEW = ("train.diffusion.num_steps=2", "train.diffusion.log_every=1", "sample.num_frames=2")
SMALL = ("data.num_clips=8", "data.num_val_clips=2")
NO_CONTRAST = ("loss.contrast.frame_frame=0", "loss.contrast.frame_text=0")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages that holds the page's own, as its files and its table of entry points say."""
    folder = tmp_path_factory.mktemp("site")
    package, info = folder / "my_video", folder / "my_video-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("")
    files = re.findall(r"^File `my_video/(\w+\.py)`.*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(files) == 5
    for name, content in files:
        (package / name).write_text(content, encoding="utf-8")
    (table,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    points = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", table).replace('"', "")
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-video\nVersion: 1.0\n", encoding="utf-8")
    return folder


def commands(heading: str) -> list[list[str]]:
    """The commands below a heading, in words."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [shlex.split(line) for line in block.strip().splitlines()]


def changes_of(command: list[str]) -> list[str]:
    """What a training command sets."""
    assert command[:3] == ["python", "train.py", "--config"] and (ROOT / command[3]).is_file()
    return [after for word, after in zip(command, command[1:], strict=False) if word == "--set"]


def run(entrance: str, *words: object) -> children.Child:
    done = children.run(f"followed:{entrance}", *words, CDCD_VIDEO_KERNELS="off", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def trained(site: Path, model: Path, out: Path, *changes: str) -> list[dict]:
    """Trains the denoiser of `configs/tiny.yaml` for two steps, in the code space of a model; what the log says of them."""
    sets = [word for change in (f"reuse={model}", *FEW, *changes) for word in ("--set", change)]
    command = ["--config", ROOT / "configs" / "tiny.yaml", *sets, "--stages", "diffusion", "--out", out]
    run("train", site, *command, "--watch", "none")
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("task") == "diffusion" and "loss" in line]


@pytest.fixture(scope="module")
def anchored(site: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    """A run with the process and the term at once, and its log."""
    process, _ = commands("A forward process")
    (term,) = commands("A contrastive term")
    out = tmp_path_factory.mktemp("anchored") / "run"
    changes = (*SMALL, *changes_of(process), *changes_of(term), "diffusion.process.power=3")
    return out, trained(site, tiny_model, out, *changes)


def test_the_process_trains_and_samples(site: Path, anchored: tuple[Path, list[dict]]):
    out, log = anchored
    assert len(log) == 2 and all(line["terms"]["bound"] > 0 for line in log)
    said = run("sample", site, out).stdout
    assert said.startswith("InterpolatingProcess kind='late_bridge' uniform=0.05 power=3.0")


def test_the_term_changes_the_loss_and_has_a_gradient(site: Path, anchored: tuple[Path, list[dict]]):
    log = anchored[1]
    terms = log[0]["terms"]
    assert terms["first_frame"] > 0 and 0 <= terms["first_frame_wins"] <= 1
    parts = 0.5 * terms["bound"] + terms["auxiliary"]
    parts += 0.02 * (terms["first_frame"] + terms["frame_frame"] + terms["frame_text"])
    assert log[0]["loss"] == pytest.approx(parts, rel=1e-3)
    assert run("has_gradient", site).stdout == "first_frame.py\n"


def test_the_metric_is_among_the_scores(site: Path, tiny_model: Path, tmp_path: Path):
    (command,) = commands("A metric")
    assert command[:2] == ["python", "evaluate.py"]
    metrics = command[command.index("--metrics") : command.index("--out")]
    rule = ["--protocol", ROOT / "configs" / "eval" / "small.yaml", "--num-videos", 2, "--num-frames", 3]
    run("evaluate", site, *metrics, "--checkpoint", tiny_model, *rule, "--no-latents", "--out", tmp_path)
    scores = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    mine = {score["row"]: score for score in scores if score["metric"] == "sharpness" and score["frame"] is None}
    assert {"model", "copy-first", "truth"} <= set(mine) and mine["truth"]["value"] > 1
    assert mine["truth"]["better"] == "real" and {"psnr", "sharpness_slope"} <= {score["metric"] for score in scores}
    page = "".join(file.read_text(encoding="utf-8") for file in tmp_path.glob("*.html"))
    assert "blur lowers it" in page


def test_the_baseline_trains_and_samples(site: Path, tiny_model: Path, tmp_path: Path):
    train, _ = commands("A baseline")
    more = ("train.diffusion.num_steps=8", "train.diffusion.learning_rate=0.01")
    log = trained(site, tiny_model, tmp_path / "run", *SMALL, *NO_CONTRAST, *changes_of(train), *more)
    assert len(log) == 8 and log[-1]["loss"] < log[0]["loss"]
    run("sample", site, tmp_path / "run", "num_steps")


def test_the_dataset_recipe_prepares_what_can_be_trained_on(site: Path, tiny_model: Path, tmp_path: Path):
    prepare, train = commands("A dataset recipe")
    assert prepare[:4] == ["python", "-m", "data_prep", "file_names"]
    (tmp_path / "videos").mkdir()
    for number in range(3):
        write_clip(tmp_path / "videos" / f"a_bar_moves_{'on' * (number + 1)}.mp4", moving_bar(10))
    where = {"videos/": tmp_path / "videos", "data/clips64": tmp_path / "clips", "64": 32}
    words = [where.get(word, word) for word in prepare[3:]]
    run("prepare", site, *words, "--fps", 8, "--val-share", 0.5, "--workers", 1)
    rows = [json.loads(line) for line in (tmp_path / "clips" / "clips.jsonl").read_text().splitlines()]
    assert len(rows) == 3 and rows[0]["captions"] == ["a bar moves on"]
    (change,) = changes_of(train)
    assert change == "data.path=data/clips64"
    data = f"data={{kind: folder, path: {tmp_path / 'clips'}, size_px: 32}}"
    assert len(trained(site, tiny_model, tmp_path / "run", data)) == 2


# ------------------------------------------------------------------------------------------------------- the page


def test_the_table_of_the_page_names_every_registry():
    rows = re.findall(r"^\| [\w ]+ \| `(\w+)` \| .* \| `([\w.]+)` \| `([\w/]+)/` \|$", PAGE, re.MULTILINE)
    assert {name: (group, folder) for name, group, folder in rows} == {
        name: (registry.group, registry.folder.replace(".", "/")) for name, registry in REGISTRIES.items()
    }
    for target in re.findall(r"\]\(([\w.]+)", PAGE):
        assert (ROOT / "docs" / target).is_file(), target
    for path in re.findall(r"`((?:cdcd_video|data_prep|tests)/[\w/]+\.py)`", PAGE):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("name", REGISTRIES)
def test_whatever_is_listed_is_registered(name: str):
    """Also every file that somebody puts into a folder of extensions."""
    REGISTRIES[name].load_all()
    assert set(REGISTRIES[name].registered()) == set(REGISTRIES[name])


# ---------------------------------------------------------------------------------------------- what is refused


def registry_of(tmp_path: Path, monkeypatch, files: dict[str, str], points: str = "") -> Registry:
    """A registry of its own, with a folder of extensions that holds some files, and a package with some entry points."""
    name = f"things_{tmp_path.name}".replace("-", "_")
    for file, content in {"__init__.py": "", **files}.items():
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / file).write_text(content)
    info = tmp_path / "offered-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(f"[{name}]\n{points}")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"own_{name}.py").write_text(GOOD.format("first"))
    found = Registry("thing", name, name, {"first": f"own_{name}"})
    monkeypatch.setitem(sys.modules, "the_registry", type(sys)("the_registry"))
    sys.modules["the_registry"].THINGS = found
    importlib.import_module(f"own_{name}")
    return found


GOOD = "from the_registry import THINGS\nTHINGS.register('{}')(2)\n"


def test_files_and_entry_points_are_found_by_name_and_imported_when_asked_for(tmp_path: Path, monkeypatch):
    files = {"second.py": GOOD.format("second"), "broken.py": "raise RuntimeError('not asked for')"}
    things = registry_of(tmp_path, monkeypatch, files, "outer = outer_module\n")
    (tmp_path / "outer_module.py").write_text(GOOD.format("outer"))
    assert list(things) == ["first", "broken", "second", "outer"] and "second" in things and "third" not in things
    assert list(things.registered()) == ["first"]
    assert things["second"] == things["outer"] == 2 and list(things.registered()) == ["first", "second", "outer"]


@pytest.mark.parametrize(
    "files, points, asked, words",
    [
        ({"second.py": "x = 1\n"}, "", "second", "second.py does not register the thing second"),
        ({"second.py": "x = 1\n"}, "", "misspelt", "second.py does not register the thing second"),
        ({"second.py": GOOD.format("other")}, "", "second", "second.py does not register the thing second"),
        ({"second.py": "import nothing_there\n"}, "", "second", "ModuleNotFoundError: No module named 'nothing_there'"),
        ({"second.py": "raise SystemExit(0)\n"}, "", "second", "second.py: SystemExit: 0; repair or remove it"),
        ({"second.py": "def\n"}, "", "second", "SyntaxError"),
        ({}, "second = gone_module\n", "second", r"the package offered \(entry point second = gone_module of things"),
        (
            {"second.py": ""},
            "second = gone\n",
            "first",
            "the thing second is defined twice, in things.*second.py and in the",
        ),
        ({}, "first = mine\n", "first", "the thing first is defined twice, in own_things.* and in the package offered"),
        ({"second.py": GOOD.format("first")}, "", "second", "registered twice, by own_things.* and by things"),
        ({"second.py": GOOD.format("Second")}, "", "second", "lower-case letters, digits and underscores"),
        ({}, "", "frst", "there is no thing 'frst'; did you mean first?"),
    ],
)
def test_no_extension_fails_in_silence(tmp_path, monkeypatch, capsys, files, points, asked, words):
    things = registry_of(tmp_path, monkeypatch, files, points)
    assert exit_code(lambda: things[asked]) == 2
    said = capsys.readouterr().err
    assert re.search(words, said) and said.startswith("error: ") and said.count("\n") == 1


def test_entries_that_cannot_be_used_are_refused():
    with pytest.raises(UserError, match="not a ProcessSection"):
        PROCESSES.register("odd")(dict)
    with pytest.raises(UserError, match="the process odd does not implement build; add it to ProcessSection"):
        PROCESSES.register("odd")(ProcessSection)
    with pytest.raises(UserError, match=r'write `kind: Literal\["odd"\] = "odd"` in MaskProcess'):
        PROCESSES.register("odd")(PROCESSES["mask"])
    with pytest.raises(UserError, match="the name of another entry of the training log"):
        CONTRAST_TERMS.register("bound")(len)
    with pytest.raises(UserError, match="which is not a function"):
        CONTRAST_TERMS.register("odd")(3)
    with pytest.raises(UserError, match="register a Metric with scores"):
        METRICS.register("odd")(len)
    with pytest.raises(UserError, match="has the score psnr, as another metric has"):
        METRICS.register("odd")(type(METRICS["psnr"])(METRICS["psnr"].scores, len, meaning="It is odd."))
    with pytest.raises(UserError, match="needs `measure`"):
        METRICS.register("odd")(type(METRICS["psnr"])({"odd": METRICS["psnr"].scores["psnr"]}))
    with pytest.raises(UserError, match="not a Recipe with a description"):
        RECIPES.register("odd")(len)
    assert not any("odd" in registry for registry in REGISTRIES.values())


@pytest.mark.parametrize(
    "change, words",
    [
        ("loss.contrast.extra.frame_txt=0.1", "no contrastive term 'frame_txt'; did you mean frame_text?"),
        ("loss.contrast.extra.frame_text=0.1", "set it as loss.contrast.frame_text"),
        ("diffusion.process.kind=msk", "must be bridge, cdcd, hybrid, mask or replace"),
        ("baseline.kind=diffusion", "must be autoregressive, categorical_flow or gaussian"),
    ],
)
def test_configs_that_name_what_is_not_there(change: str, words: str):
    with pytest.raises(UserError, match=words):
        config_file.load(ROOT / "configs" / "tiny.yaml", Config, [change])
