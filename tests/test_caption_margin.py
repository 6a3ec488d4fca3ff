"""The metric `caption_margin`: against values known by enumeration, and through the whole line."""

import dataclasses
import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import shapes
import torch
from chains import chain_of
from test_baselines import FRAMES, SMALL, baseline, condition
from test_likelihood import baseline_of, start_law
from worlds import KINDS

import evaluate
from cdcd_video import ImageToVideo
from cdcd_video.data import sprites
from cdcd_video.data.sprites import World, sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.errors import UserError, exit_code
from cdcd_video.metrics.caption_margin import measure_caption_margin, wrong_captions
from cdcd_video.metrics.eval_dataset import SceneDataset
from cdcd_video.metrics.measurements import EvalVideo
from cdcd_video.records import TextStates
from cdcd_video.sampling.code_sampler import DiscreteSampler

ROOT = Path(__file__).resolve().parent.parent
K, N = 3, 2
EVERY = torch.tensor(list(itertools.product(range(K + 1), repeat=N)))
SOURCE = torch.tensor([2, 0])  # that of `start_law`
VIDEO = EvalVideo("v", "v")


class Table(torch.nn.Module):
    """A denoiser that knows by heart what it says to every frame of codes at t = 1."""

    def __init__(self, seed: int):
        super().__init__()
        self.says = torch.randn(len(EVERY), N, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def prepare(self, condition):
        return condition

    def forward(self, x_t, t, condition):
        assert (t == 1).all()
        return self.says[(x_t * (K + 1) ** torch.arange(N - 1, -1, -1)).sum(-1)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_cross_entropy_is_that_of_codes_where_sampling_begins(kind: str):
    """Its mean over corrupted codes is the sum over all of them, each with its probability."""
    chain, table, copies = chain_of(kind, K, 4), Table(1), 6000
    codes = torch.tensor([1, 2]).expand(copies, -1)
    known = SimpleNamespace(source=SOURCE.expand_as(codes))
    with shapes.unchecked():
        sampler = DiscreteSampler(table, chain, None, None)
        found = sampler.code_nats(known, codes, torch.Generator().manual_seed(0))
    law = start_law(chain)[torch.arange(N), EVERY].prod(-1)
    nats = -table.says.log_softmax(-1)[:, torch.arange(N), codes[0]]
    expected = (law[:, None] * nats).sum(0)
    assert found.dtype == torch.float64
    error = 5 * found.std(0) / copies**0.5 + 1e-12
    assert ((found.mean(0) - expected).abs() < error).all()
    if kind == "mask":  # nothing is left to chance
        torch.testing.assert_close(found, nats[-1].expand_as(found))


def test_a_causal_models_cross_entropy_is_its_likelihood():
    model = baseline("autoregressive", **SMALL)
    known = condition(model, len(FRAMES), tokens=4, num_codes=3)
    given = (known, FRAMES, torch.Generator())
    assert torch.equal(model.code_nats(*given), model.nll(*given))


class Known:
    """A model with given cross-entropies: of each frame and code, one nat more under every further caption."""

    size_px = 8

    def __init__(self, nats: np.ndarray, changed: np.ndarray):
        self.nats, self.changed, self.asked = nats, changed, []

    def code_nats(self, frames, captions, fps, seed):
        self.asked.append((tuple(captions), fps, seed))
        return self.nats, self.changed


def test_the_margin_is_the_mean_over_changed_codes_of_wrong_minus_right():
    rng = np.random.Generator(np.random.Philox(key=0))
    nats, changed = rng.normal(size=(2, 4, 5)), rng.random((4, 5)) < 0.5
    changed[2] = False
    model = Known(nats, changed)
    found = measure_caption_margin(model, VIDEO, np.zeros((5, 8, 8, 3), np.uint8), "right", "wrong", 4.0, 9)
    assert model.asked == [(("right", "wrong"), 4.0, 9)]
    expected = [
        [nats[1, f, n] - nats[0, f, n] for n in range(5) if changed[f, n]] for f in range(4)
    ]  # one list for each frame
    assert np.isnan(found.total[[0, 3]]).all() and np.isnan(found.weight[[0, 3]]).all(), "given, and without a change"
    for frame in (1, 2, 4):
        assert found.total[frame] == pytest.approx(sum(expected[frame - 1]))
        assert found.weight[frame] == len(expected[frame - 1])
    everything = [value for frame in expected for value in frame]
    assert np.nansum(found.total) / np.nansum(found.weight) == pytest.approx(np.mean(everything))


# Sentences --------------------------------------------------------------------------------------------------------


def test_two_objects_exchange_what_they_do():
    scenes = [sample_scene(1, index, "val", world=World(two_object_share=1.0)) for index in range(60)]
    exchanged = {scene.caption: sprites.exchanged_caption(scene) for scene in scenes}
    found = {caption: other for caption, other in exchanged.items() if other}
    assert 20 < len(found) < 60, "some would show what is held out"
    for caption, other in found.items():
        assert caption != other and sorted(caption.split()) == sorted(other.split())
    scene = next(scene for scene in scenes if exchanged[scene.caption])
    first, second = scene.objects
    moved = dataclasses.replace(first, motion=second.motion, adverb=second.adverb)
    assert exchanged[scene.caption].startswith(f"{moved.phrase} and ")
    assert sprites.exchanged_caption(sample_scene(1, 0, world=World(max_objects=1))) is None


def test_wrong_sentences_are_exchanged_ones_where_there_are_two_objects_and_others_elsewhere():
    for version in ("v1", "open"):
        world = World(version=version, backgrounds=("plain",))
        scenes = [sample_scene(1, index, "val", world=world) for index in range(30)]
        dataset = SceneDataset(scenes, num_frames=4, fps=8.0, world=world)
        for scene, wrong, other in zip(scenes, wrong_captions(dataset), dataset.counterfactuals, strict=True):
            assert wrong == (sprites.exchanged_caption(scene) or other.caption) != scene.caption


def test_of_clips_the_next_other_caption_is_wrong():
    def dataset(*captions: str) -> SimpleNamespace:
        return SimpleNamespace(captions={"model": list(captions)})

    with shapes.unchecked():
        assert wrong_captions(dataset("a", "a", "b", "c")) == ["b", "b", "c", "a"]
        with pytest.raises(UserError, match="needs videos with different captions"):
            wrong_captions(dataset("a", "a"))


# The whole line ---------------------------------------------------------------------------------------------------


def test_the_shipped_model_listens_and_the_same_sentence_has_no_margin():
    pipe, margins = ImageToVideo.from_pretrained("sprites", device="cpu"), []
    with shapes.unchecked():
        for index in range(4):
            scene = sample_scene(0, index, "val")
            frames = render(scene, np.arange(3) / 4, 64)
            other = sprites.counterfactual(scene, np.random.Generator(np.random.Philox(key=index))).caption
            found = measure_caption_margin(pipe, VIDEO, frames, scene.caption, other, 4.0, index)
            margins.append(np.nansum(found.total) / np.nansum(found.weight))
            same = measure_caption_margin(pipe, VIDEO, frames, scene.caption, scene.caption, 4.0, index)
            assert np.nansum(np.abs(same.total)) == 0.0 and np.nansum(same.weight) == np.nansum(found.weight)
    assert np.mean(margins) > 0.2


def test_every_caption_is_given_the_true_frames_and_the_same_corruption(tiny_model: Path):
    pipe, seen = ImageToVideo.from_pretrained(tiny_model, device="cpu"), []
    inner = pipe.sampler.code_nats

    def code_nats(known, later, stream):
        seen.append((known.source, later, known.text, stream.get_state()))
        return inner(known, later, stream)

    pipe.sampler.code_nats = code_nats
    frames = np.random.Generator(np.random.Philox(key=0)).integers(256, size=(4, 32, 32, 3), dtype=np.uint8)
    nats, changed = pipe.code_nats(frames, ["the red circle moves left", "the red circle stays still"], 4.0, 7)
    codes = pipe.encode(frames)
    assert nats.shape == (2, 3, codes.shape[1]) and (changed == (codes[1:] != codes[:-1]).numpy()).all()
    (source, target, right, state), (_, _, wrong, other_state) = seen
    assert torch.equal(source, codes[:-1]) and torch.equal(target, codes[1:]) and torch.equal(state, other_state)
    assert isinstance(right, TextStates) and not torch.equal(right.tokens, wrong.tokens)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Calls evaluate.py in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cdcd_video.evaluation.report.plots.chart", lambda *_: "data:,")
    small = ("--protocol", ROOT / "configs/eval/small.yaml", "--num-videos", 4, "--num-frames", 3, "--no-latents")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, (*small, *arguments))])
        with shapes.unchecked():
            code = exit_code(evaluate.main)
        return code, *capsys.readouterr()

    return call


