"""What the votes say: strengths, agreement and correlation against known answers, and the report's three forms."""

import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from children import ended_process
from rating import NASTY, SYSTEMS, write_study
from torchmetrics.functional.regression import kendall_rank_corrcoef, spearman_corrcoef

from cdcd_video.errors import UserError
from cdcd_video.rate import agreement, analysis, report, strengths
from cdcd_video.rate.answers import Store, Vote
from cdcd_video.rate.automatic import read_scores
from cdcd_video.rate.raters import rater_facts
from cdcd_video.rate.study import NOISE, Item, Study

N = math.nan


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


# ------------------------------------------------------------------------------------------------------ strengths


def test_two_systems_have_a_closed_form():
    (found,), (log_nu,) = strengths.fit(np.array([[[30.0, 10.0, 8.0]]]), 2, prior=0)
    assert found[0] - found[1] == pytest.approx(math.log(3), abs=1e-6)
    assert math.exp(log_nu) == pytest.approx(8 / math.sqrt(30 * 10), abs=1e-6)
    (share,) = strengths.preferred(found[None], np.array([log_nu]))
    np.testing.assert_allclose(share, [(30 + 4) / 48, (10 + 4) / 48], atol=1e-6)


def expected_counts(truth: np.ndarray, nu: float, number: float) -> np.ndarray:
    rows = []
    for first, second in strengths.pairs_of(len(truth)):
        weights = np.exp([truth[first], truth[second], (truth[first] + truth[second]) / 2]) * [1, 1, nu]
        rows.append(number * weights / weights.sum())
    return np.array(rows)


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_strengths_are_found_again(prior: float):
    truth = np.array([1.2, 0.3, -0.4, -1.1])
    counts = np.stack([expected_counts(truth, 0.7, number) for number in (1e4, 1e5)])
    found, log_nu = strengths.fit(counts, 4, prior=prior)
    np.testing.assert_allclose(found, np.tile(truth, (2, 1)), atol=1e-6 if prior == 0 else 2e-3)
    np.testing.assert_allclose(np.exp(log_nu), 0.7, atol=1e-5 if prior == 0 else 2e-3)


def test_the_fit_is_the_maximum():
    counts = rng(1).integers(0, 12, (1, 3, 3)).astype(float)

    def likelihood(values: np.ndarray) -> float:
        shares = expected_counts(values[:3], math.exp(values[3]), 1)
        return float((counts[0] * np.log(shares)).sum())

    found, log_nu = strengths.fit(counts, 3, prior=0)
    best = np.append(found[0], log_nu)
    for change in rng(2).normal(0, 0.05, (50, 4)):
        assert likelihood(best + change) < likelihood(best) + 1e-9


def test_who_always_wins_and_who_was_never_seen_stay_finite():
    counts = np.zeros((1, 3, 3))
    counts[0, 0] = 20, 0, 0
    (found,), log_nu = strengths.fit(counts, 3)
    assert found[0] > found[2] > found[1] and np.isfinite(log_nu).all() and found.max() < 5
    (share,) = strengths.preferred(found[None], log_nu)
    assert share.mean() == pytest.approx(0.5) and share[2] == pytest.approx(0.5, abs=0.01)


# ------------------------------------------------------------------------------------------------------- agreement

FOUR_OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
    [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
]
"""The worked example with missing data of Krippendorff 2011, with the results printed there."""
THREE_CODERS = [
    [N, N, N, N, N, 3, 4, 1, 2, 1, 1, 3, 3, N, 3],
    [1, N, 2, 1, 3, 3, 4, 3, N, N, N, N, N, N, N],
    [N, N, 2, 1, 3, 4, 4, N, 2, 1, 1, 3, 3, N, 4],
]
"""The computational example of Wikipedia's article on alpha: 0.691 and 0.811."""


