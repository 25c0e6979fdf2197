"""The table of all waiters: who gets which card.

What the rules say, one by one. Refusals are in test_queue_refusals.py, words in test_queue_texts.py; in test_queue_model.py anybody
does anything in any order.
"""

from __future__ import annotations

import gc
import random
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from scardface import _queue, _waiters
from scardface._backend import Context
from scardface._enums import ShareMode
from scardface._events import Reading
from scardface._queue import Table, table_of
from scardface.errors import NO_SMARTCARD, PROTO_MISMATCH, UNKNOWN_READER
from tests.support.waiting import ATR, DOWN, IN_USE, OTHER_ATR, Clock, Person, Watched, card, empty, look, mute

EXCLUSIVE, SHARED, DIRECT = ShareMode.EXCLUSIVE, ShareMode.SHARED, ShareMode.DIRECT


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The table's clock."""
    clock = Clock()
    for room in (_queue, _waiters):
        monkeypatch.setattr(room, "time", clock)
    return clock


@pytest.fixture
def table() -> Table:
    """A table with an empty reader A."""
    table = Table()
    table.publish(look(A=empty()))
    return table


# Who gets a card.


def test_a_card_that_is_in_already_counts(table: Table) -> None:
    table.publish(look(A=card()))
    person = Person(table).comes()
    assert person.woken == 1
    assert person.takes() == "A"


def test_a_card_that_comes_wakes_the_oldest_alone(table: Table) -> None:
    persons = [Person(table).comes() for _ in range(100)]
    assert persons[0].takes() is None
    table.publish(look(A=card()))
    assert [person.woken for person in persons] == [1] + [0] * 99
    assert persons[0].takes() == "A"
    assert persons[1].takes() is None


def test_an_offer_is_taken_once(table: Table) -> None:
    table.publish(look(A=card()))
    person = Person(table).comes()
    assert person.takes() == "A"
    assert person.takes() is None


def test_oldest_first_whatever_they_want(table: Table) -> None:
    """Readers, pattern and share mode make them different; their age is what counts."""
    persons = [
        Person(table, readers=["A", "B"]).comes(),
        Person(table, SHARED, atr=rb"^\x3b").comes(),
        Person(table).comes(),
        Person(table, DIRECT, readers=["A"]).joins(),
        Person(table, readers=["A"]).comes(),
        Person(table, atr=rb"\x81\Z").comes(),
        Person(table, readers=["A", "B"]).comes(),
    ]
    persons[3].gets_ready()
    assert persons[3].takes() == "A"  # it needs no card: this one never waits
    persons[3].opens().closes()
    table.publish(look(A=card()))
    served = []
    for person in [person for person in persons if person is not persons[3]]:
        assert person.takes() == "A"
        served.append(person)
        assert not any(other.waiter.offer for other in persons if other is not person)
        person.opens().closes()
    assert len(served) == len(persons) - 1


def test_a_place_is_taken_when_joining_not_when_ready(table: Table) -> None:
    older, younger = Person(table).joins(), Person(table).joins()
    younger.gets_ready()
    older.gets_ready()
    table.publish(look(A=card()))
    assert older.takes() == "A"
    assert younger.takes() is None


def test_one_that_joins_is_not_overtaken(table: Table) -> None:
    table.publish(look(A=card()))
    older, younger = Person(table).joins(), Person(table, SHARED).joins()
    younger.gets_ready()
    assert younger.woken == 0
    older.gets_ready()
    assert older.takes() == "A"
    assert younger.takes() is None


def test_one_that_joins_and_leaves_lets_the_next_have_it(table: Table) -> None:
    table.publish(look(A=card()))
    older, younger = Person(table).joins(), Person(table).joins()
    younger.gets_ready()
    older.leaves()
    assert younger.takes() == "A"


def test_one_that_joins_keeps_nobody_from_what_it_does_not_want(table: Table) -> None:
    table.publish(look(A=card(), B=card()))
    Person(table, readers=["B"]).joins()
    second = Person(table, readers=["A"]).comes()
    assert second.takes() == "A"
    third = Person(table, readers=["B"]).comes()
    assert third.takes() is None


