"""Cost as work grows: 1 to 1,000 simulated readers, and as many monitors.

- Measured: a card goes into a reader; the time until the last monitor that is concerned has its event, on asyncio. "every
  reader": each of n monitors watches all n readers, so an event has n subscribers. "one reader each": an event has one
  subscriber, whatever n.
- Against: itself at n = 1. The time of an event should grow no faster than the number of monitors, each of which subscribes to
  what the one watcher sees, whether an event concerns it or not.
- It would be unfair to leave the simulation out of sight: its status call goes through n readers in Python, which PC/SC does in C
  and for 16 at a time. How long a bare status call of n entries takes to return is shown beside it; it is in the figures.
"""

from __future__ import annotations

import statistics
import threading
import time
from queue import SimpleQueue

import anyio

from scardface import CardInserted, CardRemoved, ReaderMonitor
from scardface.testing import SimulatedPCSC, VirtualCard

from ._report import Report, Verdict, micro
from ._tables import Runs
from ._turns import run_in_loop

TITLE = "cost of an event as work grows"
SIZES = (1, 10, 100, 1000)
_ROUNDS = {1: 200, 10: 200, 100: 60, 1000: 5}


class _Card(VirtualCard):
    def process(self, command: bytes) -> bytes:
        return b"\x90\x00"


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    sizes = SIZES[:2] if quick else SIZES
    return [f"{size} readers, {kind}" for size in sizes for kind in ("every reader", "one reader each")]


def measure(setting: str, quick: bool) -> object:
    """One run."""
    size = int(setting.split()[0])
    rounds = 3 if quick else _ROUNDS[size]
    with SimulatedPCSC(max_readers=size) as pcsc:
        names = [f"Reader {number}" for number in range(size)]
        for name in names:
            pcsc.add_reader(name)
        each = names if setting.endswith("each") else None
        return {"bare": _bare(pcsc, names, rounds), "event": run_in_loop("asyncio", _events, pcsc, names, each, rounds)}


def _bare(pcsc: SimulatedPCSC, names: list[str], rounds: int) -> list[float]:
    """How long after an insertion a status call of all readers returns, in a thread of its own."""
    told: SimpleQueue[float] = SimpleQueue()
    context = pcsc.establish()
    entries = [(entry.reader, entry.state) for entry in context.get_status_change(0, [(name, 0) for name in names]).entries]
    times = []
    for _ in range(rounds):

        def wait(known: list[tuple[str, int]] = entries) -> None:
            context.get_status_change(10_000, known)
            told.put(time.perf_counter())

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.002)  # until it waits
        begun = time.perf_counter()
        pcsc.insert(names[-1], _Card())
        times.append(told.get() - begun)
        thread.join()
        pcsc.remove(names[-1])
        entries = [(entry.reader, entry.state) for entry in context.get_status_change(0, [(name, 0) for name in names]).entries]
    context.release()
    return times


async def _events(pcsc: SimulatedPCSC, names: list[str], each: list[str] | None, rounds: int) -> list[float]:
    size = len(names)
    heard = {CardInserted: 0, CardRemoved: 0}
    last = 0.0
    changed = anyio.Event()
    expected = 1 if each else size

    async def listen(reader: str | None, entered: anyio.Event) -> None:
        nonlocal last, changed
        async with ReaderMonitor(reader) as monitor:
            entered.set()
            async for event in monitor:
                kind = type(event)
                if kind in heard:
                    heard[kind] += 1
                    if heard[kind] == expected:
                        last = time.perf_counter()
                        changed.set()

    async def all_heard(kind: type) -> None:
        nonlocal changed
        await changed.wait()
        changed = anyio.Event()
        heard[kind] = 0

    times = []
    async with anyio.create_task_group() as tasks:
        entered = [anyio.Event() for _ in range(size)]
        for number in range(size):
            tasks.start_soon(listen, each[number] if each else None, entered[number])
        for event in entered:
            await event.wait()
        for _ in range(rounds):
            await anyio.sleep(0.01)  # until the watcher waits again
            begun = time.perf_counter()
            pcsc.insert(names[-1], _Card())
            await all_heard(CardInserted)
            times.append(last - begun)
            pcsc.remove(names[-1])
            await all_heard(CardRemoved)
        tasks.cancel_scope.cancel()
    return times


def report(runs: Runs) -> Report:
    """What the runs found."""
    columns = ("readers and monitors", "event, us", "bare status call, us", "event, us per monitor")
    found = Report(TITLE, columns, axis="us per event and monitor", data=runs)
    alone: dict[str, float] = {}
    for setting, measured in runs.items():
        size, kind = int(setting.split()[0]), setting.split(", ")[1]
        event = statistics.median(time for run in measured for time in run["event"])
        bare = statistics.median(time for run in measured for time in run["bare"])
        alone.setdefault(kind, event)
        found.rows.append((setting, micro(event), micro(bare), micro(event / size)))
        found.bars.append((setting, 1e6 * event / size))
        if size > 1:
            what = f"{setting}: growth of an event's time / growth of the monitors"
            found.verdicts.append(Verdict(what, event / alone[kind] / size, "<=", 1.0))
    return found
