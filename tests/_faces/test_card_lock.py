"""The lock of an open card: who has it, who waits for it, who is refused it."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import anyio
import pytest

from scardface._faces.card_lock import CardLock, Level
from scardface._threads import Loop

pytestmark = pytest.mark.anyio


@pytest.fixture
async def lock(anyio_backend: Any) -> CardLock:
    return CardLock(Loop())


async def use(lock: CardLock, order: list[Any], name: Any) -> None:
    level = await lock.acquire()
    order.append(name)
    await anyio.lowlevel.checkpoint()
    order.append(name)
    lock.release(level)


async def begin(lock: CardLock) -> Level:
    return lock.begin_transaction(await lock.acquire())


async def test_tasks_take_it_in_their_order(lock: CardLock) -> None:
    order: list[Any] = []
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(use, lock, order, number)
    assert sorted(order) == [0, 0, 1, 1, 2, 2]
    assert order[::2] == order[1::2]


async def test_what_is_inside_takes_turns_and_outsiders_wait(lock: CardLock) -> None:
    """Its own task, tasks that are started inside, blocks inside; each block among its own."""
    order: list[Any] = []
    async with anyio.create_task_group() as tasks:
        ground = await lock.acquire()
        tasks.start_soon(use, lock, order, "outsider")
        await anyio.wait_all_tasks_blocked()
        outer = lock.begin_transaction(ground)
        async with anyio.create_task_group() as members:
            for number in range(3):
                members.start_soon(use, lock, order, number)
            inner = await begin(lock)
            members.start_soon(use, lock, order, "inner")
            await anyio.wait_all_tasks_blocked()
            await use(lock, order, "holder")
            assert sorted(set(order), key=str) == ["holder", "inner"]
            lock.leave_transaction(inner)
        lock.leave_transaction(outer)
    assert order[::2] == order[1::2]
    assert order[-1] == "outsider"
    await use(lock, order, "after")


async def test_what_outlives_a_block_is_an_outsider(lock: CardLock) -> None:
    """Whether it waits inside when the block ends, or comes later."""
    order: list[Any] = []
    go_on = anyio.Event()

    async def late() -> None:
        await go_on.wait()
        await use(lock, order, "late")

    async with anyio.create_task_group() as tasks:
        ground = await lock.acquire()
        tasks.start_soon(use, lock, order, "outsider")
        await anyio.wait_all_tasks_blocked()
        block = lock.begin_transaction(ground)
        tasks.start_soon(late)
        inside = await lock.acquire()
        tasks.start_soon(use, lock, order, "waiting inside")
        await anyio.wait_all_tasks_blocked()
        lock.end_transaction(block)
        go_on.set()
        await anyio.wait_all_tasks_blocked()
        assert order == []  # somebody has the lock inside, and the block has not left
        lock.leave_transaction(block)
        await anyio.wait_all_tasks_blocked()
        assert order == []
        lock.release(inside)
        await lock.wait_until_idle(block)
    assert order[::2] == order[1::2]
    assert order[0] == "outsider"


async def test_a_block_that_ends_waits_for_who_has_the_turn_inside(lock: CardLock) -> None:
    block = await begin(lock)
    inside = await lock.acquire()
    lock.end_transaction(block)
    ended: list[bool] = []

    async def end() -> None:
        await lock.wait_until_idle(block)
        ended.append(True)
        lock.leave_transaction(block)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        await anyio.wait_all_tasks_blocked()
        assert not ended
        lock.release(inside)
    assert ended
    lock.release(await lock.acquire())


async def test_a_block_may_be_left_by_another_task(lock: CardLock) -> None:
    order: list[Any] = []
    blocks: list[Level] = []

    async def enter() -> None:
        blocks.append(await begin(lock))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(enter)
    with pytest.raises(RuntimeError, match="has ended"):
        await lock.acquire()
    lock.leave_transaction(blocks[0])
    await use(lock, order, "after")


async def test_who_would_wait_for_itself_is_told(lock: CardLock) -> None:
    """It is the one that holds the transaction, but not in its context."""
    outside = contextvars.copy_context()
    block = await begin(lock)
    with pytest.raises(RuntimeError, match="very task"):
        outside.run(lock.acquire().send, None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(use, lock, [], "inside")
    lock.leave_transaction(block)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_who_waits_for_a_task_that_ends_is_told(lock: CardLock) -> None:
    entered, end = anyio.Event(), anyio.Event()

    async def enter() -> None:
        await begin(lock)
        entered.set()
        await end.wait()

    first = asyncio.create_task(enter())
    await entered.wait()
    second = asyncio.create_task(use(lock, [], "outsider"))
    await anyio.wait_all_tasks_blocked()
    end.set()
    await first
    with pytest.raises(RuntimeError, match="has ended"):
        await second


async def test_blocks_of_several_cards_do_not_mix(anyio_backend: Any) -> None:
    first, second = CardLock(Loop()), CardLock(Loop())
    order: list[Any] = []
    outer = await begin(first)
    inner = await begin(second)
    await use(first, order, 1)
    await use(second, order, 2)
    held = await first.acquire()
    first.leave_transaction(outer)  # the other way round than they began
    first.release(held)
    await use(first, order, 3)
    await use(second, order, 4)
    second.leave_transaction(inner)
    await use(second, order, 5)
    assert order == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


async def test_a_cancelled_task_loses_no_lock(lock: CardLock) -> None:
    """Neither while it waits nor in the moment in which it gets the lock."""
    took: list[str] = []

    async def one(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            level = await lock.acquire()
            took.append(name)
            lock.release(level)

    first, second, third = (anyio.CancelScope() for _ in range(3))
    level = await lock.acquire()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, "first", first)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(one, "second", second)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(one, "third", third)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        lock.release(level)
        second.cancel()
    assert took[-1] == "third"
    assert "first" not in took
    lock.release(await lock.acquire())


async def test_a_task_that_is_cancelled_already_acquires_no_lock(lock: CardLock) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await lock.acquire()
        pytest.fail("it was cancelled")
    lock.release(await lock.acquire())


@pytest.mark.parametrize("theirs", ["asyncio", "trio"])
@pytest.mark.parametrize("ours", ["asyncio", "trio"])
def test_another_loop_is_refused(ours: str, theirs: str) -> None:
    async def make() -> CardLock:
        return CardLock(Loop())

    lock = anyio.run(make, backend=ours)
    with pytest.raises(RuntimeError, match="another event loop"):
        anyio.run(lock.acquire, backend=theirs)
