"""Several futures of one first frame: the scale is that of the truth, and a trained model goes through to the table."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cdcd_video.data import sprites
from cdcd_video.data.sprites import World
from cdcd_video.data.sprites_render import render
from cdcd_video.errors import UserError, exit_code
from cdcd_video.metrics import sprites_futures
from cdcd_video.tools import open_future
from cdcd_video.training.training_run import TrainingRun

WORLD = World(version="open", max_objects=1, backgrounds=("plain",))
TIMES = WORLD.times_s


def run_tool(*options: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["open_future", *map(str, options)])
    return exit_code(open_future.main)


def test_starts_have_several_futures():
    for start in open_future.choose_starts(WORLD, TIMES, 5, seed=0):
        assert start.scene.is_open and len(start.futures) >= 2 and start.edge_energy > 0
    still = World(version="open", max_objects=1, backgrounds=("plain",), motions=("moves left", "stays still"))
    with pytest.raises(UserError, match="only 0 of the first 100 scenes .* several directions"):
        open_future.choose_starts(still, TIMES, 1, seed=0)


def test_a_row_counts_what_is_right_and_how_many_directions_there_are():
    starts = open_future.choose_starts(WORLD, TIMES, 2, seed=0)
    first = [[start.futures[0], start.futures[0], start.futures[1]] for start in starts]
    frozen = np.zeros_like(TIMES)
    scores = [
        sprites_futures.score(render(future, TIMES if number < 3 else frozen), start.scene, TIMES)
        for start, futures in zip(starts, first, strict=True)
        for number, future in enumerate((*futures, futures[0]))
    ]
    found = open_future.row("model", 4, starts, scores, 4, 0.5, seed=0)
    expected = sum(sprites_futures.expected_distinct(start.probabilities, 4) for start in starts)
    assert found["right"][0] == 0.75 and found["diversity"][0] == pytest.approx(4 / expected, abs=1e-6)
    assert found["edges"][0] == pytest.approx(1, abs=0.05) and found["identity_last"][0] > 0.95
    motions = [future.objects[0].motion for future in first[0]]
    assert found["motions"][0] == [*motions, None]
    text = open_future.as_text(found)
    assert text.startswith("model          4      0.750 [") and text.endswith("0.50")
    alone = open_future.row("truth", None, starts[:1], scores[:4], 4, None, seed=0)
    assert alone["right"] == [0.75, None, None] and open_future.as_text(alone).endswith("-")


@pytest.fixture(scope="module")
def trained_on_open_captions(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Run folder of a denoiser that was trained for three steps on the open world, from another model's weights."""
    from fixtures_model import trained_config

    changes = (
        *(f"train.{stage}.{key}" for stage in ("diffusion", "refine") for key in ("num_steps=3", "log_every=1")),
        *(f"reuse={tiny_model}", f"init={tiny_model}", "data.world=open", "data.num_clips=8", "data.num_val_clips=4"),
        "train.refine.num_steps=2",
    )
    out = tmp_path_factory.mktemp("open") / "run"
    TrainingRun(trained_config(*changes), out, ["test"]).train()
    return out


def test_a_model_goes_from_training_to_the_table(
    trained_on_open_captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    options = ("--num-starts", 2, "--num-samples", 3, "--steps", 1, 2, "--batch", 4, "--temperature", 1)
    for folder in ("one", "two"):
        given = ("--checkpoint", trained_on_open_captions, *options, "--out", tmp_path / folder)
        assert run_tool(*given, monkeypatch=monkeypatch) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert [line.split()[:2] for line in lines[1:6]] == [
        ["truth", "-"],
        ["codec-ceiling", "-"],
        ["copy-first", "-"],
        ["model", "1"],
        ["model", "2"],
    ]
    assert "note:" not in said.err
    results = [json.loads((tmp_path / folder / "open_future.json").read_text()) for folder in ("one", "two")]
    for result in results:
        assert "--num-starts" in result.pop("command") and {"commit", "dirty", "machine"} <= set(result)
        for row in result["rows"]:
            assert (row.pop("cpu_s_per_video") is None) is (row["system"] != "model")
    assert results[0] == results[1], "the same seed gives the same videos"
    found = results[0]
    assert found["is_trained_on_open_captions"] and found["params"]["num_steps"] == [1, 2]
    truth, _, frozen = found["rows"][:3]
    assert truth["right"][0] == 1 and frozen["right"][0] == 0 == frozen["diversity"][0]
    for motions, start in zip(truth["motions"], found["starts"], strict=True):
        assert set(motions) <= set(start["futures"]) and abs(sum(start["futures"].values()) - 1) < 1e-4


def test_a_model_of_another_world_is_measured_with_a_note(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    options = ("--num-starts", 1, "--num-samples", 1, "--steps", 1, "--num-frames", 2, "--out", tmp_path / "out")
    assert run_tool("--checkpoint", tiny_model, *options, monkeypatch=monkeypatch) == 0
    assert "note: tiny was trained on data.world v1" in capsys.readouterr().err
    assert not json.loads((tmp_path / "out" / "open_future.json").read_text())["is_trained_on_open_captions"]


@pytest.mark.parametrize(
    "options, sentence",
    [
        (("--num-samples", 0), "must be at least 1"),
        (("--steps", 0), "must be"),
        (("--checkpoint", "absent"), "absent"),
    ],
)
def test_mistakes_are_sentences(
    options: tuple, sentence: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    given = ("--checkpoint", tiny_model, "--num-starts", 1, "--out", tmp_path / "out", *options)
    assert run_tool(*given, monkeypatch=monkeypatch) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_of_clips_is_refused():
    from fixtures_model import trained_config

    config = trained_config("data={kind: folder, path: x, size_px: 32}")
    with pytest.raises(UserError, match="tiny was trained on data.kind folder.*sprites_open.yaml"):
        open_future.world_of(config)


def test_the_truth_covers_the_directions_as_expected():
    """Over many samples the number of directions among true videos is the expected one."""
    start = open_future.choose_starts(WORLD, TIMES, 1, seed=1)[0]
    rng = np.random.default_rng(0)
    counts = [len(set(rng.choice(len(start.futures), 8, p=start.probabilities))) for _ in range(2000)]
    expected = sprites_futures.expected_distinct(start.probabilities, 8)
    assert abs(np.mean(counts) - expected) < 4 * np.std(counts) / np.sqrt(2000)
    assert isinstance(start.scene, sprites.Scene)
