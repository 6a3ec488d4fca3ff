"""Encoding once: prepared folders and videos become caches, hostile files end in a list, and training needs nothing else."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import children
import numpy as np
import pytest
import torch
from fixtures_model import ROOT
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from video_files import grey_steps, moving_bar, write_clip, write_sound

from cdcd_video.config import Config, config_file
from cdcd_video.data import cache_blocks, cache_writer
from cdcd_video.data.cache import CodeCache
from cdcd_video.data.store import StoredClips
from cdcd_video.errors import UserError, exit_code
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.tools import dry_run
from cdcd_video.tools.dry_run.trial_clips import look_at_data
from cdcd_video.training import latent_encoder, training_data, training_run
from data_prep import encoding
from data_prep.__main__ import main

NUM_CLIPS = 8


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Clips that are good, with a table that also names every kind of file that is not."""
    root = tmp_path_factory.mktemp("videos")
    (root / "in").mkdir()
    rows = []
    for number in range(NUM_CLIPS):
        name = f"bar{number}.mp4"
        write_clip(root / "in" / name, np.roll(moving_bar(16 + number), 3 * number, axis=2), fps=8)
        rows += [(name, f"a bar moves right, number {number}"), (name, "a bar")]
    film = np.concatenate([moving_bar(12), 255 - moving_bar(12)])
    write_clip(root / "in" / "cut.mp4", film, fps=8)
    rows.append(("cut.mp4", "two shots"))
    whole = (root / "in" / "bar0.mp4").read_bytes()
    (root / "in" / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "in" / "flipped.mp4").write_bytes(bytes(255 - byte for byte in whole))
    (root / "in" / "empty.mp4").write_bytes(b"")
    (root / "in" / "text.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n")
    write_clip(root / "in" / "one.mp4", grey_steps(1))
    write_sound(root / "in" / "sound.mkv")
    header = b"GIF89a" + (65535).to_bytes(2, "little") * 2 + bytes(3)
    (root / "in" / "huge.gif").write_bytes(header + b"," + bytes(4) + b"\xff\xff" * 2 + b"\0\2\0;")
    (root / "in" / "dir.mp4").mkdir()
    (root / "outside.mp4").write_bytes(whole)
    (root / "in" / "link.mp4").symlink_to(root / "outside.mp4")
    hostile = ["truncated.mp4", "flipped.mp4", "empty.mp4", "text.mp4", "one.mp4", "sound.mkv", "huge.gif", "dir.mp4"]
    hostile += ["link.mp4", "../outside.mp4", "/etc/passwd", "a/../../outside.mp4", "x" * 400 + ".mp4", "nothing.mp4"]
    rows[4:4] = [(name, "words") for name in hostile]
    table = "".join(f"{path}\t{caption}\n" for path, caption in rows)
    (root / "captions.tsv").write_text("path\tcaption\n" + table, encoding="utf-8")
    (root / "hostile.json").write_text(json.dumps(hostile))
    return root


def recipe_of(videos: Path) -> list[str]:
    found = ["folder", str(videos / "in"), "--captions", str(videos / "captions.tsv"), "--workers", "1"]
    return [*found, "--val-share", "0.4"]


def encode(model: Path, out: Path, *options: str) -> int:
    return exit_code(lambda: main(["encode", "--model", str(model), "--out", str(out), *options]))