@pytest.mark.parametrize(
    ("ratings", "level", "value"),
    [
        (FOUR_OBSERVERS, "nominal", 0.743),
        (FOUR_OBSERVERS, "ordinal", 0.815),
        (FOUR_OBSERVERS, "interval", 0.849),
        (THREE_CODERS, "nominal", 0.691),
        (THREE_CODERS, "interval", 0.811),
    ],
)
def test_alpha_of_published_examples(ratings: list, level: str, value: float):
    assert agreement.alpha(np.array(ratings), level) == pytest.approx(value, abs=5e-4)


def test_alpha_at_its_ends():
    same = np.tile(rng(0).integers(1, 6, 40).astype(float), (3, 1))
    chance = rng(1).integers(1, 6, (3, 4000)).astype(float)
    opposed = np.array([[1.0, 2, 1, 2], [2, 1, 2, 1]])
    for level in ("nominal", "ordinal", "interval"):
        assert agreement.alpha(same, level) == 1
        assert agreement.alpha(chance, level) == pytest.approx(0, abs=0.03)
        assert agreement.alpha(opposed, level) < -0.5
        assert math.isnan(agreement.alpha(np.ones((3, 5)), level))  # nothing varies, so nothing can be said
        assert math.isnan(agreement.alpha(np.array([[1, N], [N, 2]]), level))  # nobody shares a unit


def test_rank_correlations_agree_with_another_library():
    for seed in range(5):
        first = rng(seed).integers(0, 6, 30).astype(float)
        second = first + rng(seed + 50).integers(-3, 4, 30)
        there = torch.tensor(first), torch.tensor(second)
        (whole,) = agreement.spearman(first, second, np.ones((1, 30)))
        assert whole == pytest.approx(float(spearman_corrcoef(*there)), abs=1e-5)
        assert agreement.kendall(first, second) == pytest.approx(float(kendall_rank_corrcoef(*there)), abs=1e-5)
        picked = rng(seed + 90).integers(0, 30, 30)
        (redrawn,) = agreement.spearman(first, second, np.bincount(picked, minlength=30)[None].astype(float))
        there = torch.tensor(first[picked]), torch.tensor(second[picked])
        assert redrawn == pytest.approx(float(spearman_corrcoef(*there)), abs=1e-5)
    assert np.isnan(agreement.spearman(np.ones(4), np.arange(4.0), np.ones((1, 4))))
    assert math.isnan(agreement.kendall(np.arange(4.0), np.ones(4)))


# -------------------------------------------------------------------------------------------------------- intervals


def crossed(seed: int, num_raters: int, num_items: int, of_raters: float, of_items: float) -> np.ndarray:
    """Votes (raters, items) that differ by rater, by item and by chance; their true mean is 0."""
    draw = rng(seed)
    effects = of_raters * draw.normal(size=(num_raters, 1)) + of_items * draw.normal(size=(1, num_items))
    return effects + draw.normal(size=(num_raters, num_items))


@pytest.mark.parametrize(("of_raters", "of_items"), [(0.0, 0.0), (0.5, 0.5), (1.0, 0.3)])
def test_intervals_hold_the_truth_as_often_as_they_say(of_raters: float, of_items: float):
    num_raters, num_items, held, naive = 8, 20, 0, 0
    raters, items = (grid.ravel() for grid in np.indices((num_raters, num_items)))
    weights = analysis.resamples(items, raters, seed=0)[:500]
    for seed in range(200):
        votes = crossed(seed, num_raters, num_items, of_raters, of_items).ravel()
        redrawn = (weights @ votes) / weights.sum(axis=1)
        low, high = np.quantile(redrawn, (0.025, 0.975))
        held += low <= 0 <= high
        naive += abs(votes.mean()) <= 1.96 * votes.std() / math.sqrt(len(votes))
    assert held >= 0.9 * 200  # never much below 95 %
    if of_raters >= 0.5:
        assert naive < 0.75 * 200  # what treating votes as independent would have claimed


def test_one_rater_is_not_redrawn():
    weights = analysis.resamples(np.arange(6), np.zeros(6, int), seed=0)
    np.testing.assert_array_equal(weights.sum(axis=1), 6)


# ----------------------------------------------------------------------------------------- raters and whole findings