def test_one_that_joins_later_keeps_nobody_waiting(table: Table) -> None:
    table.publish(look(A=card()))
    older, younger = Person(table).joins(), Person(table).joins()
    older.gets_ready()
    assert older.takes() == "A"
    younger.leaves()


def test_one_that_joins_with_another_pattern(table: Table) -> None:
    """It keeps the card while its pattern has not spoken, and no longer."""
    table.publish(look(A=card()))
    joining = Person(table, atr=b"no such ATR").joins()
    younger = Person(table).comes()
    joining.gets_ready()
    assert joining.takes() is None
    assert younger.takes() == "A"


def test_one_that_joins_with_a_pattern_that_does_not_match(table: Table) -> None:
    """It is known by others' waits: this card is not for it."""
    table.publish(look(A=card()))
    assert Person(table, atr=rb"^\x3f").comes().takes() is None
    Person(table, atr=rb"^\x3f").joins()
    assert Person(table).comes().takes() == "A"


def test_several_cards_come_in_the_order_of_the_reader_list(table: Table) -> None:
    table.publish(look(C=card(), A=card(), B=card()))
    assert [Person(table).comes().takes() for _ in range(4)] == ["C", "A", "B", None]


def test_the_order_is_that_of_the_latest_list(table: Table) -> None:
    table.publish(look(A=empty(), B=empty()))
    table.publish(look(B=card(), A=card()))
    assert [Person(table).comes().takes() for _ in range(2)] == ["B", "A"]


def test_one_person_gets_one_card(table: Table) -> None:
    first, second = Person(table).comes(), Person(table).comes()
    table.publish(look(A=card(), B=card()))
    assert (first.takes(), second.takes()) == ("A", "B")
    first.opens()
    table.publish(look(A=card(), B=card(), C=card()))
    assert first.takes() is None


def test_only_readers_that_are_watched(table: Table) -> None:
    person = Person(table, readers=["B"]).comes()
    table.publish(look(A=card(), B=empty()))
    assert person.takes() is None
    table.publish(look(A=card(), B=card()))
    assert person.takes() == "B"


def test_only_cards_whose_atr_matches(table: Table) -> None:
    person = Person(table, atr=rb"^\x3b").comes()
    table.publish(look(A=card(atr=OTHER_ATR)))
    assert person.takes() is None
    table.publish(look(A=card(2)))
    assert person.takes() == "A"


@pytest.mark.parametrize("reading", [mute(), empty()], ids=["mute", "empty"])
def test_a_card_that_does_not_answer_is_no_card(table: Table, reading: Reading) -> None:
    table.publish(look(A=reading))
    assert Person(table).comes().takes() is None
    assert Person(table, SHARED).comes().takes() is None
    assert Person(table, DIRECT).comes().takes() == "A"


def test_a_reader_alone_is_enough_for_direct(table: Table) -> None:
    direct = Person(table, DIRECT, readers=["B"]).comes()
    assert direct.takes() is None
    table.publish(look(A=empty(), B=empty()))
    assert direct.takes() == "B"


def test_a_card_that_leaves_before_it_was_taken(table: Table) -> None:
    """The offer stands, and the connect finds out."""
    table.publish(look(A=card()))
    first, second = Person(table).comes(), Person(table).comes()
    table.publish(look(A=empty(1)))
    assert first.takes() == "A"
    first.fails(NO_SMARTCARD)
    assert second.takes() is None
    table.publish(look(A=card(2)))
    assert first.takes() == "A"
    assert second.takes() is None


def test_a_reader_that_leaves_and_comes_back(table: Table) -> None:
    table.publish(look(A=card()))
    person = Person(table).comes()
    assert person.takes() == "A"
    table.publish(look())
    person.fails(UNKNOWN_READER)
    assert person.takes() is None
    table.publish(look(A=card(0)))
    assert person.takes() == "A"


