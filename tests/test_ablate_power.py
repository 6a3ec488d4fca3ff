"""Ablations with a design: a common base, declared endpoints, null arms, power; and that they are not changed afterwards."""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from test_ablate import ROOT, sums, write_plan

from cdcd_video.ablate import __main__ as ablate
from cdcd_video.ablate import bases, cost, declaration, page, plan, power_page
from cdcd_video.ablate.endpoints import deviations, endpoint_tests, level_of
from cdcd_video.ablate.gather import gather
from cdcd_video.ablate.verdict import difference_of
from cdcd_video.config import Config, config_file
from cdcd_video.errors import UserError, exit_code
from cdcd_video.metrics.statistics.detectable import minimum_detectable_effect, multiple, pairs_needed
from cdcd_video.metrics.statistics.paired import holm
from cdcd_video.metrics.statistics.sign_flip import sign_flip_p, smallest_p

SMALL = {"protocol": str(ROOT / "configs/eval/small.yaml"), "metrics": ["sprites", "caption_margin"]}
ERROR = {"measured": "along", "metric": "position_error", "figure": "last"}
RIGHT = {"measured": "along", "metric": "does_right_thing"}
DESIGN = {
    "measured": {"along": SMALL},
    "endpoints": [ERROR, RIGHT],
    "null_arms": {"again": "none"},
    "seeds": list(range(8)),
}


def design(folder: Path, out: Path | None = None, **changes) -> plan.Plan:
    return plan.read(write_plan(folder, **(DESIGN | changes)), [], out or folder / "out")


# What is declared -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"endpoints": [RIGHT]}, "first endpoint is does_right_thing, a share of yes and no"),
        ({"endpoints": [ERROR | {"measured": "long"}]}, "is of 'long', which is not in measured"),
        ({"endpoints": [ERROR | {"metric": "psnr"}]}, "psnr is not measured for each video"),
        ({"endpoints": [ERROR, ERROR]}, "position_error is declared twice"),
        ({"endpoints": [ERROR | {"metric": "caption_margin"}]}, "has no curve along the video"),
        ({"endpoints": [ERROR | {"effect": 0}]}, "effect"),
        ({"null_arms": {"again": "nothing"}}, "repeats 'nothing', which is not one of arms"),
        ({"null_arms": {"both": "none"}}, "two arms or two seeds are equal"),
        ({"from": {}, "stages": ["eye"]}, "stages must have diffusion"),
        ({"from": {}, "arms": {"base": []}, "null_arms": {}}, "no arm can be called base"),
        ({"from": {}}, "all bases share CLIP and codec; name a model that has them as reuse=MODEL"),
        ({"from": {"set": ["denoiser.width=64"]}, "set": ["reuse=x"]}, "denoiser is another than the base's"),
    ],
)
def test_mistakes_are_reported_before_anything_starts(tmp_path: Path, changes, words: str):
    with pytest.raises(UserError) as error:
        design(tmp_path, **changes)
    assert words in str(error.value)


def test_arms_of_a_seed_begin_with_one_base_and_share_their_random_numbers(tmp_path: Path):
    found = design(tmp_path, **{"from": {"set": ["train.diffusion.num_steps=9"]}, "set": ["reuse=x"], "seeds": [3, 5]})
    assert [base.folder.name for base in found.bases.values()] == ["base-3", "base-5"]
    for seed, base in found.bases.items():
        assert base.config.seed == seed and base.config.train.diffusion.num_steps == 9 and base.config.init is None
        of_seed = {cell.arm.name: cell.config for cell in found.cells if cell.seed == seed}
        assert {config.init for config in of_seed.values()} == {str(base.folder)}
        assert of_seed["none"].seed == of_seed["both"].seed != of_seed["again"].seed
        assert of_seed["none"].seed != seed, "the batches of the base do not come again"
        assert of_seed["none"].train.diffusion.num_steps != 9
    seeds = [cell.config.seed for cell in found.cells]
    assert len(set(seeds)) == 4 and [arm.is_null for arm in found.arms.values()] == [False, False, True]
    assert (found.num_tests, found.arms["again"].reference) == (2, "none")


def test_without_a_base_seeds_are_those_of_the_file_but_for_null_arms(tmp_path: Path):
    found = design(tmp_path, seeds=[3, 5], across={"mask": [], "bridge": ["diffusion.process.kind=bridge"]})
    of_arm = {arm: [cell.config.seed for cell in found.of(arm)] for arm in found.arms}
    assert of_arm["none-mask"] == of_arm["both-bridge"] == [3, 5] != of_arm["again-mask"] == of_arm["again-bridge"]
    assert found.arms["again-bridge"].reference == "none-bridge"
    assert found.of("again-bridge")[0].config.diffusion.process.kind == "bridge"
    assert found.num_tests == 4, "two endpoints of `both` under two processes"


