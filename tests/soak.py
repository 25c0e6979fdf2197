"""A soak: random life on a real pcscd for as long as is wanted, with everything that happens to a service in months.

    SCARDFACE_SOAK=10 python -m pytest tests/soak.py -s        # ten minutes

Not part of the usual run: pytest collects it only when it is named. Four readers whose cards come, go and misbehave; a daemon
that is stopped, killed, restarted and frozen; two foreign programs that hold, share, reset and die; users on asyncio, on trio
and in threads that wait, exchange, hold transactions, cancel and are cancelled; monitors.

What it asserts: nothing but the library's own errors comes out, answers belong to their commands, events fit each other, nobody
hangs, and at rest, which everybody takes every ten seconds, there are no more threads and descriptors than at the first rest.
It prints events, exchanges, faults survived, and growth per hour. Memory is told as a slope over the rests of the second half,
once caches are full: what is resident, where holes count as well, and the interpreter's blocks, where an object that is kept shows.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import queue
import random
import signal
import sys
import threading
import time
from array import array
from typing import Any

import anyio
import pytest

from scardface import (
    C_APDU,
    CardInserted,
    CardRemoved,
    EventsLost,
    ReaderAdded,
    ReaderMonitor,
    ReaderRemoved,
    SCard,
    ServiceDown,
    ServiceUp,
    ShareMode,
    cancel_all,
    sync,
)
from scardface.errors import NO_SMARTCARD, SHARING_VIOLATION
from scardface.testing import PrivatePcscd, VirtualCard
from tests.support.foreign import EXCLUSIVE, LEAVE, RESET, SHARED, Foreign, ForeignError
from tests.support.soaking import HANG, Life, Sample, sample, tell

READERS = 4
REST = 10.0
"""Seconds between two rests."""
GROWTH = 0
"""Threads and descriptors that may have come between the first rest and the last."""


class Card(VirtualCard):
    """Echoes; now and then it is slow, or answers half a status word. It remembers nothing."""

    def __init__(self) -> None:
        self.atr = random.choice((b"\x3b\x80\x01\x81", bytes.fromhex("3B80800101"), bytes.fromhex("3B02A1B2"), b""))

    def process(self, command: bytes) -> bytes:
        fate = random.random()
        if fate < 0.01:
            return b"\x90"
        if fate < 0.1:
            time.sleep(random.random() * 0.02)
        return (command[5:] if command[1] == 0x10 else b"") + b"\x90\x00"


# The world.


class World:
    """The hands that move cards, and the fate of the daemon."""

    def __init__(self, life: Life, pcscd: PrivatePcscd) -> None:
        self._life = life
        self._pcscd = pcscd
        self._next_fate = time.monotonic() + 5

    def move_a_card(self) -> None:
        """A card comes or goes."""
        reader = random.randrange(READERS)
        with contextlib.suppress(OSError, ValueError):  # the daemon died meanwhile
            if self._pcscd.readers[reader] in self._pcscd.cards:
                self._pcscd.remove(reader)
            else:
                self._pcscd.insert(reader, Card())
            self._life.count("cards moved")
        time.sleep(random.random())

    def fate(self) -> None:
        """Every ten seconds or so, the daemon's end and return."""
        if time.monotonic() < self._next_fate:
            time.sleep(0.2)
            return
        self._next_fate = time.monotonic() + random.uniform(5, 15)
        how = random.choice(("kill", "stop", "freeze"))
        self._life.count(f"daemon: {how}")
        if how == "freeze":
            pid = self._pcscd.pid
            os.kill(pid, signal.SIGSTOP)
            time.sleep(random.random())
            os.kill(pid, signal.SIGCONT)
            return
        getattr(self._pcscd, how)()
        time.sleep(random.choice((0, 0.5, 1.5)))
        self._pcscd.start()


