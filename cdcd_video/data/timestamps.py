"""The time of each frame of a video, from timestamps that may be wrong, missing, or restart in the middle of the
file."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction

import av

# By so much a clock that begins anew goes back at least, and a clock that another recording brings goes ahead: what FFmpeg's
# own command line holds for a new beginning. Anything smaller is a frame astray.
_BACK_S = Fraction(1, 10)
_AHEAD_S = 10


class Clock:
    """The time of each frame, from whichever of its two stamps has gone back in time less often.

    Containers with B-frames and no reordering information (AVI; some mp4) stamp frames in the order of decoding. This
    is the rule by which FFmpeg makes its own best-effort timestamp, which PyAV does not show. FFmpeg learns as it goes; here
    the first frames are looked at in advance, so that none of them is timed by one stamp and its neighbour by the other.

    Args:
      first: the first frames that will be read.
      has_pts: whether the container says when a frame is shown; of others (AVI) FFmpeg makes it up, rightly at first.
    """

    def __init__(self, first: Sequence[av.VideoFrame], *, has_pts: bool = True):
        self._has_pts = has_pts
        self._last: dict[str, int | None] = {"pts": None, "dts": None}
        self._faults = {"pts": 0, "dts": 0}
        for frame in first:
            self._look(frame)
        self._num_known = len(first)
        self._ticks: int | None = None
        self._step = 1

    def read(self, frame: av.VideoFrame) -> int | None:
        """Ticks of this frame; None if it carries no time."""
        if self._num_known:
            self._num_known -= 1
        else:
            self._look(frame)
        ticks = self._read(frame)
        if ticks is not None:
            self._step = frame.duration or max(1, ticks - (ticks if self._ticks is None else self._ticks))
            self._ticks = ticks
        return ticks

    @property
    def trusts_pts(self) -> bool:
        """Whether frames are stamped with the time at which they are shown, as far as has been seen."""
        return self._has_pts and self._last["pts"] is not None and self._faults["pts"] <= self._faults["dts"]

    def _look(self, frame: av.VideoFrame) -> None:
        for kind, stamp in (("pts", frame.pts), ("dts", frame.dts)):
            if stamp is not None:
                last = self._last[kind]
                self._faults[kind] += last is not None and stamp <= last
                self._last[kind] = stamp

    def _read(self, frame: av.VideoFrame) -> int | None:
        if self._last["dts"] is None or (frame.pts is not None and self.trusts_pts):
            return frame.pts
        if frame.dts is not None:
            return frame.dts
        if self._ticks is not None:  # at the end, decoders give frames without the packet they came in
            return self._ticks + self._step
        return frame.pts


class Course:
    """Frames in order, also where their timestamps restart.

    Recordings that were joined byte by byte, and recorders that start again, go back in time for good: such frames follow
    where those before them ended. A single frame that goes back is damage and left out.

    Args:
      length: how long a frame is shown, seconds, by what is known of it and the step from the one before.
      may_leap: whether a leap ahead is another recording's clock, as in MPEG streams, or a long still picture.

    Attributes:
      is_broken: whether the clock has begun anew.
    """

    def __init__(self, length: Callable[[av.VideoFrame, Fraction], Fraction], *, may_leap: bool):
        self._length, self._may_leap = length, may_leap
        self._shift = self._last = self._end = Fraction(0)
        self.is_broken = False

    def follow(self, stamped: Iterable[tuple[av.VideoFrame, Fraction]]) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Frames with the seconds of their stamps -> frames with their times, each after the one before."""
        held: tuple[av.VideoFrame, Fraction] | None = None
        is_first = True
        for frame, stamp in stamped:
            if is_first:
                is_first = False
                yield self._give(frame, stamp, Fraction(0))
                continue
            if held is not None:
                before, held = held, None
                if before[1] < stamp <= self._last - self._shift:  # this one goes on from there: the clock is a new one
                    yield self._anew(*before)
            time = stamp + self._shift
            if time == self._last:  # MPEG streams need not stamp every frame; what FFmpeg fills in may repeat
                yield self._give(frame, (self._last + self._end) / 2, (self._end - self._last) / 2)
            elif time < self._last:
                held = (frame, stamp) if time < self._last - _BACK_S else None
            elif self._may_leap and time > self._last + _AHEAD_S:
                yield self._anew(frame, stamp)
            else:
                yield self._give(frame, time, time - self._last)
        if held is not None:
            yield self._anew(*held)

    def _anew(self, frame: av.VideoFrame, stamp: Fraction) -> tuple[av.VideoFrame, Fraction]:
        self.is_broken = True
        self._shift = self._end - stamp
        return self._give(frame, self._end, self._end - self._last)

    def _give(self, frame: av.VideoFrame, time: Fraction, step: Fraction) -> tuple[av.VideoFrame, Fraction]:
        self._last, self._end = time, time + self._length(frame, step)
        return frame, time
