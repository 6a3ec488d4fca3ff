"""Scores whether a model follows the sentence on a set of captioned actions: the first frame of a test clip, other sentences.

A first frame gives away part of the action, so only sentences of another action of the same set count. The same videos
measured by a sentence that they were not sampled from, and videos sampled without a caption, are the scores of a model that
ignores captions. Fidelity to the true clips is measured by evaluate.py.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.config.sampling_params import add_flags
from cdcd_video.data.action_labels import ActionLabel, action_labels
from cdcd_video.data.store import StoredClips
from cdcd_video.errors import UserError, exit_code
from cdcd_video.metrics import action_classifier
from cdcd_video.metrics.action_classifier import ActionReferee
from cdcd_video.metrics.statistics.intervals import bootstrap
from cdcd_video.metrics.travel import direction_in, direction_of
from cdcd_video.storage.free_name import chosen_folder

SAMPLING = (
    "num_frames",
    "num_steps",
    "guidance",
    "temperature",
    "top_p",
    "lookback_s",
    "longest_gap_s",
    "decoded",
    "unchanged",
    "solver",
)
NUM_SHEET = 8
"""Clips on the contact sheet."""
SCORES, SHEET = "scores.json", "sheet.png"


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.action_scores", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="NAME_OR_DIR", help="a model or run folder")
    add("--clips", type=Path, required=True, metavar="PREPARED", help="the prepared folder")
    referee = "folder of train_action_classifier; it must not have been trained on the split"
    add("--referee", type=Path, required=True, metavar="DIR", help=referee)
    add("--split", default="test", help="split of the first frames (default: %(default)s)")
    add("--label", metavar="NAME", help="key of `about` with the action (default: label, otherwise the sentence)")
    add("--captions-per-clip", type=int, default=2, metavar="N", help="other sentences per clip (default: %(default)s)")
    add("--num-clips", type=int, metavar="N", help="use the first N clips (default: all)")
    add_flags(parser, SAMPLING)
    add("--seed", type=int, default=0, help="seed of sentences, sampling and intervals (default: 0)")
    add("--batch", type=int, default=32, metavar="B", help="videos sampled at a time (default: 32)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    add("--out", type=Path, metavar="DIR", help="output folder (default: out/action_scores, or the next free name)")
    args = parser.parse_args()
    if args.captions_per_clip < 2 or args.batch < 1 or args.seed < 0 or (args.num_clips or 1) < 1:
        raise UserError("--captions-per-clip must be at least 2, --batch and --num-clips at least 1, --seed at least 0")
    with chosen_folder(args.out, Path("out/action_scores")) as out:
        lines = measure(args, out)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


@dataclass(frozen=True)
class Sampled:
    """A video, and the label that it is measured by.

    Attributes:
      system: `own`, `other`, `shuffled`, `dropped`, `truth` or `codec-ceiling`.
      clip: number of the clip that it begins with.
      label: action and sentence that count as right.
      frames: uint8 (F, S, S, 3).
    """

    system: str
    clip: int
    label: ActionLabel
    frames: np.ndarray


def other_labels(
    label: ActionLabel, known: Sequence[ActionLabel], num: int, rng: np.random.Generator
) -> list[ActionLabel]:
    """Sentences of other actions of the same set, each of another action; fewer than `num` if the set has fewer actions."""
    actions: dict[str, list[ActionLabel]] = {}
    for one in sorted(set(known)):
        if one.set == label.set and one.action != label.action:
            actions.setdefault(one.action, []).append(one)
    chosen = [sorted(actions)[place] for place in rng.permutation(len(actions))[:num]]
    return [actions[action][rng.integers(len(actions[action]))] for action in chosen]


def measure(args: argparse.Namespace, out: Path) -> list[str]:
    """Samples, measures, writes `scores.json` and a contact sheet, and returns the table.

    Raises:
      UserError: clips, referee and model do not fit each other.
    """
    import torch

    from cdcd_video.engine.runtime import provenance
    from cdcd_video.pipeline import ImageToVideo
    from cdcd_video.video import contact_sheet

    clips, referee = StoredClips(args.clips, args.split), action_classifier.load(args.referee)
    known = action_labels(StoredClips(args.clips, "train"), args.label)
    labels = action_labels(clips, args.label)[: args.num_clips]
    for set_name in dict.fromkeys(label.set for label in labels):
        action_classifier.check_set(referee.classes, set_name)
    pipe = ImageToVideo.from_pretrained(args.checkpoint, args.device)
    if not pipe.size_px == clips.size_px == referee.card["size_px"]:
        raise UserError(
            f"the model is for {pipe.size_px} px, the clips have {clips.size_px} px and the referee is for"
            f" {referee.card['size_px']} px; use one size"
        )
    given = {name: getattr(args, name) for name in SAMPLING}
    params = pipe.defaults(**given, fps=clips.fps)
    rng = np.random.Generator(np.random.Philox(key=args.seed))
    others = [other_labels(label, known, args.captions_per_clip, rng) for label in labels]
    if min(map(len, others)) < 2:
        raise UserError(f"a set in {args.clips} has fewer than three actions; there are no two others to compare")
    videos = list(_sampled(pipe, clips, labels, others, params, args))
    scores = list(_scores(videos, referee, args.seed))
    rows = [video for video in videos if video.clip < NUM_SHEET and video.system in ("truth", "own", "other")]
    rows.sort(key=lambda video: video.clip)
    sheet = contact_sheet(
        [one.frames for one in rows], out / SHEET, [f"{one.system}: {one.label.caption}" for one in rows], 3
    )
    card = {name: referee.card[name] for name in ("split", "sets")}
    facts = {
        "model": args.checkpoint,
        "data": name_of_set(clips),
        "model_sha256": pipe.model.digest,
        "sampling": params.described(),
    }
    facts |= {"clips_sha256": clips.digest(), "split": args.split, "seed": args.seed}
    facts |= provenance(threads=pipe.num_threads or torch.get_num_threads(), precision=pipe.precision)
    result = {**facts, "referee": {"sha256": referee.sha256, **card}, "scores": scores}
    (out / SCORES).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return [*action_classifier.summary(referee.card), *map(_line, scores), str(out / SCORES), str(sheet)]


def name_of_set(clips: StoredClips) -> str:
    """The name of the prepared folder; of one that is called like the size of its frames, the name of the folder around it."""
    folder = clips.folder.resolve()
    height, width = clips.size
    return folder.parent.name if folder.name == f"{height}x{width}" else folder.name


def _sampled(
    pipe: Any,
    clips: StoredClips,
    labels: Sequence[ActionLabel],
    others: Sequence[Sequence[ActionLabel]],
    params: Any,
    args: argparse.Namespace,
) -> Iterator[Sampled]:
    """Every video, measured by every label that it is compared by."""
    from tqdm import tqdm

    from cdcd_video.metrics.references import codec_ceiling

    # One stream of noise for each clip: the videos of a first frame differ by their sentence alone.
    wanted = [(clip, label) for clip, label in enumerate(labels)]
    wanted += [(clip, label) for clip, chosen in enumerate(others) for label in chosen]
    starts = np.stack([clips.frames(clip, [0])[0] for clip, _ in wanted])
    made: list[np.ndarray] = []
    num_dropped = len(labels)
    with tqdm(total=(len(wanted) + num_dropped) * (params.num_frames - 1), unit="frame", file=sys.stderr) as bar:
        for last, how in ((len(wanted), params), (num_dropped, params.changed(guidance=0.0))):  # guidance 0: no caption
            for begin in range(0, last, args.batch):
                part = slice(begin, min(begin + args.batch, last))
                captions = [label.caption for _, label in wanted[part]]
                seeds = [args.seed * len(labels) + clip for clip, _ in wanted[part]]
                made += list(pipe.sample(starts[part], captions, how, seeds, bar.update))
    dropped = made[len(wanted) :]
    for clip, label in enumerate(labels):
        true = clips.frames(clip, range(min(params.num_frames, clips.num_frames(clip))))
        yield Sampled("truth", clip, label, true)
        yield Sampled("codec-ceiling", clip, label, codec_ceiling(pipe, true[None])[0])
        yield Sampled("own", clip, label, made[clip])
        own = [
            frames
            for frames, (number, _) in zip(made[len(labels) :], wanted[len(labels) :], strict=False)
            if number == clip
        ]
        for place, (frames, other) in enumerate(zip(own, others[clip], strict=True)):
            yield Sampled("other", clip, other, frames)
            yield Sampled("shuffled", clip, others[clip][(place + 1) % len(own)], frames)
            yield Sampled("dropped", clip, other, dropped[clip])


def _scores(videos: Sequence[Sampled], referee: ActionReferee, seed: int) -> Iterator[dict[str, Any]]:
    """Shares by set, system and metric with their intervals, and the differences of `other` to both controls."""
    each = {id(one.frames): one for one in videos}  # a video is measured by several labels, and named once
    names = {key: referee.named(referee.probabilities([one.frames])[0], one.label.set)[0] for key, one in each.items()}
    right: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for one in videos:
        found = {"action": float(names[id(one.frames)] == one.label.action)}
        if direction := direction_in(one.label.caption):
            found["direction"] = float(direction_of(one.frames) == direction)
        for metric, value in found.items():
            right.setdefault((one.label.set, metric, one.system), {}).setdefault(one.clip, []).append(value)
    for (name, metric, system), of_clip in sorted(right.items()):
        yield {"set": name, "metric": metric, "system": system, **_interval(of_clip, None, seed)}
        if system == "other":
            for control in ("shuffled", "dropped"):
                against = right.get((name, metric, control))
                if against is not None:
                    line = {"set": name, "metric": metric, "system": f"other - {control}"}
                    yield line | _interval(of_clip, against, seed)


def _interval(of_clip: dict[int, list[float]], against: dict[int, list[float]] | None, seed: int) -> dict[str, Any]:
    """Mean over videos, 95 % interval by clips, number of videos and of clips; of clips that both have, if there are two."""
    chosen = sorted(clip for clip in of_clip if against is None or clip in against)
    if not chosen:
        return {"value": None, "low": None, "high": None, "n": 0, "num_clips": 0}
    totals = np.array([sum(of_clip[clip]) for clip in chosen])
    weights = np.array([float(len(of_clip[clip])) for clip in chosen])
    if against is not None:
        totals = totals - weights * np.array([np.mean(against[clip]) for clip in chosen])
    value, low, high = bootstrap(totals[:, None], weights[:, None], seed, is_share=against is None)
    ends = [None if np.isnan(end[0]) else round(float(end[0]), 4) for end in (value, low, high)]
    return {**dict(zip(("value", "low", "high"), ends, strict=True)), "n": int(weights.sum()), "num_clips": len(chosen)}


def _line(score: dict[str, Any]) -> str:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    span = f"{number(score['value'])} [{number(score['low'])}, {number(score['high'])}]"
    return f"{score['set'] or 'all clips':<14}{score['metric']:<11}{score['system']:<18}{span:<26}n = {score['n']}"


if __name__ == "__main__":
    sys.exit(exit_code(main))
