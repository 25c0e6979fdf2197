"""The queries of the sync face, in the thread of the caller. What they ask is in test_blocking_queries.py."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from scardface import ServiceUnavailableError, sync
from scardface.testing import SimulatedPCSC


def test_the_three_queries() -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        before = set(threading.enumerate())
        assert sync.readers() == ("A",)
        assert list(sync.states()) == ["A"]
        assert isinstance(sync.groups(timeout=5), tuple)
        assert before.issuperset(threading.enumerate()), "no thread is left that waits for a query"


@pytest.mark.parametrize("query", [sync.readers, sync.groups, sync.states], ids=lambda query: query.__name__)
def test_a_time_that_is_none_is_refused_before_anything_is_asked(query: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="timeout"):
        query(timeout=-2)


def test_without_a_service() -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.stop_service()
        with pytest.raises(ServiceUnavailableError):
            sync.readers()
