"""`submit` and what it makes of a job: the result, the error, the cancellation, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from typing import Any

import pytest
from distributed import Client, KilledWorker

from scardface import StatusError, sync
from scardface.distributed import JobCancelledError, JobInterruptedError, VersionMismatchError, current_card, submit
from scardface.distributed import _jobs as jobs
from scardface.iso7816 import C_APDU
from tests.distributed.conftest import BOUND, Fleet, Maker
from tests.support.cards import ECHO, NOT_FOUND, LogCard

pytestmark = pytest.mark.anyio

log: list[str] = []
"""What jobs did; hosts and tests share a process here."""


async def echo(data: bytes, extra: bytes = b"") -> bytes:
    async with current_card() as card:
        return (await card.send(C_APDU(0x00, ECHO, 0, 0, data + extra))).data


async def within(work: Any) -> Any:
    return await asyncio.wait_for(work, BOUND)


async def test_a_job_returns_what_its_function_does(fleet: Maker) -> None:
    async with fleet() as f, f.host():
        f.insert("A")
        assert await within(submit(f.client, echo, b"\x01\x02", extra=b"\x03")) == b"\x01\x02\x03"
        assert await within(submit(f.client, functools.partial(echo, extra=b"\x05"), b"\x04")) == b"\x04\x05"


async def test_the_same_job_is_done_each_time(fleet: Maker) -> None:
    """Dask takes it for the same, if it may."""
    async with fleet() as f, f.host():
        card = f.insert("A")
        for _ in range(3):
            await within(submit(f.client, echo, b"\x01"))
        assert len(card.commands) == 3


async def test_a_job_waits_for_a_card_with_its_label(fleet: Maker) -> None:
    async with fleet() as f, f.host(labels={"visa": "3B..01", "other": rb"\x3f"}):
        job = asyncio.create_task(submit(f.client, where, card="visa"))
        f.insert("A", LogCard(bytes.fromhex("3F00")))
        assert await within(submit(f.client, where, card="other")) == "A"
        assert await within(submit(f.client, where, card="card")) == "A"
        assert not job.done()
        f.insert("B")
        assert await within(job) == "B"


async def where() -> str:
    async with current_card() as card:
        return card.reader


async def test_plain_dask_has_the_card_too(fleet: Maker) -> None:
    async with fleet() as f, f.host():
        f.insert("A")
        assert await within(f.client.submit(echo, b"\x07", resources={"card": 1}, pure=False)) == b"\x07"


async def test_a_function_that_is_no_coroutine_has_a_card_of_the_sync_face(fleet: Maker) -> None:
    def plain(data: bytes) -> tuple[str, bytes, bool]:
        with current_card() as card:
            assert isinstance(card, sync.SCard)
            on_main = threading.current_thread() is threading.main_thread()
            return card.reader, card.send(C_APDU(0x00, ECHO, 0, 0, data)).data, on_main

    async with fleet() as f, f.host():
        f.insert("A")
        for _ in range(2):
            assert await within(submit(f.client, plain, b"\x08")) == ("A", b"\x08", False)
            assert await within(submit(f.client, echo, b"\x09")) == b"\x09"


async def test_a_job_that_raises(fleet: Maker) -> None:
    async def not_found() -> None:
        async with current_card() as card:
            (await card.send(bytes([0x00, NOT_FOUND, 0, 0]))).check()

    async with fleet() as f, f.host():
        f.insert("A")
        for once in (False, True):
            with pytest.raises(StatusError, match="6A82"):
                await within(submit(f.client, not_found, once=once))
        assert await within(submit(f.client, echo, b"\x01")) == b"\x01"


async def test_what_cannot_be_pickled(fleet: Maker) -> None:
    async def a_lock() -> object:
        return threading.Lock()

    class Odd(Exception):
        def __init__(self) -> None:
            super().__init__("odd")
            self.lock = threading.Lock()

    async def odd() -> None:
        raise Odd

    async with fleet() as f, f.host():
        f.insert("A")
        lock = threading.Lock()
        with pytest.raises(TypeError, match="pickle"):
            await submit(f.client, echo, lock)
        for once in (False, True):
            with pytest.raises((TypeError, RuntimeError), match=r"serialize|pickle"):
                await within(submit(f.client, a_lock, once=once))
            with pytest.raises(Exception, match=r"odd|Odd"):
                await within(submit(f.client, odd, once=once))
        assert await within(submit(f.client, echo, b"\x01")) == b"\x01"


async def test_who_stops_waiting_cancels_a_job_that_has_not_begun(fleet: Maker) -> None:
    async with fleet() as f, f.host():
        for once in (False, True):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(submit(f.client, echo, b"\x01", once=once), 0.2)
        while f.scheduler.tasks:  # the release is on its way
            await asyncio.sleep(0.01)
        card = f.insert("A")
        await within(submit(f.client, echo, b"\x02"))
        assert [command[5:] for command in card.commands] == [b"\x02"]


async def test_a_job_that_runs_goes_on_when_nobody_waits_any_more_and_keeps_the_card(fleet: Maker) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()
    shared.update(began=began, go_on=go_on)
    log.clear()
    async with fleet() as f, f.host():
        f.insert("A")
        job = asyncio.create_task(submit(f.client, gated, "first"))
        await within(began.wait())
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        second = asyncio.create_task(submit(f.client, gated, "second"))
        await asyncio.sleep(0.1)
        assert log == ["first in"]
        go_on.set()
        await within(second)
    assert log == ["first in", "first out", "second in", "second out"]


shared: dict[str, Any] = {}
"""Events, which cannot be pickled; hosts and tests share a process here."""


async def gated(name: str) -> None:
    from tests.distributed import test_jobs as here

    async with current_card():
        here.log.append(f"{name} in")
        here.shared["began"].set()
        await here.shared["go_on"].wait()
        here.log.append(f"{name} out")


async def test_who_is_cancelled_while_results_are_fetched_takes_them_from_nobody(
    fleet: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client fetches those of all who wait together."""
    fetching, go_on, told = asyncio.Event(), asyncio.Event(), []
    gather = Client._gather

    async def slow(self: Client, *args: Any, **kwargs: Any) -> Any:
        fetching.set()
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise
        return await gather(self, *args, **kwargs)

    async def cancelled_once(self: Client, *args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(Client, "_gather", gather)
        raise asyncio.CancelledError

    async with fleet() as f, f.host():
        f.insert("A")
        for once in (False, True):
            monkeypatch.setattr(Client, "_gather", slow)
            job = asyncio.create_task(submit(f.client, echo, b"\x01", once=once))
            await within(fetching.wait())
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await within(job)
            assert told == []
            go_on.set()
            monkeypatch.setattr(Client, "_gather", cancelled_once)
            assert await within(submit(f.client, echo, b"\x02", once=once)) == b"\x02"
            fetching.clear()
            go_on.clear()
        go_on.set()


async def lose_four_workers(fleet: Fleet) -> None:
    """As when a host of four readers is killed, and the scheduler hears of one worker after the other."""
    for _ in range(4):
        [job] = [task for task in fleet.scheduler.tasks.values() if task.state == "processing"]
        await fleet.scheduler.remove_worker(job.processing_on.address, stimulus_id="test")


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("begun", [False, True])
async def test_a_killed_host_of_four_readers_is_one_loss(
    fleet: Maker, monkeypatch: pytest.MonkeyPatch, once: bool, begun: bool
) -> None:
    """Dask counts four, and gives the job up."""
    began, go_on = asyncio.Event(), asyncio.Event()
    shared.update(began=began, go_on=go_on)
    log.clear()
    lost: set[str] = set()  # workers that begin nothing more: one may take the job's first step only as it is closed
    monkeypatch.setattr(jobs, "leave_if_gone", lambda _: asyncio.sleep(2 * BOUND if jobs.get_worker().address in lost else 0))
    async with fleet() as f, f.host():
        for reader in "CD":
            f.pcsc.add_reader(reader)
        for reader in "ABCD":
            f.insert(reader)
        await within(f.served(4))
        if not begun:
            lost.update(f.scheduler.workers)
        job = asyncio.create_task(submit(f.client, gated, "it", once=once))
        while not any(task.state == "processing" for task in f.scheduler.tasks.values()):
            await asyncio.sleep(0.01)
        if begun:
            await within(began.wait())
            lost.update(f.scheduler.workers)
        await lose_four_workers(f)
        if once and begun:
            with pytest.raises(JobInterruptedError, match="host 'here'"):
                await within(job)
            go_on.set()
        else:
            go_on.set()
            assert await within(job) is None
            assert log[-1] == "it out"
        await within(f.served(4))  # Dask leaves a socket behind where a worker is closed while it starts


@pytest.mark.parametrize("once", [False, True])
async def test_a_job_whose_hosts_are_killed_each_time_is_given_up(
    fleet: Maker, monkeypatch: pytest.MonkeyPatch, once: bool
) -> None:
    """With `once` as well, where it has never begun."""
    there = asyncio.Event()

    async def is_killed(_: Any) -> None:
        there.set()
        await asyncio.sleep(2 * BOUND)

    monkeypatch.setattr(jobs, "leave_if_gone", is_killed)
    async with fleet() as f, f.host():
        f.scheduler.allowed_failures = 1
        f.insert("A")
        job = asyncio.create_task(submit(f.client, echo, b"", once=once))
        for _ in range(4):
            await within(there.wait())
            there.clear()
            assert not job.done()
            [running] = [task for task in f.scheduler.tasks.values() if task.state == "processing"]
            await f.scheduler.remove_worker(running.processing_on.address, stimulus_id="test")
        with pytest.raises(KilledWorker):
            await within(job)
        await within(f.served(1))


async def test_somebody_else_cancels(fleet: Maker) -> None:
    async with fleet() as f, f.host():
        for once in (False, True):
            job = asyncio.create_task(submit(f.client, echo, b"\x01", once=once))
            while not f.client.futures:
                await asyncio.sleep(0.01)
            await f.client.restart() if once else await _cancel_all(f.client)
            with pytest.raises(JobCancelledError, match="cancelled"):
                await within(job)


async def _cancel_all(client: Client) -> None:
    from distributed import Future

    await client.cancel([Future(key, client) for key in list(client.futures)], force=True)


async def test_versions_of_both_ends_are_compared(fleet: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet() as f, f.host():
        f.insert("A")
        theirs = {**jobs.own_versions(), "scardface": "0.0.7", "distributed": "2020.1"}
        monkeypatch.setattr(jobs, "own_versions", lambda: theirs)
        for once in (False, True):
            with pytest.raises(
                VersionMismatchError, match=r"host 'here'.*distributed .* here and 2020\.1 there; scardface .* 0\.0\.7 there"
            ):
                await within(submit(f.client, echo, b"\x01", once=once))


async def test_arguments_are_in_no_log(fleet: Maker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask logs a failed task with its arguments; to its own handler alone, if it was imported where nobody else had one."""

    async def fails(pin: str) -> None:
        raise ValueError("wrong")

    monkeypatch.setattr(logging.getLogger("distributed"), "propagate", True)
    caplog.set_level(logging.DEBUG)
    async with fleet() as f, f.host():
        f.insert("A")
        with pytest.raises(ValueError, match="wrong"):
            await within(submit(f.client, fails, "8642975"))
    assert "Compute Failed" in caplog.text
    assert "8642975" not in caplog.text


async def test_bad_input_is_refused_at_once(fleet: Maker) -> None:
    async with fleet() as f:
        for arguments, words in (
            ((None, echo), "needs a distributed.Client"),
            ((f.client, "echo"), "a function, not str"),
            ((f.client, echo, f.client.submit(int)), "future"),
        ):
            with pytest.raises(TypeError, match=words):
                await submit(*arguments)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="label"):
            await submit(f.client, echo, card=1)  # type: ignore[arg-type]
        assert not f.scheduler.queued


async def test_a_client_that_is_not_asynchronous(fleet: Maker) -> None:
    def script(address: str) -> bytes:
        with Client(address, set_as_default=False) as client:
            answer: bytes = client.sync(submit, client, echo, b"\x0a")
            with pytest.raises(TypeError, match="an asynchronous client"):
                asyncio.run(submit(client, echo, b"\x0a"))
            return answer

    async with fleet() as f, f.host():
        f.insert("A")
        assert await within(asyncio.to_thread(script, f.scheduler.address)) == b"\x0a"


def test_a_chain_of_causes_that_comes_back_to_itself_is_cut() -> None:
    """Dask follows it in the event loop of the host, which would stand still."""
    first, second, third = ValueError("1"), ValueError("2"), ValueError("3")
    first.__cause__, second.__cause__, third.__cause__ = second, third, second
    jobs.end_cycles(first)
    assert (first.__cause__, second.__cause__, third.__cause__) == (second, third, None)
    alone = ValueError("alone")
    jobs.end_cycles(alone)
    alone.__cause__ = alone
    jobs.end_cycles(alone)
    assert alone.__cause__ is None


async def test_such_an_error_of_a_job_stops_nothing(fleet: Maker) -> None:
    async def circular() -> None:
        error = ValueError("wrong")
        raise error from error

    async with fleet() as f, f.host():
        f.insert("A")
        with pytest.raises(ValueError, match="wrong"):
            await within(submit(f.client, circular))
