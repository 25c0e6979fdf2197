"""Which cards have had their turn and are still in: by the snapshots of the driver."""

from __future__ import annotations

import pytest

from scardface._waiting.served_cards import ServedCards
from scardface.testing import SimulatedPCSC
from tests.support.readings import DOWN, card, empty, snapshot_of


@pytest.fixture
def served() -> ServedCards:
    return ServedCards(SimulatedPCSC())


IN, OUT, NEXT = card(3), empty(4), card(5)


def test_a_card_that_goes_is_forgotten(served: ServedCards) -> None:
    served.receive(snapshot_of(A=IN), [], True)
    served.add_new({"A": IN}, {})
    served.receive(snapshot_of(A=IN, B=IN), [], False)
    assert served.readings == {"A": IN}
    served.receive(snapshot_of(A=OUT), [], False)
    assert served.readings == {}
    served.receive(snapshot_of(A=IN), [], False)  # whatever its counter shows
    assert served.readings == {}


def test_so_is_one_whose_reader_or_service_goes(served: ServedCards) -> None:
    for gone in (snapshot_of(), snapshot_of(DOWN), snapshot_of(life=2, A=IN)):
        served.receive(snapshot_of(A=IN), [], False)
        served.add_new({"A": IN}, {})
        served.receive(gone, [], False)
        assert served.readings == {}


def test_a_snapshot_that_is_older_than_the_card_says_nothing(served: ServedCards) -> None:
    served.receive(snapshot_of(A=OUT), [], True)
    served.add_new({"A": NEXT}, {})
    served.receive(snapshot_of(A=OUT), [], False)
    assert served.readings == {"A": NEXT}
    served.receive(snapshot_of(A=NEXT), [], False)
    served.receive(snapshot_of(A=OUT), [], False)
    assert served.readings == {}


def test_another_card_in_its_place_is_new(served: ServedCards) -> None:
    served.add_new({"A": IN}, {})
    served.receive(snapshot_of(A=NEXT), [], False)
    assert served.readings == {}


def test_what_was_known_before_is_not_noted_anew(served: ServedCards) -> None:
    """It may be gone by now."""
    served.add_new({"A": IN, "B": OUT}, {"A": IN})
    assert served.readings == {}


def test_a_reset_may_change_the_atr(served: ServedCards) -> None:
    served.add_new({"A": IN}, {})
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
    served.add_new({"A": one}, {})
    served.receive(snapshot_of(A=one), [], False)
    assert served.readings == {"A": one}
    served.receive(snapshot_of(A=one._replace(atr=b"\x3b\x00")), [], False)
    assert served.readings == {}


def test_after_a_failure_it_begins_anew(served: ServedCards) -> None:
    served.add_new({"A": IN}, {})
    served.fail(RuntimeError())
    assert served.readings == {}