def lines_of(folder: str, name: str = "scores.jsonl") -> list[dict]:
    return [json.loads(line) for line in Path(folder, name).read_text().splitlines()]


def test_scores_are_those_of_every_video_whatever_the_batch(run):
    for out, batch in (("a", 4), ("b", 3)):
        how = ("--checkpoint", "sprites", "--scenes", "mirrored_pairs", "--metrics", "caption_margin")
        code, text, err = run(*how, "--batch", batch, "--out", out)
        assert code == 0 and "caption margin" in text, err
    assert Path("a", "scores.jsonl").read_bytes() == Path("b", "scores.jsonl").read_bytes()
    lines = [line for line in lines_of("a") if line["metric"] == "caption_margin" and line["group"] == "all"]
    assert {(line["row"], line["unit"], line["better"]) for line in lines} == {("model", "nats per code", "higher")}
    whole = next(line for line in lines if line["frame"] is None)
    videos = [line for line in lines_of("a", "per_video.jsonl") if line["frame"] is None]
    assert whole["features"].startswith("codec-") and len({line.get("clip") or line["video"] for line in videos}) == 2
    totals, weights = (sum(line[side] for line in videos) for side in ("total", "weight"))
    assert whole["value"] == pytest.approx(totals / weights, abs=1e-5)


