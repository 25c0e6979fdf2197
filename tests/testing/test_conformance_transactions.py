"""The simulated PC/SC does what the real pcscd does: transactions, and who waits for them. See test_conformance.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scardface._enums import Disposition, ShareMode, StateFlag
from scardface._pcsc.backend import ATTR_ATR_STRING, CardHandle, Context
from scardface.errors import INVALID_HANDLE, NOT_TRANSACTED, REMOVED_CARD, RESET_CARD, SHARING_VIOLATION
from tests.support.conformance import ANY, NO_PROTOCOL, SELECT, Call, Card, World, code_of, flags, share, state_of

LEAVE, RESET, UNPOWER = Disposition.LEAVE, Disposition.RESET, Disposition.UNPOWER
EXCLUSIVE, SHARED, DIRECT = ShareMode.EXCLUSIVE, ShareMode.SHARED, ShareMode.DIRECT

WAITING: dict[str, Callable[[CardHandle], object]] = {
    "status": lambda handle: handle.status(),
    "transmit": lambda handle: handle.transmit(SELECT),
    "begin": lambda handle: handle.begin_transaction(),
    "reconnect": lambda handle: handle.reconnect(SHARED, ANY, LEAVE),
    "disconnect with a reset": lambda handle: handle.disconnect(RESET),
    "disconnect without power": lambda handle: handle.disconnect(UNPOWER),
}
"""The calls that wait for the end of another handle's transaction."""

REFUSED: dict[str, Callable[[CardHandle], object]] = {
    "end": lambda handle: handle.end_transaction(LEAVE),
    "end with a reset": lambda handle: handle.end_transaction(RESET),
    "get attribute": lambda handle: handle.get_attribute(ATTR_ATR_STRING),
    "set attribute": lambda handle: handle.set_attribute(ATTR_ATR_STRING, b"\x3b\x00"),
    "control": lambda handle: handle.control(0x42000001, b"\x01\x02"),
}
"""The calls that do not."""


@pytest.fixture
def contender(handle: CardHandle, other: Context, reader: str) -> CardHandle:
    """Another handle of the card, in another context; `handle` is in a transaction."""
    contender = share(other, reader)
    handle.begin_transaction()
    return contender


class TestWithoutOthers:
    def test_transactions_are_counted(self, handle: CardHandle) -> None:
        handle.begin_transaction()
        handle.begin_transaction()
        handle.end_transaction(LEAVE)
        handle.end_transaction(LEAVE)
        assert code_of(handle.end_transaction, LEAVE) == NOT_TRANSACTED

    def test_an_end_without_a_begin(self, handle: CardHandle, card: Card) -> None:
        assert code_of(handle.end_transaction, LEAVE) == NOT_TRANSACTED
        assert code_of(handle.end_transaction, RESET) == NOT_TRANSACTED
        assert card.log[-1] == "reset"  # all the same

    def test_who_is_alone_ends_only_what_he_began(self, card: Card, context: Context, reader: str) -> None:
        handle = context.connect(reader, EXCLUSIVE, ANY)
        assert code_of(handle.end_transaction, LEAVE) == NOT_TRANSACTED
        handle.begin_transaction()
        handle.end_transaction(LEAVE)
        assert code_of(handle.end_transaction, LEAVE) == NOT_TRANSACTED
        assert handle.transmit(SELECT) == b"\x90\x00"

    def test_there_are_transactions_without_a_card(self, context: Context, reader: str) -> None:
        handle = context.connect(reader, DIRECT, NO_PROTOCOL)
        handle.begin_transaction()
        handle.end_transaction(LEAVE)
        assert code_of(handle.end_transaction, LEAVE) == NOT_TRANSACTED

    def test_a_transaction_survives_a_reconnect(self, handle: CardHandle, contender: CardHandle) -> None:
        handle.reconnect(SHARED, ANY, LEAVE)
        assert code_of(contender.get_attribute, ATTR_ATR_STRING) == SHARING_VIOLATION
        handle.end_transaction(LEAVE)
        assert code_of(handle.end_transaction, LEAVE) == NOT_TRANSACTED

    def test_who_was_alone_and_shares_keeps_a_lock(self, card: Card, context: Context, other: Context, reader: str) -> None:
        handle = context.connect(reader, EXCLUSIVE, ANY)
        handle.reconnect(SHARED, ANY, LEAVE)
        assert flags(state_of(other, reader)) == StateFlag.PRESENT | StateFlag.INUSE
        connect = Call(share, other, reader)
        assert not connect.ended()
        handle.end_transaction(LEAVE)
        connect.result()


