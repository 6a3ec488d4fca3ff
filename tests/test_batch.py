"""Many videos at once: the bits of single calls, what evaluate and rate read, a kill, and rows that cannot be used."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import children
import numpy as np
import pytest
from PIL import Image
from test_external_videos import flat, save, table
from test_inference import Run, refused, run  # noqa: F401

import evaluate
import inference
from cdcd_video.batch import batch_rows, seed_grid
from cdcd_video.config.shipped_files import shipped_folder
from cdcd_video.data import prompt_table
from cdcd_video.data.clips import read_clip
from cdcd_video.errors import exit_code
from cdcd_video.rate.prepare import make
from cdcd_video.rate.study import Recipe

SIZE = 32  # of the tiny model's frames
SHORT = ("--num-frames", 3)


def picture(path: Path, seed: int) -> Path:
    rng = np.random.Generator(np.random.Philox(key=seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """A table of three rows, in a folder of its own."""
    folder = tmp_path / "given"
    for seed in (1, 2):
        picture(folder / f"{seed}.png", seed)
    rows = [
        {"file": "first.mp4", "prompt": "the red circle moves right", "frame": "1.png"},
        {"file": "second.gif", "prompt": "8: the circle spins, slowly", "frame": "2.png"},
        {"file": "third.avi", "prompt": "the blue square stays still", "frame": "1.png"},
    ]
    table(folder, rows, "prompts.tsv")
    return folder / "prompts.tsv"


def files_in(folder: str | Path) -> dict[str, bytes]:
    root = Path(folder)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# -------------------------------------------------------------------------------------------------------- what it writes


def test_the_bits_are_those_of_single_calls(run: Run, prompts: Path):  # noqa: F811
    code, out, err = run("--prompts", prompts, "--num-seeds", 2, "--seed", 5, *SHORT, "--out", "many")
    assert code == 0, err
    names = [f"{name}-seed-{seed}" for name in ("first", "second", "third") for seed in (5, 6)]
    suffixes = {"first": ".mp4", "second": ".gif", "third": ".mp4"}
    assert {Path(line).stem for line in out.split()} == {*names, "prompts"}
    captions = {"first": "the red circle moves right", "second": "0: 8: the circle spins, slowly"}
    for name, frame in (("first", "1.png"), ("second", "2.png")):
        for seed in (5, 6):
            single = Path(f"one/{name}-seed-{seed}{suffixes[name]}")
            how = ("--frame", prompts.parent / frame, "--text", captions[name], "--seed", seed, *SHORT)
            assert run(*how, "--out", single)[0] == 0
            assert single.read_bytes() == Path("many", single.name).read_bytes()
            assert (
                single.with_suffix(".json").read_bytes() == Path("many", single.name).with_suffix(".json").read_bytes()
            )
    assert Path("many/third-seed-5.mp4").read_bytes() != Path("many/third-seed-6.mp4").read_bytes()


def test_one_seed_keeps_the_names_of_the_table(run: Run, prompts: Path):  # noqa: F811
    assert run("--prompts", prompts, *SHORT, "--out", "many")[0] == 0
    found = files_in("many")
    assert set(found) == {
        *("first.mp4", "first.json", "second.gif", "second.json", "third.mp4", "third.json", "prompts.jsonl"),
        *(f"frames/{name}.png" for name in ("first", "second", "third")),
    }
    lines = [json.loads(line) for line in found["prompts.jsonl"].splitlines()]
    assert [(line["file"], line["prompt"], line["frame"]) for line in lines] == [
        ("first.mp4", "the red circle moves right", "frames/first.png"),
        ("second.gif", "8: the circle spins, slowly", "frames/second.png"),
        ("third.mp4", "the blue square stays still", "frames/third.png"),
    ]
    with Image.open("many/frames/second.png") as start, Image.open(prompts.parent / "2.png") as given:
        assert (np.asarray(start) == np.asarray(given)).all()


def test_one_image_and_caption_with_several_seeds(run: Run, tmp_path: Path):  # noqa: F811
    frame = picture(tmp_path / "frame.png", 3)
    texts = ("--text", "the red circle spins", "--text", "2: the red circle stays still")
    code, _, err = run("--frame", frame, *texts, "--num-seeds", 2, *SHORT)
    assert code == 0, err
    assert {"frame-seed-0.mp4", "frame-seed-1.mp4"} <= set(files_in("out/frame"))
    (line, _) = map(json.loads, Path("out/frame/prompts.jsonl").read_text().splitlines())
    assert line["prompt"] == "the red circle spins, then the red circle stays still"


def test_a_frame_may_be_the_name_of_an_example_as_in_a_single_call(run: Run, tmp_path: Path):  # noqa: F811
    sentence, folder = "the red circle moves right", tmp_path / "given"
    folder.mkdir()
    rows = [{"file": "a.webp", "prompt": sentence, "frame": "red-circle"}]
    rows += [{"file": "b.webp", "prompt": sentence, "frame": "square-and-star"}]
    table(folder, rows, "prompts.csv")
    code, _, err = run("--prompts", folder / "prompts.csv", *SHORT, "--out", "many")
    assert code == 0, err
    for name, frame in (("a", "red-circle"), ("b", "square-and-star")):
        assert run("--frame", frame, "--text", sentence, *SHORT, "--out", f"one/{name}.webp")[0] == 0
        for suffix in (".webp", ".json"):
            assert Path(f"one/{name}{suffix}").read_bytes() == Path(f"many/{name}{suffix}").read_bytes()
    table(folder, [{"file": "a.webp", "prompt": sentence}], "without.jsonl")
    assert run("--prompts", folder / "without.jsonl", "--frame", "red-circle", *SHORT, "--out", "for-all")[0] == 0
    assert run("--frame", "red-circle", "--text", sentence, "--grid", "grid.png", *SHORT, "--out", "single")[0] == 0
    expected = read_clip("many/a.webp", size_px=SIZE).frames
    assert (read_clip("for-all/a.webp", size_px=SIZE).frames == expected).all()
    assert "red-circle.mp4" in files_in("single")


def test_a_file_wins_over_the_name_of_an_example(tmp_path: Path):
    picture(tmp_path / "red-circle.png", 1).rename(tmp_path / "red-circle")
    rows = [
        {"file": name, "prompt": "it grows", "frame": frame}
        for name, frame in (("a", "red-circle"), ("b", "white-triangle"))
    ]
    table(tmp_path, rows, "p.jsonl")
    (tmp_path / "white-triangle").mkdir()
    first, second = prompt_table.read_entries(tmp_path, tmp_path / "p.jsonl")
    assert first.frame == tmp_path / "red-circle"
    assert second.frame == shipped_folder("examples") / "white-triangle.png"


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ("red-circel", 'there is no example "red-circel"; did you mean red-circle?'),
        ("examples/red-circle.png", "the one that comes with the project is called red-circle"),
        ("../red-circle", "leaves"),
    ],
)
def test_names_of_no_example_are_refused(run: Run, tmp_path: Path, frame: str, words: str):  # noqa: F811
    (tmp_path / "t").mkdir()
    table(tmp_path / "t", [{"file": "a", "prompt": "it grows", "frame": frame}], "p.jsonl")
    refused(run("--prompts", "t/p.jsonl", "--out", "many"), "line 1", words)


def test_a_rate_and_a_common_frame(run: Run, tmp_path: Path):  # noqa: F811
    frame = picture(tmp_path / "t" / "frame.png", 3)
    table(
        tmp_path / "t",
        [{"file": "a", "prompt": "it grows", "fps": "4"}, {"file": "b", "prompt": "it grows"}],
        "p.jsonl",
    )
    code, _, err = run("--prompts", "t/p.jsonl", "--frame", frame, "--fps", 8, *SHORT, "--out", "many")
    assert code == 0, err
    assert [json.loads(Path(f"many/{name}.json").read_text())["fps"] for name in "ab"] == [4.0, 8.0]


@pytest.mark.parametrize(
    ("file", "video"),
    [
        ("a.mp4", "a.mp4"),
        ("a.WEBP", "a.WEBP"),
        ("a.avi", "a.mp4"),
        ("a", "a.mp4"),
        ("v1.2", "v1.2.mp4"),
        ("d/a.webm", "d/a.mp4"),
    ],
)
def test_the_name_without_suffix_stays(file: str, video: str):
    assert batch_rows._video_file(Path(file)).as_posix() == video


# ------------------------------------------------------------------------------------------------------ evaluate and rate


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_evaluate_and_rate_take_the_folder_as_it_is(run: Run, prompts: Path, monkeypatch, num_seeds: int):  # noqa: F811
    rows = [
        {"file": f"{n}.mp4", "prompt": f"the red circle moves {n}", "frame": "1.png", "truth": f"true-{n}.webp"}
        for n in range(3)
    ]
    for row in rows:
        save(prompts.parent / row["truth"], flat(16, SIZE, SIZE))
    table(prompts.parent, rows, "true.jsonl")
    code, _, err = run(
        "--prompts", prompts.parent / "true.jsonl", "--num-seeds", num_seeds, "--num-frames", 16, "--out", "many"
    )
    assert code == 0, err
    monkeypatch.setattr("cdcd_video.evaluation.report.plots.chart", lambda *_: "data:,")
    protocol = Path(__file__).parent.parent / "configs/eval/small.yaml"
    words = ["--videos", "many", "--protocol", protocol, "--metrics", "psnr", "motion", "--out", "scores"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, words)])
    assert exit_code(evaluate.main) == 0
    found = [json.loads(line) for line in Path("scores/scores.jsonl").read_text().splitlines()]
    (psnr,) = [s for s in found if (s["metric"], s["row"], s["frame"]) == ("psnr", "model", None)]
    assert psnr["n"] == 3 * num_seeds
    shutil.copytree("many", "theirs")
    study = make(
        Recipe(videos={"ours": "many", "theirs": "theirs"}, prompts="many/prompts.jsonl"), Path(), Path("study")
    )
    assert len(study.items) == 3 * num_seeds and study.left_out == ()
    assert {item.prompt for item in study.items} == {row["prompt"] for row in rows}
    assert len(make(Recipe(videos={"a": "many", "b": "theirs"}), Path(), Path("without-table")).items) == 3 * num_seeds


# ------------------------------------------------------------------------------------------------------- interruption


def test_a_killed_batch_goes_on_where_it_stopped(run: Run, prompts: Path, tiny_model: Path):  # noqa: F811
    rows = [{"file": f"{n}.mp4", "prompt": "the red circle moves right", "frame": "1.png"} for n in range(4)]
    table(prompts.parent, rows, "many.jsonl")
    words = ("--prompts", prompts.parent / "many.jsonl", "--num-seeds", 2, "--num-frames", 16, "--scale", 1)
    assert run(*words, "--out", "whole", "--grid", "whole.png")[0] == 0
    pid = children.fork()
    if pid == 0:
        try:
            sys.argv = ["inference.py", *map(str, words), "--checkpoint", str(tiny_model), "--out", "killed"]
            exit_code(inference.main)
        finally:
            os._exit(1)
    while len(list(Path("killed").glob("*.json"))) < 2:
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it ended too early"
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    kept = {path.name: path.stat().st_mtime_ns for path in Path("killed").glob("*.json")}
    assert 2 <= len(kept) < 8, "it was killed on its way"
    code, _, err = run(*words, "--out", "killed", "--grid", "killed.png")
    assert code == 0 and f"note: {len(kept)} of 8 videos are there already and are kept" in err
    assert {name: Path("killed", name).stat().st_mtime_ns for name in kept} == kept
    assert files_in("killed") == files_in("whole"), "nothing unfinished is left, and every bit is the same"
    assert Path("killed.png").read_bytes() == Path("whole.png").read_bytes()


def test_a_video_without_its_record_is_sampled_again(run: Run, prompts: Path):  # noqa: F811
    assert run("--prompts", prompts, *SHORT, "--out", "many")[0] == 0
    before = files_in("many")
    Path("many/first.json").unlink()
    Path("many/first.mp4").write_bytes(b"half")
    Path("many/.third.mp4.123.part").write_bytes(b"half")
    Path("many/.third.json.lock").write_text('{"process": 1}')  # killed when the record was there and its lock, too
    code, _, err = run("--prompts", prompts, *SHORT, "--out", "many")
    assert code == 0 and "2 of 3 videos are there already" in err
    assert files_in("many") == before


def test_more_seeds_go_on(run: Run, prompts: Path):  # noqa: F811
    assert run("--prompts", prompts, *SHORT, "--num-seeds", 2, "--out", "many")[0] == 0
    code, _, err = run("--prompts", prompts, *SHORT, "--num-seeds", 3, "--out", "many")
    assert code == 0 and "6 of 9 videos are there already" in err
    assert len(Path("many/prompts.jsonl").read_text().splitlines()) == 9


def test_another_way_of_sampling_is_refused_and_nothing_is_lost(run: Run, prompts: Path):  # noqa: F811
    assert run("--prompts", prompts, *SHORT, "--out", "many")[0] == 0
    before = files_in("many")
    refused(
        run("--prompts", prompts, *SHORT, "--out", "many", "--temperature", 2),
        "first.mp4",
        "temperature 0.3 there, 2.0 here",
    )
    refused(
        run("--prompts", prompts, *SHORT, "--out", "many", "--scale", 2),
        "scale 8 there, 2 here",
        "choose another --out",
    )
    picture(prompts.parent / "2.png", 9)
    refused(run("--prompts", prompts, *SHORT, "--out", "many"), "second.gif was sampled in another way (picture")
    assert files_in("many") == before


@pytest.mark.parametrize("suffix", ["", ".webp"])
def test_a_batch_takes_its_own_table_and_keeps_its_true_videos(run: Run, prompts: Path, suffix: str):  # noqa: F811
    """As where somebody hands on a batch without its videos."""
    save(prompts.parent / f"true{suffix}", flat(4, SIZE, SIZE))
    rows = [{"file": "a.mp4", "prompt": "the red circle grows", "frame": "1.png", "truth": f"true{suffix}"}]
    table(prompts.parent, rows, "true.jsonl")
    assert run("--prompts", prompts.parent / "true.jsonl", *SHORT, "--out", "many")[0] == 0
    before = files_in("many")
    for name in ("a.mp4", "a.json"):
        Path("many", name).unlink()
    code, _, err = run("--prompts", "many/prompts.jsonl", *SHORT, "--out", "many")
    assert code == 0, err
    after = files_in("many")
    del before["a.json"], after["a.json"]  # which names the file of the first frame
    assert after == before


def test_the_table_of_a_batch_samples_its_seeds_again(run: Run, prompts: Path):  # noqa: F811
    assert run("--prompts", prompts, *SHORT, "--num-seeds", 2, "--seed", 4, "--out", "many")[0] == 0
    again = ("--prompts", "many/prompts.jsonl", *SHORT, "--out", "again")
    assert run(*again, "--grid", "grid.png")[0] == 0
    seeds = [json.loads(Path(f"again/first-seed-{seed}.json").read_text())["seed"] for seed in (4, 5)]
    assert seeds == [4, 5]
    assert Path("again/first-seed-4.mp4").read_bytes() != Path("again/first-seed-5.mp4").read_bytes()
    for option in ("--seed", "--num-seeds"):
        refused(run(*again, option, 1), f"the table gives a seed, and {option} others")


@pytest.mark.parametrize("seed", ["one", "-1", "1.5", str(2**63)])
def test_a_seed_in_a_table_is_a_seed(run: Run, prompts: Path, seed: str):  # noqa: F811
    rows = [{"file": "a.mp4", "prompt": "the red circle grows", "frame": "1.png", "seed": seed}]
    table(prompts.parent, rows, "seeds.csv")
    refused(run("--prompts", prompts.parent / "seeds.csv", *SHORT), "seeds.csv, line 2: seed is")


def test_a_video_has_not_the_place_of_a_true_one(run: Run, prompts: Path):  # noqa: F811
    save(prompts.parent / "true.webp", flat(4, SIZE, SIZE))
    rows = [{"file": "truth/a.webp", "prompt": "the red circle grows", "frame": "1.png", "truth": "true.webp"}]
    table(prompts.parent, rows, "true.jsonl")
    words = "line 1: truth/a.webp is where the copy of the true video goes"
    refused(run("--prompts", prompts.parent / "true.jsonl", *SHORT, "--out", "many"), words)


def test_a_folder_of_something_else_is_left_alone(run: Run, prompts: Path):  # noqa: F811
    Path("mine").mkdir()
    Path("mine/first.mp4").write_bytes(b"a video of mine")
    refused(run("--prompts", prompts, *SHORT, "--out", "mine"), "mine holds something other than a batch")
    refused(run("--prompts", prompts, *SHORT, "--out", prompts.parent), "something other than a batch")
    Path("mine/prompts.jsonl").write_text('{"file": "first.mp4", "prompt": "x"}\n')
    refused(run("--prompts", prompts, *SHORT, "--out", "mine"), "something other than a batch")
    assert Path("mine/first.mp4").read_bytes() == b"a video of mine"
    refused(run("--prompts", prompts, *SHORT, "--out", "x.mp4"), "need a folder", "leave out the suffix")


# ----------------------------------------------------------------------------------------------------------- bad rows


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("b.mp4,,1.png", ("line 3", "prompt is empty")),
        (f"b.mp4,{'circle ' * 400},1.png", ("line 3", "characters")),
        ("b.mp4,zzz qqq,1.png", ("line 3", "knows no word")),
        ("b.mp4,the circle spins,absent.png", ("line 3", "absent.png", "does not exist")),
        ("b.mp4,the circle spins,prompts.tsv", ("line 3", "not an image")),
        ("b.mp4,the circle spins,", ("line 3", "no starting frame")),
        ("b.mp4,the circle spins,../1.png", ("line 3", "leaves")),
        ("../b.mp4,the circle spins,1.png", ("line 3", "leaves")),
        ("a.gif,the circle spins,1.png", ("line 3", "also called a")),
        ('b.mp4,"the circle spins,1.png', ("line 3", "quote mark")),
    ],
)
def test_one_bad_row_is_one_sentence_before_anything_is_sampled(run: Run, prompts: Path, row: str, words):  # noqa: F811
    path = prompts.parent / "bad.csv"
    path.write_text(f"file,prompt,frame\na.mp4,the circle spins,1.png\n{row}\n")
    refused(run("--prompts", path, *SHORT, "--out", "many"), str(path), *words)
    assert not Path("many").exists()


def test_a_rate_out_of_range_names_its_row(run: Run, prompts: Path):  # noqa: F811
    rows = [{"file": "a", "prompt": "the circle spins", "frame": "1.png", "fps": 1000}]
    table(prompts.parent, rows, "fast.jsonl")
    refused(run("--prompts", prompts.parent / "fast.jsonl", *SHORT, "--out", "many"), "line 1", "fps")


def test_names_that_collide_by_their_seeds(run: Run, prompts: Path):  # noqa: F811
    rows = [
        {"file": name, "prompt": "the circle spins", "frame": "1.png"} for name in ("d/a.mp4", "a-seed-0.mp4", "a.mp4")
    ]
    table(prompts.parent, rows[:2] + rows[2:], "twice.jsonl")
    refused(run("--prompts", prompts.parent / "twice.jsonl", *SHORT, "--out", "many"), "also called a")


def test_options_that_do_not_go_together(run: Run, prompts: Path, tmp_path: Path):  # noqa: F811
    frame = picture(tmp_path / "frame.png", 1)
    refused(run("--prompts", prompts, "--text", "x"), "--text", "cannot be used with --prompts")
    refused(run("--from-json", "x.json", "--num-seeds", 2), "--from-json", "cannot be used with --num-seeds")
    for option in ("--prompts", "--grid"):
        refused(run(option, "", "--from-json", "x.json"), f"{option} is empty; name a file, or leave it out")
    refused(run("--prompts", prompts, "--num-seeds", 0), "--num-seeds is 0")
    refused(run("--prompts", prompts, "--num-seeds", 2, "--seed", 2**63 - 1), "seed")
    refused(run("--num-seeds", 2, "--text", "x"), "no starting frame")
    refused(run("--num-seeds", 2, "--frame", frame), "no caption")
    for suffix in (".mp4", ".psd"):  # Pillow only reads the second
        refused(run("--prompts", prompts, "--grid", f"grid{suffix}", *SHORT), f"cannot write a picture as '{suffix}'")
    refused(run("--prompts", "absent.csv"), "absent.csv", "does not exist")


def test_a_warning_is_given_once_for_all_rows(run: Run, tmp_path: Path):  # noqa: F811
    picture(tmp_path / "t" / "1.png", 1)
    table(
        tmp_path / "t",
        [{"file": f"{n}", "prompt": "the zzz circle spins", "frame": "1.png"} for n in range(3)],
        "p.jsonl",
    )
    code, _, err = run("--prompts", "t/p.jsonl", "--num-seeds", 2, *SHORT, "--out", "many")
    notes = [line for line in err.splitlines() if "zzz" in line]
    assert code == 0 and len(notes) == 1 and "line 1 and 2 more: " in notes[0]


# ---------------------------------------------------------------------------------------------------------- the grid


def test_the_grid_has_a_row_per_prompt_and_a_column_per_seed(run: Run, prompts: Path):  # noqa: F811
    code, out, err = run(
        "--prompts", prompts, "--num-seeds", 2, "--num-frames", 7, "--out", "many", "--grid", "g/grid.png"
    )
    assert code == 0 and "g/grid.png" in out, err
    with Image.open("g/grid.png") as image:
        sheet = np.asarray(image.convert("RGB")).astype(int)
    gap, line, cell = 2, 15, seed_grid.NUM_FRAMES * SIZE + 8
    assert sheet.shape[:2] == (gap + line + 3 * (line + SIZE + gap), gap + 2 * (cell + gap))
    for row, name in ((0, "first"), (2, "third")):  # a gif, as the second, merges equal frames
        top = gap + line + row * (line + SIZE + gap) + line
        for column in range(2):
            frames = read_clip(f"many/{name}-seed-{column}.mp4", size_px=SIZE).frames
            left = gap + column * (cell + gap)
            for place, frame in enumerate((0, 2, 4, 6)):
                shown = sheet[top : top + SIZE, left + place * SIZE : left + (place + 1) * SIZE]
                assert (shown == frames[frame]).all()
    assert (sheet[gap : gap + line, gap : gap + 40] < 128).any(), "the seed is named"
