"""Writes the page of benchmarks: a table for each world and protocol, with a row for each model and each control.

A result that is named is first kept in a small form, in the folder of results. Without any, the page is written anew from
those that are kept.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError, exit_code
from cdcd_video.metrics.score_entries import formatted, interval
from cdcd_video.metrics.statistics.intervals import CONFIDENCE
from cdcd_video.pages.markdown_text import as_is
from cdcd_video.storage.folder_lock import folder_lock
from cdcd_video.storage.whole_file import remove_left_parts
from cdcd_video.tools.benchmark_results import COLUMNS, SYSTEMS, Column, Result, read_results, results_in, write_result
from cdcd_video.video import refused_by_disk, whole_file

HEAD = f"""# Benchmarks

`python -m cdcd_video.tools.benchmarks` writes this page from the files in `docs/results/`. Cells are a value with its
{100 * CONFIDENCE:.0f} % interval and n. Rows:

| row | what it is |
|---|---|
| a name, with the first digits of the model's sha256 | videos of the model |
| shuffled captions | the same videos, measured by another caption of their first frame: a model that ignores captions |
| first frame repeated | a video in which nothing moves |
| codec's reconstruction | the true video through the model's codec: the most that the model can reach |

Rows of one table have the same first frames, captions and true videos. [evaluation.md](evaluation.md) explains the scores.

To add a model, measure it and name the output. A model that is measured again takes the place of the earlier result:

```sh
python evaluate.py --checkpoint sprites --size 64x64 --metrics sprites psnr ssim motion --num-videos 128 --no-latents \\
    --out out/benchmarks/sprites
python evaluate.py --checkpoint runs/digits --metrics digits psnr ssim motion --num-videos 128 --no-latents \\
    --out out/benchmarks/digits
python evaluate.py --checkpoint runs/actions_64 --data data/actions64 --split test --num-frames 24 --metrics psnr ssim motion \\
    --no-latents --out out/benchmarks/actions
python -m cdcd_video.tools.action_scores --checkpoint runs/actions_64 --clips data/actions64 --referee out/action_classifier \\
    --out out/benchmarks/action_scores
python -m cdcd_video.tools.open_future --checkpoint runs/sprites_open --out out/benchmarks/open_future
python -m cdcd_video.tools.benchmarks out/benchmarks/*
```

