"""The table of all waiters: cards that were in before, and cards that have only just come."""

from __future__ import annotations

import pytest

from scardface import _queue, _waiters
from scardface._enums import ShareMode
from scardface._queue import Table
from tests.support.waiting import DOWN, OTHER_ATR, Clock, Person, card, empty, look

SHARED = ShareMode.SHARED


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The table's clock."""
    clock = Clock()
    for room in (_queue, _waiters):
        monkeypatch.setattr(room, "time", clock)
    return clock


@pytest.fixture
def table() -> Table:
    """A table with a reader A that has a card."""
    table = Table()
    table.publish(look(A=card(1)))
    return table


# New ones only.


def test_a_card_that_was_in_is_not_offered_to_who_wants_new_ones(table: Table) -> None:
    person, other = Person(table, new_only=True).comes(), Person(table).comes()
    assert (person.woken, other.takes()) == (0, "A")
    other.opens().closes()
    assert person.takes() is None
    table.publish(look(A=empty(2)))
    table.publish(look(A=card(3)))
    assert person.takes() == "A"


def test_a_swap_between_two_looks_brings_a_new_one(table: Table) -> None:
    person = Person(table, new_only=True).comes()
    table.publish(look(A=card(3)))
    assert person.takes() == "A"


def test_the_first_look_says_what_was_in() -> None:
    table = Table()
    person = Person(table, new_only=True).joins()
    table.publish(look(A=card(1)))
    person.gets_ready()
    assert person.takes() is None


def test_who_holds_a_card_or_shares_it_makes_no_new_one(table: Table) -> None:
    person = Person(table, new_only=True).comes()
    table.publish(look(A=card(1, flags=0x180)))
    table.publish(look(A=card(1)))
    assert person.takes() is None


def test_a_restart_of_the_service_makes_no_new_one(table: Table) -> None:
    """Counters begin anew; the card never left."""
    person = Person(table, new_only=True).comes()
    table.publish(look(DOWN))
    table.publish(look(life=2, A=card(0)))
    assert person.takes() is None
    table.publish(look(life=2, A=empty(1)))
    table.publish(look(life=2, A=card(2)))
    assert person.takes() == "A"


def test_another_card_after_a_restart_is_a_new_one(table: Table) -> None:
    person = Person(table, new_only=True).comes()
    table.publish(look(DOWN))
    table.publish(look(life=2, A=card(0, OTHER_ATR)))
    assert person.takes() == "A"


def test_a_reader_that_comes_back_with_a_card_brings_a_new_one(table: Table) -> None:
    person = Person(table, new_only=True).comes()
    table.publish(look())
    table.publish(look(A=card(0)))
    assert person.takes() == "A"


def test_a_new_card_in_another_reader(table: Table) -> None:
    person = Person(table, new_only=True).comes()
    table.publish(look(A=card(1), B=card(1)))
    assert person.takes() == "B"


# Settling.


def test_a_card_settles_before_it_is_opened(table: Table, clock: Clock) -> None:
    table.publish(look(A=empty(2)))
    person = Person(table, settle=0.05).comes()
    assert person.settling == 0
    table.publish(look(A=card(3)))
    assert person.settling == pytest.approx(0.05)
    clock.now += 0.02
    assert person.settling == pytest.approx(0.03)
    clock.now += 0.03
    assert person.settling == 0
    assert person.takes() == "A"


def test_a_card_that_has_been_in_for_long_has_settled(clock: Clock) -> None:
    table = Table()
    table.publish(look(A=card(1)))
    clock.now += 1
    person = Person(table, settle=0.05).comes()
    assert person.settling == 0
    assert person.takes() == "A"


def test_a_bounce_begins_the_time_anew(table: Table, clock: Clock) -> None:
    person = Person(table, settle=0.05).comes()
    clock.now += 0.04
    table.publish(look(A=card(3)))
    assert person.settling == pytest.approx(0.05)
    clock.now += 0.05
    assert person.settling == 0
    assert person.takes() == "A"


def test_a_card_that_left_while_it_settled_is_taken_back(table: Table, clock: Clock) -> None:
    person, other = Person(table, settle=0.05).comes(), Person(table).comes()
    table.publish(look(A=empty(2)))
    clock.now += 0.05
    assert person.settling == 0
    assert person.takes() is None
    table.publish(look(A=card(3)))
    assert other.takes() is None
    assert person.settling == pytest.approx(0.05)


def test_who_does_not_settle_does_not_wait(table: Table, clock: Clock) -> None:
    assert Person(table).comes().settling == 0


# Sharing otherwise.


def test_a_holder_that_shares_from_now_on_lets_others_in(table: Table) -> None:
    holder, second, third = Person(table).comes(), Person(table, SHARED).comes(), Person(table).comes()
    holder.takes()
    holder.opens()
    assert second.takes() is None
    table.reshare(holder.waiter, SHARED)
    assert second.takes() == "A"
    assert third.takes() is None


def test_a_holder_that_is_alone_from_now_on_keeps_others_out(table: Table) -> None:
    holder, second = Person(table, SHARED).comes(), Person(table, SHARED).joins()
    holder.takes()
    holder.opens()
    table.reshare(holder.waiter, ShareMode.EXCLUSIVE)
    second.gets_ready()
    assert second.takes() is None
    holder.closes()
    assert second.takes() == "A"


def test_a_holder_whose_reader_went_holds_nothing(table: Table) -> None:
    """Its handle died with the reader (fact 35)."""
    holder, second = Person(table).comes(), Person(table).comes()
    holder.takes()
    holder.opens()
    table.publish(look())
    table.publish(look(A=card(1)))
    assert second.takes() == "A"
    second.opens()
    holder.closes()
    assert Person(table).comes().takes() is None
