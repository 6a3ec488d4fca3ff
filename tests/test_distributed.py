"""Two processes on one machine do what one does: gradients, training, taking up a run, bad ends, encoding, evaluation."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_model import ROOT, tiny_model  # noqa: F401 (a fixture)

import evaluate
from cdcd_video.engine import distributed
from cdcd_video.errors import exit_code
from data_prep.__main__ import main as data_prep_main

TOGETHER = Path(__file__).with_name("together.py")


def processes(*command: object, num: int = 2) -> list[tuple[int, str]]:
    """Exit code, and what was said, of each of several processes that are started as `torchrun` starts them."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    shared |= {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, TOGETHER.parent)))}
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num)} if num > 1 else shared,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        for rank in range(num)
    ]
    return [(process.wait(), said) for process in started for said in [process.communicate(timeout=900)[0]]]


def test_alone_nothing_is_exchanged(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with distributed.joined() as world:
        assert world == distributed.World(0, 1) and not distributed.dist.is_initialized()
        rows = [1, 2, 3]
        assert distributed.own(rows) is rows and distributed.everyones(rows) is rows
        assert distributed.most(3, 4) == (3, 4) and distributed.by_main(lambda: 5) == 5
        assert not distributed.is_lost(RuntimeError("gloo: Connection closed by peer"))


def test_two_processes_do_what_one_does(tmp_path):
    ends = processes(TOGETHER, tmp_path)
    assert (tmp_path / "told.json").is_file(), "\n".join(said[-4000:] for _, said in ends)
    told = json.loads((tmp_path / "told.json").read_text())
    assert max(value for name, value in told.items() if "training" not in name) < 2e-5
    assert told["training clip ddp"] < 1e-12 and told["training clip fsdp"] < 1e-12
    # The last check is that process 1 dies without a word: the other one ends with a sentence, and in no time.
    (code, said), (other, _) = ends
    assert (code, other) == (2, -9), said[-4000:]
    assert "error: process 0 of 2: training clip stopped at step 3: another process has ended" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_two_processes_encode_and_measure_as_one(tiny_model, tmp_path, monkeypatch, capsys):  # noqa: F811
    """Through the entrances, with what torchrun sets: every score is the same, digit by digit, and every file of a cache."""
    by = {num: tmp_path / f"by{num}" for num in (1, 2)}
    metrics = ["psnr", "fid", "discontinuity", "sprites"]
    asked = [
        "evaluate.py",
        "--checkpoint",
        tiny_model,
        "--num-videos",
        5,
        "--num-frames",
        8,
        "--batch",
        4,
        "--no-latents",
    ]
    asked += ["--device", "cpu", "--metrics", *metrics]
    encoded = ["-m", "data_prep", "encode", "--model", tiny_model, "--data", tmp_path / "clips", "--device", "cpu"]
    prepared = ["--out", tmp_path / "clips", "--num-clips", 130, "--num-frames", 2, "--size-px", 32]
    for entrance, words in (
        (evaluate.main, [*asked, "--out", by[1]]),
        (data_prep_main, ["data_prep", "sprites", *prepared]),
        (data_prep_main, [*encoded[1:], "--out", by[1] / "latents"]),
    ):
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        assert exit_code(entrance) == 0, capsys.readouterr().err
    for words in ([*asked, "--out", by[2]], [*encoded, "--out", by[2] / "latents"]):
        ends = processes(*words)
        assert [code for code, _ in ends] == [0, 0], ends
        assert words[0] == "-m" or sum("scores.jsonl" in said for _, said in ends) == 1, "one process speaks"

    for name in ("scores.jsonl", "per_video.jsonl"):
        assert (by[1] / name).read_bytes() == (by[2] / name).read_bytes(), name
    found = {json.loads(row)["metric"] for row in (by[1] / "scores.jsonl").open()}
    assert {"psnr", "fid", "discontinuity", "does_right_thing"} <= found
    one, two = ({path.name: path.read_bytes() for path in (by[num] / "latents").iterdir()} for num in (1, 2))
    assert one == two and len(one) > 5
