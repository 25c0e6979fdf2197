"""The sync monitor's own: signals, one consumer, its end from another thread. What both faces share is in test_monitor.py."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from scardface import CardInserted, CardRemoved, ReaderAdded, ServiceDown, ServiceUp
from scardface._waiting.driver import driver_of
from scardface.sync import ReaderMonitor
from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support.cards import LogCard
from tests.support.waits import PATIENCE, Unanswered, signal_when, wait_until

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader("A")
        yield simulated
        wait_until(lambda: not simulated.open_contexts)


def test_ctrl_c_ends_the_wait_for_an_event(pcscd: PrivatePcscd) -> None:
    with ReaderMonitor() as monitor:
        for _ in pcscd.readers:
            next(monitor)
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012  the interrupt may come as soon as the thread runs
            thread = signal_when(monitor._consumer.locked)
            next(monitor)
        thread.join()


def test_an_event_of_a_monitor_that_another_thread_closes(pcscd: PrivatePcscd) -> None:
    with ReaderMonitor() as monitor:
        for _ in pcscd.readers:
            next(monitor)
        threading.Timer(0.1, monitor.__exit__, (None, None, None)).start()
        assert list(monitor) == []
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


# Its end from elsewhere.


def in_a_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start `call`; what it returns, or raises."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


@pytest.mark.parametrize("take", [list, lambda monitor: monitor.next(), lambda monitor: monitor.next(timeout=PATIENCE)])
def test_close_ends_what_waits_in_another_thread(pcsc: SimulatedPCSC, take: Callable[[ReaderMonitor], Any]) -> None:
    """It ends as an iteration ends, not with an error; and so does whatever comes later."""
    with ReaderMonitor() as monitor:
        assert next(monitor) == ReaderAdded("A", initial=True)
        thread, results = in_a_thread(lambda: take(monitor))
        wait_until(monitor._consumer.locked)
        monitor.close()
        thread.join(PATIENCE)
        assert results in ([[]], [None])
        pcsc.insert("A", LogCard())
        assert list(monitor) == []
        assert monitor.next() is None
        monitor.close()


def test_a_monitor_that_is_closed_tells_nothing_of_what_it_still_has(pcsc: SimulatedPCSC) -> None:
    with ReaderMonitor() as monitor:
        monitor.close()
        assert list(monitor) == []


def test_close_ends_the_beginning_too(pcsc: SimulatedPCSC) -> None:
    """The service does not answer: the block would not begin for as long as that lasts."""
    pcsc.latency = query = Unanswered("SCardListReaders")
    monitor = ReaderMonitor()

    def enter() -> list[Any]:
        with monitor:
            return list(monitor)

    thread, results = in_a_thread(enter)
    wait_until(lambda: monitor._driver is not None)
    monitor.close()
    thread.join(PATIENCE)
    assert results == [[]]
    query.answer()


def test_one_that_nobody_has_ended_ends(pcsc: SimulatedPCSC) -> None:
    """It was thrown away, or Ctrl-C came as `__exit__` began."""
    monitors = [ReaderMonitor().__enter__()]
    assert next(monitors[0]) == ReaderAdded("A", initial=True)
    with pytest.warns(ResourceWarning, match="unclosed ReaderMonitor"):
        monitors.clear()
    wait_until(lambda: not driver_of(pcsc).threads())
    with pytest.raises(TypeError), warnings.catch_warnings(record=True) as told:
        ReaderMonitor(1)  # type: ignore[arg-type]
    ReaderMonitor()
    gc.collect()
    assert not told


def test_close_in_a_signal_handler(pcsc: SimulatedPCSC) -> None:
    with ReaderMonitor() as monitor:
        before = signal.signal(signal.SIGUSR1, lambda *_: monitor.close())
        try:
            assert next(monitor) == ReaderAdded("A", initial=True)
            thread = signal_when(monitor._consumer.locked, signal.SIGUSR1)
            assert list(monitor) == []
            thread.join()
        finally:
            signal.signal(signal.SIGUSR1, before)


# One event.


def test_next_waits_for_so_many_seconds(pcsc: SimulatedPCSC) -> None:
    with ReaderMonitor() as monitor:
        assert monitor.next(timeout=0) == ReaderAdded("A", initial=True)
        assert monitor.next(timeout=0) is None
        begin = time.monotonic()
        assert monitor.next(timeout=0.05) is None
        assert time.monotonic() - begin >= 0.05
        pcsc.insert("A", LogCard())
        inserted = monitor.next(timeout=PATIENCE)
        assert isinstance(inserted, CardInserted)
        assert monitor.state["A"].present
        pcsc.remove("A")
        assert isinstance(next(monitor), CardRemoved), "beside iteration"
        pcsc.stop_service()
        assert isinstance(monitor.next(), ServiceDown)
        pcsc.start_service()
        assert isinstance(monitor.next(-1), ServiceUp)


def test_next_where_it_cannot_be(pcsc: SimulatedPCSC) -> None:
    monitor = ReaderMonitor()
    with pytest.raises(RuntimeError, match="with ReaderMonitor"):
        monitor.next(timeout=0)
    with monitor:
        for timeout in (-2, float("nan")):
            with pytest.raises(ValueError, match="timeout"):
                monitor.next(timeout=timeout)
        with pytest.raises(TypeError, match="timeout"):
            monitor.next(timeout="1")  # type: ignore[arg-type]  # that is the point
        assert monitor.next(timeout=0) == ReaderAdded("A", initial=True)
        thread, results = in_a_thread(monitor.next)
        wait_until(monitor._consumer.locked)
        with pytest.raises(RuntimeError, match="one consumer"):
            monitor.next(timeout=0)
        monitor.close()
        thread.join(PATIENCE)
        assert results == [None]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_takes_events_of_its_parents_monitor_is_told(pcsc: SimulatedPCSC) -> None:
    with ReaderMonitor() as monitor:
        child = os.fork()
        if not child:
            told = 0
            try:
                for take in (lambda: next(monitor), lambda: monitor.next(timeout=0), monitor.__enter__, lambda: list(monitor)):
                    try:
                        take()
                    except RuntimeError as error:
                        told += "fork" in str(error)
            finally:
                os._exit(told)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
        assert next(monitor) == ReaderAdded("A", initial=True)


def test_an_interrupt_at_any_place_leaves_room_for_the_next_consumer(pcsc: SimulatedPCSC) -> None:
    """Where Python looks for signals: where the function begins, and where a call of C code has returned."""

    def interrupted_at(place: int) -> bool:
        left = place

        def profile(frame: FrameType, event: str, argument: Any) -> None:
            nonlocal left
            if frame.f_code is ReaderMonitor._next.__code__ and event in ("call", "c_return"):
                left -= 1
                if left == -1:
                    raise KeyboardInterrupt

        sys.setprofile(profile)
        try:
            monitor.next(0)
        except KeyboardInterrupt:
            return True
        finally:
            sys.setprofile(None)
        return False

    with ReaderMonitor() as monitor:
        assert monitor.next(5) == ReaderAdded("A", initial=True)
        places = 0
        while interrupted_at(places):
            places += 1
            assert monitor.next(0) is None
        assert places > 1, "nothing was interrupted"
