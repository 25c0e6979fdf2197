"""What is the sync pool's own: threads, signals, forks."""

# ruff: noqa: PT012

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from scardface import C_APDU, CardRemovedError, CardTimeoutError, WaitCancelledError, sync
from scardface.sync import CardPool, SCard
from scardface.testing import SimulatedPCSC
from tests.support.cards import GATE, LogCard
from tests.support.pins import READ, SELECT, VERIFY, PinCard
from tests.support.waits import signal_when, threads_named, throw_away, wait_until

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.add_reader("B")
        pcsc.insert("A", PinCard())
        yield pcsc


def test_many_threads_one_card_each(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("B", PinCard())
    held: Counter[str] = Counter()
    shared: list[str] = []

    def borrow(_: int) -> None:
        with pool.card() as card:
            held[card.reader] += 1
            if held[card.reader] > 1:
                shared.append(card.reader)
            card.send(READ)
            held[card.reader] -= 1

    with CardPool(timeout=30, prepare=lambda card: card.send(VERIFY)) as pool, ThreadPoolExecutor(16) as threads:
        list(threads.map(borrow, range(400)))
        assert pool.stats().loans == 400
        wait_until(lambda: pool.stats().lent == 0)
    assert not shared


def test_a_coroutine_function_is_refused(pcsc: SimulatedPCSC) -> None:
    async def prepare(card: SCard) -> None:
        """Is never called."""

    for words in ({"prepare": prepare}, {"match": prepare}):
        with pytest.raises(TypeError, match="a coroutine function cannot be awaited here"):
            CardPool(**words)
    with pytest.raises(TypeError, match="cannot be awaited here"), CardPool(prepare=lambda card: prepare(card)):
        pass


def test_ctrl_c_ends_the_wait_for_a_card(pcsc: SimulatedPCSC) -> None:
    with CardPool(timeout=30) as pool:
        with pool.card():
            signal_when(lambda: pool.stats().waiting == 1)
            with pytest.raises(KeyboardInterrupt), pool.card():
                pass
            assert pool.stats().waiting == 0
        with pool.card() as card:
            card.send(SELECT)


def test_ctrl_c_ends_the_start(pcsc: SimulatedPCSC) -> None:
    pool = CardPool(min_cards=2)
    signal_when(lambda: pool.stats().idle == 1)
    with pytest.raises(KeyboardInterrupt), pool:
        pass
    assert pool.closed


def test_a_cancellable_block_ends_the_wait(pcsc: SimulatedPCSC) -> None:
    with CardPool(min_cards=0, readers="B") as pool, sync.cancellable() as scope:
        thread = threading.Thread(target=lambda: (wait_until(lambda: pool.stats().waiting == 1), scope.cancel()))
        thread.start()
        with pytest.raises(WaitCancelledError), pool.card():
            pass
        thread.join()


def test_a_card_that_goes_ends_what_the_block_waits_for(pcsc: SimulatedPCSC) -> None:
    with CardPool(timeout=30) as pool:
        with pytest.raises(CardRemovedError, match="'A' was removed"), pool.card():
            pcsc.remove("A")
            SCard("B", timeout=30)
        pcsc.insert("A", PinCard())
        with pool.card():  # a block that has done its work has done it
            pcsc.remove("A")
            wait_until(lambda: pool.stats().lost == 2)


def test_a_prepare_that_hangs_does_not_hold_up_the_close(pcsc: SimulatedPCSC) -> None:
    go_on = threading.Event()
    waiting: list[BaseException] = []
    waits: list[SCard] = []

    def prepare(card: SCard) -> None:
        if card.reader == "A":
            go_on.wait(30)
        else:
            waits.append(card)
            try:
                card.wait()
            except BaseException as error:
                waiting.append(error)
                raise

    pcsc.insert("B", PinCard())
    with CardPool(min_cards=0, prepare=prepare) as pool:
        wait_until(lambda: pool.stats().preparing == 2)
        wait_until(lambda: waits and waits[0]._removals)
        with pytest.raises(CardTimeoutError, match="being made ready"), pool.card(timeout=0.05):
            pass
    assert isinstance(waiting[0], WaitCancelledError)
    with SCard("A", timeout=30) as card:
        card.send(SELECT)
    go_on.set()
    wait_until(lambda: not threads_named("scardface-prepare"))
    assert pool.stats().cards == 0


def test_a_thread_that_is_in_a_call_still(pcsc: SimulatedPCSC) -> None:
    """Its card is opened anew: whoever has it next has it alone."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(card: SCard) -> None:
        with pytest.raises(RuntimeError), card.transaction():
            begun.set()
            go_on.wait(30)
            card.send(READ)

    with CardPool(timeout=30) as pool:
        with pool.card() as card:
            thread = threading.Thread(target=hold, args=(card,))
            thread.start()
            assert begun.wait(30)
        with pool.card() as other:
            assert other is not card
            other.send(SELECT)
        go_on.set()
        thread.join()


def test_an_exchange_that_outlives_the_loan(pcsc: SimulatedPCSC) -> None:
    """Of another thread, which still waits for its answer."""
    slow = LogCard()
    pcsc.remove("A")
    pcsc.insert("A", slow)
    with CardPool(timeout=30) as pool:
        with pool.card() as card:
            thread = threading.Thread(target=card.send, args=(C_APDU(0x80, GATE),))
            thread.start()
            assert slow.reached.wait(30)
        assert pool.stats().cards == 0
        slow.gate.set()
        thread.join()
        with pool.card() as other:
            assert other is not card


def test_a_loan_that_is_thrown_away_is_given_back(pcsc: SimulatedPCSC) -> None:
    with CardPool(timeout=30) as pool:
        kept = [pool.card()]
        kept[0].__enter__()
        with pytest.warns(ResourceWarning, match="not given back") as told:
            throw_away(kept, lambda: list(told))
        with pool.card(timeout=30) as card:
            card.send(SELECT)


def test_a_pool_that_is_thrown_away_closes_its_cards(pcsc: SimulatedPCSC) -> None:
    kept = [CardPool(timeout=30, max_idle=30)]
    kept[0].open()
    with pytest.warns(ResourceWarning, match="unclosed CardPool") as told:
        throw_away(kept, lambda: list(told))
    with SCard("A", timeout=30) as card:
        card.send(SELECT)
    wait_until(lambda: not threads_named("scardface-pool", "scardface-card"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_none_of_it(pcsc: SimulatedPCSC) -> None:
    """A thread of the parent may hold the pool's lock at the fork: the child is refused before it."""
    unopened = CardPool(min_cards=0)
    with CardPool(timeout=30, min_cards=1) as pool:
        state = pool._state
        assert state is not None
        held, free = threading.Event(), threading.Event()

        def hold() -> None:
            with state.lock:
                held.set()
                free.wait(60)

        loan = pool.card()
        loan.__enter__()
        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(60)
        child = os.fork()
        if not child:
            signal.alarm(60)
            status = 0
            for call in (lambda: pool.card().__enter__(), pool.close, unopened.open, pool.stats, lambda: pool.set_aside):
                try:
                    call()
                except RuntimeError as error:
                    status += "fork" in str(error)
            loan.__exit__(None, None, None)
            os._exit(status + ("parent" in repr(pool)))
        free.set()
        holder.join(60)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
        loan.__exit__(None, None, None)
        with pool.card() as card:
            card.send(SELECT)


def test_it_cannot_be_closed_inside_a_callback(pcsc: SimulatedPCSC) -> None:
    """The close would wait for the call that the callback belongs to."""
    with CardPool(timeout=30) as pool, pool.card() as card:
        with pytest.raises(RuntimeError, match="from inside its own callback"):
            card.send(SELECT, callback=lambda *_: pool.close())
        card.send(SELECT)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no such signal on Windows")
def test_a_signal_handler_closes_it_behind_the_call_that_it_has_interrupted(pcsc: SimulatedPCSC) -> None:
    slow = LogCard()
    pcsc.remove("A")
    pcsc.insert("A", slow)
    pool = CardPool(timeout=30)

    def close(*_: object) -> None:
        pool.close()
        slow.gate.set()

    before = signal.signal(signal.SIGUSR1, close)
    try:
        pool.open()
        with pytest.raises((WaitCancelledError, RuntimeError)), pool.card() as card:
            signal_when(slow.reached.is_set, signal.SIGUSR1)
            card.send(C_APDU(0x80, GATE))
            card.send(SELECT)
        wait_until(lambda: not threads_named("scardface-card"))
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_closing_in_another_thread_ends_those_who_wait(pcsc: SimulatedPCSC) -> None:
    pool = CardPool(timeout=30)
    pool.open()
    ended: list[Any] = []

    def borrow() -> None:
        with pytest.raises(WaitCancelledError, match="the pool was closed") as caught, pool.card():
            pass
        ended.append(caught.value)

    with pytest.raises(RuntimeError, match="closed"), pool.card() as card:
        thread = threading.Thread(target=borrow)
        thread.start()
        wait_until(lambda: pool.stats().waiting == 1)
        pool.close()
        thread.join()
        card.send(READ)
    assert len(ended) == 1
