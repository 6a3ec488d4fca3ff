"""Titles, descriptions, order and rounding of the scores in a report."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from cdcd_video.metrics.scores import KEPT, MEANINGS, MEASURES, RETENTION, SLOPE, Score
from cdcd_video.storage.numerals import significant


@dataclass(frozen=True)
class Entry:
    """One score of the tables that have a column per system."""

    metric: str
    title: str
    meaning: str
    group: str = "all"


HEADLINE = (
    Entry("does_right_thing", "does the right thing", "Objects that move as the caption says, without other changes."),
    Entry("direction_right", "right kind and sign", "Objects whose motion has at least the right kind and sign."),
    Entry("still_right", "stays still", 'Objects that "stay still" by the caption and do; a frozen video passes too.'),
    Entry(
        "still_iou",
        "still outline",
        "Overlap of still objects with themselves one frame before (IoU); 1 is no flicker.",
    ),
    Entry("all_right", "both objects right", "Videos of two objects in which both do the right thing.", "objects=2"),
    Entry("position_error", "position error", "Distance from the true centre, over objects that were found."),
    Entry("identity_iou", "identity", "Overlap with the true shape laid over the tracked centre (IoU); 0 where lost."),
    Entry("background_psnr", "background PSNR", "Pixels without objects against the true background; at most 60."),
    Entry("lost_share", "lost", "Fraction of objects and frames where the object was not found."),
    Entry("digit_right", "digit does the right thing", "Digits that go the way of the caption and end where it leads."),
    Entry(
        "digit_direction", "digit's directions", "Digits that go the right way between every two turns, by any amount."
    ),
    Entry(
        "digits_right", "all moving digits right", "Videos in which every digit of the caption does the right thing."
    ),
    Entry(
        "digit_position_error", "digit's position error", "Distance from the true place, over digits that were found."
    ),
    Entry(
        "digit_identity",
        "digit's identity",
        "Frames in which the classifier names the digit rightly, where no other reaches into its square.",
    ),
    Entry("digit_identity_end", "digit's identity, last frame", "The same in the last frame."),
    Entry("digit_lost", "digit lost", "Fraction of digits and frames where too little of the digit is in the frame."),
    Entry("distractor_still", "distractor stays", "Digits that are not in the caption and stay in their place."),
    Entry("distractor_identity", "distractor's identity, last frame", "Those that keep their identity."),
    Entry("psnr", "PSNR", "Frames against the true ones; at most 60."),
    Entry("ssim", "SSIM", "Structural similarity of frames to the true ones."),
    Entry("lpips", "LPIPS", "Learned perceptual distance of frames to the true ones."),
    Entry(
        "motion_ratio",
        "motion",
        "Mean change from frame to frame, relative to the true video: 1 is right, 0 is frozen.",
    ),
    Entry("spatial_iou", "spatial IoU", "Physics-IQ: overlap of where anything moves with where it truly does."),
    Entry("spatiotemporal_iou", "spatiotemporal IoU", "Physics-IQ: the same of each frame by itself."),
    Entry("weighted_spatial_iou", "weighted spatial IoU", "Physics-IQ: the same, each pixel by how long it moves."),
    Entry("mse", "MSE", "Physics-IQ: mean squared error of frames, of values from 0 to 1."),
    Entry(
        "nll",
        "NLL, bits per token",
        "Bits per code of the true next frame, given the true one before it; exact, or an upper bound.",
    ),
    Entry(
        "caption_margin",
        "caption margin",
        "Cross-entropy of the true next codes under a wrong sentence minus under the right one, nats per changed code.",
    ),
    Entry(
        "between_psnr",
        "PSNR between both ends",
        "Frames between the first and the last, both given, against the true ones.",
    ),
    Entry("between_ssim", "SSIM between both ends", "Structural similarity of the same frames."),
    Entry("between_identity_iou", "identity between both ends", "The identity of objects in the same frames."),
    Entry("between_position_error", "position error between both ends", "Their distance from the true centre."),
    Entry("clip_text", "CLIP, caption", "Cosine similarity of frames and caption; only differences are meaningful."),
    Entry("clip_first", "CLIP, first frame", "Cosine similarity of frames and frame 0; a frozen video has 1."),
    Entry(
        "step_length",
        "step in CLIP space",
        "Distance of consecutive frames in CLIP's joint space.",
    ),
    Entry("curvature", "turn in CLIP space", "Angle between consecutive steps; jitter in place has about 120."),
    Entry("warp_error", "warp error", "Error of each frame as predicted from the one before by optical flow."),
    Entry("flow", "optical flow", "Mean length of the optical flow."),
    Entry("flicker", "flicker", "Fluctuation of still pixels, in levels of 255."),
    Entry("colour_drift", "colour drift", "Distance of colour statistics from frame 0, in CIELAB; 2 is just visible."),
    Entry("discontinuity", "first step", "Probability that frame 1 changes more than in a real video: 0.5 is right."),
)
"""The first table, in this order, as far as the scores were measured."""


def headline() -> tuple[Entry, ...]:
    """`HEADLINE`, then the scores of extensions, which have descriptions of their own."""
    return (*HEADLINE, *(Entry(name, name.replace("_", " "), meaning) for name, meaning in MEANINGS.items()))


_OVER = "Minus that of the true videos. More precise, because both share their first frames; below 0 by chance."
OF_SETS = (
    Entry("fid", "FID", "Frechet distance between features of sampled and real frames."),
    Entry("fid_over_floor", "FID over the floor", _OVER),
    Entry("kid", "KID", "Kernel distance of the same features, unbiased in the number of videos."),
    Entry("kid_over_floor", "KID over the floor", _OVER),
    Entry("is", "IS", "Inception score of frames; higher is more diverse and more confident."),
    Entry("fvd", "FVD", "Frechet distance between features of sampled and real videos."),
    Entry("fvd_over_floor", "FVD over the floor", _OVER),
    Entry("kvd", "KVD", "Kernel distance of the same features, unbiased in the number of videos."),
    Entry("kvd_over_floor", "KVD over the floor", _OVER),
    Entry("video_is", "video IS", "Inception score of videos."),
    Entry(
        "flow_vmd", "flow VMD", "Frechet distance between histograms of optical flow; not FVMD, which tracks points."
    ),
    Entry("flow_vmd_over_floor", "flow VMD over the floor", _OVER),
    Entry("cd_fvd", "content-debiased FVD", "FVD on features that depend more on motion than on appearance."),
    Entry("cd_fvd_over_floor", "content-debiased FVD over the floor", _OVER),
    Entry("jedi", "JEDi by V-JEPA 2", "JEDi's kernel distance, on features of V-JEPA 2 in place of V-JEPA."),
    Entry("jedi_over_floor", "JEDi by V-JEPA 2 over the floor", _OVER),
)
"""Scores of whole sets, in this order."""


def check_complete(measured: Iterable[str], listed: Collection[str], where: str) -> None:
    """Checks that every score has a place in a table and the reverse; runs at import.

    Args:
      measured: names of scores.
      listed: those that a table shows.
      where: the place of the tables, for the message.

    Raises:
      ValueError: a score is in no table, or a table has one that is not measured.
    """
    measured = list(measured)
    missing = [name for name in measured if name not in listed]
    unknown = [name for name in listed if name not in measured]
    if missing or unknown:
        raise ValueError(
            f"{where}: in no table: {', '.join(missing) or 'none'}; not measured: {', '.join(unknown) or 'none'}"
        )


_ALONG = tuple(f"_{figure}" for figure in (RETENTION, SLOPE, KEPT))
"""Summaries of curves have a table of their own, made from the entries."""
check_complete(
    (name for name in MEASURES if not name.endswith(_ALONG) and name not in MEANINGS),
    [entry.metric for entry in (*HEADLINE, *OF_SETS)],
    "HEADLINE and OF_SETS of metrics/score_entries.py",
)

SYSTEMS = {
    "model": "videos of the model",
    "copy-first": "the first frame, repeated",
    "codec-ceiling": "the true codes, decoded",
    "truth": "the true video",
    "oracle-cross-fade": "an oracle: a cross-fade from the first frame to the true last one, which no model has",
}
"""The columns of both tables with a description."""
SYSTEM_TITLES = {
    "model": "model",
    "copy-first": "first frame, repeated",
    "codec-ceiling": "true codes, decoded",
    "truth": "true video",
    "oracle-cross-fade": "cross-fade to the true last frame",
}
"""What pages call them; the names are those of `scores.jsonl`."""
SENTENCE_TITLES = {
    "counterfactual": "another sentence was given",
    "sentence-ignored": "the sentence was not changed",
}


def right_metric(scores: Sequence[Score]) -> str:
    """The score of a moving object or digit that does the right thing; that of sprites where there is neither."""
    return "digit_right" if any(score.metric == "digit_right" for score in scores) else "does_right_thing"


def find(scores: Sequence[Score], row: str, metric: str, group: str = "all") -> Score | None:
    """One score over the whole video; None where it was not measured."""
    wanted = (row, metric, group, None, None)
    found = (one for one in scores if (one.row, one.metric, one.group, one.frame, one.window) == wanted)
    return next(found, None)


def formatted(score: Score | None) -> str:
    """A value with its unit, rounded; a dash where there is none."""
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
    return significant(value, 3) if abs(value) >= 0.001 or value == 0 else f"{value:.4f}"
