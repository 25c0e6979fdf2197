"""scardface.testing._simulated_context: handles of a reader that goes. What pcscd can show: test_conformance*.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from scardface._enums import Disposition, ShareMode
from scardface._pcsc.backend import ATTR_ATR_STRING
from scardface.errors import INVALID_HANDLE, INVALID_VALUE, NOT_TRANSACTED, READER_UNAVAILABLE, SHARING_VIOLATION, UNRESPONSIVE_CARD
from scardface.testing import SimulatedPCSC
from tests.support.conformance import ANY, SELECT, Call, Card, SlowCard, code_of, share

UNSUPPORTED_FEATURE = 0x8010001F
LEAVE, RESET, UNPOWER = Disposition.LEAVE, Disposition.RESET, Disposition.UNPOWER


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", Card())
        yield pcsc


def test_the_reader_is_gone(pcsc: SimulatedPCSC) -> None:
    """Fact 35."""
    handle = share(pcsc.establish(), "A")
    pcsc.remove_reader("A")
    assert code_of(handle.status) == READER_UNAVAILABLE
    assert code_of(handle.transmit, SELECT) == INVALID_VALUE
    assert code_of(handle.begin_transaction) == INVALID_VALUE
    assert code_of(handle.reconnect, ShareMode.SHARED, ANY, LEAVE) == INVALID_VALUE
    assert code_of(handle.get_attribute, ATTR_ATR_STRING) == INVALID_VALUE
    assert code_of(handle.disconnect, RESET) == 0
    assert code_of(handle.disconnect, RESET) == INVALID_HANDLE


def test_a_reader_of_the_same_name_is_another_one(pcsc: SimulatedPCSC) -> None:
    handle = share(pcsc.establish(), "A")
    pcsc.remove_reader("A")
    pcsc.add_reader("A")
    pcsc.insert("A", Card())
    assert code_of(handle.status) == READER_UNAVAILABLE
    handle.disconnect(LEAVE)
    assert pcsc.establish().connect("A", ShareMode.EXCLUSIVE, ANY).transmit(SELECT) == b"\x90\x00"


@pytest.mark.parametrize(("call", "code"), [("status", READER_UNAVAILABLE), ("begin_transaction", INVALID_VALUE)])
def test_the_reader_goes_while_a_call_waits_for_a_transaction(pcsc: SimulatedPCSC, call: str, code: int) -> None:
    owner, contender = share(pcsc.establish(), "A"), share(pcsc.establish(), "A")
    owner.begin_transaction()
    waiting = Call(getattr(contender, call))
    assert not waiting.ended()
    pcsc.remove_reader("A")
    assert waiting.code() == code


def test_the_reader_goes_while_a_disconnect_waits_for_a_transaction(pcsc: SimulatedPCSC) -> None:
    owner, contender = share(pcsc.establish(), "A"), share(pcsc.establish(), "A")
    owner.begin_transaction()
    waiting = Call(contender.disconnect, RESET)
    assert not waiting.ended()
    pcsc.remove_reader("A")
    assert waiting.code() == 0


def test_the_reader_goes_during_an_exchange(pcsc: SimulatedPCSC) -> None:
    card = SlowCard()
    pcsc.add_reader("B")
    pcsc.insert("B", card)
    exchange = Call(share(pcsc.establish(), "B").transmit, SELECT)
    assert card.asked.wait(10)
    removal = Call(pcsc.remove_reader, "B")
    assert exchange.code() == NOT_TRANSACTED
    card.go.set()
    removal.result()


@pytest.mark.parametrize("command", [b"", b"\x00", bytes(65_536)], ids=len)
def test_what_no_driver_can_send(pcsc: SimulatedPCSC, command: bytes) -> None:
    assert code_of(share(pcsc.establish(), "A").transmit, command) == NOT_TRANSACTED


@pytest.mark.parametrize("how", [RESET, UNPOWER])
def test_a_card_that_falls_silent_when_it_is_reset(pcsc: SimulatedPCSC, how: Disposition) -> None:
    card = pcsc.cards["A"]
    handle = share(pcsc.establish(), "A")
    card.atr = b""
    assert code_of(handle.reconnect, ShareMode.SHARED, ANY, how) == UNRESPONSIVE_CARD


class Kicked(Card):
    """Is taken out, or loses its service, in the middle of its reset."""

    def __init__(self, kick: str, pcsc: SimulatedPCSC) -> None:
        super().__init__()
        self._kick = kick
        self._pcsc = pcsc

    def reset(self) -> None:
        if self._kick == "stop":
            self._pcsc.stop_service()
        elif self._kick == "unplug":
            self._pcsc.remove_reader("B")
        else:
            self._pcsc.remove("B")


@pytest.mark.parametrize("kick", ["remove", "unplug", "stop"])
@pytest.mark.parametrize("call", ["disconnect", "end", "reconnect"])
def test_a_reset_is_cut_short(pcsc: SimulatedPCSC, kick: str, call: str) -> None:
    pcsc.add_reader("B")
    pcsc.insert("B", Kicked(kick, pcsc))
    context = pcsc.establish()
    handle = share(context, "B")
    handle.begin_transaction()
    if call == "disconnect":
        code = code_of(handle.disconnect, RESET)
    elif call == "end":
        code = code_of(handle.end_transaction, RESET)
    else:
        code = code_of(handle.reconnect, ShareMode.SHARED, ANY, RESET)
    assert bool(code) == (call != "disconnect" or kick == "stop")
    if kick == "stop":
        pcsc.start_service()
    elif kick == "unplug":
        pcsc.add_reader("B")
    if "B" not in pcsc.cards:
        pcsc.insert("B", Card())
    assert share(pcsc.establish(), "B").transmit(SELECT) == b"\x90\x00"


class TestAttributes:
    def test_are_those_that_the_reader_was_made_with(self, pcsc: SimulatedPCSC) -> None:
        given = {0x00010100: b"Nobody\0"}
        pcsc.add_reader("B", attributes=given)
        pcsc.insert("B", Card())
        context = pcsc.establish()
        handle, plain = share(context, "B"), share(context, "A")
        assert handle.get_attribute(0x00010100) == b"Nobody\0"
        assert code_of(handle.get_attribute, ATTR_ATR_STRING) == UNSUPPORTED_FEATURE
        assert code_of(plain.get_attribute, 0x00010100) == UNSUPPORTED_FEATURE
        handle.set_attribute(0x00010100, b"Somebody\0")
        assert share(context, "B").get_attribute(0x00010100) == b"Somebody\0"
        assert code_of(handle.set_attribute, 0x00010101, b"x") == NOT_TRANSACTED
        assert given == {0x00010100: b"Nobody\0"}

    def test_without_a_card(self, pcsc: SimulatedPCSC) -> None:
        pcsc.add_reader("B", attributes={1: b"1"})
        assert pcsc.establish().connect("B", ShareMode.DIRECT, ANY).get_attribute(1) == b"1"

    def test_of_a_reader_that_another_program_has_locked(self, pcsc: SimulatedPCSC) -> None:
        pcsc.add_reader("B", attributes={1: b"1"})
        pcsc.insert("B", Card())
        owner, other = share(pcsc.establish(), "B"), share(pcsc.establish(), "B")
        owner.begin_transaction()
        assert code_of(other.get_attribute, 1) == code_of(other.set_attribute, 1, b"2") == SHARING_VIOLATION
        assert owner.get_attribute(1) == b"1"


class TestControls:
    def test_answer(self, pcsc: SimulatedPCSC) -> None:
        asked = []

        def controls(code: int, data: bytes, transmit: Callable[[bytes], bytes]) -> bytes | None:
            asked.append((code, data))
            return transmit(data) if code == 1 else None

        pcsc.add_reader("B", controls=controls)
        pcsc.insert("B", Card())
        handle = share(pcsc.establish(), "B")
        assert handle.control(1, SELECT) == SELECT[4:] + b"\x90\x00"
        assert code_of(handle.control, 2, b"x") == UNSUPPORTED_FEATURE
        assert asked == [(1, SELECT), (2, b"x")]

    def test_have_no_card_to_reach(self, pcsc: SimulatedPCSC) -> None:
        pcsc.add_reader("B", controls=lambda code, data, transmit: transmit(data))
        handle = pcsc.establish().connect("B", ShareMode.DIRECT, ANY)
        assert code_of(handle.control, 1, SELECT) == NOT_TRANSACTED

    def test_mistakes_come_out_where_they_were_asked_for(self, pcsc: SimulatedPCSC) -> None:
        def broken(code: int, data: bytes, transmit: Callable[[bytes], bytes]) -> bytes:
            raise ZeroDivisionError

        pcsc.add_reader("B", controls=broken)
        context = pcsc.establish()
        with pytest.raises(ZeroDivisionError):
            context.connect("B", ShareMode.DIRECT, ANY).control(1, b"")
        assert context.list_readers() == ("A", "B"), "the lock is free again"

    def test_of_a_reader_that_another_program_has_locked(self, pcsc: SimulatedPCSC) -> None:
        pcsc.add_reader("B", controls=lambda code, data, transmit: b"ok")
        pcsc.insert("B", Card())
        owner, other = share(pcsc.establish(), "B"), share(pcsc.establish(), "B")
        owner.begin_transaction()
        assert code_of(other.control, 1, b"") == SHARING_VIOLATION
        assert owner.control(1, b"") == b"ok"

    def test_the_reader_goes_meanwhile(self, pcsc: SimulatedPCSC) -> None:
        pcsc.add_reader("B", controls=lambda code, data, transmit: pcsc.remove_reader("B"))
        handle = pcsc.establish().connect("B", ShareMode.DIRECT, ANY)
        assert code_of(handle.control, 1, b"") == INVALID_VALUE

    def test_the_card_is_taken_out_during_an_exchange(self, pcsc: SimulatedPCSC) -> None:
        card = SlowCard()
        pcsc.add_reader("B", controls=lambda code, data, transmit: transmit(data))
        pcsc.insert("B", card)
        exchange = Call(share(pcsc.establish(), "B").control, 1, SELECT)
        assert card.asked.wait(10)
        removal = Call(pcsc.remove, "B")
        assert exchange.code() == NOT_TRANSACTED
        card.go.set()
        removal.result()
