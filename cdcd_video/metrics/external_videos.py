"""Videos that other people's models drew, measured as ours are: files in place of drawing.

They are read as a protocol wants them: cut to square, brought to its size and rate, from their beginning. What is too
short, or of a rate that is no multiple of the protocol's, is refused by name, never padded or blended.

Three ways to lay them beside something real: with scenes or clips of `--data` that are called as the videos are
(`ExternalVideos.named`), with the column `truth` of their table (`ExternalTruths`), or with no truth at all (`ExternalDataset`).
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cdcd_video.data.external_video import FitMode, digest_of, read_picture, read_video
from cdcd_video.data.prompt_table import Entry
from cdcd_video.errors import UserError
from cdcd_video.metrics.eval_dataset import Clips, choose_clips
from cdcd_video.metrics.measurements import EvalVideo, Seen, resized
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.references import as_evaluated
from cdcd_video.metrics.scores import METRICS

ROWS = ("model", "sentence-ignored", "copy-first", "truth")
"""Rows that can be judged where nothing can be drawn anew and no codec is known."""
ROWS_WITHOUT_TRUTH = ("model", "copy-first")
Frames = UInt8[np.ndarray, "F S S 3"]


class ExternalVideos:
    """Other people's videos as a protocol wants them.

    Args:
      entries: which videos.
      rule: the protocol, with rate and size settled.
    """

    def __init__(self, entries: Sequence[Entry], rule: Protocol):
        self.entries, self.rule = list(entries), rule
        self.mode: FitMode = rule.mode or "crop"

    def __len__(self) -> int:
        return len(self.entries)

    def named(self, names: Sequence[str]) -> "ExternalVideos":
        """The videos of these names, in this order: beside scenes or clips that are called so.

        Raises:
          UserError: one is not there.
        """
        by_name = {entry.name: entry for entry in self.entries}
        missing = [name for name in names if name not in by_name]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(names)} videos are missing, the first is {missing[0]}; the files must be called"
                " as the clips are, from the first on: add them, or lower --num-videos"
            )
        return ExternalVideos([by_name[name] for name in names], self.rule)

    def check_prompts(self, captions: Sequence[str], first: int = 0) -> None:
        """Holds the videos from `first` on against the sentences they are to be judged by.

        Raises:
          UserError: one was drawn from another.
        """
        for entry, caption in zip(self.entries[first : first + len(captions)], captions, strict=True):
            if caption != entry.prompt:
                raise UserError(
                    f"{entry.name} was drawn from {entry.prompt!r}, and what is asked is {caption!r}; only what was drawn"
                    " can be measured"
                )

    def drawn(self, video: int) -> Frames:
        """What the model drew, as it is judged: a file has been through a codec already, a folder of pictures has not.

        Raises:
          UserError: the file is damaged, too short, or of a rate that does not fit.
        """
        entry = self.entries[video]
        frames = read_video(entry.file, self.rule.num_frames, self.rule.rate, self.mode, sampled_fps=entry.fps)
        frames = resized(frames, self.rule.size_px, self.rule.resize)
        return as_evaluated(frames, self.rule) if entry.file.is_dir() else frames

    def unusable(self) -> dict[int, str]:
        """Reads every video, with the picture and the truth that belong to it: numbers of those that cannot be used, and why."""
        found = {}
        for video, entry in enumerate(self.entries):
            try:
                self.drawn(video)
                if entry.frame is not None:
                    read_picture(entry.frame, self.mode)
                if entry.truth is not None:
                    truth = ExternalTruths([entry], self.rule)
                    truth.frames(0, [truth.num_frames(0) - 1])
            except UserError as error:
                found[video] = str(error)
        return found

    def digest(self) -> str:
        """SHA-256 of files and sentences: what stands for a model's weights."""
        told = [[entry.name, entry.prompt, entry.fps, digest_of(entry.file)] for entry in self.entries]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def truths(self) -> "ExternalTruths":
        """How the clips really go on, to be drawn again from.

        Raises:
          UserError: one has no truth.
        """
        return ExternalTruths(self.entries, self.rule)

    def video_model(self, seeds: Sequence[int]) -> "ExternalModel":
        """Draws by reading; `seeds` are those that the evaluation gives the videos, in their order."""
        return ExternalModel(self, seeds)


