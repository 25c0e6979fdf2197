"""The table of all waiters: cards that cannot be opened just now, who tries them again and when.

PC/SC does not report that another program let a card go (facts 11 and 13): one waiter for each card tries, four times a second.
"""

from __future__ import annotations

import pytest

from scardface import _queue, _waiters
from scardface._enums import ShareMode, StateFlag
from scardface._events import Reading
from scardface._queue import Table
from scardface._waiters import RETRY
from scardface.errors import NO_SMARTCARD, PROTO_MISMATCH, UNKNOWN_READER, UNPOWERED_CARD
from tests.support.waiting import IN_USE, OTHER_ATR, Clock, Person, card, empty, look

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


# Cards that other programs hold.


def test_a_held_card_is_tried_again_after_a_quarter_of_a_second(table: Table, clock: Clock) -> None:
    assert RETRY == 0.25
    table.publish(look(A=card(flags=IN_USE)))
    person = Person(table).comes()
    assert person.retry_at is None
    assert person.takes() == "A"
    person.fails()
    assert person.takes() is None
    assert person.retry_at == clock.now + 0.25
    clock.now += 0.2
    person.retries()
    assert person.takes() is None
    clock.now += 0.06
    person.retries()
    assert person.takes() == "A"
    assert person.retry_at is None
    person.opens()
    assert person.retry_at is None


def test_one_of_all_tries_again_and_all_keep_their_places(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(flags=IN_USE)))
    persons = [Person(table).comes() for _ in range(3)]
    for _ in range(3):
        assert persons[0].takes() == "A"
        persons[0].fails()
        assert [person.retry_at for person in persons] == [clock.now + RETRY, None, None]
        assert [person.takes() for person in persons] == [None] * 3
        for person in reversed(persons):
            person.retries()
        assert [person.takes() for person in persons] == [None] * 3
        clock.now += RETRY
        for person in reversed(persons):
            table.retry(person.waiter)
    assert [person.woken for person in persons] == [4, 0, 0]


def test_nobody_else_tries_when_it_is_time(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(flags=IN_USE)))
    first, second = Person(table).comes(), Person(table).comes()
    assert first.takes() == "A"
    first.fails()
    clock.now += RETRY
    table.retry(second.waiter)
    assert (first.takes(), second.takes()) == (None, None)
    first.retries()
    assert first.takes() == "A"


def test_who_comes_later_does_not_try_a_card_that_is_known_to_be_held(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(flags=IN_USE)))
    first = Person(table).comes()
    assert first.takes() == "A"
    first.fails()
    late = Person(table, readers=["A"]).comes()
    assert late.takes() is None
    assert late.retry_at is None


def test_shared_ones_pass_an_exclusive_one_that_was_turned_away(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(flags=StateFlag.INUSE)))
    exclusive, shared, another = Person(table).comes(), Person(table, SHARED).comes(), Person(table, SHARED).comes()
    assert exclusive.takes() == "A"
    exclusive.fails()
    for passing in (shared, another):
        assert passing.takes() == "A"
        passing.opens()
    shared.closes()
    assert exclusive.takes() is None
    another.closes()
    assert exclusive.takes() == "A"


def test_the_last_shared_one_that_closes_lets_the_exclusive_one_try(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(flags=StateFlag.INUSE)))
    exclusive, shared = Person(table).comes(), Person(table, SHARED).comes()
    assert exclusive.takes() == "A"
    exclusive.fails()
    assert shared.takes() == "A"
    shared.opens().closes()
    assert exclusive.takes() == "A"


def test_a_shared_one_tries_again_beside_holders_of_ours_past_an_exclusive_one(table: Table, clock: Clock) -> None:
    """The exclusive one, turned away by another program, cannot have it anyway."""
    table.publish(look(A=card(flags=StateFlag.INUSE)))
    exclusive, holder, shared = Person(table).comes(), Person(table, SHARED).comes(), Person(table, SHARED).comes()
    assert exclusive.takes() == "A"
    exclusive.fails()
    assert holder.takes() == "A"
    holder.opens()
    assert shared.takes() == "A"
    shared.fails(UNPOWERED_CARD)
    clock.now += RETRY
    exclusive.retries()
    shared.retries()
    assert (exclusive.takes(), shared.takes()) == (None, "A")


