"""The promise: no end of the PC/SC service, whatever its way, ends a wait or a monitor, hangs a call, or leaves anything behind.

Proved here, on a real pcscd: 20 times SIGKILL under a waiter and a monitor (fewer in the usual run); the service stopped,
killed and frozen under a waiter, a monitor, an open card with a `wait` and an exchange in flight, all at once. Proved
elsewhere: a service that does not run at the start (test_scard.py, test_monitor.py), the watcher's pauses (test_watch.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from scardface import (
    ATR,
    C_APDU,
    CardInserted,
    CardRemoved,
    ReaderAdded,
    ReaderMonitor,
    SCard,
    ServiceDown,
    ServiceUnavailableError,
    ServiceUp,
)
from scardface._pcsc.binding_choice import system_pcsc
from scardface.testing import PrivatePcscd
from tests.support.cards import ECHO, GATE, T1, LogCard
from tests.support.faces import both_faces, off_loop
from tests.support.figures import spread, tell, times
from tests.support.freezing import freeze
from tests.support.waits import until, waiters

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]

RECOVERY = 30.0
"""Seconds after which something that must happen has not happened; a second is promised."""


class SocketWatch:
    """Notes when the daemon's socket answers again."""

    def __init__(self) -> None:
        self.since = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._end.wait(0.001):
            with contextlib.suppress(OSError):
                if sys.platform == "win32":
                    system_pcsc().establish().release()
                else:
                    with socket.socket(socket.AF_UNIX) as tried:
                        tried.connect(os.environ["PCSCLITE_CSOCK_NAME"])
                self.since = time.monotonic()
                return

    def __enter__(self) -> SocketWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


async def expect_events(monitor: Any, *expected: Any) -> None:
    """The next events of a monitor are these."""
    for event in expected:
        with anyio.fail_after(RECOVERY):
            assert await monitor.__anext__() == event


@both_faces
async def test_sigkill_again_and_again_under_a_waiter_and_a_monitor(pcscd: PrivatePcscd, face: Any) -> None:
    """Each time the wait goes on and gets the card, and the monitor tells of all that happened."""
    rounds = times(2, 20)
    told, acquired = [], []

    async def acquire() -> None:
        async with face.open(timeout=60) as card:
            acquired.append((time.monotonic(), card.reader))

    async with face.monitor() as monitor:
        await expect_events(monitor, *[ReaderAdded(name, initial=True) for name in pcscd.readers])
        for number in range(rounds):
            name = pcscd.readers[number % 4]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(acquire)
                await until(lambda: len(waiters()) == 1)
                await off_loop(pcscd.kill)
                await expect_events(monitor, ServiceDown())
                await off_loop(pcscd.insert, name, LogCard())
                with SocketWatch() as back:
                    await off_loop(pcscd.start)
                    await expect_events(monitor, ServiceUp())
                    told.append(time.monotonic() - back.since)
                await expect_events(monitor, CardInserted(name, ATR(T1)))
            assert acquired[-1][1] == name
            acquired[-1] = acquired[-1][0] - back.since, name
            await off_loop(pcscd.remove, name)
            await expect_events(monitor, CardRemoved(name))
    assert len(acquired) == rounds
    tell(f"{rounds} SIGKILLs, {face.name}: monitor back {spread(told)}; card acquired {spread([after for after, _ in acquired])}")


class Threatened:
    """Everything that a program may have going on, each with what became of it: a waiter, an open card, its `wait`, an exchange."""

    def __init__(self, face: Any, pcscd: PrivatePcscd, card: LogCard) -> None:
        self._face, self._pcscd, self._card = face, pcscd, card
        self.opened = anyio.Event()
        self.ends: dict[str, BaseException | str] = {}

    async def _note(self, what: str, call: Any) -> None:
        try:
            self.ends[what] = await call
        except ServiceUnavailableError as error:
            self.ends[what] = error

    async def acquire(self) -> None:
        """Wait for the card in the second reader."""
        async with self._face.open(self._pcscd.readers[1], timeout=60) as card:
            self.ends["acquire"] = card.reader

    async def use(self) -> None:
        """Open the card in the first reader, have a `wait` and an exchange go on; then call all else."""
        async with self._face.open(self._pcscd.readers[0], timeout=30) as card:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._note, "wait", card.wait())
                await until(lambda: card._removals)
                tasks.start_soon(self._note, "send", card.send(C_APDU(0, GATE), C_APDU(0, ECHO)))
                await until(self._card.reached.is_set)
                self.opened.set()
            await self._note("next send", card.send(C_APDU(0, ECHO)))
            await self._note("transmit", card.transmit(b"\x00\x10\x00\x00"))
            await self._note("next wait", card.wait())