A [baseline](baselines.md) is measured by the same commands, with its run folder as `--checkpoint`. The output of `tools.bars` can
be named too, and gives a table for each of its rates and lengths. Commit first: a result says which commit it came from.
"""
PUBLISHED = {
    "sprites": "The world is part of this project, so there are no published figures.",
    "digits": "Papers on captioned moving digits have other splits, lengths and scores. No published figure has this protocol,"
    " so none is quoted.",
}
"""On published figures, by world."""
NO_FIGURES = "We know of no published figures with this protocol, so none are quoted."
TITLES = {
    "sentence-ignored": "shuffled captions",
    "copy-first": "first frame repeated",
    "codec-ceiling": "codec's reconstruction",
    "shuffled": "shuffled captions",
    "dropped": "without a caption",
    "other - shuffled": "minus shuffled captions",
    "other - dropped": "minus without a caption",
    "own": "with the clip's own caption",
    "truth": "true video",
}
OPEN_COLUMNS = (
    Column("right", "right"),
    Column("futures found, of those expected", "diversity"),
    Column("edges, of the true video's", "edges"),
    Column("identity, last frame", "identity_last"),
)


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.benchmarks", description=__doc__)
    add = parser.add_argument
    add(
        "folders", nargs="*", type=Path, metavar="DIR", help="output of evaluate.py, bars, action_scores or open_future"
    )
    add("--results", type=Path, default=Path("docs/results"), metavar="DIR", help="kept results (default: %(default)s)")
    add("--out", type=Path, default=Path("docs/benchmarks.md"), metavar="FILE", help="the page (default: %(default)s)")
    args = parser.parse_args()
    if args.results.exists() and not args.results.is_dir():
        raise UserError(f"{args.results} is a file; name the folder of the kept results by --results")
    found = [result for folder in args.folders for result in results_in(folder)]
    with folder_lock(args.results), refused_by_disk(args.results):
        remove_left_parts(args.results)
        for result in found:
            sys.stdout.write(f"{write_result(result, args.results)}\n")
        results = read_results(args.results)
        if not results:
            raise UserError(f"there are no results in {args.results}; name output folders of evaluate.py or of a tool")
        text = page(results)
        with whole_file(args.out) as part:
            part.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{args.out}\n")
    return 0


def page(results: Sequence[Result]) -> str:
    """The page as Markdown."""
    worlds = sorted({result.world for result in results}, key=lambda world: (world not in PUBLISHED, world))
    parts = [HEAD]
    for world in worlds:
        of_world = [result for result in results if result.world == world]
        words = [PUBLISHED.get(world, NO_FIGURES)]
        if not any(result.baseline for result in of_world):
            words.append("No baseline has been measured here yet.")
        parts += [f"## {as_is(world)}\n", " ".join(words) + "\n"]
        for (kind, protocol), group in itertools.groupby(
            sorted(of_world, key=lambda result: (result.kind, result.protocol, result.baseline or "", result.model)),
            key=lambda result: (result.kind, result.protocol),
        ):
            parts += [f"### {as_is(protocol[0].upper() + protocol[1:])}\n", *_section(kind, list(group))]
    return "\n".join(parts)


def _section(kind: str, results: Sequence[Result]) -> Iterator[str]:
    """A table, and under it where each model's figures came from."""
    scores = [score for result in results for score in result.scores]
    measured = dict.fromkeys((score.metric, score.group) for score in scores)
    if kind == "action_scores":
        columns = [Column(f"{group}: {metric}" if group else metric, metric, group) for metric, group in measured]
    else:
        known = COLUMNS if kind == "evaluate" else OPEN_COLUMNS
        columns = [column for column in known if (column.metric, column.group) in measured]
    rows = [["", *(column.title for column in columns)], ["---"] * (len(columns) + 1)]
    for result in results:
        for system in SYSTEMS if kind == "evaluate" else dict.fromkeys(score.row for score in result.scores):
            cells = [_cell(result, system, column) for column in columns]
            row = [_title(result, system), *cells]
            if row not in rows and any(cell != "-" for cell in cells):  # controls may be the same for several models
                rows.append(row)
    yield "\n".join(f"| {' | '.join(map(as_is, row))} |" for row in rows) + "\n"
    yield "\n".join(_source(result) for result in results) + "\n"


def _title(result: Result, system: str) -> str:
    model = f"{result.model} ({result.model_sha256[:8]}{f', {result.baseline}' if result.baseline else ''})"
    if system in ("model", "other") or system.startswith("model,"):
        return f"{model}{system.removeprefix('model')}" if system != "other" else f"{model}, with another caption"
    return TITLES[system]


def _cell(result: Result, system: str, column: Column) -> str:
    wanted = (system, column.metric, column.group)
    found = (score for score in result.scores if (score.row, score.metric, score.group) == wanted)
    score = next(found, None)
    if score is None or score.value is None:
        return "-"
    ends = f" [{interval(score)}]" if interval(score) else ""
    return f"{formatted(score).replace('%', ' %')}{ends}, n = {score.n}"


def _source(result: Result) -> str:
    machine, changed = result.machine, " with changes" if result.dirty is True else ""
    words: Iterable[Any] = (
        f"{machine['cores']} cores of {machine['cpu']}",
        machine["gpu"],
        machine["cpu_capability"],
        machine["precision"],
        f"torch {machine['torch']}",
    )
    where = ", ".join(str(word) for word in words if word)
    return (
        f"- {result.model}, sha256 {result.model_sha256[:12]}: `{result.command}`; seed {result.seed}, commit"
        f" {result.commit[:7]}{changed}, {where}."
    )


if __name__ == "__main__":
    sys.exit(exit_code(main))
