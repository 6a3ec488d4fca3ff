"""A study of the latent space as tables and sentences, for the page and the Markdown."""

from collections.abc import Iterable, Sequence

from cdcd_video.evaluation.report.score_table import Cell, Line, Table
from cdcd_video.metrics.latent.latent_scores import MEASURES
from cdcd_video.metrics.score_entries import check_complete
from cdcd_video.metrics.scores import Score

SPACES = {"space=embedding": "joint embedding", "space=codes": "code vectors"}
IMAGE_LINES = {
    "purity": (
        "purity",
        "k-means clusters, as many as images: fraction of frames of the most common image of their cluster",
    ),
    "silhouette": (
        "silhouette",
        "distance to frames of the nearest other image against the same image: 1 well separated, 0 not",
    ),
    "retrieval@1": ("retrieval@1", "the nearest source image is the own one"),
    "retrieval@5": ("retrieval@5", "the own source image is among the five nearest"),
    "alignment": ("alignment", "squared distance to the own source image"),
    "uniformity": ("uniformity", "log mean potential between images; lower is more spread out"),
}
CAPTION_LINES = {
    "caption_silhouette": (
        "silhouette by caption",
        "frames of one image, labelled by caption",
    ),
    "caption_retrieval@1": ("right true video", "the nearest true video of the image is that of the caption"),
    "caption_spread": ("spread", "distance between captions of one image, relative to that between images"),
}
PATH_LINES = {
    "step_length": ("step length", "distance from the frame before"),
    "curvature": ("curvature", "angle between consecutive steps: 0 straight on, about 120 for jitter in place"),
    "distance_to_real": ("to other real paths", "distance to the nearest real path of another image"),
    "distance_to_own": ("to the own true path", "at the nearest time; a frozen video has 0"),
    "distance_in_time": ("to the own true frame", "at the same time"),
}
GAP_COLUMNS = {
    "inbetween_psnr": "PSNR",
    "inbetween_object_psnr": "PSNR on objects",
    "inbetween_position_error": "position error",
    "inbetween_identity_iou": "identity",
}
check_complete(
    MEASURES,
    [*IMAGE_LINES, *CAPTION_LINES, *PATH_LINES, *GAP_COLUMNS],
    "the lines of evaluation/report/latent_tables.py",
)
OF_SPACE = {
    "images": (IMAGE_LINES, ("model", "real", "shuffled")),
    "captions": (CAPTION_LINES, ("model", "real", "shuffled")),
    "paths": (PATH_LINES, ("model", "real", "copy-first", "other-sentence")),
}
"""The tables of a space: their lines, and the systems of the study that are their columns."""
TITLES = {
    "images": "Clusters by image",
    "captions": "Differences between captions",
    "paths": "Trajectories",
    "rates": "Frame-rate doubling",
}
_NOTES = {
    "images": "Sampled frames labelled by source image, at equal frame index; shuffled: with random labels.",
    "captions": "Sampled frames of one image labelled by caption; shuffled: with random labels.",
    "paths": "Every video as a path from frame to frame; real: the true videos encoded by the same codec.",
}


def tables(scores: Sequence[Score]) -> list[Table]:
    """Every table of a study, in the order of the page."""
    groups = list(dict.fromkeys(score.group for score in scores))
    made = [of_space(scores, group, part) for part in OF_SPACE for group in groups if group.startswith("space=")]
    made += [of_rate(scores, group) for group in groups if group.startswith("fps=")]
    return [table for table in made if table.lines]


def of_space(scores: Sequence[Score], group: str, part: str) -> Table:
    """One part of `OF_SPACE` in one space: a line per score, a column per system of the study."""
    lines, systems = OF_SPACE[part]
    found = {metric: {system: find(scores, group, system, metric) for system in systems} for metric in lines}
    found = {metric: by_row for metric, by_row in found.items() if any(by_row.values())}
    columns = [system for system in systems if any(by_row[system] for by_row in found.values())]
    made = tuple(
        Line(
            lines[metric][0],
            tuple(cell(by_row[system]) for system in columns),
            lines[metric][1],
            f"n = {counted(by_row.values())}",
        )
        for metric, by_row in found.items()
    )
    title = f"{TITLES[part]} in the {SPACES[group]}"
    return Table(title, _NOTES[part], tuple((system, "") for system in columns), made)


