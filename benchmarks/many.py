"""10,000 SCards that wait for ever in one process, and 100,000.

- Measured: PC/SC contexts (sockets), threads and memory that they add, each as the kernel tells it; how many are woken by one
  insertion, and the processor time that this takes, of several one after the other; how long it takes to start and to cancel them;
  errors. Whoever had a card waits again, behind all others.
- Against: as many bare tasks that wait for an event, which is what cannot be saved; for the insertion, one that waits alone; and
  pyscard's CardRequest, which needs threads: 50, 150 and 300 of them (a daemon has 200 contexts for all programs together).
- Those of 100,000 are not cancelled: anyio's task group takes a minute for as many bare tasks.
- Each is a process of its own, since memory that was freed is not given back. What the first one needs (modules, a loop, the
  watcher) is not counted for the many.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from typing import Any

import anyio

from scardface import SCard

from ._census import memory, sockets, threads
from ._figures import spread
from ._place import Place
from ._report import Report, Verdict
from ._session import end
from ._tables import Runs
from ._turns import LOOPS, run_in_loop

TITLE = "SCards that wait in one process"
MANY = 10_000
MOST = 100_000
REQUESTS = (50, 150, 300)
INSERTIONS = 9
_SECONDS = ("start, s", "cancel, s")


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    if quick:
        return ["100 bare tasks, asyncio", "2 SCards, asyncio", "100 SCards, asyncio", "4 CardRequests"]
    ours = [f"{count} {what}, {loop}" for loop in LOOPS for count, what in ((2, "SCards"), (MANY, "bare tasks"), (MANY, "SCards"))]
    ours += [f"{MOST} {what}, {LOOPS[0]}" for what in ("bare tasks", "SCards")]
    return [*ours, *(f"{count} CardRequests" for count in REQUESTS)]


def measure(setting: str, quick: bool) -> object:
    """One run."""
    count = int(setting.split()[0])
    with Place(2) as place:
        if "CardRequests" in setting:
            return _requests(count, 0.5 if quick else 4)
        loop = setting.rsplit(", ")[1]
        if "SCards" in setting:
            return run_in_loop(loop, _cards, place, count, 1 if quick else INSERTIONS)
        return run_in_loop(loop, _bare, place, count)


def _look() -> tuple[int, int, int]:
    process = os.getpid()
    gc.collect()
    return sockets(process), threads(process), memory(process)


async def _bare(place: Place, count: int) -> dict[str, float]:
    never = anyio.Event()
    async with anyio.create_task_group() as tasks:
        await anyio.sleep(0.1)
        before = _look()
        for _ in range(count):
            tasks.start_soon(never.wait)
        await anyio.sleep(0.5)
        after = _look()
        measured = {
            "contexts": after[0] - before[0],
            "threads": after[1] - before[1],
            "bytes": (after[2] - before[2]) / count,
            "errors": 0,
        }
        if count == MOST:
            end(measured)
        tasks.cancel_scope.cancel()
    return measured


async def _cards(place: Place, count: int, insertions: int) -> dict[str, Any]:
    opened = errors = 0
    somebody, taken_out = anyio.Event(), anyio.Event()

    async def wait() -> None:
        nonlocal opened, errors
        try:
            while True:
                async with SCard():
                    opened += 1
                    somebody.set()
                    await taken_out.wait()
        except Exception:
            errors += 1
            raise

    async def settled() -> None:
        """Until the process has done what there was to do: it uses no processor time for a while."""
        used = -1.0
        while time.process_time() - used > 0.005:
            used = time.process_time()
            await anyio.sleep(0.2)

    nothing = _look()
    async with anyio.create_task_group() as first:
        first.start_soon(wait)
        await settled()
        before = _look()
        async with anyio.create_task_group() as tasks:
            begun = time.perf_counter()
            for _ in range(count - 1):
                tasks.start_soon(wait)
            await settled()
            started = time.perf_counter() - begun
            after = _look()
            taken, woken = [], []
            for _ in range(insertions):
                opened, somebody, taken_out = 0, anyio.Event(), anyio.Event()
                used = time.process_time()
                place.insert(0, seen=False)
                await somebody.wait()
                taken.append(1e3 * (time.process_time() - used))
                await settled()
                woken.append(opened)
                place.remove(0)
                taken_out.set()
                await settled()
            measured = {
                "contexts": after[0] - nothing[0],
                "threads": after[1] - nothing[1],
                "bytes": (after[2] - before[2]) / (count - 1),
                "errors": errors,
                "woken": woken,
                "insertion, ms": taken,
                "start, s": started,
            }
            if count == MOST:
                end(measured)
            tasks.cancel_scope.cancel()
            begun = time.perf_counter()
        measured["cancel, s"] = time.perf_counter() - begun
        first.cancel_scope.cancel()
    return measured


def _requests(count: int, settle: float) -> dict[str, float]:
    from smartcard.CardRequest import CardRequest

    errors = 0
    lock = threading.Lock()

    def wait() -> None:
        nonlocal errors
        try:
            CardRequest(timeout=None, newcardonly=True).waitforcard()
        except Exception:
            with lock:
                errors += 1

    before = _look()
    for _ in range(count):
        threading.Thread(target=wait, daemon=True).start()
    time.sleep(settle)
    after = _look()
    return {
        "contexts": after[0] - before[0],
        "threads": after[1] - before[1],
        "bytes": (after[2] - before[2]) / count,
        "errors": errors,
    }


def report(runs: Runs) -> Report:
    """What the runs found."""
    columns = (
        "waiting",
        "contexts",
        "threads",
        "KiB each",
        "errors",
        "opened by one insertion",
        "which took, ms",
        "start, s",
        "cancel all, s",
    )
    found = Report(TITLE, columns, axis="KiB each", data=runs)
    for setting, measured in runs.items():
        figures = measured[0]
        kib = figures["bytes"] / 1024
        more = [""] * 4
        if "woken" in figures:
            took = spread(figures["insertion, ms"]).median
            more = [
                str(max(figures["woken"])),
                f"{took:.2f}",
                *(f"{figures[key]:.2f}" if key in figures else "" for key in _SECONDS),
            ]
        name = setting.replace("CardRequests", "pyscard CardRequests")
        found.rows.append(
            (name, *(str(figures[key]) for key in ("contexts", "threads")), f"{kib:.1f}", str(figures["errors"]), *more)
        )
        found.bars.append((name, kib))
        if "SCards" in setting and not setting.startswith("2 "):
            bare = runs[setting.replace("SCards", "bare tasks")][0]["bytes"]
            alone = spread(runs[f"2 SCards, {setting.rsplit(', ')[1]}"][0]["insertion, ms"]).median
            insertion = spread([each / alone for each in figures["insertion, ms"]])
            found.verdicts += [
                Verdict(f"{setting}, PC/SC contexts", figures["contexts"], "==", 1),
                Verdict(f"{setting}, blocked threads", figures["threads"], "==", 1),
                Verdict(f"{setting}, memory / a bare task", figures["bytes"] / bare, "<=", 1.2),
                Verdict(f"{setting}, an insertion's processor time / for one", insertion.median, "<=", 1.5, insertion),
                Verdict(f"{setting}, opened by one insertion", max(figures["woken"]), "==", 1),
                Verdict(f"{setting}, errors", figures["errors"], "==", 0),
            ]
    return found