def study_of(kind: str, systems: tuple[str, ...], num_items: int) -> Study:
    items = [Item(name=f"i{n}", prompt="p", frame=None, videos=dict.fromkeys(systems, "x")) for n in range(num_items)]
    facts = {"questions": ("coherence",), "media": {"x": {"file": "x.mp4", "sha256": "", "seconds": 2.0}}}
    facts |= {"checks": 0, "repeats": 0, "tasks_per_rater": None, "seed": 0, "title": "t", "id": "1"}
    return Study(kind=kind, systems=systems, items=tuple(items), **facts)


def pair_votes(study: Study, truth: dict[str, float], nu: float, num_raters: int, seed: int) -> list[Vote]:
    draw, votes = rng(seed), []
    for rater, item, both in itertools.product(
        range(num_raters), study.items, itertools.combinations(study.systems, 2)
    ):
        left, right = both if draw.random() < 0.5 else both[::-1]
        weights = np.exp([truth[left], (truth[left] + truth[right]) / 2, truth[right]]) * [1, nu, 1]
        value = int(draw.choice([-1, 0, 1], p=weights / weights.sum()))
        votes.append(Vote(f"r{rater}", item.name, (left, right), "", {"coherence": value}, 3.0))
    return votes


def test_simulated_raters_tastes_are_found_again():
    truth = {"a": 1.0, "b": 0.0, "c": -1.0}
    study = study_of("pair", tuple(truth), 40)
    found = analysis.findings(study, pair_votes(study, truth, 0.5, 10, seed=0), {})["coherence"]
    for system, value in truth.items():
        strength = found["systems"][system]["log_strength"]
        assert strength["value"] == pytest.approx(value, abs=0.15) and strength["low"] < value < strength["high"]
        assert strength["high"] - strength["low"] < 0.8
    assert math.exp(found["log_nu"]) == pytest.approx(0.5, abs=0.1)
    shares = [found["systems"][system] for system in truth]
    assert sum(share["value"] for share in shares) == pytest.approx(1.5) and shares[0]["low"] > 0.5
    assert sum(pair["wins"] + pair["ties"] + pair["losses"] for pair in found["pairs"]) == 1200
    for level in ("nominal", "ordinal"):
        assert found["alpha"][level]["n"] == 120


def test_sides_and_order_of_systems_do_not_matter():
    truth = {"a": 0.5, "b": -0.5}
    votes = pair_votes(study_of("pair", ("a", "b"), 12), truth, 0.5, 3, seed=1)
    turned = [
        Vote(v.rater, v.item, v.systems[::-1], v.check, {"coherence": -v.answers["coherence"]}, v.seconds)
        for v in votes
    ]
    first = analysis.findings(study_of("pair", ("a", "b"), 12), votes, {})["coherence"]
    second = analysis.findings(study_of("pair", ("b", "a"), 12), turned, {})["coherence"]
    for system in truth:
        assert first["systems"][system]["value"] == pytest.approx(second["systems"][system]["value"], abs=1e-9)
    assert first["alpha"]["ordinal"]["value"] == pytest.approx(second["alpha"]["ordinal"]["value"])


def test_means_and_their_difference():
    study = study_of("single", ("a", "b"), 3)
    votes = [
        Vote(rater, item.name, (system,), "", {"coherence": value}, 3.0)
        for rater in ("x", "y")
        for item in study.items
        for system, value in (("a", 4), ("b", 2 if rater == "x" else 3))
    ]
    found = analysis.findings(study, votes, {})["coherence"]
    assert [found["systems"][system]["value"] for system in "ab"] == [4.0, 2.5]
    (pair,) = found["pairs"]
    assert pair["value"] == 1.5 and 1 <= pair["low"] <= pair["high"] <= 2 and pair["n"] == 6


def checks(study: Study, values: list[int], rater: str = "r") -> list[Vote]:
    """Attention checks, noise on the right."""
    name = study.items[0].name
    return [Vote(rater, name, ("a", NOISE), "noise", {"coherence": value}, 3.0) for value in values]


