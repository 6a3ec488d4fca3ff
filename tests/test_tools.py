"""The probe, the run's card, the codec's figures as a command, and who stands still."""

import json
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file

from cdcd_video.data import cache_writer
from cdcd_video.data.cache_writer import write_cache
from cdcd_video.errors import exit_code
from cdcd_video.metrics.latent.health import FADES_BELOW
from cdcd_video.tools import codec as codec_tool
from cdcd_video.tools import frozen
from cdcd_video.tools.probe import probe_accuracy
from cdcd_video.training.model_card import write_card


def test_the_probe_reads_what_is_there_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(4, (600,), generator=generator)
    noise = torch.randn(600, 16, generator=generator)
    assert probe_accuracy(noise, label, 400) < 0.45
    assert probe_accuracy(noise + 4 * torch.nn.functional.one_hot(label, 16), label, 400) > 0.95


def test_the_card_tells_what_the_run_folder_holds(tmp_path):
    machine = {"gpu": None, "cpu": "a processor", "cores": 2, "torch": "2.15"}
    run = {"command": ["train.py", "--config", "x.yaml"], "commit": "abc", "dirty": True, "machine": machine}
    (tmp_path / "run.json").write_text(json.dumps(run))
    lines = [
        {"task": "codec", "step": 10, "time_s": 60.0, "loss": 1.0},
        {"task": "codec", "step": 10, "time_s": 60.0, "evaluation": {"psnr_db": 30.123456, "object_psnr_db": None}},
        {"task": "diffusion", "step": 20, "time_s": 90.0, "loss": 0.5},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    card = write_card(tmp_path, {"denoiser": 2_500_000}).read_text()
    assert "abc with uncommitted changes" in card and "denoiser 2.50 M" in card
    assert "| codec | 10 | 1.0 | psnr_db 30.12 |" in card and "| diffusion | 20 | 1.5 |  |" in card


def test_the_codec_command_prints_every_figure(tiny_model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["codec", "--checkpoint", str(tiny_model), "--num-clips", "2"])
    assert exit_code(codec_tool.main) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["clips"] == 2 and len(figures["model_sha256"]) == 64
    assert {"psnr_db", "object_psnr_db", "background_psnr_db", "usage", "flicker", "embed_cosine"} <= set(figures)
    assert {"alignment", "uniformity", "effective_rank", "value_near_ratio", "clip_caption_retrieval"} <= set(figures)
    assert figures["motion_probe"]["embedding_layer"] > figures["motion_probe"]["chance"]


def test_a_model_that_copies_is_found_frozen(tiny_model, tmp_path, monkeypatch, capsys):
    awake = shutil.copytree(tiny_model, tmp_path / "awake")
    codec = load_file(awake / "codec.safetensors")
    for name in (name for name in codec if name.startswith("projection") and name.endswith("weight")):
        codec[name] *= 30  # else a fresh codec has one code for all that it sees
    save_file(codec, awake / "codec.safetensors")
    told = []
    monkeypatch.setattr(
        cache_writer, "write_cache", lambda *given, **named: told.append(1) or write_cache(*given, **named)
    )
    monkeypatch.setattr(sys, "argv", ["frozen", str(awake), f"{awake}/", str(tiny_model), "--device", "cpu"])
    assert frozen.main() == 0
    first, again, dull = capsys.readouterr().out.splitlines()
    assert first == again and told == [1, 1], "models of one codec share the codes"
    ratio = float(first.split()[2])
    assert 0 <= ratio < FADES_BELOW and "roll-outs freeze" in first, "a fresh denoiser begins by copying"
    assert dull.endswith("none (its clips have no motion)")
