"""The card of a run, in Markdown: what was trained, how long, and the last evaluations."""

import json
from pathlib import Path
from typing import Any

from cdcd_video.engine.runtime import MOST_RUN_JSON_BYTES
from cdcd_video.storage.numerals import significant
from cdcd_video.storage.small_file import open_plain, read_small_json


def write_card(run: Path, parameters: dict[str, int]) -> Path:
    """Writes `card.md` from run.json and log.jsonl.

    Returns:
      The path written.
    """
    facts = read_small_json(run / "run.json", limit=MOST_RUN_JSON_BYTES)
    machine = facts["machine"]
    stand_in = facts.get("clip_stand_in")
    lines = [
        f"# {run.name}",
        "",
        *([f"**{stand_in}.**", ""] if stand_in else []),
        f"- command: `{' '.join(facts['command'])}`",
        f"- commit: {facts['commit']}{' with uncommitted changes' if facts['dirty'] is True else ''}",
        f"- machine: {machine['gpu'] or machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}",
        *([f"- precision: {_alike(facts['precision'])}"] if "precision" in facts else []),
        f"- weights: {', '.join(f'{name} {count / 1e6:.2f} M' for name, count in parameters.items())}",
        "",
        "| stage | steps | minutes | at the end |",
        "|---|---|---|---|",
    ]
    alarm_lines = []
    for stage, (last, evaluation, alarms) in stages(run / "log.jsonl").items():
        alarm_lines += [f"- **{stage}: {alarm}.**" for alarm in alarms]
        scores = ", ".join(f"{name} {significant(value, 4)}" for name, value in evaluation.items() if value is not None)
        lines.append(f"| {stage} | {last['step']} | {last['time_s'] / 60:.1f} | {scores} |")
    if alarm_lines:
        lines += ["", "Alarms of the last evaluation (docs/diffusion.md, section 9):", "", *alarm_lines]
    path = run / "card.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _alike(by_stage: dict[str, str]) -> str:
    """One word if all stages have the same precision, else that of each stage."""
    kinds = set(by_stage.values())
    return kinds.pop() if len(kinds) == 1 else ", ".join(f"{stage} {kind}" for stage, kind in by_stage.items())


def stages(log: Path) -> dict[str, tuple[dict[str, Any], dict[str, float], list[str]]]:
    """Of every stage in a log, in order of appearance: the last line, the last evaluation, and its alarms."""
    found: dict[str, tuple[dict[str, Any], dict[str, float], list[str]]] = {}
    with open_plain(log) as file:
        entries = [json.loads(line) for line in file]
    for line in entries:
        _, evaluation, alarms = found.get(line["task"], ({}, {}, []))
        if "evaluation" in line:
            evaluation, alarms = line["evaluation"], line.get("alarms", [])
        found[line["task"]] = (line, evaluation, alarms)
    return found
