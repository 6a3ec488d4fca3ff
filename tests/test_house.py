"""The rules of the house: who may import whom, what is banned, and that every file says what it is."""

import ast
import functools
import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cdcd_video"
SCRIPTS = ("train.py", "inference.py", "evaluate.py")

ORDER = (
    *("diffusion", "contrast"),  # the mathematics, which knows no other
    *("errors", "storage", "config", "video", "records", "sampled_video", "pages"),  # what is said, kept and handed on
    *("engine", "kernels"),
    *("data", "networks", "metrics"),  # the parts
    *("contrast_terms", "objective", "baselines", "model"),  # how it learns, how others do, the whole
    "extensions",  # what a user adds to the rooms above, loaded by name
    *("sampling", "pipeline", "training", "evaluation"),
    *("request", "batch", "ablate", "demo", "rate", "studio", "tools", "commands", "__main__"),  # entrances
)
"""Each name of the package may import those before it."""
STAGES = {"data", "networks", "metrics"}
ACROSS = {
    ("networks.codec.start_thresholds", "data.store"),
    ("networks.codec.start_thresholds", "data.buckets"),
    ("metrics.external_videos", "data.external_video"),
    ("metrics.external_videos", "data.prompt_table"),
    ("metrics.external_videos", "data.images"),
    ("metrics.references", "data.clips"),
}
"""Imports among the stages that are allowed beside those of `TRUTH`."""
TRUTH = {"data.sprites", "data.sprites_render", "data.digits_files", "data.digits_world", "data.digits_clips"}
"""Where scores find the truth of what they judge: any of `metrics` may import it, and CLIP, which judges too."""
PURE = {"abc", "math", "torch", "dataclasses", "typing", "collections", "jaxtyping"}
"""All that the mathematics may import."""
RUNS_UPSTREAM = "cdcd_video/tools/upstream/functions.py"
"""The one file that may compile and run text: functions of the user's own checkout of upstream, on the user's word."""
ENTRANCES = {"demo", "__main__", "ablate", "rate"}
OWN_RANDOMNESS = {"Generator", "Philox", "SeedSequence"}
DISTRIBUTIONS = {
    "PIL": "pillow",
    **dict.fromkeys(("markdown", "mkdocs", "pymdownx"), "mkdocs_material"),  # which brings them
    "markdown_it": "markdown_it_py",
    "yaml": "pyyaml",
    "tomllib": "tomli",
    "cv2": "opencv_python_headless",
    "scenedetect": "scenedetect_headless",
    "gradio_client": "gradio",
}
"""Where the name that is imported is not the name that is installed (apart from - and _)."""
INSTALLED_EXTRAS = ("eval", "data", "rate", "vq")
"""The extras in requirements.txt, and so in the environment of the tests."""


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


