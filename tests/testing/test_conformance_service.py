"""The simulated PC/SC does what the real pcscd does: the service stops and starts. See test_conformance.py."""

from __future__ import annotations

from scardface._enums import Disposition, ShareMode, StateFlag
from scardface._pcsc.backend import ATTR_ATR_STRING, CardHandle, Context
from scardface.errors import COMM_ERROR, INVALID_HANDLE, NO_SERVICE, SECURITY_VIOLATION
from tests.support.conformance import (
    ANY,
    NO_PROTOCOL,
    SELECT,
    Call,
    Card,
    SlowCard,
    World,
    code_of,
    counter,
    flags,
    share,
    state_of,
)

LEAVE = Disposition.LEAVE
LONG_MS = 10_000


class TestTheServiceStops:
    def test_what_waits_ends_at_once(self, world: World, card: Card, context: Context, other: Context, reader: str) -> None:
        """A status call and an exchange; a connect that waits for a transaction, and an exchange that does. The last asks pcscd
        again and again, and finds it gone, or is told nothing by a daemon that ended with the request unread (fact 22). So may
        the status call, where one of the daemon's last events has woken it and it asks once more, which also may find it gone.
        """
        slow = SlowCard()
        world.insert(1, slow)
        third, fourth, fifth = (world.backend.establish() for _ in range(3))
        owner, contender = share(other, reader), share(third, reader)
        owner.begin_transaction()
        calls = [
            Call(context.get_status_change, LONG_MS, [(world.readers[2], state_of(context, world.readers[2]))]),
            Call(share(fourth, world.readers[1]).transmit, SELECT),
            Call(share, fifth, reader),
            Call(contender.transmit, SELECT),
        ]
        assert slow.asked.wait(10)
        assert not any(call.ended() for call in calls)
        stop = Call(world.stop)
        watched, *cut_off, asked = [call.code() for call in calls]
        assert watched in (COMM_ERROR, NO_SERVICE, SECURITY_VIOLATION)
        assert cut_off == [COMM_ERROR] * 2
        assert asked in (NO_SERVICE, SECURITY_VIOLATION)
        slow.go.set()
        stop.result()
        assert [code_of(one.release) for one in (third, fourth, fifth)] == [NO_SERVICE] * 3

    def test_what_comes_later_fails(self, world: World, handle: CardHandle, context: Context, reader: str) -> None:
        world.stop()
        try:
            assert code_of(world.backend.establish) == NO_SERVICE
            assert_lost(context, handle, reader)
        finally:
            world.start()
        assert_lost(context, handle, reader)
        assert code_of(context.release) == NO_SERVICE
        assert code_of(context.release) == INVALID_HANDLE
        assert code_of(handle.transmit, SELECT) == INVALID_HANDLE

    def test_some_calls_do_not_notice(self, world: World, context: Context) -> None:
        world.stop()
        try:
            assert context.list_reader_groups() == ("SCard$DefaultReaders",)
            assert context.get_status_change(LONG_MS, []) == (False, [])
            context.cancel()
        finally:
            world.start()


def assert_lost(context: Context, handle: CardHandle, reader: str) -> None:
    calls = [
        code_of(context.list_readers),
        code_of(context.get_status_change, LONG_MS, [(reader, 0)]),
        code_of(context.connect, reader, ShareMode.DIRECT, NO_PROTOCOL),
        code_of(handle.status),
        code_of(handle.transmit, SELECT),
        code_of(handle.begin_transaction),
        code_of(handle.end_transaction, LEAVE),
        code_of(handle.reconnect, ShareMode.DIRECT, NO_PROTOCOL, LEAVE),
        code_of(handle.get_attribute, ATTR_ATR_STRING),
        code_of(handle.control, 0x42000001, b"\x01\x02"),
        code_of(handle.disconnect, LEAVE),
    ]
    assert calls == [NO_SERVICE] * len(calls)


class TestTheServiceStartsAgain:
    def test_all_is_as_new(self, world: World, context: Context, reader: str) -> None:
        """Readers and cards are the same; counters are not, and nobody uses anything."""
        card = Card()
        world.insert(0, card)
        world.insert(0, world.remove(0))
        before = state_of(context, reader)
        context.connect(reader, ShareMode.EXCLUSIVE, ANY)
        world.stop()
        assert card.log[-1] == "off"
        world.start()
        new = world.backend.establish()
        assert new.list_readers() == world.listed
        state = state_of(new, reader)
        assert flags(state) == StateFlag.PRESENT
        assert counter(state) <= 1 < counter(before)
        assert share(new, reader).transmit(SELECT) == b"\x90\x00"
        new.release()

    def test_any_number_of_times(self, world: World) -> None:
        for _ in range(2):
            world.stop()
            world.start()
        context = world.backend.establish()
        assert context.list_readers() == world.listed
        context.release()
