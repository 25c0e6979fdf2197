"""What is the sync face's own: signals, threads, forks. What both faces share is in test_scard.py and test_monitor.py."""

from __future__ import annotations

import gc
import inspect
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

import scardface
import scardface.pool
from scardface import ShareMode, WaitCancelledError, sync
from scardface.sync import C_APDU, R_APDU, SCard
from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support.cards import T1, LogCard
from tests.support.waits import PATIENCE, signal_when, wait_until

pytestmark = pytest.mark.usefixtures("no_leaks")


def put(pcscd: PrivatePcscd, reader: int) -> LogCard:
    card = LogCard()
    pcscd.insert(reader, card)
    pcscd.wait_for_card(reader)
    return card


def interrupted_after(pause: float) -> float:
    """Wait for a card until a Ctrl-C after `pause` seconds; seconds that it took to end the wait.

    Without the garbage collector: what a signal's handler raises in one of its callbacks (hypothesis has one, and so has each
    WeakSet) is lost, since Python can raise nothing there, and on a busy machine the constructor is still at work by then.
    """
    told: list[float] = []
    begun: list[float] = []
    thread = signal_when(lambda: begun and time.monotonic() > begun[0] + pause, told=told)
    gc.disable()
    try:
        begun.append(time.monotonic())
        SCard()
    except KeyboardInterrupt:
        return time.perf_counter() - told[0]
    finally:
        gc.enable()
        thread.join()
    raise AssertionError("there is no card")


def test_ctrl_c_ends_the_wait_for_a_card(pcscd: PrivatePcscd) -> None:
    taken = [interrupted_after(number * 0.002) for number in range(5, 25)]
    assert statistics.median(taken) < 1  # 100 ms


def test_ctrl_c_ends_the_wait_for_the_removal_and_the_card_stays_open(pcscd: PrivatePcscd) -> None:
    put(pcscd, 0)
    with SCard(timeout=30) as card:
        thread = signal_when(lambda: len(card._removals) == 1)
        with pytest.raises(KeyboardInterrupt):
            card.wait()
        thread.join()
        assert card.send(b"\x00\x10\x00\x00\x01x").data == b"x"


class Registered(SCard):
    """Stores itself before it waits."""

    def __init__(self, register: Callable[[SCard], object], *args: Any, **kwargs: Any) -> None:
        register(self)
        super().__init__(*args, **kwargs)


def test_cancel_works_from_the_moment_that_init_began(pcscd: PrivatePcscd) -> None:
    for pause in (None, 0.0, 0.0005, 0.002, 0.1):

        def register(card: SCard, pause: float | None = pause) -> None:
            if pause is None:
                card.cancel()
            else:
                threading.Timer(pause, card.cancel).start()

        with pytest.raises(WaitCancelledError, match=re.escape("cancel()")):
            Registered(register)


def test_cancel_from_a_signal_handler(pcscd: PrivatePcscd) -> None:
    cards: list[SCard] = []
    number = signal.SIGTERM if sys.platform == "win32" else signal.SIGUSR1
    before = signal.signal(number, lambda *_: cards[0].cancel())
    try:
        thread = signal_when(lambda: cards, number)
        with pytest.raises(WaitCancelledError):
            Registered(cards.append)
        thread.join()
    finally:
        signal.signal(number, before)


def test_a_callback_runs_in_the_callers_thread(pcscd: PrivatePcscd) -> None:
    put(pcscd, 0)
    threads: list[threading.Thread] = []
    with SCard(timeout=30) as card:
        card.send(b"\x00\x10\x00\x00", callback=lambda *_: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]


def test_a_callback_cannot_send_nor_be_a_coroutine_function(pcscd: PrivatePcscd) -> None:
    put(pcscd, 0)

    async def coroutine(command: C_APDU, response: R_APDU) -> None: ...

    with SCard(timeout=30) as card:
        with pytest.raises(RuntimeError, match="inside its own callback"):
            card.send(b"\x00\x10\x00\x00", callback=lambda *_: card.send(b"\x00\x10\x00\x00"))
        with pytest.raises(TypeError, match="coroutine function"):
            card.send(b"\x00\x10\x00\x00", callback=coroutine)
        assert card.send(b"\x00\x10\x00\x00\x01x").data == b"x"