class Neighbour:
    """A foreign program."""

    def __init__(self, life: Life, readers: tuple[str, ...]) -> None:
        self._life = life
        self._readers = readers
        self._program = Foreign()

    def use_a_card(self) -> None:
        """Hold a card for a moment, in one of the ways that hurt; or die with it."""
        time.sleep(random.random())
        try:
            self._hold()
        except (AssertionError, queue.Empty):  # it fell over the daemon's end, or waits for it
            self._die()
        except ForeignError as error:
            if error.code not in (NO_SMARTCARD, SHARING_VIOLATION):  # its context is as dead as the daemon
                self._die()
            raise

    def _hold(self) -> None:
        program = self._program
        program.connect(random.choice(self._readers), random.choice((EXCLUSIVE, SHARED, SHARED)))
        self._life.count("foreign holds")
        if random.random() < 0.5:
            program.begin()
        time.sleep(random.random())
        fate = random.random()
        if fate < 0.1:
            self._die()
            return
        if fate < 0.4:
            program.reconnect(RESET)
        program.disconnect(random.choice((LEAVE, RESET)))
        program.release()

    def _die(self) -> None:
        self._life.count("foreign programs killed")
        self._program.kill()
        self._program = Foreign()

    def close(self) -> None:
        """The end."""
        self._program.close()


# The users.


def arguments(readers: tuple[str, ...]) -> dict[str, Any]:
    """A wish."""
    wish: dict[str, Any] = {
        "timeout": random.choice((0, 0.3, 1, 3)),
        "share": random.choice((ShareMode.EXCLUSIVE, ShareMode.SHARED)),
    }
    if random.random() < 0.5:
        wish["readers"] = random.sample(readers, 2)
    else:
        wish["pnp"] = True
    if random.random() < 0.3:
        wish["on_reset"] = "reconnect"
    return wish


def command() -> C_APDU:
    """Something to say."""
    return C_APDU(0, 0x10, 0, 0, random.randbytes(random.choice((1, 8, 200))))


class User:
    """Uses cards, on one of the faces."""

    def __init__(self, life: Life, readers: tuple[str, ...]) -> None:
        self._life = life
        self._readers = readers

    def _check(self, said: C_APDU, response: Any) -> None:
        assert response.data == said.data, "an answer to another command"
        self._life.count("exchanges")

    async def use(self) -> None:
        """Acquire, talk, perhaps wait for the removal; perhaps be cancelled at any moment."""
        with anyio.move_on_after(random.choice((5, 5, 0.5 * random.random()))) as scope:
            async with SCard(**arguments(self._readers)) as card:
                self._life.count("cards acquired")
                for _ in range(random.randrange(20)):
                    said = command()
                    self._check(said, await card.send(said))
                fate = random.random()
                if fate < 0.2:
                    async with card.transaction():
                        said = command()
                        self._check(said, await card.send(said))
                elif fate < 0.4:
                    with anyio.move_on_after(1):
                        await card.wait()
                elif fate < 0.5:
                    await card.reset()
        if scope.cancelled_caught:
            self._life.count("cancelled")

    def use_sync(self) -> None:
        """The same in a thread."""
        with sync.SCard(**arguments(self._readers)) as card:
            self._life.count("cards acquired")
            for _ in range(random.randrange(20)):
                said = command()
                self._check(said, card.send(said))
            if random.random() < 0.2:
                with card.transaction():
                    card.send(command())

    def look(self) -> None:
        """A look without a monitor; at times the end of all waits."""
        time.sleep(random.random())
        assert set(sync.readers()) <= set(self._readers)
        assert set(sync.states()) <= set(self._readers)
        if random.random() < 0.2:
            cancel_all()
            self._life.count("cancel_all")


