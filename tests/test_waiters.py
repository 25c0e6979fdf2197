"""What the waiters' table is made of. What it does with all that is in test_queue.py."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scardface import _waiters
from scardface._enums import ShareMode
from scardface._queue import Table
from scardface._waiters import RETRY, Line, Slot, Waiter, can_try_again, forgive, may_try, refuse, tries_again, wish_of
from scardface.errors import SHARING_VIOLATION, UNPOWERED_CARD, error_for
from tests.support.waiting import Person

EXCLUSIVE, SHARED, DIRECT = ShareMode.EXCLUSIVE, ShareMode.SHARED, ShareMode.DIRECT
HELD = error_for(SHARING_VIOLATION, "SCardConnect", "A")
OTHER = error_for(UNPOWERED_CARD, "SCardConnect", "A")


def waiter(share: ShareMode = EXCLUSIVE, ticket: int = 1) -> Waiter:
    made = Person(Table(), share).waiter
    made.ticket = ticket
    return made


@given(st.lists(st.tuples(st.integers(0, 15), st.booleans())))
def test_a_line_is_in_the_order_of_the_tickets(steps: list[tuple[int, bool]]) -> None:
    waiters = [waiter(ticket=number) for number in range(16)]
    line, there = Line(), set[int]()
    for number, comes in steps:
        if comes and number not in there:
            line.add(waiters[number])
            there.add(number)
        elif not comes:
            line.discard(waiters[number])
            there.discard(number)
        assert [one.ticket for one in line] == sorted(there)
        assert len(line) == len(there)
        assert bool(line) is bool(there)


def test_a_long_line() -> None:
    """0.05 s on the machine that this was written on."""
    waiters = [waiter(ticket=number) for number in range(10_000)]
    line = Line()
    begin = time.monotonic()
    for one in reversed(waiters):
        line.add(one)
    for one in random.Random(3).sample(waiters, len(waiters)):
        line.discard(one)
    assert time.monotonic() - begin < 1
    assert not line


def test_like_waiters_have_like_wishes() -> None:
    table = Table()
    ones = [Person(table, SHARED, readers=["A", "B"], atr=b";").waiter for _ in range(2)]
    for one in ones:
        one.readers = frozenset(["A", "B"])
    assert wish_of(ones[0]) == wish_of(ones[1])
    assert hash(wish_of(ones[0])) == hash(wish_of(ones[1]))
    others = [Person(table, SHARED, atr=b";").waiter, Person(table, atr=b";").waiter, Person(table, SHARED).waiter]
    assert len({wish_of(one) for one in [*ones, *others]}) == 4


def test_how_a_waiter_wants_the_card() -> None:
    assert waiter(SHARED).share is SHARED


@pytest.mark.parametrize(
    ("share", "error", "refused"),
    [
        (EXCLUSIVE, HELD, {EXCLUSIVE}),
        (SHARED, HELD, {EXCLUSIVE, SHARED, DIRECT}),
        (DIRECT, HELD, {EXCLUSIVE, SHARED, DIRECT}),
        (EXCLUSIVE, OTHER, {EXCLUSIVE, SHARED, DIRECT}),
        (EXCLUSIVE, RuntimeError(), {EXCLUSIVE, SHARED, DIRECT}),
    ],
)
def test_who_would_fail_again(share: ShareMode, error: Exception, refused: set[ShareMode]) -> None:
    slot = Slot("A")
    refuse(slot, waiter(share), error)
    assert slot.refused == refused
    assert slot.foreign is (error is HELD)


def test_a_second_refusal_adds_to_the_first() -> None:
    slot, first, second = Slot("A"), waiter(ticket=1), waiter(SHARED, ticket=2)
    refuse(slot, first, HELD)
    refuse(slot, second, OTHER)
    assert slot.refused == {EXCLUSIVE, SHARED, DIRECT}
    assert slot.foreign
    assert slot.retrier is first, "the one who failed first"
    forgive(slot)
    assert (slot.refused, slot.foreign, slot.retrier) == (frozenset(), False, None)


@pytest.mark.parametrize("why", ["left", "offered another", "holders beside"])
def test_the_next_who_fails_tries_again_when_the_first_cannot(why: str) -> None:
    slot, first, second = Slot("A"), waiter(ticket=1), waiter(SHARED, ticket=2)
    refuse(slot, first, HELD)
    if why == "left":
        first.left = True
    elif why == "offered another":
        first.offer = Slot("B")
    else:
        slot.holders.add(waiter(SHARED, ticket=3))
    assert not can_try_again(first, slot)
    assert not tries_again(first, slot)
    refuse(slot, second, HELD)
    assert slot.retrier is second
    assert tries_again(second, slot)


def test_the_time_of_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 5.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(_waiters, "time", clock)
    slot = Slot("A")
    refuse(slot, waiter(), HELD)
    assert slot.retry_at == 5.0 + RETRY
    clock.now = 7.0
    refuse(slot, waiter(), HELD)
    assert slot.retry_at == 7.0 + RETRY


def test_one_try_each_with_timeout_0() -> None:
    a, b, one = Slot("A"), Slot("B"), waiter()
    one.tried = set()
    assert may_try(one, a)
    refuse(a, one, OTHER)
    assert (may_try(one, a), may_try(one, b)) == (False, True)
    one.offer = b
    assert not may_try(one, b)
    other = waiter()
    refuse(a, other, OTHER)
    assert may_try(other, a), "tried as often as need be"
