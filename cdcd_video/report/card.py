"""A run's card: what was trained, from what, for how long, and how it stood at the end. Markdown, for people."""

import json
from pathlib import Path
from typing import Any


def write_card(run: Path, parameters: dict[str, int]) -> Path:
    """Writes `card.md` from what the run folder already holds: run.json and log.jsonl.

    Args:
      run: the run folder.
      parameters: number of weights per network.

    Returns:
      The path written.
    """
    facts = json.loads((run / "run.json").read_text())
    machine = facts["machine"]
    lines = [
        f"# {run.name}",
        "",
        f"- command: `{' '.join(facts['command'])}`",
        f"- commit: {facts['commit']}{' with uncommitted changes' if facts['dirty'] is True else ''}",
        f"- machine: {machine['gpu'] or machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}",
        f"- weights: {', '.join(f'{name} {count / 1e6:.2f} M' for name, count in parameters.items())}",
        "",
        "| stage | steps | minutes | at the end |",
        "|---|---|---|---|",
    ]
    for stage, (last, evaluation) in stages(run / "log.jsonl").items():
        told = ", ".join(f"{name} {value:.4g}" for name, value in evaluation.items() if value is not None)
        lines.append(f"| {stage} | {last['step']} | {last['time_s'] / 60:.1f} | {told} |")
    path = run / "card.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def stages(log: Path) -> dict[str, tuple[dict[str, Any], dict[str, float]]]:
    """The last line and the last evaluation of every stage in a log, in order of appearance."""
    found: dict[str, tuple[dict[str, Any], dict[str, float]]] = {}
    for line in map(json.loads, log.read_text().splitlines()):
        evaluation = line.get("evaluation", found.get(line["task"], ({}, {}))[1])
        found[line["task"]] = (line, evaluation)
    return found
