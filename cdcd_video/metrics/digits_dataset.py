"""Captioned moving digits as an evaluation: their true videos, their other sentences, and what is measured of each digit."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from cdcd_video.data.digits_clips import DigitsClips
from cdcd_video.data.digits_world import PROTOCOLS, VIEW_PX, DigitsClip, motion_words, with_other_motions
from cdcd_video.errors import UserError
from cdcd_video.metrics import digits_metrics
from cdcd_video.metrics.eval_dataset import COUNTERFACTUAL_SYSTEMS, EvalDataset, VideoFrames
from cdcd_video.metrics.measurements import EvalVideo, Measurement, measured, resized


class DigitsDataset(EvalDataset):
    """Clips of a protocol, each a second time with another sentence: two digits exchange their motions.

    Args:
      clips: one split of the protocol.
      first: number of the first clip to be sampled.
      num, num_others: how many are sampled, and how many of those after them are the other real videos.
      num_frames: of a video; the protocol's own number.

    Raises:
      UserError: the number of frames is not the protocol's.
    """

    def __init__(self, clips: DigitsClips, first: int, num: int, num_others: int, num_frames: int):
        self._clips, self._first, self.num_others = clips, first, num_others
        self._frames = range(PROTOCOLS[clips.protocol].num_frames)
        if num_frames != len(self._frames):
            raise UserError(
                f"the videos of {clips.protocol} have {len(self._frames)} frames, but the protocol says {num_frames};"
                f" set --num-frames {len(self._frames)}"
            )
        chosen, others = range(first, first + num), range(first + num, first + num + num_others)
        self.clips = [clips.clip(number) for number in chosen]
        self.counterfactuals = [with_other_motions(clips.protocol, clip) for clip in self.clips]
        names = [clips.name(number) for number in chosen]
        self.other_names = [clips.name(number) for number in others]
        self.eval_videos = [EvalVideo(name, name, _groups(clip)) for name, clip in zip(names, self.clips, strict=True)]
        self.compared = range(num)
        self.captions = {
            "model": [clip.caption for clip in self.clips],
            "counterfactual": [clip.caption for clip in self.counterfactuals],
        }
        self.digest = hashlib.sha256(f"{clips.digest()} {first} {num} {num_others}".encode()).hexdigest()

    def real_video(self, video: int, size_px: int) -> VideoFrames:
        """The clip of its own caption."""
        return resized(self._clips.frames(self._first + video, self._frames), size_px, "area")

    def other(self, number: int, size_px: int) -> VideoFrames:
        """A clip that is not sampled."""
        return resized(self._clips.frames(self._first + len(self.clips) + number, self._frames), size_px, "area")

    def measure(self, video: int, system: str, frames: VideoFrames) -> Iterator[Measurement]:
        """The metrics of digits, by the clip's caption; by the other one for `COUNTERFACTUAL_SYSTEMS`."""
        clip, protocol = self.clips[video], self._clips.protocol
        marks: list[str] = []
        if system in COUNTERFACTUAL_SYSTEMS:
            own, clip = clip, self.counterfactuals[video]
            changed = [
                motion_words(protocol, old) != motion_words(protocol, new)
                for old, new in zip(own.digits, clip.digits, strict=True)
            ]
            marks = ["sentence=changed" if is_changed else "sentence=kept" for is_changed in changed]
        found = digits_metrics.score(resized(frames, VIEW_PX, "area"), clip, protocol, self._clips.digits)
        yield from _measurements(self.eval_videos[video], found, clip, protocol, marks)


def _groups(clip: DigitsClip) -> tuple[str, ...]:
    return ("all", f"objects={len(clip.digits)}", f"distractor={'yes' if clip.distractor else 'no'}")


def _measurements(
    eval_video: EvalVideo,
    found: digits_metrics.DigitsScore,
    clip: DigitsClip,
    protocol: digits_metrics.ProtocolName,
    marks: Sequence[str],
) -> Iterator[Measurement]:
    """Every metric of one video; `marks` has a group for each digit whose sentence was changed or kept."""
    whole = _groups(clip)
    for place, digit in enumerate(clip.digits):
        groups = [*whole, f"motion={motion_words(protocol, digit)}", *marks[place : place + 1]]
        numbers = {
            "digit_right": found.does_right_thing[place],
            "digit_direction": found.direction_right[place],
            "digit_position_error": found.position_error_px[place],
            "digit_identity": found.identity[place],
            "digit_identity_end": found.identity[place, -1],
            "digit_lost": found.lost[place],
        }
        for metric, value in numbers.items():
            yield measured(metric, eval_video, value, groups)
    swapped = ["sentence=swapped"] if len(marks) > 1 and set(marks) == {"sentence=changed"} else []
    yield measured("digits_right", eval_video, found.all_right, [*whole, *swapped])
    if found.distractor_still is not None:
        yield measured("distractor_still", eval_video, found.distractor_still, whole)
        yield measured("distractor_identity", eval_video, np.float64(found.distractor_identity), whole)
