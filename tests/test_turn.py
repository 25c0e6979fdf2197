"""Whose turn it is."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from scardface._turn import Turn

pytestmark = pytest.mark.anyio


async def test_tasks_take_it_in_their_order(anyio_backend: Any) -> None:
    turn = Turn()
    order: list[int] = []

    async def one(number: int) -> None:
        await turn.take()
        order.append(number)
        await anyio.lowlevel.checkpoint()
        order.append(number)
        turn.give()

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(one, number)
    assert sorted(order) == [0, 0, 1, 1, 2, 2]
    assert order[::2] == order[1::2]


async def test_who_holds_it_takes_it_again_and_nobody_else_does(anyio_backend: Any) -> None:
    turn = Turn()
    order: list[str] = []

    async def other() -> None:
        await turn.take()
        order.append("other")
        turn.give()

    async with anyio.create_task_group() as tasks:
        await turn.take()
        with turn.hold():
            tasks.start_soon(other)
            for _ in range(3):
                await turn.take()
                with turn.hold():
                    await turn.take()
                    await anyio.wait_all_tasks_blocked()
                    turn.give()
                turn.give()
            order.append("holder")
        turn.give()
    assert order == ["holder", "other"]
    await turn.take()
    turn.give()


async def test_a_cancelled_task_loses_no_turn(anyio_backend: Any) -> None:
    """Neither while it waits nor in the moment in which its turn comes."""
    turn = Turn()
    took: list[str] = []

    async def one(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            await turn.take()
            took.append(name)
            turn.give()

    first, second, third = (anyio.CancelScope() for _ in range(3))
    await turn.take()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, "first", first)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(one, "second", second)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(one, "third", third)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        turn.give()
        second.cancel()
    assert took[-1] == "third"
    assert "first" not in took
    await turn.take()
    turn.give()


async def test_a_task_that_is_cancelled_already_takes_no_turn(anyio_backend: Any) -> None:
    turn = Turn()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await turn.take()
        pytest.fail("it was cancelled")
    await turn.take()
    turn.give()
