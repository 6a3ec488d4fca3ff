"""The benchmark of data: every part is told, what does not belong to a part is not in it, and figures are there for all."""

import argparse
import time

import pytest
from video_files import moving_bar, write_clip

from cdcd_video.data.decoding import Source
from cdcd_video.errors import UserError
from cdcd_video.tools.bench import data_cost


def parsed(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    data_cost.add_arguments(parser)
    return parser.parse_args(options)


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_inner_parts_are_taken_off_the_outer():
    watch = data_cost._Watch()
    began = time.process_time()
    for _ in range(2):
        with watch("outer"):
            spin(0.02)
            with watch("inner"):
                spin(0.04)
                with watch("innermost"):
                    spin(0.01)
    spent = time.process_time() - began
    assert sum(watch.seconds.values()) == pytest.approx(spent, rel=0.05)
    assert watch.seconds["inner"] == pytest.approx(0.08, rel=0.15)
    assert watch.seconds["outer"] == pytest.approx(0.04, rel=0.25)
    assert watch.seconds["innermost"] == pytest.approx(0.02, rel=0.25)


def test_every_figure_is_told(tiny_model, tmp_path):
    for number in range(3):
        write_clip(tmp_path / f"{number}.mp4", moving_bar(24), fps=24)
    (tmp_path / "broken.mp4").write_bytes(b"x")
    (tmp_path / "captions.tsv").write_text("path\tcaption\n")
    pixels = Source.pixels
    options = ("--videos", str(tmp_path), "--num-sprites", "2", "--steps", "16", "--batches", "10")
    result = data_cost.compare(parsed("--model", str(tiny_model), *options), lambda said: None)
    assert Source.pixels is pixels
    videos, sprites, training = result["videos"], result["sprites"], result["training"]
    assert (videos["num_clips"], videos["num_read"], videos["num_frames"]) == (3, 72, 24)
    assert set(videos["seconds"]) == {"decode", "resize", "cuts", "encode", "captions"}
    assert set(sprites["seconds"]) == {"render", "encode", "captions"} and sprites["num_frames"] == 32
    assert min([*videos["seconds"].values(), *sprites["seconds"].values()]) > 0
    assert 0 < training["idle_share"] < 0.5 and training["step_s"] > 0
    assert [row[0] for row in result["memory"]["rows"]] == [0, 2, 4, 6, 8, 10]
    assert all(row[2] > row[1] > 0 for row in result["memory"]["rows"]) and result["memory"]["batch_ms"] > 0
    told = "\n".join(data_cost.table(result))
    for word in (
        "render",
        "decode",
        "resize",
        "cuts",
        "encode",
        "waiting for data",
        "CPU ms",
        "mapped files",
    ):
        assert word in told


def test_mistakes_are_reported(tiny_model, tmp_path):
    with pytest.raises(UserError, match="has no usable video among 0 files"):
        quick = ("--num-sprites", "1", "--steps", "0", "--batches", "0")
        data_cost.compare(parsed("--model", str(tiny_model), "--videos", str(tmp_path), *quick), lambda said: None)
    with pytest.raises(UserError, match="trains its own CLIP, which does not exist yet; name a trained run by --model"):
        data_cost.compare(parsed("--config", str(tiny_model / "config.yaml")), lambda said: None)