class Story:
    """What a monitor tells must fit together."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._believed: dict[str, bool] = {}
        self._up = True

    def hear(self, event: Any) -> None:
        """One event."""
        self._life.count("events")
        match event:
            case ReaderAdded(reader=reader):
                assert reader not in self._believed
                self._believed[reader] = False
            case ReaderRemoved(reader=reader):
                assert self._believed.pop(reader) is False
            case CardInserted(reader=reader):
                assert self._believed[reader] is False
                self._believed[reader] = True
            case CardRemoved(reader=reader):
                assert self._believed[reader] is True
                self._believed[reader] = False
            case ServiceDown(initial=initial):
                assert initial or self._up
                self._up = False
            case ServiceUp():
                assert not self._up
                self._up = True
            case EventsLost():
                raise AssertionError("nobody falls that far behind")

    async def listen(self) -> None:
        """A monitor for a while."""
        self._believed, self._up = {}, True
        with anyio.move_on_after(random.uniform(1, 8)):
            async with ReaderMonitor() as monitor:
                async for event in monitor:
                    self.hear(event)


async def loop_life(life: Life, readers: tuple[str, ...], kind: str) -> None:
    """An event loop: four users and a monitor."""
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(life.act_async, f"{kind} user {number}", User(life, readers).use)
        tasks.start_soon(life.act_async, f"{kind} monitor", Story(life).listen)


# The soak.


def soak(minutes: float) -> None:
    """Live for so long; raises AssertionError if anything is not as it should be."""
    begin = time.monotonic()
    life = Life()
    kept = array("d")  # of each sample: as objects, an hour of them would be a thousand blocks that grow
    with PrivatePcscd(READERS) as pcscd:
        world, user = World(life, pcscd), User(life, pcscd.readers)
        neighbours = [Neighbour(life, pcscd.readers) for _ in range(2)]
        lives: list[tuple[Any, ...]] = [
            (life.act, "hands", world.move_a_card),
            (life.act, "fate", world.fate),
            *[(life.act, f"neighbour {number}", one.use_a_card) for number, one in enumerate(neighbours)],
            *[(life.act, f"thread {number}", user.use_sync, user.look) for number in range(2)],
            *[
                (anyio.run, loop_life, life, pcscd.readers, kind, backend)
                for kind, backend in (("asyncio", "asyncio"), ("trio", "trio"))
            ],
        ]
        threads = [
            threading.Thread(target=target, args=rest[:-1], kwargs={"backend": rest[-1]}, daemon=True)
            if target is anyio.run
            else threading.Thread(target=target, args=rest, daemon=True)
            for target, *rest in lives
        ]
        for thread in threads:
            thread.start()
        try:
            while time.monotonic() - begin < 60 * minutes and not life.failures:
                time.sleep(REST)
                with life.at_rest():
                    pcscd.remove_all()  # each has a thread and a connection of its own
                    time.sleep(0.5)  # what was cancelled ends by itself
                    one = sample(begin)
                    kept.extend(one)
                    print(
                        f"[soak] {one.at:5.0f} s: {one.kilobytes} kB, {one.allocated} kB allocated, {one.blocks} blocks, "
                        f"{one.threads} threads, {one.descriptors} descriptors",
                        flush=True,
                    )
        finally:
            life.end()
            for thread in threads:
                thread.join(HANG)
            for neighbour in neighbours:
                neighbour.close()
    size = len(Sample._fields)
    samples = [Sample(kept[at], *map(int, kept[at + 1 : at + size])) for at in range(0, len(kept), size)]
    tell(life, samples)
    assert not life.failures, life.failures
    assert samples[-1].threads - samples[0].threads <= GROWTH
    assert samples[-1].descriptors - samples[0].descriptors <= GROWTH


def minutes_wanted() -> float:
    """As the environment says."""
    minutes = os.environ.get("SCARDFACE_SOAK", "")
    if not minutes:
        pytest.fail("say for how many minutes: SCARDFACE_SOAK=10 python -m pytest tests/soak.py -s", pytrace=False)
    return float(minutes)


def test_soak() -> None:
    minutes = minutes_wanted()
    faulthandler.cancel_dump_traceback_later()  # pytest's own bound, which is for tests that take seconds
    soak(minutes)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-s", *sys.argv[1:]]))
