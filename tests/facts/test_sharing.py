"""Facts about connections, transactions, resets and removals; the numbers are those of docs/pcsc-facts.md."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from smartcard import scard

from scardface.errors import (
    NO_SMARTCARD,
    NOT_TRANSACTED,
    PROTO_MISMATCH,
    REMOVED_CARD,
    RESET_CARD,
    SHARING_VIOLATION,
    SUCCESS,
    UNKNOWN_READER,
    UNPOWERED_CARD,
)
from scardface.testing import PrivatePcscd
from tests.support.bare import (
    ANY,
    ATR_STRING,
    DIRECT,
    EXCLUSIVE,
    GET_FEATURE_REQUEST,
    IN_EXCLUSIVE_USE,
    LEAVE,
    PRESENT,
    RAW,
    RESET,
    SHARED,
    T0,
    T1,
    UNPOWER,
    Establish,
    coded,
    connect,
    counter,
    opened,
    put_in,
    reconnect,
    state_of,
    status,
    take_out,
    transmit,
    unsigned,
)
from tests.support.cards import BOTH
from tests.support.conformance import PATIENCE, Call, Card, rounds
from tests.support.foreign import Foreign

SELECT = bytes.fromhex("00a40000")
T1_ONLY = bytes.fromhex("3b800181")


def begin(handle: int) -> int:
    return coded(scard.SCardBeginTransaction, handle)


def end(handle: int, disposition: int = LEAVE) -> int:
    return coded(scard.SCardEndTransaction, handle, disposition)


WAITING: dict[str, Callable[[int, int, str], int]] = {
    "SCardConnect": lambda context, handle, reader: connect(context, reader)[0],
    "SCardTransmit": lambda context, handle, reader: transmit(handle, SELECT)[0],
    "SCardStatus": lambda context, handle, reader: status(handle)[0],
    "SCardBeginTransaction": lambda context, handle, reader: begin(handle),
    "SCardReconnect": lambda context, handle, reader: reconnect(handle),
    "SCardDisconnect": lambda context, handle, reader: coded(scard.SCardDisconnect, handle, RESET),
}
"""The calls that wait for the end of another's transaction."""


def test_what_waits_for_another_program_and_what_does_not(
    card: Card, establish: Establish, context: int, reader: str, foreign: Foreign
) -> None:
    """Fact 4: and SCardCancel ends none of those that wait."""
    foreign.connect(reader, SHARED)
    handle = opened(context, reader)
    contexts = {name: establish() for name in WAITING}
    handles = {name: opened(own, reader) for name, own in contexts.items()}
    foreign.begin()
    assert unsigned(scard.SCardGetAttrib(handle, ATR_STRING)[0]) == SHARING_VIOLATION
    assert unsigned(scard.SCardControl(handle, GET_FEATURE_REQUEST, [])[0]) == SHARING_VIOLATION
    assert end(handle) == SHARING_VIOLATION
    calls = {name: Call(call, contexts[name], handles[name], reader) for name, call in WAITING.items()}
    assert not [name for name, call in calls.items() if call.ended()]
    for own in contexts.values():
        scard.SCardCancel(own)
    assert not [name for name, call in calls.items() if call.ended()]
    foreign.end()
    if calls["SCardBeginTransaction"].result() == SUCCESS:
        end(handles["SCardBeginTransaction"])
    for call in calls.values():
        call.result()  # of whatever code: one of them resets the card


def test_who_shares_with_whom(card: Card, context: int, other: int, reader: str) -> None:
    """Fact 26."""
    for first in (EXCLUSIVE, SHARED, DIRECT):
        handle = opened(context, reader, first)
        for second in (EXCLUSIVE, SHARED, DIRECT):
            code, own, _ = connect(other, reader, second)
            assert code == (SHARING_VIOLATION if EXCLUSIVE in (first, second) else SUCCESS), (first, second)
            if not code:
                scard.SCardDisconnect(own, LEAVE)
        scard.SCardDisconnect(handle, LEAVE)


def test_direct_needs_no_card(context: int, reader: str) -> None:
    """Fact 26."""
    code, _, protocol = connect(context, reader, DIRECT, 0)
    assert (code, protocol) == (SUCCESS, 0)


