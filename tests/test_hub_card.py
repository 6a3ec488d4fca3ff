"""The model card: what the Hub reads of it, that it is true to its model, and that it never describes another one."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from fixtures_model import write_model
from huggingface_hub import ModelCard
from PIL import Image
from test_report import FACTS, SCORES, score

from cdcd_video.config import Config, config_file
from cdcd_video.config.model_digest import folder_digest
from cdcd_video.errors import UserError, exit_code
from cdcd_video.evaluation.report.score_files import write_scores
from cdcd_video.model import SHIPPED, load_model
from cdcd_video.tools import card as card_command
from cdcd_video.training import card_header, hub_card, moving_sample, run_folder
from cdcd_video.training.hub_card import write_hub_card
from cdcd_video.training.model_writer import write_part

COMMAND = "python -m cdcd_video.tools.card"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A run folder's model; its codec and denoiser have random weights."""
    return shutil.copytree(tiny_model, tmp_path / "run" / "model")


def changed(folder: Path, *changes: str) -> None:
    (folder / "config.yaml").write_text(config_file.dump(config_file.load(folder / "config.yaml", Config, changes)))


def evaluated(where: Path, model_sha256: str, scores=SCORES) -> Path:
    """An evaluation of a model, as `evaluate.py` writes it."""
    write_scores(scores, FACTS | {"model_sha256": model_sha256, "protocol": "ef" * 32}, where / "scores.jsonl")
    return where


def sampled(folder: Path, model_sha256: str, captions=("the red circle moves right", "a second one")) -> Path:
    """Videos of one grey each, from 0 upwards by 40, that become brighter by 24 with every frame."""
    greys = 24 * np.arange(5, dtype=np.uint8)[:, None, None, None] + np.zeros((5, 32, 32, 3), np.uint8)
    videos = [greys + np.uint8(40 * number) for number in range(2 * len(captions))]
    labels = [label for caption in captions for label in (f"true: {caption}", f"sampled: {caption}")]
    return moving_sample.write_moving_sample((videos, labels), folder, 8.0, model_sha256)


def is_true_to(folder: Path) -> str:
    """Checks a card against the model that it lies beside; returns its text."""
    text, model = (folder / "README.md").read_text(), load_model(folder)
    assert f"`{model.digest}`" in text, f"the card is of another model; write it again: {COMMAND} {folder.name}"
    networks = {"codec": model.codec, "denoiser": model.denoiser}
    found = hub_card.sizes(folder)
    for name, network in networks.items():
        count = sum(tensor.numel() for tensor in network.state_dict().values())
        size = (folder / f"{name}.safetensors").stat().st_size
        assert found[f"{name}.safetensors"] == (count, size)
        assert f"| {name}.safetensors | {count:,} | {size:,} |" in text
    assert f"| clip/model.safetensors | {found['clip/model.safetensors'][0]:,} | " in text
    counts, sizes = (sum(column) for column in zip(*found.values(), strict=True))
    assert f"| together | {counts:,} | {sizes:,} |" in text
    sample = moving_sample.read_moving_sample(folder)
    assert sample is not None and sample.model_sha256 == model.digest and "](sample.webp)" in text
    assert (folder / "sample.webp").stat().st_size < 100_000
    return text


@pytest.mark.parametrize("name", sorted(path.parent.name for path in SHIPPED.glob("*/model.json")))
def test_the_cards_of_shipped_models_are_true(name: str):
    assert (SHIPPED / name / "README.md").is_file(), f"it has no card; write it: {COMMAND} {name} --scores DIR"
    text = is_true_to(SHIPPED / name)
    read = ModelCard(text).data.to_dict()
    assert (read["license"], read["pipeline_tag"]) == ("apache-2.0", "image-to-video")
    assert read["model-index"][0]["results"][0]["metrics"]


def test_training_writes_it(trained: Path):
    text = is_true_to(trained / "model")
    read = ModelCard(text).data.to_dict()
    assert read["library_name"] == "cdcd_video" and read["license"] == "apache-2.0" and "image-to-video" in read["tags"]
    assert "model-index" not in read and "These weights have not been evaluated" in text
    assert "Licence of the data: apache-2.0, the library's own" in text
    assert "steps: clip 10, codec 40, decoder 10, diffusion 60, refine 10" in text
    with Image.open(trained / "model" / "sample.webp") as image:
        assert image.n_frames > 1 and image.info["loop"] == 0


def test_it_is_no_part_of_the_digest(folder: Path):
    before = folder_digest(folder)
    sampled(folder, before)
    write_hub_card(folder)
    assert folder_digest(folder) == before


# ------------------------------------------------------------------------------------------------------------- scores


