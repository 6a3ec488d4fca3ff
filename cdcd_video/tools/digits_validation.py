"""Validates the metrics of the captioned moving digits on true clips, and on clips that are wrong in a known way."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.data.digits_files import read_mnist
from cdcd_video.data.digits_world import (
    PROTOCOLS,
    DigitsClip,
    motion_words,
    render_clip,
    sample_clip,
    with_other_motions,
)
from cdcd_video.errors import UserError, exit_code
from cdcd_video.metrics.digits_metrics import DigitsScore, score

SOFT_DIM, SOFT_NOISE = 0.85, 12.0
"""Contrast and noise, in levels of 255, of the soft videos, which are also blurred by (1, 2, 1) / 4 along both axes."""


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.digits_validation", description=__doc__)
    add = parser.add_argument
    add("--mnist", type=Path, required=True, metavar="DIR", help="folder with MNIST's four files")
    add("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS), metavar="NAME", help="some of the worlds")
    add("--num-videos", type=int, default=64, metavar="N", help="clips of each (default: %(default)s)")
    add("--split", choices=("val", "train"), default="val", help="split of the clips (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the clips (default: %(default)s)")
    args = parser.parse_args()
    if args.num_videos < 1 or args.seed < 0:
        raise UserError("--num-videos must be at least 1 and --seed at least 0")
    digits = read_mnist(args.mnist)
    for name in args.protocols:
        found: dict[str, list[tuple[DigitsScore, list[bool]]]] = {}
        for index in range(args.num_videos):
            clip = sample_clip(name, digits, args.seed, index, args.split)
            rng = np.random.Generator(np.random.Philox(key=[args.seed, index]))
            other = with_other_motions(name, clip)
            everything = np.arange(PROTOCOLS[name].num_frames)
            true, obeying = (render_clip(name, one, digits, everything) for one in (clip, other))
            changed = [
                motion_words(name, old) != motion_words(name, new)
                for old, new in zip(clip.digits, other.digits, strict=True)
            ]
            for kind, sentence, frames in _videos(clip, other, true, obeying, rng):
                found.setdefault(kind, []).append((score(frames, sentence, name, digits), changed))
        for kind, scores in found.items():
            sys.stdout.write(json.dumps({"protocol": name, "videos": kind, "n": len(scores), **_means(scores)}) + "\n")
    return 0


def _videos(
    clip: DigitsClip, other: DigitsClip, true: np.ndarray, obeying: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[str, DigitsClip, np.ndarray]]:
    """Name, sentence and frames of each kind of video."""
    yield "true", clip, true
    yield "first frame repeated", clip, np.repeat(true[:1], len(true), axis=0)
    yield "frames shuffled", clip, true[np.concatenate([[0], 1 + rng.permutation(len(true) - 1)])]
    yield "soft and noisy", clip, _softened(true, rng)
    yield "other sentence, obeyed", other, obeying
    yield "other sentence, ignored", other, true


def _softened(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    soft: np.ndarray = frames.astype(np.float32)
    for axis in (1, 2):
        soft = (np.roll(soft, 1, axis) + 2 * soft + np.roll(soft, -1, axis)) / 4
    return np.clip(SOFT_DIM * soft + rng.normal(0, SOFT_NOISE, soft.shape), 0, 255).astype(np.uint8)


def _means(found: list[tuple[DigitsScore, list[bool]]]) -> dict[str, float | int | None]:
    """Means over digits or videos, and how many digits and frames the identity could be asked of."""
    scores = [one for one, _ in found]
    right = np.concatenate([one.does_right_thing for one in scores])
    changed = np.concatenate([flags for _, flags in found])
    errors, identity = (
        np.concatenate([getattr(one, field).ravel() for one in scores]) for field in ("position_error_px", "identity")
    )
    end = np.concatenate([one.identity[:, -1] for one in scores])
    still = [one.distractor_still for one in scores if one.distractor_still is not None]
    return {
        "digit_right": _mean(right),
        "digit_right_of_changed": _mean(right[changed]),
        "digit_direction": _mean(np.concatenate([one.direction_right for one in scores])),
        "digits_right": _mean(np.array([one.all_right for one in scores])),
        "digit_position_error": _mean(errors),
        "digit_identity": _mean(identity),
        "digit_identity_n": int(np.isfinite(identity).sum()),
        "digit_identity_end": _mean(end),
        "digit_identity_end_n": int(np.isfinite(end).sum()),
        "digit_lost": _mean(np.concatenate([one.lost.ravel() for one in scores])),
        "distractor_still": _mean(np.array(still)),
        "distractor_n": len(still),
    }


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return round(float(known.mean()), 4) if len(known) else None


if __name__ == "__main__":
    sys.exit(exit_code(main))