def test_who_comes_while_a_card_is_being_opened_waits(table: Table) -> None:
    table.publish(look(A=card()))
    first = Person(table).comes()
    assert first.takes() == "A"
    second = Person(table).comes()
    table.publish(look(A=card(2)))
    assert second.takes() is None
    first.opens()
    assert second.takes() is None


# Sharing within the process.


def test_shared_holders_coexist(table: Table) -> None:
    table.publish(look(A=card()))
    persons = [Person(table, SHARED).comes() for _ in range(3)]
    for person in persons:
        assert person.takes() == "A"
        person.opens()
    late = Person(table, DIRECT).comes()
    assert late.takes() == "A"


def test_exclusive_has_nobody_beside_it(table: Table) -> None:
    table.publish(look(A=card()))
    holder = Person(table).comes()
    assert holder.takes() == "A"
    holder.opens()
    others = [Person(table, share).comes() for share in (SHARED, EXCLUSIVE, DIRECT)]
    table.publish(look(A=card(flags=IN_USE)))
    table.publish(look(A=card()))
    assert [other.takes() for other in others] == [None] * 3
    assert [other.retry_at for other in others] == [None] * 3
    holder.closes()
    assert [other.takes() for other in others] == ["A", None, None]


def test_exclusive_makes_later_shared_ones_queue(table: Table) -> None:
    table.publish(look(A=card()))
    holders = [Person(table, SHARED).comes() for _ in range(2)]
    for holder in holders:
        assert holder.takes() == "A"
        holder.opens()
    exclusive, shared = Person(table).comes(), Person(table, SHARED).comes()
    assert (exclusive.takes(), shared.takes()) == (None, None)
    holders[0].closes()
    assert (exclusive.takes(), shared.takes()) == (None, None)
    holders[1].closes()
    assert (exclusive.takes(), shared.takes()) == ("A", None)
    exclusive.opens()
    assert shared.takes() is None
    exclusive.closes()
    assert shared.takes() == "A"


def test_shared_ones_go_on_when_the_exclusive_one_before_them_leaves(table: Table) -> None:
    table.publish(look(A=card()))
    holder = Person(table, SHARED).comes()
    assert holder.takes() == "A"
    holder.opens()
    exclusive, shared = Person(table).comes(), Person(table, SHARED).comes()
    assert shared.takes() is None
    exclusive.leaves()
    assert shared.takes() == "A"


@pytest.mark.parametrize("names", [("A", "B"), ("B", "A")], ids=["the card before", "the card behind"])
def test_shared_ones_go_on_when_the_exclusive_one_before_them_gets_another_card(table: Table, names: tuple[str, str]) -> None:
    """Its connect there may be blocked for long (fact 4)."""
    shared_name, other_name = names
    table.publish(look(**{name: card() for name in sorted(names)}))
    holder, leaving = Person(table, SHARED, readers=[shared_name]).comes(), Person(table, readers=[other_name]).comes()
    assert (holder.takes(), leaving.takes()) == names
    holder.opens()
    exclusive, shared = Person(table).comes(), Person(table, SHARED).comes()
    leaving.leaves()
    leaving.gives_back()
    assert exclusive.takes() == other_name
    assert shared.takes() == shared_name


def test_a_card_that_is_freed_is_offered_on_at_once(table: Table) -> None:
    table.publish(look(A=card(flags=IN_USE)))
    first, second = Person(table).comes(), Person(table).comes()
    assert first.takes() == "A"
    first.opens()
    assert second.woken == 0
    first.closes()
    assert second.woken == 1
    assert second.takes() == "A"


def test_freed_twice(table: Table) -> None:
    table.publish(look(A=card()))
    first = Person(table).comes()
    assert first.takes() == "A"
    first.opens().closes()
    second = Person(table).comes()
    assert second.takes() == "A"
    second.opens()
    first.closes()
    assert Person(table).comes().takes() is None


