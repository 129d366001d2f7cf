"""Timer: one thread enforces the time limits of all requests."""

import threading
import time

from pixel_reasoner.models.http_timer import Timer


def test_callbacks_are_called_in_the_order_of_their_deadlines():
    timer, calls = Timer(), []
    with (
        timer.limit(0.2, lambda: calls.append("second")),
        timer.limit(0.05, lambda: calls.append("first")),
    ):
        time.sleep(0.5)
    assert calls == ["first", "second"]


def test_the_callback_of_an_ended_block_is_never_called():
    timer, calls = Timer(), []
    for _ in range(1000):
        with timer.limit(0.05, lambda: calls.append("late")):
            pass
    time.sleep(0.2)
    assert calls == []


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
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
