"""A program that waits for a card that does not come: `python -m benchmarks._waiting KIND READER`.

It says "waiting" when it does, waits, and ends when its standard input ends. Kinds: `asyncio`, `uvloop`, `trio` (a task in
`SCard`), `sync` (a thread in `scardface.sync.SCard`), `monitor` (a `ReaderMonitor` on asyncio), `CardRequest` (a thread in
`waitforcard`), `CardMonitor` (with an observer).
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from ._turns import LOOPS, run_in_loop

__all__ = ["KINDS"]

KINDS = (*LOOPS, "sync", "monitor", "CardRequest", "CardMonitor")


def _until_told() -> None:
    sys.stdin.read()
    os._exit(0)


async def _card(reader: str) -> None:
    import scardface

    async with scardface.SCard(readers=reader):
        raise AssertionError("there was to be no card")


async def _monitor() -> None:
    import scardface

    async with scardface.ReaderMonitor() as monitor:
        async for _ in monitor:
            pass


def _sync(reader: str) -> None:
    import scardface.sync

    scardface.sync.SCard(readers=reader)


def _card_request() -> None:
    from smartcard.CardRequest import CardRequest

    CardRequest(timeout=None, newcardonly=True).waitforcard()


def _card_monitor() -> None:
    from smartcard.CardMonitoring import CardMonitor, CardObserver

    class Observer(CardObserver):  # type: ignore[misc,unused-ignore]  # pyscard's types come and go with its version
        def update(self, observable: Any, handlers: Any) -> None:
            pass

    CardMonitor().addObserver(Observer())


def _main(kind: str, reader: str) -> None:
    threading.Thread(target=_until_told, daemon=True).start()
    print("waiting", flush=True)
    if kind in LOOPS:
        run_in_loop(kind, _card, reader)
    elif kind == "monitor":
        run_in_loop("asyncio", _monitor)
    elif kind == "sync":
        _sync(reader)
    elif kind == "CardRequest":
        _card_request()
    else:
        _card_monitor()
        threading.Event().wait()


if __name__ == "__main__":
    _main(*sys.argv[1:])
