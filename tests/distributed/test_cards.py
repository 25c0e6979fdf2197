"""`current_card`: the worker's card, kept open from job to job, and what becomes of a job whose card goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scardface import CardTimeoutError, SCard
from scardface.distributed import JobInterruptedError, current_card, reached, submit
from scardface.distributed import _cards as cards
from scardface.distributed import _host as hosts
from scardface.iso7816 import C_APDU
from tests.distributed.conftest import BOUND, Maker
from tests.support.cards import ECHO, LogCard

pytestmark = pytest.mark.anyio

shared: dict[str, Any] = {}
"""Events and notes, which cannot be pickled; hosts and tests share a process here."""


async def within(work: Any) -> Any:
    return await asyncio.wait_for(work, BOUND)


async def echo(data: bytes) -> bytes:
    async with current_card() as card:
        return (await card.send(C_APDU(0x00, ECHO, 0, 0, data))).data


async def in_the_middle(*stages: str) -> str:
    """A job that the test meets while it has the card."""
    from tests.distributed.test_cards import shared as notes

    async with current_card() as card:
        for stage in stages:
            await reached(stage)
        notes.setdefault("began", []).append(card.reader)
        notes["reached"].set()
        await notes["go_on"].wait()
        await card.send(C_APDU(0x00, ECHO, 0, 0, b"\x01"))
        notes.setdefault("ended", []).append(card.reader)
        return card.reader


@pytest.fixture(autouse=True)
def _shared() -> None:
    shared.clear()
    shared.update(reached=asyncio.Event(), go_on=asyncio.Event())


def test_there_is_none_outside_of_a_job() -> None:
    with pytest.raises(RuntimeError, match="no current card here"):
        cards.keeper_here()


async def test_a_worker_that_serves_no_card_has_none(fleet: Maker) -> None:
    from distributed import Worker

    async with fleet() as f, Worker(f.scheduler.address, host="127.0.0.1", dashboard_address="127.0.0.1:0", name="plain"):
        with pytest.raises(RuntimeError, match="worker 'plain' has no card: submit"):
            await within(f.client.submit(echo, b"\x01"))


async def test_it_stays_open_from_job_to_job_and_is_reset_between(fleet: Maker) -> None:
    async with fleet() as f, f.host():
        card = f.insert("A")
        await within(submit(f.client, echo, b"\x01"))
        connects = f.pcsc.calls["SCardConnect"]
        for _ in range(3):
            await within(submit(f.client, echo, b"\x01"))
        assert f.pcsc.calls["SCardConnect"] == connects
        assert card.resets == 4


async def test_without_resets(fleet: Maker) -> None:
    async with fleet() as f, f.host(reset=False):
        card = f.insert("A")
        for _ in range(3):
            await within(submit(f.client, echo, b"\x01"))
        assert card.resets == 0


async def test_it_is_prepared_before_the_first_job_and_after_each_reset(fleet: Maker) -> None:
    async def prepare(card: SCard) -> None:
        await card.send(C_APDU(0x00, ECHO, 0, 0, b"\xff"))

    async with fleet() as f, f.host(prepare=prepare):
        card = f.insert("A")
        for _ in range(2):
            await within(submit(f.client, echo, b"\x01"))
        assert [command[5:] for command in card.commands] == [b"\xff", b"\x01"] * 2


async def test_after_a_job_that_failed_it_is_opened_anew(fleet: Maker) -> None:
    async def fails() -> None:
        async with current_card():
            raise ValueError("wrong")

    async with fleet() as f, f.host(reset=False):
        f.insert("A")
        await within(submit(f.client, echo, b"\x01"))
        connects = f.pcsc.calls["SCardConnect"]
        with pytest.raises(ValueError, match="wrong"):
            await within(submit(f.client, fails))
        await within(submit(f.client, echo, b"\x01"))
        assert f.pcsc.calls["SCardConnect"] == connects + 1


async def test_a_block_within_the_block_is_refused_and_the_tasks_of_a_job_take_turns(fleet: Maker) -> None:
    async def nested() -> None:
        async with current_card(), current_card():
            pass

    async def two_tasks() -> list[bytes]:
        return await asyncio.gather(echo(b"\x01"), echo(b"\x02"))

    async with fleet() as f, f.host():
        f.insert("A")
        with pytest.raises(RuntimeError, match="already"):
            await within(submit(f.client, nested))
        assert await within(submit(f.client, two_tasks)) == [b"\x01", b"\x02"]


async def test_a_card_that_another_program_holds(fleet: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "OPEN_TIMEOUT", 0.3)
    async with fleet() as f, f.host():
        f.insert("A")
        async with SCard("A", backend=f.pcsc):
            with pytest.raises(CardTimeoutError):
                await within(submit(f.client, echo, b"\x01"))
        assert await within(submit(f.client, echo, b"\x01")) == b"\x01"


async def test_a_job_whose_card_is_pulled_runs_again_on_another(fleet: Maker) -> None:
    async with fleet() as f, f.host():
        f.insert("A")
        job = asyncio.create_task(submit(f.client, in_the_middle))
        await within(shared["reached"].wait())
        f.pcsc.remove("A")
        shared["go_on"].set()
        f.insert("B")
        assert await within(job) == "B"
        assert (shared["began"], shared["ended"]) == (["A", "B"], ["B"])


async def test_also_if_it_is_alone_and_the_same_card_comes_back(fleet: Maker) -> None:
    async with fleet() as f, f.host():
        card = f.insert("A")
        job = asyncio.create_task(submit(f.client, in_the_middle))
        await within(shared["reached"].wait())
        f.pcsc.remove("A")
        f.insert("A", card)
        shared["go_on"].set()
        assert await within(job) == "A"


@pytest.mark.parametrize("how", ["the card", "the reader", "the service", "the worker"])
async def test_one_that_may_begin_once_ends_and_says_how_far_it_got(fleet: Maker, how: str) -> None:
    async with fleet() as f, f.host():
        f.insert("A")
        job = asyncio.create_task(submit(f.client, in_the_middle, "PIN verified", "file 1 written", once=True))
        await within(shared["reached"].wait())
        f.insert("B")  # where it could run again
        if how == "the card":
            f.pcsc.remove("A")
        elif how == "the reader":
            f.pcsc.remove_reader("A")
        elif how == "the service":
            f.pcsc.stop_service()
        else:
            (worker,) = [each for each, state in f.scheduler.workers.items() if state.processing]
            await f.scheduler.remove_worker(worker, stimulus_id="test")
        if how != "the worker":  # it could end before it hears of that, and would have run to its end
            shared["go_on"].set()
        with pytest.raises(JobInterruptedError, match=r"host 'here' in reader 'A' at .*'file 1 written'") as caught:
            await within(job)
        assert (caught.value.host, caught.value.reader, caught.value.stage) == ("here", "A", "file 1 written")
        assert caught.value.began is not None
        assert shared["began"] == ["A"]
        if how == "the service":
            f.pcsc.start_service()
        await within(submit(f.client, echo, b"\x01"))
        assert shared["began"] == ["A"]


async def test_a_job_of_the_sync_face_whose_card_is_pulled(fleet: Maker) -> None:
    def plain() -> str:
        from tests.distributed.test_cards import shared as notes

        with current_card() as card:
            notes.setdefault("began", []).append(card.reader)
            if card.reader == "A":
                notes["pull"]()
            card.send(C_APDU(0x00, ECHO, 0, 0, b"\x01"))
            return card.reader

    async with fleet() as f, f.host():
        f.insert("A")

        def pull() -> None:
            f.pcsc.remove("A")
            f.pcsc.insert("B", LogCard())

        shared["pull"] = pull
        assert await within(submit(f.client, plain)) == "B"
        assert shared["began"] == ["A", "B"]
        f.pcsc.remove("B")
        f.insert("A")
        shared["pull"] = lambda: f.pcsc.remove("A")
        with pytest.raises(JobInterruptedError, match="reader 'A'"):
            await within(submit(f.client, plain, once=True))


async def test_a_card_that_goes_while_a_thread_waits_to_open_it(fleet: Maker) -> None:
    """The thread leaves with its worker; it would wait for the next card in this reader, and take it."""

    def plain() -> str:
        from tests.distributed.test_cards import shared as notes

        notes["began"] = True
        with current_card() as card:
            return card.reader

    async with fleet() as f, f.host():
        f.insert("A")
        async with SCard("A", backend=f.pcsc):
            job = asyncio.create_task(submit(f.client, plain))
            while "began" not in shared:
                await asyncio.sleep(0.01)
            f.pcsc.remove("A")
        f.insert("B")
        assert await within(job) == "B"


async def test_a_job_does_not_begin_where_the_card_has_gone(fleet: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the removal and the end of the worker; at most once would be no time, and an error."""
    async with fleet() as f, f.host():
        f.insert("A")
        await within(submit(f.client, echo, b"\x01"))
        may_close = asyncio.Event()
        close = hosts._close

        async def closes_late(worker: Any, keeper: Any) -> None:
            await may_close.wait()
            await close(worker, keeper)

        monkeypatch.setattr(hosts, "_close", closes_late)
        (keeper,) = [each for each in cards._keepers.values() if not each.left.is_set()]
        keeper.gone.set()
        jobs = [asyncio.create_task(submit(f.client, echo, b"\x02", once=True)) for _ in range(2)]
        while not keeper._jobs:
            await asyncio.sleep(0.01)
        f.insert("B")
        may_close.set()
        assert await within(asyncio.gather(*jobs)) == [b"\x02"] * 2


async def test_stages_are_words(fleet: Maker) -> None:
    async def wrong() -> None:
        await reached(b"stage")  # type: ignore[arg-type]

    async with fleet() as f, f.host():
        f.insert("A")
        with pytest.raises(TypeError, match="a str, not bytes"):
            await within(submit(f.client, wrong))
    await reached("anything")  # nowhere
