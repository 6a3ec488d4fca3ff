"""What the scores are called, in which order they come, and how they are rounded."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from cdcd_video.metrics.scores import KEPT, MEANINGS, MEASURES, RETENTION, SLOPE, Score


@dataclass(frozen=True)
class Entry:
    """One score of the tables that have a column per row of `SYSTEMS`."""

    metric: str
    title: str
    meaning: str
    group: str = "all"


HEADLINE = (
    Entry("does_right_thing", "does the right thing", "Objects that do what the sentence says and nothing else."),
    Entry("direction_right", "right kind and sign", "Objects whose change is at least of the right kind and sign."),
    Entry("still_right", "still when told so", 'Objects that "stay still" and really do; freezing passes this too.'),
    Entry("all_right", "both objects right", "Videos of two objects in which both do the right thing.", "objects=2"),
    Entry("position_error", "position error", "Distance from the true centre, over the objects that were found."),
    Entry("identity_iou", "identity", "Overlap with the true shape laid over the tracked centre (IoU); 0 where lost."),
    Entry(
        "background_psnr", "background PSNR", "Pixels that no object covers, against the true background; at most 60."
    ),
    Entry("lost_share", "lost", "Objects not found, over objects and frames."),
    Entry("psnr", "PSNR", "Whole frames against the true ones; at most 60."),
    Entry("ssim", "SSIM", "Structural similarity of whole frames to the true ones."),
    Entry("lpips", "LPIPS", "Learned perceptual distance of whole frames to the true ones; lower is closer."),
    Entry("motion_ratio", "motion", "Mean change from frame to frame over the truth's: 1 is right, 0 is frozen."),
    Entry(
        "nll",
        "NLL, bits per token",
        "Bits for a code of the true next frame, told the true one before it; exact or an upper bound.",
    ),
    Entry("clip_text", "CLIP, sentence", "Cosine of each frame and the sentence; only differences mean something."),
    Entry("clip_first", "CLIP, first frame", "Cosine of each frame and frame 0; freezing is at 1."),
    Entry(
        "step_length",
        "step in CLIP space",
        "Length of each step of the path that the frames make in CLIP's joint space.",
    ),
    Entry(
        "curvature", "turn in CLIP space", "Angle between the steps of that path; jitter around a place is near 120."
    ),
    Entry("warp_error", "warp error", "How badly the frame before, moved along the flow, predicts each frame."),
    Entry("flow", "optical flow", "Mean length of the flow into each frame."),
    Entry("flicker", "flicker", "How much pixels that stand still jump to and fro, levels of 255."),
    Entry("colour_drift", "colour drift", "How far the colours have gone from frame 0, CIELAB; 2 is just seen."),
    Entry("discontinuity", "first step", "How often frame 1 jumps more than in a real video: 0.5 is right."),
)
"""What is shown first, in this order, as far as it was measured."""


def headline() -> tuple[Entry, ...]:
    """`HEADLINE`, and after it the scores of extensions, which bring their meaning with them."""
    return (*HEADLINE, *(Entry(name, name.replace("_", " "), meaning) for name, meaning in MEANINGS.items()))


_OVER = "Beyond the true videos' own; surer, for both share their first frames. Below 0: chance, or the network is blind to it."
OF_SETS = (
    Entry("fid", "FID", "Frechet distance between the features of drawn and of real frames."),
    Entry("fid_over_floor", "FID over the floor", _OVER),
    Entry("kid", "KID", "Kernel distance of the same, without the floor's dependence on the number of videos."),
    Entry("kid_over_floor", "KID over the floor", _OVER),
    Entry("is", "IS", "How many classes the frames seem to be from; higher is more varied and surer."),
    Entry("fvd", "FVD", "Frechet distance between the features of drawn and of real videos."),
    Entry("fvd_over_floor", "FVD over the floor", _OVER),
    Entry("kvd", "KVD", "Kernel distance of the same, without the floor's dependence on the number of videos."),
    Entry("kvd_over_floor", "KVD over the floor", _OVER),
    Entry("video_is", "video IS", "How many classes the videos seem to be from."),
    Entry("cd_fvd", "content-debiased FVD", "FVD on features that heed motion more than looks."),
    Entry("cd_fvd_over_floor", "the same over the floor", _OVER),
)
"""Scores of whole sets, in this order."""


def check_all_are_shown(measured: Iterable[str], told: Collection[str], where: str) -> None:
    """Holds what is measured and what is shown to each other; called when a module is imported.

    Args:
      measured: names of scores.
      told: those that a table shows.
      where: the tables' place, for the message.

    Raises:
      ValueError: a score would be measured and shown nowhere, or is shown and never measured.
    """
    measured = list(measured)
    unseen = [name for name in measured if name not in told]
    unknown = [name for name in told if name not in measured]
    if unseen or unknown:
        raise ValueError(
            f"{where}: measured and shown nowhere: {', '.join(unseen) or 'none'}; "
            f"shown and never measured: {', '.join(unknown) or 'none'}"
        )


_ALONG = tuple(f"_{figure}" for figure in (RETENTION, SLOPE, KEPT))
"""Figures of curves have a table of their own, which is made from the entries."""
check_all_are_shown(
    (name for name in MEASURES if not name.endswith(_ALONG) and name not in MEANINGS),
    [entry.metric for entry in (*HEADLINE, *OF_SETS)],
    "HEADLINE and OF_SETS of evaluation/report/score_entries.py",
)

SYSTEMS = {
    "model": "the model's videos",
    "copy-first": "the first frame, repeated",
    "codec-ceiling": "the true codes, decoded",
    "truth": "the true video",
    "oracle-cross-fade": "an oracle: pixels mixed from the first frame to the true last one, which no model is shown",
}
"""The columns of both tables, and what they are."""
SENTENCE_TITLES = {
    "counterfactual": "another sentence was given",
    "sentence-ignored": "the sentence was not changed",
}


def find(scores: Sequence[Score], row: str, metric: str, group: str = "all") -> Score | None:
    """One score over the whole video; None where it was not measured."""
    wanted = (row, metric, group, None, None)
    found = (one for one in scores if (one.row, one.metric, one.group, one.frame, one.window) == wanted)
    return next(found, None)


def shown(score: Score | None) -> str:
    """A value with its unit, rounded to what it can bear; a dash where there is none."""
    if score is None:
        return "-"
    return _number(score.value, score.unit, with_unit=True) + ("+" if score.is_at_least else "")


def interval(score: Score | None) -> str:
    """The interval, as in "55 to 69"; empty where there is none."""
    if score is None or score.low is None or score.high is None:
        return ""
    return f"{_number(score.low, score.unit)} to {_number(score.high, score.unit)}"


def _number(value: float | None, unit: str, with_unit: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    if unit == "share":
        return f"{100 * value:.0f}" + ("%" if with_unit else "")
    if unit == "frames":
        return f"{value:.0f}"
    if unit in ("ratio", "cosine"):
        return f"{value:.2f}"
    if unit in ("px", "dB"):
        return f"{value:.1f}" + (f" {unit}" if with_unit else "")
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 or value == 0 else f"{value:.4f}"
