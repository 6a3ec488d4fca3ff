"""One request of a visitor: several videos of one starting frame, sampled frame by frame, stopped at any of them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cdcd_video.config import SamplingParams
from cdcd_video.config.value_types import Fit
from cdcd_video.config.video_record import FrameRecord, Record
from cdcd_video.errors import UserError
from cdcd_video.sampled_video import Video
from cdcd_video.sampling.captions import CaptionSchedule, parse_captions
from cdcd_video.sampling.frame_stream import FrameStream
from cdcd_video.studio.model_shelf import LoadedModel
from cdcd_video.studio.start_frame import StartFrame
from cdcd_video.studio.studio_limits import Limits


def parse_timeline(text: str) -> CaptionSchedule:
    """Sentences as they are typed, one a line; "8: ..." holds from frame 8 on.

    Raises:
      UserError: there is none, or see `parse_captions`.
    """
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    if not lines:
        raise UserError("no sentence is given; describe what should happen, as in: the red circle moves right")
    return parse_captions(lines)


@dataclass
class SamplingSession:
    """The videos of a request: one per sentence schedule and seed.

    Attributes:
      loaded: the model.
      start: the starting frame as given.
      captions: of each video.
      params: of each video, equal but for the seed.
      negative: what guidance leads away from.
      limits: of the studio.
      fit: what becomes of a starting frame of another shape than the model's frames; None is the model's own way.
      notes: warnings, one sentence each.
      videos: frames so far, once `run` has ended or was stopped.
    """

    loaded: LoadedModel
    start: StartFrame
    captions: list[CaptionSchedule]
    params: list[SamplingParams]
    negative: str
    limits: Limits
    fit: Fit | None = None
    notes: list[str] = field(default_factory=list)
    _stream: FrameStream | None = None
    _videos: list[Video] | None = None

    @classmethod
    def of(
        cls,
        loaded: LoadedModel,
        start: StartFrame | None,
        sentences: Sequence[str],
        settings: Mapping[str, Any],
        num_seeds: int,
        negative: str,
        limits: Limits,
        fit: Fit | None = None,
    ) -> "SamplingSession":
        """Checks a request before anything is sampled.

        Args:
          sentences: texts of `parse_timeline`; each is sampled with every seed.
          settings: fields of `SamplingParams`; None is the model's own.
          num_seeds: seeds from `settings["seed"]` on.
          loaded, start, negative, limits, fit: see the class.

        Raises:
          UserError: what is missing, too much, or cannot be used.
        """
        if start is None:
            raise UserError(
                "there is no starting frame, or it was deleted after its time; open a picture, choose an example, or draw one"
            )
        if type(num_seeds) is not int or num_seeds < 1:
            raise UserError(f"the number of seeds is {num_seeds}; it must be a whole number from 1 on")
        params = loaded.pipe.defaults(**settings)
        schedules = [parse_timeline(text) for text in sentences]
        limits.check(len(schedules) * num_seeds, params.num_frames, params.num_steps)
        captions = [schedule for schedule in schedules for _ in range(num_seeds)]
        each = [params.changed(seed=params.seed + number) for _ in schedules for number in range(num_seeds)]
        session = cls(loaded, start, captions, each, negative.strip(), limits, fit, loaded.notes)
        frame, on_sides = loaded.pipe.sizes.fitted(start.pixels, fit)
        session.notes += on_sides
        with loaded.turn:
            for schedule in schedules:
                session.notes += loaded.pipe.warnings(schedule, params, frame)
        session.notes = list(dict.fromkeys(session.notes))
        return session

    @property
    def labels(self) -> list[str]:
        """What is said of each video."""
        several = len(set(self.captions)) > 1
        labels = []
        for place, (caption, one) in enumerate(zip(self.captions, self.params, strict=True), 1):
            sentences = "; ".join(text for _, text in caption.turns)
            labels.append(f"{place}: seed {one.seed}" + (f", {sentences}" if several else ""))
        return labels

    def run(self) -> Iterator[UInt8[np.ndarray, "B H W 3"]]:
        """Samples; may be left at any frame.

        Yields:
          The next frame of every video, the starting frame first.

        Raises:
          UserError: it takes longer than the limit.
        """
        begun = time.monotonic()
        frame, _ = self.loaded.pipe.sizes.fitted(self.start.pixels, self.fit)
        starts = np.repeat(frame[None], len(self.params), axis=0)
        seeds = [one.seed for one in self.params]
        negatives = [self.negative] * len(seeds)
        self._stream = FrameStream(self.loaded.pipe, starts, self.captions, self.params[0], seeds, negatives)
        while True:
            with self.loaded.turn:
                frames = next(self._stream, None)
            if frames is None:
                return
            yield frames
            if time.monotonic() - begun > self.limits.max_seconds:
                raise UserError(
                    f"sampling took longer than {self.limits.max_seconds} s and was stopped after {len(self._stream)} frames;"
                    " ask for fewer frames, steps or videos"
                )

    @property
    def num_frames(self) -> int:
        """Frames that were sampled so far."""
        return 0 if self._stream is None else len(self._stream)

    @property
    def videos(self) -> list[Video]:
        """The frames so far, with the bits that the pipeline gives; one that was stopped carries no recipe."""
        if self._stream is None or not self.num_frames:
            raise UserError("nothing is sampled yet; press Sample first")
        if self._videos is None or len(self._videos[0]) < len(self._stream):
            pipe = self.loaded.pipe
            with self.loaded.turn:
                frames = self._stream.videos()
            whole = len(self._stream) == self.params[0].num_frames
            about = [
                pipe.settings(text, one, self.negative) for text, one in zip(self.captions, self.params, strict=True)
            ]
            made_with = pipe.made_with | {"fit": self.fit} if whole else None
            self._videos = [
                Video(one, self.params[0].fps, settings, made_with) for one, settings in zip(frames, about, strict=True)
            ]
        return self._videos

    @property
    def latents(self) -> Any:
        """Latents of the frames so far, of `videos`."""
        assert self._stream is not None
        return self._stream.latents

    def record(self, place: int) -> Record:
        """The record of a finished video, with the name and hash of the picture it began with.

        Raises:
          UserError: it was stopped before its end.
        """
        video = self.videos[place]
        if video.made_with is None:
            raise UserError(
                f"the video was stopped after {len(video)} of {self.params[0].num_frames} frames, so no .json can reproduce it;"
                " sample it to its end"
            )
        return video.record().model_copy(update={"frame": FrameRecord.of(video[0], self.start.file, self.start.sha256)})