def test_an_open_card_that_was_taken_out_still_holds_its_reader(table: Table) -> None:
    """PC/SC refuses others for as long as the old handle is open (SHARING_VIOLATION, tried with pcscd 1.9.9)."""
    table.publish(look(A=card()))
    holder, other = Person(table).comes(), Person(table).comes()
    assert holder.takes() == "A"
    holder.opens()
    table.publish(look(A=empty(2)))
    table.publish(look(A=card(3)))
    assert other.takes() is None
    holder.closes()
    assert other.takes() == "A"


@pytest.mark.parametrize("readers", [{"A": empty(2)}, {}], ids=["card out", "reader gone"])
def test_an_open_card_that_was_taken_out_is_closed_before_the_next_comes(table: Table, readers: dict[str, Reading]) -> None:
    table.publish(look(A=card()))
    holder, other = Person(table).comes(), Person(table).comes()
    assert holder.takes() == "A"
    holder.opens()
    table.publish(look(None, 1, **readers))
    holder.closes()
    table.publish(look(A=card(3)))
    assert other.takes() == "A"


def test_a_reader_that_went_is_not_offered_when_a_connect_in_it_returns(table: Table) -> None:
    table.publish(look(A=card()))
    first, second = Person(table).comes(), Person(table).comes()
    assert first.takes() == "A"
    table.publish(look())
    first.leaves()
    first.gives_back()
    assert second.takes() is None


def test_a_card_given_back_is_offered_again(table: Table) -> None:
    table.publish(look(A=card()))
    person = Person(table).comes()
    assert person.takes() == "A"
    person.gives_back()
    assert person.takes() == "A"


# Leaving.


@pytest.mark.parametrize("taken", [False, True], ids=["offered", "connecting"])
def test_who_leaves_lets_the_next_have_it(table: Table, taken: bool) -> None:
    """A connect in flight keeps the reader until it returns; an offer that was not taken goes on at once."""
    table.publish(look(A=card()))
    first, second = Person(table).comes(), Person(table).comes()
    if taken:
        assert first.takes() == "A"
        first.leaves()
        assert second.takes() is None
        first.gives_back()
    else:
        first.leaves()
        assert first.takes() is None
    assert second.takes() == "A"


def test_a_connect_that_fails_after_its_waiter_left_is_not_held_against_the_next(table: Table, clock: Clock) -> None:
    table.publish(look(A=card()))
    first, second = Person(table).comes(), Person(table).comes()
    assert first.takes() == "A"
    first.leaves()
    first.fails()
    assert second.takes() == "A"
    assert first.retry_at is None


def test_a_connect_in_flight_keeps_a_reader_that_went_and_came_back(table: Table) -> None:
    """One connect per reader, so a frozen daemon costs a bounded number of threads."""
    table.publish(look(A=card()))
    first, second = Person(table).comes(), Person(table).comes()
    assert first.takes() == "A"
    first.leaves()
    table.publish(look())
    table.publish(look(A=card(0)))
    table.publish(look(error=DOWN))
    table.publish(look(life=2, A=card(5)))
    assert second.takes() is None
    first.fails(UNKNOWN_READER)
    assert second.takes() == "A"


def test_leaving_twice_and_leaving_with_a_card_change_nothing(table: Table) -> None:
    table.publish(look(A=card()))
    first, second = Person(table).comes(), Person(table).comes()
    second.leaves()
    second.leaves()
    assert first.takes() == "A"
    first.opens().leaves()
    assert Person(table).comes().takes() is None


def test_who_left_is_not_offered_anything(table: Table) -> None:
    first, second = Person(table).comes(), Person(table).comes()
    first.leaves()
    table.publish(look(A=card()))
    assert first.woken == 0
    assert second.takes() == "A"


# The service.


def test_nothing_is_offered_while_the_service_is_down(table: Table) -> None:
    table.publish(look(error=DOWN, A=card()))
    exclusive, direct = Person(table).comes(), Person(table, DIRECT).comes()
    assert (exclusive.takes(), direct.takes()) == (None, None)
    table.publish(look(life=2, A=card()))
    assert exclusive.takes() == "A"


