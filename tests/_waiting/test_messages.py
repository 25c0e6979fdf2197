"""Who disposes of an offer: one winner, whatever the order and however often it is asked."""

from __future__ import annotations

import threading
from typing import Any

from scardface._pcsc.events import Reading
from scardface._waiting.messages import Offer, Waiter


def offer() -> Offer:
    waiter: Any = Waiter()
    waiter.owner = None
    return Offer(waiter, "A", Reading(0, 0, b""))


def test_the_first_who_claims_it_has_it_and_gets_the_same_answer_again() -> None:
    made, first, second = offer(), object(), object()
    assert made.claim(first)
    assert not made.claim(second)
    assert made.claim(first), "an interrupted caller asks again"
    assert not made.claim(second)


def test_of_many_threads_one_has_it() -> None:
    for _ in range(50):
        made, together, winners = offer(), threading.Barrier(8), []

        def claim(made: Offer = made, together: threading.Barrier = together, winners: list[object] = winners) -> None:
            me = object()
            together.wait()
            if made.claim(me):
                winners.append(me)

        threads = [threading.Thread(target=claim) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(winners) == 1
