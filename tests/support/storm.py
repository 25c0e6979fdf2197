"""A storm: one disturbance after the other, at random moments of random lives, and after each the question that counts.

Rules:

- The invariant: after the disturbance a fresh SCard gets the card that is in, within `PATIENCE` seconds. What is late prints all
  stacks.
- One seed is one storm: the same disturbances at the same places (what threads make of them differs).
- A disturbance ends what it began. What it may do to the process for a moment (no thread, no descriptor, no service), it takes
  back.
"""

from __future__ import annotations

import _thread
import asyncio
import faulthandler
import gc
import random
import threading
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import contextmanager, suppress
from typing import Any

import anyio

from scardface import (
    CardTimeoutError,
    Protocol,
    ReaderMonitor,
    SCard,
    SCardError,
    ShareMode,
    SharingViolationError,
    StatusError,
    cancel_all,
    sync,
)
from scardface._waiting.driver import driver_of
from scardface.errors import NO_MEMORY, NO_SERVICE, NOT_TRANSACTED, PROTO_MISMATCH, SHARING_VIOLATION, UNPOWERED_CARD
from scardface.testing import FileCard, SimulatedPCSC, VirtualCard
from tests.support.faces import off_loop
from tests.support.waits import threads_named, until

PATIENCE = 5.0
"""Seconds within which a fresh SCard gets the card, on a machine that is not busy."""
HANG = 60.0
"""Seconds that a hang exceeds on the busiest machine."""
READERS = ("A", "B")
ECHO = b"\x00\x10\x00\x00\x01x"


class Plain(VirtualCard):
    """Answers 9000 to everything."""

    atr = bytes.fromhex("3B800181")

    def process(self, command: bytes) -> bytes:
        return b"\x90\x00"


class Foreign(Plain):
    """Speaks neither T=0 nor T=1."""

    atr = bytes.fromhex("3B8E0E" + "00" * 14)


Disturbance = Callable[["Storm"], Awaitable[None]]
DISTURBANCES: list[Disturbance] = []


def disturbance(function: Disturbance) -> Disturbance:
    """Let the storm choose it."""
    DISTURBANCES.append(function)
    return function


class Storm:
    """One storm on one face.

    Args:
        face: an `AsyncFace` or a `SyncFace`.
    """

    def __init__(self, face: Any, seed: int) -> None:
        self.face = face
        self.dice = random.Random(seed)
        self.counted: Counter[str] = Counter()
        self.took: Counter[str] = Counter()
        """Seconds that each disturbance took in all."""
        self.longest = 0.0
        self.pcsc = SimulatedPCSC()

    async def run(self, goes_on: Callable[[int], bool]) -> None:
        """Disturb until `goes_on(number)` says no."""
        with self.pcsc as pcsc, warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ResourceWarning
            )  # cards are forgotten on purpose, and where no thread is left to close them
            for name in READERS:
                pcsc.add_reader(name)
            number = 0
            while goes_on(number):
                number += 1
                chosen = self.dice.choice(DISTURBANCES)
                self.counted[chosen.__name__] += 1
                self.set_right()
                faulthandler.dump_traceback_later(HANG, exit=False)
                try:
                    with anyio.fail_after(HANG):
                        began = time.monotonic()
                        await chosen(self)
                        self.took[chosen.__name__] += time.monotonic() - began
                        self.set_right()
                        began = time.monotonic()
                        async with self.face.open("A", timeout=HANG) as card:
                            await card.send(ECHO)
                        self.longest = max(self.longest, time.monotonic() - began)
                except (TimeoutError, CardTimeoutError) as error:
                    raise AssertionError(f"after {chosen.__name__}, number {number}: {error!r}") from error
                finally:
                    faulthandler.cancel_dump_traceback_later()

    def set_right(self) -> None:
        """The world as it is between two disturbances: service and readers there, a plain card in A, B empty."""
        pcsc = self.pcsc
        if not pcsc.running:
            pcsc.start_service()
        for name in READERS:
            if name not in pcsc.readers:
                pcsc.add_reader(name)
        if not isinstance(pcsc.cards.get("A"), Plain) or isinstance(pcsc.cards.get("A"), Foreign):
            if "A" in pcsc.cards:
                pcsc.remove("A")
            pcsc.insert("A", Plain())
        if "B" in pcsc.cards:
            pcsc.remove("B")
        pcsc.latency = 0.0
        pcsc._service._injected.clear()

    async def a_moment(self) -> None:
        """None, or a few milliseconds."""
        await anyio.sleep(self.dice.choice((0, 0, self.dice.random() * 0.01)))

    async def live(self, **words: Any) -> None:
        """One random life with a card, whatever comes of it."""
        words = {"readers": self.dice.choice((None, "A", "B", READERS)), "timeout": self.dice.choice((0, 0.01, 0.05, 0.2)), **words}
        if self.dice.random() < 0.3:
            words["share"] = ShareMode.SHARED
        if self.dice.random() < 0.2:
            words["atr"] = self.dice.choice((b"^\x3b", b"nosuch"))
        if self.dice.random() < 0.1:
            words["settle"] = 0.01
        with suppress(SCardError, RuntimeError, StatusError):
            async with self.face.open(**words) as card:
                for _ in range(self.dice.randrange(3)):
                    await card.send(ECHO, ECHO)
                await self.a_moment()
                if self.dice.random() < 0.2:
                    with anyio.move_on_after(0.01):
                        await card.wait()

    @contextmanager
    def bad_threads(self, which: int) -> Any:
        """The start of one of the next threads fails."""
        count = [0]
        places = [(_thread, "start_new_thread"), (threading, "_start_new_thread"), (threading, "_start_joinable_thread")]
        originals = {(module, name): getattr(module, name) for module, name in places if hasattr(module, name)}

        def limited(original: Any) -> Any:
            def start(*words: Any, **more: Any) -> Any:
                count[0] += 1
                if count[0] == which:
                    raise RuntimeError("can't start new thread")
                return original(*words, **more)

            return start

        for (module, name), original in originals.items():
            setattr(module, name, limited(original))
        try:
            yield
        finally:
            for (module, name), original in originals.items():
                setattr(module, name, original)
            which = 0  # a thread may be about to call what it has got before