def test_sessions_die_with_the_service(table: Table) -> None:
    table.publish(look(A=card()))
    holder, other = Person(table).comes(), Person(table).comes()
    assert holder.takes() == "A"
    holder.opens()
    table.publish(look(error=DOWN, A=card()))
    table.publish(look(life=2, A=card()))
    assert other.takes() == "A"
    other.opens()
    holder.closes()
    assert Person(table).comes().takes() is None


def test_a_session_that_died_while_it_was_opened_holds_nothing(table: Table) -> None:
    table.publish(look(A=card()))
    first, second = Person(table).comes(), Person(table).comes()
    assert first.takes() == "A"
    table.publish(look(error=DOWN, A=card()))
    first.opens()
    table.publish(look(life=2, A=card()))
    assert second.takes() == "A"


def test_a_refusal_is_forgotten_with_the_service(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(flags=IN_USE)))
    person = Person(table).comes()
    assert person.takes() == "A"
    person.fails()
    table.publish(look(error=DOWN, A=card(flags=IN_USE)))
    assert person.retry_at is None
    table.publish(look(life=2, A=card(flags=IN_USE)))
    assert person.takes() == "A"


# Loops that are gone.


def test_a_waiter_of_a_dead_loop_does_not_keep_the_card(table: Table) -> None:
    dead, alive = Person(table, alive=False).comes(), Person(table).comes()
    table.publish(look(A=card()))
    assert dead.woken == 1
    assert dead.takes() is None
    assert alive.takes() == "A"


def test_many_waiters_of_a_dead_loop_do_not_keep_the_card(table: Table) -> None:
    dead = [Person(table, alive=False).comes() for _ in range(2000)]
    alive = Person(table).comes()
    table.publish(look(A=card(), B=card()))
    assert alive.takes() == "A"
    assert {person.woken for person in dead} == {1}


# Patterns are users' code.


def test_patterns_are_matched_outside_the_lock(table: Table) -> None:
    """`Watched` fails when it is asked under the lock: at the join, when ready, when a card comes, at the time-out."""
    table.publish(look(A=card()))
    patterns = [Watched(table) for _ in range(4)]
    joining = Person(table, atr=patterns[0]).joins()
    Person(table, readers=["A"], atr=patterns[1]).comes()
    joining.gets_ready()
    assert joining.takes() == "A"
    waiting = Person(table, readers=["B"], atr=patterns[2]).comes()
    table.publish(look(A=card(), B=card(atr=OTHER_ATR)))
    assert waiting.takes() == "B"
    assert Person(table, readers=["A"], atr=patterns[3]).comes().seen
    assert patterns[0].asked == [ATR]
    assert patterns[2].asked == [OTHER_ATR]


def test_a_pattern_is_asked_once_per_atr(table: Table) -> None:
    pattern = Watched(table)
    persons = [Person(table, atr=pattern).comes() for _ in range(5)]
    for counter in range(1, 20, 2):
        table.publish(look(A=card(counter), B=card(counter, OTHER_ATR)))
        table.publish(look(A=empty(counter + 1), B=empty(counter + 1)))
    for person in persons:
        assert person.seen
    assert sorted(pattern.asked) == sorted([ATR, OTHER_ATR])


def test_what_is_remembered_of_patterns_is_bounded(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_queue, "_MOST_VERDICTS", 4)
    person = Person(table, atr=rb"^\x3b").comes()
    for number in range(50):
        table.publish(look(A=card(2 * number, bytes([0x3F, number]))))
        assert len(table._verdicts) <= 6
    table.publish(look(A=card(200)))
    assert person.takes() == "A"


def test_an_older_waiter_is_not_overtaken_while_its_pattern_is_matched(table: Table) -> None:
    older, younger = Person(table, atr=rb"^\x3b").comes(), Person(table).comes()
    table.publish(look(A=card()))
    assert younger.woken == 0
    assert older.takes() == "A"


# One table for each PC/SC; many waiters.


class _Backend:
    max_entries = 16
    absent_service_means_no_reader = False

    def establish(self) -> Context:
        raise NotImplementedError