def test_the_digest_covers_all_that_is_read_and_not_where_results_lie(tmp_path: Path):
    digests = [declaration.digest_of(design(tmp_path, tmp_path / out)) for out in "ab"]
    assert digests[0] == digests[1]
    further = {"from": {}, "set": ["reuse=x"]}
    digests = [declaration.digest_of(design(tmp_path, tmp_path / out, **further)) for out in "ab"]
    assert digests[0] == digests[1]
    others = [
        {"endpoints": [ERROR]},
        {"seeds": [0, 1]},
        {"set": ["train.diffusion.num_steps=7"]},
        {"measured": {"along": SMALL | {"set": ["num_videos=4"]}}},
        {"arms": {"none": [], "both": []}},
        {"question": "another?"},
    ]
    found = {declaration.digest_of(design(tmp_path, **changes)) for changes in ({}, *others)}
    assert len(found) == len(others) + 1


def test_what_was_declared_cannot_be_changed(tmp_path: Path):
    found = design(tmp_path)
    declaration.check(found)  # nothing has begun
    declaration.begin(found)
    declaration.begin(design(tmp_path))
    with pytest.raises(UserError) as error:
        declaration.check(design(tmp_path, seeds=[0, 1, 2]))
    text = str(error.value)
    assert "was changed after the ablation" in text and "ablation.seeds: [0, 1, 2, 3, 4, 5, 6, 7] there" in text
    assert "choose another --out" in text and "\n" not in text
    declaration.check(design(tmp_path, endpoints=[], seeds=[0, 1]))  # as ablations of earlier versions


def test_endpoints_are_not_declared_after_training(tmp_path: Path):
    found = design(tmp_path)
    found.cells[0].folder.mkdir(parents=True)
    (found.cells[0].folder / "config.yaml").touch()
    with pytest.raises(UserError, match="none-0 was trained before the endpoints were declared"):
        declaration.begin(found)


# What is found ----------------------------------------------------------------------------------------------------

FRAMES, PAIRS = 3, 6


