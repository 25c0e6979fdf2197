"""The arguments of a pool: what is refused, before anything is done."""

from __future__ import annotations

from typing import Any

import pytest

from scardface import ShareMode, sync
from scardface.pool import CardPool, PoolStats


@pytest.mark.parametrize("pool", [CardPool, sync.CardPool])
def test_bad_input_is_refused_at_once(pool: Any) -> None:
    for words in (
        {"min_cards": -1},
        {"min_cards": 2, "max_cards": 1},
        {"max_cards": 0},
        {"max_idle": 0},
        {"max_idle": -1},
        {"max_idle": float("nan")},
        {"max_idle": float("inf")},
        {"max_uses": 0},
        {"share": ShareMode.DIRECT},
        {"atr": b"("},
        {"timeout": -2},
        {"settle": -1},
        {"on_reset": "never"},
        {"success": []},
    ):
        with pytest.raises(ValueError, match=next(iter(words))):
            pool(**words)
    for words in (
        {"min_cards": 1.0},
        {"min_cards": True},
        {"max_cards": "1"},
        {"max_idle": "1"},
        {"max_idle": True},
        {"max_uses": 1.5},
        {"prepare": "select"},
        {"match": 5},
        {"atr": "3b"},
        {"readers": 5},
        {"timeout": "1"},
    ):
        with pytest.raises(TypeError, match=next(iter(words))):
            pool(**words)
    made = pool(min_cards=0)
    for timeout, kind in ((-2, ValueError), ("1", TypeError), (float("nan"), ValueError)):
        with pytest.raises(kind, match="timeout"):
            made.card(timeout=timeout)
    assert made.stats() == PoolStats(*[0] * len(PoolStats._fields))
    assert made.set_aside == {}
    assert not made.closed
    assert repr(made) == "<CardPool: not open>"