def test_one_table_for_each_pcsc() -> None:
    first, second = _Backend(), _Backend()
    table = table_of(first)
    assert table_of(first) is table
    assert table_of(second) is not table
    ends = weakref.ref(table)
    del table, first
    gc.collect()
    assert ends() is None


def in_order(persons: list[Person]) -> list[Person]:
    return persons


def backwards(persons: list[Person]) -> list[Person]:
    return persons[::-1]


def two_loops(persons: list[Person]) -> list[Person]:
    return persons[len(persons) // 2 :] + persons[: len(persons) // 2]


def any_order(persons: list[Person]) -> list[Person]:
    return random.Random(7816).sample(persons, len(persons))


@pytest.mark.parametrize("order", [in_order, backwards, two_loops, any_order], ids=lambda order: order.__name__)
def test_ten_thousand_waiters_cost_no_quadratic_time(table: Table, order: Callable[[list[Person]], list[Person]]) -> None:
    """On the machine that this was written on each of these takes 0.05 to 0.1 s; a quadratic way took 8 s."""
    persons = [Person(table) for _ in range(10_000)]
    begin = time.monotonic()
    for person in persons:
        person.joins()
    for person in order(persons):
        person.gets_ready()
    table.publish(look(A=card(), B=card(2, OTHER_ATR)))
    for person in persons[:2]:
        assert person.takes()
        person.opens()
    for person in order(persons):
        person.leaves()
    assert time.monotonic() - begin < 5  # traced and on a busy machine it was seen to take 1.8 s
    assert sum(person.woken for person in persons) == 2


def test_ten_thousand_are_served_one_after_the_other(table: Table) -> None:
    persons = [Person(table).comes() for _ in range(10_000)]
    table.publish(look(A=card()))
    begin = time.monotonic()
    for person in persons:
        assert person.takes() == "A"
        person.opens().closes()
    assert time.monotonic() - begin < 3
    assert {person.woken for person in persons} == {1}


def test_threads_that_come_and_go_together(table: Table) -> None:
    """Every acquisition of every thread ends with the card, and an exclusive one has it alone."""
    table.publish(look(A=card()))
    inside: list[ShareMode] = []
    failures: list[str] = []

    def visit() -> None:
        for number in range(60):
            person = Rung(table, EXCLUSIVE if number % 3 else SHARED)
            person.comes()
            if number % 5 == 0:
                person.leaves()
                if person.takes() is not None:
                    failures.append("offered after leaving")
                continue
            if not person.waits():
                failures.append("never woken")
                return
            if number == 7:
                person.fails(PROTO_MISMATCH).leaves()
                continue
            person.opens()
            inside.append(person.waiter.share)
            beside = list(inside)
            if len(beside) > 1 and EXCLUSIVE in beside:
                failures.append("two at once")
            inside.remove(person.waiter.share)
            person.closes()

    threads = [threading.Thread(target=visit, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert not any(thread.is_alive() for thread in threads)


class Rung(Person):
    """A person in a thread, with a bell."""

    def __init__(self, table: Table, share: ShareMode) -> None:
        super().__init__(table, share)
        self.bell = threading.Event()

    def wake(self) -> bool:
        self.bell.set()
        return super().wake()

    def waits(self) -> bool:
        """What an acquisition does until a card is offered; whether one was within 30 s."""
        end = time.monotonic() + 30
        while self.takes() is None:
            at = self.retry_at
            if time.monotonic() > end:
                return False
            self.bell.wait(1.0 if at is None else max(0.0, at - time.monotonic()))
            self.bell.clear()
            self.retries()
        return True


def test_a_fork_forgets_all_tables() -> None:
    backend = _Backend()
    table = table_of(backend)
    tables, lock = _queue._tables, _queue._tables_lock
    try:
        _queue._forget()
        assert _queue._tables_lock is not lock, "another thread may have held it"
        assert table_of(backend) is not table
    finally:
        _queue._tables, _queue._tables_lock = tables, lock
    assert table_of(backend) is table
