"""Facts about SCardGetStatusChange and SCardCancel; the numbers are those of docs/pcsc-facts.md.

That a wait has begun is told by nothing. So a test that needs it does what is without effect before that, until it has one.
"""

from __future__ import annotations

import time

from smartcard import scard

from scardface.errors import CANCELLED, INVALID_PARAMETER, SUCCESS, TIMEOUT, UNKNOWN_READER
from scardface.testing import PrivatePcscd
from tests.support.bare import (
    CHANGED,
    EMPTY,
    EXCLUSIVE,
    IN_EXCLUSIVE_USE,
    INUSE,
    LEAVE,
    PRESENT,
    UNKNOWN,
    Establish,
    coded,
    counter,
    list_readers,
    opened,
    put_in,
    state_of,
    status_change,
    take_out,
    transmit,
)
from tests.support.conformance import PATIENCE, Call, Card, SlowCard, rounds
from tests.support.versions import pcscd_version

LONG_MS, SHORT_MS = 20_000, 200
PNP = r"\\?PnP?\Notification"
SELECT = bytes.fromhex("00a40000")


def cancel_until_ended(context: int, wait: Call) -> None:
    """SCardCancel again and again, until the waiting call has ended."""
    pause = 0.0005
    while not wait.ended(pause):
        scard.SCardCancel(context)
        pause = min(2 * pause, 0.05)


def test_a_cancel_before_the_wait_is_lost(context: int, reader: str) -> None:
    """Fact 1."""
    state = state_of(context, reader)
    assert coded(scard.SCardCancel, context) == SUCCESS
    assert status_change(context, SHORT_MS, (reader, state))[0] == TIMEOUT


def test_a_cancel_that_is_repeated_is_heard(context: int, reader: str) -> None:
    """Fact 1: at whatever moment it begins."""
    state = state_of(context, reader)
    for _ in range(100):
        wait = Call(status_change, context, LONG_MS, (reader, state))
        cancel_until_ended(context, wait)
        assert wait.result()[0] == CANCELLED


def test_a_cancel_is_for_its_own_context(context: int, other: int, reader: str) -> None:
    """Fact 2."""
    wait = Call(status_change, context, LONG_MS, (reader, state_of(context, reader)))
    for _ in range(10):
        assert coded(scard.SCardCancel, other) == SUCCESS
        assert not wait.ended(0.02)
    cancel_until_ended(context, wait)
    assert wait.result()[0] == CANCELLED


def test_a_late_cancel_does_not_end_the_next_wait(context: int, reader: str) -> None:
    """Fact 2."""
    state = state_of(context, reader)
    wait = Call(status_change, context, LONG_MS, (reader, state))
    cancel_until_ended(context, wait)
    wait.result()
    scard.SCardCancel(context)
    assert status_change(context, SHORT_MS, (reader, state))[0] == TIMEOUT


def test_a_stray_call_on_a_waiting_context_freezes_all_others(context: int, other: int, reader: str) -> None:
    """Fact 5: SCardCancel included, until the wait ends by itself."""
    wait = Call(status_change, context, 2000, (reader, state_of(context, reader)))
    while (stray := Call(list_readers, context)).ended():
        assert not wait.ended(0), "no call was kept waiting"
    others = [Call(list_readers, other), Call(scard.SCardCancel, context), Call(scard.SCardIsValidContext, other)]
    assert not any(call.ended() for call in others)
    assert wait.result()[0] == TIMEOUT
    assert [call.result() for call in (stray, *others)] == [SUCCESS] * 4


def test_cards_of_one_context_wait_for_each_other(
    pcscd: PrivatePcscd, establish: Establish, card: Card, context: int, other: int, reader: str
) -> None:
    """Fact 6: and while two calls meet in one context, a third context waits, too."""
    slow, slow_reader = SlowCard(), pcscd.readers[2]
    put_in(pcscd, slow_reader, slow)
    mine, theirs, third = opened(context, reader), opened(other, reader), establish()
    exchange = Call(transmit, opened(context, slow_reader), SELECT)
    assert slow.asked.wait(PATIENCE)
    assert transmit(theirs, SELECT)[0] == SUCCESS
    same = Call(transmit, mine, SELECT)
    assert not same.ended()
    unrelated = Call(list_readers, third)
    assert not unrelated.ended()
    slow.go.set()
    assert exchange.result()[0] == same.result()[0] == unrelated.result() == SUCCESS


def test_who_knows_nothing_is_told_at_once(context: int, reader: str) -> None:
    """Fact 10."""
    code, ((state, _),) = status_change(context, LONG_MS, (reader, 0))
    assert (code, state & 0xFFFF) == (SUCCESS, EMPTY | CHANGED)


