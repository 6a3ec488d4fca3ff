"""Videos of other people's models: every kind of file gives the frames that were saved, what does not fit is refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cdcd_video import video
from cdcd_video.data.external_video import read_video
from cdcd_video.data.prompt_table import read_entries
from cdcd_video.data.sprites import World
from cdcd_video.errors import UserError
from cdcd_video.metrics import external_videos, suite
from cdcd_video.metrics.eval_dataset import ClipDataset, SceneDataset, choose_scenes
from cdcd_video.metrics.external_videos import ExternalDataset, ExternalTruths, ExternalVideos
from cdcd_video.metrics.protocol import Protocol

RULE = Protocol(num_videos=3, num_real=3, num_frames=16, fps=8, size_px=64)


def flat(num_frames: int = 16, height: int = 32, width: int = 40) -> np.ndarray:
    """Frames of one colour each, all different, so that no codec can take one for another."""
    levels = (np.arange(num_frames) * 15 % 250)[:, None, None, None]
    return np.broadcast_to(levels, (num_frames, height, width, 3)).astype(np.uint8)


def save(path: Path, frames: np.ndarray, fps: float = 8) -> Path:
    return video.save(frames, path, fps)


# --------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(("kind", "slack"), [("mp4", 4), ("gif", 4), ("webp", 0), ("", 0)])
def test_what_was_saved_is_read(tmp_path, kind, slack):
    file = save(tmp_path / (f"x.{kind}" if kind else "x"), flat())
    frames = read_video(file, 16, 8)
    assert frames.shape == (16, 32, 32, 3) and frames.dtype == np.uint8
    assert np.abs(frames.astype(int) - flat(width=32)).max() <= slack


@pytest.mark.sweep
@pytest.mark.parametrize("kind", ["mp4", "gif", "webp"])
@pytest.mark.parametrize(("drawn", "wanted", "every"), [(24, 8, 3), (16, 8, 2), (30, 10, 3), (8, 8, 1), (25, 5, 5)])
def test_a_multiple_of_the_rate_loses_the_frames_between(tmp_path, kind, drawn, wanted, every):
    file = save(tmp_path / f"x.{kind}", flat(26), drawn)
    frames = read_video(file, 5, wanted)
    levels = frames.mean(axis=(1, 2, 3))  # gifs mix nearby greys
    assert levels == pytest.approx(flat(26)[: 5 * every : every, 0, 0, 0], abs=5)


def test_a_folder_has_the_rate_that_is_given(tmp_path):
    file = save(tmp_path / "x", flat())
    np.testing.assert_array_equal(read_video(file, 4, 8, sampled_fps=24), flat(width=32)[:12:3])
    for old in sorted(file.iterdir()):
        old.rename(file / f"{int(old.stem[-5:]) + 3}.png")
    for name in ("notes.txt", "Thumbs.db", ".DS_Store", "._10.png", ".hidden.png"):
        (file / name).write_text("not an image")
    assert read_video(file, 16, 8)[:, 0, 0, 0].tolist() == flat()[:, 0, 0, 0].tolist(), "9 comes before 10"


def doubled(folder: Path) -> None:
    (folder / "frame-00003.jpg").write_bytes((folder / "frame-00003.png").read_bytes())


def doubled_without_zeros(folder: Path) -> None:
    (folder / "frame-7.png").write_bytes((folder / "frame-00007.png").read_bytes())


def linked(folder: Path) -> None:
    (folder / "frame-00002.png").replace(folder.parent / "outside.png")
    (folder / "frame-00002.png").symlink_to(folder.parent / "outside.png")


def piped(folder: Path) -> None:
    (folder / "frame-00002.png").unlink()
    os.mkfifo(folder / "frame-00002.png")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (doubled, "frame 3 exists twice, as frame-00003.jpg and frame-00003.png"),
        (doubled_without_zeros, "frame 7 exists twice"),
        (lambda folder: (folder / "frame-00007.png").unlink(), "frame 7 is missing, frame-00006.png is followed by"),
        (
            lambda folder: save(folder / "preview", flat(1)).joinpath("frame-00000.png").rename(folder / "sheet.png"),
            "sheet",
        ),
        (
            lambda folder: Image.new("RGB", (40, 30)).save(folder / "frame-00005.png"),
            "40 x 30 and frame-00000.png is 40 x 32",
        ),
        (lambda folder: (folder / "frame-00005.png").rename(folder / "frame-00005-2.png"), "several kinds"),
        (linked, "points outside the folder"),
        (piped, "is a named pipe"),
    ],
)
def test_a_folder_that_is_no_plain_run_of_frames_is_refused(tmp_path, harm, words):
    folder = save(tmp_path / "x", flat())
    harm(folder)
    with pytest.raises(UserError, match=words):
        read_video(folder, 16, 8)


def test_frames_may_be_numbered_by_any_even_step_and_beside_other_numbers(tmp_path):
    folder = save(tmp_path / "x", flat())
    for place, old in enumerate(sorted(folder.iterdir())):
        old.rename(folder / f"clip7_{4 * place + 1:03d}_of_61.png")
    assert read_video(folder, 16, 8)[:, 0, 0, 0].tolist() == flat()[:, 0, 0, 0].tolist()
    for place, old in enumerate(sorted(folder.iterdir())):
        old.rename(folder / f"{place // 4}_{place % 4}.png")
    with pytest.raises(UserError, match="more than one number varies"):
        read_video(folder, 16, 8)


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_held_frames_are_frames(tmp_path, kind):
    """Formats that keep a still stretch as one long frame."""
    held = flat()
    held[5:12] = held[5]
    assert np.abs(read_video(save(tmp_path / f"x.{kind}", held), 16, 8).astype(int) - held[:, :, :32]).max() <= 4
    still = np.repeat(held[:1], 16, axis=0)
    file = save(tmp_path / f"y.{kind}", still)
    if kind == "gif":
        np.testing.assert_array_equal(read_video(file, 16, 8), still[:, :, :32])
    else:  # webp forgets how long its only picture was shown
        with pytest.raises(UserError, match="a single image, not a video"):
            read_video(file, 16, 8)


@pytest.mark.parametrize("kind", ["mp4", "gif", "webp"])
def test_rates_that_do_not_divide_are_refused(tmp_path, kind):
    file = save(tmp_path / f"x.{kind}", flat(), 10)
    with pytest.raises(UserError, match=r"x\.\w+ has 10\S* frames per second, not a multiple of the protocol's 8"):
        read_video(file, 4, 8)
    with pytest.raises(UserError, match="not a multiple of the protocol's 16"):
        read_video(file, 4, 16)
    assert len(read_video(file, 16, 8, sampled_fps=8)) == 16, "the table knows better"


@pytest.mark.parametrize("kind", ["mp4", "gif", "webp", ""])
def test_too_short_is_refused(tmp_path, kind):
    file = save(tmp_path / (f"x.{kind}" if kind else "x"), flat(9))
    with pytest.raises(UserError, match="too short: [59] frames at 8 per second, but the protocol needs 16|truncated"):
        read_video(file, 16, 8, sampled_fps=8 if kind else 16)


def test_broken_files_are_refused(tmp_path):
    for name, content in (("x.mp4", b""), ("y.mp4", b"no video"), ("z.webp", b"RIFFxxxxWEBP"), ("w.gif", b"GIF89a")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            read_video(tmp_path / name, 4, 8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="contains no images"):
        read_video(tmp_path / "empty", 4, 8)


def test_wide_videos_are_cropped_or_boxed(tmp_path):
    wide = np.zeros((4, 20, 40, 3), dtype=np.uint8)
    wide[:, :, 10:30] = 200
    file = save(tmp_path / "x", wide)
    assert (read_video(file, 4, 8) == 200).all()
    boxed = read_video(file, 4, 8, "letterbox")
    assert boxed.shape == (4, 40, 40, 3) and (boxed[:, :10] == 0).all() and (boxed[:, 10:30, 10:30] == 200).all()


# -------------------------------------------------------------------------------------------------------- the table


def table(folder: Path, rows: list[dict], name: str = "prompts.jsonl") -> Path:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        mark = "\t" if name.endswith(".tsv") else ","
        columns = list(dict.fromkeys(column for row in rows for column in row))
        lines = [mark.join(columns), *(mark.join(str(row.get(column, "")) for column in columns) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("name", ["p.tsv", "p.csv", "p.jsonl"])
def test_the_table(tmp_path, name):
    videos = tmp_path / "videos"
    save(videos / "a.mp4", flat())
    save(videos / "b", flat())
    save(tmp_path / "true.mp4", flat())
    rows = [{"file": "a.mp4", "prompt": "one", "truth": "true.mp4", "fps": 24}, {"file": "b", "prompt": "two"}]
    first, second = read_entries(videos, table(tmp_path, rows, name))
    assert (first.name, first.prompt, first.fps, first.truth) == ("a", "one", 24.0, tmp_path / "true.mp4")
    assert (second.name, second.prompt, second.fps, second.truth) == ("b", "two", None, None)


def test_a_sentence_keeps_its_commas(tmp_path):
    save(tmp_path / "a.mp4", flat())
    (tmp_path / "p.csv").write_text("file,prompt\na.mp4,the red box, slowly, moves right\n")
    (entry,) = read_entries(tmp_path, tmp_path / "p.csv")
    assert entry.prompt == "the red box, slowly, moves right"
    (tmp_path / "p.csv").write_text("file,prompt,fps\na.mp4,the red box, slowly,8\n")
    with pytest.raises(UserError, match="p.csv, line 2: it has 4 fields"):
        read_entries(tmp_path, tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"file": "../secret.mp4", "prompt": "x"}, "leaves"),
        ({"file": "/etc/passwd", "prompt": "x"}, "leaves"),
        ({"file": "link.mp4", "prompt": "x"}, "leaves"),
        ({"file": ".", "prompt": "x"}, "leaves"),
        ({"file": "a\0.mp4", "prompt": "x"}, "cannot be used"),
        ({"file": "a.mp4", "prompt": "x", "truth": "../../etc/passwd"}, "leaves"),
        ({"file": "a.mp4", "prompt": "x", "fps": "fast"}, "fps is 'fast'"),
        ({"file": "a.mp4", "prompt": "x", "fps": -1}, "fps is -1"),
        ({"file": "a.mp4"}, "has no prompt"),
        ({"file": "a.mp4", "prompt": ["x"]}, 'prompt is \\["x"\\]; it must be text'),
    ],
)
def test_paths_are_data(tmp_path, row, words):
    videos = tmp_path / "videos"
    save(videos / "a.mp4", flat())
    save(tmp_path / "secret.mp4", flat())
    (videos / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    with pytest.raises(UserError, match=words):
        read_entries(videos, table(tmp_path, [row]))


def test_tables_that_are_none(tmp_path):
    save(tmp_path / "a.mp4", flat())
    save(tmp_path / "a.gif", flat())
    with pytest.raises(UserError, match="another video is also called a"):
        read_entries(tmp_path, table(tmp_path, [{"file": f"a.{kind}", "prompt": "x"} for kind in ("mp4", "gif")]))
    with pytest.raises(UserError, match="lists no videos"):
        read_entries(tmp_path, table(tmp_path, []))
    with pytest.raises(UserError, match="there is no folder"):
        read_entries(tmp_path / "nothing", tmp_path / "prompts.jsonl")


# ------------------------------------------------------------------------------------------- in place of a model


@pytest.fixture(scope="module")
def scenes() -> SceneDataset:
    chosen, world = choose_scenes(3, 6, "val", World(), 16, 8.0)
    return SceneDataset(chosen[:3], chosen[3:], num_frames=16, fps=8.0, world=world)


@pytest.fixture(scope="module")
def drawn(scenes, tmp_path_factory) -> ExternalVideos:
    """What a perfect model would have drawn, at 16 frames per second and 128 px, in files of three kinds, in disorder."""
    folder, rows = tmp_path_factory.mktemp("foreign"), []
    twice, _ = choose_scenes(3, 3, "val", scenes_world(scenes), 31, 16.0)
    for place, suffix in ((2, ".webp"), (0, ""), (1, ".webp")):
        large = SceneDataset(twice, num_frames=31, fps=16.0).real_video(place, 128)
        name = scenes.eval_videos[place].name
        save(folder / f"{name}{suffix}", large, 16)
        save(folder / f"true-{name}", scenes.real_video(place, 64), 8)
        row = {"file": f"{name}{suffix}", "prompt": scenes.captions["model"][place], "truth": f"true-{name}"}
        rows.append(row | ({} if suffix else {"fps": 16}))
    return ExternalVideos(read_entries(folder, table(folder, rows, "p.tsv")), RULE)


def scenes_world(dataset: SceneDataset) -> World:
    return World(num_frames=16, fps=8.0)


METRICS = ("sprites", "psnr", "motion", "colour_drift")


def scored(pipe, dataset, metrics=METRICS, systems=external_videos.SYSTEMS, batch_size=2) -> dict:
    seeds = range(100, 100 + len(dataset.eval_videos))
    found = suite.evaluate(pipe, dataset, RULE, None, seeds, metrics=metrics, systems=systems, batch_size=batch_size)
    return {(s.row, s.metric): s.value for s in found.scores if s.group == "all" and s.frame is None}


def test_files_are_scored_as_samples_are(scenes, drawn):
    videos = drawn.named([eval_video.name for eval_video in scenes.eval_videos])
    found = scored(videos.video_model(range(100, 103)), scenes)
    assert found["model", "does_right_thing"] == found["truth", "does_right_thing"] == 1
    assert found["model", "position_error"] < 0.2
    assert found["model", "psnr"] > 30, "only the renderer's antialiasing differs"
    assert found["model", "motion_ratio"] == pytest.approx(1, abs=0.1)
    assert found["copy-first", "motion_ratio"] == 0
    assert not {row for row, _ in found} & {"codec-ceiling", "counterfactual"}
    assert found == scored(videos.video_model(range(100, 103)), scenes, batch_size=3)


def test_with_the_tables_own_truths(drawn):
    truths = drawn.truths()
    dataset = ClipDataset(truths, 3, 0, num_frames=16, size_px=64)
    found = scored(drawn.video_model(range(100, 103)), dataset, ("psnr", "motion"))
    assert found["model", "psnr"] > 30 and found["truth", "psnr"] == 60
    assert truths.digest() != drawn.digest() and truths.captions(0) == (drawn.entries[0].prompt,)


def test_with_no_truth_at_all(drawn):
    metrics = ("flow", "flicker", "colour_drift")
    dataset = ExternalDataset(drawn, None, 0, metrics)
    found = scored(drawn.video_model(range(100, 103)), dataset, metrics, external_videos.SYSTEMS_WITHOUT_TRUTH)
    assert found["model", "flow"] > 0 and found["copy-first", "flow"] == pytest.approx(0, abs=1e-3)
    np.testing.assert_array_equal(dataset.real_video(0, 64)[3], drawn.frames(0)[0])
    with pytest.raises(UserError, match="psnr needs the true video"):
        ExternalDataset(drawn, None, 0, ("flow", "psnr"))
    with pytest.raises(UserError, match="compares with real videos"):
        suite.check(ExternalDataset(drawn, None, 0, ("fid",)), RULE, ("fid",))
    others = ExternalDataset(drawn, drawn.truths(), 2, ("fid",))
    assert others.num_others == 2 and others.other(1, 64).shape == (16, 64, 64, 3)


def test_a_given_image_is_what_it_was_sampled_from(drawn, tmp_path):
    save(tmp_path / "a", flat(16, 64, 64))
    rows = [{"file": "a", "prompt": "x", "frame": "a/frame-00003.png"}]
    videos = ExternalVideos(read_entries(tmp_path, table(tmp_path, rows)), RULE)
    assert (ExternalDataset(videos, None, 0, ()).real_video(0, 64) == 45).all()


def test_only_what_was_sampled_is_measured(scenes, drawn):
    videos = drawn.named([eval_video.name for eval_video in scenes.eval_videos])
    video_model = videos.video_model([7, 8, 9])
    starts, captions = np.zeros((2, 64, 64, 3), np.uint8), [scenes.captions["model"][place] for place in (2, 0)]
    np.testing.assert_array_equal(video_model.sample(starts, captions, None, [9, 7])[1], videos.frames(0))
    with pytest.raises(UserError, match="was sampled from"):
        video_model.sample(starts, captions, None, [7, 9])
    with pytest.raises(UserError, match="1 of 2 videos are missing, the first is sprites-x"):
        drawn.named([scenes.eval_videos[0].name, "sprites-x"])
    with pytest.raises(UserError, match="has no true video"):
        ExternalTruths([entry.__class__(entry.name, entry.file, entry.prompt) for entry in drawn.entries], RULE)


def test_the_digest_depends_on_the_videos(drawn):
    again = ExternalVideos(drawn.entries, RULE)
    assert again.digest() == drawn.digest()
    assert ExternalVideos(drawn.entries[::-1], RULE).digest() != drawn.digest()
