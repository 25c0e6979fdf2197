"""A pool of open cards: kept ready, and lent to one task at a time.

`CardPool` is that of the async face; `scardface.sync.CardPool` is the same without `await`. Logger: "scardface.pool" (cards that
are set aside, WARNING).
"""

from __future__ import annotations

from ._faces.pool import CardPool
from ._faces.pool_request import PoolStats
from ._session.pin_watch import PinRefusedError

__all__ = ["CardPool", "PinRefusedError", "PoolStats"]