def test_how_a_connect_fails(pcscd: PrivatePcscd, context: int, reader: str) -> None:
    """Fact 27."""
    assert connect(context, reader)[0] == NO_SMARTCARD
    assert connect(context, "no such reader")[0] == UNKNOWN_READER
    put_in(pcscd, reader, Card(b""))
    put_in(pcscd, pcscd.readers[2], Card(T1_ONLY))
    assert connect(context, reader)[0] == UNPOWERED_CARD
    assert connect(context, pcscd.readers[2], SHARED, T0)[0] == PROTO_MISMATCH


def test_the_first_settles_the_protocol(card: Card, context: int, other: int, reader: str) -> None:
    """Fact 27: of T=0 and T=1 it is the one that the ATR's bytes name, unless others have settled on one."""
    code, handle, protocol = connect(context, reader)
    assert (code, protocol) == (SUCCESS, T1)
    assert connect(other, reader, SHARED, T0)[0] == PROTO_MISMATCH
    scard.SCardDisconnect(handle, RESET)
    assert connect(context, reader, SHARED, T0)[2] == T0


def test_a_connect_after_an_unseen_removal_succeeds(pcscd: PrivatePcscd, context: int, other: int, reader: str) -> None:
    """Fact 28: where the card has power; until the driver looks, which the reader's state tells."""
    for _ in rounds():
        card = Card()
        put_in(pcscd, reader, card)
        handle = opened(context, reader)
        card.wait_for_polls(1)
        assert transmit(handle, SELECT)[0] == SUCCESS  # one call of the driver at a time: the look has ended
        state = state_of(context, reader)
        pcscd.remove(reader)
        code, late, protocol = connect(other, reader)
        told = (code, b"") if code else transmit(late, SELECT, protocol)
        unseen = state_of(context, reader) == state
        pcscd.wait_for_removal(reader, PATIENCE)
        assert connect(other, reader)[0] == NO_SMARTCARD
        if unseen and told != (SUCCESS, b""):  # it was pulled meanwhile, for the driver (fact 38)
            break
        scard.SCardDisconnect(handle, LEAVE)
    assert (code, told) == (SUCCESS, (NOT_TRANSACTED, b""))
    assert transmit(late, SELECT, protocol)[0] == REMOVED_CARD


def test_a_card_left_without_power(card: Card, context: int, other: int, reader: str) -> None:
    """Fact 29: a newcomer switches it on, but not once an old handle has reconnected; its reset mends that."""
    stays = opened(context, reader)
    scard.SCardDisconnect(opened(other, reader), UNPOWER)
    newcomer = opened(other, reader)
    assert reconnect(stays) == SUCCESS
    scard.SCardDisconnect(newcomer, UNPOWER)
    assert reconnect(stays) == SUCCESS
    assert connect(other, reader)[0] == UNPOWERED_CARD
    assert reconnect(stays, RESET) == SUCCESS
    assert connect(other, reader)[0] == SUCCESS


def test_transactions_are_counted(card: Card, context: int, other: int, reader: str) -> None:
    """Fact 30."""
    handle, waits = opened(context, reader), opened(other, reader)
    assert [begin(handle), begin(handle), end(handle)] == [SUCCESS] * 3
    exchange = Call(transmit, waits, SELECT)
    assert not exchange.ended()
    assert end(handle) == SUCCESS
    assert exchange.result()[0] == SUCCESS
    assert end(handle) == NOT_TRANSACTED


def test_the_death_of_an_owner_resets_the_card(card: Card, context: int, reader: str, foreign: Foreign) -> None:
    """Fact 31."""
    foreign.connect(reader, SHARED)
    handle = opened(context, reader)
    foreign.begin()
    exchange = Call(transmit, handle, SELECT)
    assert not exchange.ended()
    card.log.clear()
    foreign.kill()
    exchange.result()
    card.wait_for_log("reset")
    assert transmit(handle, SELECT)[0] == RESET_CARD


