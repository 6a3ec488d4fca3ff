"""Metrics of the captioned moving digits: whether each digit moves as the sentence says and stays the digit that it was.

The way of each digit follows from the first frame and the sentence, because the protocols fix the speed. Each digit is found
by its own picture (`digits_tracking`), and a small network (`digits_classifier`) names what lies at the place where it was
found. The true video is the ceiling, a frozen first frame the floor: show both beside a model.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from cdcd_video.data.digits_files import Digits
from cdcd_video.data.digits_world import FREE_PX, PROTOCOLS, DigitsClip, ProtocolName, corners, possible_positions
from cdcd_video.errors import UserError
from cdcd_video.metrics.digits_classifier import DigitClassifier, name_digits
from cdcd_video.metrics.digits_tracking import DigitsTrack, find_digits

NEAR_PX = 4.0
"""Greatest distance from the true place. The slowest protocol moves digits by 3.6 px a frame; in others a step is allowed."""
NEAR_SHARE = 0.8
"""Share of the frames in which a digit must be near its true place, beside the last frame."""
LEAST_LEG_PX = 3
"""Shorter ways between two turns are not asked for their direction."""
STILL_PX, STILL_SHARE = 2.0, 0.9
"""The same for the distractor, which does not move."""
MOST_OTHER_INK = 0.05
"""Ink of other digits within a digit's square, over its own, up to which its identity is asked for."""


@dataclass(frozen=True)
class DigitsScore:
    """One video's scores, for D moving digits in F frames.

    Attributes:
      does_right_thing: the digit goes the way of the sentence and ends where it leads.
      direction_right: between two turns of its true way it goes the same way, at least half as far.
      position_error_px: distance from the true place; NaN where the digit is lost.
      identity: 1 where the classifier names the digit at its place rightly, 0 where not and where the digit is lost, NaN where
        other digits reach into its square.
      lost: whether too little of the digit is in the frame.
      distractor_still: whether the digit that is not in the sentence stays in its place; None without one.
      distractor_identity: `identity` of it in the last frame; NaN without one.
    """

    does_right_thing: Bool[np.ndarray, " D"]
    direction_right: Bool[np.ndarray, " D"]
    position_error_px: Float64[np.ndarray, "D F"]
    identity: Float64[np.ndarray, "D F"]
    lost: Bool[np.ndarray, "D F"]
    distractor_still: bool | None
    distractor_identity: float

    @property
    def all_right(self) -> bool:
        """Whether every moving digit does the right thing."""
        return bool(self.does_right_thing.all())


def score(
    frames: UInt8[np.ndarray, "F 64 64 3"],
    clip: DigitsClip,
    protocol: ProtocolName,
    digits: Digits,
    classifier: DigitClassifier | None = None,
) -> DigitsScore:
    """Compares a video with what should happen by its first frame and sentence.

    Where a sentence does not say in which direction a digit begins (Sync-DRAW's do not), either is right.

    Args:
      frames: as many as the protocol's clips have.
      clip: first frame and sentence; for a counterfactual, the clip with the other sentence.
      protocol: the world of the clip.
      digits: the pictures that it chooses from.
      classifier: None for the shipped one.

    Raises:
      UserError: the frames are not as many, or not 64 x 64 RGB in uint8.
    """
    num_frames = PROTOCOLS[protocol].num_frames
    if len(frames) != num_frames:
        raise UserError(f"digits: the videos of {protocol} have {num_frames} frames, and this one has {len(frames)}")
    pictures = [digit.picture for digit in clip.digits]
    labels = [digit.label for digit in clip.digits]
    if clip.distractor:
        pictures.append(clip.distractor[0])
        labels.append(int(digits.labels[clip.distractor[0]]))
    track = find_digits(frames, digits.images[pictures])
    identity = _identity(track, labels, classifier)
    near_px = max(NEAR_PX, PROTOCOLS[protocol].step * FREE_PX)
    moving = len(clip.digits)
    found = [
        _compared(track.corners[digit], track.present[digit], corners(ways), near_px)
        for digit, ways in enumerate(possible_positions(protocol, clip))
    ]
    is_still, distractor_identity = None, float("nan")
    if clip.distractor:
        place = corners(np.array(clip.distractor[1]))
        away = np.linalg.norm(track.corners[-1] - place, axis=-1)
        is_still = _is_near(away, track.present[-1], STILL_PX, STILL_SHARE)
        distractor_identity = float(identity[-1, -1])
    return DigitsScore(
        does_right_thing=np.array([right for right, _, _ in found]),
        direction_right=np.array([direction for _, direction, _ in found]),
        position_error_px=np.where(track.present[:moving], np.stack([away for _, _, away in found]), np.nan),
        identity=identity[:moving],
        lost=~track.present[:moving],
        distractor_still=is_still,
        distractor_identity=distractor_identity,
    )


def _compared(
    found: Int64[np.ndarray, "F 2"], present: Bool[np.ndarray, " F"], ways: Int64[np.ndarray, "W F 2"], near_px: float
) -> tuple[bool, bool, Float64[np.ndarray, " F"]]:
    """Whether a digit does the right thing, whether its directions are right, and its distances; by the way that fits best."""
    answers = []
    for way in ways:
        away = np.linalg.norm(found - way, axis=-1)
        direction = _directions_right(found, present, way)
        answers.append((direction and _is_near(away, present, near_px, NEAR_SHARE), direction, away))
    return max(answers, key=lambda answer: (answer[0], answer[1], -float(answer[2].mean())))


def _is_near(
    away: Float64[np.ndarray, " F"], present: Bool[np.ndarray, " F"], near_px: float, least_share: float
) -> bool:
    near = (away <= near_px) & present
    return bool(near[-1] and near.mean() >= least_share)


def _directions_right(
    found: Int64[np.ndarray, "F 2"], present: Bool[np.ndarray, " F"], way: Int64[np.ndarray, "F 2"]
) -> bool:
    for begin, end in legs(way):
        true = way[end] - way[begin]
        if np.abs(true).max() < LEAST_LEG_PX:
            continue
        gone = float((found[end] - found[begin]) @ true) / float(true @ true)
        if not (present[begin] and present[end]) or gone < 0.5:
            return False
    return True


def legs(way: Int64[np.ndarray, "F 2"]) -> list[tuple[int, int]]:
    """First and last frame of each part of a way between two turns or rests."""
    steps = np.sign(np.diff(way, axis=0)).sum(axis=1)
    turns = [frame for frame in range(1, len(steps)) if steps[frame] != steps[frame - 1]]
    ends = [0, *turns, len(steps)]
    return [(begin, end) for begin, end in zip(ends[:-1], ends[1:], strict=True) if steps[begin]]


def _identity(track: DigitsTrack, labels: list[int], classifier: DigitClassifier | None) -> Float64[np.ndarray, "D F"]:
    is_free = track.other_ink <= MOST_OTHER_INK
    identity = np.where(track.present & ~is_free, np.nan, 0.0)
    asked = track.present & is_free
    wanted = np.broadcast_to(np.array(labels)[:, None], asked.shape)
    identity[asked] = name_digits(track.squares[asked], classifier) == wanted[asked]
    return identity
