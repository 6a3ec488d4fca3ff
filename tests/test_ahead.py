"""Work that is done ahead by threads: in order, as many at a time as was said, and given up where it stands still."""

import queue
import threading

import pytest

import data_prep.ahead
from data_prep.ahead import GivenUp, ahead


def test_results_come_in_order_and_no_more_are_worked_on_than_allowed():
    lock, now, most = threading.Lock(), 0, 0
    gate = threading.Barrier(3)

    def work(number: int, beat) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        gate.wait(30)  # passed only if three are at work
        with lock:
            now -= 1
        return number * number

    assert list(ahead(work, range(9), 3, 60)) == [(number, number * number) for number in range(9)]
    assert most == 3


class Clock:
    """Stands still until it is moved, so that no busy machine makes work late."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch) -> Clock:
    monkeypatch.setattr(data_prep.ahead, "time", Clock())
    return data_prep.ahead.time


def test_what_stands_still_is_given_up_and_its_place_taken(clock):
    is_over, ended, hanging = threading.Event(), queue.Queue(), threading.Barrier(2)

    def work(number: int, beat) -> int:
        if number in (1, 2):  # both places
            hanging.wait(60)
            clock.now_s = 100.0
            is_over.wait(60)
            try:
                beat()
            except GivenUp:
                ended.put(number)
                raise
        return number

    try:
        assert list(ahead(work, range(6), 2, 60)) == [(0, 0), (1, None), (2, None), (3, 3), (4, 4), (5, 5)]
        assert ended.empty()
    finally:
        is_over.set()
    assert {ended.get(timeout=30), ended.get(timeout=30)} == {1, 2}


def test_what_goes_on_is_waited_for_however_long_it_takes(clock, monkeypatch):
    monkeypatch.setattr(data_prep.ahead, "_LOOK_S", 0.0)  # looks all the time

    def work(number: int, beat) -> int:
        for _ in range(10):
            clock.now_s += 40.0
            beat()
        return number

    assert list(ahead(work, [1], 1, 60)) == [(1, 1)]


def test_what_the_work_raises_is_raised_here():
    def work(number: int, beat) -> int:
        return 1 // number

    results = ahead(work, [1, 0, 1], 1, 60)
    assert next(results) == (1, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_who_stops_taking_ends_the_work():
    begun, ended = [], threading.Event()

    def work(number: int, beat) -> int:
        begun.append(number)
        while number > 0:
            try:
                beat()
            except GivenUp:
                ended.set()
                raise
        return number

    results = ahead(work, range(100), 1, 60)
    assert next(results) == (0, 0)
    results.close()
    assert ended.wait(30) or begun == [0]
