"""The lock that no signal handler's exception leaves taken."""

from __future__ import annotations

import random
import signal
import sys
import threading

import pytest

from scardface._threads import RLock
from tests.support.waits import wait_until


def test_it_is_a_lock() -> None:
    lock, did = RLock(), []

    def other() -> None:
        with lock:
            did.append("other")

    thread = threading.Thread(target=other)
    with lock as taken, lock:  # re-entrant
        thread.start()
        assert taken
        assert not did
    thread.join(30)
    assert did == ["other"]


def test_a_condition_can_be_made_of_it() -> None:
    condition, told = threading.Condition(RLock()), []

    def wait() -> None:
        with condition, condition:
            told.append("waiting")
            condition.wait_for(lambda: len(told) == 2)
            told.append("heard")

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: bool(told))
    with condition:
        told.append("said")
        condition.notify()
    thread.join(30)
    assert told == ["waiting", "said", "heard"]


@pytest.mark.skipif(sys.platform == "win32", reason="no signal can be had at a random moment there")
def test_an_interrupt_never_leaves_it_taken() -> None:
    """Most of them would with threading.RLock on Python 3.14."""
    lock, armed, interrupted = RLock(), False, 0

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    def arm() -> None:
        """Again and again: one that comes just as the interpreter (3.11) looks for signals is not handled before its next event,
        and what a handler raises in a callback of the collector is dropped.
        """
        nonlocal armed
        armed = True
        signal.setitimer(signal.ITIMER_REAL, 0.00002 + random.random() * 0.0001, 0.05)

    def spin() -> None:
        """A function of its own, so that the `try` around it sees the exception on Python 3.13, too."""
        while armed:
            with lock:
                pass

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        while interrupted < 1000:
            try:
                arm()
                spin()
            except KeyboardInterrupt:
                interrupted += 1
            assert not lock._is_owned()  # type: ignore[attr-defined]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
