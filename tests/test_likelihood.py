"""The metric `nll`: against likelihoods that are known by enumeration, and through the whole line."""

import dataclasses
import itertools
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapes
import torch
from chains import CHAINS, WRITTEN, chain_of
from test_baselines import FRAMES, SMALL, baseline, condition
from worlds import log_reverse

import evaluate
from cdcd_video import ImageToVideo
from cdcd_video.config import Config, config_file
from cdcd_video.data.sprites import World, counterfactual, sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.diffusion.loss_reference import chain_bound, variational_bound
from cdcd_video.diffusion.process import DiscreteProcess
from cdcd_video.errors import exit_code
from cdcd_video.metrics.likelihood import bits_per_token
from cdcd_video.model import build_denoiser, load_model, save_module
from cdcd_video.records import TextStates

ROOT = Path(__file__).parents[1]
K, N, STEPS = 3, 2, 4
EVERY = torch.tensor(list(itertools.product(range(K + 1), repeat=N)))
"""All frames of two codes, [MASK] among them."""
CLEAN = EVERY[(EVERY < K).all(-1)]
SOURCE = torch.tensor([2, 0])


def table(seed: int = 0) -> torch.Tensor:
    """A model that knows what it says to every frame at every step, (S, frames, N, K); it is wrong, as models are."""
    return 1.5 * torch.randn(
        STEPS, len(EVERY), N, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def denoiser(says: torch.Tensor) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    places = (K + 1) ** torch.arange(N - 1, -1, -1)
    return lambda x_t, t: says[(t * STEPS).round().long() - 1, (x_t * places).sum(-1)]


def start_law(chain: DiscreteProcess) -> torch.Tensor:
    """(N, K+1): where sampling starts; of a chain that keeps something to its end, what it makes of no code at all."""
    end = torch.ones(1, dtype=torch.float64)
    laws = torch.stack([chain.log_marginal(torch.full((1, N), code), end, SOURCE[None])[0].exp() for code in range(K)])
    law = laws.amin(0)
    return law / law.sum(-1, keepdim=True)


def joint(log_p: torch.Tensor) -> torch.Tensor:
    """(B, N, K+1) laws of single codes -> (B, frames) laws of whole frames."""
    return log_p[:, torch.arange(N), EVERY].sum(-1).exp()


def exact_nats(chain: DiscreteProcess, says: torch.Tensor) -> torch.Tensor:
    """-log p of every clean frame: the sum over all paths of the chain, as a product of matrices."""
    source, ones = SOURCE.expand_as(EVERY), torch.ones(len(EVERY), dtype=torch.float64)
    p = joint(start_law(chain)[None].log())[0]
    for i in range(STEPS, 0, -1):
        log_p0 = says[i - 1].log_softmax(-1)
        step = joint(log_reverse(chain, log_p0, EVERY, (i - 1) / STEPS * ones, i / STEPS * ones, source))
        p = torch.where(p[:, None] > 0, p[:, None] * step, 0.0).sum(0)
    assert p.sum().item() == pytest.approx(1.0, abs=1e-9)
    return -p[(EVERY < K).all(-1)].log()


def exact_bound(chain: DiscreteProcess, says: torch.Tensor) -> torch.Tensor:
    """The bound on every clean frame: all steps, all x_t, no drawing."""
    x0, x_t = CLEAN.repeat_interleave(len(EVERY), 0), EVERY.repeat(len(CLEAN), 1)
    source, total = SOURCE.expand_as(x_t), torch.full((len(CLEAN),), N * chain.prior_nats, dtype=torch.float64)
    for i in range(1, STEPS + 1):
        s, t = (torch.full((len(x_t),), j / STEPS, dtype=torch.float64) for j in (i - 1, i))
        weight = chain.log_marginal(x0, t, source).gather(-1, x_t.unsqueeze(-1)).sum((1, 2)).exp()
        log_p0 = denoiser(says)(x_t, t).log_softmax(-1)
        nats = variational_bound(chain, log_p0, x0, x_t, s, t, source).sum(-1)
        total += torch.where(weight > 0, weight * nats, 0.0).view(len(CLEAN), -1).sum(-1)
    return total


FINITE = [name for name in CHAINS if name != "never replaced"]


@pytest.mark.parametrize("name", FINITE)
def test_the_likelihood_by_enumeration_is_never_above_the_bound(name: str):
    chain, says = chain_of(name, K, STEPS), table()
    gap = exact_bound(chain, says) - exact_nats(chain, says)
    assert (gap > -1e-9).all() and gap.max() > 1e-3


@pytest.mark.parametrize("most_steps", [None, 3, 1])
@pytest.mark.parametrize("name", FINITE)
def test_the_estimate_is_unbiased_however_few_steps_are_looked_at(name: str, most_steps: int | None):
    chain, says, copies = chain_of(name, K, STEPS), table(1), 6000
    x0 = torch.tensor([1, 2]).expand(copies, -1)
    found = chain_bound(
        chain, denoiser(says), x0, SOURCE.expand_as(x0), STEPS, torch.Generator().manual_seed(5), most_steps
    )
    found, exact = found.sum(-1), exact_bound(chain, says)[1 * K + 2].item()
    assert found.mean().item() == pytest.approx(exact, abs=4.5 * found.std().item() / copies**0.5)
    assert found.std() > 0.01 or name == "cdcd"


@pytest.mark.parametrize("most_steps, expected", [(None, [1, 2, 3, 4]), (4, [1, 2, 3, 4]), (9, [1, 2, 3, 4])])
def test_a_short_chain_leaves_no_step_to_chance(most_steps: int | None, expected: list[int]):
    looked, says = [], table()

    def denoise(x_t, t):
        looked.append((t * STEPS).round().unique().tolist())
        return denoiser(says)(x_t, t)

    x0 = CLEAN[:5]
    chain_bound(chain_of("mask", K, STEPS), denoise, x0, SOURCE.expand_as(x0), STEPS, torch.Generator(), most_steps)
    assert looked == [[step] for step in expected]


def test_the_parts_of_a_long_chain_are_sampled_evenly():
    looked = []

    def denoise(x_t, t):
        looked.append((t * 10).round().long())
        return torch.zeros(*x_t.shape, K)

    x0 = CLEAN[:1].expand(4000, -1)
    chain_bound(chain_of("mask", K, 10), denoise, x0, SOURCE.expand_as(x0), 10, torch.Generator().manual_seed(0), 4)
    counts = torch.stack([step.bincount(minlength=11)[1:] for step in looked])
    assert counts.sum(1).tolist() == [4000] * 4
    assert [row.nonzero().flatten().add(1).tolist() for row in counts] == [[1, 2, 3], [3, 4, 5], [6, 7, 8], [8, 9, 10]]
    assert (counts.sum(0) / 1600 - 1).abs().max() < 0.1  # every step as often as every other


@pytest.mark.parametrize("name", WRITTEN)
def test_the_term_for_the_start_is_the_divergence_written_out(name: str):
    chain = chain_of(name, K, STEPS)
    q = chain.log_marginal(torch.tensor([[0, 0]]), torch.ones(1), SOURCE[None])[0, 0].exp()
    law = start_law(chain)[0]
    expected = torch.where(q > 0, q * (q / law).log(), 0.0).sum().item()
    assert chain.prior_nats == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert (chain.prior_nats > 0) == (name != "all masked at last")
    assert math.isinf(chain.prior_nats) == (name == "never replaced")


def test_the_causal_models_likelihood_is_that_of_a_distribution():
    """Of all frames of a small world the probabilities sum to 1."""
    model = baseline("autoregressive", **SMALL)
    known = condition(model, 1, tokens=4, num_codes=3)
    text = (known.text.tokens, known.text.is_word, known.text.embedding)
    fields = {
        field.name: getattr(known, field.name)
        for field in dataclasses.fields(known)
        if field.name not in ("text", "negative", "last", "grid")
    }
    many = {name: value.repeat_interleave(len(FRAMES), 0) for name, value in fields.items()}
    said = TextStates(*(part.repeat_interleave(len(FRAMES), 0) for part in text))
    nats = model.nll(dataclasses.replace(known, **many, text=said), FRAMES, torch.Generator())
    assert nats.shape == FRAMES.shape and (-nats.sum(1)).exp().sum().item() == pytest.approx(1.0, abs=1e-6)


def test_bits_are_nats_over_the_logarithm_of_2_and_the_tokens():
    nats = np.array([[math.log(8), math.log(2)], [0.0, math.log(4)]])
    np.testing.assert_allclose(bits_per_token(nats), [2.0, 1.0])


# ------------------------------------------------------------------------------------------------------ the whole line


def film(index: int, num_frames: int = 5, size_px: int = 64):
    scene = sample_scene(0, index, "val", world=World(version="v2"))
    return scene, render(scene, np.arange(num_frames) / 8, size_px)


def test_the_shipped_model_knows_far_more_than_nothing_and_listens():
    pipe = ImageToVideo.from_pretrained("sprites", device="cpu")
    told, misled = [], []
    with shapes.unchecked():
        for index in range(3):
            scene, frames = film(index)
            other = counterfactual(scene, np.random.Generator(np.random.Philox(key=index)))
            told.append(bits_per_token(pipe.nll(frames, scene.caption, 8.0, index)).mean())
            misled.append(bits_per_token(pipe.nll(frames, other.caption, 8.0, index)).mean())
    assert max(told) < 0.25 * math.log2(pipe.model.codec.num_codes)
    assert all(of_other > of_own for of_other, of_own in zip(misled, told, strict=True))


def test_every_frame_is_given_the_true_one_before_it(tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    pipe, seen = ImageToVideo.from_pretrained(tiny_model, device="cpu"), []
    monkeypatch.setattr("cdcd_video.sampling.teacher_forced.BATCH", 3)
    scene, _ = film(0)
    frames = np.random.Generator(np.random.Philox(key=0)).integers(256, size=(6, 32, 32, 3), dtype=np.uint8)
    codes, said = pipe.encode(frames), pipe.model.clip.encode_text([scene.caption])
    assert (codes[1:] != codes[:-1]).any(1).all()
    inner = pipe.sampler.nll

    def nll(known, later, stream):
        seen.append((known, later))
        return inner(known, later, stream)

    monkeypatch.setattr(pipe.sampler, "nll", nll)
    found = pipe.nll(frames, scene.caption, 4.0, 7)
    assert found.shape == (5, codes.shape[1]) and np.isfinite(found).all()
    assert [len(later) for _, later in seen] == [3, 2]
    for name, expected in {
        "source": codes[:-1],
        "first": codes[:1].repeat(5, 1),
        "has_first": torch.ones(5, dtype=torch.bool),
        "gap_s": torch.full((5,), 0.25),
        "age_s": 0.25 * torch.arange(5),
    }.items():
        assert torch.equal(torch.cat([getattr(known, name) for known, _ in seen]), expected), name
    assert torch.equal(torch.cat([later for _, later in seen]), codes[1:])
    assert all(torch.equal(row, said.tokens[0]) for known, _ in seen for row in known.text.tokens)


def test_the_estimate_depends_on_the_seed_alone(tiny_model: Path):
    pipe = ImageToVideo.from_pretrained(tiny_model, device="cpu")
    scene, frames = film(0, 4, 32)
    before = pipe.nll(frames, scene.caption, 8.0, 1)
    other = pipe.nll(frames, scene.caption, 8.0, 2)
    pipe.sample(frames[:1], [scene.caption], pipe.defaults(num_frames=2), [3])
    assert np.array_equal(pipe.nll(frames, scene.caption, 8.0, 1), before) and not np.array_equal(before, other)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Calls evaluate.py in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cdcd_video.evaluation.report.plots.chart", lambda *_: "data:,")
    small = ("--protocol", ROOT / "configs/eval/small.yaml", "--num-videos", 4, "--num-frames", 4, "--no-latents")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, (*small, *arguments))])
        with shapes.unchecked():
            code = exit_code(evaluate.main)
        return code, *capsys.readouterr()

    return call


