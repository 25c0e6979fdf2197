"""`CardHost`: which cards it serves, and what it survives."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from distributed import Client, Scheduler

from scardface.distributed import CardHost, SchedulerUnavailableError, VersionMismatchError, submit
from scardface.distributed import _host as hosts
from scardface.distributed import _scheduler as schedulers
from tests.distributed.conftest import BOUND, Maker
from tests.distributed.test_jobs import where
from tests.support.cards import BOTH, T1, LogCard

NOWHERE = "tcp://127.0.0.1:1"


async def within(work: Any) -> Any:
    return await asyncio.wait_for(work, BOUND)


def labels_of(scheduler: Scheduler) -> dict[str, set[str]]:
    return {str(each.name).split("/")[1]: set(each.resources) for each in scheduler.workers.values()}


@pytest.mark.anyio
async def test_each_card_is_a_worker_while_it_is_in(fleet: Maker) -> None:
    async with fleet() as f, f.host(labels={"t1": "3B8001 81", "any": "3B..", "both": re.compile(BOTH), "none": rb"^\x3f"}) as host:
        await f.served(0)
        f.insert("A", LogCard(T1))
        f.insert("B", LogCard(BOTH))
        await within(f.served(2))
        assert labels_of(f.scheduler) == {"A": {"card", "t1", "any"}, "B": {"card", "any", "both"}}
        while len(host.workers) < 2:
            await asyncio.sleep(0.01)
        assert set(host.workers.values()) == set(f.scheduler.workers)
        f.pcsc.remove("A")
        await within(f.served(1))
        f.pcsc.remove_reader("B")
        await within(f.served(0))
        f.pcsc.add_reader("C")
        f.insert("C")
        await within(f.served(1))
    assert not f.scheduler.workers
    assert not host.workers


@pytest.mark.anyio
async def test_others_are_not_served(fleet: Maker) -> None:
    async with fleet() as f, f.host(readers=re.compile("[AC]"), atr="3B8001"):
        f.insert("B")
        f.insert("A", LogCard(bytes.fromhex("3F00")))
        f.pcsc.add_reader("C")
        f.insert("C")
        await within(f.served(1))
        f.pcsc.remove("A")
        f.insert("A", LogCard(b""))  # mute
        f.pcsc.remove("C")
        await within(f.served(0))
        f.insert("C")
        assert await within(submit(f.client, where)) == "C"
        assert len(f.scheduler.workers) == 1


@pytest.mark.anyio
async def test_cards_that_come_and_go_faster_than_workers(fleet: Maker) -> None:
    async with fleet() as f, f.host():
        for _ in range(15):
            f.insert("A")
            await asyncio.sleep(0)
            f.insert("B")
            await asyncio.sleep(0.003)
            f.pcsc.remove("A")
            f.pcsc.remove("B")
        f.insert("A")
        assert await within(submit(f.client, where)) == "A"
        await within(f.served(1))


@pytest.mark.anyio
async def test_a_restart_of_the_pcsc_service(fleet: Maker) -> None:
    async with fleet() as f, f.host():
        f.insert("A")
        await within(f.served(1))
        f.pcsc.stop_service()
        await within(f.served(0))
        job = asyncio.create_task(submit(f.client, where))
        f.pcsc.start_service()
        assert await within(job) == "A"


@contextlib.asynccontextmanager
async def scheduler_at(port: int) -> AsyncIterator[Scheduler]:
    async with Scheduler(host="127.0.0.1", port=port, dashboard=False, dashboard_address="127.0.0.1:0") as scheduler:
        yield scheduler


@pytest.mark.anyio
async def test_a_restart_of_the_scheduler(fleet: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "TRIED_AGAIN", 0.05)
    async with fleet() as f:
        f.insert("A")
        async with scheduler_at(0) as first:
            host = f.host()
            host.scheduler = first.address
            await host.__aenter__()
            async with Client(first.address, asynchronous=True) as client:
                assert await within(submit(client, where)) == "A"
            port = first.port
        try:
            while host.workers:
                await asyncio.sleep(0.01)
            async with scheduler_at(port) as second, Client(second.address, asynchronous=True) as client:
                assert await within(submit(client, where)) == "A"
        finally:
            await within(host.__aexit__(None, None, None))


@pytest.mark.anyio
async def test_a_job_that_a_lost_scheduler_had_is_submitted_again(fleet: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "TRIED_AGAIN", 0.05)
    async with fleet() as f, contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(scheduler_at(0))
        client = await stack.enter_async_context(Client(first.address, asynchronous=True))
        waiting = asyncio.create_task(submit(client, where))
        while not first.tasks:
            await asyncio.sleep(0.01)
        await first.close()
        async with scheduler_at(first.port) as second:
            host = f.host()
            host.scheduler = second.address
            async with host:
                f.insert("A")
                assert await within(waiting) == "A"
            await client.close()


@pytest.mark.anyio
async def test_no_scheduler_is_one_sentence_within_the_timeout() -> None:
    with pytest.raises(SchedulerUnavailableError, match=rf"no scheduler answered at {NOWHERE} within 0.5 s"):
        async with CardHost(NOWHERE, timeout=0.5):
            pass


@pytest.mark.anyio
async def test_what_answers_may_be_no_scheduler() -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SchedulerUnavailableError, match="within 1 s"):
            async with CardHost(f"tcp://127.0.0.1:{port}", timeout=1):
                pass


@pytest.mark.anyio
async def test_it_is_waited_for_if_that_was_asked_for(fleet: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "TRIED_AGAIN", 0.05)
    async with fleet() as f:
        async with scheduler_at(0) as gone:
            port = gone.port
        host = f.host(retry=True, timeout=1)
        host.scheduler = f"tcp://127.0.0.1:{port}"
        entering = asyncio.create_task(host.__aenter__())
        await asyncio.sleep(0.2)
        assert not entering.done()
        async with scheduler_at(port):
            await within(entering)
            await within(host.__aexit__(None, None, None))


@pytest.mark.anyio
async def test_a_scheduler_of_another_version_is_named(fleet: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {**schedulers.own_versions(), "distributed": "2020.1"}
    monkeypatch.setattr(schedulers, "own_versions", lambda: mine)
    async with fleet() as f:
        with pytest.raises(
            VersionMismatchError, match=r"host 'here' .* scheduler at tcp:.*: distributed 2020\.1 here and 20.* there"
        ):
            async with f.host():
                pass


@pytest.mark.anyio
async def test_one_that_is_restarted_with_another_version_ends_it(fleet: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet() as f, f.host() as host:
        f.insert("A")
        await within(f.served(1))
        mine = {**schedulers.own_versions(), "dask": "2020.1"}
        monkeypatch.setattr(schedulers, "own_versions", lambda: mine)
        monkeypatch.setattr(hosts, "TRIED_AGAIN", 0.01)
        (worker,) = f.scheduler.workers
        await f.scheduler.remove_worker(worker, stimulus_id="test")
        with pytest.raises(VersionMismatchError, match="dask"):
            await within(host.wait())


@pytest.mark.anyio
async def test_draining_waits_for_what_runs_and_begins_nothing(fleet: Maker) -> None:
    from tests.distributed import test_jobs as here

    began, go_on = asyncio.Event(), asyncio.Event()
    here.shared.update(began=began, go_on=go_on)
    here.log.clear()
    async with fleet() as f:
        async with f.host() as host:
            f.insert("A")
            running = asyncio.create_task(submit(f.client, here.gated, "first", once=True))
            await within(began.wait())
            waiting = asyncio.create_task(submit(f.client, here.gated, "second"))
            while len(f.scheduler.tasks) < 2:
                await asyncio.sleep(0.01)
            assert not await host.drain(0.1)
            draining = asyncio.create_task(host.drain(BOUND))
            f.insert("B")
            await asyncio.sleep(0.1)
            go_on.set()
            assert await within(draining)
            assert await within(running) is None
            assert not waiting.done()
        assert here.log == ["first in", "first out"]
        async with f.host():
            await within(waiting)
    assert here.log == ["first in", "first out", "second in", "second out"]


@pytest.mark.anyio
async def test_it_is_entered_once(fleet: Maker) -> None:
    async with fleet() as f:
        host = f.host()
        with pytest.raises(RuntimeError, match="before waiting"):
            await host.wait()
        async with host:
            with pytest.raises(RuntimeError, match="once"):
                await host.__aenter__()


@pytest.mark.anyio
async def test_workers_listen_on_loopback_where_the_scheduler_is(fleet: Maker) -> None:
    async with fleet() as f, f.host():
        f.insert("A")
        await within(f.served(1))
        (worker,) = f.scheduler.workers
        assert worker.startswith("tcp://127.0.0.1:")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"scheduler": 8786}, TypeError, "a str, not int"),
        ({"scheduler": "scheduler:8786"}, ValueError, "tcp://HOST:PORT or tls://HOST:PORT"),
        ({"scheduler": "tcp://scheduler"}, ValueError, "tcp://HOST:PORT"),
        ({"timeout": 0}, ValueError, "more than 0"),
        ({"timeout": float("nan")}, ValueError, "more than 0"),
        ({"host": ""}, ValueError, "not empty"),
        ({"readers": 1}, TypeError, "readers"),
        ({"atr": "3B0"}, ValueError, "atr: '3B0' is not the beginning"),
        ({"atr": b"("}, ValueError, "no regular expression"),
        ({"atr": re.compile("x")}, TypeError, "bytes pattern"),
        ({"atr": 1}, TypeError, "not int"),
        ({"labels": {"card": "3B"}}, ValueError, "that of all cards"),
        ({"labels": {"": "3B"}}, ValueError, "no label"),
        ({"labels": {"a b": "3B"}}, ValueError, "no label"),
        ({"labels": {1: "3B"}}, TypeError, "a label is a str"),
        ({"labels": {"visa": ""}}, ValueError, "label 'visa'"),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        CardHost(**{"scheduler": NOWHERE, **arguments})
