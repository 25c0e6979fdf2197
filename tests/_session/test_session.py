"""The session: one open card, blocking. On the simulation, where every failure can be had."""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from scardface import (
    C_APDU,
    CardCommunicationError,
    CardRemovedError,
    CardResetError,
    Disposition,
    Lengths,
    NoCardError,
    Protocol,
    SCardError,
    ServiceUnavailableError,
    ShareMode,
    errors,
    sync,
)
from scardface._session import session as _session
from scardface._session.card_errors import SessionClosedError
from scardface._session.card_request import CardRequest
from scardface._session.session import Session
from scardface.testing import SimulatedPCSC
from tests.support.cards import BOTH, ECHO, GATE, NOT_FOUND, LogCard
from tests.support.waits import wait_until

ECHOED = C_APDU(0, ECHO, 0, 0, b"ab")


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader("A")
        simulated.insert("A", LogCard(BOTH))
        yield simulated
        assert simulated.open_contexts == 0


def card_request(share: ShareMode = ShareMode.SHARED, protocols: Protocol = Protocol.T0 | Protocol.T1) -> CardRequest:
    return CardRequest.from_arguments(None, None, 1, None, False, share, protocols, Lengths.AUTO)


def opened(pcsc: SimulatedPCSC, share: ShareMode = ShareMode.SHARED) -> Session:
    return Session.open(pcsc, "A", card_request(share), lambda: None)


@pytest.fixture
def session(pcsc: SimulatedPCSC) -> Iterator[Session]:
    session = opened(pcsc)
    yield session
    session.close()


def echo(session: Session) -> bytes:
    response = session.send(session.prepare([ECHOED]))
    assert response is not None
    return response.data


def test_what_an_open_card_shows(session: Session) -> None:
    assert (session.reader, session.atr, session.protocol) == ("A", BOTH, Protocol.T1)
    assert session.reading.present
    assert echo(session) == b"ab"


@pytest.mark.parametrize("call", ["SCardEstablishContext", "SCardConnect", "SCardGetStatusChange", "SCardStatus"])
def test_an_open_that_fails_half_way_leaves_nothing(pcsc: SimulatedPCSC, call: str) -> None:
    pcsc.inject(call, errors.UNPOWERED_CARD)
    with pytest.raises(SCardError) as caught:
        opened(pcsc)
    assert caught.value.call == call
    assert pcsc.open_contexts == 0
    opened(pcsc, ShareMode.EXCLUSIVE).close()


def test_a_batch_ends_when_its_caller_left(session: Session, pcsc: SimulatedPCSC) -> None:
    card = pcsc.cards["A"]
    assert isinstance(card, LogCard)
    assert session.send(session.prepare([ECHOED]), None, lambda: True) is None
    assert card.commands == []
    for callback in (None, lambda *_: None):
        left = iter([False, True])
        assert session.send(session.prepare([ECHOED, C_APDU(0, NOT_FOUND)]), callback, left.__next__) is None
    assert [command[1] for command in card.commands] == [ECHO, ECHO]


def test_nothing_is_sent_if_one_command_of_a_batch_cannot_go(pcsc: SimulatedPCSC) -> None:
    session = Session.open(pcsc, "A", card_request(protocols=Protocol.T0), lambda: None)
    session.prepare.__self__.configure(Protocol.T0, Lengths.EXTENDED)  # type: ignore[attr-defined]  # its Exchanger
    with pytest.raises(ValueError, match="T=0"):
        session.prepare([ECHOED, C_APDU(0, ECHO, 0, 0, bytes(300))])
    assert pcsc.calls.get("SCardTransmit", 0) == 0
    session.close()


def test_from_inside_its_own_callback_nothing_can_be_sent(session: Session) -> None:
    def callback(*_: object) -> None:
        for call in (lambda: echo(session), lambda: session.transmit(b"\0\0\0\0"), session.check):
            with pytest.raises(RuntimeError, match="inside its own callback"):
                call()

    session.send(session.prepare([ECHOED]), callback)
    assert echo(session) == b"ab"


