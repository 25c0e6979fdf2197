"""Open a card, send one command, close it, again and again: what a kiosk does all day, and what most scripts do once.

- Measured: one cycle with a card that is in, SHARED, left as it is; READ BINARY for 16 bytes from a card of 0 ms. "beside a
  monitor": a `ReaderMonitor` of the same process runs meanwhile, so there is somebody who waits.
- Against: the same calls of the binding in one thread: SCardEstablishContext, SCardConnect, SCardBeginTransaction, SCardTransmit,
  SCardEndTransaction, SCardDisconnect, SCardReleaseContext. They wait for no card, know no other and check none, and nothing ends
  them at a deadline or with Ctrl-C. And pyscard's `CardRequest` with its connection, which holds no transaction.
- It would be unfair to leave the transaction out of the bare cycle: scardface holds one for its command. And to reuse a context in
  one contender alone: each establishes its own in every cycle.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext

from smartcard import scard
from smartcard.CardRequest import CardRequest

import scardface
import scardface.sync
from scardface import C_APDU, ShareMode

from ._exchanges import bare_cycle
from ._place import Place
from ._report import Report
from ._tables import COLUMNS, CORES, Runs, add_contest, repeated, verdict
from ._turns import LOOPS, AsyncTurn, Contender, calling, contest, timed_async

TITLE = "open, send one command, close"
BARE = "bare cycle"
CARD_REQUEST = "pyscard CardRequest"

_COMMAND = C_APDU(0x00, 0xB0, 0x00, 0x10, b"", 16)
_MONITOR = "beside a monitor"


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return repeated([*CORES, f"{_MONITOR}, {CORES[1]}"], 4, quick)


def measure(setting: str, quick: bool) -> object:
    """One run."""
    with Place(2) as place:
        place.insert(0)
        reader = place.readers[0]
        contenders = [
            Contender(BARE, calling(bare_cycle(reader, bytes(_COMMAND)))),
            Contender(CARD_REQUEST, calling(lambda: _card_request(reader, list(bytes(_COMMAND))))),
            Contender("scardface.sync", calling(lambda: _sync(reader))),
            *(_on_loop(reader, loop) for loop in LOOPS),
        ]
        beside: AbstractContextManager[None] = _monitor() if _MONITOR in setting else nullcontext()
        with beside:
            return contest(contenders, 1, 2) if quick else contest(contenders, 40, 10)


def _card_request(reader: str, octets: list[int]) -> None:
    service = CardRequest(timeout=10, readers=[reader]).waitforcard()  # kept: newer ones release the connection's context with it
    service.connection.connect(disposition=scard.SCARD_LEAVE_CARD)
    service.connection.transmit(octets)
    service.connection.disconnect()


def _sync(reader: str) -> None:
    with scardface.sync.SCard(readers=reader, timeout=10, share=ShareMode.SHARED) as card:
        card.send(_COMMAND)


def _on_loop(reader: str, loop: str) -> Contender:
    async def cycle() -> None:
        async with scardface.SCard(readers=reader, timeout=10, share=ShareMode.SHARED) as card:
            await card.send(_COMMAND)

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncTurn]:
        yield timed_async(cycle)

    return Contender(f"scardface, {loop}", opened, loop)


@contextmanager
def _monitor() -> Iterator[None]:
    """A monitor that runs in a thread of its own."""
    begun = threading.Event()
    scopes: list[scardface.sync.CancelScope] = []

    def watch() -> None:
        with scardface.sync.cancellable() as scope:
            scopes.append(scope)
            try:
                with scardface.sync.ReaderMonitor() as monitor:
                    begun.set()
                    for _ in monitor:
                        pass
            except scardface.WaitCancelledError:
                pass

    thread = threading.Thread(target=watch, name="monitor", daemon=True)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        scopes[0].cancel()
        thread.join(10)


def report(runs: Runs) -> Report:
    """What the runs found."""
    found = Report(TITLE, COLUMNS, axis="us for one cycle, card of 0 ms", data=runs)
    everything = add_contest(found, runs, lambda _: BARE)
    for setting, rounds in everything.items():
        found.verdicts.append(verdict(rounds, "scardface.sync", BARE, 1.6, setting))
        found.verdicts += [verdict(rounds, f"scardface, {loop}", BARE, 2.0, setting) for loop in LOOPS]
        if _MONITOR not in setting:
            found.verdicts.append(verdict(rounds, "scardface.sync", CARD_REQUEST, 0.7, setting))
            found.verdicts += [verdict(rounds, f"scardface, {loop}", CARD_REQUEST, 0.85, setting) for loop in LOOPS]
    found.bars = [(name, 1e6 * median) for name, median in found.bars]
    return found
