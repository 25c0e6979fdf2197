"""What makes an open card a lost one. On the simulation, where every failure can be had."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from scardface import (
    C_APDU,
    CardCommunicationError,
    CardRemovedError,
    Lengths,
    NoCardError,
    Protocol,
    SCardError,
    ServiceUnavailableError,
    ShareMode,
    errors,
)
from scardface._session.card_request import CardRequest
from scardface._session.session import Session
from scardface.testing import SimulatedPCSC
from tests.support.cards import BOTH, BROKEN, ECHO, LogCard

ECHOED = C_APDU(0, ECHO, 0, 0, b"ab")


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader("A")
        simulated.insert("A", LogCard(BOTH))
        yield simulated


def opened(pcsc: SimulatedPCSC, share: ShareMode = ShareMode.SHARED, protocols: Protocol = Protocol.T0 | Protocol.T1) -> Session:
    request = CardRequest.from_arguments(None, None, 1, None, False, share, protocols, Lengths.AUTO)
    return Session.open(pcsc, "A", request, lambda: None)


@pytest.fixture
def session(pcsc: SimulatedPCSC) -> Iterator[Session]:
    session = opened(pcsc)
    yield session
    session.close()


def echo(session: Session) -> bytes:
    response = session.send(session.prepare([ECHOED]))
    assert response is not None
    return response.data


@pytest.mark.parametrize("code", [errors.REMOVED_CARD, errors.READER_UNAVAILABLE, errors.UNKNOWN_READER, errors.NO_SMARTCARD])
def test_what_means_that_the_card_is_gone(session: Session, pcsc: SimulatedPCSC, code: int) -> None:
    pcsc.inject("SCardTransmit", code)
    with pytest.raises(CardRemovedError) as caught:
        echo(session)
    assert (caught.value.code, caught.value.call, caught.value.reader) == (code, "SCardTransmit", "A")


@pytest.mark.parametrize("code", [errors.NOT_TRANSACTED, errors.COMM_DATA_LOST, errors.INVALID_VALUE])
def test_what_may_mean_that_the_card_is_gone(
    session: Session, pcsc: SimulatedPCSC, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does if the reader says so within the time of a driver's poll; else it is what it is."""
    monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 30)
    pcsc.inject("SCardTransmit", code)
    with pytest.raises(SCardError) as caught:
        echo(session)
    assert not isinstance(caught.value, CardRemovedError)
    assert echo(session) == b"ab"
    monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 5000)
    pcsc.inject("SCardTransmit", code)
    pull = threading.Timer(0.1, pcsc.remove, ("A",))
    pull.start()
    with pytest.raises(CardRemovedError):
        echo(session)
    pull.join()


def test_who_else_uses_the_card_is_no_removal(session: Session, pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 200)
    pcsc.inject("SCardTransmit", errors.NOT_TRANSACTED)
    other = threading.Timer(0.05, lambda: opened(pcsc).close())
    other.start()
    with pytest.raises(CardCommunicationError):
        echo(session)
    other.join()


def test_a_reader_that_is_unplugged_under_an_open_card(session: Session, pcsc: SimulatedPCSC) -> None:
    pcsc.remove_reader("A")
    with pytest.raises(CardRemovedError):
        echo(session)


@pytest.mark.slow
def test_a_failure_that_cannot_be_looked_into(session: Session, pcsc: SimulatedPCSC) -> None:
    pcsc.inject("SCardTransmit", errors.NOT_TRANSACTED)
    pcsc.inject("SCardGetStatusChange", errors.COMM_ERROR)
    with pytest.raises(CardCommunicationError):
        echo(session)
    pcsc.inject("SCardTransmit", errors.NOT_TRANSACTED)
    pcsc.inject("SCardGetStatusChange", errors.UNKNOWN_READER)  # of a reader that is there (fact 17)
    with pytest.raises(CardCommunicationError):
        echo(session)
    assert echo(session) == b"ab"


def test_a_reader_that_goes_with_the_exchange(session: Session, pcsc: SimulatedPCSC) -> None:
    pcsc.inject("SCardTransmit", errors.NOT_TRANSACTED)
    pcsc.remove_reader("A")
    with pytest.raises(CardRemovedError) as caught:
        session.transmit(bytes([0, ECHO, 0, 0]))
    assert caught.value.code == errors.NOT_TRANSACTED


