"""The simulated PC/SC does what the real pcscd does: connections, exchanges, resets, removals, power. See test_conformance.py."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from scardface._enums import Disposition, Protocol, ShareMode, StateFlag
from scardface._pcsc.backend import ATTR_ATR_STRING, CardHandle, Context, takes_reader_name
from scardface._pcsc.reader_states import status_change
from scardface.errors import (
    INVALID_HANDLE,
    NO_SMARTCARD,
    NOT_TRANSACTED,
    PROTO_MISMATCH,
    REMOVED_CARD,
    RESET_CARD,
    SHARING_VIOLATION,
    UNKNOWN_READER,
    UNPOWERED_CARD,
    UNRESPONSIVE_CARD,
)
from tests.support.conformance import (
    A_WHILE,
    ANY,
    NO_PROTOCOL,
    PATIENCE,
    SELECT,
    T0_AND_T1,
    Call,
    Card,
    SlowCard,
    World,
    code_of,
    counter,
    flags,
    rounds,
    share,
    state_of,
)

LEAVE, RESET, UNPOWER, EJECT = Disposition.LEAVE, Disposition.RESET, Disposition.UNPOWER, Disposition.EJECT
EXCLUSIVE, SHARED, DIRECT = ShareMode.EXCLUSIVE, ShareMode.SHARED, ShareMode.DIRECT
T0, T1, RAW = Protocol.T0, Protocol.T1, Protocol.RAW
EMPTY, PRESENT, INUSE, IN_EXCLUSIVE_USE = StateFlag.EMPTY, StateFlag.PRESENT, StateFlag.INUSE, StateFlag.EXCLUSIVE
MUTE, CHANGED = StateFlag.MUTE, StateFlag.CHANGED
UNSUPPORTED_FEATURE = 0x8010001F
LONG_MS = 10_000
WHILE_MS = int(1000 * A_WHILE)
T0_ONLY, T1_ONLY = b"\x3b\x00", b"\x3b\x80\x01\x81"

ABSENT_STATE, POWERED_STATE, UNPOWERED_STATE, MUTE_STATE = 0x02, 0x34, 0x04, 0x0C
"""The lower half of SCardStatus's state on pcsc-lite."""

CALLS: dict[str, Callable[[CardHandle], object]] = {
    "status": lambda handle: handle.status(),
    "transmit": lambda handle: handle.transmit(SELECT),
    "begin": lambda handle: handle.begin_transaction(),
    "end": lambda handle: handle.end_transaction(LEAVE),
    "get attribute": lambda handle: handle.get_attribute(ATTR_ATR_STRING),
    "set attribute": lambda handle: handle.set_attribute(ATTR_ATR_STRING, b"\x3b\x00"),
}
"""The calls that answer what happened to the card behind a handle's back."""


