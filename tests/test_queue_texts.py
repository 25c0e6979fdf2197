"""The table of all waiters: what it says of those who got no card. The words are the contract's."""

from __future__ import annotations

import pytest

from scardface import _queue, _waiters
from scardface._enums import ShareMode
from scardface._queue import Table
from scardface._waiters import Slot, seen_in
from scardface.errors import UNPOWERED_CARD
from tests.support.waiting import DOWN, IN_USE, Clock, Person, card, empty, look, mute

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


def seen(table: Table, **wish: object) -> str:
    return Person(table, **wish).comes().seen  # type: ignore[arg-type]  # whatever a Person takes


def test_seen_no_reader() -> None:
    assert seen(Table()) == "no reader"


def test_seen_none_of_the_readers_watched(table: Table) -> None:
    assert seen(table, readers=["B"]) == "no reader"


def test_seen_no_card(table: Table) -> None:
    assert seen(table) == "no card"


def test_seen_a_card_that_does_not_match(table: Table) -> None:
    table.publish(look(A=card()))
    assert seen(table, atr=rb"^\x3f") == "a card whose ATR did not match (3b 80 01 81), in reader 'A'"


def test_seen_a_card_that_did_not_match_and_went(table: Table) -> None:
    older = Person(table, atr=rb"^\x3f").comes()
    table.publish(look(A=card()))
    table.publish(look(A=empty(2)))
    assert older.seen == "a card whose ATR did not match (3b 80 01 81), in reader 'A', taken out again"
    assert seen(table, atr=rb"^\x3f") == "no card", "it came too late to see it"
    assert seen(table) == "no card"


@pytest.mark.parametrize("atr", [None, rb"^\x3b"], ids=["any", "one that matched"])
def test_seen_a_card_that_matched_and_went(table: Table, clock: Clock, atr: bytes | None) -> None:
    person = Person(table, atr=atr).comes()
    table.publish(look(A=card(flags=IN_USE)))
    assert person.takes() == "A"
    person.fails()
    table.publish(look(A=empty(2)))
    assert person.seen == "no card"


def test_seen_nothing_in_a_reader_that_changed(table: Table) -> None:
    """A card came and went between two looks: nobody saw its ATR."""
    person = Person(table, atr=rb"^\x3f").comes()
    table.publish(look(A=empty(2)))
    assert person.seen == "no card"


def test_seen_a_mute_card(table: Table) -> None:
    table.publish(look(A=mute()))
    assert seen(table) == "a card that does not answer, in reader 'A'"


def test_seen_a_card_that_is_held(table: Table, clock: Clock) -> None:
    table.publish(look(A=card(flags=IN_USE)))
    first = Person(table).comes()
    assert first.takes() == "A"
    first.fails()
    assert first.seen == "a card held by another program, in reader 'A'"
    assert seen(table) == "a card held by another program, in reader 'A'"
    assert seen(table, atr=rb"^\x3b") == "a card held by another program, in reader 'A'"


def test_seen_a_card_of_our_own(table: Table) -> None:
    table.publish(look(A=card()))
    first = Person(table).comes()
    assert first.takes() == "A"
    first.opens()
    assert seen(table) == "a card held by another SCard of this program, in reader 'A'"
    assert seen(table, atr=rb"^\x3b") == "a card held by another SCard of this program, in reader 'A'", "asked for now"


def test_seen_a_blocked_connect(table: Table) -> None:
    table.publish(look(A=card()))
    first = Person(table).comes()
    assert "blocked" not in first.seen
    assert first.takes() == "A"
    assert first.seen == "a connect still blocked by another program's transaction, in reader 'A'"
    assert seen(table) == first.seen


def test_seen_a_mismatch_comes_before_who_has_the_card(table: Table) -> None:
    table.publish(look(A=card(), B=card()))
    holder, opening = Person(table).comes(), Person(table).comes()
    assert (holder.takes(), opening.takes()) == ("A", "B")
    holder.opens()
    mismatch = "a card whose ATR did not match (3b 80 01 81), in reader"
    assert seen(table, atr=rb"^\x3f") == f"{mismatch} 'A'; {mismatch} 'B'"


def test_seen_a_card_that_fails(table: Table, clock: Clock) -> None:
    table.publish(look(A=card()))
    first = Person(table).comes()
    assert first.takes() == "A"
    first.fails(UNPOWERED_CARD)
    assert first.seen == "a card that could not be opened, in reader 'A'"


def test_seen_no_service(table: Table) -> None:
    person = Person(table).comes()
    table.publish(look(error=DOWN, A=card()))
    assert person.seen == "the PC/SC service is not available"
    table.publish(look(life=2, A=empty()))
    assert person.seen == "no card"


def test_seen_in_a_reader_that_goes_while_it_is_looked_at() -> None:
    """The words are made without the table's lock."""
    assert seen_in(Slot("A"), Person(Table(), atr=b";").waiter, lambda pattern, atr: False) == ""


def test_seen_in_several_readers(table: Table) -> None:
    table.publish(look(A=card(), B=empty(), C=mute(), D=card(flags=IN_USE)))
    assert seen(table, atr=rb"^\x3f", readers=["A", "B", "C"]) == (
        "a card whose ATR did not match (3b 80 01 81), in reader 'A'; a card that does not answer, in reader 'C'"
    )