@pytest.fixture(scope="module")
def prepared(videos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    assert exit_code(lambda: main([*recipe_of(videos), "--size-px", "32", "--out", str(out)])) == 0
    return out


@pytest.fixture(scope="module")
def latents(videos, tiny_model, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("latents") / "out"
    assert encode(tiny_model, out, *recipe_of(videos)) == 0
    return out


@pytest.fixture
def small_blocks(monkeypatch):
    for module in (cache_blocks, cache_writer, encoding):
        monkeypatch.setattr(module, "BLOCK_CLIPS", 4)


# ------------------------------------------------------------------------------------------------------- what comes out


def test_videos_become_what_their_prepared_folder_becomes(latents, prepared, tiny_model, tmp_path):
    assert encode(tiny_model, tmp_path / "out", "--data", str(prepared)) == 0
    direct, by_folder = content(latents), content(tmp_path / "out")
    assert {name for name in direct if direct[name] != by_folder[name]} == {"manifest.json", "rejected.jsonl"}
    clips, cache = StoredClips(prepared), CodeCache(latents)
    assert cache.lengths.tolist() == [clips.num_frames(clip) for clip in range(len(clips))]
    cut = [clips.name(clip) for clip in range(len(clips))].index("cut.mp4")
    assert cache.cuts(cut) == clips.cuts(cut) == (12,)
    frame_encoder = latent_encoder.open_frame_encoder(tiny_model, torch.device("cpu"))
    frames = torch.from_numpy(clips.frames(cut, range(24))).permute(0, 3, 1, 2).float().div(255)
    codes = frame_encoder.codec.encode(frame_encoder.clip.encode_image(frames, frame_encoder.codec.cfg.layers).patches)
    assert torch.equal(cache.frame_codes(np.full(24, cut), np.arange(24)), codes)
    said = frame_encoder.clip.encode_text(["two shots"])
    held = cache.text(np.array(cache.caption_of[cut]))
    assert torch.equal(held.tokens, said.tokens.half().float()) and torch.equal(held.is_word, said.is_word)
    assert CodeCache(latents, "train").shots.clips.size and CodeCache(latents, "val").shots.clips.size


def test_what_cannot_be_used_is_listed_and_stops_nothing(latents, videos):
    hostile = json.loads((videos / "hostile.json").read_text())
    reasons = {row["id"]: row["reason"] for row in lines(latents / "rejected.jsonl")}
    assert list(reasons) == hostile and all(reasons.values())
    told = {
        "empty.mp4": "0 bytes",
        "one.mp4": "one frame",
        "../outside.mp4": "points outside",
        "nothing.mp4": "not exist",
    }
    for name, reason in told.items():
        assert reason in reasons[name], reasons[name]
    assert len(lines(latents / "index.jsonl")) == NUM_CLIPS + 1
    assert str(videos) not in (latents / "manifest.json").read_text()


def test_annotations_are_encoded_with_their_bad_rows_listed(videos, tiny_model, tmp_path):
    ids = ["video0", "../video1", "a/b", "/etc/passwd", "video3"]
    facts = {
        "videos": [{"video_id": name, "split": "train", "category": 3} for name in ids],
        "sentences": [{"video_id": name, "caption": "a bar moves right"} for name in ids],
    }
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "train_val_videodatainfo.json").write_text(json.dumps(facts))
    shutil.copy(videos / "in" / "bar0.mp4", tmp_path / "in" / "video0.mp4")
    (tmp_path / "in" / "video3.mp4").write_bytes(b"no video")
    recipe = ["msrvtt", "--annotations", str(tmp_path / "in"), "--videos", str(tmp_path / "in"), "--workers", "1"]
    assert encode(tiny_model, tmp_path / "out", *recipe) == 0
    reasons = {row["id"]: row["reason"] for row in lines(tmp_path / "out" / "rejected.jsonl")}
    assert reasons.pop("/etc/passwd").endswith("an absolute path") and reasons.pop("video3").startswith("it is corrupt")
    assert set(reasons) == {"../video1", "a/b"} and all("path separator" in reason for reason in reasons.values())
    (row,) = lines(tmp_path / "out" / "index.jsonl")
    assert row["id"] == "video0" and row["about"]["category"] == 3
    assert encode(tiny_model, tmp_path / "check", *recipe, "--check-only") == 0 and not (tmp_path / "check").exists()


def test_shards_make_the_same_bytes(latents, videos, tiny_model, tmp_path, small_blocks, capsys):
    assert encode(tiny_model, tmp_path / "whole", *recipe_of(videos)) == 0
    capsys.readouterr()
    for shard in ("1", "0"):
        assert encode(tiny_model, tmp_path / "out", "--shard", shard, "--num-shards", "2", *recipe_of(videos)) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("shard 1 of 2 is done; 3 of 6 blocks of other shards are missing")
    assert f"{NUM_CLIPS + 1} clips" in said[1] and "14 refused" in said[1]
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_killed_and_run_again_it_ends_the_same_and_says_what_it_keeps(
    videos, tiny_model, tmp_path, small_blocks, capfd
):
    assert encode(tiny_model, tmp_path / "whole", *recipe_of(videos)) == 0
    for blocks in (0, 1, 3):
        child = children.fork()
        if child == 0:
            left, add = [blocks], cache_writer.CacheWriter.add

            def dying(self, number, block, left=left, add=add):
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                add(self, number, block)

            cache_writer.CacheWriter.add = dying
            os._exit(encode(tiny_model, tmp_path / "out", *recipe_of(videos)))
        assert os.waitpid(child, 0)[1] == signal.SIGKILL and not (tmp_path / "out").exists()
    capfd.readouterr()
    assert encode(tiny_model, tmp_path / "out", *recipe_of(videos)) == 0
    assert "note: 4 of 6 blocks in" in (said := capfd.readouterr().err) and "delete that folder to encode all" in said
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert encode(tiny_model, tmp_path / "out", *recipe_of(videos)) == 0
    assert "out is complete and stays as it is; delete it to encode it again" in capfd.readouterr().err
    assert content(tmp_path / "out") == content(tmp_path / "whole")


# --------------------------------------------------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    "options, told",
    [
        ([], "give either --data FOLDER or"),
        (["--data", "x", "folder", "y"], "give either --data FOLDER or"),
        (
            ["--data", "x", "--shard", "2", "--num-shards", "2"],
            "--shard must be from 0 to --num-shards - 1, not 2 of 2",
        ),
        (["--data", "x", "--max-frames", "0"], "--max-frames must be at least 1, not 0"),
        (["--data", "x"], "the prepared folder x does not exist"),
        (["sprites", "--num-clips", "1"], "there is no recipe 'sprites' for videos; choose from folder, msrvtt"),
        (["folder", "y", "--size-px", "64"], "--size-px is 64, but .* was trained on 32 px; leave it out"),
        (["folder", "y"], "y is not a folder; name the folder that holds the clips"),
        (["--data", "x", "--engine", "datatrove", "--shard", "1", "--num-shards", "2"], "leave --shard out"),
        (["--data", "x", "--engine", "datatrove", "--processes", "0"], "--processes must be at least 1, not 0"),
        (["--data", "x", "--device", "abacus"], "device 'abacus' is not a device"),
    ],
)
def test_mistakes_are_reported_in_a_sentence(tiny_model, tmp_path, capsys, options, told):
    assert encode(tiny_model, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(told, error), error
    assert not list(tmp_path.iterdir())


def test_the_cache_of_another_codec_is_refused(latents, videos, tiny_model, tmp_path, capsys):
    shutil.copytree(latents, tmp_path / "latents")
    shutil.copytree(tiny_model, tmp_path / "other")
    weights = load_file(tmp_path / "other" / "codec.safetensors")
    weights["projection.mix.0.bias"] += 1
    save_file(weights, tmp_path / "other" / "codec.safetensors")
    before = content(tmp_path / "latents")
    assert encode(tmp_path / "other", tmp_path / "latents", *recipe_of(videos)) == 2
    error = capsys.readouterr().err
    ours = json.loads((latents / "manifest.json").read_text())["plan"]["codes"][:16]
    assert f"was made with the codec {ours}, but this is the codec" in error and error.count("\n") == 1
    assert content(tmp_path / "latents") == before


# ------------------------------------------------------------------------------------------- training from nothing else


QUICK = (
    "loss.contrast.text_eye=step",
    "train.eye.num_steps=3",
    "train.diffusion.num_steps=4",
    "train.refine.num_steps=3",
    *(f"train.{stage}.{name}=8" for stage in ("eye", "diffusion", "refine") for name in ("batch_size", "warmup_steps")),
)


def config_of(*changes: str) -> Config:
    return config_file.load(ROOT / "configs" / "tiny.yaml", Config, [*changes, *QUICK])


def of_latents(folder: Path, *changes: str) -> Config:
    return config_of(f"data={{kind: latents, path: {folder}, size_px: 32}}", *changes)


def forbidden(*args, **kwargs):
    raise AssertionError("pixels, CLIP or the decoder were touched")


def test_training_on_latents_touches_no_video_no_clip_and_no_decoder(
    latents,
    prepared,
    tiny_model,
    tmp_path,
    monkeypatch,
):
    """And gives, to the bit, what training on the prepared folder gives."""
    folder = config_of(f"data={{kind: folder, path: {prepared}, size_px: 32}}", f"reuse={tiny_model}")
    training_run.TrainingRun(folder, tmp_path / "by_folder", ["test"]).train()
    copy = shutil.copytree(latents, tmp_path / "moved" / "latents")  # nothing but the cache is in reach
    for kind, name in ((FrozenClip, "__init__"), (Codec, "__init__"), (StoredClips, "__init__")):
        monkeypatch.setattr(kind, name, forbidden)
    run = training_run.TrainingRun(of_latents(copy), tmp_path / "by_latents", ["test"])
    run.train()
    assert not run.can_sample and (run.out / "card.md").is_file() and not (run.out / "samples").exists()
    ours, theirs = (
        load_file(tmp_path / name / "model" / "denoiser.safetensors") for name in ("by_latents", "by_folder")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(UserError, match="the stage codec needs pixels, but .* holds only latents; train it on a"):
        run.train(["diffusion", "codec"])


def with_its_clip(tiny_model: Path, folder: Path) -> Path:
    """A model folder that tells its CLIP, as those of a training run do."""
    shutil.copytree(tiny_model, folder)
    facts = json.loads((folder / "model.json").read_text())
    clip = latent_encoder.open_frame_encoder(folder, torch.device("cpu")).clip.digest
    (folder / "model.json").write_text(json.dumps({**facts, "clip_sha256": clip}))
    return folder


def test_reuse_brings_what_sampling_needs(latents, tiny_model, tmp_path, monkeypatch):
    source = with_its_clip(tiny_model, tmp_path / "source")
    run = training_run.TrainingRun(of_latents(latents, f"reuse={source}"), tmp_path / "run", ["test"])
    with monkeypatch.context() as patch:
        patch.setattr(FrozenClip, "__init__", forbidden)
        run.train(["eye", "diffusion"])
    assert run.can_sample
    pipe = training_run.ImageToVideo.from_pretrained(tmp_path / "run", "cpu")
    video = pipe(np.zeros((32, 32, 3), np.uint8), "the red circle moves right", num_frames=2)
    assert video.frames.shape == (2, 32, 32, 3)


def test_reuse_of_another_codec_is_refused(latents, tiny_model, tmp_path):
    run = training_run.TrainingRun(of_latents(latents, f"reuse={tiny_model}"), tmp_path / "run", ["test"])
    with pytest.raises(UserError, match=r"reuse: the codec of .* \(\w{16}\) is not the one that made .* \(\w{16}\)"):
        run.train()


@pytest.mark.parametrize(
    "changes, told",
    [
        (("data.size_px=64",), "was made of frames of 32 px and data.size_px is 64; make them equal"),
        (
            ("codec.groups=3",),
            "`codec` behind .* differs from this config's .*groups: 2 there, 3 here.*; make them equal",
        ),
    ],
)
def test_a_config_that_does_not_fit_the_latents_is_refused(latents, tmp_path, changes, told):
    with pytest.raises(UserError, match=told):
        training_run.TrainingRun(of_latents(latents, *changes), tmp_path / "run", ["test"])
    assert not (tmp_path / "run").exists()


def test_a_dry_run_describes_the_latents(latents, tmp_path):
    told = dry_run.explain(of_latents(latents))
    cache = CodeCache(latents)
    assert f"({len(CodeCache(latents, 'train'))} clips)" in told and f"{len(cache.codes):,} frames of 32 codes" in told
    assert re.search(r"^  diffusion +4 +8 ", told, re.MULTILINE) and not re.search(r"^  codec +\d", told, re.MULTILINE)
    (note,) = look_at_data(of_latents(tmp_path / "nothing")).notes
    assert note.startswith("the latents are missing: ")


def test_what_needs_pixels_reports_it(latents):
    with pytest.raises(UserError, match="holds latents and no pixels; set data.path to a prepared folder"):
        training_data.open_clips(of_latents(latents), "val")


# ------------------------------------------------------------------------------------------------------------ the engine


def test_tasks_of_datatrove_make_the_same_bytes(latents, videos, tiny_model, tmp_path):
    pytest.importorskip("datatrove", reason="the extra `cluster` is not installed: pip install '.[cluster]'")
    command = [sys.executable, "-m", "data_prep", "encode", "--model", str(tiny_model), "--out", str(tmp_path / "out")]
    command += ["--engine", "datatrove", "--num-shards", "2", "--processes", "2", *recipe_of(videos)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "out") == content(latents)


def test_without_the_engine_the_message_says_how_to_get_it(tiny_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "datatrove", None)
    monkeypatch.setitem(sys.modules, "datatrove.executor", None)
    monkeypatch.delitem(sys.modules, "data_prep.cluster", raising=False)
    assert encode(tiny_model, tmp_path / "out", "--engine", "datatrove", "--data", "x") == 2
    assert "--engine needs datatrove" in capsys.readouterr().err


def test_a_block_holds_its_arrays_whatever_their_strides_are(tmp_path):
    codes = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    arrays = {
        "turned": np.moveaxis(codes, 0, -1),
        "columns": np.asfortranarray(codes),
        "every_second": codes[:, :, ::2],
    }
    (tmp_path / "block.safetensors").write_bytes(cache_blocks.pack(cache_blocks.Block(arrays, [], [])))
    with safe_open(tmp_path / "block.safetensors", "np") as file:
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
