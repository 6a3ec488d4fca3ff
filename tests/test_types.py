"""The baseline of type errors: what `make types` compares, on outputs that are made up; mypy itself runs in `make check`."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from cdcd_video.errors import UserError
from cdcd_video.tools.dev import baseline, type_baseline

ALLOWED = {"metrics": 3, "model": 1}
PINNED = {"mypy": "2.4", "numpy": "2.4", "torch": "2.14"}


def lines_of(**errors: int) -> list[str]:
    """What mypy would print of so many errors."""
    return [f"cdcd_video/{name}.py:{row}: error: No  [misc]" for name, count in errors.items() for row in range(count)]


@pytest.fixture
def checked(monkeypatch, tmp_path, capsys):
    """Runs the command on a baseline and on errors; gives its exit code, its output and the baseline afterwards."""

    def run(errors: dict[str, int], *flags: str, here: dict[str, str] = PINNED) -> SimpleNamespace:
        file = tmp_path / "type_baseline.json"
        if not file.exists():
            baseline.write(file, {"errors": ALLOWED, "versions": PINNED})
        monkeypatch.setattr(type_baseline, "BASELINE", file)
        monkeypatch.setattr(type_baseline, "versions", lambda: here)
        monkeypatch.setattr(type_baseline, "run_mypy", lambda: lines_of(**errors))
        monkeypatch.setattr("sys.argv", ["type_baseline", *flags])
        code = type_baseline.main()
        return SimpleNamespace(code=code, output=capsys.readouterr().out, baseline=json.loads(file.read_text()))

    return run


def test_errors_are_counted_by_package():
    lines = [
        "cdcd_video/metrics/sets/features.py:4: error: No  [misc]",
        "cdcd_video/metrics/sets/features.py:4: note: because of this",
        "cdcd_video/metrics/suite.py:120: error: No  [misc]",
        "cdcd_video/model.py:1: error: No  [misc]",
        "cdcd_video\\model.py:2: error: No  [misc]",
        "data_prep/store.py:1: error: No  [misc]",
        "Found 4 errors in 3 files (checked 300 source files)",
    ]
    assert type_baseline.count_errors(lines) == {"metrics": 2, "model": 2}


def test_equal_counts_pass():
    assert type_baseline.verdict(ALLOWED, ALLOWED) == []


def test_a_count_that_grows_fails():
    (sentence,) = type_baseline.verdict({"metrics": 5, "model": 1}, ALLOWED)
    assert sentence == "cdcd_video/metrics has 5 type errors, 2 more than the baseline allows; fix the new ones."


def test_a_new_package_has_no_allowance():
    (sentence,) = type_baseline.verdict({**ALLOWED, "posters": 1}, ALLOWED)
    assert "cdcd_video/posters has 1 type errors" in sentence


def test_a_count_that_shrank_asks_for_the_command():
    (sentence,) = type_baseline.verdict({"metrics": 1}, ALLOWED)
    assert sentence == (
        "The type errors shrank (metrics by 2, model by 1); write that down:"
        " python -m cdcd_video.tools.dev.type_baseline --update"
    )


def test_other_versions_hold_the_clean_packages_only():
    assert type_baseline.verdict({"metrics": 9}, ALLOWED, same_versions=False) == []
    (sentence,) = type_baseline.verdict({"diffusion": 1}, ALLOWED, same_versions=False)
    assert sentence == "cdcd_video/diffusion has 1 type errors and must have none; fix them."


def test_an_update_never_grows():
    assert type_baseline.updated({"metrics": 2}, ALLOWED) == {"metrics": 2}
    with pytest.raises(UserError, match="the type errors of posters grew"):
        type_baseline.updated({"metrics": 2, "posters": 1}, ALLOWED)


def test_the_command_from_growth_to_an_update(checked):
    assert checked(ALLOWED).code == 0
    grown = checked({"metrics": 4, "model": 1})
    assert grown.code == 1
    assert grown.output.count("cdcd_video/metrics.py:") == 4, "the errors are shown where the count grew"
    assert "cdcd_video/model.py:" not in grown.output, "and nowhere else"
    assert grown.baseline["errors"] == ALLOWED
    assert checked({"metrics": 2}).code == 1
    assert checked({"metrics": 2}, "--update").baseline == {"errors": {"metrics": 2}, "versions": PINNED}
    assert checked({"metrics": 2}).code == 0


def test_the_command_with_other_versions(checked):
    newer = {**PINNED, "mypy": "2.5"}
    passed = checked({"metrics": 7}, here=newer)
    assert passed.code == 0 and "Held to no error: baselines, config, contrast" in passed.output
    assert checked({"metrics": 7}, "--anew", here=newer).baseline == {"errors": {"metrics": 7}, "versions": newer}


def test_a_type_checker_that_breaks_is_a_sentence(monkeypatch):
    done = subprocess.CompletedProcess([], 2, "", "Traceback\nINTERNAL ERROR")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(UserError, match=r"mypy could not check the package \(INTERNAL ERROR\)"):
        type_baseline.run_mypy()


def test_a_baseline_that_is_damaged_is_a_sentence(tmp_path: Path):
    for text in ("{", "[]"):
        (tmp_path / "file.json").write_text(text)
        with pytest.raises(UserError, match="restore it with git checkout"):
            baseline.read(tmp_path / "file.json")
    with pytest.raises(UserError, match="cannot be read"):
        baseline.read(tmp_path / "missing.json")


def test_the_committed_baseline_allows_nothing_where_there_must_be_none():
    known = baseline.read(type_baseline.BASELINE)
    assert set(known) == {"errors", "versions"} and set(known["versions"]) == {"python", *type_baseline.VERSIONS}
    assert not set(known["errors"]) & set(type_baseline.CLEAN)
    assert all(type(count) is int and count > 0 for count in known["errors"].values())
