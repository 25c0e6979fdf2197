"""From the cancellation of a wait to its end.

- Measured: a task waits in `SCard` for a card that does not come; its scope is cancelled; the time until the task has ended.
  "alone": it was the only one that waited, so its end takes the blocked thread and its PC/SC context with it. "among others":
  another task waits on. "sync": `cancel()` from another thread, until the constructor has raised.
- Against: a bare thread in SCardGetStatusChange that is cancelled and joined, and its context released. "among others" has no
  counterpart: nothing of PC/SC ends there. pyscard's CardRequest cannot be cancelled but by Ctrl-C; its CardMonitor's thread can
  be stopped, and how long that takes is shown.
- It would be unfair to cancel once: PC/SC loses a cancel that comes in the wrong moment, and all repeat it until it was heard. And
  to cancel before the wait has reached PC/SC: each waits 20 ms before.
"""

from __future__ import annotations

import itertools
import threading
import time
from queue import SimpleQueue
from typing import Any

import anyio
from smartcard import scard

import scardface
import scardface.sync

from ._figures import percentile, ratios, spread
from ._place import Place
from ._report import Report, milli, shown
from ._tables import Runs, verdict
from ._turns import LOOPS, run_in_loop

TITLE = "cancel to done"
_BEFORE = 0.02
MONITOR = "pyscard CardMonitor, stop"
BARE = "bare thread"
_TARGETS = {**{f"{loop}, alone": 1.4 for loop in LOOPS}, "sync": 1.6}


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return ["scardface"] if quick else ["scardface", "pyscard"]


def measure(setting: str, quick: bool) -> object:
    """One run."""
    with Place(2) as place:
        if setting == "pyscard":
            return {MONITOR: [[_stop_of_monitor()]]}
        times: dict[str, list[list[float]]] = {}
        count, rounds = (2, 1) if quick else (12, 16)
        reader = place.readers[0]
        for _ in range(rounds):
            for loop, company in itertools.product(LOOPS, (False, True)):
                name = f"{loop}, {'among others' if company else 'alone'}"
                times.setdefault(name, []).append(run_in_loop(loop, _cancelled, reader, count, company))
            times.setdefault("sync", []).append([_cancelled_sync(reader) for _ in range(count)])
            times.setdefault(BARE, []).append([_cancelled_bare(reader) for _ in range(count)])
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


def _cancelled_bare(reader: str) -> float:
    _, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    _, states = scard.SCardGetStatusChange(context, 0, [(reader, scard.SCARD_STATE_UNAWARE)])
    known = [(reader, states[0][1] & ~scard.SCARD_STATE_CHANGED)]
    thread = threading.Thread(target=scard.SCardGetStatusChange, args=(context, scard.INFINITE, known))
    thread.start()
    time.sleep(_BEFORE)
    begun = time.perf_counter()
    while thread.is_alive():  # a cancel in the wrong moment is lost
        scard.SCardCancel(context)
        thread.join(0.005)
    scard.SCardReleaseContext(context)
    return time.perf_counter() - begun


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
    columns = ("who waits", "cancellations", "median, ms", "99 %, ms", "longest, ms", "ratio to a bare thread")
    found = Report(TITLE, columns, axis="median, ms", data=runs)
    for measured in runs.values():
        rounds = measured[0]
        for name, turns in rounds.items():
            times = [seconds for turn in turns for seconds in turn]
            median = spread(times).median
            ratio = "1" if name == BARE else shown(ratios(rounds, name, BARE)) if BARE in rounds else ""
            found.rows.append((name, str(len(times)), milli(median), milli(percentile(times, 99)), milli(max(times)), ratio))
            if name != MONITOR:
                found.bars.append((name, 1e3 * median))
            if name in _TARGETS:
                found.verdicts.append(verdict(rounds, name, BARE, _TARGETS[name], "all cores"))
    return found