class TestConnect:
    @pytest.mark.parametrize("mode", [EXCLUSIVE, SHARED])
    def test_there_is_no_card(self, context: Context, reader: str, mode: ShareMode) -> None:
        assert code_of(context.connect, reader, mode, ANY) == NO_SMARTCARD

    def test_there_is_no_such_reader(self, context: Context) -> None:
        assert code_of(share, context, "no such reader") == UNKNOWN_READER
        assert code_of(context.connect, "no such reader", DIRECT, NO_PROTOCOL) == UNKNOWN_READER

    def test_no_protocol_is_a_mismatch_before_anything_else(self, context: Context, reader: str) -> None:
        assert code_of(context.connect, reader, SHARED, NO_PROTOCOL) == PROTO_MISMATCH
        assert code_of(context.connect, "no such reader", SHARED, NO_PROTOCOL) == PROTO_MISMATCH

    @pytest.mark.parametrize("name", ["L\u00e9cteur", "two\0names"])
    def test_a_name_that_the_backend_does_not_take_is_refused(self, world: World, context: Context, name: str) -> None:
        if takes_reader_name(world.backend, name):
            assert code_of(share, context, name) == UNKNOWN_READER
        else:
            with pytest.raises(ValueError, match="reader name"):
                share(context, name)

    def test_direct_needs_no_card(self, context: Context, reader: str) -> None:
        handle = context.connect(reader, DIRECT, NO_PROTOCOL)
        assert handle.protocol == NO_PROTOCOL
        status = handle.status()
        assert (status.reader, status.state & 0xFFFF, status.protocol, status.atr) == (reader, ABSENT_STATE, NO_PROTOCOL, b"")
        assert flags(state_of(context, reader)) == EMPTY

    def test_direct_has_no_card_to_transmit_to(self, context: Context, reader: str) -> None:
        assert code_of(context.connect(reader, DIRECT, NO_PROTOCOL).transmit, SELECT) == NOT_TRANSACTED

    def test_direct_with_a_card(self, card: Card, context: Context, other: Context, reader: str) -> None:
        handle = context.connect(reader, DIRECT, NO_PROTOCOL)
        assert handle.protocol == NO_PROTOCOL
        assert handle.transmit(SELECT) == b"\x90\x00"
        assert flags(state_of(other, reader)) == PRESENT | INUSE
        share(other, reader)
        assert context.connect(reader, DIRECT, NO_PROTOCOL).protocol == T1  # what others have settled on

    @pytest.mark.parametrize("second", [EXCLUSIVE, SHARED, DIRECT])
    @pytest.mark.parametrize("first", [EXCLUSIVE, SHARED, DIRECT])
    def test_who_shares_with_whom(
        self, card: Card, context: Context, other: Context, reader: str, first: ShareMode, second: ShareMode
    ) -> None:
        context.connect(reader, first, ANY)
        expected = SHARING_VIOLATION if EXCLUSIVE in (first, second) else 0
        assert code_of(other.connect, reader, second, ANY) == expected
        assert code_of(context.connect, reader, second, ANY) == expected

    @pytest.mark.parametrize(
        ("atr", "asked", "settled"),
        [
            (T0_AND_T1, ANY, T1),
            (T0_AND_T1, T0, T0),
            (T0_AND_T1, T1, T1),
            (T0_ONLY, ANY, T0),
            (T0_ONLY, T1, None),
            (T1_ONLY, ANY, T1),
            (T1_ONLY, T0, None),
            (T1_ONLY, RAW, RAW),
        ],
    )
    def test_which_protocol_it_becomes(
        self, world: World, context: Context, reader: str, atr: bytes, asked: Protocol, settled: Protocol | None
    ) -> None:
        world.insert(0, Card(atr))
        if settled is None:
            assert code_of(share, context, reader, asked) == PROTO_MISMATCH
        else:
            handle = share(context, reader, asked)
            assert handle.protocol == handle.status().protocol == settled

    def test_the_first_settles_the_protocol(self, card: Card, context: Context, other: Context, reader: str) -> None:
        share(context, reader, T0)
        assert share(other, reader, ANY).protocol == T0
        assert code_of(share, other, reader, T1) == PROTO_MISMATCH

    def test_the_protocol_stays_when_all_have_left(self, card: Card, context: Context, reader: str) -> None:
        share(context, reader, T0).disconnect(LEAVE)
        assert code_of(share, context, reader, T1) == PROTO_MISMATCH
        share(context, reader, T0).disconnect(RESET)
        assert share(context, reader, T1).protocol == T1

    def test_a_raw_handle_is_in_the_way_of_others(self, handle: CardHandle, other: Context, reader: str) -> None:
        assert share(other, reader, RAW).transmit(SELECT) == b"\x90\x00"
        assert code_of(handle.transmit, SELECT) == PROTO_MISMATCH
        assert code_of(share, other, reader) == PROTO_MISMATCH

    def test_a_mute_card_has_no_power(self, world: World, context: Context, reader: str) -> None:
        world.insert(0, Card(b""))
        assert code_of(context.connect, reader, SHARED, ANY) == UNPOWERED_CARD
        assert code_of(context.connect, reader, EXCLUSIVE, ANY) == UNPOWERED_CARD
        handle = context.connect(reader, DIRECT, NO_PROTOCOL)
        assert handle.status().state & 0xFFFF == MUTE_STATE
        assert code_of(handle.reconnect, DIRECT, NO_PROTOCOL, LEAVE) == UNRESPONSIVE_CARD
        assert code_of(handle.reconnect, SHARED, ANY, RESET) == UNRESPONSIVE_CARD

    def test_a_mute_card_may_recover(self, world: World, context: Context, reader: str) -> None:
        card = Card(b"")
        world.insert(0, card)
        card.atr = T0_ONLY
        share(context, reader)
        entry = status_change(context, 0, [(reader, 0)]).entries[0]
        assert flags(entry.state) == PRESENT | INUSE | CHANGED
        assert entry.atr == T0_ONLY

    def test_a_handle_is_closed_once(self, handle: CardHandle) -> None:
        handle.disconnect(LEAVE)
        assert code_of(handle.disconnect, LEAVE) == INVALID_HANDLE
        assert code_of(handle.transmit, SELECT) == INVALID_HANDLE
        assert code_of(handle.status) == INVALID_HANDLE