async def several(storm: Storm, number: int, **words: Any) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(number):
            tasks.start_soon(lambda: storm.live(**words))


@disturbance
async def nothing_but_life(storm: Storm) -> None:
    await several(storm, 4)


@disturbance
async def cancelled_scopes(storm: Storm) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(storm.live)
        await storm.a_moment()
        tasks.cancel_scope.cancel()


@disturbance
async def nested_and_shielded_scopes(storm: Storm) -> None:
    with anyio.move_on_after(storm.dice.random() * 0.01), anyio.CancelScope(shield=storm.dice.random() < 0.5):
        with anyio.move_on_after(storm.dice.random() * 0.01):
            await storm.live(timeout=0.05)


@disturbance
async def cancel_from_another_thread(storm: Storm) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(storm.live)
        await storm.a_moment()
        await off_loop(cancel_all)


@disturbance
async def cards_come_and_go(storm: Storm) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(storm.live)
        for _ in range(6):
            name = storm.dice.choice(READERS)
            if name in storm.pcsc.cards:
                storm.pcsc.remove(name)
            else:
                storm.pcsc.insert(name, storm.dice.choice((Plain, Foreign, FileCard))())
            await storm.a_moment()


@disturbance
async def readers_come_and_go(storm: Storm) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(lambda: storm.live(wait_for_reader=True))
        for _ in range(4):
            name = storm.dice.choice(READERS)
            if name in storm.pcsc.readers:
                storm.pcsc.remove_reader(name)
            else:
                storm.pcsc.add_reader(name)
            await storm.a_moment()
        storm.set_right()


@disturbance
async def service_goes(storm: Storm) -> None:
    storm.pcsc.latency = {storm.dice.choice(("SCardConnect", "SCardEstablishContext", "SCardTransmit")): 0.01}
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(storm.live)
        await storm.a_moment()
        await off_loop(storm.pcsc.stop_service)
        await storm.a_moment()
        await off_loop(storm.pcsc.start_service)


@disturbance
async def errors_of_pcsc(storm: Storm) -> None:
    call = storm.dice.choice(("SCardEstablishContext", "SCardConnect", "SCardGetStatusChange", "SCardTransmit", "SCardListReaders"))
    code = storm.dice.choice((NO_MEMORY, NO_SERVICE, NOT_TRANSACTED, PROTO_MISMATCH, SHARING_VIOLATION, UNPOWERED_CARD))
    storm.pcsc.inject(call, code, storm.dice.randrange(1, 3))
    await several(storm, 3)


@disturbance
async def another_program_holds_it(storm: Storm) -> None:
    context = storm.pcsc.establish()
    try:
        handle = context.connect("A", storm.dice.choice((ShareMode.EXCLUSIVE, ShareMode.SHARED)), Protocol.T1)
        handle.begin_transaction()
        with anyio.move_on_after(0.03):
            await several(storm, 3)
    except SharingViolationError:
        pass  # a thread of an earlier disturbance, which nobody waits for any more, has it still
    finally:
        context.release()


