"""`report.json`, `report.md` and `report.html` of a study."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cdcd_video import video
from cdcd_video.errors import UserError
from cdcd_video.metrics.statistics.intervals import CONFIDENCE, RESAMPLES
from cdcd_video.pages.templates import render
from cdcd_video.rate.analysis import findings
from cdcd_video.rate.answers import Store
from cdcd_video.rate.automatic import read_scores
from cdcd_video.rate.raters import PASS_SHARE, RaterFacts, rater_facts
from cdcd_video.rate.study import Study, open_study
from cdcd_video.storage.whole_file import remove_left_parts

WORDS = {
    "coherence": "Coherence",
    "relevance": "Relevance to the caption",
    "first_frame": "Fidelity to the first frame",
}

_FEWEST_ANSWERS = 6  # 2 / 2^6 < 0.05


def write(
    folder: Path, scores: Sequence[str], out: Path | None = None, *, names: bool = False, seed: int = 0
) -> list[Path]:
    """Writes the report of a study in three formats; its caller holds the lock of `out`.

    Args:
      folder: of the study.
      scores: files of automatic scores, see `automatic.read_scores`.
      out: the .html file; the others have its name with .md and .json. None: report.html in the folder of the study.
      names: show the names of raters.
      seed: of the bootstrap.

    Returns:
      The three paths.

    Raises:
      UserError: there is no study or no answer, a table is unusable, or the files cannot be written.
    """
    out = out or folder / "report.html"
    if out.suffix != ".html":
        raise UserError(f"--out is {out}, but the report is an HTML page; name it {out.with_suffix('.html')}")
    study = open_study(folder)
    if not (folder / "answers.sqlite").is_file():
        raise UserError(f"there are no answers in {folder}; serve it: python -m cdcd_video.rate serve --study {folder}")
    store = Store(folder / "answers.sqlite", study)
    votes, totals = store.votes(), store.totals()
    store.close()
    if not any(not vote.check for vote in votes):
        raise UserError(
            f"there are no answers in {folder} except to checks; run the report again when raters have answered more"
        )
    metrics = read_scores(scores, study)
    facts = rater_facts(study, votes, totals)
    kept = {one.rater for one in facts if one.kept}
    every = findings(study, votes, metrics, seed)
    counted = findings(study, [vote for vote in votes if vote.rater in kept], metrics, seed)
    content = {
        "study": _about(study),
        "rule": f"those who passed at least {PASS_SHARE:.0%} of the attention checks that they answered",
        "intervals": {"confidence": CONFIDENCE, "redraws": RESAMPLES, "seed": seed},
        "raters": [_facts_of(one, number, names) for number, one in enumerate(facts, 1)],
        "questions": {name: {"kept": counted.get(name), "all": every[name]} for name in study.questions},
    }
    page = content | {"words": WORDS, "verdicts": [_verdict(study, content, name) for name in study.questions]}
    filters: dict[str, Callable[..., Any]] = {
        "number": _number,
        "share": _percent,
        "between": _between,
        "plain": _plain,
    }
    here = Path(__file__).parent
    files = {
        out: render(here / "report.html", page, filters),
        out.with_suffix(".md"): render(here / "report.md", page, filters),
        out.with_suffix(".json"): json.dumps(content, indent=1, allow_nan=False) + "\n",
    }
    for path, text in files.items():
        remove_left_parts(path.parent, path.name)
        with video.whole_file(path) as part:
            part.write_text(text, encoding="utf-8")
    return list(files)


def _about(study: Study) -> dict[str, Any]:
    about = study.model_dump(include={"id", "title", "kind", "systems", "seed", "tasks_per_rater", "checks", "repeats"})
    return about | {"questions": list(study.questions), "num_items": len(study.items), "left_out": len(study.left_out)}


def _facts_of(one: RaterFacts, number: int, names: bool) -> dict[str, Any]:
    facts = dict(vars(one))
    return facts | {"rater": one.rater if names else f"R{number}"}


def _verdict(study: Study, content: dict[str, Any], name: str) -> dict[str, str]:
    """One sentence about one question, from the counted raters."""
    found = content["questions"][name]["kept"]
    if found is None:
        return {
            "title": WORDS[name],
            "text": "No rater passed the checks, so there is no result; the numbers below are of all raters.",
        }
    systems = [(facts["value"], system) for system, facts in found["systems"].items() if facts["value"] is not None]
    value, best = max(systems)
    facts = found["systems"][best]
    if study.kind == "pair":
        is_clear = facts["low"] is not None and facts["low"] > 0.5
        text = f"{best} is preferred {_share(facts)} of the time, ties counted half"
    else:
        others = [
            pair for pair in found["pairs"] if best in (pair["first"], pair["second"]) and pair["low"] is not None
        ]
        gaps = [pair["low"] if pair["first"] == best else -pair["high"] for pair in others]
        is_clear = bool(gaps) and min(gaps) > 0
        text = f"{best} has the highest mean, {value:.2f} of 5 [{_between(facts)}]"
    # Fewer answers are not significant at 5 %, even if all agree; their bootstrap interval has no width.
    is_clear &= facts["n"] >= _FEWEST_ANSWERS
    if not is_clear and len(study.systems) > 1:
        text = f"there is no significant winner; {text}"
    return {"title": WORDS[name], "text": f"{text}."}


def _share(facts: dict[str, Any]) -> str:
    return f"{facts['value']:.0%} [{_between(facts, 'share')}]"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _plain(text: str) -> str:
    """Escapes a name or title for Markdown: no markup, no link, no cell."""
    escaped = re.sub(r"[\\`*\[\]|~$#!:@]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", " ".join(str(text).split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _between(facts: dict[str, Any], kind: str = "number") -> str:
    """An interval as text; empty where there is none."""
    if facts["low"] is None:
        return ""
    if facts["low"] == facts["high"]:  # of answers that are all alike; resampling them finds nothing else
        return "no interval: all alike"
    if kind == "share":
        return f"{100 * facts['low']:.0f} to {100 * facts['high']:.0f}"
    return f"{_number(facts['low'])} to {_number(facts['high'])}"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.00"
