"""Transactions and the tasks of an event loop: who is inside, who waits, who would wait for ever."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

from scardface import C_APDU, CardRemovedError, SCard, ShareMode
from scardface.testing import SimulatedPCSC
from tests.support.cards import ECHO, LogCard

SHARED = ShareMode.SHARED


@asynccontextmanager
async def open_card(**kwargs: Any) -> AsyncIterator[tuple[SCard, LogCard]]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        virtual = LogCard()
        pcsc.insert("A", virtual)
        async with SCard(timeout=5, share=SHARED, **kwargs) as card:
            yield card, virtual


async def say(card: Any, word: bytes) -> bytes:
    data: bytes = (await card.send(C_APDU(0, ECHO, 0, 0, word))).check().data
    return data


def said(virtual: LogCard) -> list[bytes]:
    return [command[5:] for command in virtual.commands]


def asyncio_only(test: Callable[..., Any]) -> Any:
    return pytest.mark.anyio(pytest.mark.parametrize("anyio_backend", ["asyncio"])(test))


# Who is inside.


async def by_gather(card: SCard) -> list[bytes]:
    return await asyncio.gather(say(card, b"1"), say(card, b"2"), say(card, b"3"))


async def by_wait_for(card: SCard) -> list[bytes]:
    return [await asyncio.wait_for(say(card, word), 5) for word in (b"1", b"2", b"3")]


async def by_shield(card: SCard) -> list[bytes]:
    return [await asyncio.shield(say(card, word)) for word in (b"1", b"2", b"3")]


async def by_task_group(card: SCard) -> list[bytes]:
    answers: list[bytes] = []

    async def one(word: bytes) -> None:
        answers.append(await say(card, word))

    async with anyio.create_task_group() as tasks:
        for word in (b"1", b"2", b"3"):
            tasks.start_soon(one, word)
    return sorted(answers)


async def by_children_of_children(card: SCard) -> list[bytes]:
    return [await asyncio.create_task(asyncio.wait_for(say(card, word), 5)) for word in (b"1", b"2", b"3")]


WAYS = {
    "gather": by_gather,
    "wait_for": by_wait_for,
    "shield": by_shield,
    "task group": by_task_group,
    "children of children": by_children_of_children,
}


async def inside_a_block(way: Callable[[SCard], Any]) -> None:
    async with open_card() as (card, virtual):
        begun = anyio.Event()

        async def outsider() -> None:
            await begun.wait()
            await say(card, b"outsider")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outsider)
            async with card.transaction():
                begun.set()
                await anyio.sleep(0.01)
                assert await way(card) == [b"1", b"2", b"3"]
                async with card.transaction():
                    assert await way(card) == [b"1", b"2", b"3"]
                await card.reset()
        assert sorted(said(virtual)[:6]) == [b"1", b"1", b"2", b"2", b"3", b"3"]
        assert said(virtual)[6:] == [b"outsider"]


@pytest.mark.parametrize("way", WAYS)
@asyncio_only
async def test_what_is_started_inside_belongs_to_the_block(way: str, anyio_backend: Any) -> None:
    with anyio.fail_after(20):
        await inside_a_block(WAYS[way])


@pytest.mark.anyio
async def test_what_is_started_inside_belongs_to_the_block_on_every_loop(anyio_backend: Any) -> None:
    with anyio.fail_after(20):
        await inside_a_block(by_task_group)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_are_inside_too() -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        await inside_a_block(by_gather)

    asyncio.run(asyncio.wait_for(main(), 20))


@pytest.mark.anyio
async def test_a_child_that_outlives_the_block_is_an_outsider(anyio_backend: Any) -> None:
    """While another block lasts, it waits."""
    async with open_card() as (card, virtual), anyio.create_task_group() as tasks:
        over = anyio.Event()

        async def child() -> None:
            await over.wait()
            await say(card, b"child")

        async with card.transaction():
            tasks.start_soon(child)
            await say(card, b"inside")
        async with card.transaction():
            over.set()
            await anyio.sleep(0.05)
            await say(card, b"inside")
        await anyio.wait_all_tasks_blocked()
    assert said(virtual) == [b"inside", b"inside", b"child"]


@pytest.mark.anyio
async def test_the_end_of_a_block_waits_for_what_is_sent_inside(anyio_backend: Any) -> None:
    """So that it goes out in the transaction; what has not begun then goes out after it, on its own."""
    async with open_card() as (card, virtual), anyio.create_task_group() as tasks:
        first, go_on = anyio.Event(), anyio.Event()

        async def callback(*_: object) -> None:
            first.set()
            await go_on.wait()

        async def batch() -> None:
            await card.send(C_APDU(0, ECHO, 0, 0, b"1"), C_APDU(0, ECHO, 0, 0, b"2"), callback=callback)

        async with card.transaction():
            tasks.start_soon(batch)
            await first.wait()
            tasks.start_soon(say, card, b"late")
            await anyio.sleep(0.01)
            go_on.set()
        assert said(virtual)[:2] == [b"1", b"2"]
    assert said(virtual) == [b"1", b"2", b"late"]


# Blocks across tasks.


@asyncio_only
async def test_a_fixture_that_yields_inside(anyio_backend: Any) -> None:
    """Its first half runs in one task, its second in another, and what uses it in a third, as with pytest-asyncio."""
    async with open_card() as (card, virtual):

        async def fixture() -> AsyncIterator[SCard]:
            async with card.transaction():
                yield card

        async def step(generator: Any) -> Any:
            return await generator.__anext__()

        generator = fixture()
        outside = contextvars.copy_context()
        await asyncio.create_task(step(generator))
        with pytest.raises(RuntimeError, match="has ended since"):  # nobody in this task's context has begun it
            await asyncio.wait_for(say(card, b"never"), 5)
        with pytest.raises(StopAsyncIteration):
            await outside.run(asyncio.create_task, step(generator))
        assert await say(card, b"after") == b"after"
        assert said(virtual) == [b"after"]


@asyncio_only
async def test_a_fixture_whose_context_is_handed_on(anyio_backend: Any) -> None:
    """As newer pytest-asyncio does: the test is inside."""
    async with open_card() as (card, virtual), AsyncExitStack() as stack:
        await stack.enter_async_context(card.transaction())
        assert await asyncio.create_task(say(card, b"inside")) == b"inside"
        await asyncio.create_task(stack.aclose())
        assert await say(card, b"after") == b"after"
        assert said(virtual) == [b"inside", b"after"]


@asyncio_only
async def test_who_waits_already_is_told_when_the_beginner_ends(anyio_backend: Any) -> None:
    async with open_card() as (card, _):
        entered, leave = asyncio.Event(), asyncio.Event()
        stack = AsyncExitStack()

        async def begin() -> None:
            await stack.enter_async_context(card.transaction())
            entered.set()
            await leave.wait()

        beginner = asyncio.create_task(begin())
        await entered.wait()
        waiting = asyncio.create_task(say(card, b"never"))
        await asyncio.sleep(0.01)
        leave.set()
        await beginner
        with pytest.raises(RuntimeError, match="has ended since"):
            await asyncio.wait_for(waiting, 30)
        await stack.aclose()
        assert await say(card, b"after") == b"after"


@asyncio_only
async def test_who_would_wait_for_itself_is_told_at_once(anyio_backend: Any) -> None:
    """The task that holds the transaction, in a context from before it."""
    async with open_card() as (card, _):
        before = contextvars.copy_context()
        async with card.transaction():
            steps = card.send(C_APDU(0, ECHO, 0, 0, b"x"))
            with pytest.raises(RuntimeError, match="wait for itself"):
                before.run(steps.send, None)
        assert await say(card, b"after") == b"after"


@pytest.mark.anyio
async def test_two_cards_have_transactions_of_their_own(anyio_backend: Any) -> None:
    with SimulatedPCSC() as pcsc:
        for name in "AB":
            pcsc.add_reader(name)
            pcsc.insert(name, LogCard())
        async with SCard("A", timeout=5, share=SHARED) as first, SCard("B", timeout=5, share=SHARED) as second:
            async with first.transaction(), anyio.create_task_group() as tasks:
                tasks.start_soon(say, second, b"x")
                async with second.transaction():
                    tasks.start_soon(say, first, b"x")
                    tasks.start_soon(say, second, b"x")
            assert await say(first, b"x") == await say(second, b"x") == b"x"


# What goes wrong inside.


@pytest.mark.anyio
async def test_a_block_that_fails_passes_the_turn_on(anyio_backend: Any) -> None:
    """Though a child is in the middle of a batch: it ends first."""
    async with open_card() as (card, virtual), anyio.create_task_group() as tasks:
        first, go_on = anyio.Event(), anyio.Event()

        async def callback(*_: object) -> None:
            first.set()
            await go_on.wait()

        async def batch() -> None:
            await card.send(C_APDU(0, ECHO, 0, 0, b"1"), C_APDU(0, ECHO, 0, 0, b"2"), callback=callback)

        with pytest.raises(ZeroDivisionError):  # noqa: PT012  what happens inside the block is the point
            async with card.transaction():
                tasks.start_soon(batch)
                await first.wait()
                raise ZeroDivisionError
        tasks.start_soon(say, card, b"after")
        await anyio.sleep(0.01)
        assert said(virtual) == [b"1"]
        go_on.set()
    assert said(virtual) == [b"1", b"2", b"after"]


@pytest.mark.anyio
async def test_a_cancelled_block_and_its_children(anyio_backend: Any) -> None:
    for _ in range(20):
        async with open_card() as (card, _):
            with anyio.move_on_after(0.005):
                async with card.transaction(), anyio.create_task_group() as tasks:
                    for _ in range(3):
                        tasks.start_soon(say, card, b"x")
                    async with card.transaction():
                        await anyio.sleep(1)
            assert await say(card, b"after") == b"after"


@pytest.mark.anyio
async def test_a_card_pulled_inside_is_told_to_all(anyio_backend: Any) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        async with SCard("A", timeout=5, share=SHARED) as card:
            told: list[type[BaseException]] = []

            async def one() -> None:
                try:
                    await say(card, b"x")
                except CardRemovedError as error:
                    told.append(type(error))

            async with card.transaction(), anyio.create_task_group() as tasks:
                pcsc.remove("A")
                for _ in range(3):
                    tasks.start_soon(one)
            assert told == [CardRemovedError] * 3


# Another event loop.


@pytest.mark.parametrize("first", ["asyncio", "trio"])
@pytest.mark.parametrize("second", ["asyncio", "trio"])
def test_a_card_in_another_event_loop_is_refused_before_anything_is_sent(first: str, second: str) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        virtual = LogCard()
        pcsc.insert("A", virtual)

        async def make() -> SCard:
            return await SCard(timeout=5)

        async def use(card: SCard) -> None:
            block, channel = card.transaction(), card.channel()
            uses: list[Callable[[], Any]] = [
                lambda: say(card, b"x"),
                lambda: card.transmit(bytes(4)),
                lambda: card.send(C_APDU(0, ECHO), callback=print),
                block.__aenter__,
                channel.__aenter__,
                card.reset,
                card.reconnect,
                lambda: card.control(1),
                lambda: card.attribute(1),
                lambda: card.layer(_Plain()).send(C_APDU(0, ECHO)),
            ]
            for one in uses:
                with anyio.fail_after(30), pytest.raises(RuntimeError, match="another event loop"):
                    await one()

        card = anyio.run(make, backend=first)
        anyio.run(use, card, backend=second)
        assert virtual.commands == []
        assert not {"SCardBeginTransaction", "SCardReconnect", "SCardControl", "SCardGetAttrib"} & set(pcsc.calls)
        anyio.run(card.aclose, backend=second)


class _Plain:
    def wrap(self, command: C_APDU) -> C_APDU:
        return command

    def unwrap(self, response: Any) -> Any:
        return response


def test_the_block_of_a_script_is_told_which_face_it_wants() -> None:
    with pytest.raises(TypeError, match=r"`async with`.*`from scardface\.sync import SCard`"), SCard():  # type: ignore[attr-defined]
        pass