def test_an_exclusive_one_that_no_program_turned_away_is_not_passed(table: Table, clock: Clock) -> None:
    """The card was refused for another reason, and to a SHARED one."""
    table.publish(look(A=card()))
    holder, first = Person(table, SHARED).comes(), Person(table, SHARED).comes()
    exclusive, second = Person(table).comes(), Person(table, SHARED).comes()
    assert holder.takes() == "A"
    holder.opens()
    assert first.takes() == "A"
    first.fails(UNPOWERED_CARD)
    clock.now += RETRY
    first.retries()
    assert first.takes() == "A"
    first.opens()
    assert (exclusive.takes(), second.takes()) == (None, None)


def test_the_exclusive_one_comes_first_again_when_its_time_has_come(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(flags=StateFlag.INUSE)))
    exclusive = Person(table).comes()
    assert exclusive.takes() == "A"
    exclusive.fails()
    clock.now += RETRY
    exclusive.retries()
    shared = Person(table, SHARED).comes()
    assert (exclusive.takes(), shared.takes()) == ("A", None)
    exclusive.fails()
    assert shared.takes() == "A"


def test_an_exclusive_one_does_not_try_beside_holders_of_ours(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(flags=StateFlag.INUSE)))
    exclusive, shared = Person(table).comes(), Person(table, SHARED).comes()
    assert exclusive.takes() == "A"
    exclusive.fails()
    assert shared.takes() == "A"
    shared.opens()
    clock.now += RETRY
    assert exclusive.retry_at is None
    exclusive.retries()
    assert exclusive.takes() is None
    third = Person(table, SHARED).comes()
    assert third.takes() == "A"


def test_nobody_passes_when_sharing_was_refused_too(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(flags=IN_USE)))
    first, second, third = (Person(table, share).comes() for share in (SHARED, SHARED, EXCLUSIVE))
    assert first.takes() == "A"
    first.fails()
    assert (second.takes(), third.takes()) == (None, None)
    assert first.retry_at == clock.now + RETRY


def test_a_card_refused_beside_holders_of_ours_is_tried_again(table: Table, clock: Clock) -> None:
    """Another program's Disconnect(UNPOWER) fails new connects only (fact 29)."""
    table.publish(look(A=card()))
    holder, shared = Person(table, SHARED).comes(), Person(table, SHARED).comes()
    assert holder.takes() == "A"
    holder.opens()
    assert shared.takes() == "A"
    shared.fails(UNPOWERED_CARD)
    assert shared.takes() is None
    assert shared.retry_at == clock.now + RETRY
    clock.now += RETRY
    shared.retries()
    assert shared.takes() == "A"


@pytest.mark.parametrize("code", [NO_SMARTCARD, UNPOWERED_CARD, UNKNOWN_READER])
def test_other_refusals_keep_everybody_away_until_the_next_try(table: Table, clock: Clock, code: int) -> None:
    table.publish(look(A=card()))
    first, second = Person(table).comes(), Person(table, SHARED).comes()
    assert first.takes() == "A"
    first.fails(code)
    assert (first.takes(), second.takes()) == (None, None)
    clock.now += RETRY
    first.retries()
    assert (first.takes(), second.takes()) == ("A", None)


@pytest.mark.parametrize(
    "reading",
    [card(2, flags=IN_USE), card(1, OTHER_ATR, IN_USE), card(1), card(1, flags=StateFlag.INUSE)],
    ids=["counter", "ATR", "both flags fell", "EXCLUSIVE fell"],
)
def test_a_change_of_the_reader_is_a_reason_to_try_at_once(table: Table, clock: Clock, reading: Reading) -> None:
    table.publish(look(A=card(flags=IN_USE)))
    first, second = Person(table).comes(), Person(table).comes()
    assert first.takes() == "A"
    first.fails()
    table.publish(look(A=reading))
    assert first.takes() == "A"
    assert second.takes() is None


