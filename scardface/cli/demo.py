"""`scardface demo`: the library's main job on a real PC/SC daemon, with virtual readers and a virtual card.

Where no private daemon can run, or nobody wants one, it is shown on the simulated PC/SC. The first lines say which one it is.

An `SCard` waits for an ATR. A second later a card is put in; it is acquired, a file is selected and read, the card is taken out,
and the wait for that ends. What a monitor reports meanwhile is printed as it comes.

Exit status: 0.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack

import anyio
from anyio.abc import TaskStatus

from .. import C_APDU, R_APDU, CardRemoved, ReaderMonitor, SCard
from ..testing import FileCard, PcscdUnavailable, PrivatePcscd, SimulatedPCSC
from ._interrupt import run_loop

COMMANDS = {
    "SELECT the application F0 'SCARDFACE'": C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xf0SCARDFACE", 256),
    "READ BINARY of its file with the short identifier 1": C_APDU(0x00, 0xB0, 0x81, 0x00, b"", 256),
}
PATTERN = rb"^\x3b\x87"
"""How the ATR of a FileCard begins: TS, then T0 with seven historical bytes (ISO/IEC 7816-3:2006, 8.2)."""

TIMEOUT = 8
"""Seconds that the demo waits for its card."""

READERS = ("Virtual Reader 0", "Virtual Reader 1")
"""The simulated ones."""

Say = Callable[[str], None]
PCSC = PrivatePcscd | SimulatedPCSC


def run(*, as_json: bool = False, virtual: bool = False) -> int:
    """Show the demo; the exit status.

    Args:
        as_json: one JSON object a line, in place of words.
        virtual: on the simulated PC/SC, whether a daemon can run or not.
    """
    begin = time.monotonic()

    def say(text: str) -> None:
        seconds = time.monotonic() - begin
        print(json.dumps({"seconds": round(seconds, 2), "text": text}) if as_json else f"{seconds:5.2f} s  {text}", flush=True)

    with ExitStack() as stack:
        pcsc = None if virtual else _daemon(stack, say)
        run_loop(_show, pcsc or _simulation(stack, say), say)
    return 0


def _daemon(stack: ExitStack, say: Say) -> PCSC | None:
    """A real PC/SC with two empty readers; None if there can be none."""
    try:
        pcsc = stack.enter_context(PrivatePcscd(readers=2))
    except PcscdUnavailable as error:
        say(f"no private PC/SC daemon can run here: {error}")
        return None
    say(f"a private PC/SC daemon runs, with the readers {' and '.join(pcsc.readers)}")
    return pcsc


def _simulation(stack: ExitStack, say: Say) -> PCSC:
    """A simulated one."""
    pcsc = stack.enter_context(SimulatedPCSC())
    for name in READERS:
        pcsc.add_reader(name)
    say(f"a simulated PC/SC runs, with the readers {' and '.join(pcsc.readers)}")
    return pcsc


async def _show(pcsc: PCSC, say: Say) -> None:
    async with anyio.create_task_group() as group:
        await group.start(_tell_events, say)
        group.start_soon(_insert_later, pcsc, say)
        await _use_card(pcsc, say)


async def _use_card(pcsc: PCSC, say: Say) -> None:
    say(f"an SCard waits for a card whose ATR matches {PATTERN.decode()}")
    async with SCard(atr=PATTERN, timeout=TIMEOUT) as card:
        say(f"acquired: {card.reader}, {card.protocol.name}, ATR {card.atr.hex(' ').upper()}")
        for description, command in COMMANDS.items():
            say(description)
            _tell_exchange(command, await card.send(command), say)
        say("the card is taken out")
        await anyio.to_thread.run_sync(pcsc.remove, card.reader)
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


async def _insert_later(pcsc: PCSC, say: Say) -> None:
    await anyio.sleep(1)
    say(f"a FileCard is put into {pcsc.readers[1]}")
    await anyio.to_thread.run_sync(pcsc.insert, 1, FileCard())


def _tell_exchange(command: C_APDU, response: R_APDU, say: Say) -> None:
    say(f"  -> {bytes(command).hex(' ').upper()}")
    say(f"  <- {response.data.hex(' ').upper()}")
    if response.data.isascii() and response.data.decode().isprintable():
        say(f"     {response.data.decode()!r}")
    say(f"  <- {response.sw12.hex(' ').upper()}: {response.meaning}")