class TestOthersWait:
    @pytest.mark.parametrize("call", WAITING)
    def test_until_the_end(self, handle: CardHandle, contender: CardHandle, call: str) -> None:
        waiting = Call(WAITING[call], contender)
        assert not waiting.ended()
        assert handle.transmit(SELECT) == b"\x90\x00"
        handle.end_transaction(LEAVE)
        assert waiting.code() == 0

    def test_until_the_last_of_several_ends(self, handle: CardHandle, contender: CardHandle) -> None:
        handle.begin_transaction()
        handle.end_transaction(LEAVE)
        waiting = Call(contender.transmit, SELECT)
        assert not waiting.ended()
        handle.end_transaction(LEAVE)
        assert waiting.result() == b"\x90\x00"

    def test_until_the_owner_leaves(self, handle: CardHandle, card: Card, contender: CardHandle) -> None:
        card.log.clear()
        waiting = Call(contender.transmit, SELECT)
        assert not waiting.ended()
        handle.disconnect(LEAVE)
        assert waiting.result() == b"\x90\x00"
        assert card.log == []

    def test_until_the_card_goes(self, world: World, handle: CardHandle, contender: CardHandle) -> None:
        waiting = Call(contender.transmit, SELECT)
        assert not waiting.ended()
        world.remove(0)
        assert waiting.code() == REMOVED_CARD
        assert code_of(handle.end_transaction, LEAVE) == REMOVED_CARD

    @pytest.mark.parametrize("call", ["status", "transmit", "begin"])
    def test_to_report_a_reset(self, handle: CardHandle, contender: CardHandle, call: str) -> None:
        waiting = Call(WAITING[call], contender)
        assert not waiting.ended()
        handle.end_transaction(RESET)
        assert waiting.code() == RESET_CARD

    def test_to_connect(self, handle: CardHandle, contender: CardHandle, world: World, reader: str) -> None:
        third = world.backend.establish()
        connect = Call(share, third, reader)
        assert not connect.ended()
        handle.end_transaction(LEAVE)
        connect.result()
        third.release()

    def test_to_learn_that_they_cannot_be_alone(self, handle: CardHandle, contender: CardHandle, world: World, reader: str) -> None:
        third = world.backend.establish()
        connect = Call(third.connect, reader, EXCLUSIVE, ANY)
        assert not connect.ended()
        handle.end_transaction(LEAVE)
        assert connect.code() == SHARING_VIOLATION
        third.release()

    def test_even_in_the_same_context(self, handle: CardHandle, context: Context, other: Context, reader: str) -> None:
        second = share(context, reader)
        third = share(other, reader)
        third.begin_transaction()
        waiting = Call(second.status)
        assert not waiting.ended()
        third.end_transaction(LEAVE)
        waiting.result()

    def test_and_no_cancel_frees_them(self, handle: CardHandle, contender: CardHandle, other: Context) -> None:
        waiting = Call(contender.transmit, SELECT)
        assert not waiting.ended()
        other.cancel()
        assert not waiting.ended()
        handle.end_transaction(LEAVE)
        assert waiting.result() == b"\x90\x00"


class TestOthersDoNotWait:
    @pytest.mark.parametrize("call", REFUSED)
    def test_what_is_refused_at_once(self, handle: CardHandle, contender: CardHandle, card: Card, call: str) -> None:
        card.log.clear()
        assert code_of(REFUSED[call], contender) == SHARING_VIOLATION
        assert card.log == []

    def test_to_leave(self, handle: CardHandle, contender: CardHandle) -> None:
        contender.disconnect(LEAVE)
        assert code_of(contender.status) == INVALID_HANDLE
        assert handle.transmit(SELECT) == b"\x90\x00"
        handle.end_transaction(LEAVE)

    def test_to_query_readers(self, handle: CardHandle, contender: CardHandle, world: World, other: Context, reader: str) -> None:
        assert other.list_readers() == world.listed
        assert flags(state_of(other, reader)) == StateFlag.PRESENT | StateFlag.INUSE

    def test_to_use_other_readers(self, handle: CardHandle, contender: CardHandle, world: World, other: Context) -> None:
        second = other.connect(world.readers[1], DIRECT, NO_PROTOCOL)
        second.begin_transaction()
        second.end_transaction(LEAVE)

    def test_a_reset_is_told_before_a_transaction_by_some(self, handle: CardHandle, other: Context, reader: str) -> None:
        """Begin and End check the handle first, the others the lock."""
        second, third = share(other, reader), share(other, reader)
        third.disconnect(RESET)
        handle.reconnect(SHARED, ANY, LEAVE)
        handle.begin_transaction()
        assert code_of(second.begin_transaction) == RESET_CARD
        assert code_of(second.end_transaction, LEAVE) == RESET_CARD
        assert code_of(second.get_attribute, ATTR_ATR_STRING) == SHARING_VIOLATION


class TestTheContextIsReleased:
    def test_inside_a_transaction_the_card_is_reset(
        self, handle: CardHandle, contender: CardHandle, card: Card, context: Context
    ) -> None:
        card.log.clear()
        context.release()
        assert card.log == ["reset"]
        assert code_of(contender.transmit, SELECT) == RESET_CARD
        contender.reconnect(SHARED, ANY, LEAVE)
        contender.begin_transaction()

    def test_of_who_is_alone_the_card_is_reset(self, card: Card, context: Context, other: Context, reader: str) -> None:
        context.connect(reader, EXCLUSIVE, ANY)
        card.log.clear()
        context.release()
        assert card.log == ["reset"]
        assert flags(state_of(other, reader)) == StateFlag.PRESENT

    def test_of_who_shares_the_card_is_left(
        self, handle: CardHandle, card: Card, context: Context, other: Context, reader: str
    ) -> None:
        card.log.clear()
        context.release()
        assert card.log == []
        assert flags(state_of(other, reader)) == StateFlag.PRESENT

    def test_in_another_ones_transaction_nothing_happens(
        self, handle: CardHandle, contender: CardHandle, card: Card, context: Context, other: Context, reader: str
    ) -> None:
        card.log.clear()
        other.release()
        assert card.log == []
        assert handle.transmit(SELECT) == b"\x90\x00"
        assert flags(state_of(context, reader)) == StateFlag.PRESENT | StateFlag.INUSE
        handle.end_transaction(LEAVE)

    def test_who_waits_goes_on(self, handle: CardHandle, contender: CardHandle, context: Context) -> None:
        waiting = Call(contender.reconnect, SHARED, ANY, LEAVE)
        assert not waiting.ended()
        context.release()
        waiting.result()
