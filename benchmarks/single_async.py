"""`send` of one command, async, against `to_thread(connection.transmit)` on the same event loop.

- Measured: one awaited call, READ BINARY for 16 bytes from a card of 0 ms.
- Against: what users of pyscard write in an event loop, `asyncio.to_thread` around `CardConnection.transmit`, on asyncio and on
  uvloop, and trio's own `to_thread.run_sync`. Both sides go into a thread and back; scardface's is kept for the card.
- Beside them what a hop costs at least on this machine: a thread that is kept, a queue to it, a post back, and the bare call.
- Where others share the card, `send` is three calls of PC/SC; that is measured against the same three in `to_thread`.
- It would be unfair to compare loops with each other: each has its own reference. And to let other tasks run: there are none.
"""

from __future__ import annotations

from scardface import C_APDU

from . import _exchanges
from ._place import Place
from ._report import Report
from ._tables import COLUMNS, CORES, Runs, add_contest, repeated, verdict
from ._turns import LOOPS, contest

TITLE = "send of one command, async"
SHARED = "scardface SHARED"

_COMMAND = C_APDU(0x00, 0xB0, 0x00, 0x10, b"", 16)


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return repeated(CORES, 3, quick)


def measure(setting: str, quick: bool) -> object:
    """One run."""
    encoded = bytes(_COMMAND)
    with Place(1 + len(LOOPS)) as place:
        for each in range(1 + len(LOOPS)):
            place.insert(each)
        reader, *own = place.readers
        contenders = [
            *(_exchanges.in_thread(loop, reader, encoded) for loop in LOOPS),
            *(_exchanges.hop(loop, reader, encoded) for loop in LOOPS),
            *_exchanges.on_loops(own, _COMMAND),
            *(_exchanges.transaction_in_thread(loop, reader, encoded) for loop in LOOPS),
            *_exchanges.on_loops(reader, _COMMAND, name=SHARED),
        ]
        return contest(contenders, 1, 2) if quick else contest(contenders, 60, 20)


def report(runs: Runs) -> Report:
    """What the runs found."""
    found = Report(TITLE, COLUMNS, axis="us for one command, card of 0 ms", data=runs)
    everything = add_contest(found, runs, _reference)
    for setting, rounds in everything.items():
        for loop in LOOPS:
            found.verdicts += [
                verdict(rounds, f"scardface, {loop}", f"to_thread(transmit), {loop}", 0.8, setting),
                verdict(rounds, f"scardface, {loop}", f"bare hop, {loop}", 1.2, setting),
                verdict(rounds, f"{SHARED}, {loop}", f"to_thread(Begin, Transmit, End), {loop}", 0.8, setting),
            ]
    found.bars = [(name, 1e6 * median) for name, median in found.bars]
    return found


def _reference(contender: str) -> str:
    loop = contender.rsplit(", ")[-1]
    call = "Begin, Transmit, End" if contender.startswith((SHARED, "to_thread(Begin")) else "transmit"
    return f"to_thread({call}), {loop}"