def test_an_answer_without_a_status_word(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 30)
    with pytest.raises(CardCommunicationError, match="1 byte"):
        session.send(session.prepare([C_APDU(0, BROKEN)]))
    with pytest.raises(CardCommunicationError, match="1 byte"):
        session.transmit(bytes([0, BROKEN, 0, 0]))


def test_a_reader_opened_without_a_card_has_none_to_lose(pcsc: SimulatedPCSC) -> None:
    pcsc.remove("A")
    session = opened(pcsc, ShareMode.DIRECT, Protocol.UNDEFINED)
    pcsc.inject("SCardTransmit", errors.NO_SMARTCARD)
    with pytest.raises(NoCardError):
        session.transmit(bytes(4))
    session.close()


@pytest.mark.slow
def test_a_reader_that_is_there_again_is_not_the_one_that_was_opened(session: Session, pcsc: SimulatedPCSC) -> None:
    """Same name, same counter, same ATR: the handle knows better (fact 35)."""
    pcsc.remove_reader("A")
    pcsc.add_reader("A")
    pcsc.insert("A", LogCard(BOTH))
    with pytest.raises(CardRemovedError):
        echo(session)


@pytest.mark.parametrize(
    "code", [errors.NOT_TRANSACTED, errors.PROTO_MISMATCH, errors.NOT_READY, errors.REMOVED_CARD, errors.RESET_CARD]
)
def test_a_command_to_a_reader_that_was_opened_without_a_card(code: int) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        session = opened(pcsc, ShareMode.DIRECT)
        pcsc.inject("SCardTransmit", code)
        with pytest.raises(NoCardError, match="no card in reader 'A', which was opened without one") as caught:
            echo(session)
        assert (caught.value.code, caught.value.call, caught.value.reader) == (code, "SCardTransmit", "A")
        for misleading in ("seated", "somebody", "removed", "taken out"):
            assert misleading not in str(caught.value)
        pcsc.inject("SCardBeginTransaction", errors.RESET_CARD)  # as pcsc-lite says after a reset that found no card
        with pytest.raises(NoCardError, match="opened without one"):
            session.begin_transaction("one")
        pcsc.inject("SCardTransmit", errors.READER_UNAVAILABLE)
        with pytest.raises(CardRemovedError, match="reader unplugged"):
            echo(session)
        pcsc.inject("SCardTransmit", errors.NO_SERVICE)
        with pytest.raises(ServiceUnavailableError):
            echo(session)
        pcsc.insert("A", LogCard(BOTH))
        pcsc.inject("SCardTransmit", errors.NOT_TRANSACTED)
        with pytest.raises(CardCommunicationError, match="seated"):
            echo(session)
        session.close()


@pytest.mark.parametrize("code", [31, 1117, 1167, 121, 995, 6])
def test_what_windows_says_of_a_pulled_card(code: int) -> None:
    with SimulatedPCSC("windows") as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard(BOTH))
        session = opened(pcsc)
        pcsc.inject("SCardTransmit", code)
        with pytest.raises(CardRemovedError):
            echo(session)
        pcsc.inject("SCardBeginTransaction", code)
        with pytest.raises(CardRemovedError):
            session.begin_transaction("one")
        session.close()


@pytest.mark.slow
def test_a_control_command_that_the_driver_refuses(session: Session, pcsc: SimulatedPCSC) -> None:
    pcsc.inject("SCardControl", errors.NOT_TRANSACTED)
    with pytest.raises(SCardError, match="driver refused the control command") as caught:
        session.control(0x42000001, b"")
    assert "seated" not in str(caught.value)


@pytest.mark.parametrize("code", [22, 31])
def test_a_driver_on_windows_that_fails_since_the_card_is_gone(code: int) -> None:
    with SimulatedPCSC("windows") as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard(BOTH))
        session = opened(pcsc)
        pcsc.inject("SCardControl", code)
        pcsc.remove("A")
        with pytest.raises(CardRemovedError):
            session.control(0x310004, b"")
        session.close()
