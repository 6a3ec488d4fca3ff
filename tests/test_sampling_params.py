"""The ranges of a drawing's dials: the same for the command line, Python, a config and the .json of a stranger's video."""

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from cdcd_video import video
from cdcd_video.config import Config, SamplingParams
from cdcd_video.config.ranges import (
    MAX_CAPTION_CHARACTERS,
    MAX_CAPTIONS,
    MAX_SIZE_PX,
    MAX_THREADS,
    RANGES,
    check_sentences,
)
from cdcd_video.config.video_record import SAMPLING, Record, read_record
from cdcd_video.errors import UserError
from cdcd_video.request import read_request

NOT_GIVEN = dict.fromkeys(("frame", "text", "checkpoint", "out", "device", "scale", "from_json", *SAMPLING))
BAD = {
    "num_frames": (0, -1, 10_001, 10**9),
    "fps": (0, -8.0, 1e-7, 0.09, 240.5, 1e300, float("nan"), float("inf")),
    "num_steps": (0, 1001),
    "guidance": (-0.1, 101, float("nan")),
    "temperature": (-0.1, 10.5, float("nan")),
    "top_p": (0, 1.01, float("nan")),
    "top_k": (-1, 10_000_001),
    "contrast": (-1, 10_001, float("nan")),
    "lookback_s": (-0.1, 61, float("nan")),
    "longest_gap_s": (-0.1, 61, float("nan")),
    "seed": (-1, 2**63),
    "scale": (0, 33, 2**31),
    "threads": (0, -1, MAX_THREADS + 1, 2**40),
}


def png(width: int, height: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def record(**changes: Any) -> dict[str, Any]:
    return {
        "video": "x.mp4",
        "checkpoint": "sprites",
        "model": "sprites",
        "model_sha256": "0" * 64,
        "device": "cpu",
        "text": [[0, "the red circle moves right"]],
        "num_frames": 16,
        "fps": 8.0,
        "num_steps": 4,
        "seed": 0,
        "guidance": 1.5,
        "temperature": 0.5,
        "top_p": 1.0,
        "scale": 4,
        "threads": 1,
        "versions": {},
        "frame": {"file": "x.png", "sha256": "0" * 64, "png_base64": png(4, 4)},
    } | changes


def read(folder: Path, **changes: Any) -> Record:
    (folder / "x.json").write_text(json.dumps(record(**changes)))
    return read_record(folder / "x.json")


def test_every_setting_has_a_range_and_its_edges_are_in_it():
    assert set(BAD) == set(RANGES) == {*SAMPLING, "scale", "threads"} - {"order", "decoded", "unchanged", "solver"}
    for name, span in RANGES.items():
        assert span.holds(span.high) and (span.holds(span.low) is not span.is_open)
        assert not any(span.holds(value) for value in (*BAD[name], "8", None, True))
    assert not RANGES["num_frames"].holds(2.5) and RANGES["num_frames"].holds(np.int64(3))


@pytest.mark.parametrize("name", RANGES)
def test_a_setting_has_the_same_range_everywhere(name: str, tmp_path: Path):
    span = RANGES[name]
    good = [span.high, 0.5 if span.is_open else span.low]
    for value in good:
        assert getattr(read(tmp_path, **{name: value}), name) == value
    for value in BAD[name]:
        with pytest.raises(UserError, match=rf"x\.json is not the \.json of a video \({name}: "):
            read(tmp_path, **{name: value})
    if name in SamplingParams.model_fields:
        for value in good:
            assert getattr(SamplingParams(**{name: value}), name) == value
            assert getattr(SamplingParams().changed(**{name: value}), name) == value
        for value in BAD[name]:
            with pytest.raises(ValidationError, match=name):
                SamplingParams(**{name: value})
            with pytest.raises(UserError, match=f"^{name} is .*; it must be {str(span)[:5]}"):
                SamplingParams().changed(**{name: value})


def test_threads_of_a_config_have_an_end_too():
    with pytest.raises(ValidationError, match="num_threads"):
        Config(name="x", data={"kind": "sprites"}, num_threads=2**40)


def test_sentences_are_as_many_and_as_long_as_on_the_command_line(tmp_path: Path):
    longest = "x" * MAX_CAPTION_CHARACTERS
    assert read(tmp_path, text=[[frame, longest] for frame in range(3)]).text[2] == (2, longest)
    for text in (
        [],
        [[0, longest + "x"]],
        [[frame, "x"] for frame in range(MAX_CAPTIONS + 1)],
        [[-1, "x"]],
        [[10**9, "x"]],
    ):
        with pytest.raises(UserError, match=r"x\.json is not the \.json of a video \(text"):
            read(tmp_path, text=text)
        if text:
            with pytest.raises(UserError, match=r"there are 1001 captions|characters; at most|begins at frame"):
                check_sentences([(frame, told) for frame, told in text])


def test_a_record_that_is_no_plain_file_or_has_no_end_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UserError, match="is a named pipe, not a file"):
        read_record(tmp_path / "pipe.json")
    with pytest.raises(UserError, match="is a device, not a file"):
        read_record(Path("/dev/zero"))
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"deep\.json is not the \.json of a video"):
        read_record(tmp_path / "deep.json")


def test_a_starting_frame_beyond_every_model_is_refused(tmp_path: Path):
    wide = {"file": "x.png", "sha256": "0" * 64, "png_base64": png(MAX_SIZE_PX + 1, 1)}
    (tmp_path / "x.json").write_text(json.dumps(record(frame=wide)))
    with pytest.raises(UserError, match="is damaged .it is 4097 x 1, but the maximum"):
        read_request(NOT_GIVEN | {"from_json": str(tmp_path / "x.json")})


def test_a_gif_that_stands_still_for_too_long_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="cannot show a frame for longer than 655 s"):
        video.save(np.zeros((66, 4, 4, 3), np.uint8), tmp_path / "x.gif", 0.1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4"])
def test_the_slowest_video_can_be_written(suffix: str, tmp_path: Path):
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    assert video.save(frames, tmp_path / f"x{suffix}", RANGES["fps"].low).stat().st_size
