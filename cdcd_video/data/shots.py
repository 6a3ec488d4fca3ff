"""The shots of clips; the two frames of a training example are always from one shot."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from cdcd_video.data.store import Clips


def shots_in(num_frames: int, cuts: Sequence[int]) -> list[range]:
    """Frame numbers of each shot.

    Args:
      num_frames: frames that are looked at, from the first; cuts at this frame and after do not count.
      cuts: first frames of the shots after the first one, ascending, each over 0.
    """
    edges = [0, *(cut for cut in cuts if cut < num_frames), num_frames]
    return [range(begin, end) for begin, end in zip(edges[:-1], edges[1:], strict=True)]


def longest_shot(clips: Clips, clip: int) -> range:
    """Frame numbers of the longest shot of a clip, the first of equals."""
    return max(shots_in(clips.num_frames(clip), clips.cuts(clip)), key=len)


@dataclass(frozen=True)
class Shots:
    """Shots that hold a pair of frames, clip after clip; those of a single frame are not among them.

    Attributes:
      clips: numbers of the clips that hold one, ascending (C,).
      first_of: index of each such clip's first shot, and at the end the number of shots (C + 1,).
      begins: first frame of each shot within its clip (S,).
      lengths: its frames (S,).
      frames_before: frames of the shots before each, and at the end of all (S + 1,).
    """

    clips: np.ndarray
    first_of: np.ndarray
    begins: np.ndarray
    lengths: np.ndarray
    frames_before: np.ndarray

    @classmethod
    def of(cls, num_frames: Sequence[int] | np.ndarray, cuts: Sequence[Sequence[int]] | None = None) -> "Shots":
        """Finds them.

        Args:
          num_frames: frames of each clip.
          cuts: of each clip, see `shots_in`; None where there are none.
        """
        if cuts is None or not any(cuts):
            lengths = np.asarray(num_frames, dtype=np.int64)
            clips = np.flatnonzero(lengths >= 2)
            begins, lengths, first_of = np.zeros(len(clips), np.int64), lengths[clips], np.arange(len(clips) + 1)
        else:
            found = [
                (clip, shot.start, len(shot))
                for clip, (length, own) in enumerate(zip(num_frames, cuts, strict=True))
                for shot in shots_in(int(length), own)
                if len(shot) >= 2
            ]
            clip, begins, lengths = np.array(found, dtype=np.int64).reshape(-1, 3).T
            clips, first = np.unique(clip, return_index=True)
            first_of = np.append(first, len(clip))
        return cls(clips, first_of, begins, lengths, np.concatenate([[0], np.cumsum(lengths)]))

    @classmethod
    def of_clips(cls, clips: Clips) -> "Shots":
        """Those of a set of clips."""
        every = range(len(clips))
        return cls.of([clips.num_frames(clip) for clip in every], [clips.cuts(clip) for clip in every])

    def sample(self, batch_size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Samples a clip, each as likely as another, and one of its shots, in proportion to their frames.

        Where no clip has more than one shot, nothing is sampled for the second choice: the generator goes on as if there were
        no shots.

        Args:
          batch_size: how many.
          rng: where from.

        Returns:
          Clip, first frame of the shot and its number of frames, each (B,).
        """
        chosen = rng.integers(len(self.clips), size=batch_size)
        shot = self.first_of[chosen]
        if len(self.begins) > len(self.clips):
            before, after = self.frames_before[shot], self.frames_before[self.first_of[chosen + 1]]
            frame = before + np.floor(rng.random(batch_size) * (after - before)).astype(np.int64)
            shot = np.searchsorted(self.frames_before, frame, side="right") - 1
        return self.clips[chosen], self.begins[shot], self.lengths[shot]


class LongestShots(Clips):
    """Clips cut down to their longest shot, for evaluations that follow a clip from its first frame on.

    Args:
      clips: the whole ones. Names and captions stay, and frames are counted from where the shot begins.
    """

    def __init__(self, clips: Clips):
        self._clips, self.size_px, self.fps, self.mode = clips, clips.size_px, clips.fps, clips.mode

    def __len__(self) -> int:
        return len(self._clips)

    def name(self, clip: int) -> str:
        """That of the whole clip."""
        return self._clips.name(clip)

    def caption(self, clip: int) -> str:
        """The first of its captions."""
        return self._clips.caption(clip)

    def captions(self, clip: int) -> tuple[str, ...]:
        """Those of the whole clip."""
        return self._clips.captions(clip)

    def num_frames(self, clip: int) -> int:
        """Frames of the shot."""
        return len(longest_shot(self._clips, clip))

    def cuts(self, clip: int) -> tuple[int, ...]:
        """None: it is one shot."""
        return ()

    def frames(self, clip: int, indices: Sequence[int]) -> UInt8[np.ndarray, "n H W 3"]:
        """Some frames of the shot.

        Raises:
          IndexError: one lies outside.
        """
        shot = longest_shot(self._clips, clip)
        return self._clips.frames(clip, [shot[index] if index >= 0 else index for index in indices])

    def digest(self) -> str:
        """That of the whole clips, in which the cuts are."""
        return self._clips.digest()