def test_baselines_are_scored_if_they_predict_codes(run, tiny_model: Path, tmp_path: Path):
    model = baseline_of(tiny_model, "autoregressive", tmp_path / "causal")
    assert run("--checkpoint", model, "--metrics", "caption_margin", "--out", "a")[0] == 0
    model = baseline_of(tiny_model, "gaussian", tmp_path / "gaussian")
    code, _, err = run("--checkpoint", model, "--metrics", "caption_margin", "nll", "--out", "b")
    assert code == 2 and "caption_margin is left out: the baseline gaussian has no method code_nats; nll" in err


def test_nothing_is_sampled_where_no_metric_needs_videos(run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    sampled, inner = [], ImageToVideo.sample

    def sample(self, *given, **named):
        sampled.append(len(given[0]))
        return inner(self, *given, **named)

    monkeypatch.setattr(ImageToVideo, "sample", sample)
    how = ("--checkpoint", tiny_model, "--metrics", "caption_margin", "nll")
    code, text, err = run(*how, "--out", "a")
    assert code == 0 and "caption margin" in text and not sampled and "frame/s" not in err
    assert json.loads(Path("a", "previews.json").read_text()) == []
    assert 'id="videos"' not in Path("a", "report.html").read_text(encoding="utf-8")
    assert run(*how, "psnr", "--out", "b")[0] == 0 and sum(sampled) == 4
    of_model = [line for line in lines_of("b") if line["metric"] in {one["metric"] for one in lines_of("a")}]
    assert of_model == lines_of("a"), "a score depends on what is measured beside it"
    del sampled[:]
    assert run(*how, "--out", "c", "--vbench", "videos")[0] == 0 and sum(sampled) == 4, "videos are asked for"
    assert lines_of("c") == lines_of("a") and len(list(Path("videos").rglob("*.mp4"))) == 4
    code, _, err = run("--compare", "a", "c", "--out", "d")
    assert code == 0, err