def test_the_counter_tells_what_was_missed(pcscd: PrivatePcscd, card: Card, context: int, reader: str) -> None:
    """Fact 10: a state without its counter is not compared."""
    before = state_of(context, reader)
    take_out(pcscd, reader)
    put_in(pcscd, reader, Card())
    code, ((after, _),) = status_change(context, LONG_MS, (reader, before))
    assert (code, counter(after)) == (SUCCESS, counter(before) + 2)
    code, ((after, _),) = status_change(context, SHORT_MS, (reader, before & 0xFFFF))
    assert (code, counter(after)) == (TIMEOUT, counter(before) + 2)


def test_a_counter_of_0_is_blind(pcscd: PrivatePcscd, establish: Establish, reader: str) -> None:
    """Fact 10: what was missed is told by the counter of the time-out alone."""
    pcscd.stop()
    pcscd.start()
    context = establish()
    fresh = state_of(context, reader)
    assert counter(fresh) == 0
    put_in(pcscd, reader, Card())
    take_out(pcscd, reader)
    code, ((state, _),) = status_change(context, SHORT_MS, (reader, fresh))
    assert (code, state) == (TIMEOUT, EMPTY | 2 << 16)


def test_a_release_between_two_looks_is_missed(card: Card, context: int, other: int, reader: str) -> None:
    """Facts 11 and 13: nothing wakes, and the time-out tells of a use that has ended."""
    for _ in rounds():
        card.wait_for_polls(1)
        handle = opened(other, reader, EXCLUSIVE)
        wait = Call(status_change, context, 500, (reader, state_of(context, reader)))
        wait.ended(0.05)  # the look that the card was asked in has most likely ended then
        scard.SCardDisconnect(handle, LEAVE)
        left_in_time = not wait.ended(0)
        code, ((state, _),) = wait.result()
        assert state_of(context, reader) & 0xFFFF == PRESENT
        if left_in_time and code == TIMEOUT:
            break
    assert state & 0xFFFF == PRESENT | IN_EXCLUSIVE_USE


def test_that_somebody_connects_wakes_nobody(card: Card, context: int, other: int, reader: str) -> None:
    """Fact 13."""
    wait = Call(status_change, context, LONG_MS, (reader, state_of(context, reader)))
    opened(other, reader)
    card.wait_for_polls(2)
    assert not wait.ended()
    cancel_until_ended(context, wait)
    assert wait.result()[0] == CANCELLED
    assert state_of(context, reader) & 0xFFFF == PRESENT | INUSE


def test_that_one_of_two_leaves_wakes_nobody(card: Card, context: int, other: int, reader: str) -> None:
    """Fact 13: that the last one leaves wakes who knew of the use."""
    leaves, stays = opened(other, reader), opened(other, reader)
    wait = Call(status_change, context, LONG_MS, (reader, state_of(context, reader)))
    scard.SCardDisconnect(leaves, LEAVE)
    card.wait_for_polls(2)
    assert not wait.ended()
    scard.SCardDisconnect(stays, LEAVE)
    code, ((state, _),) = wait.result()
    assert (code, state & 0xFFFF) == (SUCCESS, PRESENT | CHANGED)


def test_a_polled_driver_takes_its_time(card: Card) -> None:
    """Fact 12: it looks at its reader every 0.4 s, and asks the card once each time."""
    begin = time.monotonic()
    card.wait_for_polls(4)
    assert time.monotonic() - begin > 1.0


def test_nothing_to_wait_for_is_no_wait(context: int) -> None:
    """Fact 15: whatever the timeout, and the context."""
    for handle in (context, context ^ 0xFFFF):
        assert Call(status_change, handle, LONG_MS).result() == (SUCCESS, [])


def test_one_unknown_name_fails_the_whole_call(context: int, reader: str) -> None:
    """Fact 16."""
    code, states = status_change(context, LONG_MS, (reader, 0), ("no such reader", 0))
    assert code == UNKNOWN_READER
    assert [state for state, _ in states] == [0, 0]


def test_how_many_entries_a_call_takes(context: int, reader: str) -> None:
    """Fact 18: 16 before pcsc-lite 2.5."""
    assert status_change(context, 0, *[(reader, 0)] * 16)[0] == SUCCESS
    more = SUCCESS if pcscd_version() >= (2, 5) else INVALID_PARAMETER
    assert status_change(context, 0, *[(reader, 0)] * 17)[0] == more


def test_the_plug_and_play_entry_is_known_and_waits(context: int) -> None:
    """Fact 19: with a state of 0, too."""
    code, ((state, _),) = status_change(context, SHORT_MS, (PNP, 0))
    assert code == TIMEOUT
    assert not state & UNKNOWN


def test_contexts_of_their_own_wait_beside_each_other(pcscd: PrivatePcscd, establish: Establish) -> None:
    """Fact 7: the binding lets other threads run, and each context has its own wait."""
    context, waiting = establish(), []
    states = [(name, state_of(context, name)) for name in pcscd.readers]
    for _ in range(8):
        own = establish()
        waiting.append((own, Call(status_change, own, LONG_MS, *states)))
    assert list_readers(context) == SUCCESS
    for own, wait in waiting:
        cancel_until_ended(own, wait)
        assert wait.result()[0] == CANCELLED
