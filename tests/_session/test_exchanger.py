"""Commands to one card: what spans them. The session's lock is in test_session.py, steps of one command in test_exchange.py."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from scardface import C_APDU, R_APDU, CardCommunicationError, CardRemovedError, CardResetError, Lengths, Protocol, ShareMode, sync
from scardface._session import exchanger
from scardface._session.card_request import CardRequest
from scardface._session.exchanger import Exchanger
from scardface.errors import NOT_TRANSACTED, REMOVED_CARD, RESET_CARD, SCardError, error_for
from scardface.iso7816._exchange import exchange
from scardface.testing import SimulatedPCSC, VirtualCard
from tests.support.cards import T1

READ = C_APDU(0x00, 0xB0, 0x00, 0x00, b"", 4)
LONG = C_APDU(0x00, 0xD6, 0x00, 0x00, bytes(300))


class Card:
    """Answers in order: bytes, or an error to raise."""

    def __init__(self, *answers: bytes | SCardError, on_reset: Any = "raise") -> None:
        self.answers: Iterator[bytes | SCardError] = iter(answers)
        self.commands: list[bytes] = []
        self.came_back = 0
        self.failures: list[SCardError] = []
        request = CardRequest.from_arguments(
            *(None, None, 1, None, False, ShareMode.SHARED, Protocol.T0 | Protocol.T1, Lengths.CHAINING), on_reset=on_reset
        )
        self.exchanger = Exchanger("A", request, self.transmit, self.come_back, self.failures.append)
        self.exchanger.configure(Protocol.T1, Lengths.CHAINING)

    def transmit(self, data: bytes) -> bytes:
        self.commands.append(data)
        answer = next(self.answers)
        if isinstance(answer, bytes):
            return answer
        raise answer

    def come_back(self) -> None:
        self.came_back += 1
        self.exchanger.configure(Protocol.T0, Lengths.CHAINING)

    def run(self, *commands: C_APDU, **kwargs: Any) -> Any:
        return self.exchanger.run(self.exchanger.prepare(commands), **kwargs)


def hex_of(sent: list[bytes]) -> list[str]:
    return [data.hex() for data in sent]


def test_a_batch_goes_in_order_and_stops_at_the_first_that_is_not_9000() -> None:
    card = Card(b"\1\x90\0", b"\2\x90\0", b"\x6a\x82", b"never")
    response = card.run(*[READ] * 5)
    assert (response.sw, len(card.commands)) == (0x6A82, 3)


def test_in_a_batch_no_step_is_sent_twice() -> None:
    """Where the shortcut's answer is not complete, the generator goes on from there: 61xx, 6Cxx, long data."""
    ok = b"\x90\0"
    card = Card(ok, b"\x6c\x02", b"ab" + ok, b"c\x61\x01", b"d" + ok, ok, ok, ok, b"e" + ok)
    assert card.run(READ, READ, READ, LONG, READ, READ).data == b"e"
    assert [data[:2].hex() for data in card.commands] == ["00b0", "00b0", "00b0", "00b0", "00c0", "10d6", "00d6", "00b0", "00b0"]
    assert next(card.answers, None) is None


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_card_that_is_pulled_says_how_many_were_answered(position: int) -> None:
    card = Card(*[b"\x90\0"] * position, error_for(REMOVED_CARD, "SCardTransmit", "A"))
    with pytest.raises(CardRemovedError) as caught:
        card.run(READ, READ, READ)
    assert caught.value.answered == position
    assert len(card.commands) == position + 1
    assert ("sent together" in str(caught.value)) == bool(position)


def test_a_failure_in_a_batch_is_told_as_alone() -> None:
    texts = set()
    for commands in ([READ], [READ, READ]):
        card = Card(error_for(NOT_TRANSACTED, "SCardTransmit", "A"))
        with pytest.raises(CardCommunicationError) as caught:
            card.run(*commands)
        texts.add(str(caught.value))
        assert card.failures == [caught.value]
    assert len(texts) == 1


def test_what_an_exchange_finds_wrong_names_the_reader() -> None:
    card = Card(b"\x6c\x04", b"\x6c\x04")
    with pytest.raises(CardCommunicationError, match="reader 'A'") as caught:
        card.run(READ)
    assert caught.value.reader == "A"


def test_after_a_reset_a_command_begins_anew_as_the_card_is_then() -> None:
    """Also if it had come half way; T=0 says Lc or Le, not both."""
    reset = error_for(RESET_CARD, "SCardTransmit", "A")
    card = Card(b"\x90\0", b"\x61\x01", reset, b"\x90\0", b"\x90\0", on_reset="reconnect")
    both = C_APDU(0, 0xA4, 0, 0, b"\x3f\0", 256)
    assert card.run(READ, both, READ).sw == 0x9000
    assert card.came_back == 1
    assert hex_of(card.commands) == ["00b0000004", "00a40000023f0000", "00c0000001", "00a40000023f00", "00b0000004"]


