"""Nothing in the repository unpickles, and nothing unpacks an archive to disk: held by looking at every call."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_house import ALL_CODE, each, short

PICKLES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
    "pickletools",
}
"""Modules that run code out of data."""
CALLS = {
    *("torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "torch.serialization.load"),
    *(
        "torch.distributed.all_gather_object",
        "torch.distributed.gather_object",
        "torch.distributed.broadcast_object_list",
    ),
    *("torch.distributed.scatter_object_list", "torch.distributed.send_object_list"),
    *("torch.distributed.recv_object_list", "pandas.read_pickle", "numpy.loads"),
    *(
        "yaml.unsafe_load",
        "yaml.full_load",
        "yaml.load_all",
        "yaml.full_load_all",
        "yaml.unsafe_load_all",
        "yaml.UnsafeLoader",
    ),
    *("shutil.unpack_archive", "code.interact", "runpy.run_path", "importlib.machinery.SourcelessFileLoader"),
}
"""Functions that do so, or write what only they can read, or unpack to wherever the archive says."""
METHODS = {
    "extractall": "an archive is read member by member, never unpacked",
    "to_pickle": "pickles",
    "read_pickle": "pickles",
}
BAIT = {"pickle.dumps", "numpy.save", "torch.save"}
"""Tests write what must be refused."""
WEIGHTS = "cdcd_video/metrics/features/feature_weights.py"
"""Published feature networks come as .pth: their hash is pinned, and `weights_only` reads tensors and nothing else."""
INCEPTION = "cdcd_video/metrics/features/networks.py"
"""A foreign loader wants a .pth: it is given one that was written in memory a line before, from checked tensors."""
YAML = "cdcd_video/config/strict_yaml.py"
"""Its loader is a stricter SafeLoader, see test_house."""


def faults(tree: ast.Module, path: str) -> Iterator[str]:
    """What must not be called, with the line."""
    nodes = list(ast.walk(tree))
    names = dict(_named(nodes))
    for module in names.values():
        if module.split(".")[0] in PICKLES and not (path.startswith("tests/") and module == "pickle"):
            yield f"imports {module}"
    for node in nodes:
        if isinstance(node, ast.Call):
            for fault in _of_call(node, _full(node.func, names), path):
                yield f"line {node.lineno}: {fault}"


def _of_call(node: ast.Call, name: str, path: str) -> Iterator[str]:
    if path.startswith("tests/") and name in BAIT:
        return
    given = {word.arg: word.value for word in node.keywords}
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if name in CALLS or name.split(".")[0] in PICKLES:
        yield f"{name} is called"
    if method in METHODS:
        yield f"{method} is called: {METHODS[method]}"
    if name == "torch.load" and not (path == WEIGHTS and _is(given.get("weights_only"), True)):
        yield "torch.load is called"
    if name == "torch.save" and path != INCEPTION:
        yield "torch.save is called; safetensors holds tensors and nothing else"
    if name == "yaml.load" and path != YAML:
        yield "yaml.load is called; use config.strict_yaml, or yaml.safe_load"
    if "allow_pickle" in given and not _is(given["allow_pickle"], False):
        yield "allow_pickle is not False"
    if name in {"numpy.load", "numpy.lib.format.read_array"} and len(node.args) > 2 and not _is(node.args[2], False):
        yield "allow_pickle, by its place, is not False"
    if name in {"__import__", "importlib.import_module"}:
        asked = [str(word.value).split(".")[0] for word in node.args if isinstance(word, ast.Constant)]
        yield from (f"{module} is imported" for module in asked if module in PICKLES)


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _named(nodes: list[ast.AST]) -> Iterator[tuple[str, str]]:
    """Name in the file -> what it stands for: `np` for numpy, `load` for torch.load."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (
                    (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0], alias.name.split(".")[0])
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def _full(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        before = _full(node.value, names)
        return f"{before}.{node.attr}" if before else ""
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""


@each(ALL_CODE)
def test_nothing_unpickles_or_unpacks(path: Path):
    assert list(faults(ast.parse(path.read_text(encoding="utf-8")), short(path))) == []


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "from pickle import loads", "import joblib as j", "import shelve", "import marshal"),
        *(
            "import torch\ntorch.load('x')",
            "import torch as t\nt.load('x', weights_only=True)",
            "from torch import load\nload('x')",
        ),
        *(
            "from torch import load as read\nread('x')",
            "import torch.jit\ntorch.jit.load('x')",
            "from torch.jit import load\nload('x')",
        ),
        *("import torch\ntorch.save({}, 'x')", "import torch.distributed as dist\ndist.all_gather_object(a, b)"),
        *("import numpy as np\nnp.load('x', allow_pickle=True)", "import numpy\nnumpy.load('x', None, True)"),
        *(
            "from numpy import load\nload('x', allow_pickle=is_trusted)",
            "import yaml\nyaml.load(x, Loader=yaml.SafeLoader)",
        ),
        *("import yaml\nyaml.unsafe_load(x)", "from yaml import full_load\nfull_load(x)", "archive.extractall('x')"),
        *(
            "import pandas as pd\npd.read_pickle('x')",
            "frame.to_pickle('x')",
            "import shutil\nshutil.unpack_archive('x')",
        ),
        *("__import__('pickle')", "import importlib\nimportlib.import_module('dill')"),
    ],
)
def test_what_must_not_be_is_found(code: str):
    assert list(faults(ast.parse(code), "x.py")) != []


@pytest.mark.parametrize(
    ("code", "path"),
    [
        ("import torch\ntorch.load('x', weights_only=True)", WEIGHTS),
        ("import numpy as np\nnp.load('x', allow_pickle=False)", "x.py"),
        ("import numpy as np\nnp.load('x')", "x.py"),
        ("import yaml\nyaml.safe_load(x)", "x.py"),
        ("import yaml\nyaml.load(x, Loader=Own)", YAML),
        ("import json\njson.load(x)", "x.py"),
        ("import pickle\npickle.dumps(x)", "tests/x.py"),
        ("from safetensors.torch import load_file\nload_file('x')", "x.py"),
    ],
)
def test_what_may_be_is_let_be(code: str, path: str):
    assert list(faults(ast.parse(code), path)) == []


def test_tests_may_write_bait_and_not_bite():
    assert list(faults(ast.parse("import pickle\npickle.loads(x)"), "tests/x.py")) != []
    assert list(faults(ast.parse("import torch\ntorch.load('x')"), "tests/x.py")) != []


def test_torch_load_needs_its_word_even_there():
    assert list(faults(ast.parse("import torch\ntorch.load('x')"), WEIGHTS)) != []
