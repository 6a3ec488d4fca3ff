"""Interlaced frames as whole pictures, by FFmpeg's own filter."""

import collections
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import cast

import av

Timed = tuple[av.VideoFrame, Fraction]


def deinterlaced(frames: Iterable[Timed]) -> Iterator[Timed]:
    """Frames with their times, those that consist of two fields woven as one picture each; all others as they are.

    The field that comes first is kept and the lines between are filled from it and its neighbours in time (bwdif), as
    each frame says which field that is.

    Raises:
      Exception: whatever `frames` raises, when all before it has been given out.
    """
    unweaver: _Unweaver | None = None
    last: av.VideoFrame | None = None
    damage = None
    frames = iter(frames)
    while True:
        try:
            frame, time = next(frames)
        except StopIteration:
            break
        except Exception as error:  # raised below
            damage = error
            break
        if unweaver is not None and not unweaver.takes(frame):
            yield from unweaver.finish()
            unweaver = None
        if unweaver is None and frame.interlaced_frame:
            unweaver = _Unweaver(frame, last)
        last = frame
        if unweaver is None:
            yield frame, time
        else:
            yield from unweaver.take(frame, time)
    if unweaver is not None:
        yield from unweaver.finish()
    if damage is not None:
        raise damage


class _Unweaver:
    """The filter, which looks one frame back and one ahead, for frames of one size and format.

    Args:
      frame: the first that it will take.
      before: the frame before that one, if there is one.
    """

    def __init__(self, frame: av.VideoFrame, before: av.VideoFrame | None):
        self._kind = _kind(frame)
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
        )
        self._graph.link_nodes(
            source,
            self._graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
            self._graph.add("buffersink"),
        ).configure()
        self._num_pushed = 0
        self._waiting: collections.deque[tuple[Fraction | None, int | None, int, Fraction | None]] = collections.deque()
        # Without a frame before it the filter fills the first one's lines from one field alone, and half of them are lost.
        first = before if before is not None and self.takes(before) else frame
        stamps = first.pts, first.time_base
        self._push(first, None)
        first.pts, first.time_base = stamps

    def takes(self, frame: av.VideoFrame) -> bool:
        """Whether the frame is of the size and format of the others."""
        return _kind(frame) == self._kind

    def take(self, frame: av.VideoFrame, time: Fraction) -> Iterator[Timed]:
        """Takes a frame and gives out those that are done."""
        self._push(frame, time)
        yield from self._pull()

    def finish(self) -> Iterator[Timed]:
        """Gives out the rest."""
        self._graph.push(None)
        yield from self._pull()

    def _push(self, frame: av.VideoFrame, time: Fraction | None) -> None:
        self._waiting.append((time, frame.pts, frame.duration, frame.time_base))
        frame.pts, frame.time_base = self._num_pushed, Fraction(1, 1000)  # stamps that the filter finds in order
        self._num_pushed += 1
        self._graph.push(frame)

    def _pull(self) -> Iterator[Timed]:
        while True:
            try:
                frame = cast(av.VideoFrame, self._graph.pull())
            except (av.BlockingIOError, av.EOFError):
                return
            time, frame.pts, frame.duration, frame.time_base = self._waiting.popleft()
            if time is not None:
                yield frame, time


def _kind(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