def test_scores_are_in_the_header_and_in_the_table(folder: Path):
    write_hub_card(folder, [evaluated(folder.parent / "eval", folder_digest(folder))])
    card = ModelCard.load(folder / "README.md")
    results = {result.metric_type: result for result in card.data.eval_results}
    right = results["does_right_thing"]
    assert (right.metric_value, right.metric_name) == (0.625, "does the right thing [0.5 to 0.75], n = 20")
    assert right.metric_args == {"low": 0.5, "high": 0.75, "n": 20}
    assert (right.task_type, right.dataset_name, right.dataset_split) == ("image-to-video", "sprites", "val")
    assert results["fid"].metric_args["features"] == "sprites-frame"
    assert "motion_ratio" not in results, "it was not measurable"
    assert "| does the right thing | 20 objects | 62% [50 to 75] | 10% [0 to 20] | 95% [90 to 100] | 100%" in card.text
    assert "PSNR | 20 videos | 37.0 dB [36.0 to 38.0]" in card.text, "the whole video's, not a frame's"


def test_weak_motions_are_among_the_limits(folder: Path):
    motions = [score("does_right_thing", share, low=share, high=share, n=n, group=f"motion={name}")
               for name, share, n in (("spins", 0.1, 9), ("grows", 0.9, 9), ("shrinks", 0.0, 2))]  # fmt: skip
    write_hub_card(folder, [evaluated(folder.parent / "eval", folder_digest(folder), [*SCORES, *motions])])
    (line,) = [line for line in (folder / "README.md").read_text().splitlines() if "does worst" in line]
    assert "spins 10% [10 to 10], n = 9; grows 90%" in line and "shrinks" not in line


def test_scores_of_another_model_are_refused_and_never_used(folder: Path):
    other = evaluated(folder.parent / "eval", "cd" * 32)
    with pytest.raises(UserError, match=r"another model \(sha256 cdcdcdcdcdcd"):
        write_hub_card(folder, [other])
    assert not (folder / "README.md").exists()
    write_hub_card(folder, [other, folder.parent / "absent"], strict=False)
    assert "have not been evaluated" in (folder / "README.md").read_text()


def test_damaged_scores_are_a_sentence(folder: Path):
    where = evaluated(folder.parent / "eval", folder_digest(folder))
    (where / "scores.jsonl").write_text((where / "scores.jsonl").read_text().replace('"value": 0.625', '"value": "a"'))
    with pytest.raises(UserError, match=r"scores.jsonl is damaged \(value: .*\); run evaluate.py again"):
        write_hub_card(folder, [where])


def test_an_evaluation_of_a_run_puts_its_scores_on_the_card(folder: Path):
    run = folder.parent
    with run_folder.evaluating("cpu", None, str(run)) as out:
        evaluated(out, folder_digest(folder))
    assert not (folder / "README.md").exists(), "there was none: the run has not ended"
    write_hub_card(folder)
    with run_folder.evaluating("cpu", None, str(run)) as out:
        assert out == run
        evaluated(out, folder_digest(folder))
    assert "model-index" in (folder / "README.md").read_text()


# ------------------------------------------------------------------------------------------------------------ licence


@pytest.mark.parametrize(
    ("changes", "header", "sentence"),
    [
        (["data.licence=cc-by-4.0"], {"license": "cc-by-4.0"}, "cc-by-4.0, as stated by whoever trained"),
        (["data.licence=CC0-1.0"], {"license": "cc0-1.0"}, "CC0-1.0, as stated"),
        (
            ["data.licence=Pixabay Content License (2024)"],
            {"license": "other", "license_name": "pixabay-content-license-2024"},
            "Pixabay Content License (2024), as stated",
        ),
        (["data.hub_id=someone/clips"], {"license": "unknown", "datasets": ["someone/clips"]}, "unknown. Whoever"),
    ],
)
def test_the_licence_is_the_one_that_was_stated(folder: Path, changes, header, sentence):
    text = (folder / "config.yaml").read_text().split("\ndata:")[0]
    (folder / "config.yaml").write_text(f"{text}\ndata:\n  kind: folder\n  path: /somewhere/my-clips\n  size_px: 32\n")
    changed(folder, *changes)
    write_hub_card(folder)
    card = ModelCard.load(folder / "README.md")
    assert header.items() <= card.data.to_dict().items()
    assert f"Licence of the data: {sentence}" in card.text and "/somewhere" not in card.content


@pytest.mark.parametrize("change", ["data.world=v2 data.backgrounds=photographs", "init=elsewhere", "reuse=elsewhere"])
def test_what_others_made_leaves_the_licence_unknown(folder: Path, change: str):
    changed(folder, *change.split())
    assert card_header.licence_of(config_file.load(folder / "config.yaml", Config)) == "unknown"


def test_a_published_clip_is_the_base_model(folder: Path):
    changed(folder, "clip=openai/clip-vit-base-patch16")
    config = config_file.load(folder / "config.yaml", Config)
    assert "base_model: openai/clip-vit-base-patch16" in card_header.header(config, [])
    assert card_header.licence_of(config) == "unknown", "its weights are somebody else's"
    changed(folder, f"clip={folder}")
    assert "base_model" not in card_header.header(config_file.load(folder / "config.yaml", Config), [])


