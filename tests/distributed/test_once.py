"""At most once: the token, the record, and who hears of a loss."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from scardface.distributed import JobInterruptedError, submit
from scardface.distributed import _jobs as jobs
from scardface.distributed import _once as once
from tests.distributed.conftest import BOUND, Fleet, Maker
from tests.distributed.test_jobs import echo

pytestmark = pytest.mark.anyio


async def within(work: Any) -> Any:
    return await asyncio.wait_for(work, BOUND)


async def one_behind_the_other(fleet: Fleet) -> list[asyncio.Task[None]]:
    """Two jobs at the only worker: the first one has begun, and goes on when it is told to."""
    from tests.distributed import test_jobs as here

    here.shared.update(began=asyncio.Event(), go_on=asyncio.Event())
    here.log.clear()
    first = asyncio.create_task(submit(fleet.client, here.gated, "first", once=True))
    await within(here.shared["began"].wait())
    second = asyncio.create_task(submit(fleet.client, here.gated, "second", once=True))
    while len([task for task in fleet.scheduler.tasks.values() if task.state == "processing"]) < 2:
        await asyncio.sleep(0.01)
    return [first, second]


async def test_of_many_who_want_to_begin_one_may(fleet: Maker) -> None:
    async with fleet() as f:
        pending = await once.Pending.create(f.client)
        assert not await pending.begun()
        tries = (once.claim(f.client.scheduler, pending.name, f"w{number}", "h", "R") for number in range(20))
        results = await asyncio.gather(*tries)
        assert sum(isinstance(each, once.Claim) for each in results) == 1
        assert sum(isinstance(each, once.Record) for each in results) == 19
        assert await pending.begun()
        pending.remove()  # in Dask's stream of messages, which a question of its own may overtake
        queues, variables = f.scheduler.extensions["queues"], f.scheduler.extensions["variables"]
        while pending.name in queues.queues or pending.name in variables.variables:
            await asyncio.sleep(0.001)
        late = await once.claim(f.client.scheduler, pending.name, "w", "h", "R")
        assert isinstance(late, once.Record)
        with pytest.raises(JobInterruptedError, match="not known"):
            late.result()


async def test_the_record_has_the_last_stage_and_then_the_result(fleet: Maker) -> None:
    async with fleet() as f:
        pending = await once.Pending.create(f.client)
        claim = await once.claim(f.client.scheduler, pending.name, "w", "h", "R")
        assert isinstance(claim, once.Claim)
        await claim.reached("one")
        await claim.reached("two")
        with pytest.raises(JobInterruptedError, match=r"host 'h' in reader 'R' at .*'two'"):
            (await pending.record()).result()
        await claim.done({"the": "result"})
        assert (await pending.record()).result() == {"the": "result"}
        again = await once.claim(f.client.scheduler, pending.name, "other", "h", "R")
        assert isinstance(again, once.Record)
        assert again.result() == {"the": "result"}
        await claim.done(b"\0" * (once.LARGEST + 1))  # not kept
        assert (await pending.record()).result() == {"the": "result"}


async def test_a_result_that_its_worker_takes_along_is_not_lost(fleet: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job has ended, and its worker goes before anybody has fetched the result."""
    hold = asyncio.Event()
    result = jobs._result

    async def held(client: Any, future: Any) -> Any:
        await hold.wait()
        return await result(client, future)

    monkeypatch.setattr(jobs, "_result", held)
    async with fleet() as f, f.host():
        card = f.insert("A")
        job = asyncio.create_task(submit(f.client, echo, b"\x05", once=True))
        while not any(task.state == "memory" for task in f.scheduler.tasks.values()):
            await asyncio.sleep(0.01)
        f.pcsc.remove("A")
        assert await within(job) == b"\x05"
        assert len(card.commands) == 1
        hold.set()


async def test_one_that_had_not_begun_runs_elsewhere(fleet: Maker) -> None:
    """It was with the lost worker, behind another one."""
    from tests.distributed import test_jobs as here

    async with fleet() as f, f.host():
        f.insert("A")
        first, second = await one_behind_the_other(f)
        f.pcsc.remove("A")
        with pytest.raises(JobInterruptedError, match="reader 'A'"):
            await within(first)
        assert not second.done()
        here.shared["go_on"].set()
        f.insert("B")
        await within(second)
        assert here.log == ["first in", "second in", "second out"]


