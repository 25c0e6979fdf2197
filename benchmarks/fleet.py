"""A fleet of hosts under Dask (`scardface.distributed`): what it adds to the cards, and how it takes insertions and losses.

- Measured: jobs a second with 1, 2 and 4 hosts of four cards, a card taking 50 ms for a command and each job four commands; what a
  job costs beyond its commands, one after the other on one card; from a card's insertion to the first line of the job that waits
  for it, the driver's poll (up to 0.4 s) and the worker's start included; from SIGKILL of a host to the end of its last job.
- The rate is that between the first tenth of the jobs and the last: the start and the unequal ends are left out.
- Against: the cards themselves. With N hosts, N times the jobs of one are ideal, since nothing but the cards should count.
- All four hosts run all the time, and the number that is used is chosen by label, in turns: so what the idle ones cost, and what
  else the machine does, is the same for all.
- It would be unfair to leave out what users have: the reset after each job, and the jobs' way through pickle and scheduler.
- All of it runs on one machine here: the scheduler, four hosts with a pcscd each, and the client share its cores.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ._figures import Spread, spread
from ._fleet import Host, Scheduler
from ._report import Report, Verdict, milli
from ._tables import Runs

if TYPE_CHECKING:
    from distributed import Client

TITLE = "a fleet of hosts: 4 cards each, 50 ms a command, 4 commands a job"
LATENCY = 0.05
COMMANDS = 4
CARDS = 4
HOSTS = (1, 2, 4)
NO_LATENCY = "3B8001810000"
"""The ATR of the card that takes no time; the rest have another one."""
SLOW = "3B800181"


def settings(quick: bool) -> list[str]:
    """The runs to make."""
    return ["all cores"] if find_spec("distributed") is not None else []


async def job(commands: int) -> tuple[float, float]:
    """What the hosts run; the monotonic times at its begin, and at its end."""
    from scardface.distributed import current_card

    began = time.monotonic()
    async with current_card() as card:
        for _ in range(commands):
            await card.send(bytes([0x00, 0x10, 0, 0]))
        return began, time.monotonic()


def measure(setting: str, quick: bool) -> object:
    """One run."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        errors = Path(folder) / "errors.txt"
        scheduler = stack.enter_context(Scheduler(errors=errors))
        hosts = []
        for number in range(2 if quick else max(HOSTS)):
            labels = [f"--label=n{count}=3B8001" for count in HOSTS if number < count]
            name = [f"--label=h{number}={SLOW}", f"--label=free{number}={NO_LATENCY}"]
            hosts.append(stack.enter_context(Host(f"h{number}", CARDS, scheduler.address, [*labels, *name], errors)))
            hosts[-1].begin()
        for host in hosts:
            host.serving()
        return asyncio.run(_measure(scheduler.address, hosts, quick))


async def _measure(address: str, hosts: list[Host], quick: bool) -> dict[str, Any]:
    from distributed import Client

    async with Client(address, asynchronous=True) as client:
        found: dict[str, Any] = {"inserted": await _insertions(client, hosts[0], 1 if quick else 8)}
        found["cost"] = await _cost(client, hosts[0], 3 if quick else 100)
        for host in hosts:
            for reader in range(CARDS):
                await asyncio.to_thread(host.cards.ask, "insert", reader, LATENCY, SLOW)
            await asyncio.gather(*(_submit(client, f"h{host.name[1:]}") for _ in range(2 * CARDS)))
        found["rates"] = await _rates(
            client, [count for count in HOSTS if count <= len(hosts)], 1 if quick else 5, 3 if quick else 16
        )
        found["killed"] = [await _killed(client, hosts[0], hosts[1]) for _ in range(1 if quick else 5)]
    return found


def _submit(client: Client, card: str, commands: int = COMMANDS, once: bool = False) -> Awaitable[tuple[float, float]]:
    from scardface.distributed import submit

    return submit(client, job, commands, card=card, once=once)


async def _insertions(client: Client, host: Host, count: int) -> list[float]:
    """Seconds from the insertion to the begin of the job that waits for it."""
    found = []
    for _ in range(count):
        waiting = asyncio.ensure_future(_submit(client, "free0", 1))
        await asyncio.sleep(0)
        inserted = await asyncio.to_thread(host.cards.ask, "insert", 0, 0.0, NO_LATENCY)
        began, _ = await waiting
        found.append(began - inserted)
        await asyncio.to_thread(host.cards.ask, "remove", 0)
    return found


