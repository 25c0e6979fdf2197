"""`send` of 100 commands at once, async, against a bare loop of 100 `SCardTransmit`.

- Measured: the time from the call to the last response, for the caller. READ BINARY for 16 bytes; cards of 0 ms and of 5 ms.
- Against: a bare loop of the binding that has a thread to itself. It needs no hop and no event loop, which is what an event loop's
  program has to pay for; the target says how much that may be. Beside them pyscard's connection, and `asyncio.to_thread` around it
  for each command, which is what it takes to stop at the first error.
- It would be unfair to count the bare loop's start of a thread, or to have its answers looked at; neither is done.
"""

from __future__ import annotations

from scardface import C_APDU

from . import _exchanges
from ._place import REAL_CARD, Place
from ._report import Report, milli
from ._tables import COLUMNS, CORES, Runs, add_contest, repeated, verdict
from ._turns import LOOPS, contest

TITLE = "send of a batch of 100 commands"
COMMANDS = 100

_COMMAND = C_APDU(0x00, 0xB0, 0x00, 0x10, b"", 16)


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    zero = repeated([f"0 ms, {cores}" for cores in CORES], 2, quick)
    return [*zero, *([] if quick else ["5 ms"] * 2)]


def measure(setting: str, quick: bool) -> object:
    """One run."""
    real = setting == "5 ms"
    commands = 5 if quick else COMMANDS
    encoded = bytes(_COMMAND)
    with Place(2) as place:
        place.insert(0, REAL_CARD if real else 0.0)
        reader = place.readers[0]
        contenders = [
            _exchanges.bare(reader, encoded, commands),
            *_exchanges.on_loops(reader, _COMMAND, commands),
            _exchanges.sync(reader, _COMMAND, commands),
        ]
        if not real:
            contenders.append(_exchanges.pyscard(reader, encoded, commands))
            contenders.append(_exchanges.in_thread("asyncio", reader, encoded, commands))
        if quick:
            return contest(contenders, 1, 1)
        return contest(contenders, 4, 1) if real else contest(contenders, 40, 1)


def report(runs: Runs) -> Report:
    """What the runs found."""
    found = Report(TITLE, COLUMNS, axis="ms for 100 commands, card of 0 ms", data=runs)
    everything = add_contest(found, runs, lambda _: _exchanges.BARE, milli)
    for setting, rounds in everything.items():
        target = 1.01 if setting == "5 ms" else 1.05
        found.verdicts += [verdict(rounds, f"scardface, {loop}", _exchanges.BARE, target, setting) for loop in LOOPS]
    found.bars = [(name, 1e3 * median) for name, median in found.bars]
    return found
