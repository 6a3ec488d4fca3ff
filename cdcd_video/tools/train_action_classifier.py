"""Trains the network that names the action of a video on a prepared folder of captioned actions; minutes on one core.

It learns from the split train, mirrored, zoomed, shifted, brightened and shortened anew in every step, and is measured on
true clips of another split. A second network gets the first frame alone: what that one names right is given away by it.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.data.action_labels import ActionLabel, action_labels, classes_of
from cdcd_video.data.clip_augmentation import sample_augmentation
from cdcd_video.data.images import content_box
from cdcd_video.data.store import StoredClips
from cdcd_video.engine import runtime
from cdcd_video.errors import UserError, exit_code
from cdcd_video.kernels.threads import threads
from cdcd_video.metrics import action_classifier
from cdcd_video.metrics.action_classifier import ActionClassifier, chosen_frames, first_frame_of, motion_of, named
from cdcd_video.storage.free_name import chosen_folder

NUM_STEPS, BATCH_SIZE, PEAK_RATE = 1_000, 24, 3e-3
LEAST_SHARE = 0.75
"""A training clip is shortened to this share at least."""

View = Callable[[np.ndarray], Float[np.ndarray, "2 T S S"]]
"""What a network is given of the chosen frames."""


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.train_action_classifier", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--clips", type=Path, required=True, metavar="PREPARED", help="a prepared folder, not an augmented one")
    where = "output folder (default: out/action_classifier, or the next free name)"
    add("--out", type=Path, metavar="DIR", help=where)
    add("--label", metavar="NAME", help="key of `about` with the action (default: label, otherwise the sentence)")
    add("--split", default="test", help="split that it is measured on (default: %(default)s)")
    add("--steps", type=int, default=NUM_STEPS, metavar="N", help="steps of 24 clips (default: %(default)s)")
    add("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.steps < 2 or args.seed < 0:
        raise UserError("--steps must be at least 2 and --seed at least 0")
    if args.split == "train":
        raise UserError("--split must not be train: the network was trained on it; choose test or val")
    clips, held_out = StoredClips(args.clips, "train"), StoredClips(args.clips, args.split)
    labels = action_labels(clips, args.label)
    classes = classes_of(labels)
    with chosen_folder(args.out, Path("out/action_classifier")) as out, threads(1):
        begin = time.perf_counter()
        network = train(clips, labels, classes, motion_of, args.steps, args.seed)
        still = train(clips, labels, classes, first_frame_of, max(2, args.steps // 2), args.seed)
        true = action_labels(held_out, args.label)
        card = {
            "classes": [vars(one) for one in classes],
            "split": args.split,
            "sets": confusion(network, still, held_out, true, classes),
            "data_sha256": clips.digest(),
            "size_px": clips.size_px,
            "num_clips": len(clips),
            "steps": args.steps,
            "seed": args.seed,
            "torch": torch.__version__,
        }
        path = action_classifier.save(network, card, out)
    lines = [f"{path}: {time.perf_counter() - begin:.0f} s", *action_classifier.summary(card)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def train(
    clips: StoredClips,
    labels: Sequence[ActionLabel],
    classes: Sequence[ActionLabel],
    view: View,
    num_steps: int,
    seed: int = 0,
) -> ActionClassifier:
    """A fresh network, trained; on one thread, the same seed gives the same bits.

    Args:
      clips: training clips.
      labels: of each.
      classes: of `classes_of`.
      view: what the network is given.
      num_steps: steps of `BATCH_SIZE` clips.
      seed: of weights, dropout, examples and their changes.
    """
    place = {one: number for number, one in enumerate(classes)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(runtime.seed_for(seed, "action-classifier", "weights"))
        network = ActionClassifier(len(classes)).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=0.05)
        rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=num_steps, pct_start=0.2)
        for step in tqdm(range(num_steps), desc=view.__name__, file=sys.stderr):
            rng = np.random.Generator(np.random.Philox(key=runtime.seed_for(seed, "action-classifier", step)))
            chosen = [
                example(clips, labels, int(clip), view, rng) for clip in rng.integers(len(clips), size=BATCH_SIZE)
            ]
            videos = torch.from_numpy(np.stack([video for video, _ in chosen]))
            answers = torch.tensor([place[label] for _, label in chosen])
            loss = F.cross_entropy(network(videos), answers, label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rates.step()
    return network.eval()


def example(
    clips: StoredClips, labels: Sequence[ActionLabel], clip: int, view: View, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "2 T S S"], ActionLabel]:
    """A clip, changed at random, and what happens in it then."""
    row, is_mirrored = clips.rows[clip], bool(rng.random() < 0.5)
    shot = min((row.num_frames, *row.cuts))
    change = sample_augmentation(rng, size_px=clips.size_px, fps=clips.fps, first_shot=shot, is_mirrored=is_mirrored)
    first = change.skipped
    length = max(2, round(rng.uniform(LEAST_SHARE, 1) * (row.num_frames - first)))
    frames = clips.frames(clip, [0] * first + [first + frame for frame in chosen_frames(length)])
    box = content_box(row.source_width, row.source_height, clips.size_px, clips.mode)
    return view(change.apply(frames, box)), labels[clip].mirrored() if is_mirrored else labels[clip]


def confusion(
    network: ActionClassifier,
    still: ActionClassifier,
    clips: StoredClips,
    labels: Sequence[ActionLabel],
    classes: Sequence[ActionLabel],
) -> dict[str, dict[str, Any]]:
    """For each set: how many clips, how many right by the network and by the one of the first frame, and the mistakes.

    Args:
      network: given the motion.
      still: given the first frame alone.
      clips: true clips that neither was trained on.
      labels: of each.
      classes: what the networks' outputs mean.
    """
    answers = {
        view: _answers(net, view, clips, labels, classes)
        for net, view in ((network, motion_of), (still, first_frame_of))
    }
    found: dict[str, dict[str, Any]] = {}
    for name in sorted({label.set for label in labels}):
        own = [clip for clip, label in enumerate(labels) if label.set == name]
        of_action: dict[str, Counter[str]] = {}
        for clip in own:
            of_action.setdefault(labels[clip].action, Counter())[answers[motion_of][clip][0]] += 1
        found[name] = {
            "n": len(own),
            "right": sum(labels[clip].action == answers[motion_of][clip][0] for clip in own),
            "right_sentence": sum(labels[clip].caption == answers[motion_of][clip][1] for clip in own),
            "right_by_first_frame": sum(labels[clip].action == answers[first_frame_of][clip][0] for clip in own),
            "most_frequent": max(Counter(labels[clip].action for clip in own).values()),
            "confusion": {action: dict(of_action[action].most_common()) for action in sorted(of_action)},
        }
    return found


def _answers(
    network: ActionClassifier,
    view: View,
    clips: StoredClips,
    labels: Sequence[ActionLabel],
    classes: Sequence[ActionLabel],
) -> list[tuple[str, str]]:
    given = [view(clips.frames(clip, chosen_frames(clips.num_frames(clip)))) for clip in range(len(clips))]
    with torch.inference_mode():
        logits: Tensor = network(torch.from_numpy(np.stack(given)))
    rows = logits.softmax(dim=1).numpy()
    described = [vars(one) for one in classes]
    return [named(described, row, label.set) for row, label in zip(rows, labels, strict=True)]


if __name__ == "__main__":
    sys.exit(exit_code(main))
