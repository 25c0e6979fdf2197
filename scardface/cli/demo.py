"""`scardface demo`: the library's main job on a real PC/SC daemon, with virtual readers and a virtual card.

An `SCard` waits for an ATR. A second later a card is put in; it is acquired, a file is selected and read, the card is taken out,
and the wait for that ends. What a monitor hears meanwhile is printed as it comes.

Exit status: 0, or 1 where no private daemon can run; one sentence on standard error says what is missing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import anyio
from anyio.abc import TaskStatus

from scardface import C_APDU, R_APDU, CardRemoved, ReaderMonitor, SCard
from scardface.testing import FileCard, PcscdUnavailable, PrivatePcscd

COMMANDS = {
    "SELECT the application F0 'SCARDFACE'": C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xf0SCARDFACE", 256),
    "READ BINARY of its file with the short identifier 1": C_APDU(0x00, 0xB0, 0x81, 0x00, b"", 256),
}
PATTERN = rb"^\x3b\x87"
"""How the ATR of a FileCard begins: TS, then T0 with seven historical bytes (ISO/IEC 7816-3:2006, 8.2)."""

TIMEOUT = 8
"""Seconds that the demo waits for its card."""

Say = Callable[[str], None]


def run() -> int:
    """Show the demo; the exit status."""
    try:
        with PrivatePcscd(readers=2) as pcscd:
            anyio.run(_show, pcscd)
    except PcscdUnavailable as error:
        print(f"scardface demo cannot run here: {error}", file=sys.stderr)
        return 1
    return 0


async def _show(pcscd: PrivatePcscd) -> None:
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begin:5.2f} s  {text}", flush=True)

    say(f"a private PC/SC daemon runs, with the readers {' and '.join(pcscd.readers)}")
    async with anyio.create_task_group() as group:
        await group.start(_tell_events, say)
        group.start_soon(_insert_later, pcscd, say)
        await _use_card(pcscd, say)


async def _use_card(pcscd: PrivatePcscd, say: Say) -> None:
    say(f"an SCard waits for a card whose ATR matches {PATTERN.decode()}")
    async with SCard(atr=PATTERN, timeout=TIMEOUT) as card:
        say(f"acquired: {card.reader}, {card.protocol.name}, ATR {card.atr.hex(' ').upper()}")
        for words, command in COMMANDS.items():
            say(words)
            _tell_exchange(command, await card.send(command), say)
        say("the card is taken out")
        await anyio.to_thread.run_sync(pcscd.remove, card.reader)
        await card.wait()
        say("wait() returned: the card is gone")


async def _tell_events(say: Say, *, task_status: TaskStatus[None]) -> None:
    """Print what the monitor yields, up to the removal."""
    async with ReaderMonitor() as monitor:
        task_status.started()
        async for event in monitor:
            say(f"event: {event}")
            if isinstance(event, CardRemoved):
                return


async def _insert_later(pcscd: PrivatePcscd, say: Say) -> None:
    await anyio.sleep(1)
    say(f"a FileCard is put into {pcscd.readers[1]}")
    await anyio.to_thread.run_sync(pcscd.insert, 1, FileCard())


def _tell_exchange(command: C_APDU, response: R_APDU, say: Say) -> None:
    say(f"  -> {bytes(command).hex(' ').upper()}")
    say(f"  <- {response.data.hex(' ').upper()}")
    if response.data.isascii() and response.data.decode().isprintable():
        say(f"     {response.data.decode()!r}")
    say(f"  <- {response.sw12.hex(' ').upper()}: {response.meaning}")
