"""Evaluations on frames that are no squares: the judge of sprites, sets, latents, files of other models, and what is said."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapes
from fixtures_model import write_model
from oracle import Oracle
from test_external_videos import table

import evaluate
from cdcd_video import video
from cdcd_video.config import Config, config_file
from cdcd_video.config.value_types import Size
from cdcd_video.data import sprites, sprites_render
from cdcd_video.data.sprites import World
from cdcd_video.data.store_writer import StoreWriter
from cdcd_video.errors import UserError, exit_code
from cdcd_video.evaluation import real_videos
from cdcd_video.metrics import sprites_metrics, suite
from cdcd_video.metrics.dataset_parts import MixedDataset, PartialDataset, same_size
from cdcd_video.metrics.eval_dataset import SceneDataset
from cdcd_video.metrics.protocol import Protocol, SettledProtocol

SIZES = (Size(64, 64), Size(64, 96), Size(96, 64))
TIMES = np.arange(16) / 8
RULE = Protocol(num_videos=9, num_real=6, num_frames=16, fps=8.0, size_px=64)
EACH = ("--size", "32x32", "32x48", "48x32")
WIDE = ("data.sizes=[32x32, 32x48, 48x32]", "denoiser.rotary=true")
SMALL = ("--protocol", Path(__file__).parent.parent / "configs/eval/small.yaml", "--num-frames", 4, "--device", "cpu")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("wide"), *WIDE)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls evaluate.py in this process, in an empty folder. Charts, which are looked at elsewhere, stay empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cdcd_video.evaluation.report.plots.chart", lambda *_: "data:,")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, (*SMALL, *arguments))])
        with shapes.unchecked():
            code = exit_code(evaluate.main)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def lines_of(folder: str) -> list[dict]:
    return [json.loads(line) for line in Path(folder, "scores.jsonl").read_text().splitlines()]


def config_of(model: Path, *changes: str) -> Config:
    return config_file.load(model / "config.yaml", Config, changes)


# ---------------------------------------------------------------------------------------------------------- the judge


def mixed(**settings: object) -> tuple[MixedDataset, list[sprites.Scene]]:
    parts = []
    for place, size in enumerate(SIZES):
        world = World(view=(size.width, size.height))
        scenes = [sprites.sample_scene(3, index, "val", world=world) for index in range(place, 15, 3)]
        parts.append(SceneDataset(scenes[:3], scenes[3:], num_frames=16, fps=8.0, world=world))
    return MixedDataset(parts, SIZES), [scene for part in parts for scene in part.scenes]


def value(found: suite.Evaluation, row: str, metric: str, group: str = "all", frame: int | None = None) -> float | None:
    (score,) = [
        one for one in found.scores if (one.row, one.metric, one.group, one.frame) == (row, metric, group, frame)
    ]
    return score.value


def test_true_videos_of_every_shape_are_right_and_frozen_ones_only_where_nothing_moves():
    dataset, scenes = mixed()
    protocol, metrics = RULE.settled(size=SIZES), ("sprites", "psnr", "motion")
    with shapes.unchecked():
        found = suite.evaluate(Oracle(scenes), dataset, protocol, None, range(9), metrics=metrics, batch_size=5)
    groups = ("all", *(f"size={size}" for size in SIZES))
    for row in ("model", "truth", "codec-ceiling"):
        for group in groups:
            assert value(found, row, "does_right_thing", group) == value(found, row, "all_right", group) == 1
            assert value(found, row, "position_error", group) < 0.1 < 0.98 < value(found, row, "identity_iou", group)
            assert value(found, row, "lost_share", group) == 0 and value(found, row, "background_psnr", group) == 60
        assert value(found, row, "psnr") == 60 and value(found, row, "motion_ratio") == 1
    frozen = {
        one.group: one.value
        for one in found.scores
        if (one.row, one.metric, one.frame) == ("copy-first", "does_right_thing", None)
    }
    motions = {sprite.motion for scene in scenes for sprite in scene.objects}
    assert len(motions) > 4 and {group for group in frozen if group.startswith("motion=")} == {
        f"motion={one}" for one in motions
    }
    assert all(frozen[f"motion={motion}"] == (motion == "stays still") for motion in motions)
    assert value(found, "copy-first", "psnr", frame=15) < 40 and value(found, "copy-first", "motion_ratio") == 0
    shown = [example.videos["truth"].shape[1:3] for example in found.examples[:3]]
    assert shown == list(SIZES), "the first videos are of all shapes, in turn"


def test_sets_of_several_shapes_are_compared(run: Run, wide_model: Path):
    how = ("--checkpoint", wide_model, "--num-videos", 9, "--num-frames", 16, "--no-latents")
    code, out, err = run(*how, "--metrics", "fid", "fvd", "flow_vmd", "--out", "a")
    assert code == 0 and "FVD" in out, err
    lines = {
        (one["metric"], one["row"]): one for one in lines_of("a") if one["frame"] is None and one["window"] is None
    }
    assert lines["fid", "truth"]["n"] == 9 and lines["fid", "truth"]["value"] < lines["fid", "codec-ceiling"]["value"]


def scene_of(motion: str, view: tuple[float, float], x: float) -> sprites.Scene:
    ground = sprites.Background("plain", (0.1, 0.1, 0.1), (0.1, 0.1, 0.1), view=view)
    sprite = sprites.SpriteObject("red", "circle", motion, x, 32.0, 8.0, adverb="quickly")
    return sprites.Scene((sprite,), ground, sprite.phrase, 0, 0, "train")


def test_an_object_that_stops_at_the_true_right_side_is_right_and_one_at_a_squares_side_is_not():
    times = np.arange(33) / 8
    wide, square = scene_of("moves right", (96.0, 64.0), 20.0), scene_of("moves right", (64.0, 64.0), 20.0)
    assert (
        sprites.truth(wide, times).centres[0, -1, 0] == 88.0 and sprites.truth(square, times).centres[0, -1, 0] == 56.0
    )
    true = sprites_render.render(wide, times)
    found = sprites_metrics.score(true, wide, times)
    assert found.all_right and found.position_error_px.max() < 0.1 and found.background_psnr_db.min() == 60
    early = np.concatenate([sprites_render.render(square, times), true[:, :, 64:] * 0 + true[:1, :, 64:]], axis=2)
    stopped = sprites_metrics.score(early, wide, times)
    assert not stopped.all_right and stopped.position_error_px[0, -1] == pytest.approx(32.0, abs=0.1)
    with pytest.raises(UserError, match=r"frames must be uint8 \(F, 64, 96, 3\)"):
        sprites_metrics.score(true[:, :, :64], wide, times)


@pytest.mark.parametrize(("motion", "axis"), [("bounces left and right", 0), ("bounces up and down", 1)])
def test_a_bounce_turns_at_the_true_sides(motion: str, axis: int):
    times, world = np.arange(65) / 8, World(view=(64.0, 96.0), motions=(motion,), max_objects=1, num_frames=65)
    scene = sprites.sample_scene(1, 0, world=world)
    known = sprites.truth(scene, times).centres[0, :, axis]
    turns = np.flatnonzero(np.diff(np.sign(np.diff(known))))
    assert len(turns), "it has met a side"
    right = sprites_metrics.score(sprites_render.render(scene, times), scene, times)
    assert right.all_right and right.position_error_px.max() < 0.2
    straight = np.concatenate([times[: turns[0] + 1], np.full(len(times) - turns[0] - 1, times[turns[0]])])
    frozen = sprites_render.render(scene, straight)
    assert not sprites_metrics.score(frozen, scene, times).all_right, "one that sticks to the side is wrong"


# ------------------------------------------------------------------------------------------------------ the protocol


def test_squares_have_the_hash_that_they_always_had(tmp_path: Path):
    settled = Protocol(num_real=4, fps=8.0, size_px=64, frame_network="inception", video_network="i3d")
    before = "b2905a0bd06f98c42b5871908c61498a911e718c452fcad3e5613f1f16cab403"
    networks = {"frame": "aa", "video": "bb"}
    assert SettledProtocol(settled, networks, "dd").hash == before
    assert "size" not in settled.model_dump() and "\nsize:" not in config_file.dump(settled)
    assert settled.at([Size(64, 64)]) == settled, "the short form of a square"
    wide = settled.settled(size="64x96")
    assert wide.sizes == (Size(64, 96),) and SettledProtocol(wide, networks, "dd").hash != before
    assert "\nsize: 64x96\n" in config_file.dump(wide)
    for size in ("64x96", ["64x64", "64x96"]):
        (tmp_path / "protocol.yaml").write_text(config_file.dump(settled.settled(size=size)))
        assert config_file.load(tmp_path / "protocol.yaml", Protocol) == settled.settled(size=size), "read back"
    for wrong, sentence in {"wide": "give height x width in px, such as 64x96", "64x64 64x64": "named twice"}.items():
        with pytest.raises(ValueError, match=sentence):
            settled.settled(size=wrong.split())
    with pytest.raises(ValueError, match="size is 65x96, and H.264 wants even sides"):
        settled.settled(size="65x96", storage="mp4")


def test_each_size_has_an_equal_part_of_the_videos_and_no_scene_is_in_two(wide_model: Path):
    config = config_of(wide_model)
    asked = Protocol(num_videos=7, num_real=4, num_frames=4, size_px=64)
    assert real_videos.with_sizes(config, asked).sizes == SIZES[:1], "the square of a model that has it"
    no_square = config_of(wide_model, "data.sizes=[32x48, 48x32]")
    assert real_videos.with_sizes(no_square, asked).sizes == SIZES[1:], (
        "those of the model at the scale of the protocol"
    )
    protocol = real_videos.with_sizes(config, asked.settled(size=SIZES))
    dataset, protocol = real_videos.scenes(config, protocol)
    names = [one.name for one in dataset.eval_videos]
    assert (
        names == [f"sprites-0-val-{number:06d}" for number in range(7)]
        and len(set(dataset.other_names) - {*names}) == 4
    )
    assert [dataset.bucket(number) for number in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert same_size(dataset, range(2, 7)) == [[2, 5], [3, 6], [4]]
    for number in range(7):
        size = SIZES[dataset.bucket(number)]
        assert dataset.real_video(number, 64).shape == (4, *size, 3)
        assert dataset.real_video(number, 32).shape == (4, size.height // 2, size.width // 2, 3)
        assert dataset.eval_videos[number].groups[-1] == f"size={size}"
    assert dataset.other(1, 64).shape == (4, 64, 96, 3)
    some = PartialDataset(dataset, [4, 2])
    assert [some.bucket(number) for number in range(2)] == [1, 2] and some.real_video(0, 64).shape == (4, 64, 96, 3)
    one, _ = real_videos.scenes(
        config, real_videos.with_sizes(config, Protocol(num_videos=2, size_px=64, size="64x64"))
    )
    plain, _ = real_videos.scenes(config_of(wide_model, "data.sizes=null"), Protocol(num_videos=2, size_px=64))
    assert one.digest == plain.digest and dataset.digest != plain.digest


def test_mirrored_pairs_have_one_size_each(wide_model: Path):
    config = config_of(wide_model)
    protocol = Protocol(num_videos=8, num_real=3, num_frames=4, size_px=64, size=SIZES, scenes="mirrored_pairs")
    dataset, _ = real_videos.scenes(config, real_videos.with_sizes(config, protocol))
    assert [dataset.bucket(number) for number in range(8)] == [0, 0, 1, 1, 2, 2, 0, 0]
    for first in range(0, 8, 2):
        assert dataset.eval_videos[first].clip == dataset.eval_videos[first + 1].clip
        frames, image = (dataset.real_video(number, 64).astype(int) for number in (first, first + 1))
        assert np.abs(frames[:, :, ::-1] - image).max() <= 1
    assert len({one.clip for one in dataset.eval_videos}) == 4


# ------------------------------------------------------------------------------------------------------- evaluate.py


def test_a_model_of_several_sizes_is_evaluated_on_its_square_or_on_each(run: Run, wide_model: Path):
    code, _, err = run(
        "--checkpoint", wide_model, "--num-videos", 2, "--metrics", "psnr", "--no-latents", "--out", "square"
    )
    assert code == 0 and "of 32x32, 32x48 or 48x32 px, and is evaluated on 32x32 alone" in err, err
    how = (
        "--checkpoint",
        wide_model,
        "--num-videos",
        6,
        "--metrics",
        "sprites",
        "psnr",
        "nll",
        "caption_margin",
        *EACH,
    )
    code, out, err = run(*how, "--vbench", "vbench", "--out", "a")
    assert code == 0, err
    assert "the latent space is studied on frames of 32x32 px alone" in err and "truth" in out
    lines = lines_of("a")
    counts = {
        one["group"]: one["n"]
        for one in lines
        if (one["metric"], one["row"], one["frame"]) == ("psnr", "model", None) and one["group"].startswith("size=")
    }
    assert counts == {"size=32x32": 2, "size=32x48": 2, "size=48x32": 2}
    assert "\nsize: [32x32, 32x48, 48x32]\n" in Path("a/protocol.yaml").read_text()
    report = Path("a/report.md").read_text()
    assert "\n| 32x48 |" in report and "\n| 48x32 |" in report and "purity" in {one["metric"] for one in lines}
    written = sorted(Path("vbench/videos").iterdir())
    sizes = [video_shape(path) for path in written]
    assert sizes == [(32, 32), (32, 48), (48, 32)] * 2
    for batch in (1, 4):
        assert run(*how, "--batch", batch, "--out", f"b{batch}")[0] == 0
        for name in ("scores.jsonl", "per_video.jsonl", "protocol.yaml"):
            assert Path("a", name).read_bytes() == Path(f"b{batch}", name).read_bytes()
    code, out, err = run("--compare", "a", "b1", "--out", "compared")
    assert code == 0 and "paired, same videos, n = 6" in out, err
    assert len(list(Path("compared").glob("*.html"))) == 1


def video_shape(path: Path) -> tuple[int, int]:
    import cv2

    film = cv2.VideoCapture(str(path))
    return int(film.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(film.get(cv2.CAP_PROP_FRAME_WIDTH))


def test_one_size_of_several_and_a_model_of_one_rectangle(run: Run, wide_model: Path, tmp_path: Path):
    how = ("--num-videos", 3, "--metrics", "sprites", "psnr")
    code, _, err = run("--checkpoint", wide_model, *how, "--size", "32x48", "--out", "one")
    assert code == 0 and "trained on frames of 32x32, 32x48 or 48x32 px, and is evaluated on 32x48 alone" in err
    assert "latent space" not in err and "curvature" in {one["metric"] for one in lines_of("one")}
    assert not any(one["group"].startswith("size=") for one in lines_of("one"))
    assert "\nsize: 32x48\n" in Path("one/protocol.yaml").read_text()
    narrow = write_model(tmp_path / "narrow", "data.sizes=[32x48]", "denoiser.rotary=true")
    code, _, err = run("--checkpoint", narrow, *how, "--out", "only")
    assert code == 0 and "note: the model was trained on frames" not in err, err
    assert lines_of("only")[0]["protocol"] == lines_of("one")[0]["protocol"]
    code, _, err = run("--checkpoint", wide_model, *how, "--size", "32x40", "--no-latents", "--out", "new")
    assert code == 0 and "and not on 32x40: its videos of this shape may break down" in err
    code, _, err = run(
        "--checkpoint", wide_model, *how, "--size", "64x96", "--size-px", 64, "--no-latents", "--out", "large"
    )
    assert code == 0 and "psnr" in {one["metric"] for one in lines_of("large")}, err


def test_frames_between_two_given_ones_have_the_size_of_both(run: Run, tmp_path: Path):
    model = write_model(tmp_path / "between", *WIDE, "diffusion.last_share=0.5")
    how = ("--checkpoint", model, "--num-videos", 3, "--metrics", "inbetween", "--no-latents")
    code, _, err = run(*how, "--size", "64x96", "96x64", "--size-px", 64, "--out", "a")
    assert code == 0, err
    found = {(one["row"], one["group"]): one for one in lines_of("a") if one["metric"] == "between_psnr"}
    for row in ("model", "copy-first", "oracle-cross-fade"):
        assert (found[row, "size=64x96"]["n"], found[row, "size=96x64"]["n"]) == (2, 1)


def test_what_cannot_be_says_the_way_out(run: Run, wide_model: Path, tiny_model: Path):
    for arguments, sentence in {
        ("--size", "wide"): "--size is wide: 'wide' is no size; give height x width in px, such as 64x96",
        (
            "--size",
            "32x36",
        ): "it would be evaluated on frames of 32x36 px, which it cannot draw; set --size-px 32 --size 32x32",
        ("--num-videos", 2, *EACH): "2 videos cannot have 3 sizes; raise --num-videos, or name one, as in --size 32x32",
        (
            "--num-videos",
            4,
            "--scenes",
            "mirrored_pairs",
            *EACH,
        ): "2 mirrored pairs cannot have 3 sizes; raise --num-videos",
        (
            "--size-px",
            33,
        ): "would have no whole number of pixels at that of 33 px; set --size-px 32",
        (
            "--data",
            "digits",
            "--size",
            "64x96",
        ): "digits are squares by their published protocols, and size is 64x96; leave",
    }.items():
        code, _, err = run("--checkpoint", wide_model, "--metrics", "psnr", *arguments)
        assert code == 2 and sentence in err, err
    code, _, err = run("--checkpoint", tiny_model, "--metrics", "psnr", "--size", "32x48")
    assert code == 2 and "was trained on frames of 32x32 px, and it would be evaluated on frames of 32x48 px" in err


# ---------------------------------------------------------------------------------------------- files of other models


def put_scenes(folder: Path, model: Path, protocol: Protocol, drawn: Callable[[np.ndarray], np.ndarray]) -> None:
    config, rows = config_of(model), []
    dataset, protocol = real_videos.scenes(config, real_videos.with_sizes(config, protocol))
    for place, eval_video in enumerate(dataset.eval_videos):
        file = video.save(drawn(dataset.real_video(place, protocol.size_px)), folder / f"{eval_video.name}.mp4", 8.0)
        rows.append({"file": file.name, "prompt": dataset.captions["model"][place]})
    table(folder, rows, "prompts.tsv")


def test_files_of_every_shape_are_measured_beside_the_scenes_of_their_names(run: Run, wide_model: Path):
    protocol = Protocol(num_videos=6, num_real=6, num_frames=16, fps=8.0, size_px=64, size=SIZES)
    put_scenes(Path("true"), wide_model, protocol, lambda frames: frames)
    put_scenes(Path("still"), wide_model, protocol, lambda frames: frames[:1].repeat(16, axis=0))
    how = ("--checkpoint", wide_model, "--num-videos", 6, "--num-frames", 16, "--size-px", 64, "--storage", "mp4")
    for name in ("true", "still"):
        each = ("--size", *map(str, SIZES), "--videos", name, "--out", f"e/{name}")
        code, _, err = run(*how, "--metrics", "sprites", "psnr", "motion", "fvd", *each)
        assert code == 0 and "another shape" not in err, err
    found = {
        name: {
            (one["metric"], one["group"]): one["value"]
            for one in lines_of(f"e/{name}")
            if one["row"] == "model" and one["frame"] is None and one["window"] is None
        }
        for name in ("true", "still")
    }
    for group in ("all", "size=64x64", "size=64x96", "size=96x64"):
        assert found["true"]["does_right_thing", group] == 1 and found["true"]["psnr", group] > 30
    assert found["still"]["motion_ratio", "all"] < 0.05 < 0.9 < found["true"]["motion_ratio", "all"]
    code, _, err = run(*how, "--metrics", "psnr", "--videos", "true", "--size", "64x96", "--out", "e/one")
    told = (
        "4 of 6 videos are of another shape than 64x96, and their edges are cut off; --mode letterbox keeps all of them"
    )
    assert code == 0 and told in err, err
    code, _, err = run(*how, "--metrics", "psnr", "--videos", "true", "--data", "table")
    assert code == 2 and "psnr needs the true video of each" in err


def test_tables_with_truths_of_their_own_are_brought_to_the_named_shape(run: Run):
    rows = []
    for number in range(3):
        frames = np.zeros((16, 64, 128, 3), np.uint8)
        frames[..., 16:112, :] = (10 * np.arange(16, dtype=np.uint8) + 20 * number)[:, None, None, None]
        for name in ("drawn", "true"):
            video.save(frames, Path("theirs", f"{name}{number}.webp"), 8.0)
        rows.append({"file": f"drawn{number}.webp", "prompt": f"video {number}", "truth": f"true{number}.webp"})
    table(Path("theirs"), rows, "prompts.csv")
    how = ("--videos", "theirs", "--metrics", "psnr", "motion", "--num-frames", 16, "--vbench", "kept")
    code, _, err = run(*how, "--size", "32x48", "--out", "a")
    assert code == 0 and "3 of 3 videos are of another shape than 32x48, and their edges are cut off" in err, err
    assert {one["value"] for one in lines_of("a") if (one["metric"], one["row"]) == ("psnr", "model")} >= {60.0}
    assert video_shape(Path("kept/videos/000000.mp4")) == (32, 48)
    code, _, err = run(*how[:-2], "--size", "32x48", "48x32", "--data", "table")
    assert (
        code == 2
        and "without scenes or clips of their names are evaluated at one size, and there are 2; name one, as in --size 32x48"
        in err
    )
    code, _, err = run(*how[:-2], "--size", "32x48", "48x32")
    assert code == 2 and "name one, as in --size" in err


# ------------------------------------------------------------------------------------------------- folders of clips


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Clips of the world in three shapes, as `data_prep folder --sizes` lays them out; those of 48x32 are for training only."""
    root = tmp_path_factory.mktemp("clips")
    for size in (Size(32, 32), Size(32, 48), Size(48, 32)):
        world = World(view=(2 * size.width, 2 * size.height))
        how = {"size_px": 32, "fps": 8.0, "mode": "crop", "recipe": {}, "size": size}
        with StoreWriter(root / str(size), **how) as writer:
            for number in range(8):
                scene = sprites.sample_scene(5, number, "val", world=world)
                split = "train" if size.height > 32 or number > 5 else "val"
                facts = dict(source_width=size.width, source_height=size.height, source_fps=8.0)
                frames = sprites_render.render(scene, np.arange(6) / 8, 32)
                writer.add(f"{size}-{number}", frames, (scene.caption,), split, **facts)
            writer.finish()
    return root


