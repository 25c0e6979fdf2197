"""What is the sync face's own: an interrupted begin of a transaction, threads that take turns, callbacks."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from scardface import C_APDU, ShareMode, sync
from scardface._faces import sync_base
from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support import foreign as other
from tests.support.cards import BOTH, ECHO, GATE, LogCard
from tests.support.foreign import Foreign
from tests.support.waits import signal_when

SHARED = ShareMode.SHARED


def interrupt_when_pending(card: sync.SCard) -> threading.Thread:
    """Ctrl-C once PC/SC holds the begin of a transaction."""
    pending: list[float] = []

    def is_inside() -> bool:
        if not pending and card._beginning is not None and card._beginning.pending:
            pending.append(time.monotonic())
        return bool(pending) and time.monotonic() > pending[0] + 0.1  # inside PC/SC; earlier is right as well, and says less

    return signal_when(is_inside)


def test_ctrl_c_leaves_a_transaction_that_waits_for_another_program(pcscd: PrivatePcscd, foreign: Foreign, no_leaks: None) -> None:
    """While the other one lasts, with the block of the card around it; the begin is undone when it comes back."""
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    with pytest.raises(KeyboardInterrupt), sync.SCard(timeout=30, share=SHARED) as card:  # noqa: PT012  the close is part of it
        foreign.connect(card.reader, other.SHARED)
        foreign.begin()
        interrupt_when_pending(card)
        with card.transaction():
            pytest.fail("another program holds the card")
    assert card.closed
    foreign.transmit(bytes(4))
    foreign.end()
    foreign.disconnect()
    with sync.SCard(timeout=30) as card:  # EXCLUSIVE: nothing is left of the first
        card.send(C_APDU(0, ECHO))
    assert len(virtual.commands) == 2


def test_a_close_does_not_mistake_a_begin_that_is_done_for_one_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread has delivered the outcome, and has not ended yet."""
    end = threading.Event()
    begin = sync_base.Beginning._begin

    def lives_on(self: sync_base.Beginning) -> None:
        begin(self)
        end.wait()

    monkeypatch.setattr(sync_base.Beginning, "_begin", lives_on)
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        with sync.SCard(timeout=5, share=SHARED) as card, card.transaction():
            card.close()
            assert not pcsc.open_contexts, "it has waited for the end of the card"
            end.set()


def test_ctrl_c_and_the_card_goes_on(pcscd: PrivatePcscd, foreign: Foreign) -> None:
    """What is sent meanwhile waits for the begin, which is undone."""
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    with sync.SCard(timeout=30, share=SHARED) as card:
        foreign.connect(card.reader, other.SHARED)
        foreign.begin()
        interrupt_when_pending(card)
        with pytest.raises(KeyboardInterrupt), card.transaction():
            pytest.fail("another program holds the card")
        foreign.end()
        card.send(C_APDU(0, ECHO))
        foreign.transmit(bytes(4))  # no transaction of ours is left
    assert len(virtual.commands) == 2


def test_an_interrupt_between_the_begin_and_its_outcome_undoes_it(pcscd: PrivatePcscd, foreign: Foreign, monkeypatch: Any) -> None:
    pcscd.insert(0, LogCard(BOTH))

    def interrupted(outcome: Any) -> None:
        assert outcome.get(timeout=30) is None
        raise KeyboardInterrupt

    with sync.SCard(timeout=30, share=SHARED) as card:
        monkeypatch.setattr("scardface._faces.sync_base.get", interrupted)
        with pytest.raises(KeyboardInterrupt), card.transaction():
            pytest.fail("interrupted")
        foreign.connect(card.reader, other.SHARED)
        foreign.transmit(bytes(4))


def test_threads_take_turns_around_a_transaction(pcscd: PrivatePcscd) -> None:
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    with sync.SCard(timeout=30) as card:
        intruder = threading.Thread(target=card.transmit, args=(bytes([0, 0xEE, 0, 0]),))
        with card.transaction():
            intruder.start()
            time.sleep(0.1)
            card.send(C_APDU(0, ECHO))
        intruder.join(30)
    assert [command[1] for command in virtual.commands] == [ECHO, 0xEE]


def test_a_callback_cannot_use_its_card(pcscd: PrivatePcscd) -> None:
    pcscd.insert(0, LogCard(BOTH))
    with sync.SCard(timeout=30) as card:

        def callback(*_: object) -> None:
            for call in (card.reset, card.reconnect, lambda: card.control(1), lambda: card.attribute(1), card.close):
                with pytest.raises(RuntimeError, match="callback"):
                    call()
            with pytest.raises(RuntimeError, match="callback"), card.transaction():
                pytest.fail("a deadlock")

        card.send(C_APDU(0, ECHO), callback=callback)
        assert not card.closed


@pytest.mark.slow
def test_a_transaction_whose_thread_has_ended_is_waited_for_by_nobody() -> None:
    """Who came before its end hears of it as well as who comes later; the card can be closed."""
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        with sync.SCard(timeout=30, share=SHARED) as card:
            block, begun, end = card.transaction(), threading.Event(), threading.Event()
            errors: list[RuntimeError] = []

            def begin() -> None:
                block.__enter__()
                begun.set()
                end.wait(30)

            def send() -> None:
                try:
                    card.send(C_APDU(0, ECHO))
                except RuntimeError as error:
                    errors.append(error)

            threads = [threading.Thread(target=begin, name="beginner"), threading.Thread(target=send)]
            threads[0].start()
            assert begun.wait(30)
            threads[1].start()
            with pytest.raises(RuntimeError, match="ended by the thread that began it"):
                block.__exit__(None, None, None)
            end.set()
            for thread in threads:
                thread.join(30)
            send()
            assert ["'beginner' began a transaction" in str(error) for error in errors] == [True, True]
        with sync.SCard(timeout=30) as card:
            card.send(C_APDU(0, ECHO))


@pytest.mark.parametrize("enter", [lambda lock: lock.__enter__(), lambda lock: lock.enter_until(time.monotonic() + 30)])
def test_a_thread_that_lets_go_and_ends_as_another_one_looks(enter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_base, "SLICE", 0.01)
    lock, holds, go_on = sync_base.ThreadLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            holds.set()
            assert go_on.wait(30)

    class Ending(threading.Thread):
        def is_alive(self) -> bool:
            go_on.set()
            thread.join(30)
            return False

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(30)
    lock._holder = Ending()
    assert enter(lock)
    assert lock._holder is threading.current_thread()
    lock.release()


def test_a_slow_call_of_a_thread_after_a_transaction_of_one_that_has_ended_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who left its block has nothing to do with it any more, whatever became of the thread."""
    monkeypatch.setattr(sync_base, "SLICE", 0.02)
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        card = LogCard()
        pcsc.insert("A", card)
        with sync.SCard(timeout=30, share=SHARED) as opened:

            def transact() -> None:
                with opened.transaction(), opened.transaction():
                    pass

            for target in (transact, lambda: opened.send(C_APDU(0, GATE))):
                thread = threading.Thread(target=target)
                thread.start()
                if target is transact:
                    thread.join(30)
            assert card.reached.wait(30)
            ended = threading.Timer(0.2, card.gate.set)  # ten slices; fewer are right as well, and say less
            ended.start()
            assert opened.send(C_APDU(0, ECHO)).sw == 0x9000
            thread.join(30)
