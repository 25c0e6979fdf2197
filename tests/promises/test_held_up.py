"""The promise: what PC/SC itself holds up, and nothing cancels (facts 4 and 23), holds up no deadline, no cancel and no exit; it is
cleaned up when PC/SC lets go.

Proved here: another program's transaction, a real one and a simulated one, in the way of every call that it blocks; a reader that
hangs. Proved elsewhere: a frozen service (test_daemon.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from scardface import C_APDU, CardTimeoutError, Disposition, Protocol, SCard, ShareMode
from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support.cards import ECHO, LogCard
from tests.support.faces import BACKENDS, off_loop
from tests.support.figures import tell
from tests.support.foreign import SHARED, Foreign
from tests.support.waits import SEEN, threads_named, until, wait_until, waiters

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]

SAY = C_APDU(0, ECHO, 0, 0, b"x")


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    """A simulation with a card in the reader "in", and an empty reader."""
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("in")
        pcsc.add_reader("empty")
        pcsc.insert("in", LogCard())
        yield pcsc
        assert not waiters(pcsc)
        wait_until(lambda: not pcsc.open_contexts)


async def check(reader: str) -> None:
    """The card can be had and works."""
    async with SCard(reader, timeout=10) as card:
        assert (await card.send(SAY)).data == b"x"


@pytest.mark.parametrize("anyio_backend", [BACKENDS["asyncio"], BACKENDS["trio"]], ids=["asyncio", "trio"], indirect=True)
async def test_a_foreign_transaction_holds_up_no_deadline_and_no_cancel(pcscd: PrivatePcscd, foreign: Foreign) -> None:
    """A real one, that lasts until the test ends it: after the deadline, and after the cancel."""
    await off_loop(pcscd.insert, 0, LogCard())
    await off_loop(pcscd.wait_for_card, 0)
    async with SCard(timeout=30, share=ShareMode.SHARED) as card:  # opened before: its commands have to wait
        await off_loop(foreign.connect, pcscd.readers[0], SHARED)
        await off_loop(foreign.begin)
        try:
            begin = time.monotonic()
            with pytest.raises(CardTimeoutError, match="another program's transaction"):
                await SCard(timeout=SEEN, share=ShareMode.SHARED)
            deadline = time.monotonic() - begin
            begin = time.monotonic()
            with anyio.move_on_after(0.1):
                await SCard(share=ShareMode.SHARED)
            with anyio.move_on_after(0.1):
                await card.send(C_APDU(0, ECHO))
            cancelled = time.monotonic() - begin - 0.2
            # One connect that nobody wants any more, and the card's own.
            await until(lambda: len(threads_named("scardface-card")) == 2)
        finally:  # a test that fails here would wait for ever for its command
            await off_loop(foreign.end)
        await until(lambda: len(threads_named("scardface-card")) == 1)
        assert (await card.send(SAY)).data == b"x"
        await off_loop(foreign.disconnect)
    async with SCard(timeout=30) as again:  # EXCLUSIVE: nobody else has it
        await again.send(C_APDU(0, ECHO))
    tell(f"under a foreign transaction: a deadline of 1 s after {deadline:.3f} s, cancels {1000 * cancelled:.0f} ms late")
    assert deadline >= 1


class Holder:
    """Another program of the simulation, in a transaction until `end`."""

    def __init__(self, pcsc: SimulatedPCSC) -> None:
        self._context = pcsc.establish()
        self._handle = self._context.connect("in", ShareMode.SHARED, Protocol.T0 | Protocol.T1)
        self._handle.begin_transaction()

    def end(self) -> None:
        """It ends."""
        self._handle.end_transaction(Disposition.LEAVE)
        self._context.release()


async def _connect(card: SCard) -> None:
    await SCard("in", share=ShareMode.SHARED)


async def _send(card: SCard) -> None:
    await card.send(C_APDU(0, ECHO))


async def _transmit(card: SCard) -> None:
    await card.transmit(b"\x00\x10\x00\x00")


async def _send_and_close(card: SCard) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_send, card)
        await anyio.wait_all_tasks_blocked()
        await card.aclose()


BLOCKED = (_connect, _send, _transmit, _send_and_close)


@pytest.mark.parametrize("call", BLOCKED, ids=lambda call: call.__name__[1:])
async def test_a_call_that_is_held_up_is_left_at_once(pcsc: SimulatedPCSC, call: Any) -> None:
    """The thread ends when PC/SC lets go; until then nothing else is in the way."""
    card = await SCard("in", share=ShareMode.SHARED)
    holder = Holder(pcsc)
    with anyio.move_on_after(0.05) as scope:
        await call(card)
    assert scope.cancelled_caught
    pcsc.insert("empty", LogCard())
    await check("empty")  # others go on meanwhile
    holder.end()
    if not card.closed:
        assert (await card.send(SAY)).data == b"x"
    await card.aclose()
    await check("in")


HANGS = """
import threading
import anyio
from scardface import C_APDU, SCard
from scardface.testing import SimulatedPCSC, VirtualCard

class Hangs(VirtualCard):
    def process(self, command):
        threading.Event().wait()

async def main():
    with anyio.move_on_after(0.1):
        async with SCard(timeout=30) as card:
            await card.send(C_APDU(0, 0))
    print("cancelled", flush=True)

pcsc = SimulatedPCSC()
pcsc.add_reader("A")
pcsc.insert("A", Hangs())
pcsc.__enter__()
anyio.run(main, backend={backend!r})
print("out", flush=True)
"""


def test_a_reader_that_hangs_stops_neither_a_cancel_nor_the_exit(anyio_backend: Any) -> None:
    program = HANGS.format(backend=anyio_backend[0])
    begin = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False)
    took = time.monotonic() - begin
    assert done.stdout == "cancelled\nout\n", done.stderr
    tell(f"a reader that hangs: the program has ended after {took:.1f} s")
