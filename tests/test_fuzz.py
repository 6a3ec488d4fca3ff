"""A small run of the fuzzer over every target, and the fuzzer itself: it finds what is wrong and counts what is not."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cdcd_video.errors import UserError
from cdcd_video.tools.dev.fuzzing import fuzz_run, mutate
from cdcd_video.tools.dev.fuzzing.target import Target

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> tuple[list[Target], Path]:
    scratch = tmp_path_factory.mktemp("fuzz")
    return fuzz_run.all_targets(scratch), scratch


def test_no_reader_crashes(places, tmp_path):
    targets, scratch = places
    tallies = [fuzz_run.fuzz(target, 12 + 4 * round(target.share), 7, scratch, tmp_path) for target in targets]
    assert [defect.what for tally in tallies for defect in tally.defects.values()] == []
    assert sum(tally.num_inputs for tally in tallies) > 700
    assert {tally.target for tally in tallies} >= {
        *("config", "caption", "MSR-VTT annotations", "InternVid metadata", "folder table", "picture", "checkpoint"),
        *("model file", "prepared folder", "cache of latents", "film", "video record"),
    }
    # A fuzzer whose inputs are all refused, or all read, looks at one door only.
    lively = [tally for tally in tallies if tally.accepted and tally.refused]
    assert len(lively) >= len(tallies) - 4


def target(read) -> Target:
    def put(folder: Path, rng: np.random.Generator) -> None:
        (folder / "x").write_bytes(mutate.mutated(b"0123456789", [b"abcdef"], rng))

    return Target("own", 1, put, read)


def test_what_is_no_refusal_is_a_defect_and_its_input_is_kept(tmp_path):
    def read(folder: Path) -> None:
        content = (folder / "x").read_bytes()
        if b"a" in content:
            raise KeyError("a")
        if b"9" not in content:
            raise UserError("there is no 9; put one in")
        if len(content) > 2_500:
            raise UserError("")

    tally = fuzz_run.fuzz(target(read), 400, 0, tmp_path, tmp_path / "out")
    assert tally.num_inputs == 400
    whats = sorted(defect.what for defect in tally.defects.values())
    assert len(whats) == 2
    assert whats[0].startswith("KeyError at test_fuzz.py:")
    assert whats[1].startswith("the message is empty UserError at test_fuzz.py:")
    crashed = next(defect for defect in tally.defects.values() if "KeyError" in defect.what)
    assert crashed.times > 5
    assert b"a" in (crashed.kept / "x").read_bytes()
    assert tally.accepted > 50
    assert tally.refused > 50
    again = fuzz_run.fuzz(target(read), 400, 0, tmp_path, tmp_path / "out")
    assert (again.accepted, again.refused) == (tally.accepted, tally.refused), "the same seed brings the same inputs"


def test_a_reader_that_hangs_is_a_defect(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz_run, "MOST_S", 0.1)

    def read(folder: Path) -> None:
        while True:
            pass

    (defect,) = fuzz_run.fuzz(target(read), 1, 0, tmp_path, tmp_path / "out").defects.values()
    assert "Stuck" in defect.what


@pytest.mark.parametrize(
    ("sentence", "fault"),
    [
        (" ", "empty"),
        ("x" * 5000, "too long"),
        ("a\x1b[31m", "control characters"),
        ("\ud800", "cannot be encoded"),
        ("fine:\n  a list", ""),
    ],
)
def test_refusals_are_sentences(sentence, fault):
    found = fuzz_run._fault_of_words(sentence)
    assert fault in found
    assert bool(found) == bool(fault)
    assert fuzz_run._fault_of_words(str(UserError(f"the key {sentence} is not known"))) == "", (
        "and UserError sees to it"
    )


def test_mutations_are_the_seeds_and_stay_small():
    seed, value = b"name: x\n" * 10, {"a": [1, {"b": None}], "c": "d"}

    def drawn(number: int) -> tuple[bytes, str]:
        rng = np.random.Generator(np.random.Philox(key=number))
        return mutate.mutated(seed, [seed], rng), json.dumps(mutate.mutated_json(value, rng))

    ours = [drawn(number) for number in range(300)]
    assert ours == [drawn(number) for number in range(300)]
    assert len({one for one, _ in ours}) > 250
    assert len({one for _, one in ours}) > 60
    assert max(len(one) for one, _ in ours) < 300_000
    assert value == {"a": [1, {"b": None}], "c": "d"}, "the example itself stays as it is"


def test_a_target_that_is_not_there_is_told():
    command = [sys.executable, "-m", "cdcd_video.tools.fuzz", "--inputs", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: --inputs must be at least 1, and --seed at least 0\n")