def own_threads() -> list[str]:
    """The names of the library's threads; the virtual card's own is not one of them."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("scardface-") and name != "scardface-LogCard"]


def test_an_open_idle_card_has_one_thread_and_none_after_the_close(pcscd: PrivatePcscd) -> None:
    """The one that connected it, which closes it again; also after a wait with others, and from a finalizer."""
    put(pcscd, 0)
    for _ in range(2):
        with SCard(timeout=30) as card:
            worker = card._worker
            assert worker is not None
            wait_until(lambda: own_threads() == ["scardface-card"])
            assert worker.thread.is_alive()
            card.send(b"\x00\x10\x00\x00")
            assert own_threads() == ["scardface-card"]
        assert own_threads() == []
        assert not worker.thread.is_alive()


def test_one_look_without_a_monitor(pcscd: PrivatePcscd) -> None:
    put(pcscd, 1)
    assert sync.readers() == pcscd.readers
    assert sync.groups() == ("SCard$DefaultReaders",)
    assert [state.atr for state in sync.states().values()] == [b"", T1, b"", b""]


FORK = """
import os, sys, traceback
from scardface import sync
from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support.cards import LogCard
from tests.support.waits import is_at_rest, wait_until

with PrivatePcscd(2) as pcscd:
    pcscd.insert(0, LogCard())
    pcscd.wait_for_card(0)
    with sync.SCard(timeout=30) as card, sync.ReaderMonitor() as monitor:
        for _ in range(3):
            next(monitor)
        wait_until(is_at_rest)
        child = os.fork()
        if not child:
            status = 1
            try:
                for use in (lambda: card.send(b"\\x00\\x10\\x00\\x00"), card.wait, card.close, card.cancel):
                    try:
                        use()
                    except RuntimeError as error:
                        assert "fork" in str(error), error
                    else:
                        raise AssertionError("the parent's card works in the child")
                sync.cancel_all()
                assert sync.readers() == pcscd.readers
                with sync.ReaderMonitor() as mine:
                    next(mine)
                try:
                    sync.SCard(timeout=0.1)
                except TimeoutError:
                    status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert card.send(b"\\x00\\x10\\x00\\x00\\x01x").data == b"x"
        pcscd.insert(1, LogCard())
        assert next(monitor).reader == pcscd.readers[1]