@pytest.mark.parametrize("reading", [card(1), card(1, flags=IN_USE)], ids=["the same", "a flag rose"])
def test_anything_else_is_none(table: Table, clock: Clock, reading: Reading) -> None:
    table.publish(look(A=card(1)))
    person = Person(table).comes()
    assert person.takes() == "A"
    person.fails()
    table.publish(look(A=reading))
    assert person.takes() is None
    assert person.retry_at == clock.now + RETRY


def test_a_card_that_came_back_is_another_one(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(flags=IN_USE)))
    person = Person(table).comes()
    assert person.takes() == "A"
    person.fails()
    table.publish(look(A=empty(2)))
    assert person.retry_at is None
    assert person.takes() is None
    table.publish(look(A=card(3)))
    assert person.takes() == "A"


def test_the_duty_to_retry_passes_on_when_the_retrier_leaves(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(flags=IN_USE)))
    first, second = Person(table).comes(), Person(table).comes()
    assert first.takes() == "A"
    first.fails()
    first.leaves()
    take_over(second, clock)


def test_the_duty_to_retry_passes_on_when_the_retrier_gets_another_card(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(flags=IN_USE), B=empty()))
    first, second = Person(table).comes(), Person(table, readers=["A"]).comes()
    assert first.takes() == "A"
    first.fails()
    table.publish(look(A=card(flags=IN_USE), B=card()))
    assert first.takes() == "B"
    first.opens().leaves()
    take_over(second, clock)


def test_the_duty_to_retry_passes_on_while_the_retrier_connects_elsewhere(table: Table, clock: Clock) -> None:
    """Its connect may be blocked for as long as another program's transaction lasts (fact 4)."""
    table.publish(look(A=card(flags=IN_USE), B=empty()))
    first, second = Person(table).comes(), Person(table, readers=["A"]).comes()
    assert first.takes() == "A"
    first.fails()
    table.publish(look(A=card(flags=IN_USE), B=card()))
    assert first.takes() == "B"
    take_over(second, clock)


def take_over(person: Person, clock: Clock) -> None:
    """Whoever has the duty is offered the card within a quarter of a second."""
    clock.now += RETRY
    person.retries()
    assert person.takes() == "A"
    person.fails()
    assert person.retry_at == clock.now + RETRY


def test_the_duty_stays_when_nobody_else_can_have_it(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(flags=IN_USE), B=empty()))
    first, second = Person(table).comes(), Person(table, readers=["B"]).comes()
    assert first.takes() == "A"
    first.fails()
    table.publish(look(A=card(flags=IN_USE), B=card(atr=OTHER_ATR)))
    assert first.takes() == "B"
    first.fails(NO_SMARTCARD)
    clock.now += RETRY
    assert second.retry_at is None
    first.retries()
    assert first.takes() == "A"


def test_two_held_cards_are_tried_four_times_a_second_and_not_in_a_circle(table: Table, clock: Clock) -> None:
    person = Person(table).comes()
    table.publish(look(A=card(flags=IN_USE), B=card(flags=IN_USE)))
    tries: list[str] = []
    for _ in range(3):
        while (reader := person.takes()) is not None:
            tries.append(reader)
            assert len(tries) <= 6, "tried again without a pause"
            person.fails()
        assert person.retry_at == clock.now + RETRY
        clock.now += RETRY
        person.retries()
    assert sorted(tries) == ["A"] * 3 + ["B"] * 3


def test_many_held_cards_are_tried_four_times_a_second_by_many(table: Table, clock: Clock) -> None:
    names = [f"R{number:02}" for number in range(8)]
    persons = [Person(table).comes() for _ in range(5)]
    table.publish(look(**{name: card(flags=IN_USE) for name in names}))
    rounds = 4
    tries = dict.fromkeys(names, 0)
    for _ in range(rounds):
        moved = True
        while moved:
            moved = False
            for person in persons:
                if (reader := person.takes()) is not None:
                    tries[reader] += 1
                    assert tries[reader] <= 2 * rounds, "tried again without a pause"
                    person.fails()
                    moved = True
        clock.now += RETRY
        for person in persons:
            person.retries()
    assert min(tries.values()) >= rounds


