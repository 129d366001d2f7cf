"""Timer: one thread enforces the time limits of all requests."""

import threading
import time
from functools import partial

from pixel_reasoner.models.http_timer import Timer


def wait_until(is_true, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def test_callbacks_are_called_in_the_order_of_their_deadlines():
    timer, calls = Timer(), []
    with (
        timer.limit(0.2, lambda: calls.append("second")),
        timer.limit(0.05, lambda: calls.append("first")),
    ):
        wait_until(lambda: len(calls) == 2)
    assert calls == ["first", "second"]


def test_the_callback_of_an_ended_block_is_never_called():
    timer, calls, in_time = Timer(), set(), set()
    for number in range(1000):
        started = time.monotonic()
        with timer.limit(0.05, partial(calls.add, number)):
            pass
        if time.monotonic() - started < 0.05:  # a busy machine may interrupt a block for longer
            in_time.add(number)
    time.sleep(0.2)
    assert in_time
    assert not calls & in_time


def test_all_deadlines_share_one_thread_that_ends_with_the_last():
    timer = Timer()
    before = threading.active_count()
    with (
        timer.limit(0.1, lambda: None),
        timer.limit(60, lambda: None),
        timer.limit(0.05, lambda: None),
    ):
        assert threading.active_count() == before + 1
        time.sleep(0.2)
    with timer.limit(0.01, lambda: None):  # wakes the thread, after the long one has ended
        time.sleep(0.1)
    wait_until(lambda: threading.active_count() == before)
