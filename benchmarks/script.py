"""A short script from its start to its first answer, card in: import, open, send one command, close, end.

- Measured: a new interpreter from its start to its end, by the clock and by its processor time (the kernel's, of all its threads),
  which other work on the machine changes less. SHARED, left as it is; READ BINARY for 16 bytes from a card of 0 ms.
- Against: for the sync face pyscard's `CardRequest`, as its documentation has it; for the async one asyncio with an event loop of
  anyio's and the bare calls in `to_thread`. Beside them the bare calls alone, an interpreter that does nothing, and one that
  imports the modules of the standard library which scardface's own need: what is between those two is not scardface's to save.
- It would be unfair to compile: byte code has been written by a first run that does not count. And to import a module without
  using its names: some load them at first use.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from ._place import Place
from ._report import Report, milli
from ._tables import COLUMNS, CORES, Runs, add_contest, repeated, verdict

TITLE = "a script from its start to its first answer"
CARD_REQUEST = "pyscard CardRequest"
ANYIO = "asyncio, anyio, bare calls"

_BARE = """
from smartcard.scard import *
def answer():
    _, context = SCardEstablishContext(SCARD_SCOPE_USER)
    _, handle, _ = SCardConnect(context, reader, SCARD_SHARE_SHARED, SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1)
    SCardBeginTransaction(handle)
    _, octets = SCardTransmit(handle, SCARD_PCI_T1, [0x00, 0xB0, 0x00, 0x10, 0x10])
    SCardEndTransaction(handle, SCARD_LEAVE_CARD)
    SCardDisconnect(handle, SCARD_LEAVE_CARD)
    SCardReleaseContext(context)
    return octets
"""
_ANYIO = f"""
import anyio, anyio.to_thread
{_BARE}
async def main():
    return await anyio.to_thread.run_sync(answer)
octets = anyio.run(main)
"""
_CARD_REQUEST = """
from smartcard.CardRequest import CardRequest
from smartcard.scard import SCARD_LEAVE_CARD
service = CardRequest(timeout=10, readers=[reader]).waitforcard()  # kept: newer ones release the connection's context with it
connection = service.connection
connection.connect(disposition=SCARD_LEAVE_CARD)
octets, sw1, sw2 = connection.transmit([0x00, 0xB0, 0x00, 0x10, 0x10])
connection.disconnect()
octets = [*octets, sw1, sw2]
"""
_SYNC = """
from scardface.sync import SCard, ShareMode
with SCard(reader, share=ShareMode.SHARED) as card:
    octets = bytes(card.send(bytes.fromhex("00B0001010")))
"""
_ASYNC = """
import anyio
from scardface import SCard, ShareMode
async def main():
    async with SCard(reader, share=ShareMode.SHARED) as card:
        return bytes(await card.send(bytes.fromhex("00B0001010")))
octets = anyio.run(main)
"""
_STANDARD_LIBRARY = """
import contextlib, enum, logging, queue, re, threading, typing
octets = bytes(18)
"""
_SCRIPTS = {
    "nothing": "octets = bytes(18)",
    "standard library": _STANDARD_LIBRARY,
    "bare calls": f"{_BARE}\noctets = answer()",
    CARD_REQUEST: _CARD_REQUEST,
    "scardface.sync": _SYNC,
    "scardface.sync by ctypes": _SYNC,
    ANYIO: _ANYIO,
    "scardface, asyncio": _ASYNC,
    "scardface, asyncio by ctypes": _ASYNC,
}
_TIMES = ("clock", "processor time")


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return repeated(CORES, 2, quick)


def measure(setting: str, quick: bool) -> object:
    """One run: name of the time to contender to rounds."""
    found: dict[str, dict[str, list[list[float]]]] = {kind: {name: [] for name in _SCRIPTS} for kind in _TIMES}
    with Place(2) as place:
        place.insert(0)
        for each in range(2 if quick else 21):
            for name, script in _SCRIPTS.items():
                times = _run(name, f"reader = {place.readers[0]!r}\n{script}\nassert len(octets) == 18")
                if each:  # the first may have written byte code
                    for kind, seconds in zip(_TIMES, times, strict=True):
                        found[kind][name].append([seconds])
    return found


def _run(name: str, script: str) -> tuple[float, float]:
    """Seconds from a script's start to its end: by the clock, and of processor time."""
    environment = os.environ | ({"SCARDFACE_BINDING": "ctypes"} if name.endswith("ctypes") else {})
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", script], env=environment)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the script {name!r} failed")
    return seconds, used.ru_utime + used.ru_stime


def report(runs: Runs) -> Report:
    """What the runs found."""
    found = Report(TITLE, COLUMNS, axis="ms of the clock", data=runs)
    by_kind = {f"{kind}, {setting}": [run[kind] for run in measured] for setting, measured in runs.items() for kind in _TIMES}
    everything = add_contest(found, by_kind, _reference, milli)
    for setting, rounds in everything.items():
        found.verdicts.append(verdict(rounds, "scardface.sync", CARD_REQUEST, 1.0, setting))
        found.verdicts.append(verdict(rounds, "scardface, asyncio", ANYIO, 1.1, setting))
    found.bars = [(name, 1e3 * median) for name, median in found.bars]
    return found


def _reference(contender: str) -> str:
    return ANYIO if "asyncio" in contender else CARD_REQUEST
