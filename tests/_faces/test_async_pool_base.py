"""What is the async pool's own: loops, tasks, cancellation, finalizers."""

# ruff: noqa: PT012

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from scardface import C_APDU, CardRemovedError, SCard, SCardError, WaitCancelledError
from scardface.pool import CardPool
from scardface.testing import SimulatedPCSC
from tests.support.cards import GATE, LogCard
from tests.support.faces import off_loop
from tests.support.pins import READ, SELECT, VERIFY, PinCard
from tests.support.waits import threads_named, throw_away, until, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.add_reader("B")
        pcsc.insert("A", PinCard())
        yield pcsc


async def test_it_belongs_to_its_loop(pcsc: SimulatedPCSC) -> None:
    async with CardPool(timeout=30) as pool:

        async def borrow() -> None:
            async with pool.card():
                pass

        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await off_loop(asyncio.run, borrow())
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await off_loop(asyncio.run, pool.aclose())
        await borrow()


async def test_a_card_that_goes_ends_the_block(pcsc: SimulatedPCSC) -> None:
    async with CardPool(timeout=30) as pool:
        with pytest.raises(CardRemovedError, match="'A' was removed"):
            async with pool.card():
                pcsc.remove("A")
                await anyio.sleep_forever()
        with anyio.move_on_after(0.05) as scope:
            async with pool.card():
                pass
        assert scope.cancelled_caught
        assert pool.stats().waiting == 0


async def test_a_block_that_has_done_its_work_has_done_it(pcsc: SimulatedPCSC) -> None:
    async with CardPool(timeout=30) as pool:
        async with pool.card():
            with anyio.CancelScope(shield=True):
                await off_loop(pcsc.remove, "A")
                await until(lambda: pool.stats().lost == 1)
        assert pool.stats().cards == 0


async def test_the_block_is_cancelled_from_outside_as_ever(pcsc: SimulatedPCSC) -> None:
    async with CardPool(timeout=30) as pool:
        with anyio.move_on_after(0.02) as scope:
            async with pool.card() as card:
                await card.send(SELECT)
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        await until(lambda: pool.stats().idle == 1)  # where the command was still under way


async def test_it_may_be_closed_in_another_task(pcsc: SimulatedPCSC) -> None:
    """As pytest's fixtures are."""
    pool = CardPool(timeout=30)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.open)
    async with pool.card() as card:
        await card.send(SELECT)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.aclose)
    assert pool.closed


def test_a_loan_may_be_left_in_another_task(pcsc: SimulatedPCSC) -> None:
    """As pytest-asyncio's fixtures are."""
    loop = asyncio.new_event_loop()
    try:
        pool = CardPool(timeout=30)
        loop.run_until_complete(pool.open())
        for _ in range(2):
            loan = pool.card()
            card = loop.run_until_complete(loan.__aenter__())
            loop.run_until_complete(card.send(SELECT))
            loop.run_until_complete(loan.__aexit__(None, None, None))
            assert pool.stats().idle == 1
        loan = pool.card()
        loop.run_until_complete(loan.__aenter__())
        pcsc.remove("A")
        loop.run_until_complete(until(lambda: pool.stats().lost == 1))
        loop.run_until_complete(loan.__aexit__(None, None, None))
        loop.run_until_complete(pool.aclose())
    finally:
        loop.close()


async def test_closing_cancels_what_is_prepared(pcsc: SimulatedPCSC) -> None:
    cancelled: list[str] = []

    async def prepare(card: SCard) -> None:
        try:
            await anyio.sleep_forever()
        except BaseException:
            cancelled.append(card.reader)
            raise

    async with CardPool(min_cards=0, prepare=prepare) as pool:
        await until(lambda: pool.stats().preparing == 1)
        with pytest.raises(SCardError, match="being made ready, in reader 'A'"):
            async with pool.card(timeout=0.05):
                pass
        pcsc.insert("B", PinCard())
        await until(lambda: pool.stats().preparing == 2)
        pcsc.remove("A")
        await until(lambda: cancelled == ["A"])
        await until(lambda: pool.stats().cards == 1)
    assert cancelled == ["A", "B"]


async def test_the_start_that_is_cancelled_leaves_nothing(pcsc: SimulatedPCSC) -> None:
    pool = CardPool(min_cards=2)
    with anyio.move_on_after(0.05) as scope:
        async with pool:
            pass
    assert scope.cancelled_caught
    assert pool.closed
    async with SCard(timeout=30) as card:
        await card.send(SELECT)