print("parent and child were right")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.usefixtures("pcscd")
def test_a_forked_child_makes_its_own_and_the_parent_never_notices() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    del environment["PCSCLITE_CSOCK_NAME"]
    done = subprocess.run([sys.executable, "-c", FORK], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "parent and child were right" in done.stdout, done.stderr


def test_the_faces_do_not_drift() -> None:
    """The same names, arguments and defaults; `close` for `aclose`, blocks for async blocks."""
    for ours, theirs, own in (
        (scardface.SCard, sync.SCard, {"close"}),
        (scardface.ReaderMonitor, sync.ReaderMonitor, {"close", "next"}),  # a thread has no other way to end a wait or bound it
        (scardface.pool.CardPool, sync.CardPool, {"close"}),
    ):
        names = {name for name in dir(ours) if not name.startswith("_")} - {"aclose"}
        assert names == {name for name in dir(theirs) if not name.startswith("_")} - own
        for name in [*names, "__init__"]:
            mine, other = getattr(ours, name), getattr(theirs, name)
            if callable(mine):
                mine, other = inspect.signature(mine), inspect.signature(other)
                assert [(p.name, p.kind, p.default) for p in mine.parameters.values()] == [
                    (p.name, p.kind, p.default) for p in other.parameters.values()
                ], name
    for name in ("readers", "groups", "states"):
        mine, other = (inspect.signature(getattr(module, name)) for module in (scardface, sync))
        assert mine == other
    own = {"CancelScope", "CardPool", "cancellable"}  # event loops bring theirs along; the pool is in scardface.pool
    assert sync.__all__ == sorted({*scardface.__all__, *own})


# Waits that another thread ends.


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader("A")
        yield simulated
        wait_until(lambda: not simulated.open_contexts)


def no_card() -> None:
    SCard(atr=b"never")


def no_service() -> None:
    SCard("nobody's", wait_for_reader=True)


def a_removal() -> None:
    with SCard("A", timeout=PATIENCE, share=ShareMode.SHARED) as card:
        try:
            card.wait()
        finally:
            assert card.send(b"\x00\x10\x00\x00\x01x").data == b"x", "the card stays open"


def an_event() -> None:
    with sync.ReaderMonitor() as monitor:
        list(monitor)


def an_event_in_time() -> None:
    with sync.ReaderMonitor() as monitor:
        while monitor.next(PATIENCE):
            pass


WAITS = (no_card, no_service, a_removal, an_event, an_event_in_time)


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
@pytest.mark.parametrize("depth", [1, 3])
def test_another_thread_ends_any_wait(pcsc: SimulatedPCSC, wait: Callable[[], None], depth: int) -> None:
    """Whichever of the blocks around it is cancelled; those of other threads go on, and what comes after the block does."""
    pcsc.insert("A", LogCard())
    scopes: list[sync.CancelScope] = []
    ended: list[BaseException] = []
    after: list[bytes] = []

    def run() -> None:
        with ExitStack() as stack:
            scopes.extend(stack.enter_context(sync.cancellable()) for _ in range(depth))
            try:
                wait()
            except WaitCancelledError as error:
                ended.append(error)
        with SCard(timeout=PATIENCE, share=ShareMode.SHARED) as card:
            after.append(card.send(b"\x00\x10\x00\x00\x01x").data)

    other, told = [threading.Thread(target=run) for _ in range(2)]
    other.start()
    wait_until(lambda: len(scopes) == depth and scopes[0]._callers)
    mine, scopes = scopes[0], []
    told.start()
    wait_until(lambda: len(scopes) == depth and scopes[0]._callers)
    scopes[0].cancel()
    told.join(PATIENCE)
    assert scopes[0].cancelled
    assert len(ended) == 1
    assert re.search("cancel", str(ended[0]))
    assert after == [b"x"]
    assert other.is_alive()
    assert not mine.cancelled
    mine.cancel()
    other.join(PATIENCE)
    assert after == [b"x", b"x"]


def test_a_cancel_that_came_before_ends_each_wait_that_begins(pcsc: SimulatedPCSC) -> None:
    """Nothing is lost between the beginning of the block and that of its wait; a send is no wait."""
    pcsc.insert("A", LogCard())
    with SCard("A", timeout=PATIENCE) as card, sync.cancellable() as scope:
        scope.cancel()
        for wait in (card.wait, no_card, no_service, an_event):
            with pytest.raises(WaitCancelledError):
                wait()
        assert card.send(b"\x00\x10\x00\x00\x01x").data == b"x"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGUSR1")
def test_a_signal_handler_ends_a_wait(pcsc: SimulatedPCSC) -> None:
    with sync.cancellable() as scope:
        before = signal.signal(signal.SIGUSR1, lambda *_: scope.cancel())
        try:
            thread = signal_when(lambda: scope._callers, signal.SIGUSR1)
            with pytest.raises(WaitCancelledError):
                no_card()
            thread.join()
        finally:
            signal.signal(signal.SIGUSR1, before)


def test_a_block_that_is_over_cancels_nothing(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", LogCard())
    with suppress(KeyError), sync.cancellable() as scope:
        raise KeyError
    scope.cancel()
    with SCard(timeout=PATIENCE):
        pass


def test_two_closes_at_once_both_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one, of a thread or a signal handler, comes between this one's question and its order."""
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        card = SCard("A")
        hand_over, worker = card._hand_over_close, card._worker
        assert worker is not None

        def second(*args: Any) -> None:
            hand_over(None, lambda error: None)
            worker.thread.join(30)
            hand_over(*args)

        monkeypatch.setattr(card, "_hand_over_close", second)
        closing = threading.Thread(target=card.close, daemon=True)
        closing.start()
        closing.join(30)
        assert not closing.is_alive()
