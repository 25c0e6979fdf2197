"""A fleet in a storm: `python .ci/fleet_storm.py [SECONDS [HOSTS]]`, by default 60 s and 4 hosts of four readers.

Jobs run all the time, two thirds at least once and a third at most once, while at random cards are pulled and put in, hosts are
killed, or ended by SIGTERM, and started again, their PC/SC services restarted, jobs cancelled, and the scheduler is killed and
started again. Each job writes its begin and end to a file. At the end every job must be accounted for: a result and an end, or an
error that tells what happened; none that may begin once has begun twice. Exits with 1, and says which, if one is not.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from distributed import Client

from benchmarks._fleet import Host, Scheduler
from scardface.distributed import JobInterruptedError, current_card, reached, submit

READERS = 4
BOUND = 120.0
"""Seconds in which the jobs that are left end, once nothing is disturbed any more."""


async def work(log: str, name: str, once: bool) -> str:
    """Notes its begin and its end, whatever becomes of its process."""

    def note(word: str) -> None:
        with open(log, "a", buffering=1) as file:
            file.write(f"{word} {name}\n")

    async with current_card() as card:
        note("begin")
        for step in range(3):
            await card.send(bytes([0x00, 0x10, 0, 0, 1, step]))
            if once:
                await reached(f"step {step}")
        note("end")
        return name


async def storm(scheduler: Scheduler, hosts: list[Host], log: Path, seconds: float) -> int:
    """Returns the exit status."""
    results: dict[str, Any] = {}
    stopped = False
    done: Counter[str] = Counter()
    inside = {host.name: set(range(READERS)) for host in hosts}

    async def submits(number: int) -> None:
        once = number % 3 == 0
        count = 0
        while not stopped:
            name, count = f"{'once' if once else 'again'}-{number}-{count}", count + 1
            job = asyncio.ensure_future(submit(client, work, str(log), name, once, once=once))
            try:
                if random.random() < 0.02:
                    await asyncio.wait_for(job, random.random() / 5)
                results[name] = await job
            except asyncio.TimeoutError:
                results[name] = "cancelled"
            except JobInterruptedError as error:
                results[name] = error

    async def card(host: Host) -> None:
        reader = random.randrange(READERS)
        if reader in inside[host.name]:
            inside[host.name].remove(reader)
            await asyncio.to_thread(host.cards.ask, "remove", reader)
        else:
            inside[host.name].add(reader)
            await asyncio.to_thread(host.cards.ask, "insert", reader, 0.01)

    async def killed(host: Host) -> None:
        await asyncio.to_thread(host.kill)
        host.begin()
        await asyncio.to_thread(host.serving)

    async def ended(host: Host) -> None:
        await asyncio.to_thread(host.end)
        host.begin()
        await asyncio.to_thread(host.serving)

    async def service(host: Host) -> None:
        await asyncio.to_thread(host.cards.ask, "restart")

    async def restarted(host: Host) -> None:
        await asyncio.to_thread(scheduler.restart)

    kinds: list[Callable[[Host], Any]] = [card, card, card, card, card, card, killed, ended, service, restarted]
    async with Client(scheduler.address, asynchronous=True) as client:
        tasks = [asyncio.create_task(submits(number)) for number in range(3 * READERS * len(hosts))]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            disturb = random.choice(kinds)
            await disturb(random.choice(hosts))
            done[disturb.__name__] += 1
            await asyncio.sleep(random.random() / 2)
        for host in hosts:
            for reader in set(range(READERS)) - inside[host.name]:
                await asyncio.to_thread(host.cards.ask, "insert", reader, 0.01)
        stopped = True
        _, left = await asyncio.wait(tasks, timeout=BOUND)
        for task in tasks:
            if task.done():
                task.result()
    begun: Counter[str] = Counter()
    finished: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        word, name = line.split()
        (begun if word == "begin" else finished)[name] += 1
    faults = [f"{len(left)} jobs did not end"] if left else []
    faults += [f"{name} began {count} times" for name, count in begun.items() if name.startswith("once") and count > 1]
    for name, result in results.items():
        if result == name and not finished[name]:
            faults.append(f"{name} has a result and did not end")
        if isinstance(result, JobInterruptedError) and not name.startswith("once"):
            faults.append(f"{name}: {result}")
    kinds_of = Counter(
        type(result).__name__ if isinstance(result, Exception) else "cancelled" if result == "cancelled" else "done"
        for result in results.values()
    )
    print(f"{len(results)} jobs: {dict(kinds_of)}; begun again: {sum(count > 1 for count in begun.values())}; {dict(done)}")
    print("\n".join(faults) or "every job is accounted for")
    return 1 if faults else 0


def main() -> int:
    """The exit status."""
    seconds, count = float((sys.argv[1:] or ["60"])[0]), int((sys.argv[2:] or ["4"])[0])
    seed = random.randrange(1 << 32)
    random.seed(seed)
    print(f"seed {seed}", flush=True)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        errors = Path(folder) / "errors.txt"
        scheduler = stack.enter_context(Scheduler(errors=errors))
        hosts = [stack.enter_context(Host(f"h{number}", READERS, scheduler.address, errors=errors)) for number in range(count)]
        for host in hosts:
            host.begin()
        for host in hosts:
            for reader in range(READERS):
                host.cards.ask("insert", reader, 0.01)
            host.serving()
        return asyncio.run(storm(scheduler, hosts, Path(folder) / "log", seconds))


if __name__ == "__main__":
    sys.exit(main())