@pytest.mark.parametrize("how", ["stop", "kill"])
@both_faces
async def test_a_service_that_ends_under_everything_at_once(pcscd: PrivatePcscd, face: Any, how: str) -> None:
    card = LogCard()
    await off_loop(pcscd.insert, 0, card)
    await off_loop(pcscd.wait_for_card, 0)
    threatened = Threatened(face, pcscd, card)
    async with face.monitor(pcscd.readers[1]) as monitor, anyio.create_task_group() as tasks:
        await expect_events(monitor, ReaderAdded(pcscd.readers[1], initial=True))
        tasks.start_soon(threatened.acquire)
        tasks.start_soon(threatened.use)
        await threatened.opened.wait()
        await until(lambda: len(waiters()) == 1)
        async with anyio.create_task_group() as ending:
            ending.start_soon(off_loop, getattr(pcscd, how))
            await expect_events(monitor, ServiceDown())
            card.gate.set()  # the card's own code, which ending the service waits for
        await until(lambda: len(threatened.ends) == 5)
        assert all(isinstance(end, ServiceUnavailableError) for end in threatened.ends.values()), threatened.ends
        assert len(card.commands) == 1  # the command that was in flight, and none of those after it
        await off_loop(pcscd.start)
        await expect_events(monitor, ServiceUp())
        await off_loop(pcscd.insert, 1, LogCard())
        await expect_events(monitor, CardInserted(pcscd.readers[1], ATR(T1)))
    assert threatened.ends["acquire"] == pcscd.readers[1]


@both_faces
async def test_a_monitor_entered_while_the_service_is_down_beside_others(pcscd: PrivatePcscd, face: Any) -> None:
    """It knows of no reader yet, whatever the others knew: it is told of all when the service is back."""
    name = pcscd.readers[0]
    await off_loop(pcscd.insert, 0, LogCard())
    await off_loop(pcscd.wait_for_card, 0)
    async with face.monitor(name) as first:
        await expect_events(first, ReaderAdded(name, initial=True), CardInserted(name, ATR(T1), initial=True))
        await off_loop(pcscd.stop)
        await expect_events(first, ServiceDown())
        async with face.monitor(name) as second:
            await expect_events(second, ServiceDown(initial=True))
            assert second.state == {}
            await off_loop(pcscd.start)
            await expect_events(first, ServiceUp(), CardRemoved(name), CardInserted(name, ATR(T1)))
            await expect_events(second, ServiceUp(), ReaderAdded(name), CardInserted(name, ATR(T1)))


no_signals = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGSTOP")


@pytest.fixture
def frozen(pcscd: PrivatePcscd) -> Iterator[Any]:
    """Freezes the daemon until the end of the test, or until it is thawed."""
    pid = pcscd.pid
    try:
        yield lambda: freeze(pid)
    finally:
        os.kill(pid, signal.SIGCONT)


@no_signals
async def test_a_frozen_service_holds_up_no_cancellation(pcscd: PrivatePcscd, frozen: Any) -> None:
    """Everything hangs then (fact 23), but who is cancelled leaves, in the frost. What is left goes with it."""
    card = LogCard()
    card.gate.set()
    await off_loop(pcscd.insert, 0, card)
    await off_loop(pcscd.wait_for_card, 0)

    async def monitor() -> None:
        async with ReaderMonitor() as monitor:
            async for _ in monitor:
                pass

    async def acquire() -> None:
        async with SCard(pcscd.readers[1]):
            pytest.fail("there is no card in this reader")

    async def use(ready: anyio.Event, on: anyio.Event) -> None:
        async with SCard(pcscd.readers[0], timeout=30) as card:
            ready.set()
            await on.wait()
            await card.send(C_APDU(0, ECHO))

    ready, on = anyio.Event(), anyio.Event()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(use, ready, on)
            tasks.start_soon(monitor)
            tasks.start_soon(acquire)
            await ready.wait()
            await until(lambda: len(waiters()) == 1)
            frozen()
            on.set()
            await anyio.sleep(0.05)  # the exchange is stuck by now, or will be: both are right
            begin = time.monotonic()
            scope.cancel()
    took = time.monotonic() - begin
    tell(f"a frozen pcscd: everything cancelled in {1000 * took:.0f} ms")
    os.kill(pcscd.pid, signal.SIGCONT)
    async with SCard(pcscd.readers[0], timeout=10) as again:
        assert (await again.send(C_APDU(0, ECHO, 0, 0, b"x"))).data == b"x"


FROZEN = """
import anyio, atexit, os, signal, threading
from scardface import ReaderMonitor, SCard
from scardface._pcsc.binding_choice import system_pcsc
from scardface.testing import PrivatePcscd

async def main():
    async with anyio.create_task_group() as tasks, ReaderMonitor() as monitor:
        async def acquire():
            async with SCard(pnp=True):
                pass
        tasks.start_soon(acquire)
        await monitor.__anext__()
        await anyio.sleep(0.1)
        os.kill(pcscd.pid, signal.SIGSTOP)
        tasks.cancel_scope.cancel()

pcscd = PrivatePcscd(2)
pcscd.start()
anyio.run(main)
assert any(thread.name.startswith("scardface-") for thread in threading.enumerate()), "nothing hangs: this proves nothing"
atexit.register(os.kill, pcscd.pid, signal.SIGKILL)  # frozen until the interpreter ends: nobody waits for its threads any more
print("out", flush=True)
"""


@no_signals
@pytest.mark.usefixtures("pcscd")
def test_a_frozen_service_holds_up_no_exit() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PCSCLITE_CSOCK_NAME"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", FROZEN], env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "out\n", done.stderr
