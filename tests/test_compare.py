"""Comparing evaluations: paired tests against brute force, what may stand in one column, and what is said in words."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from cdcd_video.errors import UserError
from cdcd_video.evaluation.report import comparison_page as shown
from cdcd_video.evaluation.report.saved_previews import write_previews
from cdcd_video.metrics.statistics import paired
from cdcd_video.metrics.statistics.comparison import compare
from cdcd_video.metrics.suite import Example

PROTOCOL = {"data": "sprites", "num_videos": 24, "fps": 8, "given_frame": "in_windows"}


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def sums(values, weights=1.0) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    return np.stack([values, np.broadcast_to(np.asarray(weights, dtype=np.float64), values.shape)], axis=1)


# ------------------------------------------------------------------------------------------------------ paired tests


def test_p_is_the_count_over_all_flips_of_signs():
    first, second = generator(1).normal(0.4, 1, 8), generator(2).normal(0, 1, 8)
    found = paired.paired(sums(first), sums(second))
    flips = [np.mean(np.array(signs) * (first - second)) for signs in itertools.product((1, -1), repeat=8)]
    assert found.value == pytest.approx(np.mean(first - second))
    assert found.p == pytest.approx(np.mean(np.abs(flips) >= abs(found.value) - 1e-12))


@pytest.mark.parametrize("right", [None, 1.0])
def test_with_weights_the_systems_results_are_exchanged_whole(right):
    first = sums(generator(3).uniform(0, 3, 7), generator(4).uniform(1, 3, 7))
    second = sums(generator(5).uniform(0, 2, 7), generator(6).uniform(1, 3, 7))

    def difference(one, other):
        ratios = [side[:, 0].sum() / side[:, 1].sum() for side in (one, other)]
        return ratios[0] - ratios[1] if right is None else abs(ratios[0] - right) - abs(ratios[1] - right)

    ways = []
    for way in itertools.product((False, True), repeat=7):
        exchanged = np.array(way)[:, None]
        ways.append(difference(np.where(exchanged, second, first), np.where(exchanged, first, second)))
    found = paired.paired(first, second, right)
    assert found.value == pytest.approx(difference(first, second))
    assert found.p == pytest.approx(np.mean(np.abs(ways) >= abs(found.value) * (1 - 1e-9)))


def test_ways_that_differ_by_rounding_alone_are_equal_and_one_without_a_measurement_is_extreme():
    """Of 0.3, -0.1, -0.2 and 1 the first three cancel, so that flipping them changes nothing but last bits."""
    differences = np.array([0.3, -0.1, -0.2, 1.0])
    flips = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=4)]
    found = paired.paired(sums(differences), sums(np.zeros(4)))
    assert found.p == np.mean(np.array(flips) >= 1.0 - 1e-9) > 2 / 16
    apart = np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [0.0, 1.0]])
    assert paired.paired(*apart).p == 1.0, "exchanged in one video, a system has no measurement at all"


def test_drawn_ways_agree_with_all_ways(monkeypatch):
    first, second = sums(generator(7).normal(0.5, 1, 14)), sums(generator(8).normal(0, 1, 14))
    exact = paired.paired(first, second).p
    monkeypatch.setattr(paired, "EXACT_UP_TO", 1)
    drawn = paired.paired(first, second).p
    assert 0.02 < exact < 0.9
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / paired.EXCHANGES))
    far = paired.paired(sums(np.arange(40) + 100.0), sums(np.arange(40.0)))
    assert far.p == pytest.approx(1 / (paired.EXCHANGES + 1)), "drawn ways never say 0"


def test_equal_systems_do_not_differ():
    own = sums(generator(9).normal(size=20), 2.0)
    assert paired.paired(own, own) == paired.Difference(0.0, 0.0, 0.0, 1.0, 20)


def test_pairing_sees_what_the_videos_hide():
    """Videos differ by far more than the systems, which differ by 0.1 on each."""
    hard = generator(10).normal(0, 5, 30)
    first, second = sums(hard + 0.1 + generator(11).normal(0, 0.05, 30)), sums(hard)
    together, apart = paired.paired(first, second), paired.unpaired(first, second)
    assert 0 < together.low < 0.1 < together.high and together.p < 0.001
    assert apart.low < 0 < apart.high and apart.p is None
    assert together.value == pytest.approx(apart.value)


def test_false_alarms_are_as_rare_as_they_say():
    ps = []
    for trial in range(300):
        rng = generator(1000 + trial)
        hard = rng.exponential(1, 10)
        ps.append(
            paired._exchange_test(sums(hard * rng.exponential(1, 10)), sums(hard * rng.exponential(1, 10)), None, rng)
        )
    assert np.mean(np.array(ps) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(np.array(ps) <= 0.5) == pytest.approx(0.5, abs=0.1)


def test_what_was_never_measured_has_no_difference():
    assert paired.paired(sums([1.0, 2.0]), sums([0.0, 0.0], 0.0)) == paired.Difference(None, None, None, None, 2)


def test_holm_by_hand():
    assert paired.holm([0.01, 0.04, 0.03, None, 0.005]) == pytest.approx([0.03, 0.06, 0.06, None, 0.02])
    assert paired.holm([0.9, 0.8]) == [1.0, 1.0] and paired.holm([]) == []


# ---------------------------------------------------------------------------------------------------------- evaluations


def evaluation(
    folder: Path,
    scores: dict[str, np.ndarray],
    *,
    sets: dict[str, tuple[float, float, float]] | None = None,
    better: str = "higher",
    truth: float = 1.0,
    unit: str = "ratio",
    protocol: dict | None = None,
    digest: str = "a" * 64,
    videos: list[str] | None = None,
    clips: list[str] | None = None,
    n: int | None = None,
    features_sha256: str = "f" * 64,
) -> Path:
    """Writes what `evaluate.py` leaves: `scores` are values per video, `sets` scores with their ends."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, kept = [], []
    common = {"unit": unit, "group": "all", "frame": None, "window": None, "protocol": digest, "counted": "videos"}
    for metric, values in scores.items():
        own = {"metric": metric, "better": better, "features": None, "n": len(values), "low": None, "high": None}
        lines.append(common | own | {"row": "model", "value": float(np.mean(values))})
        lines += [common | own | {"row": "model", "value": 0.5, "frame": frame} for frame in (1, 2)]
        lines.append(common | own | {"row": "truth", "value": truth})
        lines.append(common | own | {"row": "codec-ceiling", "value": 0.9})
        names = videos or [f"v{place}" for place in range(len(values))]
        for place, (name, value) in enumerate(zip(names, values, strict=True)):
            line = {"row": "model", "metric": metric, "video": name, "frame": None, "total": value, "weight": 1.0}
            kept.append(line | ({"clip": clips[place]} if clips else {}))
            kept.append(line | {"frame": 1, "total": 99.0})
    for metric, (value, low, high) in (sets or {}).items():
        network = {"features": "sprites-video", "features_sha256": features_sha256}
        own = {"metric": metric, "better": "lower", "row": "model", "n": n or 24, "low": low, "high": high}
        lines.append(common | own | network | {"value": value})
        lines.append(common | own | network | {"value": 9.0, "window": [0, 15]})
    (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "per_video.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    rule = PROTOCOL if protocol is None else protocol
    (folder / "protocol.yaml").write_text("# Hash: x\n" + "".join(f"{key}: {value}\n" for key, value in rule.items()))
    return folder


def varied(mean: float, seed: int, num: int = 24) -> np.ndarray:
    return mean + generator(99).normal(0, 0.3, num) + generator(seed).normal(0, 0.02, num)


def test_a_clear_difference_is_told_and_a_chance_one_is_not(tmp_path):
    scores = [{"psnr": varied(0.5, 1), "ssim": varied(0.7, 2)}, {"psnr": varied(0.4, 3), "ssim": varied(0.7, 4)}]
    found = compare([evaluation(tmp_path / name, own) for name, own in zip("ab", scores, strict=True)])
    psnr, ssim = found.lines
    assert (psnr.metric, psnr.best, ssim.best, found.systems) == ("psnr", "a", None, ("a", "b"))
    (test,) = psnr.tests
    assert test.how == "paired" and test.n == 24 and test.is_parted
    assert test.low < test.difference < test.high and test.difference == pytest.approx(0.1, abs=0.02)
    assert test.p_holm >= test.p and found.num_tests == 2
    assert psnr.references["truth"]["a"].value == 1.0
    assert psnr.cells["a"].per_frame == ((1.0, 0.5), (2.0, 0.5))


def test_four_videos_never_decide(tmp_path):
    folders = [evaluation(tmp_path / name, {"psnr": np.full(4, mean)}) for name, mean in (("a", 0.9), ("b", 0.1))]
    (line,) = compare(folders).lines
    assert line.tests[0].p == 2 / 2**4 and line.best is None


@pytest.mark.parametrize(("better", "best"), [("higher", "a"), ("lower", "b"), ("one", "b"), ("real", "a")])
def test_which_way_is_better(tmp_path, better, best):
    settings = {"better": better, "truth": 1.5}
    folders = [
        evaluation(tmp_path / name, {"x": varied(mean, 1)}, **settings) for name, mean in (("a", 1.4), ("b", 1.1))
    ]
    (line,) = compare(folders).lines
    assert line.best == best and line.right == {"one": 1.0, "real": 1.5}.get(better)


def test_of_three_the_best_must_beat_both(tmp_path):
    means = {"a": 0.9, "b": 0.5, "c": 0.5}
    folders = [evaluation(tmp_path / name, {"psnr": varied(mean, 5)}) for name, mean in means.items()]
    assert compare(folders).lines[0].best == "a" and len(compare(folders).lines[0].tests) == 3
    alike = [evaluation(tmp_path / name, {"psnr": varied(0.9, 6)}) for name in ("d", "e")]
    assert compare([*alike, folders[1]]).lines[0].best is None, "two share the first place"


def test_other_videos_are_not_paired(tmp_path):
    first = evaluation(tmp_path / "a", {"psnr": varied(0.5, 1)})
    second = evaluation(tmp_path / "b", {"psnr": varied(0.4, 2)}, videos=[f"w{place}" for place in range(24)])
    found = compare([first, second])
    (test,) = found.lines[0].tests
    assert test.how == "unpaired" and test.p is None and not test.is_parted
    assert "not the same videos" in shown.text(found)


def test_videos_of_one_clip_count_as_one(tmp_path):
    clips = [f"c{place // 4}" for place in range(24)]
    folders = [
        evaluation(tmp_path / name, {"psnr": varied(mean, 1)}, clips=clips) for name, mean in (("a", 1), ("b", 0))
    ]
    (test,) = compare(folders).lines[0].tests
    assert test.n == 6 and test.p == 2 / 2**6
    uneven = [f"c{max(0, place - 20)}" for place in range(24)]  # the first clip has 21 videos, the others one each
    values = np.where(np.arange(24) < 20, 1.0, 0.0)
    folders = [
        evaluation(tmp_path / name, {"psnr": share * values}, clips=uneven) for name, share in (("c", 1), ("d", 0))
    ]
    (test,) = compare(folders).lines[0].tests
    assert test.n == 4 and test.difference == pytest.approx(20 / 24), "every video of a clip counts"


def test_scores_of_whole_sets_are_laid_side_by_side(tmp_path):
    ends = {"a": (10.0, 8.0, 12.0), "b": (20.0, 15.0, 25.0), "c": (14.0, 11.0, 17.0)}
    folders = {name: evaluation(tmp_path / name, {}, sets={"fvd": own}) for name, own in ends.items()}
    (line,) = compare([folders["a"], folders["b"]]).lines
    assert line.best is None and line.tests[0].how == "intervals" and line.tests[0].p is None, "no test, no bold"
    assert line.tests[0].is_parted and not line.tests[0].is_significant
    assert line.features == "sprites-video" and line.cells["a"].per_frame == ((7.5, 9.0),)
    assert not compare([folders["a"], folders["c"]]).lines[0].tests[0].is_parted, "the intervals overlap"
    fewer = evaluation(tmp_path / "d", {}, sets={"fvd": ends["b"]}, n=12)
    (line,) = compare([folders["a"], fewer]).lines
    assert line.best is None and "different numbers of samples" in line.note
    assert not line.tests[0].is_parted, "intervals that lie apart say nothing at another n"
    assert "no test" in shown.text(compare([folders["a"], folders["b"]]))


def test_the_latent_space_has_lines_of_its_own(tmp_path):
    """Also where a score of it is called as one of videos is."""
    folders = []
    for name, mean, low, high in (("a", 0.9, 0.8, 1.0), ("b", 0.5, 0.4, 0.6)):
        folder = evaluation(tmp_path / name, {"curvature": varied(0.5, 1)})
        own = {"metric": "curvature", "group": "space=codes", "better": "real", "unit": "degrees", "counted": "videos"}
        own |= {"n": 96, "features": "codec-ab", "features_sha256": "a" * 64, "protocol": "a" * 64, "window": None}
        rows = {"model": (mean, low, high, None), "real": (0.95, 0.9, 1.0, None), "shuffled": (0.0, 0.0, 0.1, None)}
        lines = [
            own | dict(zip(("value", "low", "high", "frame"), ends, strict=True), row=row) for row, ends in rows.items()
        ]
        lines.append(lines[0] | {"frame": 3})
        with (folder / "scores.jsonl").open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        folders.append(folder)
    of_videos, latent = compare(folders).lines
    assert (of_videos.group, latent.group, latent.is_latent) == ("all", "space=codes", True)
    assert of_videos.tests[0].how == "paired" and latent.tests[0].how == "intervals" and latent.tests[0].p is None
    assert latent.right == 0.95 and latent.references.keys() == {"truth"} and latent.best is None
    assert latent.cells["a"].per_frame == ((3.0, 0.9),)
    text, table = shown.text(compare(folders)), shown.markdown(compare(folders))
    assert "code vectors" not in text and "## The latent space" in table
    assert (
        "| curvature [codec-ab], code vectors (the value of true videos is right) | 96 | 0.900 [0.800 to 1.00]" in table
    )


def test_what_one_system_lacks_is_a_dash(tmp_path):
    first = evaluation(tmp_path / "a", {"psnr": varied(0.5, 1), "ssim": varied(0.5, 1)})
    found = compare([first, evaluation(tmp_path / "b", {"psnr": varied(0.5, 2)})])
    assert [set(line.cells) for line in found.lines] == [{"a", "b"}, {"a"}]
    assert found.lines[1].tests == () and found.lines[1].best is None


# ------------------------------------------------------------------------------------------------------------- refusals


def test_other_protocols_are_refused_by_field(tmp_path):
    first = evaluation(tmp_path / "a", {"psnr": varied(0.5, 1)})
    other = PROTOCOL | {"num_videos": 48, "fps": 4}
    second = evaluation(tmp_path / "b", {"psnr": varied(0.5, 2)}, protocol=other, digest="b" * 64)
    with pytest.raises(UserError, match="num_videos is 48 instead of 24, fps is 4 instead of 8"):
        compare([first, second])
    hidden = evaluation(tmp_path / "c", {"psnr": varied(0.5, 2)}, digest="c" * 64)
    with pytest.raises(UserError, match="other weights, other real videos"):
        compare([first, hidden])


def test_the_same_hash_tells_that_other_folders_do_not_matter(tmp_path):
    first = evaluation(tmp_path / "a", {"psnr": varied(0.5, 1)}, protocol=PROTOCOL | {"data": "mine"})
    second = evaluation(tmp_path / "b", {"psnr": varied(0.5, 2)}, protocol=PROTOCOL | {"data": "yours"})
    assert len(compare([first, second]).lines) == 1


def test_other_weights_are_refused(tmp_path):
    own = {"sets": {"fvd": (1.0, 0.5, 1.5)}}
    folders = [evaluation(tmp_path / name, {}, **own, features_sha256=name * 64) for name in "ab"]
    with pytest.raises(UserError, match="used different weights of sprites-video for fvd"):
        compare(folders)


def test_no_evaluation_is_a_users_mistake(tmp_path):
    good = evaluation(tmp_path / "a", {"psnr": varied(0.5, 1)})
    with pytest.raises(UserError, match="two or more different folders"):
        compare([good, tmp_path / "x" / ".." / "a"])
    with pytest.raises(UserError, match=r"scores.jsonl does not exist; check the path; name a folder"):
        compare([good, tmp_path / "nothing"])
    for damage, words in (("scores.jsonl", "line 2 of .*is damaged"), ("per_video.jsonl", "line 2 of .*is damaged")):
        bad = evaluation(tmp_path / "bad", {"psnr": varied(0.5, 1)})
        text = (bad / damage).read_text().splitlines()
        (bad / damage).write_text(text[0] + "\n" + text[1][:20] + "\n")
        with pytest.raises(UserError, match=words):
            compare([good, bad])
    for name in ("row", "group", "metric", "features"):
        bad = evaluation(tmp_path / "bad", {"psnr": varied(0.5, 1)})
        first, *others = (bad / "scores.jsonl").read_text().splitlines()
        (bad / "scores.jsonl").write_text("\n".join([json.dumps(json.loads(first) | {name: ["psnr"]}), *others]))
        with pytest.raises(UserError, match=r"line 1 of .*scores.jsonl is damaged"):
            compare([good, bad])
    bad = evaluation(tmp_path / "bad", {"psnr": varied(0.5, 1)})
    (bad / "protocol.yaml").write_text("a: [1\n")
    with pytest.raises(UserError, match="protocol.yaml is not valid YAML"):
        compare([good, bad])
    (bad / "scores.jsonl").write_text("")
    with pytest.raises(UserError, match="is empty"):
        compare([good, bad])


def test_the_records_have_the_fields_that_are_read():
    from cdcd_video.metrics.scores import Score
    from cdcd_video.metrics.summary import PerVideo

    wanted = {"metric", "value", "low", "high", "n", "counted", "unit", "better", "row", "group", "frame", "window"}
    assert wanted | {"features", "features_sha256", "protocol"} <= {field.name for field in dataclasses.fields(Score)}
    kept = {field.name for field in dataclasses.fields(PerVideo)}
    assert {"row", "metric", "video", "frame", "total", "weight"} <= kept


# -------------------------------------------------------------------------------------------------------------- reports


def test_what_is_written(tmp_path):
    first = evaluation(tmp_path / "x" / "run|1", {"psnr": varied(0.5, 1)}, unit="dB")
    second = evaluation(tmp_path / "x" / "<script>", {"psnr": varied(0.4, 3)}, unit="dB")
    found = compare([first, second])
    paths = shown.write(found, tmp_path / "out")
    assert [path.name for path in paths] == ["compare.json", "compare.md", "compare.html"]
    record = json.loads(paths[0].read_text())
    assert record["lines"][0]["best"] == "run|1" and record["protocol"]["num_videos"] == 24
    table = [line for line in paths[1].read_text().splitlines() if line.startswith("|")]
    assert len(table) == 3 and "**" in table[2] and r"run\|1" in table[0] and "&lt;script>" in table[0]
    page = paths[2].read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page and "http" not in page.replace("http://www.w3.org", "")
    assert page.count('class="best"') == 2 and "data:image/svg+xml" in page
    text = shown.text(found)
    assert "*0.5" in text and "paired, same videos, n = 24, p = " in text and "true video" in text.splitlines()[2]


def test_figures_of_curves_have_a_table_of_their_own(tmp_path):
    folders = [
        evaluation(tmp_path / name, {}, sets={"psnr_retention": (0.9, 0.8, 1.0), "fvd": (9, 8, 10)}) for name in "ab"
    ]
    found = compare(folders)
    assert [line.is_along for line in found.lines] == [True, False]
    assert "end / beginning" not in shown.text(found)
    text = shown.markdown(found)
    assert (
        text.index("## Scores")
        < text.index("| FVD")
        < text.index("## Along the video")
        < text.index("| PSNR, end / beginning")
    )
    cell = dataclasses.replace(found.lines[0].cells["a"], is_at_least=True)
    line = dataclasses.replace(found.lines[0], cells={"a": cell, "b": cell})
    assert ">= 0.900 [0.800 to 1.00]" in shown.markdown(dataclasses.replace(found, lines=(line,)))


def test_names_tell_folders_apart(tmp_path):
    folders = [evaluation(tmp_path / name / "eval", {"psnr": varied(0.5, 1)}) for name in ("one", "two")]
    assert compare(folders).systems == ("one/eval", "two/eval")


def test_the_same_folders_give_the_same_words(tmp_path):
    folders = [evaluation(tmp_path / name, {"psnr": varied(0.5, place)}) for place, name in enumerate("ab")]
    once, again = compare(folders), compare(folders)
    assert once == again and shown.html(once) == shown.html(again)


# ------------------------------------------------------------------------------------------------ words, bold and videos


SEVEN = ("psnr", "ssim", "position_error", "identity_iou", "motion_ratio", "flow", "flicker")


def apart(tmp_path: Path, num: int, metrics=SEVEN):
    """Two systems that differ on every video and in every score, in one direction."""
    return compare([
        evaluation(tmp_path / f"{name}{num}", {metric: varied(mean, 1, num) for metric in metrics})
        for name, mean in (("a", 0.9), ("b", 0.1))
    ])  # fmt: skip


def test_too_few_videos_are_said_to_be_too_few(tmp_path):
    """2 / 2^8 over 7 tests is above 0.05, and 2 / 2^9 below: the sentence and the tests agree, on both sides."""
    few, enough = apart(tmp_path, 8), apart(tmp_path, 9)
    assert few.is_too_small and few.least_videos == 9 and [line.best for line in few.lines] == [None] * 7
    told = (
        "Too few videos to tell: with 8, no difference can be significant (p below 0.05 after Holm's correction over 7 tests),"
        " however large it is; at least 9 videos are needed, with differences that all agree."
    )
    assert told in shown.text(few) and told in shown.markdown(few) and told.replace("'", "&#39;") in shown.html(few)
    assert not enough.is_too_small and [line.best for line in enough.lines] == ["a9"] * 7
    assert "Too few" not in shown.html(enough)


def test_more_tests_than_any_number_of_videos_can_bear(tmp_path):
    many = dataclasses.replace(apart(tmp_path, 24), num_tests=820)
    assert many.is_too_small and many.least_videos is None
    assert "compare fewer systems or fewer metrics at a time" in shown.text(many)
    assert not dataclasses.replace(many, num_tests=819).is_too_small


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_the_least_p_is_what_the_test_gives_to_a_unanimous_difference(n: int):
    assert paired.paired(sums(np.full(n, 2.0)), sums(np.zeros(n))).p == pytest.approx(paired.least_p(n))


def test_the_verdict_is_one_sentence(tmp_path):
    assert shown.text(apart(tmp_path, 24)).startswith(
        "a24 is significantly better than the other in 7 of 7 scores (PSNR, SSIM, position error and 4 more).\n"
    )
    one = [
        evaluation(tmp_path / name, {"psnr": varied(m, 1), "ssim": varied(0.5, 2)}) for name, m in (("a", 1), ("b", 0))
    ]
    assert shown.verdict(compare(one)) == (
        "a is significantly better than the other in 1 of 2 scores (PSNR); no significant difference in 1."
    )
    alike = [evaluation(tmp_path / name, {"psnr": varied(0.5, seed)}) for seed, name in enumerate("cde")]
    assert shown.verdict(compare(alike)) == "None of 1 tested scores tells c, d and e apart significantly."
    sets = [evaluation(tmp_path / name, {}, sets={"fvd": (place, place, place)}) for place, name in enumerate("fg")]
    assert shown.verdict(compare(sets)).startswith("No score can be tested")


def test_a_difference_without_a_right_value_is_told_and_nobody_wins(tmp_path):
    folders = [evaluation(tmp_path / name, {"flow": varied(m, 1)}, better="real") for name, m in (("a", 1), ("b", 0))]
    for file in (folder / "scores.jsonl" for folder in folders):
        lines = file.read_text().splitlines()
        file.write_text("".join(f"{line}\n" for line in lines if json.loads(line)["row"] != "truth"))
    found = compare(folders)
    assert found.lines[0].best is None and found.lines[0].is_undecided
    assert shown.verdict(found) == (
        "a and b differ significantly in 1 of 1 scores (optical flow), of which the value of true videos would be right,"
        " and there are none."
    )


def test_nothing_is_bold_without_a_test(tmp_path):
    folders = [
        evaluation(tmp_path / name, {}, sets={"fvd": own, "psnr_retention": own})
        for name, own in (("a", (1.0, 0.9, 1.1)), ("b", (9.0, 8.0, 10.0)))
    ]
    found = compare(folders)
    assert all(line.tests[0].is_parted for line in found.lines), "their intervals are far apart"
    assert 'class="best"' not in shown.html(found) and "**" not in shown.markdown(found)
    assert "*" not in shown.text(found).split(shown.LEGEND)[0]


def test_titles_and_not_code_names(tmp_path):
    folders = [
        evaluation(
            tmp_path / name,
            {metric: varied(0.5, 1) for metric in SEVEN},
            sets={"fvd": (1, 1, 2), "psnr_slope": (1, 1, 2)},
        )
        for name in "ab"
    ]
    found = compare(folders)
    for text in (shown.text(found), shown.markdown(found), shown.html(found)):
        shown_part = text.split('<h2 id="protocol">')[0]
        assert (
            "position error" in shown_part
            and "FVD [sprites-video]" in shown_part
            and "true codes, decoded" in shown_part
        )
        assert not [
            name for name in (*SEVEN, "fvd", "psnr_slope", "codec-ceiling") if "_" in name and name in shown_part
        ]
    assert "PSNR, slope per frame" in shown.html(found) and "codec-ceiling" not in shown.html(found)


def test_videos_come_first_and_in_step(tmp_path):
    folders = []
    for number, name in enumerate(("a", "<b>")):
        folder = evaluation(tmp_path / name, {"psnr": varied(0.5, 1)})
        frames = np.full((6, 16, 16, 3), 50 * number, np.uint8)
        examples = [
            Example({"model": f"<i>moves</i> {clip}"}, {"model": frames, "truth": frames + 9}, clip)
            for clip in ("x", name)
        ]
        write_previews(
            [*examples, dataclasses.replace(examples[0], kind="worst", name="y")], 8.0, folder / "previews.json"
        )
        folders.append(folder)
    page = shown.html(compare(folders))
    first, second, *_ = re.findall(r"<h2 id=\"([\w-]+)\"", page)
    assert (first, second) == ("videos", "scores")
    (preview,) = re.findall(r'<div class="card preview".*?</div></div>', page, re.DOTALL)
    assert 'data-frames="6" data-fps="8.0"' in preview and "&lt;i&gt;moves&lt;/i&gt; x" in preview
    assert re.findall(r"<figcaption>(.*?)</figcaption>", preview) == ["true video", "a", "&lt;b&gt;"]
    assert preview.count("data:image/webp;base64,") == 3 and preview.count("background-size: 600% 100%") == 3
    assert page.count('<input type="range" min="0" max="5"') == 1, "one slider for all"
    assert page.index('class="verdict"') < page.index('class="card preview"') < page.index("<table")
    without = shown.html(compare([folders[0], evaluation(tmp_path / "c", {"psnr": varied(0.4, 1)})]))
    assert "No videos are shown" in without and "<script>" not in without
    (folders[0] / "previews.json").write_text("[1]")
    with pytest.raises(UserError, match="previews.json is damaged"):
        shown.write(compare(folders), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_charts_have_one_style():
    """Colours and axes of charts stand in one file; pages take them from there."""
    root = Path(shown.__file__).parents[2]
    for path in (root / "evaluation").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        colours = set(re.findall(r"#[0-9a-f]{6}\b", text)) - {"#7d8f2a"}
        assert colours == set(), f"{path.name} has colours of its own"
        assert "spines" not in text, f"{path.name} styles axes itself"
