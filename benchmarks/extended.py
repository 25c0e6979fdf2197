"""A 64 KB exchange of extended length: 65,000 bytes there, 65,533 bytes back.

- Measured: one call, sync and async, bytes in and bytes out; by pyscard's binding where it is the default, and by ctypes.
- Against: the bare call that has bytes and wants bytes, as all who speak to cards do: `SCardTransmit` with `list(command)` before
  and `bytes(answer)` behind. Beside it the same call without the conversions, which is what the binding alone costs.
- It would be unfair to leave the conversions out of the reference: they are a third of the exchange, and no use of the binding
  with real data goes without them.
"""

from __future__ import annotations

from scardface import C_APDU
from scardface.backend import Ctypes

from . import _exchanges
from ._place import Place
from ._report import Report, milli
from ._tables import COLUMNS, CORES, Runs, add_contest, repeated, verdict
from ._turns import LOOPS, contest

TITLE = "64 KB exchange of extended length"
REFERENCE = "bare call, bytes to bytes"
BY_CTYPES = "by ctypes"

_COMMAND = C_APDU(0x00, 0xB1, 0xFF, 0xFD, bytes(range(250)) * 260, 0x10000)


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return repeated(CORES, 2, quick)


def measure(setting: str, quick: bool) -> object:
    """One run."""
    encoded = bytes(_COMMAND)
    with Place(2) as place:
        place.insert(0)
        reader = place.readers[0]
        contenders = [
            _exchanges.bare(reader, encoded, converts=True, name=REFERENCE),
            _exchanges.bare(reader, encoded, name="bare call, lists"),
            _exchanges.sync(reader, _COMMAND),
            _exchanges.sync(reader, _COMMAND, name=f"scardface.sync {BY_CTYPES}", backend=Ctypes()),
            *_exchanges.on_loops(reader, _COMMAND),
            *_exchanges.on_loops(reader, _COMMAND, name=f"scardface {BY_CTYPES}", backend=Ctypes()),
            _exchanges.pyscard(reader, encoded),
        ]
        return contest(contenders, 1, 1) if quick else contest(contenders, 40, 3)


def report(runs: Runs) -> Report:
    """What the runs found."""
    found = Report(TITLE, COLUMNS, axis="ms for 64 KB there and back", data=runs)
    everything = add_contest(found, runs, lambda _: REFERENCE, milli)
    by_ctypes = [f"scardface.sync {BY_CTYPES}", *(f"scardface {BY_CTYPES}, {loop}" for loop in LOOPS)]
    by_pyscard = ["scardface.sync", *(f"scardface, {loop}" for loop in LOOPS)]
    for setting, rounds in everything.items():
        found.verdicts += [verdict(rounds, name, REFERENCE, 0.15, setting) for name in by_ctypes]
        found.verdicts += [verdict(rounds, name, REFERENCE, 1.1, setting) for name in by_pyscard]
    found.bars = [(name, 1e3 * median) for name, median in found.bars]
    return found