def lines_of(folder: str, name: str = "scores.jsonl") -> list[dict]:
    return [json.loads(line) for line in Path(folder, name).read_text().splitlines()]


def baseline_of(tiny_model: Path, kind: str, folder: Path) -> Path:
    """A baseline with random weights, in the tiny model's latent space."""
    shutil.copytree(tiny_model, folder)
    changes = [f"baseline.kind={kind}", "loss.contrast.frame_frame=0", "loss.contrast.frame_text=0"]
    config = config_file.load(ROOT / "configs" / "tiny.yaml", Config, changes)
    (folder / "config.yaml").write_text(config_file.dump(config))
    model = load_model(tiny_model)
    with torch.random.fork_rng():
        save_module(build_denoiser(config, model.codec, model.clip.text_width), folder / "denoiser.safetensors")
    return folder


def test_scores_are_those_of_every_video_whatever_the_batch(run):
    for out, batch in (("a", 4), ("b", 3)):
        how = (
            "--checkpoint",
            "sprites",
            "--num-frames",
            3,
            "--metrics",
            "nll",
            "psnr",
        )  # a codec that tells frames apart
        code, told, err = run(*how, "--batch", batch, "--out", out)
        assert code == 0 and "NLL, bits per token" in told, err
    assert all(
        Path("a", name).read_bytes() == Path("b", name).read_bytes() for name in ("scores.jsonl", "per_video.jsonl")
    )
    lines = [line for line in lines_of("a") if line["metric"] == "nll"]
    assert {line["row"] for line in lines} == {"model", "sentence-ignored"}
    assert {line["frame"] for line in lines if line["group"] == "all"} == {None, 1, 2}
    assert {(line["unit"], line["better"]) for line in lines} == {("bits per token", "lower")}
    (whole,) = [s for s in lines if (s["row"], s["group"], s["frame"]) == ("model", "all", None)]
    videos = [s for s in lines_of("a", "per_video.jsonl") if (s["metric"], s["row"]) == ("nll", "model")]
    own = [line["total"] / line["weight"] for line in videos if line["frame"] is None]
    assert whole["n"] == len(own) == 4 and whole["value"] == pytest.approx(np.mean(own), abs=1e-5)
    assert whole["low"] < whole["value"] < whole["high"]
    assert whole["features"] == f"codec-{whole['features_sha256'][:8]}"


