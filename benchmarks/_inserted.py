"""A program that notes when it is told of a card: `python -m benchmarks._inserted KIND READER`.

It says "ready" when it listens, then, for every insertion, the monotonic clock's nanoseconds, and "out" for every removal. It ends
when its standard input ends. Kinds: `bare` (a thread in SCardGetStatusChange), `monitor-LOOP` (a task that iterates over a
`ReaderMonitor`), `card-LOOP` (a task that waits for an `SCard`, open), `pyscard` (CardMonitor's observer, `call_soon_threadsafe`, a
queue, a task), `pyscard-card` (CardRequest in `asyncio.to_thread`, then `connect`).
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import Any

from ._turns import run_in_loop


def _say(word: object) -> None:
    print(word, flush=True)


def _until_told() -> None:
    sys.stdin.read()
    os._exit(0)


def _bare(reader: str) -> None:
    from smartcard import scard

    _, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    _, states = scard.SCardGetStatusChange(context, 0, [(reader, scard.SCARD_STATE_UNAWARE)])
    _say("ready")
    inside = False
    while True:
        code, states = scard.SCardGetStatusChange(context, 60_000, [(reader, states[0][1])])
        now = time.monotonic_ns()
        is_in = bool(states[0][1] & scard.SCARD_STATE_PRESENT)
        if code == scard.SCARD_S_SUCCESS and is_in != inside:
            inside = is_in
            _say(now if inside else "out")


async def _monitor(reader: str) -> None:
    import scardface

    async with scardface.ReaderMonitor(reader) as monitor:
        _say("ready")
        async for event in monitor:
            if isinstance(event, scardface.CardInserted):
                _say(time.monotonic_ns())
            elif isinstance(event, scardface.CardRemoved):
                _say("out")


async def _card(reader: str) -> None:
    import scardface

    _say("ready")
    while True:
        async with scardface.SCard(readers=reader, share=scardface.ShareMode.SHARED) as card:
            _say(time.monotonic_ns())
            await card.wait()
        _say("out")


async def _pyscard(reader: str) -> None:
    from smartcard.CardMonitoring import CardMonitor, CardObserver

    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bool] = asyncio.Queue()

    class Observer(CardObserver):  # type: ignore[misc,unused-ignore]  # pyscard's types come and go with its version
        def update(self, observable: Any, handlers: Any) -> None:
            added, removed = handlers
            for _card in added:
                loop.call_soon_threadsafe(queue.put_nowait, True)
            for _card in removed:
                loop.call_soon_threadsafe(queue.put_nowait, False)

    CardMonitor().addObserver(Observer())
    _say("ready")
    while True:
        inside = await queue.get()
        _say(time.monotonic_ns() if inside else "out")


async def _pyscard_card(reader: str) -> None:
    from smartcard.CardRequest import CardRequest
    from smartcard.scard import SCARD_LEAVE_CARD

    def wait() -> Any:
        service = CardRequest(timeout=None, readers=[reader]).waitforcard()
        service.connection.connect(disposition=SCARD_LEAVE_CARD)
        return service

    def leave(service: Any) -> None:
        """It gets no removal event: it sends commands until the card does not answer."""
        while True:
            try:
                service.connection.getATR()
            except Exception:
                break
            time.sleep(0.01)
        if hasattr(service.connection, "release"):  # newer ones
            service.connection.release()

    _say("ready")
    while True:
        service = await asyncio.to_thread(wait)
        _say(time.monotonic_ns())
        await asyncio.to_thread(leave, service)
        _say("out")


def _main(kind: str, reader: str) -> None:
    threading.Thread(target=_until_told, daemon=True).start()
    what, _, loop = kind.partition("-")
    if what == "bare":
        _bare(reader)
    elif what == "pyscard":
        asyncio.run(_pyscard_card(reader) if loop else _pyscard(reader))
    else:
        run_in_loop(loop, _monitor if what == "monitor" else _card, reader)


if __name__ == "__main__":
    _main(*sys.argv[1:])
