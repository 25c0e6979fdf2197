"""The twin of `pool.py` is what the generator makes of it; what it does is tried on both faces in test_pool.py."""

from __future__ import annotations

from pathlib import Path

import scardface.pool
from scardface import sync
from scardface._faces import pool, sync_pool


def test_the_same_words_without_await() -> None:
    source = Path(pool.__file__).read_text(encoding="utf-8")
    twin = Path(sync_pool.__file__).read_text(encoding="utf-8")
    assert "await " in source
    assert "await" not in twin
    assert scardface.pool.CardPool is pool.CardPool
    assert sync.CardPool is sync_pool.CardPool


def test_the_docstring_speaks_of_with() -> None:
    assert "`async with CardPool(...) as pool`" in (pool.CardPool.__doc__ or "")
    twin = sync.CardPool.__doc__ or ""
    assert "`with CardPool(...) as pool`" in twin
    assert "async" not in twin
    assert "coroutine" not in twin