def of_rate(scores: Sequence[Score], group: str) -> Table:
    """One doubling of the frame rate: a line per method, over all gaps and in the first one alone."""
    own = [score for score in scores if score.group == group]
    columns = [metric for metric in GAP_COLUMNS if any(score.metric == metric for score in own)]
    first = [metric for metric in columns if metric not in ("inbetween_psnr", "inbetween_identity_iou")] or columns
    begin, end = group.removeprefix("fps=").split("->")
    made = []
    for system in dict.fromkeys(score.row for score in own):
        cells = [cell(find(own, group, system, metric)) for metric in columns]
        cells += [cell(find(own, group, system, metric, 0)) for metric in first]
        made.append(Line(system, tuple(cells)))
    words = [GAP_COLUMNS[metric] for metric in columns] + [f"{GAP_COLUMNS[metric]}, first gap" for metric in first]
    title = f"{TITLES['rates']}: from {begin} to {end} frames per second"
    note = f"n = {counted(s for s in own if s.frame is None)}; frames halfway between true ones, against the true ones."
    return Table(title, note, tuple((word, "") for word in words), tuple(made), main=-1)


def words(scores: Sequence[Score]) -> dict[str, str]:
    """The main results in sentences, for each part of the page."""
    group, sentences = "space=embedding", {}

    def value(system: str, metric: str) -> str:
        return formatted(find(scores, group, system, metric))[0] or "-"

    if find(scores, group, "model", "retrieval@1"):
        sentences["images"] = (
            f"The nearest source image is the own one for {value('model', 'retrieval@1')} of sampled frames"
            f" ({value('real', 'retrieval@1')} of real ones, {value('shuffled', 'retrieval@1')} by chance)."
        )
    if find(scores, group, "model", "caption_retrieval@1"):
        codes = formatted(find(scores, "space=codes", "model", "caption_retrieval@1"))[0]
        sentences["captions"] = (
            f"The nearest true video of the image is that of the caption for {codes} of sampled frames in the code vectors"
            f" and {value('model', 'caption_retrieval@1')} in the joint embedding"
            f" ({value('shuffled', 'caption_retrieval@1')} by chance)."
        )
    sentences["paths"] = (
        f"Step length is {value('model', 'step_length')} (real: {value('real', 'step_length')}), and curvature"
        f" {value('model', 'curvature')} (real: {value('real', 'curvature')}), in the joint embedding."
    )
    return sentences


def find(scores: Iterable[Score], group: str, system: str, metric: str, frame: int | None = None) -> Score | None:
    """One score of a study; None where it was not measured."""
    wanted = (group, system, metric, frame)
    return next((score for score in scores if (score.group, score.row, score.metric, score.frame) == wanted), None)


def cell(score: Score | None) -> Cell:
    """A score as a cell."""
    value, interval = formatted(score)
    return Cell(value or "-", interval)


def formatted(score: Score | None) -> tuple[str, str]:
    """A value with its unit, and its interval, as text; empty where there is none."""
    if score is None or score.value is None:
        return "", ""
    value = _number(score.value, score.unit) + {"share": "%", "degrees": " deg", "dB": " dB", "px": " px"}.get(
        score.unit, ""
    )
    if score.low is None or score.high is None:
        return value, ""
    return value, f"{_number(score.low, score.unit)} to {_number(score.high, score.unit)}"


def counted(scores: Iterable[Score | None]) -> str:
    """The largest sample size of some scores, as in "96 videos"."""
    most = max((score for score in scores if score), key=lambda score: score.n)
    return f"{most.n} {most.counted}"


def _number(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.0f}"
    if unit in ("degrees", "dB"):
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 or unit in ("ratio", "px", "nats") else f"{value:.3f}"
