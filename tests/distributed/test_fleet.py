"""The real thing: a scheduler and two hosts with 16 readers, all in processes of their own, disturbed while jobs run. And TLS."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from distributed.security import Security

from benchmarks._fleet import Host, Process, Scheduler
from scardface.distributed import JobInterruptedError, current_card, reached, submit
from tests.distributed.conftest import BOUND
from tests.support.certificates import make_certificates

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("_daemon")]  # skipped, or failed, where no private pcscd can run
READERS = 8
CARDS = 5


async def work(log: str, name: str, once: bool) -> str:
    """Notes its begin and its end in a file, whatever becomes of its process."""

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


class Load:
    """Many who submit jobs, one after the other, until they are told to stop; and what became of each."""

    def __init__(self, client: Client, log: Path) -> None:
        self.results: dict[str, str | JobInterruptedError] = {}
        self._client, self._log, self._stopped = client, log, False
        self._tasks = [asyncio.create_task(self._submit(number)) for number in range(24)]

    async def _submit(self, number: int) -> None:
        once, count = number % 3 == 0, 0
        while not self._stopped:
            name = f"{'once' if once else 'again'}-{number}-{count}"
            count += 1
            try:
                self.results[name] = await submit(self._client, work, str(self._log), name, once, card="card", once=once)
            except JobInterruptedError as error:
                self.results[name] = error

    async def goes_on(self, jobs: int = 24) -> None:
        """Return once so many more have ended with a result."""
        wanted = self.done + jobs
        while self.done < wanted:
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)

    @property
    def done(self) -> int:
        return sum(isinstance(result, str) for result in self.results.values())

    async def stop(self) -> None:
        self._stopped = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), BOUND)


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Scheduler, list[Host]]]:
    errors = tmp_path / "errors.txt"
    # One job may be hit by more than three disturbances, where it takes long; Dask would give it up then (KilledWorker).
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "100")
    with ExitStack() as stack:
        scheduler = stack.enter_context(Scheduler(errors=errors))
        both = [stack.enter_context(Host(f"host-{number}", READERS, scheduler.address, errors=errors)) for number in range(2)]
        for host in both:
            host.begin()
        for host in both:
            for reader in range(CARDS):
                host.cards.ask("insert", reader, 0.01)
            host.serving()
        yield scheduler, both


async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.wait_for(asyncio.to_thread(call, *arguments), BOUND)


async def test_every_job_is_accounted_for(hosts: tuple[Scheduler, list[Host]], tmp_path: Path) -> None:
    scheduler, (first, second) = hosts
    log = tmp_path / "log"

    async def pull() -> None:
        for host in (first, second):
            await in_thread(host.cards.ask, "remove", 1)
        for host in (first, second):
            await in_thread(host.cards.ask, "insert", 1, 0.01)

    async def kill() -> None:
        pid = first.process.pid
        assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == "", "it starts no processes, so it leaves none"
        await in_thread(first.kill)
        first.begin()
        await load.goes_on()  # with the other host
        await in_thread(first.serving)

    disturbances: list[Callable[[], Coroutine[Any, Any, None]]] = [
        pull,
        kill,
        lambda: in_thread(second.cards.ask, "restart"),
        lambda: in_thread(second.end),
        lambda: in_thread(scheduler.restart),
    ]
    async with Client(scheduler.address, asynchronous=True) as client:
        load = Load(client, log)
        await asyncio.wait_for(load.goes_on(), BOUND)
        for disturb in disturbances:
            await asyncio.wait_for(disturb(), BOUND)
            await asyncio.wait_for(load.goes_on(), BOUND)
        await load.stop()
    begun, ended = Counter[str](), Counter[str]()
    for line in log.read_text().splitlines():
        word, name = line.split()
        (begun if word == "begin" else ended)[name] += 1
    interrupted = {name: result for name, result in load.results.items() if isinstance(result, JobInterruptedError)}
    assert all(result == name for name, result in load.results.items() if name not in interrupted)
    assert not [name for name in interrupted if not name.startswith("once")]
    assert not [name for name, count in begun.items() if name.startswith("once") and count > 1], "begun twice"
    assert not [name for name in load.results if not ended[name] and name not in interrupted], "not done"
    assert max(begun.values()) > 1, "nothing was disturbed"
    assert interrupted, "nothing that may begin once was disturbed"
    known = [each for each in interrupted.values() if each.host is not None]
    assert {each.host for each in known} <= {"host-0", "host-1"}
    assert all(each.reader in first.cards.readers for each in known)
    assert first.end() == 0


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    return make_certificates(tmp_path)


async def test_with_tls_who_has_no_certificate_gets_no_connection(certificates: Path, tmp_path: Path) -> None:
    async def reader() -> tuple[str, str]:
        from distributed import get_worker

        async with current_card() as card:
            return card.reader, get_worker().address

    def files(name: str) -> dict[str, str]:
        return {"cert": str(certificates / f"{name}.pem"), "key": str(certificates / f"{name}.key")}

    authority = str(certificates / "ca.pem")
    options = ["--tls-ca-file", authority, "--tls-cert", files("host")["cert"], "--tls-key", files("host")["key"]]
    errors = tmp_path / "errors.txt"
    client = {f"tls_client_{name}": path for name, path in files("client").items()}
    security = Security(tls_ca_file=authority, require_encryption=True, **client)
    with Scheduler(certificates=certificates, errors=errors) as scheduler, Host("h", 2, scheduler.address, options, errors) as host:
        assert scheduler.address.startswith("tls://127.0.0.1:")
        host.begin()
        await in_thread(host.cards.ask, "insert", 0)
        async with Client(scheduler.address, security=security, asynchronous=True) as ours:
            name, address = await asyncio.wait_for(submit(ours, reader), BOUND)
            assert name == host.cards.readers[0]
            assert address.startswith("tls://127.0.0.1:")
        context = ssl.create_default_context(cafile=authority)
        context.check_hostname = False
        port = int(scheduler.address.rpartition(":")[2])
        stranger, out = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        with suppress(OSError):  # the alert, as OpenSSL tells it
            assert await asyncio.wait_for(stranger.read(1), BOUND) == b"", "the scheduler speaks with a stranger"
        out.close()


async def test_a_job_that_blocks_its_host_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    async def blocks(path: str) -> None:
        Path(path).touch()
        while True:
            pass

    errors, blocked = tmp_path / "errors.txt", tmp_path / "blocked"
    with Scheduler(errors=errors) as scheduler, Host("h", 2, scheduler.address, errors=errors) as host:
        host.begin()
        await in_thread(host.cards.ask, "insert", 0)
        async with Client(scheduler.address, asynchronous=True) as client:
            job = asyncio.create_task(submit(client, blocks, str(blocked), once=True))
            while not blocked.exists():
                await asyncio.sleep(0.02)
            serving = host.process
            while serving.poll() is None:  # two that come before Python has looked are one
                serving.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.1)
            assert serving.returncode == 128 + signal.SIGTERM
            with pytest.raises(JobInterruptedError, match="host 'h' in reader"):
                await asyncio.wait_for(job, BOUND)
    assert "a job blocks the event loop" in errors.read_text()


def test_a_process_that_ends_without_a_word_says_why(tmp_path: Path) -> None:
    process = Process(["-c", "raise SystemExit('no port is free')"], errors=tmp_path / "errors.txt")
    with pytest.raises(RuntimeError, match="has ended with 1: no port is free"):
        process.line()
    assert process.process.stdin is not None
    assert process.process.stdin.closed
