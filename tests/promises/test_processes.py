"""The promise: any number of event loops may come and go in one process, one after another and at once; and after a fork the
parent never notices, what was made before says so in the child, and new objects work there.

Proved here: loops of all kinds after one another and side by side, at the same cards; forks under an async card, a monitor and
a waiter of asyncio and trio on a real pcscd; forks at random moments of a busy program, whichever of its locks are held just
then. Proved elsewhere: the sync face after a fork (test_sync.py), each table that a fork forgets (test_threads.py), one line
for all loops (_waiting/test_dispatcher.py).
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from scardface import C_APDU, CardInserted, ReaderMonitor, SCard, sync
from scardface._threads import in_thread, spawn
from scardface._waiting.driver import _drivers
from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support.cards import ECHO, LogCard
from tests.support.faces import BACKENDS
from tests.support.figures import tell, times
from tests.support.waits import wait_until

pytestmark = pytest.mark.usefixtures("no_leaks")

SAY = C_APDU(0, ECHO, 0, 0, b"x")
READERS = 3


class Alone(LogCard):
    """Fails when two use it at once, where each says first who it is."""

    def __init__(self) -> None:
        super().__init__()
        self.user = b""
        self.served = 0

    def process(self, command: bytes) -> bytes:
        if command[1] == ECHO:
            begin, who = command[2] == 0, command[5:]
            assert begin == (self.user == b""), f"{who!r} meets {self.user!r}"
            assert begin or who == self.user
            self.user, self.served = (who, self.served) if begin else (b"", self.served + 1)
        return super().process(command)


def nobody_waits() -> bool:
    """Whether no driver runs, and no thread of one is left."""
    return not any(driver._runs or driver.threads() for _, driver in list(_drivers.values()))


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    """A simulation with three cards."""
    with SimulatedPCSC() as pcsc:
        for number in range(READERS):
            pcsc.add_reader(f"R{number}")
            pcsc.insert(number, Alone())
        yield pcsc
        wait_until(lambda: not pcsc.open_contexts)
        assert nobody_waits()


async def use_one(who: str) -> None:
    """Have a card to oneself for a moment."""
    async with SCard(timeout=30) as card:
        await card.send(C_APDU(0, ECHO, 0, 0, who.encode()))
        await anyio.sleep(0)
        assert (await card.send(C_APDU(0, ECHO, 1, 0, who.encode()))).data == who.encode()


async def a_loops_life(name: str, tasks_at_once: int, rounds: int) -> None:
    """Some tasks, that use cards again and again, beside a monitor."""

    async def work(number: int) -> None:
        for turn in range(rounds):
            await use_one(f"{name}.{number}.{turn}")

    async with ReaderMonitor() as monitor, anyio.create_task_group() as tasks:
        for number in range(tasks_at_once):
            tasks.start_soon(work, number)
        assert len([await monitor.__anext__() for _ in range(2 * READERS)]) == 2 * READERS


def run(backend: Any, *arguments: Any) -> None:
    """One event loop."""
    name, options = backend
    anyio.run(a_loops_life, *arguments, backend=name, backend_options=options)


def test_loops_one_after_another(pcsc: SimulatedPCSC) -> None:
    loops = times(10, 300)
    for number in range(loops):
        for kind, backend in BACKENDS.items():
            run(backend, f"{kind}{number}", 2, 1)
            assert nobody_waits()
    cards = list(pcsc.cards.values())
    assert sum(card.served for card in cards if isinstance(card, Alone)) == 2 * loops * len(BACKENDS)
    tell(f"{loops * len(BACKENDS)} event loops one after another")


def test_loops_and_threads_at_once(pcsc: SimulatedPCSC) -> None:
    """Nine loops with three tasks each, and three threads without a loop, at three cards."""
    rounds, failures = times(5, 50), []

    def loop(number: int, kind: str) -> None:
        try:
            run(BACKENDS[kind], f"{kind}{number}", 3, rounds)
        except BaseException as error:
            failures.append(error)

    def plain(number: int) -> None:
        try:
            for turn in range(rounds):
                who = f"plain{number}.{turn}".encode()
                with sync.SCard(timeout=30) as card:
                    card.send(C_APDU(0, ECHO, 0, 0, who), C_APDU(0, ECHO, 1, 0, who))
        except BaseException as error:
            failures.append(error)

    threads = [spawn("loop", loop, number, kind) for number in range(3) for kind in BACKENDS]
    threads += [spawn("plain", plain, number) for number in range(3)]
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not failures, failures
    cards = list(pcsc.cards.values())
    served = [card.served for card in cards if isinstance(card, Alone)]
    assert sum(served) == (3 * len(BACKENDS) * 3 + 3) * rounds
    tell(f"{3 * len(BACKENDS)} event loops and 3 threads at once, {sum(served)} cards acquired: {served}")


def test_a_monitor_of_each_loop_gets_all_events(pcsc: SimulatedPCSC) -> None:
    heard: dict[str, int] = {}
    entered = threading.Barrier(len(BACKENDS) + 1)

    async def watch(kind: str) -> None:
        async with ReaderMonitor() as monitor:
            for _ in range(2 * READERS):
                await monitor.__anext__()
            heard[kind] = 0
            await in_thread("entered", entered.wait)
            while heard[kind] < 20:
                heard[kind] += isinstance(await monitor.__anext__(), CardInserted)

    threads = [
        spawn("loop", functools.partial(anyio.run, watch, kind, backend=backend[0], backend_options=backend[1]))
        for kind, backend in BACKENDS.items()
    ]
    entered.wait(10)
    for number in range(20):
        pcsc.insert("R0", pcsc.remove("R0"))
        wait_until(lambda: list(heard.values()) == [number + 1] * len(BACKENDS))  # noqa: B023  called at once
    for thread in threads:
        thread.join(30)
    assert heard == dict.fromkeys(BACKENDS, 20)


FORK = """
import contextvars, os, signal, sys, threading, traceback
import anyio
import scardface
from scardface import C_APDU, CardInserted, ReaderMonitor, SCard, ShareMode, cancel_all
from scardface._threads import in_thread
from scardface.testing import PrivatePcscd
from tests.support.cards import LogCard
from tests.support.waits import is_at_rest, until