async def test_prepare_runs_in_the_context_of_the_start(pcsc: SimulatedPCSC) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")
    seen: list[str] = []

    async def prepare(card: SCard) -> None:
        seen.append(variable.get())

    variable.set("mine")
    async with CardPool(timeout=30, prepare=prepare):
        pcsc.remove("A")
        pcsc.insert("A", PinCard())
        await until(lambda: len(seen) == 2)
    assert seen == ["mine", "mine"]


async def test_a_transaction_or_a_call_that_outlives_the_loan(pcsc: SimulatedPCSC) -> None:
    """The card is opened anew: whoever has it next has it alone."""
    left = anyio.Event()
    async with CardPool(timeout=30) as pool, anyio.create_task_group() as tasks:

        async def hold(card: SCard, begun: anyio.Event) -> None:
            with pytest.raises((RuntimeError, SCardError, WaitCancelledError)):
                async with card.transaction():
                    begun.set()
                    await left.wait()
                    await card.send(READ)

        async with pool.card() as card:
            begun = anyio.Event()
            tasks.start_soon(hold, card, begun)
            await begun.wait()
        async with pool.card() as other:
            assert other is not card
            await other.send(SELECT)
            left.set()


async def test_an_exchange_that_outlives_the_loan(pcsc: SimulatedPCSC) -> None:
    """Of a task that was started inside, and still waits for its answer."""
    slow = LogCard()
    pcsc.remove("A")
    pcsc.insert("A", slow)
    async with CardPool(timeout=30) as pool, anyio.create_task_group() as tasks:
        async with pool.card() as card:
            tasks.start_soon(card.send, C_APDU(0x80, GATE))
            await until(slow.reached.is_set)
        assert pool.stats().cards == 0
        slow.gate.set()
        async with pool.card() as other:
            assert other is not card


async def test_who_waits_for_the_removal_after_the_loan_is_told(pcsc: SimulatedPCSC) -> None:
    async with CardPool(timeout=30) as pool, anyio.create_task_group() as tasks:
        waiting = anyio.Event()

        async def wait(card: SCard) -> None:
            waiting.set()
            with pytest.raises(WaitCancelledError):
                await card.wait()

        async with pool.card() as card:
            tasks.start_soon(wait, card)
            await waiting.wait()
            await until(lambda: card._removals)


async def test_a_loan_is_for_one_block(pcsc: SimulatedPCSC) -> None:
    async with CardPool(timeout=30) as pool:
        loan = pool.card()
        async with loan:
            with pytest.raises(RuntimeError, match="one block"):
                async with loan:
                    pass


async def test_a_loan_that_is_thrown_away_is_given_back(pcsc: SimulatedPCSC) -> None:
    async with CardPool(timeout=30) as pool:
        kept = [pool.card()]
        await kept[0].__aenter__()
        with pytest.warns(ResourceWarning, match="a loan of a card was not given back") as told:
            throw_away(kept, lambda: list(told))
        async with pool.card(timeout=30) as card:
            await card.send(SELECT)
        assert pool.stats().cards == 1


async def test_a_pool_that_is_thrown_away_closes_its_cards(pcsc: SimulatedPCSC) -> None:
    kept = [CardPool(timeout=30, max_idle=30)]
    await kept[0].open()
    with pytest.warns(ResourceWarning, match="unclosed CardPool") as told:
        throw_away(kept, lambda: list(told))
    async with SCard("A", timeout=30) as card:
        await card.send(SELECT)
    await until(lambda: not threads_named("scardface-pool", "scardface-card"))


@pytest.mark.slow
@pytest.mark.parametrize("keep", [False, True])
def test_a_loop_that_is_closed_lets_the_cards_go(pcsc: SimulatedPCSC, keep: bool) -> None:
    loop = asyncio.new_event_loop()
    pool = CardPool(timeout=30)
    loop.run_until_complete(pool.open())
    loop.close()
    kept = [pool]
    del pool

    if not keep:
        with pytest.warns(ResourceWarning, match="unclosed") as told:
            throw_away(kept, lambda: list(told))

    async def other() -> None:
        async with SCard("A", timeout=30) as card:
            await card.send(SELECT)

    asyncio.run(other())
    if keep:
        with pytest.warns(ResourceWarning, match="unclosed") as told:
            throw_away(kept, lambda: list(told))
    wait_until(lambda: not threads_named("scardface-card"))


