"""Which cards have had their turn and are still in: by the snapshots of the driver."""

from __future__ import annotations

from typing import Any, cast

import pytest

from scardface._pcsc.events import Snapshot
from scardface._waiting.messages import RefusedCards, Subscribed, Unsubscribed
from scardface._waiting.served_cards import ServedCards
from scardface.testing import SimulatedPCSC
from tests.support.readings import DOWN, card, empty, snapshot_of


@pytest.fixture
def served() -> ServedCards:
    return ServedCards(SimulatedPCSC())


IN, OUT, NEXT = card(3), empty(4), card(5)


def test_a_card_that_goes_is_forgotten(served: ServedCards) -> None:
    served.receive(snapshot_of(A=IN), [], True)
    served.add_new(RefusedCards({"A": IN}))
    served.receive(snapshot_of(A=IN, B=IN), [], False)
    assert served.readings == {"A": IN}
    served.receive(snapshot_of(A=OUT), [], False)
    assert served.readings == {}
    served.receive(snapshot_of(A=IN), [], False)  # whatever its counter shows
    assert served.readings == {}


def test_who_has_a_copy_is_told_what_has_gone_since(served: ServedCards) -> None:
    """The reader is unplugged and plugged in again before the one who has the copy has asked: its counter begins anew."""
    served.receive(snapshot_of(A=IN), [], True)
    served.add_new(RefusedCards({"A": IN}))
    copy = served.cards()
    assert copy.gone.get("A") is not copy.readings["A"]
    served.receive(snapshot_of(), [], False)
    assert copy.gone.get("A") is copy.readings["A"]
    served.receive(snapshot_of(A=IN), [], False)
    assert copy.gone.get("A") is copy.readings["A"]
    served.add_new(RefusedCards({"A": IN}))
    assert served.cards().gone.get("A") is not served.cards().readings["A"]


def test_so_is_one_whose_reader_or_service_goes(served: ServedCards) -> None:
    for gone in (snapshot_of(), snapshot_of(DOWN), snapshot_of(life=2, A=IN)):
        served.receive(snapshot_of(A=IN), [], False)
        served.add_new(RefusedCards({"A": IN}))
        served.receive(gone, [], False)
        assert served.readings == {}


def test_a_snapshot_that_is_older_than_the_card_says_nothing(served: ServedCards) -> None:
    served.receive(snapshot_of(A=OUT), [], True)
    served.add_new(RefusedCards({"A": NEXT}))
    served.receive(snapshot_of(A=OUT), [], False)
    assert served.readings == {"A": NEXT}
    served.receive(snapshot_of(A=NEXT), [], False)
    served.receive(snapshot_of(A=OUT), [], False)
    assert served.readings == {}


class Told:
    """In the driver's place."""

    def __init__(self, served: ServedCards) -> None:
        self.messages: list[Any] = []
        self._served = served
        self.leaves = False

    def tell(self, message: Any) -> None:
        if self.leaves:
            self.leaves = False
            self._served.leave()
        self.messages.append(message)


@pytest.mark.parametrize("gone", [snapshot_of(A=OUT), snapshot_of()])
def test_a_card_that_went_before_anything_showed_it_is_forgotten_once_a_query_that_is_younger_has_said_so(
    served: ServedCards, gone: Snapshot
) -> None:
    told = Told(served)
    served.driver, served._listens = cast("Any", told), True
    served.add_new(RefusedCards({"A": IN}))
    served.receive(gone, [], True)  # it may be older than the card
    assert served.readings == {"A": IN}
    served.receive(gone, [], False)
    assert [type(message) for message in told.messages] == [Subscribed]
    served.receive(gone, [], True)
    assert served.readings == {}


@pytest.mark.parametrize(("one", "other"), [(3, 5), (0xFFFF, 1)])
def test_a_snapshot_that_shows_the_card_before_is_doubted(served: ServedCards, one: int, other: int) -> None:
    """The card was found by its own wait's query, ahead of the watcher's snapshots."""
    told = Told(served)
    served.driver, served._listens = cast("Any", told), True
    served.add_new(RefusedCards({"A": card(other)}))
    served.receive(snapshot_of(A=card(one)), [], True)
    served.receive(snapshot_of(A=card(one), B=IN), [], False)
    assert served.readings == {"A": card(other)}
    assert [type(message) for message in told.messages] == [Subscribed]
    served.receive(snapshot_of(A=card(other)), [], True)
    served.receive(snapshot_of(A=card(other), B=IN), [], False)
    assert served.readings == {"A": card(other)}
    assert len(told.messages) == 1