BACKEND = {backend!r}
SAY = C_APDU(0, 0x10, 0, 0, b"x")

async def fresh():
    assert await scardface.readers() == pcscd.readers
    async with SCard(timeout=30, share=ShareMode.SHARED) as card, ReaderMonitor() as monitor:
        assert (await card.send(SAY)).data == b"x"
        await monitor.__anext__()

def in_the_child(old):
    signal.alarm(20)
    for use in old:
        try:
            use()
        except RuntimeError as error:
            assert "fork" in str(error), error
        else:
            raise AssertionError("what the parent made works in the child")
    cancel_all()
    for name in ("asyncio", "trio"):
        anyio.run(fresh, backend=name)

def step(coroutine):
    try:
        coroutine.send(None)
    except StopIteration:
        pass
    finally:
        coroutine.close()

def fork(old):
    child = os.fork()
    if not child:
        status = 1
        try:
            in_the_child(old)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

async def main():
    got = []
    async with SCard(timeout=30, share=ShareMode.SHARED) as card, ReaderMonitor() as monitor, anyio.create_task_group() as tasks:
        waiting = SCard(pcscd.readers[1], timeout=30)
        async def wait():
            async with waiting:
                got.append(waiting.reader)
        tasks.start_soon(wait)
        other = ReaderMonitor()
        old = [
            lambda: step(card.send(SAY)), lambda: step(card.transmit(bytes(4))), lambda: step(card.wait()), card.cancel,
            waiting.cancel, lambda: step(card.aclose()), lambda: step(other.__aenter__()), lambda: step(SCard._acquire(unused)),
        ]
        unused = SCard()
        for _ in range(2):
            await until(lambda: waiting._acquisition is not None and waiting._acquisition._joined and is_at_rest())
            await in_thread("fork", lambda: contextvars.Context().run(fork, old))  # a thread that knows no loop
            assert (await card.send(SAY)).data == b"x"
        await in_thread("insert", lambda: pcscd.insert(1, LogCard()))
        async for event in monitor:
            if isinstance(event, CardInserted) and event.reader == pcscd.readers[1]:
                break
    assert got == [pcscd.readers[1]]

with PrivatePcscd(2) as pcscd:
    pcscd.insert(0, LogCard())
    pcscd.wait_for_card(0)
    anyio.run(main, backend=BACKEND)
print("parent and children were right")
"""

BUSY = """
import faulthandler, os, random, threading, time, traceback
import anyio
from scardface import C_APDU, ReaderMonitor, SCard, cancel_all, sync
from scardface.testing import SimulatedPCSC
from tests.support.cards import LogCard

SAY = C_APDU(0, 0x10, 0, 0, b"x")
stopping = False

def machine():
    pcsc = SimulatedPCSC()
    for number in range(2):
        pcsc.add_reader(f"R{{number}}")
        pcsc.insert(number, LogCard())
    return pcsc

async def life(pcsc, count):
    async def use():
        for _ in range(count):
            if stopping:
                return
            async with SCard(timeout=20, backend=pcsc) as card:
                await card.send(SAY)
    async with ReaderMonitor(backend=pcsc) as monitor, anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(use)
        await monitor.__anext__()

def plain(pcsc, count):
    for _ in range(count):
        if stopping:
            return
        with sync.SCard(timeout=20, backend=pcsc) as card:
            card.send(SAY)

def in_the_child():
    faulthandler.dump_traceback_later(50, exit=True)
    cancel_all()
    pcsc = machine()
    for backend in ("asyncio", "trio"):
        anyio.run(life, pcsc, 1, backend=backend)
    plain(pcsc, 1)
    pcsc.close()

parents = machine()
for backend in ("asyncio", "trio"):
    anyio.run(life, parents, 1, backend=backend)  # imports what it needs: a fork in the middle of an import is lost to Python
ever = 1 << 30
threads = [
    threading.Thread(target=anyio.run, args=(life, parents, ever), kwargs={{"backend": name}}) for name in ("asyncio", "trio")
]
threads += [threading.Thread(target=plain, args=(parents, ever)) for _ in range(2)]
for thread in threads:
    thread.start()
right = 0
for _ in range({count}):
    time.sleep(random.random() * 0.02)
    child = os.fork()
    if not child:
        status = 1
        try:
            in_the_child()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    right += status == 0
    if status:
        print("a child ended with", status, flush=True)
stopping = True
for thread in threads:
    thread.join(30)
assert not parents.open_contexts
parents.close()
print(right, "children were right")
"""


def output(program: str) -> str:
    """What a program says, which is not this one."""
    environment = {name: value for name, value in os.environ.items() if name != "PCSCLITE_CSOCK_NAME"}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_fork_under_an_async_card(pcscd: PrivatePcscd, backend: str) -> None:
    assert "parent and children were right" in output(FORK.format(backend=backend))


def test_forks_of_a_busy_program() -> None:
    count = times(8, 200)
    assert f"{count} children were right" in output(BUSY.format(count=count))
    tell(f"{count} forks at random moments of a busy program: all children work, the parent goes on")
