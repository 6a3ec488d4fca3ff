"""Models of digits are evaluated as those of sprites are: the same systems, intervals and files; and the shipped classifier."""

import functools
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import shapes
import torch
from fixtures_model import write_model
from real_digits import mnist_folder

import data_prep.__main__
import evaluate
from cdcd_video import video
from cdcd_video.config import Config, config_file
from cdcd_video.data.digits_clips import DigitsClips
from cdcd_video.data.digits_files import NUM_TRAINING, Digits, read_mnist, stroke_digits
from cdcd_video.data.digits_world import render_clip
from cdcd_video.errors import UserError, exit_code
from cdcd_video.evaluation import real_videos
from cdcd_video.metrics import digits_classifier, protocol, suite
from cdcd_video.metrics.digits_dataset import DigitsDataset
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.references import SYSTEMS
from cdcd_video.metrics.scores import METRICS, checked_metrics
from cdcd_video.storage.network_folder import CARD
from cdcd_video.tools.dev import digit_training

ROOT = Path(__file__).resolve().parent.parent
DATA = "data={kind: digits, num_clips: 40, num_val_clips: 8}"
RULE = Protocol(data="digits", num_videos=6, num_real=2, num_frames=20, fps=8.0, size_px=64)
CLIPS = DigitsClips(None, "mage-modified", "val", 12)
METRICS_OF_DIGITS = ("digits", "psnr", "ssim", "motion")