class TestWhoUsesIt:
    def test_use_is_seen_by_all(self, card: Card, context: Context, other: Context, reader: str) -> None:
        assert flags(state_of(other, reader)) == PRESENT
        handle = share(context, reader)
        assert flags(state_of(other, reader)) == flags(state_of(context, reader)) == PRESENT | INUSE
        handle.disconnect(LEAVE)
        assert flags(state_of(other, reader)) == PRESENT
        handle = context.connect(reader, EXCLUSIVE, ANY)
        assert flags(state_of(other, reader)) == PRESENT | IN_EXCLUSIVE_USE
        handle.disconnect(LEAVE)
        assert flags(state_of(other, reader)) == PRESENT

    @pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
    def test_that_somebody_comes_wakes_nobody(
        self, world: World, card: Card, context: Context, other: Context, reader: str, mode: ShareMode
    ) -> None:
        timeout = world.poll_ms
        while True:
            wait = Call(status_change, other, timeout, [(reader, state_of(other, reader))])
            handle = context.connect(reader, mode, ANY)
            if not wait.ended(0):
                break
            handle.disconnect(LEAVE)  # the wait was over before somebody came: the machine is busy
            timeout *= 2
        world.let_driver_poll(card)
        change = wait.result()
        assert change.timed_out
        assert flags(change.entries[0].state) == PRESENT | (INUSE if mode is SHARED else IN_EXCLUSIVE_USE)

    @pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
    def test_that_the_last_one_leaves_wakes_who_knew_of_him(
        self, world: World, card: Card, context: Context, other: Context, reader: str, mode: ShareMode
    ) -> None:
        handle = context.connect(reader, mode, ANY)
        world.let_driver_poll(card)
        wait = Call(status_change, other, LONG_MS, [(reader, state_of(other, reader))])
        assert not wait.ended()
        handle.disconnect(LEAVE)
        change = wait.result()
        assert not change.timed_out
        assert flags(change.entries[0].state) == PRESENT | CHANGED

    def test_that_one_of_several_leaves_wakes_nobody(
        self, world: World, handle: CardHandle, card: Card, context: Context, other: Context, reader: str
    ) -> None:
        share(context, reader)
        world.let_driver_poll(card)
        wait = Call(status_change, other, LONG_MS, [(reader, state_of(other, reader))])
        handle.disconnect(LEAVE)
        world.let_driver_poll(card)
        assert not wait.ended()
        world.remove(0)
        wait.result()

    def test_who_changes_from_shared_to_exclusive_wakes_others(
        self, world: World, handle: CardHandle, card: Card, other: Context, reader: str
    ) -> None:
        world.let_driver_poll(card)
        wait = Call(status_change, other, LONG_MS, [(reader, state_of(other, reader))])
        assert not wait.ended()
        handle.reconnect(EXCLUSIVE, ANY, LEAVE)
        assert flags(wait.result().entries[0].state) == PRESENT | IN_EXCLUSIVE_USE | CHANGED

    def test_an_insertion_between_two_polls_of_the_driver_is_missed(
        self, world: World, card: Card, context: Context, other: Context, reader: str
    ) -> None:
        """Fact 13, and what the time-out then reports, fact 11."""
        for _ in rounds():
            with world.between_polls():
                handle = context.connect(reader, EXCLUSIVE, ANY)
                wait = Call(status_change, other, 2 * WHILE_MS, [(reader, state_of(other, reader))])
                wait.ended(0.02)  # so that it has most likely begun: else it is told at once
                handle.disconnect(LEAVE)
                left_in_time = not wait.ended(0)
                change = wait.result()
            if left_in_time and change.timed_out:
                break
        assert flags(change.entries[0].state) == PRESENT | IN_EXCLUSIVE_USE  # which it is no more
        assert flags(state_of(other, reader)) == PRESENT

    def test_an_exclusive_handle_without_its_card(
        self, world: World, card: Card, context: Context, other: Context, reader: str
    ) -> None:
        handle = context.connect(reader, EXCLUSIVE, ANY)
        world.remove(0)
        assert flags(state_of(other, reader)) == EMPTY | IN_EXCLUSIVE_USE
        world.insert(0, Card())
        assert flags(state_of(other, reader)) == PRESENT | IN_EXCLUSIVE_USE
        assert code_of(share, other, reader) == SHARING_VIOLATION
        handle.disconnect(LEAVE)
        assert code_of(share, other, reader) == 0