async def _cost(client: Client, host: Host, count: int) -> dict[str, list[float]]:
    """Seconds of a job of one command, one after the other, on a card that takes no time: all of it is the fleet's."""
    await asyncio.to_thread(host.cards.ask, "insert", 0, 0.0, NO_LATENCY)
    found: dict[str, list[float]] = {"at least once": [], "at most once": []}
    for number in range(count + 5):
        for name, once in (("at least once", False), ("at most once", True)):
            start = time.monotonic()
            await _submit(client, "free0", 1, once)
            if number >= 5:
                found[name].append(time.monotonic() - start)
    await asyncio.to_thread(host.cards.ask, "remove", 0)
    return found


async def _rates(client: Client, counts: list[int], rounds: int, jobs: int) -> dict[str, list[tuple[float, float]]]:
    """Jobs a second with so many hosts, in turns; and the share of that time in which a job has the card."""
    found: dict[str, list[tuple[float, float]]] = {str(count): [] for count in counts}
    for turn in range(rounds):
        for count in counts[:: 1 if turn % 2 else -1]:
            total = jobs * count * CARDS
            done = await asyncio.gather(*(_submit(client, f"n{count}") for _ in range(total)))
            ends = sorted(end for _, end in done)[total // 10 : -(total // 10) or None]
            rate = (len(ends) - 1) / (ends[-1] - ends[0])
            has_card = sum(end - began for began, end in done) / total
            found[str(count)].append((rate, rate * has_card / (count * CARDS)))
    return found


async def _killed(client: Client, other: Host, victim: Host) -> float:
    """Seconds from SIGKILL of a host to the end of the last of the jobs that it and another one had."""
    jobs = [asyncio.ensure_future(_submit(client, "n2")) for _ in range(2 * 2 * CARDS)]
    await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)  # so all cards are at work
    killed = time.monotonic()
    await asyncio.to_thread(victim.kill)
    ends = [end for _, end in await asyncio.gather(*jobs)]
    victim.begin()
    await asyncio.to_thread(victim.serving)
    await asyncio.gather(*(_submit(client, f"h{victim.name[1:]}") for _ in range(2 * CARDS)))
    return max(ends) - killed


def report(runs: Runs) -> Report:
    """What the runs found."""
    found = Report(TITLE, ("measured", "median", "quartiles"), axis="jobs a second", data=runs)
    if not runs:
        found.notes.append("distributed is not installed: pip install 'scardface[distributed]'")

    def row(name: str, values: list[float], shown: Callable[[float], str] = milli) -> Spread:
        middle = spread(values)
        found.rows.append((name, shown(middle.median), f"{shown(middle.low)} to {shown(middle.high)}"))
        return middle

    for (measured,) in runs.values():
        one = [rate for rate, _ in measured["rates"]["1"]]
        for count, turns in measured["rates"].items():
            hosts = f"{count} host{'s' if count != '1' else ''}"
            ideal = int(count) * CARDS / (COMMANDS * LATENCY)
            middle = row(f"jobs a second, {hosts} ({ideal:g}: the cards alone)", [rate for rate, _ in turns], "{:.1f}".format)
            found.bars.append((hosts, middle.median))
            share = spread([share for _, share in turns])
            found.verdicts.append(
                Verdict(f"share of the time in which a job has the card, {hosts}", share.median, ">=", 0.95, share)
            )
            if count != "1":
                ratio = spread([rate / (int(count) * its) for (rate, _), its in zip(turns, one, strict=True)])
                what = f"jobs a second with {hosts} / {count} times one host"
                found.verdicts.append(Verdict(what, ratio.median, ">=", 0.95, ratio))
        for kind, times in measured["cost"].items():
            middle = row(f"a job's cost beyond the card's time, {kind}, ms", times)
            found.verdicts.append(Verdict(f"a job beyond the card's time, {kind}", 1e3 * middle.median, "<=", 30, unit=" ms"))
        middle = row("insertion to the waiting job's begin, ms", measured["inserted"])
        found.verdicts.append(Verdict("insertion to the waiting job's begin", middle.median, "<=", 1, middle, unit=" s"))
        middle = row("SIGKILL of a host to the end of its last job, ms", measured["killed"])
        found.verdicts.append(Verdict("SIGKILL of a host to the end of its last job", middle.median, "<=", 2, middle, unit=" s"))
    return found