def test_a_causal_baseline_is_scored_exactly(run, tiny_model: Path, tmp_path: Path):
    model = baseline_of(tiny_model, "autoregressive", tmp_path / "model")
    assert run("--checkpoint", model, "--metrics", "nll", "--out", "a")[0] == 0
    assert run("--checkpoint", model, "--metrics", "nll", "--out", "b", "--temperature", 0.5, "--guidance", 2)[0] == 0
    found, again = ([s["value"] for s in lines_of(out) if s["metric"] == "nll"] for out in "ab")
    assert found == again and len(found) > 4, "no setting of the drawing plays a part"


def test_a_baseline_without_a_likelihood_is_reported_and_scored_otherwise(run, tiny_model: Path, tmp_path: Path):
    model = baseline_of(tiny_model, "gaussian", tmp_path / "model")
    code, _, err = run("--checkpoint", model, "--metrics", "psnr", "nll", "--out", "a")
    assert code == 0 and err.count("note: nll is left out: the baseline gaussian has no likelihood of codes") == 1
    assert {line["metric"].partition("_")[0] for line in lines_of("a")} == {"psnr"}
    assert "nll is left out" in Path("a/report.md").read_text()
    code, out, err = run("--checkpoint", model, "--metrics", "nll", "--out", "b")
    assert code == 2 and not out and not list(Path("b").iterdir())
    assert "has no likelihood of codes; name another metric" in err and err.count("\n") == 1


def test_videos_from_files_bring_no_model_to_be_scored(run, tmp_path: Path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "prompts.tsv").write_text("file\tprompt\na.mp4\tthe red circle moves right\n")
    code, out, err = run("--videos", "theirs", "--metrics", "psnr", "nll")
    assert code == 2 and not out and err.count("\n") == 1
    assert "nll needs the model itself, which --videos does not have; leave it out" in err
