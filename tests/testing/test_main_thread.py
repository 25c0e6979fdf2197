"""Calls of the simulated PC/SC in the main thread: a signal handler runs when they have returned, as with calls in C."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from scardface import Protocol, SCardError, ShareMode
from scardface.testing import SimulatedPCSC
from scardface.testing._main_thread import CallThreads
from tests.support.cards import ECHO, GATE, LogCard

SAY = bytes([0, ECHO, 0, 0, 1, 0x78])

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signal can be sent to a thread there")


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        yield pcsc


def interrupt_main_thread() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def test_what_a_call_brings_and_raises() -> None:
    call_threads = CallThreads()
    assert call_threads.run(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        call_threads.run(lambda: 1 / 0)
    assert call_threads.run(threading.get_ident) != threading.get_ident()
    call_threads.close()


def test_an_interrupt_comes_when_the_call_has_returned(pcsc: SimulatedPCSC) -> None:
    card = pcsc.cards["A"]
    assert isinstance(card, LogCard)
    context = pcsc.establish()
    handle = context.connect("A", ShareMode.SHARED, Protocol.T1)

    def interrupt() -> None:
        assert card.reached.wait(5)
        interrupt_main_thread()
        time.sleep(0.1)  # the call goes on
        card.gate.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        handle.transmit(bytes([0, GATE, 0, 0]))
    assert card.gate.is_set()
    thread.join()
    assert handle.transmit(SAY) == b"x\x90\x00"
    context.release()


def test_a_handler_may_call_from_inside_a_call(pcsc: SimulatedPCSC) -> None:
    card = pcsc.cards["A"]
    assert isinstance(card, LogCard)
    context, other = pcsc.establish(), pcsc.establish()
    handle = context.connect("A", ShareMode.SHARED, Protocol.T1)
    said: list[Any] = []

    def handler(*_: object) -> None:
        said.append(other.list_readers())
        card.gate.set()

    before = signal.signal(signal.SIGINT, handler)
    thread = threading.Thread(target=lambda: card.reached.wait(5) and interrupt_main_thread())
    try:
        thread.start()
        assert handle.transmit(bytes([0, GATE, 0, 0])) == b"\x90\x00"
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()
    assert said == [("A",)]
    context.release()
    other.release()


def test_the_threads_end_with_the_simulation(no_leaks: None) -> None:
    with SimulatedPCSC() as pcsc:
        with pytest.raises(SCardError):
            pcsc.establish().connect("A", ShareMode.SHARED, Protocol.T1)
        assert any("simulated call" in thread.name for thread in threading.enumerate())