class ExternalTruths:
    """The column `truth` as clips, such as `dataset.ClipDataset` takes.

    Args:
      entries: of the table; each must have a truth.
      rule: the protocol, with rate and size settled.

    Raises:
      UserError: one has none.
    """

    def __init__(self, entries: Sequence[Entry], rule: Protocol):
        without = [entry.name for entry in entries if entry.truth is None]
        if without:
            raise UserError(
                f"{without[0]} has no truth; add the column truth to the table, or give --data with clips that are called"
                " as the videos are"
            )
        self.entries, self.rule = list(entries), rule
        self.mode: FitMode = rule.mode or "crop"
        self.size_px, self.fps = rule.size_px, rule.fps

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, clip: int) -> str:
        """That of the video it is the truth of."""
        return self.entries[clip].name

    def num_frames(self, clip: int) -> int:
        """As many as the protocol reaches over; a file that has fewer says so when it is read."""
        return (self.rule.num_frames - 1) * self.rule.stride + 1

    def captions(self, clip: int) -> tuple[str, ...]:
        """The sentence the video was drawn from."""
        return (self.caption(clip),)

    def caption(self, clip: int) -> str:
        """The same."""
        return self.entries[clip].prompt

    def frames(self, clip: int, frames: Sequence[int]) -> Frames:
        """Some frames.

        Raises:
          UserError: the file is damaged, too short, or of a rate that does not fit.
        """
        read = read_video(self.entries[clip].truth, max(frames) + 1, self.fps, self.mode)
        return resized(read[list(frames)], self.size_px, self.rule.resize)

    def digest(self) -> str:
        """SHA-256 of the true files and the sentences; what was drawn is not in it."""
        told = [[entry.name, entry.prompt, digest_of(entry.truth)] for entry in self.entries]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


class ExternalDataset:
    """Videos whose truth nobody knows, as `dataset.EvalDataset`: sentence, given picture, and real clips to compare sets with.

    Args:
      videos: as the protocol wants them.
      others: real clips of the same kind; None where there are none, and nothing can be compared with them.
      num_others: how many of them at most.
      metrics: what is asked for.

    Raises:
      UserError: a metric needs the truth, or real videos where there are none.
    """

    def __init__(self, videos: ExternalVideos, others: Clips | None, num_others: int, metrics: Sequence[str]):
        needing = [metric for metric in metrics if METRICS[metric].needs_truth]
        if needing:
            raise UserError(
                f"{needing[0]} needs the truth of each video; add the column truth, or leave out {needing[0]}"
            )
        comparing = [metric for metric in metrics if METRICS[metric].needs_real and others is None]
        if comparing:
            raise UserError(
                f"{comparing[0]} compares with real videos, and there are none; name a folder that python -m data_prep"
                f" made by --data, or leave out {comparing[0]}"
            )
        rule, self._videos, self._others = videos.rule, videos, others
        self._frames = range(0, rule.num_frames * rule.stride, rule.stride)
        chosen = choose_clips(others, num_others, self._frames[-1] + 1, others.size_px) if others is not None else []
        self._chosen, self.num_others = chosen, len(chosen)
        self.other_names = [others.name(clip) for clip in chosen]
        self.subjects = [EvalVideo(entry.name, entry.name) for entry in videos.entries]
        self.captions = {"model": [entry.prompt for entry in videos.entries]}
        self.compared = range(len(videos))
        told = [[entry.name, entry.prompt, entry.frame and digest_of(entry.frame)] for entry in videos.entries]
        content = [told, others.digest() if others is not None else None]
        self.digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def film(self, video: int, size_px: int) -> Frames:
        """The given picture for as long as the video lasts: nobody knows how it should go on."""
        entry, rule = self._videos.entries[video], self._videos.rule
        picture = read_picture(entry.frame, self._videos.mode) if entry.frame else self._videos.drawn(video)[0]
        return np.repeat(resized(picture[None], size_px, rule.resize), rule.num_frames, axis=0)

    def other(self, number: int, size_px: int) -> Frames:
        """A real clip."""
        frames = self._others.frames(self._chosen[number], self._frames)
        return resized(frames, size_px, self._videos.rule.resize)

    def measure(self, video: int, row: str, frames: Frames) -> Iterator[Seen]:
        """Nobody knows more of such a video than its pixels."""
        yield from ()


class ExternalModel:
    """Stands where a model stands. It knows a video by its seed, so batches and their order do not matter."""

    is_stored = True
    """What it gives is as it is judged, see `rows.make`."""

    def __init__(self, videos: ExternalVideos, seeds: Sequence[int]):
        if len(seeds) != len(videos) or len(set(seeds)) < len(seeds):
            raise ValueError(f"{len(videos)} videos need as many different seeds, not {len(seeds)}")
        self.videos, self.size_px = videos, videos.rule.size_px
        self._video = {seed: video for video, seed in enumerate(seeds)}

    def sample(
        self,
        starts: UInt8[np.ndarray, "B S S 3"],
        captions: Sequence[str],
        params: Any,
        seeds: Sequence[int],
        progress: Callable[[int], None] | None = None,
    ) -> UInt8[np.ndarray, "B F S S 3"]:
        """Reads the videos of these seeds. `starts` and the settings of the drawing are not heeded: it is done.

        Raises:
          UserError: a video was drawn from another sentence than the one asked for, or cannot be used.
        """
        made = []
        for caption, seed in zip(captions, seeds, strict=True):
            video = self._video[seed]
            self.videos.check_prompts([caption], video)
            made.append(self.videos.drawn(video))
            if progress is not None:
                progress(len(made[-1]) - 1)
        return np.stack(made)
