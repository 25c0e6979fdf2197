"""The cards of a pool: what an interrupt at any step leaves, and figures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from scardface import sync
from scardface._faces import pool_state
from scardface._faces.pool_request import PoolStats
from scardface.testing import SimulatedPCSC
from tests.support.pins import SELECT, PinCard

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def pool() -> Iterator[sync.CardPool]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", PinCard())
        with sync.CardPool(backend=pcsc, timeout=30) as pool:
            yield pool


def interrupting(step: int) -> Any:
    """A trace function that raises once, at that line of `pool_state.py`, counted as they are run."""
    left = [step]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != pool_state.__file__ or frame.f_code.co_name not in (
            "lend",
            "release",
            "_put_back",
            "_give_out",
        ):
            return trace if frame.f_code.co_filename.endswith(("pool.py", "_threads.py")) else None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
        return trace

    return trace


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="it counts the lines that CPython runs")
def test_an_interrupt_at_any_step_of_a_loan_loses_no_card(pool: sync.CardPool) -> None:
    """At each line of taking a card and of giving it back."""
    interrupted = 0
    for step in range(1, 200):
        before = sys.gettrace()
        sys.settrace(interrupting(step))
        try:
            with pool.card() as card:
                pass
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            sys.settrace(before)
        with pool.card(timeout=5) as card:
            card.send(SELECT)
        stats = pool.stats()
        assert stats[:4] == (1, 1, 0, 0), (step, stats)
    assert 20 < interrupted < 199


def test_the_figures_are_whole_numbers(pool: sync.CardPool) -> None:
    stats = pool.stats()
    assert all(isinstance(each, int) for each in stats)
    assert stats == PoolStats(1, 1, 0, 0, 0, 0, 0, 0, 0, 0 + stats.prepared, 0, 0)
    assert repr(pool) == "<CardPool: 1 idle, 0 lent, 0 preparing, 0 waiting>"