def test_a_closed_session_refuses_and_frees_once(pcsc: SimulatedPCSC) -> None:
    freed: list[int] = []
    session = Session.open(pcsc, "A", card_request(), lambda: freed.append(pcsc.calls["SCardReleaseContext"]))
    session.close()
    session.close()
    assert freed == [1]  # once, and when another can connect
    for call in (lambda: echo(session), lambda: session.transmit(b"\0\0\0\0"), session.check):
        with pytest.raises(SessionClosedError):
            call()


@pytest.mark.parametrize("share", [ShareMode.SHARED, ShareMode.EXCLUSIVE])
@pytest.mark.parametrize("disposition", [None, Disposition.LEAVE, Disposition.RESET])
@pytest.mark.parametrize("by_release", [True, False])
def test_what_a_close_does_to_the_card(
    pcsc: SimulatedPCSC, share: ShareMode, disposition: Disposition | None, by_release: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same whether the PC/SC disconnects when a context is released, or has to be told."""
    monkeypatch.setattr(SimulatedPCSC, "release_disconnects", by_release)
    card = pcsc.cards["A"]
    assert isinstance(card, LogCard)
    opened(pcsc, share).close(disposition)
    usual = Disposition.RESET if share is ShareMode.EXCLUSIVE else Disposition.LEAVE
    assert card.resets == ((usual if disposition is None else disposition) is Disposition.RESET)
    told = pcsc.calls.get("SCardDisconnect", 0)
    assert told == (0 if by_release and disposition in (None, usual) else 1)
    opened(pcsc, ShareMode.EXCLUSIVE).close()  # nothing holds the card


@pytest.mark.parametrize("call", ["SCardDisconnect", "SCardReleaseContext"])
def test_a_close_that_fails_frees_all_the_same(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedPCSC, "release_disconnects", False)
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        freed: list[int] = []
        session = Session.open(pcsc, "A", card_request(), lambda: freed.append(1))
        pcsc.inject(call, errors.NO_SERVICE)
        session.close()
        assert freed == [1]


def test_threads_wait_for_each_other_for_a_whole_batch(session: Session, pcsc: SimulatedPCSC) -> None:
    card = pcsc.cards["A"]
    assert isinstance(card, LogCard)
    batch = session.prepare([C_APDU(0, GATE), C_APDU(0, ECHO, 1)])
    first = threading.Thread(target=session.send, args=(batch,))
    first.start()
    assert card.reached.wait(30)
    second = threading.Thread(target=session.send, args=(session.prepare([C_APDU(0, ECHO, 2)]),))
    closer = threading.Thread(target=session.close)
    second.start()
    wait_until(lambda: session._lock._inside)
    card.gate.set()
    for thread in (first, second):
        thread.join(30)
    closer.start()
    closer.join(30)
    assert [(command[1], command[2]) for command in card.commands] == [(GATE, 0), (ECHO, 1), (ECHO, 2)]


def test_a_reset_by_another_is_told(session: Session, pcsc: SimulatedPCSC) -> None:
    other = opened(pcsc)
    other.close(Disposition.RESET)
    with pytest.raises(CardResetError):
        echo(session)
    session.check()  # the card is there all the same


def test_a_direct_session_has_no_card_to_lose(pcsc: SimulatedPCSC) -> None:
    pcsc.remove("A")
    session = Session.open(pcsc, "A", card_request(ShareMode.DIRECT, Protocol.UNDEFINED), lambda: None)
    assert not session.reading.present
    pcsc.inject("SCardTransmit", errors.NOT_TRANSACTED)
    with pytest.raises(NoCardError, match="opened without one"):
        session.transmit(b"\0\0\0\0")
    session.close()


@pytest.mark.parametrize("callback", [None, lambda command, response: None], ids=["alone", "with a callback"])
def test_a_card_that_was_lost_before_a_send_has_answered_none_of_it(session: Session, pcsc: SimulatedPCSC, callback: Any) -> None:
    batch = session.prepare([ECHOED])
    pcsc.remove("A")
    pcsc.insert("A", LogCard())
    with pytest.raises(CardRemovedError):
        session.reconnect(ShareMode.EXCLUSIVE, None)
    with pytest.raises(CardRemovedError) as caught:
        session.send(batch, callback)
    assert caught.value.answered == 0


def test_check_tells_of_a_lost_service_and_of_nothing_else(session: Session, pcsc: SimulatedPCSC) -> None:
    session.check()
    for code in (errors.SHARING_VIOLATION, 0x8010001F):
        pcsc.inject("SCardGetAttrib", code)
        session.check()
    pcsc.inject("SCardGetAttrib", errors.REMOVED_CARD)
    with pytest.raises(CardRemovedError):
        session.check()
    pcsc.stop_service()
    with pytest.raises(ServiceUnavailableError):
        session.check()


def test_a_transaction_that_is_ended_again_ends_no_other(session: Session, pcsc: SimulatedPCSC) -> None:
    """An interrupted caller ends what it has begun once more; the one around it goes on."""
    other = opened(pcsc)  # before: a connect waits for a transaction, too
    session.begin_transaction("outer")
    session.begin_transaction("inner")
    for _ in range(3):
        session.end_transaction("inner", Disposition.LEAVE)
    waiting = threading.Thread(target=other.transmit, args=(bytes([0, ECHO, 0, 0]),), daemon=True)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive(), "the outer transaction has ended"
    session.end_transaction("outer", Disposition.LEAVE)
    waiting.join(30)
    assert not waiting.is_alive()
    assert (pcsc.calls["SCardBeginTransaction"], pcsc.calls["SCardEndTransaction"]) == (1, 1)
    other.close()


@pytest.mark.parametrize("call", ["transmit", "reset"])
def test_a_failure_is_looked_into_once(session: Session, pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """It takes the time of a driver's poll, and the caller waits for it."""
    looked: list[object] = []
    real = _session.translate
    monkeypatch.setattr(_session, "translate", lambda *args: looked.append(args) or real(*args))  # type: ignore[func-returns-value]
    monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 30)
    pcsc.inject("SCardTransmit" if call == "transmit" else "SCardReconnect", errors.NOT_TRANSACTED)
    with pytest.raises(CardCommunicationError):
        session.transmit(bytes(4)) if call == "transmit" else session.reset(Disposition.RESET)
    assert len(looked) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no signal can be had at a random moment there")