def test_a_folder_of_several_sizes_is_evaluated_on_each_that_has_clips(run: Run, wide_model: Path, folder: Path):
    how = ("--checkpoint", wide_model, "--data", folder, "--num-videos", 4, "--num-real", 4)
    code, _, err = run(*how, "--metrics", "psnr", "fid", "--out", "a")
    assert code == 0, err
    assert "\nsize: [32x32, 32x48]\n" in Path("a/protocol.yaml").read_text() and "studied on frames of 32x32" in err
    counts = {
        one["group"]: one["n"]
        for one in lines_of("a")
        if (one["metric"], one["row"], one["frame"]) == ("psnr", "truth", None)
    }
    assert counts["size=32x32"] == counts["size=32x48"] == 2 and counts["all"] == 4
    code, _, err = run(*how, "--metrics", "psnr", "--size", "32x48", "--out", "b")
    assert code == 0 and "\nsize: 32x48\n" in Path("b/protocol.yaml").read_text(), err
    named = ("--checkpoint", wide_model, "--num-videos", 3, "--metrics", "psnr")
    code, _, err = run(*named, "--data", folder / "32x48", "--out", "c")
    assert code == 0 and "\nsize: 32x48\n" in Path("c/protocol.yaml").read_text(), err
    code, _, err = run(*how, "--metrics", "psnr", "--size", "48x32")
    assert code == 2 and "has no clips of 48x32 px in the split 'val'; choose from --size 32x32 32x48" in err
    code, _, err = run(*how, "--metrics", "psnr", "--size-px", 64)
    assert code == 2 and "are 32 px, but the protocol says 64 px; set --size-px 32" in err
