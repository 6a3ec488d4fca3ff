"""Two processes on one machine do what one does: gradients, training, taking up a run, bad ends, encoding, evaluation."""

import json
import socket
import sys

import children
import pytest
import torch

import evaluate
from cdcd_video.engine import distributed
from cdcd_video.errors import exit_code
from data_prep.__main__ import main as data_prep_main


def processes(entrance: str, *words: object) -> list[tuple[int, str]]:
    """Exit code, and what was said, of two processes that are started as `torchrun` starts them."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    started = [children.start(entrance, *words, **shared, RANK=rank, LOCAL_RANK=rank) for rank in "01"]
    return [(child.wait(), child.stdout + child.stderr) for child in started]


def test_alone_nothing_is_exchanged(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with distributed.joined() as world:
        assert world == distributed.World(0, 1) and not distributed.dist.is_initialized()
        rows = torch.arange(3)
        assert distributed.own(rows) is rows and distributed.all_gather(rows) is rows
        assert distributed.all_max(3, 4) == (3, 4) and distributed.by_main(lambda: 5) == 5
        assert not distributed.is_lost(RuntimeError("gloo: Connection closed by peer"))


def test_two_processes_do_what_one_does(tmp_path):
    ends = processes("together:main", tmp_path)
    assert (tmp_path / "told.json").is_file(), "\n".join(said[-4000:] for _, said in ends)
    told = json.loads((tmp_path / "told.json").read_text())
    assert max(value for name, value in told.items() if "training" not in name) < 2e-5
    assert told["training clip ddp"] < 1e-12 and told["training clip fsdp"] < 1e-12
    # The last check is that process 1 dies without a word: the other one ends with a sentence, and in no time.
    (code, said), (other, _) = ends
    assert (code, other) == (2, -9), said[-4000:]
    assert "error: process 0 of 2: training clip stopped at step 3: another process failed" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_two_processes_encode_and_measure_as_one(tiny_model, tmp_path, monkeypatch, capsys):
    """Through the entrances, with what torchrun sets: every score is the same, digit by digit, and every file of a cache."""
    by = {num: tmp_path / f"by{num}" for num in (1, 2)}
    metrics = ["psnr", "fid", "discontinuity", "sprites"]
    asked = [
        "--checkpoint",
        tiny_model,
        "--num-videos",
        3,
        "--num-frames",
        4,
        "--batch",
        2,
        "--no-latents",
    ]
    asked += ["--device", "cpu", "--metrics", *metrics]
    encoded = ["encode", "--model", tiny_model, "--data", tmp_path / "clips", "--device", "cpu"]
    prepared = ["--out", tmp_path / "clips", "--num-clips", 130, "--num-frames", 2, "--size-px", 32]
    for entrance, words in (
        (evaluate.main, [*asked, "--out", by[1]]),
        (data_prep_main, ["sprites", *prepared]),
        (data_prep_main, [*encoded, "--out", by[1] / "latents"]),
    ):
        monkeypatch.setattr(sys, "argv", ["main", *map(str, words)])
        assert exit_code(entrance) == 0, capsys.readouterr().err
    ends = processes("evaluate:main", *asked, "--out", by[2])
    assert [code for code, _ in ends] == [0, 0], ends
    assert sum("scores.jsonl" in said for _, said in ends) == 1, "one process speaks"
    ends = processes("data_prep.__main__:main", *encoded, "--out", by[2] / "latents")
    assert [code for code, _ in ends] == [0, 0], ends

    for name in ("scores.jsonl", "per_video.jsonl"):
        assert (by[1] / name).read_bytes() == (by[2] / name).read_bytes(), name
    found = {json.loads(row)["metric"] for row in (by[1] / "scores.jsonl").open()}
    assert {"psnr", "fid", "discontinuity", "does_right_thing"} <= found
    one, two = ({path.name: path.read_bytes() for path in (by[num] / "latents").iterdir()} for num in (1, 2))
    assert one == two and len(one) > 5
