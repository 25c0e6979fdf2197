"""`send` of one command, sync, against pyscard's `CardConnection.transmit`.

- Measured: one call, READ BINARY for 16 bytes from a card of 0 ms, so that nothing hides what the library adds.
- Against: `CardConnection.transmit`, which knows no 61xx, 6Cxx, T=0 or long commands, keeps no PIN out of logs and lets two
  threads interleave. Beside them the bare call, and yubikit's connection if it is installed.
- By pyscard's binding, which is the default where it is installed, and by ctypes, whose bare call takes a little longer.
- Where others share the card, `send` is three calls of PC/SC; that is measured against the same three, bare.
- It would be unfair to convert pyscard's command for every call; it gets the list that it wants, made once. A longer answer would
  be unfair to pyscard, which goes through every byte of it in Python, a shorter one to scardface: 16 bytes are between them.
"""

from __future__ import annotations

from scardface import C_APDU
from scardface.backend import Ctypes

from . import _exchanges
from ._place import Place
from ._report import Report
from ._tables import COLUMNS, CORES, Runs, add_contest, repeated, verdict
from ._turns import contest

TITLE = "send of one command, sync"
REFERENCE = "pyscard CardConnection"
BY_CTYPES = "scardface.sync by ctypes"
SHARED = "scardface.sync, SHARED"
TRANSACTION = "bare Begin, Transmit, End"

_COMMAND = C_APDU(0x00, 0xB0, 0x00, 0x10, b"", 16)


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return repeated(CORES, 4, quick)


def measure(setting: str, quick: bool) -> object:
    """One run."""
    encoded = bytes(_COMMAND)
    with Place(4) as place:
        for each in range(3):
            place.insert(each)
        reader = place.readers[0]
        contenders = [
            _exchanges.pyscard(reader, encoded),
            _exchanges.bare(reader, encoded),
            _exchanges.bare(reader, encoded, converts=True, name="bare scard loop, bytes to bytes"),
            _exchanges.sync(place.readers[1], _COMMAND, alone=True),
            _exchanges.sync(place.readers[2], _COMMAND, alone=True, name=BY_CTYPES, backend=Ctypes()),
            _exchanges.bare_transaction(reader, encoded),
            _exchanges.sync(reader, _COMMAND, name=SHARED),
            *_exchanges.yubikit(reader, encoded),
        ]
        return contest(contenders, 1, 2) if quick else contest(contenders, 120, 20)


def report(runs: Runs) -> Report:
    """What the runs found."""
    found = Report(TITLE, COLUMNS, axis="us for one command, card of 0 ms", data=runs)
    everything = add_contest(found, runs, lambda name: TRANSACTION if name == SHARED else REFERENCE)
    for setting, rounds in everything.items():
        found.verdicts += [
            verdict(rounds, "scardface.sync", REFERENCE, 0.97, setting),
            verdict(rounds, BY_CTYPES, REFERENCE, 1.0, setting),
            verdict(rounds, SHARED, TRANSACTION, 1.08, setting),
        ]
    found.bars = [(name, 1e6 * median) for name, median in found.bars]
    if not any("yubikit" in row[0] for row in found.rows):
        found.notes.append("yubikit: not installed")
    return found