class TestStatusAndTransmit:
    def test_status_tells_the_counter_too(self, handle: CardHandle, context: Context, reader: str) -> None:
        status = handle.status()
        assert (status.reader, status.protocol, status.atr) == (reader, T1, T0_AND_T1)
        assert status.state & 0xFFFF == POWERED_STATE
        assert counter(status.state) == counter(state_of(context, reader))

    @pytest.mark.parametrize("command", [SELECT, bytes(5), bytes(range(256)), bytes(65_535)], ids=len)
    def test_bytes_go_to_the_card_and_back_as_they_are(self, handle: CardHandle, command: bytes) -> None:
        assert handle.transmit(command) == command[4:] + b"\x90\x00"

    def test_the_longest_answer(self, world: World, context: Context, reader: str) -> None:
        world.insert(0, Answers(bytes(65_533) + b"\x90\x00"))
        assert len(share(context, reader).transmit(SELECT)) == 65_535

    @pytest.mark.parametrize("answer", [b"\x90", b"\x61\x10", b"\x6c\x05"])
    def test_no_answer_is_looked_into(self, world: World, context: Context, reader: str, answer: bytes) -> None:
        world.insert(0, Answers(answer))
        assert share(context, reader).transmit(SELECT) == answer

    @pytest.mark.parametrize("wrong", ["not bytes", bytes(65_536)], ids=["text", "too long"])
    def test_a_card_that_fails_answers_6f00_and_tells_who_takes_it_out(
        self, world: World, context: Context, reader: str, wrong: object
    ) -> None:
        world.insert(0, Answers(wrong))
        assert share(context, reader).transmit(SELECT) == b"\x6f\x00"
        with pytest.raises((TypeError, ValueError), match="process"):
            world.remove(0)

    def test_virtual_readers_have_neither_commands_nor_attributes(self, handle: CardHandle) -> None:
        assert code_of(handle.control, 0x42000001, b"\x01\x02") == UNSUPPORTED_FEATURE
        assert code_of(handle.get_attribute, ATTR_ATR_STRING) == UNSUPPORTED_FEATURE
        assert code_of(handle.set_attribute, ATTR_ATR_STRING, b"\x3b\x00") == NOT_TRANSACTED

    def test_one_exchange_at_a_time(self, world: World, context: Context, other: Context, reader: str) -> None:
        card = SlowCard()
        world.insert(0, card)
        first, second = share(context, reader), share(other, reader)
        one = Call(first.transmit, SELECT)
        assert card.asked.wait(10)
        two = Call(second.transmit, SELECT)
        assert not two.ended()
        card.go.set()
        assert one.result() == two.result() == b"\x90\x00"

    def test_who_connects_waits_for_the_exchange(self, world: World, context: Context, other: Context, reader: str) -> None:
        card = SlowCard()
        world.insert(0, card)
        exchange = Call(share(context, reader).transmit, SELECT)
        assert card.asked.wait(10)
        connect = Call(share, other, reader)
        assert not connect.ended()
        card.go.set()
        exchange.result()
        connect.result()