@pytest.mark.filterwarnings(
    "ignore:(?s).*KeyboardInterrupt:pytest.PytestUnraisableExceptionWarning"
)  # one may come inside of a finalizer
def test_an_interrupt_leaves_no_lock_behind(session: Session) -> None:
    """At whatever step it comes: in the middle of an exchange, before it, after it."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    for name in ("transmit", "begin_transaction", "end_transaction"):  # quick, and nothing of the simulation's
        setattr(session._handle, name, lambda *_: b"\x90\x00")
    interrupted = 0
    try:
        for _ in range(2000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00002 + random.random() * 0.0001)
                for _ in range(1000):
                    session.send(session.prepare([ECHOED]))
            except KeyboardInterrupt:
                interrupted += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            # On PyPy `with threading.RLock()` itself leaves the lock taken now and then: after 373 of 20,000 interrupts.
            assert sys.implementation.name == "pypy" or not session._lock._lock._is_owned()  # type: ignore[attr-defined]
            assert not session._lock._inside
            assert not session._transactions.held
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()  # what is to be ignored is ignored here
    assert interrupted > 500


def test_no_error_is_its_own_cause(pcsc: SimulatedPCSC) -> None:
    """Who follows `__cause__` to its end, as Dask does with the error of a task, would never get there."""
    with sync.SCard("A", timeout=5) as card:
        pcsc.remove("A")
        with pytest.raises(CardRemovedError) as caught:
            card.send(ECHOED)
    assert caught.value.__cause__ is not caught.value
