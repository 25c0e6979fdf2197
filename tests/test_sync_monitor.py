"""The sync monitor's own: signals, one consumer, its end from another thread. What both faces share is in test_monitor.py."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import pytest

from scardface.sync import ReaderMonitor
from scardface.testing import PrivatePcscd

pytestmark = pytest.mark.usefixtures("no_leaks")


def interrupt_when(condition: Callable[[], bool], told: list[float]) -> threading.Thread:
    """Send this program a Ctrl-C once `condition` holds."""

    def wait() -> None:
        end = time.monotonic() + 5
        while not condition() and time.monotonic() < end:
            time.sleep(0.001)
        told.append(time.perf_counter())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_ctrl_c_ends_the_wait_for_an_event(pcscd: PrivatePcscd) -> None:
    with ReaderMonitor() as monitor:
        for _ in pcscd.readers:
            next(monitor)
        started = time.monotonic()
        thread = interrupt_when(lambda: time.monotonic() > started + 0.1, [])
        with pytest.raises(KeyboardInterrupt):
            next(monitor)
        thread.join()


def test_an_event_of_a_monitor_that_another_thread_closes(pcscd: PrivatePcscd) -> None:
    with ReaderMonitor() as monitor:
        threading.Timer(0.1, monitor.__exit__, (None, None, None)).start()
        assert len(list(monitor)) == len(pcscd.readers)
    with pytest.raises(RuntimeError, match="entered once"):
        monitor.__enter__()
    with pytest.raises(RuntimeError, match="with ReaderMonitor"):
        next(ReaderMonitor())


def test_a_monitor_has_one_consumer(pcscd: PrivatePcscd) -> None:
    with ReaderMonitor() as monitor:
        for _ in pcscd.readers:
            next(monitor)
        thread = threading.Thread(target=next, args=(monitor, None))
        thread.start()
        while not monitor._consumer.locked():
            time.sleep(0.001)
        with pytest.raises(RuntimeError, match="one consumer"):
            next(monitor)
        monitor.__exit__(None, None, None)
        thread.join()
