"""A study of the latent space as tables and words, which the page and the Markdown are made from."""

from collections.abc import Iterable, Sequence

from cdcd_video.evaluation.report.score_entries import check_all_are_shown
from cdcd_video.evaluation.report.score_table import Cell, Line, Table
from cdcd_video.metrics.latent.latent_scores import MEASURES
from cdcd_video.metrics.scores import Score

SPACES = {"space=embedding": "joint embedding", "space=codes": "code vectors"}
IMAGE_LINES = {
    "purity": ("purity", "k-means clusters, as many as images: share of frames with their cluster's commonest image"),
    "silhouette": ("silhouette", "nearer to frames of the same image than to those of the next: 1 far apart, 0 not"),
    "retrieval@1": ("retrieval@1", "the nearest of all source images is the frame's own"),
    "retrieval@5": ("retrieval@5", "it is among the five nearest"),
    "alignment": ("alignment", "squared distance to the own source image"),
    "uniformity": ("uniformity", "log mean potential between images; lower is more spread out"),
}
CAPTION_LINES = {
    "caption_silhouette": (
        "silhouette by sentence",
        "frames of one image, labelled by the sentence they were drawn from",
    ),
    "caption_retrieval@1": ("right true video", "the nearest of the image's true videos is that of the sentence given"),
    "caption_spread": ("spread", "distance between sentences of one image, over that between images"),
}
PATH_LINES = {
    "step_length": ("step length", "distance from the frame before"),
    "curvature": ("curvature", "angle between step in and step out: 0 straight on, about 120 for jitter in one place"),
    "distance_to_real": ("to other real paths", "distance to the nearest real path of another image"),
    "distance_to_own": ("to the own true path", "at whatever time it passes nearest; who never sets off is at 0"),
    "distance_in_time": ("to the own true frame", "of the same time"),
}
GAP_COLUMNS = {
    "inbetween_psnr": "PSNR",
    "inbetween_object_psnr": "PSNR on objects",
    "inbetween_position_error": "position error",
    "inbetween_identity_iou": "identity",
}
check_all_are_shown(
    MEASURES,
    [*IMAGE_LINES, *CAPTION_LINES, *PATH_LINES, *GAP_COLUMNS],
    "the lines of evaluation/report/latent_tables.py",
)
OF_SPACE = {
    "images": (IMAGE_LINES, ("model", "real", "shuffled")),
    "captions": (CAPTION_LINES, ("model", "real", "shuffled")),
    "paths": (PATH_LINES, ("model", "real", "copy-first", "other-sentence")),
}
"""The tables of a space: their lines, and the rows of the study that are their columns."""
TITLES = {
    "images": "Do videos stay with their image?",
    "captions": "Do different sentences part?",
    "paths": "Trajectories",
    "rates": "Any frame rate",
}
_NOTES = {
    "images": "Drawn frames by the image they were drawn from, at equal frame index; shuffled: the images dealt out at random.",
    "captions": "Drawn frames of one image by the sentence they were drawn from; shuffled: the sentences dealt out at random.",
    "paths": "Every video as a path, from frame to frame; real: the true videos through the same codec.",
}


def tables(scores: Sequence[Score]) -> list[Table]:
    """Every table of a study, in the order of the page."""
    groups = list(dict.fromkeys(score.group for score in scores))
    made = [of_space(scores, group, part) for part in OF_SPACE for group in groups if group.startswith("space=")]
    made += [of_rate(scores, group) for group in groups if group.startswith("fps=")]
    return [table for table in made if table.lines]


def of_space(scores: Sequence[Score], group: str, part: str) -> Table:
    """One part of `OF_SPACE` in one space: a line per score, a column per row of the study."""
    lines, rows = OF_SPACE[part]
    found = {metric: {row: find(scores, group, row, metric) for row in rows} for metric in lines}
    found = {metric: by_row for metric, by_row in found.items() if any(by_row.values())}
    columns = [row for row in rows if any(by_row[row] for by_row in found.values())]
    made = tuple(
        Line(
            lines[metric][0],
            tuple(cell(by_row[row]) for row in columns),
            lines[metric][1],
            f"n = {counted(by_row.values())}",
        )
        for metric, by_row in found.items()
    )
    title = TITLES[part] + (" In the " if TITLES[part].endswith("?") else " in the ") + SPACES[group]
    return Table(title, _NOTES[part], tuple((row, "") for row in columns), made)