def test_resets_do_not_go_on_for_ever() -> None:
    card = Card(*[error_for(RESET_CARD, "SCardTransmit", "A")] * 9, on_reset="reconnect")
    with pytest.raises(CardResetError):
        card.run(READ)
    assert card.came_back == 3


def test_without_leave_nothing_begins_anew() -> None:
    card = Card(error_for(RESET_CARD, "SCardTransmit", "A"))
    with pytest.raises(CardResetError):
        card.run(READ, READ)
    assert (card.came_back, len(card.commands)) == (0, 1)


@pytest.mark.parametrize("count", [1, 3])
def test_a_trace_sees_every_exchange_and_no_secret(caplog: pytest.LogCaptureFixture, count: int) -> None:
    verify = C_APDU(0, 0x20, 0, 1, b"1234")
    with caplog.at_level(logging.DEBUG, "scardface.apdu"):
        Card(*[b"\x90\0"] * count).run(*[verify] * count)
    assert [record.message for record in caplog.records] == ["A: 00200001 <4 bytes> -> 9000"] * count


@pytest.mark.parametrize("how", ["send", "transmit"])
def test_what_was_selected_before_a_trace_decides_what_it_shows(caplog: pytest.LogCaptureFixture, how: str) -> None:
    """READ BINARY of a SIM's EF.Kc: that it is the selected file was said while nobody traced, or in bytes of the caller's own."""
    kc = bytes.fromhex("0011223344556677")
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", Sim(kc))
        with sync.SCard(timeout=30) as card:
            for file in (b"\x7f\x20", b"\x6f\x20"):
                select = C_APDU(0xA0, 0xA4, 0, 0, file)
                assert card.send(select).sw == 0x9000 if how == "send" else card.transmit(bytes(select)) == b"\x90\x00"
            with caplog.at_level(logging.DEBUG, "scardface.apdu"):
                assert card.send(C_APDU(0xA0, 0xB0, 0, 0, b"", 8)).data == kc
    assert "<8 bytes>" in caplog.text
    assert kc.hex() not in caplog.text.lower()


class Sim(VirtualCard):
    """Takes every SELECT, and reads the same from every file."""

    atr = T1

    def __init__(self, content: bytes) -> None:
        self._content = content

    def process(self, command: bytes) -> bytes:
        return (self._content if command[1] == 0xB0 else b"") + b"\x90\x00"


def test_the_generator_is_started_only_where_one_step_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[C_APDU] = []

    def counted(command: C_APDU, *args: Any) -> Any:
        started.append(command)
        return exchange(command, *args)

    monkeypatch.setattr(exchanger, "exchange", counted)
    for on_reset in ("raise", "reconnect"):
        assert Card(*[b"\x90\0"] * 2, on_reset=on_reset).run(READ, READ).is_successful()
    assert started == []
    assert Card(b"\x90\0", b"\x6c\2", b"ab\x90\0").run(READ, READ).data == b"ab"
    assert started == [READ]
    assert Card(b"\x90\0", b"\x90\0").run(LONG).is_successful()
    assert started == [READ, LONG]


@pytest.mark.parametrize("layered", [False, True])
def test_that_a_card_takes_extended_length_is_known_from_one_command_to_the_next(layered: bool) -> None:
    """In one batch, whose exchanges were made before any of them began, and after a reset; through a layer, too."""

    class Plain:
        def wrap(self, command: C_APDU) -> C_APDU:
            return command

        def unwrap(self, response: R_APDU) -> R_APDU:
            return response

    card = Card(b"\x90\0", b"\x67\0", b"\x67\0")
    card.exchanger.configure(Protocol.T1, Lengths.AUTO)
    layer = Plain() if layered else None
    response = card.exchanger.run(card.exchanger.prepare([LONG, LONG], layer))
    assert response is not None
    assert response.sw == 0x6700
    card.exchanger.configure(Protocol.T1, Lengths.AUTO)
    response = card.exchanger.run(card.exchanger.prepare([LONG], layer))
    assert response is not None
    assert response.sw == 0x6700
    stranger = Card(b"\x67\0")
    stranger.exchanger.configure(Protocol.T1, Lengths.AUTO)
    with pytest.raises(CardCommunicationError, match="extended length"):
        stranger.exchanger.run(stranger.exchanger.prepare([LONG], layer))