@pytest.mark.parametrize("flags", [0, IN_USE], ids=["nothing", "a flag rose"])
def test_a_reader_that_is_held_without_a_card_is_tried_again(table: Table, clock: Clock, flags: int) -> None:
    """DIRECT needs no card, and another program may have the reader open for itself."""
    direct = Person(table, DIRECT).comes()
    assert direct.takes() == "A"
    direct.fails()
    table.publish(look(A=empty(0, flags)))
    assert direct.retry_at == clock.now + RETRY
    clock.now += RETRY
    direct.retries()
    assert direct.takes() == "A"


def test_nobody_spins_beside_a_connect_in_flight(table: Table, clock: Clock) -> None:
    """Whoever is told a time to try again is not told the same one again when it has passed."""
    table.publish(look(A=card(flags=StateFlag.INUSE)))
    exclusive = Person(table).comes()
    assert exclusive.takes() == "A"
    exclusive.fails()
    holder, connecting = Person(table, SHARED).comes(), Person(table, SHARED).comes()
    assert holder.takes() == "A"
    holder.opens()
    assert connecting.takes() == "A"
    waiting = Person(table, SHARED).comes()
    for _ in range(4):
        clock.now += RETRY
        for person in (exclusive, waiting):
            for _ in range(3):
                person.retries()
            assert person.retry_at is None or person.retry_at > clock.now, "its task would try again without a pause"
    connecting.opens()
    assert waiting.takes() == "A"


def test_a_connect_that_ends_the_wait_hands_the_card_on_at_once(table: Table, clock: Clock) -> None:
    """Another code than those of `_GO_ON` is raised to the caller, who leaves; the card may suit the next one."""
    table.publish(look(A=card()))
    first, second = Person(table).comes(), Person(table).comes()
    assert first.takes() == "A"
    first.fails(PROTO_MISMATCH)
    first.leaves()
    clock.now += RETRY
    second.retries()
    assert second.takes() == "A"


def test_an_error_that_is_not_pcscs_is_a_refusal_too(table: Table, clock: Clock) -> None:
    table.publish(look(A=card()))
    person = Person(table).comes()
    assert person.takes() == "A"
    table.settle(person.waiter, RuntimeError("a binding that broke"))
    assert person.takes() is None
    assert "could not be opened" in person.seen


# A time-out of 0: one look, one connect per match.


def test_timeout_0_tries_each_match_once(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(), B=card(atr=OTHER_ATR), C=card()))
    person = Person(table, atr=rb"^\x3b", timeout=0).comes()
    tried = []
    while (reader := person.takes()) is not None:
        tried.append(reader)
        person.fails()
    assert tried == ["A", "C"]
    clock.now += RETRY
    person.retries()
    table.publish(look(A=card(2), B=card(atr=OTHER_ATR), C=card()))
    assert person.takes() is None


def test_timeout_0_with_a_pattern_never_seen_before(table: Table) -> None:
    table.publish(look(A=card()))
    assert Person(table, atr=rb"\x01", timeout=0).comes().takes() == "A"


def test_timeout_0_waits_for_nobody(table: Table) -> None:
    table.publish(look(A=card()))
    assert Person(table).comes().takes() == "A"
    assert Person(table, timeout=0).comes().takes() is None


def test_one_who_has_tried_keeps_nobody_behind_it_from_trying(table: Table, clock: Clock) -> None:
    table.publish(look(A=card()))
    hasty, patient = Person(table, timeout=0).comes(), Person(table).comes()
    assert hasty.takes() == "A"
    hasty.fails(NO_SMARTCARD)
    hasty.leaves()
    clock.now += RETRY
    patient.retries()
    assert patient.takes() == "A"
