"""Processes a stream of items in threads, a few ahead of the consumer; stalled work is given up."""

import collections
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, InvalidStateError, wait
from typing import Generic, TypeVar

Thing = TypeVar("Thing")
Result = TypeVar("Result")

_LOOK_S = 0.5  # how often is looked for what stands still


class GivenUp(Exception):
    """Raised within work that was given up."""


class Beat:
    """Called by the work whenever it makes progress."""

    def __init__(self) -> None:
        self.last_s = time.monotonic()
        self.is_over = False

    def __call__(self) -> None:
        """Reports progress.

        Raises:
          GivenUp: nobody waits for it any more.
        """
        if self.is_over:
            raise GivenUp
        self.last_s = time.monotonic()


def ahead(
    work: Callable[[Thing, Beat], Result], things: Iterable[Thing], num_workers: int, patience_s: float
) -> Iterator[tuple[Thing, Result | None]]:
    """Each thing, in order, with what the work made of it.

    A decoder that hangs cannot be stopped from outside; the thread that runs it is left behind, another takes its place,
    and the process does not wait for it at its end.

    Args:
      work: called with a thing and a `Beat`, by several threads at a time.
      things: as many are begun in advance as there are workers.
      num_workers: how many are worked on at the same time.
      patience_s: work that calls its beat less often is given up, seconds.

    Yields:
      The thing and the result; None where the work was given up. What the work raises is raised here.
    """
    slots = threading.Semaphore(num_workers)
    waiting: collections.deque[_Attempt] = collections.deque()

    def first() -> tuple[Thing, Result | None]:
        while not wait([waiting[0].future], timeout=min(_LOOK_S, patience_s)).done:
            for attempt in waiting:  # a later one may hold the place that the first one needs
                attempt.give_up_after(patience_s)
        attempt = waiting.popleft()
        return attempt.thing, attempt.future.result()

    try:
        for thing in things:
            waiting.append(_Attempt(work, thing, slots))
            if len(waiting) > num_workers:
                yield first()
        while waiting:
            yield first()
    finally:
        for attempt in waiting:
            attempt.give_up()


class _Attempt(Generic[Thing, Result]):
    def __init__(self, work: Callable[[Thing, Beat], Result], thing: Thing, slots: threading.Semaphore):
        self.thing, self.future = thing, Future[Result]()
        self._work, self._slots, self._beat = work, slots, Beat()
        self._has_begun = False
        threading.Thread(target=self._run, daemon=True).start()

    def give_up_after(self, patience_s: float) -> None:
        """Gives up work without progress for this long; waiting work does not count."""
        if self._has_begun and time.monotonic() - self._beat.last_s >= patience_s:
            self.give_up()

    def give_up(self) -> None:
        """Stops waiting for the work, which ends at its next beat or before it begins."""
        self._beat.is_over = True
        if self._has_begun:
            self._settle(self.future.set_result, None)

    def _run(self) -> None:
        self._slots.acquire()
        self._beat.last_s, self._has_begun = time.monotonic(), True
        try:
            self._settle(self.future.set_result, None if self._beat.is_over else self._work(self.thing, self._beat))
        except GivenUp:
            pass
        except BaseException as error:  # whatever it is, it belongs to who takes the results
            self._settle(self.future.set_exception, error)

    def _settle(self, settle: Callable[[object], None], value: object) -> None:
        """Says how it ended and frees the place, whichever comes first: the end or the loss of patience."""
        try:
            settle(value)
        except InvalidStateError:
            return
        self._slots.release()
