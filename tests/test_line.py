"""The whole line on the tiny config: it learns, it can be stopped anywhere, and the same seed gives the same bits."""

import json
import signal
import time
from pathlib import Path

import children
import numpy as np
import pytest
from fixtures_model import ROOT, SHORT, trained_config

from cdcd_video import ImageToVideo
from cdcd_video.config import Config, config_file
from cdcd_video.data.sprites import sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.errors import UserError
from cdcd_video.model import load_model
from cdcd_video.networks.codec import start_thresholds
from cdcd_video.training.stage_order import stages_of
from cdcd_video.training.training_run import TrainingRun

CONFIG = ROOT / "configs" / "tiny.yaml"
WEIGHTS = ("clip/model.safetensors", "codec.safetensors", "denoiser.safetensors")


def log_of(run: Path, task: str) -> list[dict]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["task"] == task and "loss" in line]


def test_every_stage_learns(trained):
    for stage in ("codec", "diffusion"):  # how far a hundred steps bring it, the rounding of the processor decides too
        losses = [line["loss"] for line in log_of(trained, stage)]
        assert losses[-1] < 0.75 * losses[0], f"{stage}: {losses}"
    stages = stages_of(trained_config())
    assert {line["task"] for stage in stages for line in log_of(trained, stage)} == set(stages)


def test_the_codecs_own_round_trip_is_kept_with_the_model(trained):
    facts = json.loads((trained / "model" / start_thresholds.FILE).read_text())
    assert facts["num_frames"] == config_file.load(CONFIG, Config).data.num_val_clips
    assert load_model(trained).start.least_db == facts["least_db"] > 5


def test_the_terms_are_reported_apart(trained):
    terms = log_of(trained, "diffusion")[-1]["terms"]
    assert {"bound", "auxiliary", "frame_frame", "frame_text", "frame_frame_wins"} <= set(terms)


def test_a_run_cut_off_at_any_stage_ends_with_the_same_bits(trained, tmp_path):
    """Stops the real command with SIGINT, in the codec and in the diffusion; every start is a new process."""
    out = tmp_path / "run"
    codes = []
    for stage in ("codec", "diffusion", None):
        process = children.start(
            "train:main", "--config", CONFIG, "--out", out, *(f"--set={change}" for change in SHORT)
        )
        while stage and process.poll() is None and not list((out / "checkpoints" / stage).glob("step-*")):
            time.sleep(0.02)
        if stage:
            process.send_signal(signal.SIGINT)
        codes.append(process.wait())
        assert codes[-1] in (0, 130), process.stderr
        if codes[-1] == 0:  # where the machine is busy, it may come to its end before it is struck a second time
            break
        assert "run the same command again" in process.stderr
    assert codes[0] == 130 and codes[-1] == 0
    for name in WEIGHTS:
        assert (out / "model" / name).read_bytes() == (trained / "model" / name).read_bytes(), name


def test_a_finished_run_is_left_as_it_is(trained):
    before = (trained / "model" / "denoiser.safetensors").read_bytes()
    TrainingRun(trained_config(), trained, ["test"]).train(["diffusion"])
    assert (trained / "model" / "denoiser.safetensors").read_bytes() == before


def test_another_config_is_refused(trained):
    with pytest.raises(UserError, match="another config"):
        TrainingRun(trained_config("seed=1"), trained, ["test"])


@pytest.fixture(scope="module")
def pipe(trained) -> ImageToVideo:
    return ImageToVideo.from_pretrained(trained, device="cpu")


@pytest.fixture(scope="module")
def start() -> np.ndarray:
    return render(sample_scene(0, 0, "val"), np.zeros(1), 32)[0]


CAPTION = "the red circle moves right"


def test_frame_0_is_the_image_bit_for_bit(pipe, start):
    video = pipe(start, CAPTION, num_frames=4)
    assert video.frames.shape == (4, 32, 32, 3) and video.frames.dtype == np.uint8
    assert np.array_equal(video.frames[0], start)


def test_a_seed_gives_the_same_video_and_another_seed_another(pipe, start):
    one, again = (pipe(start, CAPTION, num_frames=5, temperature=2.0, seed=3) for _ in range(2))
    assert np.array_equal(one.frames, again.frames)
    assert not np.array_equal(one.frames, pipe(start, CAPTION, num_frames=5, temperature=2.0, seed=4).frames)


