"""What a model is known by: all that draws, and nothing else."""

import json
import resource
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cdcd_video.config import Config, config_file, video_record
from cdcd_video.config.model_digest import earlier_digests, folder_digest
from cdcd_video.errors import UserError
from cdcd_video.model import save_module
from cdcd_video.networks.clip import built_in


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "model")


def turned(folder: Path, *changes: str) -> None:
    """Changes the config of a model folder."""
    (folder / "config.yaml").write_text(config_file.dump(config_file.load(folder / "config.yaml", Config, changes)))


def edited(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DRAWS_THE_SAME = {
    "a README": lambda folder: (folder / "README.md").write_text("hello"),
    "what a hub leaves": lambda folder: (folder / ".gitattributes").write_text("*"),
    "what a Mac leaves": lambda folder: (folder / "clip" / ".DS_Store").write_bytes(b"\0"),
    "a lock": lambda folder: (folder / ".lock").touch(),
    "another place of its CLIP and codec": lambda folder: turned(folder, "reuse=elsewhere/run"),
    "another name, machine and training": lambda folder: turned(
        folder, "name=other", "num_threads=3", "seed=5", "train.diffusion.log_every=7", "sample.guidance=3"
    ),
    "another commit": lambda folder: edited(folder / "model.json", commit="abc", dirty=True),
    "words it was taught": lambda folder: (folder / "clip" / "words.json").write_text("[]"),
    "the tokenizer's last use": lambda folder: edited(folder / "clip" / "tokenizer.json", padding={}, truncation={}),
    "notes in the header": lambda folder: save_file(
        load_file(folder / "codec.safetensors"),
        folder / "codec.safetensors",
        metadata={"facts": '{"format": 1, "x": 2}'},
    ),
}
DRAWS_ANOTHER = {
    "another weight": lambda folder: nudged(folder / "denoiser.safetensors"),
    "another weight of the codec": lambda folder: nudged(folder / "codec.safetensors"),
    "another weight of the CLIP": lambda folder: nudged(folder / "clip" / "model.safetensors"),
    "another network": lambda folder: turned(folder, "denoiser.num_heads=1"),
    "another chain": lambda folder: turned(folder, "diffusion.num_steps=9"),
    "another size": lambda folder: turned(folder, "data.size_px=64"),
    "another way to see": lambda folder: edited(folder / "clip" / "preprocessor_config.json", image_mean=[0, 0, 0]),
    "other words": lambda folder: edited(folder / "clip" / "tokenizer.json", normalizer=None),
}


def nudged(path: Path) -> None:
    tensors = load_file(path)
    name = max(tensors, key=lambda key: tensors[key].numel())
    tensors[name].view(-1)[0] += 1
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("name", DRAWS_THE_SAME)
def test_what_does_not_affect_sampling_makes_no_difference(name: str, folder: Path):
    before = folder_digest(folder)
    DRAWS_THE_SAME[name](folder)
    assert folder_digest(folder) == before


@pytest.mark.parametrize("name", DRAWS_ANOTHER)
def test_what_affects_sampling_makes_another_model(name: str, folder: Path):
    before = folder_digest(folder)
    DRAWS_ANOTHER[name](folder)
    assert folder_digest(folder) != before


def test_a_field_that_is_newer_than_the_model_makes_no_difference(folder: Path):
    before, text = folder_digest(folder), (folder / "config.yaml").read_text()
    kept = [line for line in text.splitlines() if not line.startswith("  embed_width_of_another_day")]
    assert "checkpoint_activations" in text
    (folder / "config.yaml").write_text("\n".join(line for line in kept if "checkpoint_activations" not in line))
    assert folder_digest(folder) == before


def test_equal_weights_are_equal_files(tmp_path: Path):
    network = nn.Linear(3, 2)
    for name in ("a", "b"):
        save_module(network, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_disk_that_refuses_the_weights_is_a_sentence_and_the_earlier_file_stays(tmp_path: Path):
    path = tmp_path / "denoiser.safetensors"
    save_module(nn.Linear(3, 2), path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # the system itself now refuses longer files
    try:
        with pytest.raises(UserError, match="cannot write .*denoiser.safetensors .*free some space"):
            save_module(nn.Linear(64, 64), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_an_earlier_record_is_reproduced(folder: Path):
    """By what the model was called then, with or without what lies beside it now."""
    then = earlier_digests(folder)
    (folder / "README.md").write_text("hello")
    record = video_record.Record.model_construct(
        model_sha256=then.pop(), versions={}, device="cpu", threads=1, checkpoint="runs/mine"
    )
    made_with = {"model_sha256": folder_digest(folder), "versions": {}, "device": "cpu", "threads": 1}
    assert video_record.differences(record, made_with, lambda: earlier_digests(folder)) == []
    nudged(folder / "denoiser.safetensors")
    with pytest.raises(UserError, match="give that model with --checkpoint"):
        video_record.differences(record, made_with, lambda: earlier_digests(folder))


def test_a_tokenizer_that_was_used_is_written_as_one_that_was_not(tmp_path: Path):
    from cdcd_video.config import ClipConfig

    config = ClipConfig(vision_width=32, vision_layers=1, text_width=32, text_layers=1, joint_width=8, vocabulary=270)
    tokenizer = built_in.train_tokenizer(["a cat"], 270, 16)
    with torch.random.fork_rng():
        model = built_in.build_clip(config, 16, len(tokenizer), tokenizer.eos_token_id)
    built_in.save_clip(model, tokenizer, ["a cat"], tmp_path / "fresh")
    tokenizer(["a cat", "a cat and a dog"], padding=True, truncation=True, max_length=4, return_tensors="pt")
    built_in.save_clip(model, tokenizer, ["a cat"], tmp_path / "used")
    fresh, used = ({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("fresh", "used"))
    assert fresh == used
