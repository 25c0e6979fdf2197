"""The twin of `cards.py` is what the generator makes of it; what it does is tried on both faces in test_cards.py."""

from __future__ import annotations

from pathlib import Path

import scardface
from scardface import sync
from scardface._faces import cards, sync_cards


def test_the_same_words_without_await() -> None:
    source = Path(cards.__file__).read_text(encoding="utf-8")
    twin = Path(sync_cards.__file__).read_text(encoding="utf-8")
    assert "await " in source
    assert "await" not in twin
    assert scardface.cards is cards.cards
    assert sync.cards is sync_cards.cards


def test_the_docstring_speaks_of_for() -> None:
    assert "`async for card in cards():`" in (scardface.cards.__doc__ or "")
    assert "`for card in cards():`" in (sync.cards.__doc__ or "")
    assert "async" not in (sync.cards.__doc__ or "")
