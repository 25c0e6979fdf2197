"""A program that waits for a card that does not come: `python -m benchmarks._waiting KIND READER`.

It says "waiting" when it does, waits, and ends when its standard input ends. Kinds: `asyncio`, `uvloop`, `trio` (a task in
`SCard`), `sync` (a thread in `scardface.sync.SCard`), `monitor` (a `ReaderMonitor` on asyncio), `CardRequest` (a thread in
`waitforcard`), `CardMonitor` (with an observer), `bare-LOOP` and `bare-sync` (a thread in SCardGetStatusChange, in slices of 6 s as
scardface's, beside a loop or a main thread that waits for nothing).
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from ._turns import LOOPS, run_in_loop

__all__ = ["KINDS"]

KINDS = (*LOOPS, "sync", "monitor", "CardRequest", "CardMonitor", *(f"bare-{each}" for each in (*LOOPS, "sync")))


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


def _bare(reader: str) -> None:
    from smartcard import scard

    def wait() -> None:
        _, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
        _, states = scard.SCardGetStatusChange(context, 0, [(reader, scard.SCARD_STATE_UNAWARE)])
        while True:
            _, states = scard.SCardGetStatusChange(context, 6000, [(reader, states[0][1] & ~scard.SCARD_STATE_CHANGED)])

    threading.Thread(target=wait, daemon=True).start()


async def _nothing() -> None:
    import anyio

    await anyio.sleep_forever()


def _main(kind: str, reader: str) -> None:
    threading.Thread(target=_until_told, daemon=True).start()
    print("waiting", flush=True)
    if kind in LOOPS:
        run_in_loop(kind, _card, reader)
    elif kind.startswith("bare-"):
        _bare(reader)
        loop = kind.partition("-")[2]
        if loop in LOOPS:
            run_in_loop(loop, _nothing)
        threading.Event().wait()
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
