"""From the cancellation of a wait to its end.

- Measured: a task waits in `SCard` for a card that does not come; its scope is cancelled; the time until the task has ended.
  "alone": it was the only one that waited, so its end takes the blocked thread and its PC/SC context with it. "among others":
  another task waits on. "sync": `cancel()` from another thread, until the constructor has raised.
- Against: nothing. pyscard's CardRequest cannot be cancelled but by Ctrl-C; its CardMonitor's thread can be stopped, and how long
  that takes is shown.
- It would be unfair to cancel before the wait has reached PC/SC: each waits 20 ms before.
"""

from __future__ import annotations

import itertools
import threading
import time
from queue import SimpleQueue
from typing import Any

import anyio

import scardface
import scardface.sync

from ._figures import percentile, spread
from ._place import Place
from ._report import Report, Verdict, milli
from ._tables import Runs
from ._turns import LOOPS, run_in_loop

TITLE = "cancel to done"
_BEFORE = 0.02
MONITOR = "pyscard CardMonitor, stop"


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return ["scardface"] if quick else ["scardface", "pyscard"]


def measure(setting: str, quick: bool) -> object:
    """One run."""
    with Place(2) as place:
        if setting == "pyscard":
            return {MONITOR: [_stop_of_monitor()]}
        times: dict[str, list[float]] = {}
        count, rounds = (2, 1) if quick else (50, 4)
        for _ in range(rounds):
            for loop, company in itertools.product(LOOPS, (False, True)):
                name = f"{loop}, {'among others' if company else 'alone'}"
                times.setdefault(name, []).extend(run_in_loop(loop, _cancelled, place.readers[0], count, company))
            times.setdefault("sync", []).extend(_cancelled_sync(place.readers[0]) for _ in range(count))
        return times


async def _cancelled(reader: str, count: int, company: bool) -> list[float]:
    times = []
    async with anyio.create_task_group() as others:
        if company:
            others.start_soon(_wait, reader)
        for _ in range(count):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_wait, reader)
                await anyio.sleep(_BEFORE)
                begun = time.perf_counter()
                tasks.cancel_scope.cancel()
            times.append(time.perf_counter() - begun)
        others.cancel_scope.cancel()
    return times


async def _wait(reader: str) -> None:
    async with scardface.SCard(readers=reader):
        raise AssertionError("there was to be no card")


class _Known(scardface.sync.SCard):
    """Tells itself before it waits, so that it can be cancelled."""

    def __init__(self, told: SimpleQueue[Any], reader: str) -> None:
        told.put(self)
        super().__init__(readers=reader)


def _cancelled_sync(reader: str) -> float:
    told: SimpleQueue[Any] = SimpleQueue()

    def wait() -> None:
        try:
            _Known(told, reader)
        except scardface.WaitCancelledError:
            told.put(time.perf_counter())

    thread = threading.Thread(target=wait)
    thread.start()
    card = told.get()
    time.sleep(_BEFORE)
    begun = time.perf_counter()
    card.cancel()
    done: float = told.get()
    thread.join()
    return done - begun


def _stop_of_monitor() -> float:
    from smartcard.CardMonitoring import CardMonitor

    monitor = CardMonitor()
    time.sleep(1)
    begun = time.perf_counter()
    monitor.rmthread.stop()
    monitor.rmthread.join()
    return time.perf_counter() - begun


def report(runs: Runs) -> Report:
    """What the runs found."""
    found = Report(TITLE, ("who waits", "cancellations", "median, ms", "99 %, ms", "longest, ms"), axis="median, ms", data=runs)
    for measured in runs.values():
        for name, times in measured[0].items():
            median, last = spread(times).median, percentile(times, 99)
            found.rows.append((name, str(len(times)), milli(median), milli(last), milli(max(times))))
            if name != MONITOR:
                found.bars.append((name, 1e3 * median))
                found.verdicts.append(Verdict(f"{name}, median", 1e3 * median, "<", 1.5, unit=" ms"))
                found.verdicts.append(Verdict(f"{name}, 99 %", 1e3 * last, "<", 5, unit=" ms"))
    return found
