"""scardface.testing._simulated_slot: the thread of a card, and what it does to the rest."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from scardface.errors import NO_SMARTCARD, NOT_TRANSACTED
from scardface.testing import SimulatedPCSC, VirtualCard
from scardface.testing import _simulated_slot as slot_module
from tests.support.conformance import PATIENCE, SELECT, Call, Card, SlowCard, code_of, share


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        yield pcsc


class Threads(Card):
    """Notes the threads that its code runs in."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[threading.Thread] = set()

    def _tell(self, word: str) -> None:
        self.threads.add(threading.current_thread())
        super()._tell(word)

    def process(self, command: bytes) -> bytes:
        self._tell("process")
        return b"\x90\x00"


def test_all_of_a_card_runs_in_one_thread_which_ends_with_it(pcsc: SimulatedPCSC) -> None:
    card = Threads()
    pcsc.insert("A", card)
    for _ in range(2):
        context = pcsc.establish()
        handle = share(context, "A")
        assert Call(handle.transmit, SELECT).result() == b"\x90\x00"
        handle.begin_transaction()
        context.release()
    pcsc.remove("A")
    assert card.log == ["on", "process", "reset", "process", "reset", "off"]
    (thread,) = card.threads
    assert thread.daemon
    assert "Threads" in thread.name
    assert not thread.is_alive()


def test_a_card_whose_code_hangs_is_out_all_the_same(
    pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(slot_module, "_JOIN_TIMEOUT", 0.01)
    card = SlowCard()
    pcsc.insert("A", card)
    exchange = Call(share(pcsc.establish(), "A").transmit, SELECT)
    assert card.asked.wait(PATIENCE)
    with caplog.at_level(logging.WARNING):
        pcsc.remove("A")
    assert "SlowCard: taken out while its code runs" in caplog.text
    assert exchange.result() == b""
    pcsc.insert("A", Card())
    assert share(pcsc.establish(), "A").transmit(SELECT) == b"\x90\x00"
    card.go.set()
    card.wait_for_log("on", "off")


def test_a_call_that_waits_for_the_card_ends_with_the_removal(pcsc: SimulatedPCSC) -> None:
    card = SlowCard()
    pcsc.insert("A", card)
    first, second = share(pcsc.establish(), "A"), share(pcsc.establish(), "A")
    one = Call(first.transmit, SELECT)
    assert card.asked.wait(PATIENCE)
    two, third = Call(second.transmit, SELECT), Call(share, pcsc.establish(), "A")
    assert not two.ended()
    assert not third.ended()
    removal = Call(pcsc.remove, "A")
    assert one.result() == b""
    assert two.code() == NOT_TRANSACTED
    assert third.code() == NO_SMARTCARD
    card.go.set()
    removal.result()


class TakesItselfOut(Card):
    """As a card that is swallowed by its reader."""

    def __init__(self, pcsc: SimulatedPCSC, then: VirtualCard) -> None:
        super().__init__()
        self._pcsc = pcsc
        self._then = then

    def process(self, command: bytes) -> bytes:
        self._pcsc.remove("A")
        self._pcsc.insert("A", self._then)
        return b"\x90\x00"


def test_a_card_may_move_itself(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", TakesItselfOut(pcsc, Card()))
    handle = share(pcsc.establish(), "A")
    assert handle.transmit(SELECT) == b""
    assert code_of(handle.transmit, SELECT)
    assert share(pcsc.establish(), "A").transmit(SELECT) == b"\x90\x00"


class Failing(Card):
    """Has a mistake in it."""

    def process(self, command: bytes) -> bytes:
        raise ZeroDivisionError(f"at {command.hex()}")


def test_a_mistake_in_a_card_is_raised_to_who_takes_it_out(pcsc: SimulatedPCSC) -> None:
    card = Failing()
    pcsc.insert("A", card)
    handle = share(pcsc.establish(), "A")
    assert handle.transmit(SELECT) == handle.transmit(b"\x01\x02") == b"\x6f\x00"
    with pytest.raises(ZeroDivisionError, match="00a40000"):
        pcsc.remove("A")
    pcsc.insert("A", card)
    assert pcsc.remove("A") is card


@pytest.mark.parametrize("how", ["close", "remove_reader"])
def test_or_to_who_ends_its_world(how: str) -> None:
    pcsc = SimulatedPCSC()
    pcsc.add_reader("A")
    pcsc.insert("A", Failing())
    share(pcsc.establish(), "A").transmit(SELECT)
    with pytest.raises(ZeroDivisionError):
        pcsc.close() if how == "close" else pcsc.remove_reader("A")
    pcsc.close()
