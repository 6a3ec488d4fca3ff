"""Models from and to the Hub, against a server on this machine, in processes that are told of it by HF_ENDPOINT."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_hub
import numpy as np
import pytest

from cdcd_video import ImageToVideo, UserError
from cdcd_video.sampling.model_hub import FILES, find_model

ROOT = Path(__file__).resolve().parent.parent
CHILD = """
import json, sys
from cdcd_video import ImageToVideo, UserError
from cdcd_video.sampling.model_hub import find_model

def outcome(step):
    try:
        if "push" in step:
            return {"address": ImageToVideo.from_pretrained(step["push"], "cpu").push_to_hub(*step["given"], **step["named"])}
        return {"folder": str(find_model(step["find"], **step["named"]))}
    except UserError as error:
        return {"refused": str(error)}

print("found " + json.dumps([outcome(step) for step in json.loads(sys.argv[1])]))
"""
"""Does steps, and says what each led to; a traceback ends it."""

Ask = Callable[..., list[dict[str, str]]]


@pytest.fixture(scope="module")
def hub(tiny_model: Path) -> Iterator[fake_hub.FakeHub]:
    """With a model, something else, something gated; and a pickle beside the model, which nobody may ask for."""
    hub = fake_hub.FakeHub(gated={"some/gated"})
    hub.add_folder("some/model", tiny_model)
    hub.commit("some/model", {"pytorch_model.bin": b"\x80", "clip/pytorch_model.bin": b"\x80", ".gitattributes": b""})
    hub.commit("some/other", {"model_index.json": b"{}", "unet/diffusion_pytorch_model.safetensors": b""})
    with fake_hub.running(hub):
        yield hub


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def ask(hub: fake_hub.FakeHub, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Ask:
    def ask(*steps: dict[str, Any], **environment: str) -> list[dict[str, str]]:
        known = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
        known |= {"HF_HOME": str(cache / "home"), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*", "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", CHILD, json.dumps([{"named": {}, **step} for step in steps])],
            cwd=tmp_path_factory.mktemp("empty"),
            env=known | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.split("found ", 1)[1])

    return ask


@pytest.fixture(scope="module")
def first(ask: Ask, hub: fake_hub.FakeHub, tiny_model: Path) -> list[dict[str, str]]:
    """What the first process finds, while the Hub is there: it fills the cache."""
    old, new = (digest for digest, _ in hub.commits["some/model"])
    named = {"token": fake_hub.TOKEN, "commit_message": "a model"}
    return ask(
        {"find": "some/model"},
        {"find": "some/model", "named": {"revision": old}},
        {"find": "some/model", "named": {"revision": "v7"}},
        {"find": "no/body"},
        {"find": "some/gated"},
        {"find": "some/other"},
        {"find": "some/bad..name"},
        {"push": str(tiny_model), "given": ["mine/tiny"], "named": named},
        {"push": str(tiny_model), "given": ["mine/tiny"], "named": {"token": "hf_wrong"}},
        {"find": "mine/tiny"},
        {"find": "some/model", "named": {"revision": new, "force_download": True}},
    )


def test_a_model_of_the_hub_is_the_model(first, hub: fake_hub.FakeHub, tiny_model: Path):
    here, there = (ImageToVideo.from_pretrained(one, "cpu") for one in (tiny_model, first[0]["folder"]))
    assert there.model.digest == here.model.digest and there.model.folder.parent.name == "snapshots"
    start = np.zeros((here.size_px, here.size_px, 3), np.uint8)
    videos = [pipe(start, "the red circle moves right", num_frames=2) for pipe in (here, there)]
    assert np.array_equal(videos[0], videos[1])
    assert there.model.folder.name == hub.commits["some/model"][-1][0]
    assert Path(first[1]["folder"]).name == hub.commits["some/model"][0][0], "the older commit by its hash"
    assert first[10]["folder"] == first[0]["folder"]


def test_only_what_belongs_to_a_model_is_downloaded(first, hub: fake_hub.FakeHub):
    got = {
        line.split("/resolve/")[1].split("/", 1)[1] for line in hub.asked if line.startswith("GET /some/model/resolve")
    }
    assert {"config.yaml", "model.json", "denoiser.safetensors", "clip/model.safetensors"} <= got
    assert not [name for name in got if not name.endswith((".yaml", ".json", ".safetensors", ".md", ".txt"))]
    assert not [pattern for pattern in FILES if pattern.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt", "*"))]


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (2, "some/model on the Hub has no revision 'v7'; give a branch, a tag or a commit"),
        (3, "there is no model 'no/body' on the Hub, or it is private, .* a shipped model \\(.*sprites"),
        (4, "some/gated on the Hub is gated: ask for access on its page"),
        (5, "some/other on the Hub is not a model of this project: it has no config.yaml and no model.json"),
        (6, "'some/bad..name' is no name of the Hub"),
        (8, "the Hub does not let you write mine/tiny; give token="),
    ],
)
def test_what_is_refused_is_one_sentence(first, step: int, sentence: str):
    refused = first[step]["refused"]
    assert re.search(sentence, refused), refused
    assert "\n" not in refused and "huggingface.co" not in refused and fake_hub.TOKEN not in refused


def test_what_is_pushed_comes_back(first, hub: fake_hub.FakeHub, tiny_model: Path):
    digest, files = hub.commits["mine/tiny"][0]
    assert first[7]["address"] == f"{hub.endpoint}/mine/tiny/commit/{digest}" and len(hub.commits["mine/tiny"]) == 1
    wanted = {path.relative_to(tiny_model).as_posix(): path for path in tiny_model.rglob("*") if path.is_file()}
    assert files == {name: path.read_bytes() for name, path in wanted.items()}
    there = ImageToVideo.from_pretrained(first[9]["folder"], "cpu")
    assert there.model.digest == ImageToVideo.from_pretrained(tiny_model, "cpu").model.digest


@pytest.mark.slow
def test_the_cache_serves_where_there_is_no_network(first, ask: Ask, hub: fake_hub.FakeHub):
    before = len(hub.asked)
    model, unknown = {"find": "some/model"}, {"find": "never/seen"}
    only = {"named": {"local_files_only": True}}
    found = ask(model | only, unknown | only)
    refused = (
        "nor in the Hub's cache, and local_files_only is given; leave it out once, run `hf download never/seen`, or"
    )
    assert found[0] == first[0] and refused in found[1]["refused"]
    found = ask(model, unknown, {"push": first[0]["folder"], "given": ["mine/more"]}, HF_HUB_OFFLINE="1")
    assert found[0] == first[0] and "and HF_HUB_OFFLINE is set; unset it once" in found[1]["refused"]
    assert found[2]["refused"].startswith("HF_HUB_OFFLINE is set, so nothing is uploaded")
    assert len(hub.asked) == before, "neither asks"
    nobody = "http://127.0.0.1:9"  # the port of "discard", where nobody listens
    found = ask(model, unknown, HF_ENDPOINT=nobody)
    assert found[0] == first[0] and "the Hub cannot be reached" in found[1]["refused"]


# ------------------------------------------------------------------------------------------------------ on this machine


@pytest.mark.parametrize("name", ["nothing", "runs/nothing", "a/b/c", Path("some/model"), "/no/such", "./some/model"])
def test_what_is_no_name_of_the_hub_is_looked_for_here_alone(name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("the Hub was asked"))
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no model .*give a run folder"):
        find_model(name)


def test_a_folder_has_no_revision(tiny_model: Path):
    with pytest.raises(UserError, match="revision is 'v1', but .* is on this machine"):
        find_model(tiny_model, revision="v1")


def test_a_saved_model_has_the_same_bits(tiny_model: Path, tmp_path: Path):
    pipe = ImageToVideo.from_pretrained(tiny_model, "cpu")
    folder = pipe.save_pretrained(tmp_path / "new" / "saved")
    names = sorted(path.relative_to(tiny_model) for path in tiny_model.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert all((tiny_model / name).read_bytes() == (folder / name).read_bytes() for name in names)
    assert ImageToVideo.from_pretrained(folder, "cpu").model.digest == pipe.model.digest
    assert sorted(path.name for path in folder.parent.iterdir()) == ["saved"], "nothing is left beside it"


def test_a_model_that_cannot_take_its_place_leaves_the_earlier_one(tiny_model: Path, tmp_path: Path, monkeypatch):
    pipe = ImageToVideo.from_pretrained(tiny_model, "cpu")
    folder = pipe.save_pretrained(tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self.name == "part":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(UserError, match="cannot write"):
        pipe.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir() if "saved" in path.name and path.is_dir()] == ["saved"]


def test_what_was_changed_in_memory_is_saved_also_over_its_own_folder(tiny_model: Path, tmp_path: Path):
    folder = ImageToVideo.from_pretrained(tiny_model, "cpu").save_pretrained(tmp_path / "saved")
    pipe = ImageToVideo.from_pretrained(folder, "cpu")
    pipe.model.denoiser.to_codes.bias.add_(0.5)
    pipe.compile(backend="eager").save_pretrained(folder)
    again = ImageToVideo.from_pretrained(folder, "cpu").model.denoiser.to_codes.bias
    assert (again == pipe.model.denoiser.to_codes.bias.half().float()).all() and (again > 0.4).any()


def test_nothing_else_is_written_over(tiny_model: Path, tmp_path: Path):
    pipe = ImageToVideo.from_pretrained(tiny_model, "cpu")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("mine")
    (tmp_path / "run" / "log.jsonl").write_text("mine")
    with pytest.raises(UserError, match="contains log.jsonl, which is no part of a model; choose a new folder"):
        pipe.save_pretrained(tmp_path / "run")
    with pytest.raises(UserError, match="is a file; give a folder"):
        pipe.save_pretrained(tmp_path / "run" / "log.jsonl")
    assert sorted(path.read_text() for path in (tmp_path / "run").iterdir() if path.suffix != ".lock") == ["mine"] * 2
