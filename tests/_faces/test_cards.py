"""Card after card, and cards chosen by what is on them: both faces, the simulation and the real pcscd."""

# ruff: noqa: B007, PT012  # loops that are left at once, whose card is looked at later; a loop raises at its end

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

import scardface
from scardface import (
    C_APDU,
    CardRemovedError,
    CardTimeoutError,
    SCard,
    SCardError,
    ServiceUnavailableError,
    ShareMode,
    StatusError,
    WaitCancelledError,
    sync,
)
from scardface._faces.card import Card
from scardface._threads import WaitingThread
from scardface._waiting.acquisition import Acquisition
from scardface._waiting.driver import driver_of
from scardface._waiting.served_cards import ServedCards
from scardface._waiting.watcher import Watcher
from scardface.testing import PrivatePcscd, SimulatedPCSC, VirtualCard
from tests.support.cards import BOTH, T1
from tests.support.faces import both_faces, off_loop
from tests.support.versions import remembers_readers
from tests.support.waits import SEEN, until, wait_until, waiters

pytestmark = pytest.mark.anyio

NAME = C_APDU(0, 0xCA, 0, 0, le=256)


class Named(VirtualCard):
    """Says its name, unless it is foreign: then it refuses."""

    def __init__(self, name: str, atr: bytes = T1, *, foreign: bool = False) -> None:
        self.name = name
        self.atr = atr
        self.foreign = foreign
        self.asked = 0
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def process(self, command: bytes) -> bytes:
        self.asked += 1
        return b"\x6a\x82" if self.foreign else self.name.encode() + b"\x90\x00"


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.add_reader("B")
        yield pcsc


async def name_of(card: Any) -> str:
    name: bytes = (await card.send(NAME)).check().data
    return name.decode()


class Service:
    """Serves card after card, in a task of its own."""

    def __init__(self, tasks: Any, cards: Any, turns: int | None = None) -> None:
        self.served: list[str] = []
        self.failed: list[BaseException] = []
        self.cards = cards
        self.ended = anyio.Event()
        self._news = anyio.Event()
        tasks.start_soon(self._serve, turns)

    async def _serve(self, turns: int | None) -> None:
        async for card in self.cards:
            try:
                self.served.append(await name_of(card))
            except (SCardError, StatusError) as error:
                self.failed.append(error)
            news, self._news = self._news, anyio.Event()
            news.set()
            if turns is not None and len(self.served) == turns:
                break
        self.ended.set()

    async def until(self, *names: str) -> None:
        """Return once these have been served, in this order."""
        with anyio.move_on_after(60):
            while self.served[-len(names) :] != list(names):
                await self._news.wait()
            return
        pytest.fail(f"{names} wanted; served: {self.served}; turns that failed: {self.failed}; in: {sync.states()}")


@both_faces
async def test_each_card_has_one_turn(pcsc: SimulatedPCSC, face: Any) -> None:
    first, second = Named("first"), Named("second")
    pcsc.insert("A", first)
    async with anyio.create_task_group() as tasks:
        service = Service(tasks, face.cards())
        await service.until("first")
        pcsc.insert("B", second)  # while the first one is still in
        await service.until("first", "second")
        pcsc.remove("A")
        pcsc.insert("A", first)
        await service.until("first", "second", "first")
        pcsc.remove("B")
        pcsc.insert("B", Named("third"))
        await service.until("second", "first", "third")
        await service.cards.aclose()
        with anyio.fail_after(10):
            await service.ended.wait()
    assert service.served == ["first", "second", "first", "third"]
    assert first.resets
    assert not service.failed


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["pcsclite", "pcsclite-1.9", "windows", "macos"])
@pytest.mark.parametrize("share", [ShareMode.EXCLUSIVE, ShareMode.SHARED])
def test_every_dialect(dialect: Any, share: ShareMode) -> None:
    """Counters or none, a close that resets or not: a card is asked once, has one turn, and another one after it was out."""
    with SimulatedPCSC(dialect=dialect) as pcsc:
        pcsc.add_reader("A")
        pcsc.add_reader("B")
        wrong = Named("wrong")
        pcsc.insert("A", wrong)
        pcsc.insert("B", Named("right"))
        with sync.SCard(timeout=10, match=lambda card: card.send(NAME).data == b"right", share=share) as chosen:
            assert chosen.reader == "B"
        assert wrong.asked == 1
        names = []
        with sync.cards(timeout=1, share=share) as cards, pytest.raises(CardTimeoutError):
            for card in cards:
                names.append(card.send(NAME).data.decode())
                if len(names) == 2:
                    pcsc.remove("A")
                    end = time.monotonic() + 30
                    while "A" in cards._served.readings:  # type: ignore[union-attr]
                        assert time.monotonic() < end
                        time.sleep(0.01)
                    pcsc.insert("A", Named("third"))
        assert names == ["wrong", "right", "third"]