@pytest.mark.parametrize(
    ("values", "kept"), [([], True), ([-1] * 4, True), ([-1, -1, -1, 0], True), ([-1, -1, 1, 1], False), ([0], False)]
)
def test_the_rule_by_which_raters_count(values: list[int], kept: bool):
    study = study_of("pair", ("a", "b"), 2)
    study = study.model_copy(update={"items": (study.items[0].model_copy(update={"noise": "x"}), study.items[1])})
    votes = [*checks(study, values), Vote("r", "i0", ("a", "b"), "", {"coherence": -1}, 1.0)]
    votes += [Vote("r", "i0", ("b", "a"), "repeat", {"coherence": 1}, 1.0)]
    (facts,) = rater_facts(study, votes, {"r": 9, "silent": 9})
    assert (facts.kept, facts.checks, facts.passed) == (kept, len(values), values.count(-1))
    assert facts.repeats_alike == 1 and facts.left_share == 1 and facts.hurried == 2 / len(votes)
    assert (facts.answered, facts.total) == (len(votes), 9)


def test_checks_and_repeats_are_not_counted_as_votes():
    study = study_of("pair", ("a", "b"), 2)
    votes = [*checks(study, [-1] * 4), Vote("r", "i0", ("b", "a"), "repeat", {"coherence": 1}, 1.0)]
    assert analysis.findings(study, votes, {}) == {}


# ------------------------------------------------------------------------------------------------ automatic metrics


def table(path: Path, rows: list[dict]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return str(path)


@pytest.mark.parametrize("kind", ["pair", "single"])
def test_a_metric_that_sees_what_people_see_and_one_that_does_not(tmp_path: Path, kind: str):
    study, draw = study_of(kind, ("a", "b", "c"), 25), rng(4)
    truth = {(system, item.name): draw.normal() for system in study.systems for item in study.items}
    votes = []
    for rater, item in itertools.product(range(4), study.items):
        if kind == "pair":
            for left, right in itertools.combinations(study.systems, 2):
                ahead = truth[right, item.name] - truth[left, item.name] + 0.3 * draw.normal()
                votes.append(Vote(f"r{rater}", item.name, (left, right), "", {"coherence": int(np.sign(ahead))}, 3.0))
        else:
            for system in study.systems:
                value = int(np.clip(round(3 + truth[system, item.name] + 0.3 * draw.normal()), 1, 5))
                votes.append(Vote(f"r{rater}", item.name, (system,), "", {"coherence": value}, 3.0))
    rows = []
    for (system, item), value in truth.items():
        facts = {"system": system, "item": item}
        rows.append(facts | {"metric": "sees", "value": -value, "better": "lower"})
        rows.append(facts | {"metric": "blind", "value": draw.normal()})
        rows.append(facts | {"metric": "unknown", "value": None})
    metrics = read_scores([table(tmp_path / "scores.jsonl", rows)], study)
    found = analysis.findings(study, votes, metrics)["coherence"]["metrics"]
    assert set(found) == {"sees", "blind"}
    assert found["sees"]["spearman"] > 0.85 and found["sees"]["low"] > 0.7 and found["sees"]["kendall"] > 0.6
    assert found["sees"]["n"] == 75 and found["sees"]["systems"]["n"] == 3
    assert found["blind"]["low"] < 0 < found["blind"]["high"] and abs(found["blind"]["spearman"]) < 0.3
    if kind == "pair":
        assert found["sees"]["same_side"] > 0.85 > 0.7 > found["blind"]["same_side"]


def test_scores_of_evaluate_are_of_whole_systems(tmp_path: Path):
    study = study_of("pair", ("a", "b"), 2)
    rows = [
        {"metric": "psnr", "value": 30.0, "row": "model", "group": "all", "frame": None, "better": "higher"},
        {"metric": "psnr", "value": 10.0, "row": "copy-first", "group": "all", "frame": None, "better": "higher"},
        {"metric": "psnr", "value": 20.0, "row": "model", "group": "all", "frame": 3, "better": "higher"},
        {"metric": "psnr", "value": 15.0, "row": "model", "group": "motion=spins", "frame": None, "better": "higher"},
        {"metric": "motion_ratio", "value": 1.25, "row": "model", "group": "all", "frame": None, "better": "one"},
        {"metric": "flicker", "value": 3.0, "row": "model", "group": "all", "frame": None, "better": "real"},
    ]
    metrics = read_scores([f"a={table(tmp_path / 'scores.jsonl', rows)}"], study)
    assert metrics["psnr"].systems == {"a": 30.0} and metrics["motion_ratio"].systems == {"a": -0.25}
    assert "flicker" not in metrics, "likeness to real is no order"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("c=x.jsonl", None, "c is not a system of the study"),
        ("x.jsonl", '{"metric": "m", "value": 1}\n', "have no system and item of this study"),
        ("x.jsonl", "[1]\n", "line 1: expected a JSON object"),
        ("x.jsonl", '{"value": 1}\n', "has no metric"),
        ("x.txt", "", "must be a .tsv, .csv or .jsonl"),
        ("x.tsv", "metric\tsystem\tvalue\tbetter\nm\ta\t1\tbest\n", "better is 'best'"),
        ("none.tsv", None, "does not exist"),
    ],
)
def test_mistakes_in_scores_are_sentences(tmp_path: Path, monkeypatch, name: str, text: str | None, sentence: str):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path(name).write_text(text)
    with pytest.raises(UserError, match=re.escape(sentence)):
        read_scores([name], study_of("pair", ("a", "b"), 2))