CODE = [*sources("cdcd_video", "data_prep", "patches"), *(ROOT / name for name in SCRIPTS)]
ALL_CODE = [*CODE, *sources("tests")]
MOST_LINES = 350
"""Of a file; a reader keeps that much in mind."""
LONG = {"cdcd_video/kernels/attention.cpp"}
"""One kernel."""
MOST_MODULES = 11
"""At the top of the package."""
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def each(paths: list[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Makes one test of what holds for each file. All files that break the rule are told, and thousands of tests saved."""

    def of_all(rule: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            faults = []
            for path in paths:
                try:
                    rule(path)
                except AssertionError as fault:
                    faults.append(f"{short(path)}: {fault}")
            assert not faults, "\n".join(faults)

        test.__name__, test.__doc__ = rule.__name__, rule.__doc__
        return test

    return of_all


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """The syntax tree of a file, node by node; the module itself is the first."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.fixture(scope="module", autouse=True)
def forget():
    """The trees of all files are millions of objects, which the collector would go through for ever after."""
    yield
    nodes.cache_clear()


def module_name(path: Path) -> str:
    """`cdcd_video/data/store.py` -> `data.store`; the package's own `__init__` has no name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path) for path in sources("cdcd_video")} | {
    path.name for path in PACKAGE.iterdir() if path.is_dir()
}


def imports(path: Path) -> Iterator[str]:
    """Full names of what is imported, wherever in the file; a submodule that is imported from its package counts as such."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full.removeprefix("cdcd_video.") in MODULES else node.module


def dotted(node: ast.expr) -> str:
    """`np.random.seed` of the expression that says it; empty for anything else."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


# -------------------------------------------------------------------------------------------------------- who imports whom


@each(sources("cdcd_video"))
def test_imports_point_one_way(path: Path):
    here = module_name(path)
    place = ORDER.index(here.split(".")[0]) if here else -1
    for name in imports(path):
        is_fed = here == "tools.dev.fuzzing.annotation_targets" and name.startswith(
            "data_prep"
        )  # an entrance that feeds the other entrance
        assert is_fed or not name.startswith(("patches", "tests", "data_prep")), f"{here} imports {name}"
        there = name.removeprefix("cdcd_video.") if name.startswith("cdcd_video.") else ""
        top = there.split(".")[0]
        if not there or not here or top == here.split(".")[0]:
            continue
        assert ORDER.index(top) < place, f"{here} imports {there}, which stands above it"
        if top in STAGES and here.split(".")[0] in STAGES:
            is_truth = here.startswith("metrics.") and (there in TRUTH or there.startswith("networks.clip"))
            assert is_truth or (here, there) in ACROSS, f"{here} imports {there}: stages do not know each other"


@each(sources("cdcd_video/diffusion", "cdcd_video/contrast"))
def test_the_mathematics_is_pure(path: Path):
    own = ("cdcd_video.diffusion", "cdcd_video.contrast")
    foreign = {name for name in imports(path) if not name.startswith(own)}
    assert {name.split(".")[0] for name in foreign} <= PURE
    calls = {dotted(node.func) for node in nodes(path) if isinstance(node, ast.Call)}
    assert not calls & {"open", "print", "torch.manual_seed", "torch.save"}


@each(
    [
        PACKAGE / "objective.py",
        *sources("cdcd_video/contrast_terms", "cdcd_video/networks", "cdcd_video/baselines"),
    ]
)
def test_the_loss_and_the_networks_know_no_engine(path: Path):
    """Random numbers and the other processes come in as arguments; see `records.StepDraws` and `records.Collectives`."""
    assert not [name for name in imports(path) if name.startswith(("cdcd_video.engine", "cdcd_video.training"))]


def closure(*entrances: str) -> set[str]:
    """Modules of the package that these import, and those import, and so on; also what is imported inside a function."""
    found, waiting = set(), list(entrances)
    while waiting:
        name = waiting.pop()
        path = next(
            (
                file
                for file in (
                    PACKAGE.parent / f"{name.replace('.', '/')}.py",
                    PACKAGE.parent / name.replace(".", "/") / "__init__.py",
                )
                if file.is_file()
            ),
            None,
        )
        if name in found or path is None:
            continue
        found.add(name)
        waiting += imports(path)
        parts = name.split(".")
        waiting += [".".join(parts[:length]) for length in range(1, len(parts))]
    return found


def test_a_model_is_loaded_and_sampled_without_what_trains_it():
    trains = ("cdcd_video.objective", "cdcd_video.contrast_terms", "cdcd_video.training", "cdcd_video.engine.loop")
    trains += ("cdcd_video.engine.optim", "cdcd_video.diffusion.fused_loss", "cdcd_video.networks.codec.codec_loss")
    found = closure("cdcd_video.pipeline", "cdcd_video.model", "cdcd_video.sampling.code_sampler")
    assert "cdcd_video.networks.denoiser" in found
    assert sorted(name for name in found if name.startswith(trains)) == []


def test_configs_and_mistakes_are_told_without_torch():
    quick = "import cdcd_video, cdcd_video.request, cdcd_video.config, cdcd_video.config.config_file, sys"
    done = subprocess.run([sys.executable, "-c", f"{quick}; sys.exit('torch' in sys.modules)"], cwd=ROOT, check=False)
    assert done.returncode == 0


# ----------------------------------------------------------------------------------------------------------- bans


@each(CODE)
def test_nothing_dangerous_is_called(path: Path):
    for node in nodes(path):
        if not isinstance(node, ast.Call):
            continue
        name, where = dotted(node.func), f"{short(path)}:{node.lineno}"
        if short(path) != RUNS_UPSTREAM:
            assert name not in {"exec", "compile"}, where
        assert name not in {"eval", "__import__", "os.system", "yaml.unsafe_load"}, where
        given = {word.arg: word.value for word in node.keywords}
        if name == "torch.load":  # published weights of feature networks come as .pth; their hash is checked before
            only = given.get("weights_only")
            assert (
                short(path) == "cdcd_video/metrics/features/feature_weights.py"
                and isinstance(only, ast.Constant)
                and only.value
            ), where
        pickles = given.get("allow_pickle")
        assert pickles is None or (isinstance(pickles, ast.Constant) and pickles.value is False), where
        shell = given.get("shell")
        assert shell is None or (isinstance(shell, ast.Constant) and shell.value is False), where
        assert name != "yaml.load" or short(path) == "cdcd_video/config/strict_yaml.py", where


def test_the_yaml_loader_is_a_safe_one():
    from cdcd_video.config import strict_yaml

    assert issubclass(strict_yaml._Loader, yaml.SafeLoader)


@each(CODE)
def test_no_pickle_and_no_hidden_randomness(path: Path):
    names = {name.split(".")[0] for name in imports(path)}
    assert not names & {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}
    assert "random" not in names or short(path) == RUNS_UPSTREAM, "upstream's code has its own; ours has generators"
    for node in nodes(path):
        if isinstance(node, ast.Attribute):
            found = re.fullmatch(r"(?:np|numpy)\.random\.(\w+)", dotted(node))
            assert not found or found[1] in OWN_RANDOMNESS, f"{short(path)}:{node.lineno}: {found and found[0]}"


@each(sources("cdcd_video"))
def test_only_entrances_speak(path: Path):
    here = module_name(path)
    if here in ENTRANCES or here.startswith("tools."):
        return
    for node in nodes(path):
        assert not (isinstance(node, ast.Call) and dotted(node.func) == "print"), f"{short(path)}:{node.lineno}"


@each(ALL_CODE)
def test_style_that_ruff_does_not_know(path: Path):
    text = path.read_text(encoding="utf-8")
    assert text.isascii() or path.parent.name == "tests", "ASCII only in code"
    assert "from __future__ import annotations" not in text or path == Path(__file__), "jaxtyping reads annotations"
    assert path.stem not in {"utils", "util", "helpers", "misc"}, "name it for what it does"


def test_no_path_of_one_machine():
    texts = [*ALL_CODE, *CONFIGS, *ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.txt"), ROOT / "Makefile"]
    texts += [path for folder in ("docs", "data_prep", "patches", "configs") for path in (ROOT / folder).rglob("*.md")]
    private = re.compile(r"(?<![\w./~<])/(?:home|root|work|Users|mnt|opt|scratch)/\w")
    for path in texts:
        found = private.search(path.read_text(encoding="utf-8"))
        assert not found, f"{short(path)} names {found and found[0]}..."


# ------------------------------------------------------------------------------------------------ files say what they are


@each(CODE)
def test_docstrings(path: Path):
    tree, *_ = nodes(path)
    if not path.read_text(encoding="utf-8").strip():
        return
    assert ast.get_docstring(tree), f"{short(path)} does not say what it is for"
    if path.name in SCRIPTS:
        return
    kinds = (ast.FunctionDef, ast.ClassDef)
    silent = [
        node.name
        for node in tree.body
        if isinstance(node, kinds) and node.name[0] != "_" and node.name != "main" and not ast.get_docstring(node)
    ]
    assert not silent, f"{short(path)}: no docstring on {', '.join(silent)}"


def test_no_file_is_too_long_to_be_read():
    kinds = {".py", ".cpp", ".h", ".js", ".css", ".html"}
    files = [path for folder in ("cdcd_video", "data_prep", "patches") for path in (ROOT / folder).rglob("*")]
    lines = {short(path): len(path.read_text("utf-8").splitlines()) for path in files if path.suffix in kinds}
    assert {name: count for name, count in lines.items() if count > MOST_LINES and name not in LONG} == {}
    assert min(lines[name] for name in LONG) > MOST_LINES, "it is short enough now"


def test_files_are_told_apart_by_their_names():
    """An editor's tabs, a traceback and a reader's memory have room for a name, not for a path."""
    places: dict[str, list[str]] = {}
    for path in sources("cdcd_video"):
        places.setdefault(path.name, []).append(short(path))
    del places["__init__.py"], places["__main__.py"]
    assert [same for same in places.values() if len(same) > 1] == []


def test_the_top_of_the_package_fits_on_one_look():
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_MODULES


@pytest.mark.parametrize("name", SCRIPTS)
def test_root_scripts_are_short(name: str):
    assert len((ROOT / name).read_text().splitlines()) <= 80


@each(CONFIGS)
def test_configs_have_their_header(path: Path):
    header = path.read_text(encoding="utf-8").splitlines()[:4]
    for line, word in zip(header, ("What", "Command", "Cost", "Expect"), strict=True):
        assert re.fullmatch(rf"# {word}: \S.*", line), f"{short(path)}: line {line!r} should begin with '# {word}: '"
    assert short(path) in header[1] or path.parent.name == "eval", f"{short(path)}: the command names another file"


# ---------------------------------------------------------------------------------------------------- installation


def requirement_lists(*keys: str) -> list[list[str]]:
    """Lists of requirements from pyproject.toml; Python 3.10 has no reader of TOML."""
    text = (ROOT / "pyproject.toml").read_text()
    found = [re.search(rf"^{key} = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE) for key in keys]
    return [re.findall(r'"([^"]+)"', match[1]) for match in found if match]


def test_both_lists_of_requirements_are_one():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    lists = requirement_lists("dependencies", *INSTALLED_EXTRAS, "test", "docs")
    assert [line for line in lines if line and line[0] != "#"] == list(dict.fromkeys(itertools.chain(*lists)))


def test_the_oldest_versions_are_the_floors():
    """`make smoke OLDEST=1` installs what requirements-oldest.txt says; that must be what requirements.txt allows."""
    pins: dict[str, list[str]] = {}
    for line in (ROOT / "requirements-oldest.txt").read_text().splitlines():
        if line[0] != "#":
            name, version = re.match(r"([\w-]+)==([\w.]+)", line).groups()
            pins.setdefault(name, []).append(version)
    lists = requirement_lists("dependencies", *INSTALLED_EXTRAS)
    floors = dict(re.match(r"([\w-]+)>=([\w.]+)", line).groups() for line in itertools.chain(*lists))
    assert list(pins) == list(floors)
    for name, floor in floors.items():
        oldest = pins[name][0].split(".")
        assert oldest[: len(floor.split("."))] == floor.split("."), f"{name}: {oldest} is not the floor {floor}"
        assert pins[name] == sorted(pins[name], key=lambda text: [int(part) for part in text.split(".")])


def test_every_import_is_installed():
    lists = requirement_lists("dependencies", "test", "docs", "cluster", "studio", *INSTALLED_EXTRAS)
    run, test, docs, cluster, studio, *extras = (
        {re.match(r"[\w-]+", line)[0].replace("-", "_") for line in lines} for lines in lists
    )
    run = run.union(*extras)
    own = {
        "cdcd_video",
        "data_prep",
        "patches",
        "inference",
        "train",
        "evaluate",
        *(path.stem for path in sources("tests")),
    }
    for path in ALL_CODE:
        names = {name.split(".")[0] for name in imports(path)} - own - set(sys.stdlib_module_names)
        missing = {DISTRIBUTIONS.get(name, name) for name in names} - run
        if path.parent.name == "tests":
            missing -= test | docs | {"torchvision"}  # torch-fidelity brings it
        if "tools/dev/" in short(path):  # not installed for users
            missing -= test | docs
        if path.parent.name == "docs_site":
            missing -= docs
        if path.name == "cluster.py":
            missing -= cluster
        if "studio" in short(path):  # needs newer versions of others than requirements-oldest.txt has
            missing -= studio
        assert not missing, f"{short(path)} imports {', '.join(missing)}, which requirements.txt does not install"


def test_only_what_is_known_is_told_to_be_installed():
    """Whoever registers a name that nobody holds, as this project's own is none, owns every reader who installs it."""
    options = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = re.findall(r"^(\w+) = \[$", options, re.MULTILINE)
    lines = [line for key in ("dependencies", *extras) for line in requirement_lists(key)[0]]
    known = {re.match(r"[\w-]+", line)[0] for line in lines} | {f".[{extra}]" for extra in extras}
    known |= {
        ".",
        "pip-audit",
        "-r requirements.txt",
        "-r $(SMOKE",
        "-r $(VENV",
        "{name}",
        ".[{named}]",
    }  # {name}: of a watcher, which is among the extras, and {named} is an extra
    texts = [*ALL_CODE, ROOT / "Makefile", *ROOT.glob("*.md")]
    texts += [path for folder in ("docs", "data_prep", "patches", "configs") for path in (ROOT / folder).rglob("*.md")]
    spelled = re.compile(r"""pip3? install(?: --?(?!r )[-\w]+)* ["']?(\.\[[\w,]+\]|(?:-r )?[^\s"'`);,<>=]+)""")
    told = [(short(path), name) for path in texts for name in spelled.findall(path.read_text(encoding="utf-8"))]
    several = {name for _, name in told if name[:2] == ".[" and set(name[2:-1].split(",")) <= set(extras)}
    assert len(told) > 8 and [(where, name) for where, name in told if name not in known | several] == []


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_content(command: list[str]):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_citation_tag_is_resolved_and_every_reference_used():
    """`[D3PM eq. 3]` in the code and the table of tags in docs/references.md are held equal, both ways."""
    tags = set(
        re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "references.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "cdcd_video").rglob("*.py"))
    cited = set(re.findall(r"[\[;] ?([A-Za-z][A-Za-z0-9]*) (?:eq|eqs|sec|app|fig)\.", text))
    assert cited - tags == set(), "cited in the code, missing in docs/references.md"
    assert [tag for tag in sorted(tags) if not re.search(rf"\[[^\]]*\b{tag}\b", text)] == [], "listed and never cited"