class Answers(Card):
    """Answers whatever it was told."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self._answer = answer
        self.asked = threading.Event()

    def process(self, command: bytes) -> bytes:
        self.asked.set()
        return self._answer  # type: ignore[return-value]  # on purpose


class TestReset:
    @pytest.mark.parametrize("call", CALLS)
    def test_handles_of_others_report_a_reset(self, handle: CardHandle, other: Context, reader: str, call: str) -> None:
        share(other, reader).disconnect(RESET)
        assert code_of(CALLS[call], handle) == RESET_CARD
        assert code_of(CALLS[call], handle) == RESET_CARD

    def test_those_who_wait_for_events_do_not(self, handle: CardHandle, context: Context, other: Context, reader: str) -> None:
        second = share(other, reader)
        state = state_of(context, reader)
        second.disconnect(RESET)
        assert status_change(context, 0, [(reader, state)]).timed_out
        assert state_of(context, reader) == state

    def test_reconnecting_makes_a_handle_good_again(self, handle: CardHandle, other: Context, reader: str) -> None:
        share(other, reader).disconnect(RESET)
        assert handle.reconnect(SHARED, ANY, LEAVE) == T1
        assert handle.transmit(SELECT) == b"\x90\x00"

    def test_a_reconnect_that_resets_spares_its_own_handle(
        self, handle: CardHandle, card: Card, other: Context, reader: str
    ) -> None:
        second = share(other, reader)
        second.reconnect(SHARED, ANY, RESET)
        assert second.transmit(SELECT) == b"\x90\x00"
        assert code_of(handle.transmit, SELECT) == RESET_CARD
        assert card.log[-1] == "reset"

    def test_an_end_that_resets_hits_its_own_handle(self, handle: CardHandle, card: Card, other: Context, reader: str) -> None:
        second = share(other, reader)
        second.begin_transaction()
        second.end_transaction(RESET)
        assert code_of(second.transmit, SELECT) == code_of(handle.transmit, SELECT) == RESET_CARD
        assert card.log[-1] == "reset"

    @pytest.mark.parametrize("how", ["reconnect", "end"])
    def test_power_off_and_on_is_a_reset_too(self, handle: CardHandle, card: Card, other: Context, reader: str, how: str) -> None:
        second = share(other, reader)
        card.log.clear()
        if how == "reconnect":
            second.reconnect(SHARED, ANY, UNPOWER)
        else:
            second.begin_transaction()
            second.end_transaction(UNPOWER)
        card.wait_for_log("off", "on")
        assert code_of(handle.transmit, SELECT) == RESET_CARD

    def test_a_card_left_without_power_is_switched_on_by_the_next(
        self, handle: CardHandle, card: Card, other: Context, reader: str
    ) -> None:
        second = share(other, reader)
        card.log.clear()
        second.disconnect(UNPOWER)
        card.wait_for_log("off")
        assert flags(state_of(other, reader)) == PRESENT | INUSE
        assert code_of(handle.transmit, SELECT) == RESET_CARD
        share(other, reader)
        card.wait_for_log("off", "on")

    def test_who_reconnects_to_a_card_without_power_locks_others_out(
        self, handle: CardHandle, card: Card, other: Context, reader: str
    ) -> None:
        """Fact 29."""
        share(other, reader).disconnect(UNPOWER)
        assert handle.reconnect(SHARED, ANY, LEAVE) == T1
        assert handle.status().state & 0xFFFF == UNPOWERED_STATE
        assert code_of(share, other, reader) == UNPOWERED_CARD
        handle.reconnect(SHARED, ANY, RESET)
        assert code_of(share, other, reader) == 0

    @pytest.mark.parametrize("disposition", [LEAVE, EJECT])
    def test_a_card_that_is_left_notices_nothing(
        self, handle: CardHandle, card: Card, other: Context, reader: str, disposition: Disposition
    ) -> None:
        second = share(other, reader)
        card.log.clear()
        second.disconnect(disposition)
        assert handle.transmit(SELECT) == b"\x90\x00"
        assert card.log == []

    def test_a_reset_lets_the_protocol_be_settled_anew(self, handle: CardHandle) -> None:
        assert code_of(handle.reconnect, SHARED, T0, LEAVE) == PROTO_MISMATCH
        assert handle.reconnect(SHARED, T0, RESET) == T0
        assert handle.protocol == T0
        assert handle.transmit(SELECT) == b"\x90\x00"

    def test_reconnect_without_a_protocol(self, handle: CardHandle) -> None:
        assert code_of(handle.reconnect, SHARED, NO_PROTOCOL, LEAVE) == PROTO_MISMATCH
        assert handle.reconnect(DIRECT, NO_PROTOCOL, LEAVE) == T1

    def test_reconnect_to_be_alone_waits_for_others_to_leave(
        self, handle: CardHandle, context: Context, other: Context, reader: str
    ) -> None:
        second = share(other, reader)
        reconnect = Call(handle.reconnect, EXCLUSIVE, ANY, LEAVE)
        assert not reconnect.ended()  # as for a transaction
        second.disconnect(LEAVE)
        assert reconnect.result() == T1
        assert flags(state_of(context, reader)) == PRESENT | IN_EXCLUSIVE_USE
        assert code_of(share, other, reader) == SHARING_VIOLATION

    def test_it_waits_in_a_transaction_too(self, handle: CardHandle, context: Context, other: Context, reader: str) -> None:
        second = share(other, reader)
        handle.begin_transaction()
        reconnect = Call(handle.reconnect, EXCLUSIVE, ANY, LEAVE)
        assert not reconnect.ended()
        second.disconnect(LEAVE)
        assert reconnect.result() == T1


class TestRemoval:
    def test_old_handles_say_so(self, world: World, handle: CardHandle) -> None:
        world.remove(0)
        assert {call: code_of(CALLS[call], handle) for call in CALLS} == dict.fromkeys(CALLS, REMOVED_CARD)

    def test_they_still_say_so_when_a_card_is_in_again(
        self, world: World, handle: CardHandle, context: Context, reader: str
    ) -> None:
        world.insert(0, world.remove(0))
        assert code_of(handle.transmit, SELECT) == REMOVED_CARD
        assert share(context, reader).transmit(SELECT) == b"\x90\x00"

    def test_a_reconnect_attaches_to_whatever_card_is_in(self, world: World, handle: CardHandle) -> None:
        world.remove(0)
        assert code_of(handle.reconnect, SHARED, ANY, LEAVE) == NO_SMARTCARD
        world.insert(0, Card(T0_ONLY))
        assert handle.reconnect(SHARED, ANY, LEAVE) == T0
        assert handle.status().atr == T0_ONLY

    def test_a_reconnect_that_resets_nothing(self, world: World, handle: CardHandle) -> None:
        world.remove(0)
        assert code_of(handle.reconnect, SHARED, ANY, RESET) == NO_SMARTCARD
        assert code_of(handle.transmit, SELECT) == RESET_CARD  # that is what it says from then on

    def test_closing_is_no_error(self, world: World, card: Card, context: Context, reader: str) -> None:
        handles = {disposition: share(context, reader) for disposition in Disposition}
        world.remove(0)
        assert {how: code_of(handle.disconnect, how) for how, handle in handles.items()} == dict.fromkeys(Disposition, 0)
        assert flags(state_of(context, reader)) == EMPTY

    def test_an_exchange_ends_with_nothing(self, world: World, context: Context, reader: str) -> None:
        card = SlowCard()
        world.insert(0, card)
        handle = share(context, reader)
        exchange = Call(handle.transmit, SELECT)
        assert card.asked.wait(10)
        removal = Call(world.remove, 0)
        assert exchange.result() == b""
        card.go.set()
        removal.result()
        assert code_of(handle.transmit, SELECT) == REMOVED_CARD

    def test_an_empty_answer_is_waited_for(self, world: World, context: Context, reader: str) -> None:
        card = Answers(b"")
        world.insert(0, card)
        exchange = Call(share(context, reader).transmit, SELECT)
        assert card.asked.wait(PATIENCE)
        assert not exchange.ended()
        world.remove(0)
        assert exchange.result() == b""

    def test_before_the_driver_has_seen_it(
        self, world: World, handle: CardHandle, context: Context, other: Context, reader: str
    ) -> None:
        """Fact 28. That it has not is told by the reader's state, which is asked for last."""
        for _ in rounds():
            state = state_of(context, reader)
            world.yank(0)
            answer = Call(handle.transmit, SELECT)
            transmitted, status = answer.code(), Call(handle.status)
            codes = [transmitted, status.code(), code_of(share, other, reader)]
            pulled_meanwhile = transmitted == 0  # for the driver, which then says so by an empty answer (fact 38)
            assert not pulled_meanwhile or answer.result() == b""
            if state_of(context, reader) == state and not pulled_meanwhile:
                break
            world.insert(0, Card())
            handle = share(context, reader)
        assert codes == [NOT_TRANSACTED, 0, 0]
        assert status.result().atr == T0_AND_T1


class TestPower:
    def test_a_card_is_switched_on_when_it_is_seen_and_off_when_it_goes(self, world: World) -> None:
        card = Card()
        world.insert(0, card)
        assert "on" in card.log
        world.remove(0)
        assert card.log[-1] == "off"

    def test_a_card_is_used_without_another_reset(self, handle: CardHandle, card: Card, context: Context, reader: str) -> None:
        handle.transmit(SELECT)
        before = list(card.log)
        handle.disconnect(LEAVE)
        second = share(context, reader)
        second.transmit(SELECT)
        assert card.log == before

    def test_an_idle_card_is_switched_off_and_on_again(
        self, world: World, handle: CardHandle, card: Card, context: Context, reader: str
    ) -> None:
        state = state_of(context, reader)
        handle.disconnect(LEAVE)
        world.let_driver_rest(card)
        assert state_of(context, reader) == state & ~int(INUSE)
        before = list(card.log)
        assert share(context, reader, T0).protocol == T0
        card.wait_for_log(*before, "on")