async def _life(pool: CardPool) -> None:
    async with pool, pool.card(timeout=5) as card:
        await card.send(SELECT, VERIFY)
        await card.send(READ)


@pytest.mark.parametrize("steps", range(25))
async def test_cancelled_at_any_step(pcsc: SimulatedPCSC, steps: int) -> None:
    """After so many turns of the loop; then another pool has the card."""

    async def prepare(card: SCard) -> None:
        await card.send(SELECT)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_life, CardPool(timeout=5, prepare=prepare))
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.0005 * (steps % 3))
        tasks.cancel_scope.cancel()
    await _life(CardPool(timeout=30, prepare=prepare))


@pytest.mark.parametrize("steps", range(12))
async def test_a_loan_cancelled_at_any_step(pcsc: SimulatedPCSC, steps: int) -> None:
    async with CardPool(timeout=30) as pool:

        async def borrow() -> None:
            async with pool.card() as card:
                await card.send(SELECT)

        for disturbed in (1, 3):
            async with anyio.create_task_group() as tasks:
                for _ in range(disturbed):
                    tasks.start_soon(borrow)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            with anyio.fail_after(30):
                await borrow()
            assert pool.stats()[:4] == (1, 1, 0, 0)


async def test_prepare_that_closes_the_pool_or_borrows(pcsc: SimulatedPCSC) -> None:
    pools: list[CardPool] = []
    done: list[Callable[[], object] | str] = []

    async def prepare(card: SCard) -> None:
        try:
            await pools[0].aclose()
        finally:
            done.append("closed")

    pool = CardPool(min_cards=0, prepare=prepare)
    pools.append(pool)
    async with pool:
        await until(lambda: done)
    assert pool.closed


async def test_two_cards_at_once_in_one_task_while_one_goes(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("B", PinCard())
    async with CardPool(timeout=30, min_cards=2) as pool:
        with pytest.raises(CardRemovedError, match="'B'"):
            async with pool.card() as one, pool.card() as two:
                assert {one.reader, two.reader} == {"A", "B"}
                pcsc.remove("B")
                await anyio.sleep_forever()
        assert pool.stats()[:3] == (1, 1, 0)


async def test_prepare_that_is_cancelled_by_itself(pcsc: SimulatedPCSC) -> None:
    """It ends nobody else, and is told of."""

    async def prepare(card: SCard) -> None:
        raise anyio.get_cancelled_exc_class()("by itself") if card.reader == "A" and not trio_has_it else LookupError("no")

    trio_has_it = anyio.get_cancelled_exc_class().__name__ == "Cancelled"  # which cannot be made
    async with CardPool(min_cards=0, prepare=prepare) as pool:
        await until(lambda: pool.set_aside)
        assert "A" in pool.set_aside


async def test_closing_inside_a_loan_of_its_own(pcsc: SimulatedPCSC) -> None:
    pool = CardPool(timeout=30)
    await pool.open()
    with pytest.raises(WaitCancelledError, match="the pool was closed"):
        async with pool.card():
            await pool.aclose()
            await anyio.sleep_forever()
    assert pool.closed


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_program_that_ends_without_closing_it(pcsc: SimulatedPCSC, backend: str) -> None:
    begun: list[str] = []

    async def prepare(card: SCard) -> None:
        begun.append(card.reader)
        await anyio.sleep_forever()

    kept: list[Any] = []

    async def main() -> None:
        kept.append(CardPool(min_cards=0, prepare=prepare))
        await kept[0].open()
        await until(lambda: begun)

    anyio.run(main, backend=backend)
    with pytest.warns(ResourceWarning, match="unclosed CardPool") as told:
        throw_away(kept, lambda: list(told))
    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(_opens)


async def _opens() -> None:
    async with SCard("A", timeout=30) as card:
        await card.send(SELECT)


async def test_a_fork_of_a_program_with_a_pool(pcsc: SimulatedPCSC) -> None:
    pool = CardPool(timeout=30)
    pool._generation -= 1  # made before it
    with pytest.raises(RuntimeError, match="fork"):
        await pool.open()
    async with CardPool(timeout=30) as pool:
        assert pool._state is not None
        pool._state.generation -= 1
        with pytest.raises(RuntimeError, match="fork"):
            async with pool.card():
                pass
        pool._state.generation += 1
