"""What the dispatcher knows of one reader, and of waiters with equal criteria."""

from __future__ import annotations

from collections import Counter

from scardface._enums import Protocol, ShareMode
from scardface._session.card_request import CardRequest
from scardface._waiting.dispatcher_state import Refusal, TrackedReader, WaiterQueue
from scardface.errors import PROTO_MISMATCH, SHARING_VIOLATION, error_for
from tests.support.dispatching import card_request, make_waiter, snapshot_taken, waiting
from tests.support.readings import ATR, OTHER_ATR, card, empty


def queue_for(request: CardRequest) -> WaiterQueue:
    return WaiterQueue("key", request, None, False)


def test_a_queue_keeps_the_order_of_numbers_and_forgets_who_left() -> None:
    queue, waiters = queue_for(card_request()), [make_waiter(number, card_request()) for number in (5, 1, 3)]
    for one in waiters:
        queue.add(one)
    assert [one.number for one in queue] == [1, 3, 5]
    assert queue.is_oldest(waiters[1])
    queue.discard(waiters[1])
    queue.discard(waiters[1])
    assert [one.number for one in queue] == [3, 5]
    assert len(queue) == 2
    assert not queue.is_oldest(waiters[0])
    for one in waiters:
        queue.discard(one)
    assert not queue


def test_readers_that_come_later_are_included_by_name_or_by_criteria() -> None:
    named = WaiterQueue("key", card_request("B"), frozenset({"A"}), False)
    assert [named.includes(name) for name in "AB"] == [True, False]
    waits = WaiterQueue("key", card_request("B", wait_for_reader=True), None, True)
    assert [waits.includes(name) for name in "AB"] == [False, True]


def test_a_refusal_is_for_those_who_ask_in_the_same_way() -> None:
    shared, exclusive = queue_for(card_request(share=ShareMode.SHARED)), queue_for(card_request())
    held = Refusal(1.0, frozenset({ShareMode.EXCLUSIVE}), None, error_for(SHARING_VIOLATION, "SCardConnect", "A"))
    assert held.is_sharing_violation
    assert held.applies_to(exclusive)
    assert not held.applies_to(shared)
    mismatch = Refusal(1.0, frozenset(ShareMode), Protocol.T0, error_for(PROTO_MISMATCH, "SCardConnect", "A"))
    assert not mismatch.is_sharing_violation
    assert not mismatch.applies_to(exclusive), "it asked for any protocol"


def test_which_card_is_another_one() -> None:
    reader = TrackedReader("A")
    assert reader.is_other_card(None, card(1))
    reader.set_card(7, card(1), 2.0)
    assert (reader.card, reader.since) == (7, 2.0)
    assert not reader.is_other_card(card(1), card(1))
    assert not reader.is_other_card(None, card(0)), "the service was away, and counts anew"
    assert reader.is_other_card(None, card(0, OTHER_ATR))
    assert reader.is_other_card(empty(2), card(3)), "the same kind of card, inserted anew"


def test_a_pattern_is_asked_once_for_each_atr() -> None:
    class Pattern:
        def __init__(self) -> None:
            self.asked: Counter[bytes] = Counter()

        def search(self, atr: bytes) -> bool:
            self.asked[atr] += 1
            return False

    pattern = Pattern()
    request = card_request()
    object.__setattr__(request, "atr", pattern)
    dispatcher, _ = waiting(*(make_waiter(number, request) for number in range(1, 100)), A=card(), B=card(1, OTHER_ATR))
    for counter in range(2, 20):
        dispatcher.handle(snapshot_taken(1, A=card(counter), B=card(counter, OTHER_ATR)), 0.0)
    assert pattern.asked == {ATR: 1, OTHER_ATR: 1}