def test_a_release_inside_a_transaction_resets_the_card(card: Card, context: int, other: int, reader: str) -> None:
    """Fact 31: a disconnect does not."""
    handle, leaves = opened(context, reader), opened(other, reader)
    assert begin(leaves) == SUCCESS
    assert coded(scard.SCardDisconnect, leaves, LEAVE) == SUCCESS
    assert transmit(handle, SELECT)[0] == SUCCESS
    assert begin(opened(other, reader)) == SUCCESS
    assert coded(scard.SCardReleaseContext, other) == SUCCESS
    assert transmit(handle, SELECT)[0] == RESET_CARD


def test_a_reset_stays_with_the_handles_of_others(card: Card, context: int, other: int, reader: str) -> None:
    """Fact 33: until they reconnect, and a status call shows nothing of it."""
    mine, theirs = opened(context, reader), opened(other, reader)
    before = state_of(context, reader)
    assert reconnect(theirs, RESET) == SUCCESS
    assert transmit(theirs, SELECT)[0] == SUCCESS
    for _ in range(2):
        assert status(mine)[0] == transmit(mine, SELECT)[0] == begin(mine) == end(mine) == RESET_CARD
        assert unsigned(scard.SCardGetAttrib(mine, ATR_STRING)[0]) == RESET_CARD
    assert state_of(context, reader) == before
    assert reconnect(mine) == SUCCESS
    assert transmit(mine, SELECT)[0] == SUCCESS


def test_the_reset_that_ends_a_transaction_hits_its_owner(card: Card, context: int, reader: str) -> None:
    """Fact 33."""
    handle = opened(context, reader)
    assert begin(handle) == end(handle, RESET) == SUCCESS
    assert transmit(handle, SELECT)[0] == RESET_CARD


def test_a_removal_stays_until_a_reconnect_takes_another_card(pcscd: PrivatePcscd, card: Card, context: int, reader: str) -> None:
    """Fact 34: the counter in SCardStatus's state tells that it is another one."""
    handle = opened(context, reader)
    before = status(handle)
    assert (counter(before[1]), before[2]) == (counter(state_of(context, reader)), BOTH)
    take_out(pcscd, reader)
    assert transmit(handle, SELECT)[0] == status(handle)[0] == REMOVED_CARD
    another = Card(T1_ONLY)
    put_in(pcscd, reader, another)
    assert transmit(handle, SELECT)[0] == REMOVED_CARD
    assert reconnect(handle) == SUCCESS
    assert transmit(handle, SELECT)[0] == SUCCESS
    after = status(handle)
    assert (counter(after[1]), after[2]) == (counter(before[1]) + 2, T1_ONLY)


def test_a_reconnect_to_be_alone_waits(card: Card, context: int, other: int, reader: str) -> None:
    """Fact 58: until others have left; back in SHARED, the lock is kept until a transaction ends that nobody began."""
    mine, theirs = opened(context, reader), opened(other, reader)
    alone = Call(reconnect, mine, LEAVE, EXCLUSIVE)
    assert not alone.ended()
    scard.SCardDisconnect(theirs, LEAVE)
    assert alone.result() == SUCCESS
    assert reconnect(mine, LEAVE, SHARED) == SUCCESS
    newcomer = Call(connect, other, reader)
    assert not newcomer.ended()
    assert end(mine) == SUCCESS
    assert newcomer.result()[0] == SUCCESS


def test_an_exclusive_card_does_not_show_as_in_use(card: Card, context: int, other: int, reader: str) -> None:
    """Fact 60."""
    opened(context, reader, EXCLUSIVE)
    assert state_of(other, reader) & 0xFFFF == PRESENT | IN_EXCLUSIVE_USE


def test_raw_stays_behind(card: Card, context: int, other: int, reader: str) -> None:
    """Fact 63: DIRECT and a reset mend it."""
    code, handle, protocol = connect(context, reader, SHARED, RAW)
    assert (code, protocol) == (SUCCESS, RAW)
    scard.SCardDisconnect(handle, LEAVE)
    assert connect(other, reader, SHARED, ANY)[0] == PROTO_MISMATCH
    scard.SCardDisconnect(opened(context, reader, DIRECT, 0), RESET)
    assert connect(other, reader, SHARED, ANY)[0] == SUCCESS