@disturbance
async def loop_is_blocked(storm: Storm) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(storm.live)
        await storm.a_moment()
        time.sleep(storm.dice.random() * 0.03)  # the disturbance itself: a program that blocks its loop


@disturbance
async def threads_cannot_start(storm: Storm) -> None:
    with storm.bad_threads(storm.dice.randrange(1, 6)), suppress(SCardError, RuntimeError):
        await storm.live()
        await storm.live(timeout=0.05)
    # On a busy machine the thread whose start of another one failed may not have told all who waited for that one.
    await until(lambda: not driver_of(storm.pcsc)._runs, HANG / 2)


@disturbance
async def loops_are_closed_under_waits(storm: Storm) -> None:
    pause, keep = storm.dice.choice((0, 0.001, 0.02)), storm.dice.random() < 0.5
    seed = storm.dice.random()

    def one() -> None:
        loop = asyncio.new_event_loop()
        dice = random.Random(seed)

        async def main() -> list[Any]:
            words = [{"readers": dice.choice(("A", "B")), "share": dice.choice(list(ShareMode)[:2])} for _ in range(3)]
            tasks = [asyncio.ensure_future(_acquired(**word)) for word in words]
            await asyncio.sleep(pause)
            return tasks

        logger, loop_logger = [], loop
        loop.set_exception_handler(lambda *_: logger.append(loop_logger))
        tasks = loop.run_until_complete(main())
        loop.close()
        if not keep:
            for task in tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            del tasks

    await off_loop(one)
    gc.collect()


async def _acquired(**words: Any) -> None:
    async with SCard(**words):
        await asyncio.sleep(0)


@disturbance
async def collector_runs_all_the_time(storm: Storm) -> None:
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        await several(storm, 2, timeout=0.02)
    finally:
        gc.set_threshold(*before)


@disturbance
async def cards_are_forgotten(storm: Storm) -> None:
    with suppress(SCardError):
        card = await off_loop(sync.SCard, "A", timeout=5)
        await off_loop(card.send, ECHO)
        del card
    gc.collect()
    if storm.face.name == "async":
        with suppress(SCardError):
            forgotten = await SCard("A", timeout=5)
            del forgotten
        gc.collect()


@disturbance
async def callbacks_fail(storm: Storm) -> None:
    def fail(*_: Any) -> None:
        raise LookupError("enough")

    with suppress(SCardError, LookupError):
        async with storm.face.open("A", timeout=2) as card:
            await card.send(ECHO, callback=fail)


class _BadLayer:
    def wrap(self, command: Any) -> Any:
        return command

    def unwrap(self, response: Any) -> Any:
        raise LookupError("no such key")


@disturbance
async def layers_fail(storm: Storm) -> None:
    with suppress(SCardError, LookupError):
        async with storm.face.open("A", timeout=2) as card:
            await card.layer(_BadLayer()).send(ECHO)


@disturbance
async def transactions_are_left_in_a_hurry(storm: Storm) -> None:
    with suppress(SCardError), anyio.move_on_after(storm.dice.random() * 0.01):
        async with storm.face.open("A", timeout=2, share=ShareMode.SHARED) as card, card.transaction():
            await card.send(ECHO)
            await anyio.sleep(storm.dice.random() * 0.02)


@disturbance
async def many_patterns(storm: Storm) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(lambda number=number: storm.live(atr=b"^\x3b\x02%04d" % number, timeout=0.02))  # type: ignore[misc]


@disturbance
async def monitors_come_and_go(storm: Storm) -> None:
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            async with ReaderMonitor() as monitor:
                with anyio.move_on_after(0.01):
                    async for _ in monitor:
                        pass

        for _ in range(3):
            tasks.start_soon(watch)
        await storm.live()
        if storm.dice.random() < 0.5:
            tasks.cancel_scope.cancel()


@disturbance
async def clocks_jump(storm: Storm) -> None:
    real = time.time
    time.time = lambda: real() + storm.dice.choice((-1e6, 1e6))
    try:
        await several(storm, 2)
    finally:
        time.time = real


@disturbance
async def contexts_are_used_up(storm: Storm) -> None:
    taken = []
    with suppress(SCardError):
        while True:
            taken.append(storm.pcsc.establish())
    try:
        await several(storm, 2)
    finally:
        for context in taken:
            context.release()


async def nothing_left() -> None:
    """Return when no wait of the storm has left a thread."""
    await until(lambda: not threads_named("scardface-driver", "scardface-watch"), HANG)
