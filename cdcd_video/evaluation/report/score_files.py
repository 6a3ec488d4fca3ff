"""The files of an evaluation for programs: scores, sums per video and the protocol, each written atomically."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cdcd_video.metrics.protocol import SettledProtocol
from cdcd_video.metrics.scores import Score
from cdcd_video.metrics.summary import PerVideo
from cdcd_video.video import whole_file


def write_scores(scores: Sequence[Score], facts: Mapping[str, Any], path: Path) -> Path:
    """Writes `scores.jsonl`: a line per score, each with all facts of the evaluation.

    Args:
      scores: all scores.
      facts: common to all scores: data, split, seed, checkpoint, drawing settings, versions.
      path: the file.

    Returns:
      The path.

    Raises:
      UserError: the place cannot be written.
    """
    return _write(path, ({**dataclasses.asdict(score), **facts} for score in scores))


def write_videos(videos: Sequence[PerVideo], path: Path) -> Path:
    """Writes `per_video.jsonl`: a line per video and metric, and per frame for the model; the clip only where it differs."""
    lines = map(dataclasses.asdict, videos)
    return _write(path, ({name: line[name] for name in line if name != "clip" or line[name]} for line in lines))


def write_protocol(settled: SettledProtocol, path: Path) -> Path:
    """Writes `protocol.yaml`, which `evaluate.py --protocol` takes."""
    with whole_file(path) as part:
        part.write_text(settled.as_yaml(), encoding="utf-8")
    return path


def write_cost(cost: Mapping[str, Any], path: Path) -> Path:
    """Writes `cost.json`: command, commit, machine and seconds."""
    with whole_file(path) as part:
        part.write_text(json.dumps(cost, indent=1) + "\n", encoding="utf-8")
    return path


def _write(path: Path, lines: Any) -> Path:
    with whole_file(path) as part, part.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, allow_nan=False) + "\n")
    return path