async def test_a_lost_worker_concerns_the_job_that_began_on_it(fleet: Maker) -> None:
    async with fleet() as f:
        pending = await once.Pending.create(f.client)
        assert await pending.lost("job", {"tcp://a", "tcp://b"}) is None, "it may yet begin"
        await once.claim(f.client.scheduler, pending.name, "tcp://a", "h", "R")
        assert await pending.lost("job", {"tcp://b"}) is None
        record = await pending.lost("job", {"tcp://a", "tcp://b"})
        assert record is not None
        assert record.worker == "tcp://a"


async def test_a_token_that_was_taken_without_a_record(fleet: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the lost worker, if nobody has the job; otherwise by one that writes the record next, or is told that there is none."""
    async with fleet() as f, f.host():
        taken, write = asyncio.Event(), asyncio.Event()
        written = once.Claim._write

        async def late(self: once.Claim, **fields: Any) -> None:
            taken.set()
            await write.wait()
            await written(self, **fields)

        monkeypatch.setattr(once.Claim, "_write", late)
        pending = await once.Pending.create(f.client)
        payload = pickle.dumps((echo, (b"\x05",), {}))
        information = jobs._information(once=pending.name)
        job = f.client.submit(jobs.run_job, payload, information, key="job", pure=False, resources={"card": 1})
        f.insert("A")
        await within(taken.wait())
        assert await pending.lost("job", {"tcp://a"}) is None
        record = await pending.lost("another", {"tcp://a"})
        assert record is not None
        assert record.worker is None
        write.set()
        assert await within(job) == b"\x05"
        pending.remove()


async def test_one_that_was_moved_before_its_waiter_heard_of_the_loss(fleet: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has begun elsewhere, where it goes on."""
    from tests.distributed import test_jobs as here

    asked: list[once.Record | None] = []  # what each was told
    lost = once.Pending.lost

    async def late(self: once.Pending, *args: Any) -> once.Record | None:
        while here.log[-1] != "second in":
            await asyncio.sleep(0.01)
        asked.append(await lost(self, *args))
        return asked[-1]

    async with fleet() as f, f.host():
        f.insert("A")
        first, second = await one_behind_the_other(f)
        monkeypatch.setattr(once.Pending, "lost", late)
        f.pcsc.remove("A")
        f.insert("B")
        with pytest.raises(JobInterruptedError, match="reader 'A'"):
            await within(first)
        while None not in asked and not second.done():
            await asyncio.sleep(0.01)
        here.shared["go_on"].set()
        await within(second)
        assert here.log == ["first in", "second in", "second out"]


async def test_a_lost_scheduler(fleet: Maker) -> None:
    async with fleet() as f, f.host():
        job = asyncio.create_task(submit(f.client, echo, b"\x05", once=True))
        while not f.scheduler.tasks:
            await asyncio.sleep(0.01)
        await f.scheduler.close()
        with pytest.raises(JobInterruptedError, match="the scheduler was lost: it may have begun"):
            await within(job)


async def test_a_handler_of_the_users_own_hears_the_events_as_well(fleet: Maker) -> None:
    heard: list[Any] = []
    async with fleet() as f, f.host():
        f.client.subscribe_topic("all", heard.append)
        f.insert("A")
        await within(submit(f.client, echo, b"\x05", once=True))
        f.pcsc.remove("A")
        while not any(event[1]["action"] == "remove-worker" for event in heard):
            await asyncio.sleep(0.01)


async def test_nothing_is_left_on_the_scheduler(fleet: Maker) -> None:
    async with fleet() as f, f.host():
        f.insert("A")
        for _ in range(3):
            await within(submit(f.client, echo, b"\x05", once=True))
        queues, variables = f.scheduler.extensions["queues"], f.scheduler.extensions["variables"]
        while f.scheduler.tasks or queues.queues or variables.variables:
            await asyncio.sleep(0.01)
