"""16 readers busy at once, in one event loop.

- Measured: how long 16 cards take for 40 commands each, all at the same time; cards of 5 ms, and of 0 ms. One task a card, which
  sends command by command; and the same with all 40 as one batch. Beside it a task that sleeps 5 ms again and again and notes how
  late it was woken: the loop's lag, next to that of a loop that does nothing else.
- Against: 16 bare threads, a loop of the binding in each.
- It would be unfair to let the daemon be what is measured: vpcd makes readers in pairs that share a driver, for all alike, and with
  cards of 0 ms daemon, cards and program share the cores, so those figures tell of the machine as much as of the library.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager

import anyio

from scardface import C_APDU, SCard, ShareMode

from . import _exchanges
from ._figures import merged, percentile, ratios, spread, spread_of
from ._place import REAL_CARD, Place
from ._report import Report, Verdict, milli, shown
from ._tables import Runs
from ._turns import LOOPS, AsyncTurn, Contender, Turn, contest, timed

TITLE = "16 readers busy at once"
READERS = 16
COMMANDS = 40
REFERENCE = "16 bare threads"
_COMMAND = C_APDU(0x00, 0xB0, 0x00, 0x10, b"", 16)
_TICK = 0.005


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return ["0 ms"] if quick else ["5 ms", "0 ms"] * 2


def measure(setting: str, quick: bool) -> object:
    """One run."""
    commands, count = (3, 2) if quick else (COMMANDS, READERS)
    lags: dict[str, list[float]] = {}
    with Place(count) as place:
        for reader in range(count):
            place.insert(reader, REAL_CARD if setting == "5 ms" else 0.0)
        contenders = [_threads(place.readers, commands), _idle(lags)]
        contenders += [_tasks(place.readers, loop, commands, lags, batch) for loop in LOOPS for batch in (False, True)]
        rounds = contest(contenders, 1 if quick else 8, 1)
    return {"rounds": rounds, "lags": lags}


def _threads(readers: tuple[str, ...], commands: int) -> Contender:
    encoded = bytes(_COMMAND)

    @contextmanager
    def opened() -> Iterator[Turn]:
        with ExitStack() as stack:
            turns = [stack.enter_context(_exchanges.bare(reader, encoded, commands).opened()) for reader in readers]  # type: ignore[arg-type]

            def all_at_once() -> None:
                threads = [threading.Thread(target=turn, args=(0,)) for turn in turns]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

            yield timed(all_at_once)

    return Contender(REFERENCE, opened)


def _tasks(readers: tuple[str, ...], loop: str, commands: int, lags: dict[str, list[float]], batch: bool) -> Contender:
    name = f"scardface, {loop}, {'batches' if batch else 'single commands'}"
    late = lags.setdefault(name, [])

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncTurn]:
        async with AsyncExitStack() as stack:
            cards = [
                await stack.enter_async_context(SCard(readers=reader, timeout=10, share=ShareMode.SHARED)) for reader in readers
            ]

            async def work(card: SCard) -> None:
                if batch:
                    await card.send(*[_COMMAND] * commands)
                    return
                for _ in range(commands):
                    await card.send(_COMMAND)

            async def all_at_once() -> None:
                async with anyio.create_task_group() as tasks:
                    for card in cards:
                        tasks.start_soon(work, card)

            yield _with_lag(all_at_once, late)

    return Contender(name, opened, loop)


def _idle(lags: dict[str, list[float]]) -> Contender:
    late = lags.setdefault("idle loop, asyncio", [])

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncTurn]:
        yield _with_lag(lambda: anyio.sleep(0.25), late)

    return Contender("idle loop, asyncio", opened, "asyncio")


def _with_lag(call: Callable[[], Awaitable[object]], late: list[float]) -> AsyncTurn:
    """A turn of `call`, beside a task that notes how late it is woken."""

    async def watch() -> None:
        while True:
            due = time.perf_counter() + _TICK
            await anyio.sleep(_TICK)
            late.append(time.perf_counter() - due)

    async def turn(count: int) -> list[float]:
        times = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            for _ in range(count):
                begun = time.perf_counter()
                await call()
                times.append(time.perf_counter() - begun)
            tasks.cancel_scope.cancel()
        return times

    return turn


def report(runs: Runs) -> Report:
    """What the runs found."""
    columns = ("contender", "cards", "median, ms", "throughput / 16 bare threads", "loop lag, median, ms", "99 %, ms")
    found = Report(TITLE, columns, axis="throughput / 16 bare threads, cards of 5 ms", data=runs)
    for setting, measured in runs.items():
        rounds = merged(run["rounds"] for run in measured)
        for name, turns in rounds.items():
            late = [lag for run in measured for lag in run["lags"].get(name, ())]
            lag = (milli(spread(late).median), milli(percentile(late, 99))) if late else ("", "")
            if name.startswith("idle"):
                found.rows.append((name, setting, "", "", *lag))
                continue
            throughput = ratios(rounds, REFERENCE, name)
            found.rows.append((name, setting, milli(spread_of(turns).median), shown(throughput), *lag))
            if setting == next(iter(runs)):
                found.bars.append((name, throughput.median))
            if name != REFERENCE and setting == "5 ms":
                found.verdicts.append(Verdict(f"{name}, cards of {setting}", throughput.median, ">=", 0.97, throughput))
    return found