@both_faces
async def test_what_came_meanwhile_is_next_and_what_went_is_gone(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert("A", Named("first"))
    cards = face.cards(timeout=5)
    iterator = cards.__aiter__()
    card = await iterator.__anext__()
    assert await name_of(card) == "first"
    pcsc.remove("A")
    pcsc.insert("A", Named("second"))  # in the same reader, with the same ATR
    pcsc.insert("B", Named("third"))
    with pytest.raises(CardRemovedError):
        await name_of(card)
    names = [await name_of(await iterator.__anext__()) for _ in range(2)]
    assert sorted(names) == ["second", "third"]
    await cards.aclose()
    with pytest.raises(StopAsyncIteration):
        await iterator.__anext__()


@both_faces
async def test_a_reader_that_comes_anew_brings_a_new_card(pcsc: SimulatedPCSC, face: Any) -> None:
    """Its counter begins anew, and may show what it showed before."""
    pcsc.insert("A", Named("first"))
    cards = face.cards(timeout=10)
    iterator = cards.__aiter__()
    assert await name_of(await iterator.__anext__()) == "first"
    pcsc.insert("B", Named("other"))
    assert await name_of(await iterator.__anext__()) == "other"
    pcsc.remove_reader("A")
    with anyio.fail_after(30):
        while "A" in getattr(cards, "cards", cards)._served.readings:
            await anyio.sleep(0.01)  # until the driver has seen it
    pcsc.add_reader("A")
    pcsc.insert("A", Named("again"))
    assert await name_of(await iterator.__anext__()) == "again"
    await cards.aclose()


@both_faces
async def test_a_restart_just_before_the_next_wait_brings_new_cards(
    pcsc: SimulatedPCSC, face: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had its turn is of the life of the service before, whose counters the next card may show again."""
    pcsc.insert("A", Named("first"))
    cards = face.cards(timeout=10)
    iterator = cards.__aiter__()
    assert await name_of(await iterator.__anext__()) == "first"
    begin, driver = Card._begin, driver_of(pcsc)
    iteration = getattr(cards, "cards", cards)
    await until(lambda: iteration._served.life is not None)

    def restart(card: Card) -> Acquisition:
        monkeypatch.setattr(Card, "_begin", begin)
        life = driver.life
        pcsc.remove("A")
        pcsc.stop_service()
        pcsc.start_service()
        pcsc.insert("A", Named("second"))
        wait_until(lambda: driver.life != life and driver._dispatcher._last.readers["A"].present)
        return begin(card)

    monkeypatch.setattr(Card, "_begin", restart)
    assert await name_of(await iterator.__anext__()) == "second"
    await cards.aclose()


@both_faces
async def test_only_new_ones_where_that_is_asked_for(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert("A", Named("old"))
    async with anyio.create_task_group() as tasks:
        service = Service(tasks, face.cards(new_only=True), 3)
        iteration = getattr(service.cards, "cards", service.cards)
        with anyio.fail_after(30):
            while not (iteration._card and iteration._card._acquisition and iteration._card._acquisition._joined):
                await anyio.sleep(0.01)  # until it has looked itself, and found none
        pcsc.insert("B", Named("new"))
        await service.until("new")
        pcsc.remove("B")
        pcsc.insert("B", Named("newer"))
        await service.until("new", "newer")
        pcsc.remove("A")
        pcsc.insert("A", Named("third"))
        await service.until("new", "newer", "third")
        await service.cards.aclose()


@pytest.mark.slow
@both_faces
async def test_match_chooses_by_what_is_on_the_card(pcsc: SimulatedPCSC, face: Any) -> None:
    wrong, foreign, right = Named("wrong"), Named("", foreign=True), Named("right")
    pcsc.insert("A", wrong)
    match = face.match(lambda name: name == b"right", NAME)
    async with anyio.create_task_group() as tasks:
        opened: list[str] = []

        async def wait() -> None:
            async with face.open(timeout=30, match=match) as card:
                opened.append(card.reader)
                assert await name_of(card) == "right"

        tasks.start_soon(wait)
        pcsc.insert("B", foreign)
        with anyio.fail_after(20):
            while not (wrong.asked and foreign.asked):
                await anyio.sleep(0.01)
        await anyio.sleep(0.5)
        assert (wrong.asked, foreign.asked) == (1, 1)
        pcsc.remove("A")
        pcsc.insert("A", right)
    assert opened == ["A"]
    assert (wrong.asked, foreign.asked, right.asked) == (1, 1, 2)


@pytest.mark.slow
@both_faces
async def test_match_and_no_time_or_one_look(pcsc: SimulatedPCSC, face: Any) -> None:
    wrong, other = Named("wrong"), Named("other")
    pcsc.insert("A", wrong)
    pcsc.insert("B", other)
    match = face.match(lambda name: False, NAME)
    for timeout in (0, SEEN):
        wrong.asked = other.asked = 0
        with pytest.raises(CardTimeoutError, match="refused"):
            async with face.open(timeout=timeout, match=match):
                pass
        assert (wrong.asked, other.asked) == (1, 1)
    async with face.open(timeout=0, match=face.match(lambda name: name == b"other", NAME)) as card:
        assert card.reader == "B"


@pytest.mark.slow
@both_faces
async def test_what_match_raises(pcsc: SimulatedPCSC, face: Any) -> None:
    card = Named("", foreign=True)
    pcsc.insert("A", card)
    with pytest.raises(CardTimeoutError) as caught:
        async with face.open(timeout=SEEN, match=face.match(lambda name: True, NAME)):
            pass
    assert isinstance(caught.value.__cause__, StatusError)

    def broken(name: bytes) -> bool:
        raise LookupError(name)

    card.foreign = False
    with pytest.raises(LookupError):
        async with face.open(timeout=5, match=face.match(broken, NAME)):
            pass
    async with face.open(timeout=5) as again:  # nobody holds it
        assert await name_of(again) == ""


@both_faces
async def test_match_keeps_the_place(pcsc: SimulatedPCSC, face: Any) -> None:
    """Who asked a card that was not the right one is still older than who came meanwhile."""
    go_on = threading.Event()

    class Slow(Named):
        def process(self, command: bytes) -> bytes:
            answer = super().process(command)
            go_on.wait(30)
            return answer

    wrong = Slow("wrong")
    pcsc.insert("A", wrong)
    order: list[str] = []
    async with anyio.create_task_group() as tasks:

        async def wait(who: str, **kwargs: Any) -> None:
            async with face.open("B" if who == "younger" else None, timeout=30, **kwargs):
                order.append(who)

        tasks.start_soon(lambda: wait("older", match=face.match(lambda name: name == b"right", NAME)))
        await until(lambda: wrong.asked)
        tasks.start_soon(wait, "younger")
        await until(lambda: len(waiters(pcsc)) == 1)
        go_on.set()
        await until(lambda: len(waiters(pcsc)) == 2)
        pcsc.insert("B", Named("right"))
    assert order == ["older", "younger"]


async def test_a_match_can_be_cancelled(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", Named("slow"))
    asked = anyio.Event()

    async def match(card: SCard) -> bool:
        asked.set()
        await anyio.sleep_forever()
        return True

    card = SCard(timeout=30, match=match)
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            with pytest.raises(WaitCancelledError):
                await card

        tasks.start_soon(wait)
        await asked.wait()
        card.cancel()
    with anyio.move_on_after(0.2) as scope:
        await SCard(timeout=30, match=match)
    assert scope.cancelled_caught
    with pytest.raises(CardTimeoutError):
        await SCard(timeout=0.2, match=match)
    async with SCard(timeout=5) as again:
        assert await name_of(again) == "slow"


def test_a_plain_function_on_the_sync_face(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", Named("one"))

    async def coroutine(card: sync.SCard) -> bool:
        return True

    with pytest.raises(TypeError, match="a coroutine function cannot be awaited here"):
        sync.SCard(timeout=5, match=coroutine)
    with sync.SCard(timeout=5, match=lambda card: card.send(NAME).data == b"one") as card:
        assert card.reader == "A"
    with pytest.raises(RuntimeError, match="the card is closed"):
        sync.SCard(timeout=0, match=lambda card: card.close())


@pytest.mark.parametrize("module", [scardface, sync])
def test_a_mistake_is_told_at_once(module: Any) -> None:
    for call in (module.cards, module.SCard):
        with pytest.raises(TypeError, match="match"):
            call(match="right")
        with pytest.raises(ValueError, match=r"match|share"):
            call(match=print, share=ShareMode.DIRECT)
    with pytest.raises(ValueError, match="share"):
        module.cards(share=ShareMode.DIRECT)
    with pytest.raises(TypeError, match="success"):
        module.cards(success="9000")
    with pytest.raises(TypeError):
        module.cards(5)


@pytest.mark.slow
@both_faces
async def test_match_among_cards(pcsc: SimulatedPCSC, face: Any) -> None:
    wrong = Named("wrong")
    pcsc.insert("A", wrong)
    async with anyio.create_task_group() as tasks:
        service = Service(tasks, face.cards(match=face.match(lambda name: name.startswith(b"right"), NAME)))
        pcsc.insert("B", Named("right 1"))
        await service.until("right 1")
        pcsc.remove("B")
        pcsc.insert("B", Named("right 2"))
        await service.until("right 1", "right 2")
        assert wrong.asked == 1
        await service.cards.aclose()


@pytest.mark.slow
@both_faces
async def test_the_time_for_each(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert("A", Named("one"))
    cards = face.cards(timeout=SEEN)
    iterator = cards.__aiter__()
    assert await name_of(await iterator.__anext__()) == "one"
    for _ in range(2):
        with pytest.raises(CardTimeoutError, match="had its turn before"):
            await iterator.__anext__()
    pcsc.insert("B", Named("two"))
    assert await name_of(await iterator.__anext__()) == "two"
    await cards.aclose()


async def test_a_loop_that_is_left_closes_its_card(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", Named("one"))
    async for card in scardface.cards():
        break
    await until(lambda: gc.collect() >= 0 and card.closed)  # a thread that opened it may still hold on to the loop
    async with SCard(timeout=5) as again:
        assert await name_of(again) == "one"
    async with scardface.cards() as cards:
        async for card in cards:
            break
        assert not card.closed
    assert card.closed


@pytest.mark.parametrize("ahead", ["watcher", "loop"])
def test_a_watcher_that_ends_as_the_loop_begins(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch, ahead: str) -> None:
    """It was somebody else's, who has left. That the next one counts another life of the service ends no card's stay.

    Args:
        ahead: the next watcher comes before the loop's own look at the readers, or after the loop has begun to wait.
    """
    ended, go, seen, joined = threading.Event(), threading.Event(), threading.Event(), threading.Event()
    has_to_stop, query = Watcher._has_to_stop, Watcher._query
    look, join, receive = Acquisition._first_query, Acquisition._join, ServedCards.receive

    def hold(watcher: Watcher) -> bool:
        stops = has_to_stop(watcher)
        if stops and not ended.is_set():
            ended.set()
            go.wait(60)
        return stops

    def query_late(watcher: Watcher, *args: Any) -> Any:
        if ended.is_set() and ahead == "loop":
            joined.wait(60)
        return query(watcher, *args)

    def look_late(acquisition: Acquisition, *args: Any) -> bool:
        if ahead == "watcher":
            seen.wait(60)
        return look(acquisition, *args)

    def receive_and_tell(served: ServedCards, *args: Any) -> None:
        receive(served, *args)
        seen.set()

    def join_and_put_in(acquisition: Acquisition, *args: Any) -> None:
        join(acquisition, *args)
        pcsc.insert("B", Named("two"))
        joined.set()

    monkeypatch.setattr(Watcher, "_has_to_stop", hold)
    monkeypatch.setattr(Watcher, "_query", query_late)
    monkeypatch.setattr(Acquisition, "_first_query", look_late)
    monkeypatch.setattr(Acquisition, "_join", join_and_put_in)
    monkeypatch.setattr(ServedCards, "receive", receive_and_tell)
    other = ServedCards(pcsc)
    other.listen(WaitingThread())
    assert seen.wait(60)
    seen.clear()
    other.leave()
    assert ended.wait(60)
    pcsc.insert("A", Named("one"))
    with sync.cards(timeout=30, backend=pcsc) as cards:
        assert next(cards).send(NAME).data == b"one"
        assert next(cards).send(NAME).data == b"two"
        go.set()


def test_ctrl_c_as_a_turn_ends(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first step of the close: the loop closes the card as it is left, and nobody is told to have left one open."""
    pcsc.insert("A", Named("one"))

    def close(card: sync.SCard) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sync.SCard, "close", close)
    with pytest.raises(KeyboardInterrupt):
        for card in sync.cards(timeout=30, backend=pcsc):
            kept = card
    assert kept._closed
    wait_until(lambda: not pcsc.open_contexts)


def test_a_loop_of_a_script_is_ended_by_another_thread(pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", Named("one"))
    cards = sync.cards()
    names = []
    for card in cards:
        names.append(card.send(NAME).data)
        threading.Timer(0.2, cards.close).start()
    assert names == [b"one"]
    with sync.cards() as cards:
        for card in cards:
            break
    assert card.closed
    for card in sync.cards():
        break
    wait_until(lambda: gc.collect() >= 0 and card.closed)


async def test_cancel_all_ends_the_wait(pcsc: SimulatedPCSC) -> None:
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            with pytest.raises(WaitCancelledError):
                await scardface.cards().__anext__()

        tasks.start_soon(wait)
        await anyio.sleep(0.1)
        scardface.cancel_all()


@both_faces
async def test_restarts_unplugs_pulls_and_a_foreign_card_on_pcscd(pcscd: PrivatePcscd, face: Any) -> None:
    """3 restarts, 3 unplugged readers, 20 pulls at random moments and a foreign card; every card that stays is served."""
    chance = random.Random(19)
    foreign = Named("", BOTH, foreign=True)
    pcscd.insert(3, foreign)
    async with anyio.create_task_group() as tasks:
        service = Service(tasks, face.cards(match=face.match(lambda name: True, NAME)))

        async def serve(reader: int, name: str) -> None:
            await off_loop(pcscd.insert, reader, Named(name))
            await service.until(name)

        async def take_out(reader: int) -> None:
            await off_loop(pcscd.remove, reader)
            await off_loop(pcscd.wait_for_removal, reader)

        await serve(0, "first")
        for number in range(3):
            await off_loop(pcscd.stop if number else pcscd.kill)
            await off_loop(pcscd.start)
            await off_loop(pcscd.wait_for_card, 0)
            await take_out(0)
            await serve(0, f"restart {number}")
        for number in range(3):
            await take_out(0)
            await off_loop(pcscd.remove, 3)
            await off_loop(pcscd.stop)
            await off_loop(pcscd.start, 4 if remembers_readers() else 2)
            await off_loop(pcscd.stop)
            await off_loop(pcscd.start, 4)
            await off_loop(pcscd.insert, 3, foreign)
            await serve(0, f"unplug {number}")
        for number in range(20):
            reader = 1 + number % 2
            await off_loop(pcscd.insert, reader, Named("pulled"))
            await anyio.sleep(chance.random())
            await off_loop(pcscd.remove, reader)
            await off_loop(pcscd.wait_for_removal, reader)
            if number % 5 == 4:
                await serve(reader, f"pull {number}")
                await take_out(reader)
        await serve(1, "last")
        await service.cards.aclose()
        with anyio.fail_after(30):
            await service.ended.wait()
    served = [name for name in service.served if name != "pulled"]
    wanted = ["first", *(f"restart {number}" for number in range(3)), *(f"unplug {number}" for number in range(3))]
    wanted += [*(f"pull {number}" for number in range(4, 20, 5)), "last"]
    assert list(dict.fromkeys(served)) == wanted
    assert not [error for error in service.failed if not isinstance(error, (CardRemovedError, ServiceUnavailableError, SCardError))]