@pytest.mark.parametrize(("one", "other"), [(3, 5), (0xFFFF, 1)])
def test_a_counter_that_has_gone_on_tells_of_another_card(served: ServedCards, one: int, other: int) -> None:
    served.add_new(RefusedCards({"A": card(one)}))
    served.receive(snapshot_of(A=card(other)), [], False)
    assert served.readings == {}


def test_one_that_has_gone_back_does_so_once_a_query_that_is_younger_shows_it(served: ServedCards) -> None:
    """The reader was plugged in anew."""
    served.add_new(RefusedCards({"A": card(5)}))
    served.receive(snapshot_of(A=card(1)), [], False)
    assert served.readings == {"A": card(5)}
    served.receive(snapshot_of(A=card(1)), [], True)
    assert served.readings == {}


def test_a_doubt_outlives_no_iteration(served: ServedCards) -> None:
    told = Told(served)
    told.leaves = True
    served.driver, served._listens = cast("Any", told), True
    served.add_new(RefusedCards({"A": IN}))
    served.receive(snapshot_of(), [], True)
    assert [type(message) for message in told.messages] == [Unsubscribed, Subscribed, Unsubscribed]
    served.receive(snapshot_of(), [], True)
    assert len(told.messages) == 3


def test_a_card_of_the_life_before_is_not_noted(served: ServedCards) -> None:
    """The service was restarted while it was opened: the next one may show the same."""
    served.receive(snapshot_of(life=2, A=IN), [], True)
    served.add_new(RefusedCards({"A": IN}, 1))
    assert served.cards()[:2] == RefusedCards({}, 2)[:2]
    served.add_new(RefusedCards({"A": IN}, 2))
    assert served.cards()[:2] == RefusedCards({"A": IN}, 2)[:2]


@pytest.mark.parametrize("before", [snapshot_of(A=IN), snapshot_of(DOWN)], ids=["up", "down"])
def test_a_card_of_the_life_that_no_snapshot_has_shown_yet_is_noted(served: ServedCards, before: Snapshot) -> None:
    """It was opened as soon as the service was back."""
    served.receive(snapshot_of(A=IN, B=IN), [], True)
    served.add_new(RefusedCards({"B": IN}, 1))
    served.receive(before, [], False)
    served.add_new(RefusedCards({"A": NEXT}, 2))
    assert served.cards()[:2] == RefusedCards({"A": NEXT}, 2)[:2]
    served.receive(before, [], False)
    assert served.has("A", NEXT)
    served.receive(snapshot_of(life=2, A=NEXT, B=IN), [], False)
    assert served.cards()[:2] == RefusedCards({"A": NEXT}, 2)[:2]
    served.receive(snapshot_of(life=2, A=OUT), [], False)
    assert served.cards()[:2] == RefusedCards({}, 2)[:2]


def test_what_was_known_before_is_not_noted_anew(served: ServedCards) -> None:
    """It may be gone by now."""
    served.add_new(RefusedCards({"A": IN, "B": OUT}), {"A": IN})
    assert served.readings == {}


def test_a_reset_may_change_the_atr(served: ServedCards) -> None:
    served.add_new(RefusedCards({"A": IN}))
    after = IN._replace(atr=b"\x3b\x00")
    served.receive(snapshot_of(A=after), [], False)
    served.update("A", after)
    assert served.readings == {"A": after}
    served.update("A", NEXT)
    assert served.readings == {"A": after}
    served.update("B", NEXT)
    assert "B" not in served.readings


def test_where_there_are_no_counters_the_atr_decides(served: ServedCards) -> None:
    one = IN._replace(counter=0)
    served.add_new(RefusedCards({"A": one}))
    served.receive(snapshot_of(A=one), [], False)
    assert served.readings == {"A": one}
    served.receive(snapshot_of(A=one._replace(atr=b"\x3b\x00")), [], False)
    assert served.readings == {}


def test_after_a_failure_it_begins_anew(served: ServedCards) -> None:
    served.add_new(RefusedCards({"A": IN}))
    served.fail(RuntimeError())
    assert served.readings == {}
