"""A comparison in words: titles of its lines, and its verdict in one sentence."""

from collections.abc import Sequence

from cdcd_video.evaluation.report.latent_tables import CAPTION_LINES, GAP_COLUMNS, IMAGE_LINES, PATH_LINES, SPACES
from cdcd_video.metrics.score_entries import OF_SETS, headline
from cdcd_video.metrics.scores import KEPT, RETENTION, SLOPE
from cdcd_video.metrics.statistics.comparison import LEVEL, Comparison, Line

_ALONG = {RETENTION: "end / beginning", SLOPE: "slope per frame", KEPT: "frames kept"}
_LATENT = {name: words[0] for lines in (IMAGE_LINES, CAPTION_LINES, PATH_LINES) for name, words in lines.items()}
_MOST_NAMED = 3


def title(line: Line) -> str:
    """The title of a line: score, feature network, and space or frame rate where it has one."""
    network = f" [{line.features}]" if line.features else ""
    if line.is_latent:
        where = SPACES.get(line.group) or line.group.removeprefix("fps=").replace("->", " to ") + " fps"
        return f"{(_LATENT | GAP_COLUMNS).get(line.metric, _spelled(line.metric))}{network}, {where}"
    return f"{_of_metric(line.metric)}{network}" + ("" if line.row == "model" else ", other caption")


def _of_metric(metric: str) -> str:
    titles = {entry.metric: entry.title for entry in (*headline(), *OF_SETS) if entry.group == "all"}
    for ending, words in _ALONG.items():
        if metric.endswith(f"_{ending}"):
            return f"{_of_metric(metric.removesuffix(f'_{ending}'))}, {words}"
    return titles.get(metric, _spelled(metric))


def _spelled(metric: str) -> str:
    return metric.replace("_", " ")


def verdict(comparison: Comparison) -> str:
    """What the comparison found, in one sentence."""
    tested = [line for line in comparison.lines if any(test.p_holm is not None for test in line.tests)]
    if not tested:
        return "No score can be tested, because the systems have no videos in common or their scores were not saved per video."
    if comparison.is_too_small:
        return _too_few(comparison, tested)
    num, others = len(tested), "the other" if len(comparison.systems) == 2 else "every other one"
    won = {name: [line for line in tested if line.best == name] for name in comparison.systems}
    parts = [
        f"{name} is significantly better than {others} in {len(lines)} of {num} scores ({_named(lines)})"
        for name, lines in won.items()
        if lines
    ]
    undecided = [line for line in tested if line.is_undecided]
    if undecided:
        parts.append(
            f"{_listed(comparison.systems)} differ significantly in {len(undecided)} of {num} scores ({_named(undecided)}),"
            " of which the value of true videos would be right, and there are none"
        )
    if not parts:
        return f"None of {num} tested scores tells {_listed(comparison.systems)} apart significantly."
    left = num - sum(map(len, won.values())) - len(undecided)
    return f"{'; '.join(parts)}{f'; no significant difference in {left}' if left else ''}."


def _too_few(comparison: Comparison, tested: Sequence[Line]) -> str:
    most = max(test.n for line in tested for test in line.tests)
    least = comparison.least_videos
    way_out = (
        f"at least {least} videos are needed, with differences that all agree"
        if least is not None
        else "compare fewer systems or fewer metrics at a time"
    )
    return (
        f"Too few videos to tell: with {most}, no difference can be significant (p below {LEVEL} after Holm's correction over"
        f" {comparison.num_tests} tests), however large it is; {way_out}."
    )


def _named(lines: Sequence[Line]) -> str:
    more = f" and {len(lines) - _MOST_NAMED} more" if len(lines) > _MOST_NAMED else ""
    return ", ".join(title(line) for line in lines[:_MOST_NAMED]) + more


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
