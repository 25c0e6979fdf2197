"""Whose turn it is."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import anyio
import pytest

from scardface._faces.card_lock import Level, Turn
from scardface._threads import Loop

pytestmark = pytest.mark.anyio


@pytest.fixture
async def turn(anyio_backend: Any) -> Turn:
    return Turn(Loop())


async def use(turn: Turn, order: list[Any], name: Any) -> None:
    level = await turn.take()
    order.append(name)
    await anyio.lowlevel.checkpoint()
    order.append(name)
    turn.give(level)


async def begin(turn: Turn) -> Level:
    return turn.begin(await turn.take())


async def test_tasks_take_it_in_their_order(turn: Turn) -> None:
    order: list[Any] = []
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(use, turn, order, number)
    assert sorted(order) == [0, 0, 1, 1, 2, 2]
    assert order[::2] == order[1::2]


async def test_what_is_inside_takes_turns_and_outsiders_wait(turn: Turn) -> None:
    """Its own task, tasks that are started inside, blocks inside; each block among its own."""
    order: list[Any] = []
    async with anyio.create_task_group() as tasks:
        ground = await turn.take()
        tasks.start_soon(use, turn, order, "outsider")
        await anyio.wait_all_tasks_blocked()
        outer = turn.begin(ground)
        async with anyio.create_task_group() as members:
            for number in range(3):
                members.start_soon(use, turn, order, number)
            inner = await begin(turn)
            members.start_soon(use, turn, order, "inner")
            await anyio.wait_all_tasks_blocked()
            await use(turn, order, "holder")
            assert sorted(set(order), key=str) == ["holder", "inner"]
            turn.leave(inner)
        turn.leave(outer)
    assert order[::2] == order[1::2]
    assert order[-1] == "outsider"
    await use(turn, order, "after")


async def test_what_outlives_a_block_is_an_outsider(turn: Turn) -> None:
    """Whether it waits inside when the block ends, or comes later."""
    order: list[Any] = []
    go_on = anyio.Event()

    async def late() -> None:
        await go_on.wait()
        await use(turn, order, "late")

    async with anyio.create_task_group() as tasks:
        ground = await turn.take()
        tasks.start_soon(use, turn, order, "outsider")
        await anyio.wait_all_tasks_blocked()
        block = turn.begin(ground)
        tasks.start_soon(late)
        inside = await turn.take()
        tasks.start_soon(use, turn, order, "waiting inside")
        await anyio.wait_all_tasks_blocked()
        turn.end(block)
        go_on.set()
        await anyio.wait_all_tasks_blocked()
        assert order == []  # somebody has the turn inside, and the block has not left
        turn.leave(block)
        await anyio.wait_all_tasks_blocked()
        assert order == []
        turn.give(inside)
        await turn.idle(block)
    assert order[::2] == order[1::2]
    assert order[0] == "outsider"


async def test_a_block_that_ends_waits_for_who_has_the_turn_inside(turn: Turn) -> None:
    block = await begin(turn)
    inside = await turn.take()
    turn.end(block)
    ended: list[bool] = []

    async def end() -> None:
        await turn.idle(block)
        ended.append(True)
        turn.leave(block)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        await anyio.wait_all_tasks_blocked()
        assert not ended
        turn.give(inside)
    assert ended
    turn.give(await turn.take())


async def test_a_block_may_be_left_by_another_task(turn: Turn) -> None:
    order: list[Any] = []
    blocks: list[Level] = []

    async def enter() -> None:
        blocks.append(await begin(turn))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(enter)
    with pytest.raises(RuntimeError, match="has ended"):
        await turn.take()
    turn.leave(blocks[0])
    await use(turn, order, "after")


async def test_who_would_wait_for_itself_is_told(turn: Turn) -> None:
    """It is the one that holds the transaction, but not in its context."""
    outside = contextvars.copy_context()
    block = await begin(turn)
    with pytest.raises(RuntimeError, match="very task"):
        outside.run(turn.take().send, None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(use, turn, [], "inside")
    turn.leave(block)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_who_waits_for_a_task_that_ends_is_told(turn: Turn) -> None:
    entered, end = anyio.Event(), anyio.Event()

    async def enter() -> None:
        await begin(turn)
        entered.set()
        await end.wait()

    first = asyncio.create_task(enter())
    await entered.wait()
    second = asyncio.create_task(use(turn, [], "outsider"))
    await anyio.wait_all_tasks_blocked()
    end.set()
    await first
    with pytest.raises(RuntimeError, match="has ended"):
        await second


async def test_blocks_of_several_cards_do_not_mix(anyio_backend: Any) -> None:
    first, second = Turn(Loop()), Turn(Loop())
    order: list[Any] = []
    outer = await begin(first)
    inner = await begin(second)
    await use(first, order, 1)
    await use(second, order, 2)
    turn_of_first = await first.take()
    first.leave(outer)  # the other way round than they began
    first.give(turn_of_first)
    await use(first, order, 3)
    await use(second, order, 4)
    second.leave(inner)
    await use(second, order, 5)
    assert order == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


async def test_a_cancelled_task_loses_no_turn(turn: Turn) -> None:
    """Neither while it waits nor in the moment in which its turn comes."""
    took: list[str] = []

    async def one(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            level = await turn.take()
            took.append(name)
            turn.give(level)

    first, second, third = (anyio.CancelScope() for _ in range(3))
    level = await turn.take()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, "first", first)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(one, "second", second)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(one, "third", third)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        turn.give(level)
        second.cancel()
    assert took[-1] == "third"
    assert "first" not in took
    turn.give(await turn.take())


async def test_a_task_that_is_cancelled_already_takes_no_turn(turn: Turn) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await turn.take()
        pytest.fail("it was cancelled")
    turn.give(await turn.take())


@pytest.mark.parametrize("theirs", ["asyncio", "trio"])
@pytest.mark.parametrize("ours", ["asyncio", "trio"])
def test_another_loop_is_refused(ours: str, theirs: str) -> None:
    async def make() -> Turn:
        return Turn(Loop())

    turn = anyio.run(make, backend=ours)
    with pytest.raises(RuntimeError, match="another event loop"):
        anyio.run(turn.take, backend=theirs)