class Counting(Card):
    """Answers GET RESPONSE with what the last other command left to be fetched: its P1."""

    def __init__(self) -> None:
        super().__init__(T1_ONLY)
        self._left = b""

    def process(self, command: bytes) -> bytes:
        if command[1] == 0xC0:
            left, self._left = self._left, b""
            return left + (b"\x90\x00" if left else b"\x69\x85")
        self._left = command[2:3]
        return b"\x61\x01"


def test_other_programs_come_between_the_steps(pcscd: PrivatePcscd, context: int, other: int, reader: str) -> None:
    """Fact 64: one gets what belongs to the other, with 9000, and the other nothing; a transaction keeps them apart."""
    put_in(pcscd, reader, Counting())
    mine, theirs = opened(context, reader), opened(other, reader)
    fetch = bytes.fromhex("00c0000001")
    assert transmit(mine, bytes.fromhex("00ca0100")) == transmit(theirs, bytes.fromhex("00ca0200")) == (SUCCESS, b"\x61\x01")
    assert transmit(mine, fetch) == (SUCCESS, b"\x02\x90\x00")
    assert transmit(theirs, fetch) == (SUCCESS, b"\x69\x85")
    begin(mine)
    transmit(mine, bytes.fromhex("00ca0100"))
    between = Call(transmit, theirs, bytes.fromhex("00ca0200"))
    assert not between.ended()
    assert transmit(mine, fetch) == (SUCCESS, b"\x01\x90\x00")
    end(mine)
    assert between.result()[0] == SUCCESS


@pytest.mark.parametrize("length", [5, 260, 65_535])
def test_commands_and_answers_pass_as_they_are(pcscd: PrivatePcscd, context: int, reader: str, length: int) -> None:
    """Facts 36 and 37: up to 65,535 bytes in each direction, and Le stays on."""
    heard: list[bytes] = []

    class Hears(Card):
        def process(self, command: bytes) -> bytes:
            heard.append(command)
            return bytes(length - 2) + b"\x90\x00"

    put_in(pcscd, reader, Hears(bytes.fromhex("3b02a1b2")))
    _, handle, protocol = connect(context, reader)
    assert protocol == T0
    command = bytes.fromhex("00b00000") + bytes(length - 4)
    assert transmit(handle, command, T0) == (SUCCESS, bytes(length - 2) + b"\x90\x00")
    assert heard == [command]


@pytest.mark.parametrize("answer", ["6110", "6c05", "90"])
def test_an_answer_is_not_looked_into(pcscd: PrivatePcscd, context: int, reader: str, answer: str) -> None:
    """Facts 37 and 38: 61xx and 6Cxx come back, and so does what is no answer at all."""

    class Answers(Card):
        def process(self, command: bytes) -> bytes:
            return bytes.fromhex(answer)

    put_in(pcscd, reader, Answers(T1_ONLY))
    assert transmit(opened(context, reader), SELECT) == (SUCCESS, bytes.fromhex(answer))


def test_a_card_that_is_pulled_may_have_answered_nothing(pcscd: PrivatePcscd, context: int, reader: str) -> None:
    """Fact 38: with SUCCESS. vpcd waits for more than an answer without a byte."""
    asked = threading.Event()

    class AnswersNothing(Card):
        def process(self, command: bytes) -> bytes:
            asked.set()
            return b""

    put_in(pcscd, reader, AnswersNothing(T1_ONLY))
    exchange = Call(transmit, opened(context, reader), SELECT)
    assert asked.wait(PATIENCE)
    assert not exchange.ended()
    pcscd.remove(reader)
    assert exchange.result() == (SUCCESS, b"")


def test_what_virtual_readers_lack(card: Card, context: int, reader: str) -> None:
    """Fact 59."""
    handle = opened(context, reader)
    assert scard.SCardGetAttrib(handle, ATR_STRING)[0] == scard.SCARD_E_UNSUPPORTED_FEATURE
    assert scard.SCardControl(handle, GET_FEATURE_REQUEST, [])[0] == scard.SCARD_E_UNSUPPORTED_FEATURE