class DigitsOracle:
    """Renders the clip of the sentence that it is given, or of the one that it expects (deaf), or nothing at all (frozen)."""

    size_px = 64

    def __init__(self, dataset: DigitsDataset, *, is_deaf: bool = False, is_frozen: bool = False):
        self.is_deaf, self.is_frozen = is_deaf, is_frozen
        self.clips = {
            (dataset.real_video(number, 64)[0].tobytes(), caption): clip
            for number, own in enumerate(dataset.clips)
            for caption, clip in (
                (own.caption, own),
                (dataset.captions["counterfactual"][number], own if is_deaf else dataset.counterfactuals[number]),
            )
        }

    def sample(self, starts: np.ndarray, captions: Sequence[str], params, seeds, progress=None) -> np.ndarray:
        videos = []
        for start, caption in zip(starts, captions, strict=True):
            clip = self.clips[start.tobytes(), caption]
            frames = render_clip("mage-modified", clip, CLIPS.digits, np.arange(20))
            videos.append(np.repeat(start[None], 20, axis=0) if self.is_frozen else frames)
        return np.stack(videos)

    def encode(self, frames: np.ndarray) -> np.ndarray:
        return frames.reshape(len(frames), -1)

    def decode(self, codes: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return codes.reshape(*codes.shape[:2], 64, 64, 3).copy()


@functools.cache
def evaluated(**kind: bool) -> suite.Evaluation:
    dataset = DigitsDataset(CLIPS, 0, 6, 2, 20)
    model = DigitsOracle(dataset, **kind)
    return suite.evaluate(model, dataset, RULE, None, range(6), metrics=METRICS_OF_DIGITS)


def value(found: suite.Evaluation, row: str, metric: str, group: str = "all") -> float | None:
    (one,) = [s for s in found.scores if (s.row, s.metric, s.group, s.frame) == (row, metric, group, None)]
    return one.value


def test_the_suite_has_the_truth_at_the_top_and_a_frozen_video_at_the_bottom():
    found = evaluated()
    for row in ("model", "codec-ceiling", "truth"):
        assert value(found, row, "digit_right") == value(found, row, "digits_right") == 1
        assert value(found, row, "digit_position_error") == value(found, row, "digit_lost") == 0
        assert value(found, row, "distractor_still") == 1 and value(found, row, "psnr") == 60
    assert value(found, "copy-first", "digit_right") == value(found, "copy-first", "digit_direction") == 0
    assert value(found, "counterfactual", "digits_right") == value(found, "counterfactual", "digit_right") == 1
    assert value(found, "sentence-ignored", "digit_right", "sentence=changed") == 0
    assert value(found, "counterfactual", "digits_right", "sentence=swapped") == 1
    assert value(found, "sentence-ignored", "digits_right", "sentence=swapped") == 0


def test_a_deaf_and_a_frozen_model_earn_what_their_references_do():
    deaf, frozen = evaluated(is_deaf=True), evaluated(is_frozen=True)
    for group in ("all", "sentence=changed"):
        ignoring = value(deaf, "sentence-ignored", "digit_right", group)
        assert value(deaf, "counterfactual", "digit_right", group) == ignoring < 0.3
    of_model, of_reference = (
        {(s.metric, s.group, s.frame): asdict(replace(s, row="")) for s in frozen.scores if s.row == row}
        for row in ("model", "copy-first")
    )
    assert of_model == of_reference


def test_every_score_says_how_many_it_rests_on():
    found = evaluated()
    by_n = {(s.metric, s.group): s.n for s in found.scores if s.row == "truth" and s.frame is None}
    assert by_n["digit_right", "all"] == 12 and by_n["digits_right", "all"] == 6
    assert by_n["digit_identity_end", "all"] < 12, "digits across each other are not named"
    with_distractor = sum(clip.distractor is not None for clip in map(CLIPS.clip, range(6)))
    assert by_n["distractor_still", "all"] == with_distractor == by_n["digits_right", "distractor=yes"] > 0
    assert sum(n for (metric, group), n in by_n.items() if metric == "digit_right" and "motion=" in group) == 12
    swapped = [s.n for s in found.scores if (s.metric, s.group) == ("digits_right", "sentence=swapped")]
    assert len(set(swapped)) == 1 and 0 < swapped[0] <= 6
    right = next(s for s in found.scores if s.metric == "digit_right" and s.group == "all")
    assert right.low < right.value == right.high == 1, "twelve digits do not prove that all are right"


def test_metrics_of_one_world_are_refused_in_another():
    assert checked_metrics(None, "digits") == ["digits", *checked_metrics(None, None)]
    assert METRICS["digits"].world == "digits" and "digits" not in checked_metrics(None, "sprites")
    for metric, world in (("digits", "sprites"), ("digits", None), ("sprites", "digits")):
        with pytest.raises(UserError, match=f"{metric} is defined for {metric} scenes only; .* use --data {metric}"):
            checked_metrics([metric], world)


# ---------------------------------------------------------------------------------------------------------- evaluate.py


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model of digits with random weights."""
    return write_model(tmp_path_factory.mktemp("digits"), DATA)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Calls evaluate.py in this process, in an empty folder. Charts stay empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cdcd_video.evaluation.report.plots.chart", lambda *_: "data:,")

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, words)])
        code = exit_code(evaluate.main)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def test_a_model_of_digits_is_evaluated_by_its_own_protocol(run, model: Path):
    few = ("--num-videos", 3, "--steps", 1, "--metrics", "digits", "psnr", "fvd")
    code, out, err = run("--checkpoint", model, *few)
    assert code == 0 and "digit does the right thing" in out and "other caption followed" in out
    assert "trained on the built-in world" in err, "what offline FVD is worth here"
    assert "the latent space is not studied" in err
    lines = [json.loads(line) for line in Path("out/eval/scores.jsonl").read_text().splitlines()]
    assert {line["row"] for line in lines} == set(SYSTEMS) and {line["data"] for line in lines} == {"digits"}
    named = {line["metric"]: line["features"] for line in lines}
    sha256 = digits_classifier.shipped()[1]
    assert named["digit_identity"] == "digits-classifier" and named["digit_right"] is None
    assert {line["features_sha256"] for line in lines if line["metric"] == "digit_identity"} == {sha256}
    top = {line["metric"]: line["value"] for line in lines if line["row"] == "truth" and line["group"] == "all"}
    assert top["digit_right"] == top["digits_right"] == 1
    settled = config_file.load(Path("out/eval/protocol.yaml"), Protocol)
    assert (settled.data, settled.num_frames, settled.fps, settled.split) == ("digits", 20, 8, "val")
    report = Path("out/eval/report.md").read_text()
    assert "up then down" in report and "both right, motions exchanged" in report
    videos = [json.loads(line) for line in Path("out/eval/per_video.jsonl").read_text().splitlines()]
    assert {one["video"] for one in videos} == {f"mage-modified-0-val-{number:06d}" for number in range(3)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--num-frames", 16), "the videos of mage-modified have 20 frames.*set --num-frames 20"),
        (("--split", "heldout"), "digits have no split 'heldout'; choose val or train"),
        (("--stride", 2), "set --captions-per-video 1 and --stride 1"),
        (("--metrics", "sprites"), "sprites is defined for sprites scenes only"),
    ],
)
def test_what_digits_do_not_have_is_one_sentence(run, model: Path, words, message):
    code, _, err = run("--checkpoint", model, *words)
    assert code == 2
    assert re.search(message, err), err


def test_digits_need_a_model_of_digits(run, tiny_model: Path):
    code, _, err = run("--checkpoint", tiny_model, "--data", "digits", "--num-frames", 20)
    assert code == 2 and "tiny was trained on data.kind sprites" in err


def test_no_evaluated_clip_is_a_training_clip(model: Path):
    config = config_file.load(model / "config.yaml", Config)
    dataset, settled = real_videos.digits(config, RULE.settled(split="train", fps=None))
    names = [one.name for one in dataset.eval_videos] + list(dataset.other_names)
    assert names == [f"mage-modified-0-train-{number:06d}" for number in range(40, 48)] and settled.fps == 8
    val, _ = real_videos.digits(config, RULE)
    assert val.digest != dataset.digest and [one.name[-1] for one in val.eval_videos] == list("012345")
    others = [dataset.other(number, 64) for number in range(2)]
    assert not np.array_equal(others[0], dataset.real_video(0, 64)) and others[0].shape == (20, 64, 64, 3)
    assert dataset.real_video(0, 32).shape == (20, 32, 32, 3)


def test_files_named_as_clips_are_evaluated_as_a_model_is(run, model: Path):
    config = config_file.load(model / "config.yaml", Config)
    dataset, _ = real_videos.digits(config, RULE.settled(num_videos=3))
    rows = ["file\tprompt"]
    for number, one in enumerate(dataset.eval_videos):
        video.save(dataset.real_video(number, 64), Path("theirs", one.name), 8.0)
        rows.append(f"{one.name}\t{dataset.captions['model'][number]}")
    Path("theirs/prompts.tsv").write_text("\n".join(rows) + "\n")
    words = ("--videos", "theirs", "--checkpoint", model, "--num-videos", 3, "--metrics", "digits", "psnr")
    with shapes.unchecked():  # what reads files has no codec
        code, _, err = run(*words, "--fps", 8, "--out", "out")
    assert code == 0, err
    lines = [json.loads(line) for line in Path("out/scores.jsonl").read_text().splitlines()]
    found = {line["metric"]: line["value"] for line in lines if (line["row"], line["group"]) == ("model", "all")}
    assert found["digits_right"] == 1 and found["psnr"] == 60


def test_the_default_protocol_is_that_of_the_models_world(model: Path, tiny_model: Path):
    folder = ROOT / "configs" / "eval"
    chosen = [
        protocol.default_file(folder, str(checkpoint), data).stem
        for checkpoint, data in (
            (model, None),
            (model, "digits"),
            (model, "clips"),
            (tiny_model, None),
            ("nowhere", None),
        )
    ]
    assert chosen == ["digits", "digits", "sprites", "sprites", "sprites"]


# ---------------------------------------------------------------------------------------------------------- classifier


def test_the_shipped_classifier_is_small_and_has_a_card():
    card = json.loads((digits_classifier.FOLDER / CARD).read_text())
    assert card["accuracy"] >= 0.99 and card["n"] == 10_000 and "--seed 0" in card["command"]
    assert (digits_classifier.FOLDER / digits_classifier.WEIGHTS).stat().st_size < 500_000
    network, _ = digits_classifier.shipped()
    assert sum(weight.numel() for weight in network.parameters()) == card["num_weights"]
    strokes = stroke_digits(10)
    assert (digits_classifier.name_digits(strokes.images) == strokes.labels).mean() > 0.8
    assert digits_classifier.name_digits(strokes.images[:0]).shape == (0,)


@pytest.mark.shared
def test_the_card_has_the_accuracy_on_the_test_half(shared_dir: Path, tmp_path: Path):
    digits = read_mnist(mnist_folder(shared_dir, tmp_path))
    answers = digits_classifier.name_digits(digits.images[NUM_TRAINING:])
    card = json.loads((digits_classifier.FOLDER / CARD).read_text())
    assert (answers == digits.labels[NUM_TRAINING:]).mean() == pytest.approx(card["accuracy"], abs=2e-4)


def test_damaged_weights_are_one_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="is missing or damaged .* `python -m cdcd_video.tools.train_digit_classifier`"):
        digits_classifier.load(tmp_path)
    content = (digits_classifier.FOLDER / digits_classifier.WEIGHTS).read_bytes()
    (tmp_path / digits_classifier.WEIGHTS).write_bytes(content[:-100])
    with pytest.raises(UserError, match="missing or damaged"):
        digits_classifier.load(tmp_path)
    (tmp_path / digits_classifier.WEIGHTS).write_bytes(content)
    assert digits_classifier.load(tmp_path)[1] == digits_classifier.shipped()[1]


def test_training_learns_and_gives_the_same_bits(tmp_path: Path):
    strokes = stroke_digits(26)
    order = np.random.Generator(np.random.Philox(key=1)).permutation(len(strokes.labels))
    digits = Digits(strokes.images[order], strokes.labels[order])
    networks = [digit_training.train(digits, 12, seed) for seed in (0, 0, 1)]
    states = [torch.cat([values.flatten().double() for values in one.state_dict().values()]) for one in networks]
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])
    assert (digits_classifier.name_digits(digits.images, networks[0]) == digits.labels).mean() > 0.5
    path = digits_classifier.save(networks[0], {"seed": 0}, tmp_path)
    again, _ = digits_classifier.load(path.parent)
    assert torch.equal(torch.cat([values.flatten().double() for values in again.state_dict().values()]), states[0])
    assert json.loads((tmp_path / CARD).read_text()) == {"seed": 0}


def test_augmented_pictures_are_changed_and_reproducible():
    pictures = torch.from_numpy(stroke_digits(4).images.copy()).float() / 255
    one, again, other = (digit_training.augmented(pictures, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.shape == pictures.shape and one.min() >= 0 and one.max() <= 1
    changed = (one - pictures).abs().mean(dim=(1, 2))
    assert changed.min() > 0.005 and changed.max() < 0.3


def test_the_training_command_refuses_what_cannot_be(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path):
    for words, message in ((["--epochs", "0"], "--epochs at least 1"), ([], "put MNIST's four files there")):
        monkeypatch.setattr(sys, "argv", ["x", "--mnist", str(tmp_path), *words])
        assert exit_code(digit_training.main) == 2 and message in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------------- data_prep


def test_the_recipe_names_a_file_that_is_missing(tmp_path: Path):
    with pytest.raises(UserError, match=r"has no train-images-idx3-ubyte .*47,040,016 bytes when unpacked, md5 6bbc9"):
        data_prep.__main__.main(["digits", "--mnist", str(tmp_path)])
    with pytest.raises(UserError, match="--num-clips must be at least 1"):
        data_prep.__main__.main(["digits", "--mnist", str(tmp_path), "--num-clips", "0"])


@pytest.mark.shared
def test_the_recipe_says_what_was_found_and_shows_clips(shared_dir: Path, tmp_path: Path, capsys):
    from PIL import Image

    (tmp_path / "mnist").mkdir()
    folder = mnist_folder(shared_dir, tmp_path / "mnist")
    words = ["digits", "--mnist", str(folder), "--out", str(tmp_path / "sheet"), "--num-clips", "3"]
    assert data_prep.__main__.main([*words, "--protocol", "mage-single"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 5 and "t10k-labels-idx1-ubyte: 10,008 bytes, md5 27ae3e" in shown[3]
    assert "70,000 digits; 3 clips of mage-single" in shown[4]
    found = json.loads((tmp_path / "sheet" / "found.json").read_text())
    assert sum(found["pictures"].values()) == 70_000 and len(found["files"]) == 4
    with Image.open(tmp_path / "sheet" / "clips.png") as sheet:
        assert sheet.width > 10 * 64 and sheet.height > 3 * 64
