"""Videos of other models, read from files and measured like our own.

They are read as the protocol asks: from their beginning, brought to its shape, size and frame rate. A video that is too short,
or whose rate is no multiple of the protocol's, is an error that names it; nothing is padded or blended.

Their true videos are found in three ways: scenes or clips of `--data` with the same names (`ExternalVideos.named`), the
column `truth` of their table (`ExternalTruths`), or none at all (`ExternalDataset`).
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cdcd_video.config.value_types import Size
from cdcd_video.data.external_video import FitMode, digest_of, read_picture, read_video, size_of
from cdcd_video.data.prompt_table import Entry
from cdcd_video.errors import UserError
from cdcd_video.metrics.eval_dataset import Clips, EvalDataset, choose_clips
from cdcd_video.metrics.measurements import EvalVideo, Measurement, at_scale, resized
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.references import as_evaluated
from cdcd_video.metrics.scores import METRICS

SYSTEMS = ("model", "sentence-ignored", "copy-first", "truth")
"""Systems that need no model and no codec."""
SYSTEMS_WITHOUT_TRUTH = ("model", "copy-first")
Frames = UInt8[np.ndarray, "F H W 3"]


class ExternalVideos:
    """Videos of another model, as a protocol asks for them.

    Args:
      entries: which videos.
      protocol: the protocol, with rate and size settled.
      sizes: of each video, some of those of the protocol; None: all have its first.
    """

    def __init__(self, entries: Sequence[Entry], protocol: Protocol, sizes: Sequence[Size] | None = None):
        self.entries, self.protocol = list(entries), protocol
        self.sizes = list(sizes) if sizes is not None else [protocol.sizes[0]] * len(self.entries)
        self.mode: FitMode = protocol.mode or "crop"

    def __len__(self) -> int:
        return len(self.entries)

    def named(self, names: Sequence[str], sizes: Sequence[Size] | None = None) -> "ExternalVideos":
        """The videos with these names, in this order, in these sizes or all in the protocol's first.

        Raises:
          UserError: one is missing.
        """
        by_name = {entry.name: entry for entry in self.entries}
        missing = [name for name in names if name not in by_name]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(names)} videos are missing, the first is {missing[0]}; every clip needs a video of its"
                " name, from the first clip on: add them, or lower --num-videos"
            )
        return ExternalVideos([by_name[name] for name in names], self.protocol, sizes)

    def chosen(self, videos: Sequence[int]) -> "ExternalVideos":
        """The videos with these numbers."""
        sizes = [self.sizes[video] for video in videos]
        return ExternalVideos([self.entries[video] for video in videos], self.protocol, sizes)

    def check_prompts(self, captions: Sequence[str], first: int = 0) -> None:
        """Checks that the videos from `first` on were sampled from these captions.

        Raises:
          UserError: one was sampled from another caption.
        """
        for entry, caption in zip(self.entries[first : first + len(captions)], captions, strict=True):
            if caption != entry.prompt:
                raise UserError(
                    f"{entry.name} was sampled from {entry.prompt!r}, but the dataset has {caption!r}; sample it from that"
                    " caption, or remove the video"
                )

    def frames(self, video: int) -> Frames:
        """A video as it is measured. A folder of pictures is compressed if the protocol says so; a video file already is.

        Raises:
          UserError: the file is damaged, too short, or of a rate that does not fit.
        """
        entry, size = self.entries[video], self.sizes[video]
        length = self.protocol.num_frames, self.protocol.rate
        frames = read_video(entry.file, *length, self.mode, shape=size, sampled_fps=entry.fps)
        frames = resized(frames, size, self.protocol.resize)
        return as_evaluated(frames, self.protocol, size) if entry.file.is_dir() else frames

    def unusable(self) -> dict[int, str]:
        """Reads every video with its picture and its true video; returns the numbers of those that are unusable, and why."""
        found = {}
        for video, entry in enumerate(self.entries):
            try:
                self.frames(video)
                if entry.frame is not None:
                    read_picture(entry.frame, self.mode, self.sizes[video])
                if entry.truth is not None:
                    truth = ExternalTruths([entry], self.protocol)
                    truth.frames(0, [truth.num_frames(0) - 1])
            except UserError as error:
                found[video] = str(error)
        return found

    def other_shapes(self) -> int:
        """How many videos are of another shape than their frames, so that `mode` cuts something off or adds bars."""
        own = [size_of(entry.file) for entry in self.entries]
        return sum(
            one.height * size.width != size.height * one.width for one, size in zip(own, self.sizes, strict=True)
        )

    def digest(self) -> str:
        """SHA-256 of files and captions, in place of a digest of the model."""
        content = [[entry.name, entry.prompt, entry.fps, digest_of(entry.file)] for entry in self.entries]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def truths(self) -> "ExternalTruths":
        """The true videos as clips.

        Raises:
          UserError: a video has none.
        """
        return ExternalTruths(self.entries, self.protocol)

    def video_model(self, seeds: Sequence[int]) -> "ExternalModel":
        """A model that reads the videos; `seeds` are those that the evaluation gives them, in order."""
        return ExternalModel(self, seeds)


class ExternalTruths:
    """The column `truth` as clips for `eval_dataset.ClipDataset`.

    Args:
      entries: of the table; each must have a true video.
      protocol: the protocol, with rate and size settled.

    Raises:
      UserError: an entry has none.
    """

    def __init__(self, entries: Sequence[Entry], protocol: Protocol):
        without = [entry.name for entry in entries if entry.truth is None]
        if without:
            raise UserError(
                f"{without[0]} has no true video; add the column truth to the table, or name by --data a folder of clips"
                " with the names of the videos"
            )
        self.entries, self.protocol = list(entries), protocol
        self.mode: FitMode = protocol.mode or "crop"
        self.size_px, self.fps = protocol.size_px, protocol.fps

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, clip: int) -> str:
        """Name of the sampled video."""
        return self.entries[clip].name

    def num_frames(self, clip: int) -> int:
        """Frames that the protocol spans; a file with fewer is an error when it is read."""
        return (self.protocol.num_frames - 1) * self.protocol.stride + 1

    def captions(self, clip: int) -> tuple[str, ...]:
        """The caption that the video was sampled from."""
        return (self.caption(clip),)

    def caption(self, clip: int) -> str:
        """The caption that the video was sampled from."""
        return self.entries[clip].prompt

    def frames(self, clip: int, frames: Sequence[int]) -> Frames:
        """Some frames.

        Raises:
          UserError: the file is damaged, too short, or of a rate that does not fit.
        """
        size = self.protocol.sizes[0]
        read = read_video(self.entries[clip].truth, max(frames) + 1, self.fps, self.mode, shape=size)
        return resized(read[list(frames)], size, self.protocol.resize)

    def digest(self) -> str:
        """SHA-256 of the true files and the captions, without the sampled videos."""
        content = [[entry.name, entry.prompt, digest_of(entry.truth)] for entry in self.entries]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


class ExternalDataset(EvalDataset):
    """An `EvalDataset` of videos without true videos: captions, given pictures, and real clips to compare sets with.

    Args:
      videos: the sampled videos.
      others: real clips of the same kind; None where there are none.
      num_others: how many of them at most.
      metrics: the metrics of the evaluation.

    Raises:
      UserError: a metric needs true videos, or real ones where there are none.
    """

    def __init__(self, videos: ExternalVideos, others: Clips | None, num_others: int, metrics: Sequence[str]):
        needing = [metric for metric in metrics if METRICS[metric].needs_truth]
        if needing:
            raise UserError(
                f"{needing[0]} needs the true video of each; add the column truth to the table, or leave out {needing[0]}"
            )
        comparing = [metric for metric in metrics if METRICS[metric].needs_real and others is None]
        if comparing:
            raise UserError(
                f"{comparing[0]} compares with real videos, and there are none; name by --data a folder that python -m"
                f" data_prep made, or leave out {comparing[0]}"
            )
        protocol, self._videos, self._others = videos.protocol, videos, others
        self._frames = range(0, protocol.num_frames * protocol.stride, protocol.stride)
        chosen = choose_clips(others, num_others, self._frames[-1] + 1, others.size_px) if others is not None else []
        self._chosen, self.num_others = chosen, len(chosen)
        self.other_names = [others.name(clip) for clip in chosen]
        self.eval_videos = [EvalVideo(entry.name, entry.name) for entry in videos.entries]
        self.captions = {"model": [entry.prompt for entry in videos.entries]}
        self.compared = range(len(videos))
        given = [[entry.name, entry.prompt, entry.frame and digest_of(entry.frame)] for entry in videos.entries]
        content = [given, others.digest() if others is not None else None]
        self.digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def real_video(self, video: int, size_px: int) -> Frames:
        """The given picture for the length of the video: the true video is not known."""
        entry, protocol = self._videos.entries[video], self._videos.protocol
        size = self._videos.sizes[video].scaled(size_px, protocol.square_px)
        picture = read_picture(entry.frame, self._videos.mode, size) if entry.frame else self._videos.frames(video)[0]
        return np.repeat(resized(picture[None], size, protocol.resize), protocol.num_frames, axis=0)

    def other(self, number: int, size_px: int) -> Frames:
        """A real clip."""
        assert self._others is not None
        frames = self._others.frames(self._chosen[number], self._frames)
        return at_scale(frames, size_px, self._others.size_px, self._videos.protocol.resize)

    def measure(self, video: int, system: str, frames: Frames) -> Iterator[Measurement]:
        """None: only the pixels are known."""
        yield from ()


class ExternalModel:
    """A `VideoModel` that reads files. A video is found by its seed, so batches and their order do not matter."""

    is_stored = True
    """Its videos need no resizing and no compression, see `references.make`."""

    def __init__(self, videos: ExternalVideos, seeds: Sequence[int]):
        if len(seeds) != len(videos) or len(set(seeds)) < len(seeds):
            raise ValueError(f"{len(videos)} videos need as many different seeds, not {len(seeds)}")
        self.videos, self.size_px = videos, videos.protocol.size_px
        self._video = {seed: video for video, seed in enumerate(seeds)}

    def sample(
        self,
        starts: UInt8[np.ndarray, "B H W 3"],
        captions: Sequence[str],
        params: Any,
        seeds: Sequence[int],
        progress: Callable[[int], None] | None = None,
    ) -> UInt8[np.ndarray, "B F H W 3"]:
        """Reads the videos of these seeds; `starts` and `params` are ignored.

        Raises:
          UserError: a video was sampled from another caption, or cannot be used.
        """
        made = []
        for caption, seed in zip(captions, seeds, strict=True):
            video = self._video[seed]
            self.videos.check_prompts([caption], video)
            made.append(self.videos.frames(video))
            if progress is not None:
                progress(len(made[-1]) - 1)
        return np.stack(made)