def test_a_statement_is_no_other_config(tmp_path: Path, folder: Path):
    text = (folder / "config.yaml").read_text().split("\ndata:")[0] + "\ndata:\n  kind: folder\n  path: clips\n"
    (tmp_path / "x.yaml").write_text(text)
    begun = config_file.load(tmp_path / "x.yaml", Config)
    stated = config_file.load(tmp_path / "x.yaml", Config, ["data.licence=mit", "data.hub_id=a/b"])
    assert begun.data != stated.data and run_folder.raised_steps(stated, begun, tmp_path) == {}
    other = config_file.load(tmp_path / "x.yaml", Config, ["data.path=others"])
    with pytest.raises(UserError, match="data.path"):
        run_folder.raised_steps(other, begun, tmp_path)


# ---------------------------------------------------------------------------------------------------- whose card it is


def test_a_sample_of_other_weights_is_not_shown(folder: Path):
    sampled(folder, "cd" * 32)
    write_hub_card(folder)
    assert "sample.webp" not in (folder / "README.md").read_text()
    Image.new("RGB", (8, 8)).save(folder / "sample.webp")
    assert moving_sample.read_moving_sample(folder) is None
    (folder / "sample.webp").write_bytes(b"RIFF")
    assert moving_sample.read_moving_sample(folder) is None


def test_the_sample_loops_at_its_speed_and_shows_the_true_clip_above(folder: Path):
    path = sampled(folder, "ab" * 32)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
        assert (image.n_frames, image.info["duration"], image.info["loop"]) == (5, 125, 0)
    assert (
        abs(pixels[4, 4] - 0).max() < 12 and abs(pixels[-4, 4] - 40).max() < 12 and abs(pixels[-4, -4] - 120).max() < 12
    )


def test_captions_are_text_in_markdown_html_and_the_shell(folder: Path):
    caption = 'a *star* | <b> & $HOME\n"`'
    sampled(folder, folder_digest(folder), (caption,))
    write_hub_card(folder)
    text = (folder / "README.md").read_text()
    assert r"Captions: a \*star\* \| &lt;b&gt; &amp; $HOME " in text
    assert """--text 'a *star* | <b> & $HOME "'"'"''""" in text


def test_weights_that_change_take_their_card_away(folder: Path):
    write_hub_card(folder)
    model = load_model(folder)
    write_part(model.codec, "codec", folder, model.config, {})
    assert not (folder / "README.md").exists()


def test_a_card_that_was_written_by_hand_stays(folder: Path, capsys):
    own = write_hub_card(folder)
    own.write_text(own.read_text().replace(hub_card.MARK, "My own notes."))
    with pytest.raises(UserError, match="by hand and is kept"):
        write_hub_card(folder)
    hub_card.renew_card(folder, folder.parent)
    assert "by hand and is kept" in capsys.readouterr().err
    model = load_model(folder)
    write_part(model.codec, "codec", folder, model.config, {})
    assert "My own notes." in own.read_text()


def test_what_is_unfinished_or_a_stand_in_is_said_first(folder: Path):
    facts = {"unfinished": "diffusion: 5 of 60 steps", "clip_stand_in": "CLIP has random weights"}
    (folder / "model.json").write_text(json.dumps({"format": 1, **facts}))
    write_hub_card(folder)
    above = (folder / "README.md").read_text().split("## How to sample")[0]
    assert "**Unfinished: diffusion: 5 of 60 steps.**" in above and "**CLIP has random weights.**" in above


# -------------------------------------------------------------------------------------------------------- the command


def test_the_command_writes_card_and_sample(folder: Path, monkeypatch, capsys):
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["card", *map(str, arguments)])
        code = exit_code(card_command.main)
        return code, *capsys.readouterr()

    eval_folder = evaluated(folder.parent / "eval", folder_digest(folder))
    code, out, _ = run(folder.parent, "--scores", eval_folder)
    assert (code, out.split()) == (0, [str(folder / "sample.webp"), str(folder / "README.md")])
    assert "model-index" in is_true_to(folder)
    code, out, _ = run(folder, "--no-sample")
    assert (code, out.split()) == (0, [str(folder / "README.md")]) and "model-index" not in is_true_to(folder)
    code, _, err = run(folder, "--no-sample", "--scores", folder)
    assert code == 2 and "scores.jsonl does not exist" in err
    (folder / "denoiser.safetensors").write_bytes(b"1234567890")
    code, _, err = run(folder, "--no-sample")
    assert code == 2 and "error: " in err


def test_models_of_other_sizes_have_tiles_of_one_size(tmp_path: Path):
    large = [np.zeros((2, 200, 200, 3), np.uint8)] * 2
    path = moving_sample.write_moving_sample((large, ["true: a", "sampled: a"]), tmp_path, 8.0, "ab")
    with Image.open(path) as image:
        assert image.size == (moving_sample.TILE_PX, 2 * moving_sample.TILE_PX + 4)
    folder = write_model(tmp_path / "made", "data.size_px=64")
    write_hub_card(folder)
    assert "Frames are 64 x 64 pixels." in (folder / "README.md").read_text()