# ------------------------------------------------------------------------------------------------------- the report


def careful(shown: tuple[str, ...]) -> int:
    return {(SYSTEMS[0],): 4, (SYSTEMS[1],): 2, (NOISE,): 1}.get(shown) or (
        -1 if shown[-1] == NOISE or (NOISE not in shown and shown[0] == SYSTEMS[0]) else 1
    )


@pytest.fixture(scope="module", params=["pair", "single"])
def rated(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study rated by four careful raters, and one who always presses the same key."""
    folder = tmp_path_factory.mktemp("report") / "study"
    study = write_study(folder, kind=request.param, title=f"Study {NASTY}", checks=4, repeats=1)
    store = Store(folder / "answers.sqlite", study)
    for rater in ("anna", f"bert|{NASTY}", "cleo", "dora", "lazy"):
        key = store.enter(rater)
        while page := store.progress(key).page:
            value = careful(page.task.systems) if rater != "lazy" else study.choices[-1]
            store.answer(key, page.trial, 0, dict.fromkeys(study.questions, value), 5.0)
    store.close()
    return folder


def test_the_report_leaves_out_who_did_not_look_and_shows_both_counts(rated: Path):
    scores = [
        {"system": s, "item": f"clip{n}", "metric": NASTY, "value": n + (s == SYSTEMS[0])}
        for s in SYSTEMS[:2]
        for n in range(4)
    ]
    left = [rated / "out" / f".r.{suffix}.{ended_process()}.part" for suffix in ("html", "md", "json")]
    for file in left:  # of a report that was killed
        file.parent.mkdir(exist_ok=True)
        file.write_text("half a pa")
    page, text, data = report.write(rated, [table(rated / "scores.jsonl", scores)], rated / "out" / "r.html", seed=3)
    assert not any(file.exists() for file in left)
    content = json.loads(data.read_text())
    assert [rater["kept"] for rater in content["raters"]] == [True] * 4 + [False]
    assert [rater["rater"] for rater in content["raters"]] == ["R1", "R2", "R3", "R4", "R5"]
    for found in content["questions"].values():
        kept, every = (found[who]["systems"][SYSTEMS[0]] for who in ("kept", "all"))
        assert kept["n"] == 24 and every["n"] == 30
        if content["study"]["kind"] == "pair":
            assert kept["value"] > 0.95 > every["value"] > 0.8 and kept["low"] > 0.5
        else:
            assert kept["value"] == 4.0 and every["value"] == 4.2
        assert found["kept"]["metrics"][NASTY]["n"] == (4 if content["study"]["kind"] == "pair" else 8)
    for name in (page, text):
        said = name.read_text()
        assert "Counted: 4 of 5 raters" in said or "raters: 5, counted: 4" in said
        assert "anna" not in said and "no winner" not in said
    assert "<img" not in page.read_text() and "&lt;img src=x" in page.read_text()
    assert not re.search(r"https?://|<script|url\(", page.read_text())


def test_the_same_votes_make_the_same_bytes(rated: Path, tmp_path: Path):
    first = report.write(rated, [], tmp_path / "a.html")
    second = report.write(rated, [], tmp_path / "b.html")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_names_are_shown_on_demand_and_do_no_harm(rated: Path, tmp_path: Path):
    page, text, _ = report.write(rated, [], tmp_path / "r.html", names=True)
    assert "anna" in page.read_text() and "<img" not in page.read_text()
    row = next(line for line in text.read_text().splitlines() if line.startswith("| bert"))
    assert row.count(" | ") == 7 and "bert\\|" in row
    assert "<img" not in text.read_text() and text.read_text().startswith("# Study &lt;img src=x onerror")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("[me](javascript:alert(1))", r"\[me\](javascript\:alert(1))"),
        ("![x](http://a.example/x.png)", r"\!\[x\](http\://a.example/x.png)"),
        ("a|b\n| c", r"a\|b \| c"),
        ("`x` *y* _z_ ~w~ $v$ # u", r"\`x\` \*y\* \_z\_ \~w\~ \$v\$ \# u"),
        ("\\| x", r"\\\| x"),
        ("two_words of R1", "two_words of R1"),
    ],
)
def test_what_others_wrote_is_text_in_markdown(name: str, shown: str):
    assert report._plain(name) == shown


def test_a_report_before_anyone_has_rated_is_a_sentence(tmp_path: Path):
    folder = tmp_path / "study"
    study = write_study(folder, num_items=2)
    with pytest.raises(UserError, match="there are no answers in"):
        report.write(folder, [])
    store = Store(folder / "answers.sqlite", study)
    store.enter("anna")
    store.close()
    with pytest.raises(UserError, match="no answers in .* except to checks"):
        report.write(folder, [])
    with pytest.raises(UserError, match="the report is an HTML page"):
        report.write(folder, [], tmp_path / "x.txt")


def test_when_nobody_passes_the_report_says_so(tmp_path: Path):
    folder = tmp_path / "study"
    study = write_study(folder, num_items=2, checks=2, repeats=0)
    store = Store(folder / "answers.sqlite", study)
    key = store.enter("lazy")
    while page := store.progress(key).page:
        store.answer(key, page.trial, 0, dict.fromkeys(study.questions, 1), 5.0)
    store.close()
    page, text, data = report.write(folder, [])
    assert (
        "the numbers below are of all raters" in text.read_text() and '<div class="soft">1 rater,' in page.read_text()
    )
    assert "No rater passed the checks" in page.read_text() and "No rater passed the checks" in text.read_text()
    assert all(found["kept"] is None for found in json.loads(data.read_text())["questions"].values())


@pytest.mark.parametrize(("n", "is_told"), [(1, False), (5, False), (6, True)])
def test_no_winner_is_told_from_a_handful_of_answers(n: int, is_told: bool):
    """All for one: with five answers a coin does so too, once in sixteen times."""
    facts = {"value": 0.9, "low": 0.9, "high": 0.9, "n": n}
    found = {"systems": {"a": facts, "b": facts | {"value": 0.1, "low": 0.1, "high": 0.1}}, "pairs": []}
    content = {"questions": {"coherence": {"kept": found}}}
    told = report._verdict(study_of("pair", ("a", "b"), 2), content, "coherence")["text"]
    assert ("no significant winner" not in told) == is_told and "a is preferred 90% [no interval: all alike]" in told