def test_a_video_does_not_depend_on_its_batch(pipe, start):
    other = render(sample_scene(0, 1, "val"), np.zeros(1), 32)[0]
    params = pipe.defaults(num_frames=4, temperature=2.0)
    alone = pipe.roll_out(start[None], [CAPTION], params, [5])
    together = pipe.roll_out(np.stack([other, start]), ["the blue square stays still", CAPTION], params, [9, 5])
    assert (alone[0] == together[1]).float().mean() > 0.98  # matrix products may round otherwise in another batch
    assert not np.array_equal(together[0], together[1])


def test_a_caption_that_changes_gives_the_same_frames_up_to_the_change(pipe, start):
    params = pipe.defaults(num_frames=6, temperature=2.0)
    schedule = [(0, CAPTION), (3, "the red circle moves left quickly")]
    codes = [pipe.roll_out(start[None], [caption], params, [0])[0] for caption in (CAPTION, schedule)]
    assert (codes[0][:3] == codes[1][:3]).all()


def test_guidance_1_is_the_plain_model(pipe, start):
    plain = pipe.roll_out(start[None], [CAPTION], pipe.defaults(num_frames=3, guidance=1.0), [0])
    nearly = pipe.roll_out(start[None], [CAPTION], pipe.defaults(num_frames=3, guidance=1.0 + 1e-6), [0])
    assert (plain == nearly).float().mean() > 0.98


@pytest.mark.parametrize(
    "caption, words",
    [
        ([(1, "x")], "must begin at frame 0"),
        ([(0, CAPTION), (0, "the red circle moves up")], "two captions begin at frame 0, .* whole number"),
        ("", "the caption is empty"),
        ("red " * 10_000, "characters"),
        ("der rote Kreis dort", "knows no word"),
    ],
)
def test_captions_that_cannot_be_used(pipe, start, caption, words):
    with pytest.raises(UserError, match=words):
        pipe(start, caption, num_frames=2)


@pytest.mark.parametrize("dial", [{"num_frames": 0}, {"fps": 0.0}, {"num_steps": 0}, {"top_p": 0.0}, {"seed": -1}])
def test_settings_out_of_range(pipe, start, dial):
    with pytest.raises(UserError, match=next(iter(dial))):
        pipe(start, CAPTION, **dial)


def test_notes_to_the_user_before_sampling(pipe):
    params = pipe.defaults(num_frames=4)
    assert pipe.warnings(CAPTION, params) == []
    (late,) = pipe.warnings([(0, CAPTION), (9, CAPTION)], params)
    assert "frame 9 is never used" in late
    (fast,) = pipe.warnings(CAPTION, pipe.defaults(fps=30.0))
    assert "outside what the model was trained on (2 to 8)" in fast
    (unknown,) = pipe.warnings("the red circle moves majestically right", params)
    assert "'majestically'" in unknown


@pytest.mark.sweep(most=1)
@pytest.mark.parametrize(
    "process",
    [
        "{kind: replace, uniform: 0.1}",
        "{kind: bridge, uniform: 0.05}",
        "{kind: hybrid, mask: 0.5, uniform: 0.1}",
        "{kind: cdcd}",
    ],
)
def test_every_process_trains_and_samples(trained, start, tmp_path, process):
    """The same line with another forward process, on the CLIP and codec of the first run."""
    changes = [f"diffusion.process={process}", f"reuse={trained}", "data.num_clips=8", "data.num_val_clips=2"]
    changes += ["sample.num_frames=2"]
    few = ("train.diffusion.num_steps=20", "train.diffusion.log_every=5", "train.refine.num_steps=2")
    TrainingRun(trained_config(*changes, *few), tmp_path, ["test"]).train()
    assert load_model(tmp_path).start.least_db == load_model(trained).start.least_db  # of the codec that is reused
    losses = [line["loss"] for line in log_of(tmp_path, "diffusion")]
    assert losses[-1] < 0.9 * losses[0]
    video = ImageToVideo.from_pretrained(tmp_path, device="cpu")(start, CAPTION, num_frames=3, guidance=1.5)
    assert np.array_equal(video.frames[0], start) and video.frames.shape == (3, 32, 32, 3)


def test_a_stage_of_no_steps_is_left_out():
    config = config_file.load(ROOT / "configs" / "tiny.yaml", Config)
    without = config_file.load(ROOT / "configs" / "tiny.yaml", Config, ["train.refine.num_steps=0"])
    assert (*stages_of(without), "refine") == stages_of(config)
    with pytest.raises(UserError, match=r"train\.diffusion\.num_steps"):
        config_file.load(ROOT / "configs" / "tiny.yaml", Config, ["train.diffusion.num_steps=0"])