def of_rate(scores: Sequence[Score], group: str) -> Table:
    """One doubling of the frame rate: a line per way, over all gaps and in the first one alone."""
    own = [score for score in scores if score.group == group]
    columns = [metric for metric in GAP_COLUMNS if any(score.metric == metric for score in own)]
    first = [metric for metric in columns if metric not in ("inbetween_psnr", "inbetween_identity_iou")] or columns
    begin, end = group.removeprefix("fps=").split("->")
    made = []
    for row in dict.fromkeys(score.row for score in own):
        cells = [cell(find(own, group, row, metric)) for metric in columns]
        cells += [cell(find(own, group, row, metric, 0)) for metric in first]
        made.append(Line(row, tuple(cells)))
    words = [GAP_COLUMNS[metric] for metric in columns] + [f"{GAP_COLUMNS[metric]}, first gap" for metric in first]
    title = f"{TITLES['rates']}: from {begin} to {end} frames per second"
    note = f"n = {counted(s for s in own if s.frame is None)}; frames halfway between true ones, against the true ones there."
    return Table(title, note, tuple((word, "") for word in words), tuple(made), main=-1)


def words(scores: Sequence[Score]) -> dict[str, str]:
    """What the page says in words, before each part."""
    group, told = "space=embedding", {}

    def said(row: str, metric: str) -> str:
        return shown(find(scores, group, row, metric))[0] or "-"

    if find(scores, group, "model", "retrieval@1"):
        told["images"] = (
            f"The nearest source image is the frame's own for {said('model', 'retrieval@1')} of drawn frames"
            f" ({said('real', 'retrieval@1')} of real ones, {said('shuffled', 'retrieval@1')} by chance)."
        )
    if find(scores, group, "model", "caption_retrieval@1"):
        codes = shown(find(scores, "space=codes", "model", "caption_retrieval@1"))[0]
        told["captions"] = (
            f"Of one image's true videos, the nearest is that of the sentence given for {codes} of drawn frames in the"
            f" code vectors and {said('model', 'caption_retrieval@1')} in the joint embedding"
            f" ({said('shuffled', 'caption_retrieval@1')} by chance)."
        )
    told["paths"] = (
        f"Steps are {said('model', 'step_length')} long (real: {said('real', 'step_length')}) and turn by"
        f" {said('model', 'curvature')} (real: {said('real', 'curvature')}), in the joint embedding."
    )
    return told


def find(scores: Iterable[Score], group: str, row: str, metric: str, frame: int | None = None) -> Score | None:
    """One score of a study; None where it was not measured."""
    wanted = (group, row, metric, frame)
    return next((score for score in scores if (score.group, score.row, score.metric, score.frame) == wanted), None)


def cell(score: Score | None) -> Cell:
    """A score as a cell."""
    value, interval = shown(score)
    return Cell(value or "-", interval)


def shown(score: Score | None) -> tuple[str, str]:
    """A value with its unit and its interval, as words; empty where there is none."""
    if score is None or score.value is None:
        return "", ""
    value = _number(score.value, score.unit) + {"share": "%", "degrees": " deg", "dB": " dB", "px": " px"}.get(
        score.unit, ""
    )
    if score.low is None or score.high is None:
        return value, ""
    return value, f"{_number(score.low, score.unit)} to {_number(score.high, score.unit)}"


def counted(scores: Iterable[Score | None]) -> str:
    """How much stands behind some scores, as in "96 videos"."""
    most = max((score for score in scores if score), key=lambda score: score.n)
    return f"{most.n} {most.counted}"


def _number(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.0f}"
    if unit in ("degrees", "dB"):
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 or unit in ("ratio", "px", "nats") else f"{value:.3f}"