def finish(found: plan.Plan, shift: float = 0.0, seed: int = 0, only: int = 99) -> dict[str, np.ndarray]:
    """Writes evaluations of all cells, as they would be; returns the position error in the last frame by arm and seed."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    hard, of_base = rng.normal(0, 2, PAIRS), rng.normal(0, 1, len(found.ablation.seeds))
    errors = {arm: np.zeros(len(found.ablation.seeds)) for arm in found.arms}
    for cell in found.cells:
        place = found.ablation.seeds.index(cell.seed)
        if place >= only:
            continue
        of_pair = 10 + hard + of_base[place] + rng.normal(0, 0.3) + (shift if cell.arm.name == "both" else 0.0)
        errors[cell.arm.name][place] = of_pair.mean()
        lines = []
        for pair, (clip, name) in enumerate(
            (f"v{pair}", f"v{pair}{end}") for pair in range(PAIRS) for end in ("", "-m")
        ):
            line = {"row": "model", "video": name, "clip": None if name == clip else clip, "weight": 1.0}
            error = of_pair[pair // 2] + (0.5 if name == clip else -0.5)
            lines += [
                line | {"metric": "position_error", "frame": frame, "total": error} for frame in range(1, FRAMES + 1)
            ]
            lines.append(line | {"metric": "position_error", "frame": None, "total": FRAMES * error, "weight": FRAMES})
            lines.append(line | {"metric": "does_right_thing", "frame": None, "total": float(pair % 3 == place % 2)})
        folder = cell.folder / "along"
        folder.mkdir(parents=True)
        (folder / "per_video.jsonl").write_text("\n".join(map(json.dumps, lines)))
        score = {
            "row": "model",
            "group": "all",
            "frame": None,
            "window": None,
            "metric": "position_error",
            "protocol": "p",
        }
        (folder / "scores.jsonl").write_text(json.dumps(score | {"value": 1.0}))
        log = {"task": "diffusion", "step": 1, "loss": 1.0, "terms": {"bound": 1.0}}
        (cell.folder / "log.jsonl").write_text(json.dumps(log))
    return errors


def test_tests_are_those_of_the_paired_differences(tmp_path: Path):
    found = design(tmp_path)
    errors = finish(found, shift=1.0)
    tests = {(test.metric, test.arm): test for test in endpoint_tests(found, gather(found))}
    assert list(tests) == [(name, arm) for name in ("position_error", "does_right_thing") for arm in ("both", "again")]
    differences = errors["both"] - errors["none"]
    both, again = tests["position_error", "both"], tests["position_error", "again"]
    assert both.difference.by_seed == pytest.approx(differences) and both.difference.value == pytest.approx(
        differences.mean()
    )
    assert both.p == sign_flip_p(differences) and both.deviation == pytest.approx(differences.std(ddof=1))
    right = tests["does_right_thing", "both"]
    assert [both.p_holm, right.p_holm] == holm([both.p, right.p]) and right.p == 1.0
    assert both.is_significant and not both.difference.is_better, "an error that is greater is worse"
    assert level_of(found) == 0.025
    assert both.detectable == pytest.approx(minimum_detectable_effect(both.deviation, 8, 0.025))
    assert again.is_null and again.p_holm is None and again.p > 0.05
    (evaluation,) = gather(found)
    assert (evaluation.num_videos, evaluation.num_clips) == (2 * PAIRS, PAIRS), "mirror images belong to their scenes"


def test_nothing_is_tested_before_every_base_is_finished(tmp_path: Path):
    found = design(tmp_path)
    finish(found, shift=5.0, only=7)
    tests = endpoint_tests(found, gather(found))
    assert all(test.p is None and test.p_holm is None and test.num == 7 for test in tests)
    text = (page.write(found)[0]).read_text()
    assert "not finished (7 of 8 bases)" in text and "**worse**" not in text


def test_the_page_says_what_could_have_been_found(tmp_path: Path):
    found = design(tmp_path, endpoints=[ERROR | {"effect": 0.2}, RIGHT])
    finish(found)
    paths = page.write(found)
    text, digest = paths[0].read_text(), declaration.digest_of(found)
    assert f"`{digest}`" in text and json.loads((found.out / "endpoints.json").read_text())["config_sha256"] == digest
    tests = {(test.metric, test.arm): test for test in endpoint_tests(found, gather(found))}
    both, null = tests["position_error", "both"], tests["position_error", "again"]
    assert not both.is_significant
    assert f"no; 80 % power from {both.detectable:.3g} px" in text
    assert f"a true difference of {both.detectable:.3g} px or more would have been found with 80 % power" in text
    assert "2 endpoints x 1 arms = 2 tests" in text and "All other scores below are listed without a test." in text
    assert f"{null.deviation:.3g} px, of the null arms, 7 degrees of freedom" in text
    needed = pairs_needed(null.deviation, 0.2, level_of(found))
    assert f"0.2 px, the smallest that would matter, needs {needed} bases" in text
    assert "differences are significant (bold)" not in text and "12 videos of 6 clips of each seed" in text


def test_an_ablation_without_endpoints_has_the_page_that_it_had(tmp_path: Path):
    found = design(tmp_path, endpoints=[], null_arms={})
    finish(found, shift=3.0)
    paths = page.write(found)
    text = paths[0].read_text()
    assert (
        "differences are significant (bold)" in text
        and "- **both** is worse than none by position error (along)" in text
    )
    assert "## Endpoints" not in text and (found.out / "endpoints.json") not in paths


def test_an_ablation_that_scores_only_sets_of_videos_has_a_page(tmp_path: Path):
    found = design(tmp_path, measured={"along": SMALL | {"metrics": ["fid"]}}, endpoints=[], null_arms={})
    finish(found, only=2)
    for place, cell in enumerate(cell for cell in found.cells if (cell.folder / "along").is_dir()):
        (cell.folder / "along" / "per_video.jsonl").write_text("")
        file = cell.folder / "along" / "scores.jsonl"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"metric": "fid", "value": 10.0 * (place + 1)}))
    text = page.write(found)[0].read_text()
    assert "Not finished: none (2 of 8), both (2 of 8)." in text and "Sets of videos of each seed" in text
    assert "| none | 15 (10 to 20) |" in text and "| both | 35 (30 to 40) |" in text


def test_the_interval_over_bases_and_videos_covers_the_true_difference():
    """Bases and videos both scatter, and some videos are harder for one arm than for the other."""
    rng, truth, covered, num_bases, num_videos = np.random.Generator(np.random.Philox(key=7)), 0.7, 0, 8, 30
    for _ in range(120):
        hard = rng.normal(0, 3, (1, num_videos))
        of_base, of_video = rng.normal(0, 0.5, (num_bases, 1)), rng.normal(0, 0.6, (1, num_videos))
        noise = rng.normal(0, 1, (num_bases, num_videos))
        found = difference_of(sums(hard + truth + of_base + of_video + noise), sums(hard + 0 * noise), "lower")
        covered += found.low <= truth <= found.high
    assert 0.88 <= covered / 120 <= 1.0


# What can be found ------------------------------------------------------------------------------------------------


def test_deviations_come_from_null_arms_then_from_a_pilot_then_from_the_file(tmp_path: Path):
    declared = [ERROR | {"deviation": 0.7}, RIGHT]
    found = design(tmp_path, endpoints=declared)
    first, second = deviations(found)
    assert (first.value, first.source) == (0.7, "as it was declared, a guess") and second is None
    errors = finish(found)
    page.write(found)
    of_null = (errors["again"] - errors["none"]).std(ddof=1)
    first, second = deviations(found, endpoint_tests(found, gather(found)))
    assert (
        first.value == pytest.approx(of_null) and "of the null arms, 7 degrees" in first.source and second is not None
    )
    (tmp_path / "next").mkdir()
    later = design(tmp_path / "next", endpoints=declared, pilot=str(found.out))
    assert (
        deviations(later)[0].value == pytest.approx(of_null, rel=1e-6) and "of the pilot" in deviations(later)[0].source
    )


def test_a_pilot_without_null_arms_is_pooled_over_its_arms_and_a_damaged_one_is_refused(tmp_path: Path):
    def line(arm: str, by_seed: list[float]) -> dict:
        return {
            "measured": "x",
            "metric": "position_error",
            "figure": "last",
            "arm": arm,
            "difference": {"by_seed": by_seed},
        }

    found = design(tmp_path, pilot=str(tmp_path))
    (tmp_path / "table.json").write_text(
        json.dumps([line("a", [1, 3]), line("b", [0, 0, 3]), line("c", [1]) | {"difference": None}])
    )
    assert deviations(found)[0].value == pytest.approx(math.sqrt((2 + 6) / 3))
    (tmp_path / "table.json").write_text('[{"metric": 3}]')
    with pytest.raises(UserError, match="is not a table of an ablation"):
        deviations(found)
    (tmp_path / "table.json").unlink()
    with pytest.raises(UserError, match="table.json"):
        deviations(found)


def test_what_can_be_found_is_printed_before_the_run(tmp_path: Path):
    found = design(tmp_path, endpoints=[ERROR | {"deviation": 0.5, "effect": 0.25}, RIGHT])
    lines = power_page.before(found)
    assert declaration.digest_of(found) in lines[0] and "Holm at 5 %, whose first step is at 2.5 %" in lines[1]
    assert f"80 % power: {multiple(8, 0.025):.2f} deviations of a paired difference" in lines[1]
    least = minimum_detectable_effect(0.5, 8, 0.025)
    needed = pairs_needed(0.5, 0.25, 0.025)
    assert f"a true difference of {least:.3g} px or more is found with 80 % power" in lines[2]
    assert f"0.25 px, the smallest that would matter, needs {needed} bases" in lines[2]
    assert "does the right thing" in lines[3] and "give the endpoint a deviation, or name a pilot" in lines[3]
    few = power_page.before(design(tmp_path, seeds=[0, 1, 2, 3, 4], endpoints=[ERROR | {"deviation": 0.5}]))
    assert few[2].startswith("WARNING: 5 paired differences can never reject") and "take at least 6 seeds" in few[2]
    assert "no difference can be found" in few[3]


def test_the_shipped_design_has_power(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    for path in sorted((ROOT / "configs" / "ablations").glob("powered*.yaml")):
        found = plan.read(path, [], None)
        assert found.bases and found.ablation.null_arms and found.num_tests > 0
        assert not any("WARNING" in line or "not known" in line for line in power_page.before(found))


def test_the_page_of_the_first_ablation_says_what_its_seeds_can_find():
    text = (ROOT / "docs" / "experiments" / "contrast.md").read_text(encoding="utf-8")
    rows = [
        re.search(rf"^\| `{arm}`: does the right thing \|(.*)\|", text, re.MULTILINE)[1] for arm in ("both", "none")
    ]
    both, none = (np.array([float(value) for value in re.findall(r"[\d.]+", row)[:5]]) for row in rows)
    deviation = (both - none).std(ddof=1)
    assert f"deviation of {deviation:.1f} points" in text and "p below 1/16" in text and smallest_p(5) == 1 / 16
    least, needed = minimum_detectable_effect(deviation, 12, 0.05), pairs_needed(deviation, 4.0, 0.05)
    assert f"12 seeds detect a true difference of {least:.1f}" in " ".join(text.split())
    assert f"4 points need {needed} seeds" in " ".join(text.split())
    assert f"12 bases and four tests it is {multiple(12, 0.0125):.2f}" in " ".join(text.split())


# The whole of it --------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tiny_model: Path, tmp_path: Path) -> Path:
    """As powered.yaml, with two bases, the smallest of everything, and without a recorded cost."""
    changes = [f"reuse={tiny_model}", "train.diffusion.num_steps=2", "train.diffusion.log_every=1", "data.num_clips=8"]
    changes += ["data.num_val_clips=2", "sample.num_frames=2", "sample.num_steps=1", "train.diffusion.evaluate_every=2"]
    pairs = ["scenes=mirrored_pairs", "num_videos=4", "num_real=0"]
    measured = {
        "pairs": SMALL | {"metrics": ["caption_margin"], "set": [*pairs, "num_frames=2"]},
        "along": SMALL | {"metrics": ["sprites"], "set": [*pairs, "num_frames=3"]},
    }
    endpoints = [{"measured": "pairs", "metric": "caption_margin"}, ERROR, RIGHT]
    fields = {"set": changes, "from": {"set": ["train.diffusion.num_steps=3"]}, "seeds": [0, 1]}
    return write_plan(tmp_path, **(DESIGN | fields | {"measured": measured, "endpoints": endpoints}))


@pytest.mark.slow
def test_the_whole_line_from_the_bases_to_the_page(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["main", *map(str, arguments)])
        code = exit_code(ablate.main)
        return code, *capsys.readouterr()

    def of_base(found: plan.Plan, one: plan.Cell) -> cost.Cost:
        return measure_cost(found, one) if one.arm.name == "base" else cost.Cost(0.1, 1.0, 1.0)

    measure_cost = cost.of_arm
    monkeypatch.setattr(cost, "of_arm", of_base)
    out = tmp_path / "out"
    code, text, error = run(small, "--out", out, "--dry-run")
    assert code == 0, error
    assert "WARNING: 2 paired differences can never reject" in text and "6 of 6 cells are open" in text
    assert "\nbase " in text and not out.exists()
    monkeypatch.setattr(cost, "of_arm", lambda *_: cost.Cost(0.1, 1.0, 1.0))

    code, text, error = run(small, "--out", out)
    assert code == 0, error
    assert text.count("base-0: started") == text.count("base-1: started") == 1
    assert f"tensors of {out / 'base-1'}" in text + error, "arms begin with their base"
    bounds = {name: first_bound(out / f"{name}-0") for name in ("base", "none", "both", "again")}
    assert bounds["none"] == bounds["both"], "the same weights, batch, times and corruption"
    assert len(set(bounds.values())) == 3, "another stream, and not the base's first batch again"
    table = (out / "table.md").read_text()
    assert "no; 80 % power nowhere" in table and "4 videos of 2 clips of each seed" in table
    assert declaration.digest_of(plan.read(small, [], out)) in table and (out / declaration.FILE).is_file()
    tests = json.loads((out / "endpoints.json").read_text())["tests"]
    assert {(test["arm"], test["is_null"]) for test in tests} == {("both", False), ("again", True)}
    assert all(test["num"] == 2 for test in tests)
    margins = [line for line in json.loads((out / "table.json").read_text()) if line["metric"] == "caption_margin"]
    assert {line["arm"] for line in margins} == {"none", "both", "again"}
    assert {line["measured"] for line in margins} == {"pairs"}

    code, _, error = run(small, "--out", out, "--table", "--set", "seeds=[0]")
    assert code == 2 and error.startswith("error: ") and "was changed after the ablation" in error
    (out / "both-1" / bases.FILE).write_text('{"denoiser_sha256": "of another"}')
    code, _, error = run(small, "--out", out, "--table")
    assert code == 2 and "both-1 began with other weights than" in error
    assert config_file.load(out / "both-1" / "config.yaml", Config).init == str(out / "base-1")


def first_bound(run_folder: Path) -> float:
    lines = map(json.loads, (run_folder / "log.jsonl").read_text().splitlines())
    return next(line["terms"]["bound"] for line in lines if line["task"] == "diffusion" and "terms" in line)
