"""Prepared folders of several shapes of frames: each clip in the nearest, and training on all of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import shapes
import torch
from fixtures_model import ROOT, SHORT, write_model
from safetensors.torch import load_file
from video_files import write_clip

from cdcd_video import ImageToVideo
from cdcd_video.config import Config, config_file
from cdcd_video.data.buckets import size_of
from cdcd_video.data.cache import CodeCache
from cdcd_video.data.images import NearestShape
from cdcd_video.data.store import StoredClips
from cdcd_video.errors import UserError, exit_code
from cdcd_video.tools.dry_run import explain
from cdcd_video.training import latent_encoder, training_data
from cdcd_video.training.training_run import TrainingRun
from data_prep.__main__ import main

SIZES = ["32x32", "32x48", "48x32"]


def clip(height: int, width: int) -> np.ndarray:
    """A grey video with a white column at its left edge and a black row at its bottom, so that a cut shows."""
    frames = np.full((12, height, width, 3), 128, np.uint8)
    frames[:, :, : width // 8] = 255
    frames[:, -height // 8 :] = 0
    return frames


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    (root / "in").mkdir()
    for number in range(4):
        for name, size in {"square": (64, 64), "wide": (64, 96), "high": (96, 64), "odd": (64, 90)}.items():
            write_clip(root / "in" / f"{name}{number}.mp4", clip(*size))
            (root / "in" / f"{name}{number}.txt").write_text(f"the {name} clip number {number}")
    options = ["--size-px", "32", "--sizes", *SIZES, "--val-share", "0.4"]
    assert exit_code(lambda: main(["folder", str(root / "in"), "--out", str(root / "out"), *options])) == 0
    return root / "out"


def config(folder: Path, *changes: str) -> Config:
    return config_file.load(
        ROOT / "configs/tiny.yaml",
        Config,
        ["data={kind: folder, path: " + str(folder) + ", size_px: 32, sizes: [32x32, 32x48, 48x32]}", *SHORT, *changes],
    )


def test_each_clip_lies_in_the_nearest_shape(prepared: Path):
    found = {name: StoredClips(prepared / name) for name in SIZES}
    assert {name: len(clips) for name, clips in found.items()} == {"32x32": 4, "32x48": 8, "48x32": 4}
    for name, clips in found.items():
        height, width = map(int, name.split("x"))
        manifest = json.loads((prepared / name / "manifest.json").read_text())
        assert clips.size == (height, width) == size_of(clips) == tuple(manifest["size"]) and manifest["size_px"] == 32
        frames = clips.frames(0, [0])
        assert frames.shape == (1, height, width, 3) and frames[0, height // 4, 0].min() > 200 > frames[0, -1, -1].max()
        assert (prepared / name / "sheet.png").is_file()
    assert NearestShape(((32, 32), (32, 48))).of(100, 125) == (32, 48) and NearestShape(((32, 32), (32, 48))).of(
        9, 8
    ) == (32, 32)


def test_a_run_is_trained_on_all_shapes(prepared: Path, tmp_path: Path):
    short = [f"train.{stage}.num_steps=2" for stage in ("clip", "codec", "decoder", "diffusion", "refine")]
    with shapes.unchecked():
        run = TrainingRun(config(prepared, *short, "num_threads=1"), tmp_path / "run", ["test"])
        assert [size_of(bucket) for bucket in run.clips.buckets] == [(32, 32), (32, 48), (48, 32)]
        run.train()
    assert (run.folder / "denoiser.safetensors").is_file()


def test_config_and_folder_must_agree(prepared: Path):
    with pytest.raises(
        UserError, match="has frames of 32x32, 32x48, 48x32, and data.sizes is 32x32, 32x48; make them equal"
    ):
        training_data.open_clips(config(prepared, "data.sizes=[32x32, 32x48]"), "train")
    with pytest.raises(
        UserError, match="holds a prepared folder for each size of frames .32x32, 32x48, 48x32.; train on all by"
    ):
        training_data.open_clips(config(prepared, "data.sizes=null"), "train")
    with pytest.raises(UserError, match="have 32x48 px, and a config without data.sizes takes squares of 32 px only"):
        training_data.open_clips(config(prepared / "32x48", "data.sizes=null"), "train")
    with pytest.raises(UserError, match="has frames of one size, and data.sizes is"):
        training_data.open_clips(config(prepared / "32x32"), "train")
    assert len(training_data.open_clips(config(prepared / "32x32", "data.sizes=null"), "train")) >= 1


def test_augment_copies_the_clips_of_every_size(prepared: Path, tmp_path: Path, capsys):
    out = tmp_path / "x3"
    assert exit_code(lambda: main(["augment", str(prepared), "--copies", "3", "--out", str(out)])) == 0
    told = capsys.readouterr().out
    for name in SIZES:
        before, after = StoredClips(prepared / name), StoredClips(out / name)
        num_train = sum(row.split == "train" for row in before.rows)
        assert len(after) == len(before) + 2 * num_train and after.size == before.size and f"{out / name}: " in told
        place = next(place for place, row in enumerate(before.rows) if row.split == "train")
        own = {row.id: number for number, row in enumerate(after.rows)}
        frames = before.frames(place, range(before.num_frames(place)))
        assert (after.frames(own[before.name(place)], [0, 1]) == frames[:2]).all()
        assert (after.frames(own[f"{before.name(place)}~1"], range(len(frames))) == frames[:, :, ::-1]).all(), (
            "mirrored"
        )
        moved = after.frames(own[f"{before.name(place)}~2"], [0])
        assert moved.shape == (1, *before.size, 3) and (moved != frames[:1]).any()
    one = tmp_path / "one"
    assert exit_code(lambda: main(["augment", str(prepared / "32x48"), "--copies", "1", "--out", str(one)])) == 0
    assert StoredClips(one).size == (32, 48) and len(StoredClips(one)) == 8
    assert exit_code(lambda: main(["augment", str(prepared), "--out", str(one)])) == 2
    assert f"{one} holds clips of one size; choose another --out for several" in capsys.readouterr().err


def test_join_puts_clips_of_one_size_together(prepared: Path, tmp_path: Path, capsys):
    more, out = tmp_path / "more", tmp_path / "both"
    shutil.copytree(prepared / "32x48", more)
    assert exit_code(lambda: main(["join", str(prepared), str(more), "--out", str(out)])) == 0
    counts = {name: len(StoredClips(out / name)) for name in SIZES}
    assert counts == {"32x32": 4, "32x48": 16, "48x32": 4}
    wide = StoredClips(out / "32x48")
    assert {row.about["set"] for row in wide.rows} == {"out", "more"} and wide.size == (32, 48)
    own = {row.id: number for number, row in enumerate(wide.rows)}
    first = StoredClips(more)
    assert (wide.frames(own[f"more/{first.name(0)}"], [0, 3]) == first.frames(0, [0, 3])).all()
    again = tmp_path / "again"
    assert exit_code(lambda: main(["join", str(more), str(prepared / "32x48"), "--out", str(again)])) == 0
    assert StoredClips(again).size == (32, 48) and len(StoredClips(again)) == 16, "one size stays one folder"
    assert len(training_data.open_clips(config(out), "train")) == sum(
        row.split == "train" for name in SIZES for row in StoredClips(out / name).rows
    )


def test_encoded_clips_of_every_size_train_what_the_clips_train(prepared: Path, tmp_path: Path, capsys):
    sizes = f"sizes: [{', '.join(SIZES)}]"
    data = f"data={{kind: folder, path: {prepared}, size_px: 32, {sizes}}}"
    model, out = write_model(tmp_path / "model", data), tmp_path / "latents"
    how = ["encode", "--model", str(model), "--out", str(out), "--device", "cpu", "--data"]
    with shapes.unchecked():
        assert exit_code(lambda: main([*how, str(prepared)])) == 0
    told = capsys.readouterr().out
    caches = {name: CodeCache(out / name) for name in SIZES}
    assert {name: cache.grid for name, cache in caches.items()} == {"32x32": None, "32x48": (4, 6), "48x32": (6, 4)}
    assert {name: len(cache) for name, cache in caches.items()} == {"32x32": 4, "32x48": 8, "48x32": 4}
    assert f"{out / '48x32'}: 4 clips" in told and "frames of 48 codes" in told
    short = [f"train.{stage}.num_steps=2" for stage in ("diffusion", "refine")]
    more = [*short, f"reuse={with_its_clip(model)}", "num_threads=1"]
    latents = f"data={{kind: latents, path: {out}, size_px: 32, {sizes}}}"
    runs = []
    with shapes.unchecked():
        for name, changes in (("by_folder", more), ("by_latents", [latents, *more])):
            runs.append(TrainingRun(config(prepared, *changes), tmp_path / name, ["test"]))
            runs[-1].train()
        explained = explain(config(prepared, latents, *more))
    ours, theirs = (load_file(run.folder / "denoiser.safetensors") for run in runs)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert "the clips have 3 sizes" in explained and f"({len(runs[1].latents.caches[0])} clips)" in explained
    assert ImageToVideo.from_pretrained(runs[1].out, "cpu").sizes.trained == ((32, 32), (32, 48), (48, 32))
    with pytest.raises(UserError, match="has latents of 32x32, 32x48, 48x32, and data.sizes is null; make them equal"):
        TrainingRun(
            config(prepared, f"data={{kind: latents, path: {out}, size_px: 32}}", *more), tmp_path / "x", ["test"]
        )
    with pytest.raises(
        UserError, match="has latents of one size, and data.sizes is 32x32, 32x48, 48x32; make them equal"
    ):
        one = latents.replace(str(out), str(out / "32x48"))
        TrainingRun(config(prepared, one, *more), tmp_path / "y", ["test"])


def test_encode_refuses_sizes_that_the_codec_does_not_know(prepared: Path, tiny_model: Path, tmp_path: Path, capsys):
    how = ["encode", "--model", str(tiny_model), "--out", str(tmp_path / "out"), "--device", "cpu", "--data"]
    assert exit_code(lambda: main([*how, str(prepared)])) == 2
    told = "has frames of 32x48 px, but"
    assert (
        told in (said := capsys.readouterr().err) and "prepare the clips with --sizes 32x32, or train the codec" in said
    )
    with shapes.unchecked():
        assert exit_code(lambda: main([*how, str(prepared / "32x32")])) == 0
    assert CodeCache(tmp_path / "out").grid is None


def with_its_clip(folder: Path) -> Path:
    """A model folder that tells its CLIP, as those of a training run do."""
    facts = json.loads((folder / "model.json").read_text())
    clip = latent_encoder.open_frame_encoder(folder, torch.device("cpu")).clip.digest
    (folder / "model.json").write_text(json.dumps({**facts, "clip_sha256": clip}))
    return folder


def test_sizes_that_cannot_be_are_refused(prepared: Path, tmp_path: Path, capsys):
    source = str(prepared.parent / "in")
    assert exit_code(lambda: main(["folder", source, "--out", str(tmp_path / "out"), "--sizes", "wide"])) == 2
    assert "--sizes wide: 'wide' is no size; give height x width in px, such as 64x96" in capsys.readouterr().err
    square = str(prepared / "32x32")
    assert exit_code(lambda: main(["folder", source, "--out", square, "--sizes", "32x32"])) == 2
    assert "holds a prepared folder of one size; choose another --out for --sizes" in capsys.readouterr().err


def test_the_same_again_is_the_same_bytes_and_letterbox_keeps_the_odd_ones_whole(
    prepared: Path, tmp_path: Path, capsys
):
    source, options = str(prepared.parent / "in"), ["--size-px", "32", "--sizes", *SIZES, "--val-share", "0.4"]
    assert exit_code(lambda: main(["folder", source, "--out", str(tmp_path / "again"), *options])) == 0
    said = capsys.readouterr().err
    assert "4 of 8 clips are not of the shape 32x48, and 6.2 % of each (the median) was cut off" in said
    for name in SIZES:
        for file in ("clips.jsonl", "frames-00000.npy", "manifest.json"):
            assert (tmp_path / "again" / name / file).read_bytes() == (prepared / name / file).read_bytes()
    boxed = ["--out", str(tmp_path / "boxed"), *options, "--mode", "letterbox"]
    assert exit_code(lambda: main(["folder", source, *boxed])) == 0
    clips = StoredClips(tmp_path / "boxed" / "32x48")
    odd = next(number for number, row in enumerate(clips.rows) if "odd" in row.id)
    assert (clips.frames(odd, [0])[0, :, 0] == 0).all() and clips.frames(odd, [0])[0, 4, 3].min() > 200
