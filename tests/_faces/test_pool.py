"""Pools of cards: both faces, the simulation and the real pcscd. What one face has for itself is in the tests of its base."""

# ruff: noqa: PT012  # blocks of loans that end with an error

from __future__ import annotations

import itertools
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import anyio
import pytest

import scardface.pool
from scardface import (
    C_APDU,
    CardRemovedError,
    CardTimeoutError,
    SCardError,
    ServiceUnavailableError,
    ShareMode,
    StatusError,
    WaitCancelledError,
    cancel_all,
    iso7816,
)
from scardface._threads import no_op
from scardface._waiting.acquisition import Acquisition
from scardface._waiting.driver import Driver
from scardface.errors import NO_MEMORY, SECURITY_VIOLATION
from scardface.pool import PinRefusedError
from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support.cards import BOTH, ECHO, GATE, LogCard
from tests.support.faces import both_faces, off_loop
from tests.support.pins import FAIL, PIN, READ, SELECT, VERIFY, PinCard
from tests.support.waits import SEEN, until

pytestmark = pytest.mark.anyio

BOUND = 30.0


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.add_reader("B")
        yield pcsc


def nothing(_card: Any) -> None:
    """Does nothing."""


async def name_of(card: Any) -> str:
    name: bytes = (await card.send(READ)).check().data
    return name.decode()


async def one_loan(pool: Any, timeout: float = BOUND) -> str:
    async with pool.card(timeout=timeout) as card:
        return await name_of(card)


@both_faces
async def test_a_card_is_prepared_once_and_lent_often(pcsc: SimulatedPCSC, face: Any) -> None:
    card = PinCard()
    pcsc.insert("A", card)
    async with face.pool(atr=rb"^\x3b", prepare=face.prepare(nothing, SELECT, VERIFY), min_cards=1, timeout=BOUND) as pool:
        assert pool.stats()[:4] == (1, 1, 0, 0)
        for _ in range(5):
            assert await one_loan(pool) == "card"
        async with pool.card() as lent:
            assert lent.reader == "A"
            assert pool.stats()[:4] == (1, 0, 1, 0)
        stats = pool.stats()
    assert (stats.loans, stats.waited, stats.prepared, stats.lost) == (6, 0, 1, 0)
    assert (card.prepared, card.verifications, card.resets) == (1, 1, 1)  # the close resets it
    assert pool.closed
    assert pool.stats().cards == 0
    with pytest.raises(RuntimeError, match="the pool is closed"):
        await one_loan(pool)


@both_faces
async def test_without_prepare_cards_are_ready_as_they_come(pcsc: SimulatedPCSC, face: Any) -> None:
    async with face.pool(min_cards=0) as pool:
        assert pool.stats().cards == 0
        pcsc.insert("A", PinCard())
        pcsc.insert("B", PinCard())
        await until(lambda: pool.stats().idle == 2)
        async with pool.card() as one, pool.card() as other:
            assert {one.reader, other.reader} == {"A", "B"}
            with pytest.raises(CardTimeoutError, match=r"no card of the pool within 0\.05 s; seen: 2 cards lent"):
                async with pool.card(timeout=0.05):
                    pass
        assert pool.stats().timed_out == 1


@both_faces
async def test_first_come_first_served(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert("A", PinCard())
    order: list[int] = []
    async with face.pool(min_cards=1, timeout=BOUND) as pool, anyio.create_task_group() as tasks:

        async def borrow(number: int) -> None:
            async with pool.card():
                order.append(number)

        async with pool.card():
            for number in range(8):
                tasks.start_soon(borrow, number)
                await until(lambda number=number: pool.stats().waiting == number + 1)  # type: ignore[misc]
    assert order == list(range(8))


@both_faces
async def test_who_leaves_the_queue_loses_nothing(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert("A", PinCard())
    async with face.pool(min_cards=1, timeout=BOUND) as pool, anyio.create_task_group() as tasks:

        async def borrow() -> None:
            async with pool.card():
                pass

        async with pool.card():
            async with anyio.create_task_group() as others:
                others.start_soon(borrow)
                await until(lambda: pool.stats().waiting == 1)
                others.cancel_scope.cancel()
            await until(lambda: pool.stats().waiting == 0)
            tasks.start_soon(borrow)
            await until(lambda: pool.stats().waiting == 1)
        await until(lambda: pool.stats().loans == 2)
        await until(lambda: pool.stats().idle == 1)


@pytest.mark.slow
@both_faces
async def test_the_start_says_what_was_seen(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert("A", PinCard(atr=BOTH))
    with pytest.raises(CardTimeoutError, match=r"fewer than 1 card ready within 3 s; seen: a card whose ATR did not match"):
        async with face.pool(atr=b"nosuch", timeout=3):
            pass
    with pytest.raises(CardTimeoutError, match=r"fewer than 2 cards ready within 3 s; seen: no card"):
        async with face.pool(min_cards=2, timeout=3):
            pass
    with pytest.raises(CardTimeoutError, match=r"not of their digits: rb'\^\\x3b\\x87'\), in reader 'A'"):
        async with face.pool(atr=b"3B87", timeout=3):
            pass
    pcsc.stop_service()
    with pytest.raises(CardTimeoutError, match=r"seen: the PC/SC service is not available"):
        async with face.pool(timeout=3):
            pass


@both_faces
async def test_a_card_that_goes_is_replaced(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert("A", PinCard("first"))
    async with face.pool(prepare=face.prepare(nothing, VERIFY), timeout=BOUND) as pool:
        pcsc.remove("A")
        await until(lambda: pool.stats().cards == 0)
        assert pool.stats().lost == 1
        pcsc.insert("A", PinCard("second"))
        assert await one_loan(pool) == "second"
        with pytest.raises(CardRemovedError):
            async with pool.card() as card:
                pcsc.remove("A")
                pcsc.insert("B", PinCard("third"))
                await name_of(card)
        assert await one_loan(pool) == "third"
        assert pool.stats().lost == 2


@both_faces
async def test_a_reader_and_a_service_that_go_are_replaced(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert("A", PinCard("first"))
    async with face.pool(prepare=face.prepare(nothing, VERIFY), timeout=BOUND) as pool:
        pcsc.remove_reader("A")
        await until(lambda: pool.stats().cards == 0)
        pcsc.add_reader("C")
        card = PinCard("second")
        pcsc.insert("C", card)
        assert await one_loan(pool) == "second"
        with pytest.raises(ServiceUnavailableError):
            async with pool.card() as lent:
                await off_loop(pcsc.stop_service)
                await name_of(lent)
        await until(lambda: pool._state.served.latest.error is not None and not pool.stats().cards)
        with pytest.raises(CardTimeoutError, match="the PC/SC service is not available"):
            await one_loan(pool, 0.1)
        pcsc.start_service()
        assert await one_loan(pool) == "second"
        assert card.verifications == 2


def refused(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings of cards that were set aside."""
    return [
        record.getMessage() for record in caplog.records if record.name == "scardface.pool" and record.levelno >= logging.WARNING
    ]


@pytest.mark.slow
@both_faces
async def test_a_pin_that_is_refused_is_never_tried_again(pcsc: SimulatedPCSC, face: Any, caplog: pytest.LogCaptureFixture) -> None:
    bad, good = PinCard("bad", b"9999"), PinCard("good")
    pcsc.insert("A", bad)
    with pytest.raises(CardTimeoutError, match="the card answered 63C2") as caught:
        async with face.pool(prepare=face.prepare(nothing, SELECT, VERIFY), timeout=SEEN):
            pass
    assert isinstance(caught.value.__cause__, StatusError)
    assert (bad.wrong, bad.left) == (1, 2)
    async with face.pool(prepare=face.prepare(nothing, SELECT, VERIFY), min_cards=0, timeout=BOUND) as pool:
        await until(lambda: pool.stats().set_aside == 1)
        assert bad.wrong == 2  # by another pool
        pcsc.insert("B", good)
        for _ in range(10):
            assert await one_loan(pool) == "good"
        assert good.asked == 0  # the bad one is still in, so that this is another one
        # The same one again, in the same reader and in another one.
        for _ in range(2):
            pcsc.remove("A")
            await until(lambda: not pool.set_aside)
            pcsc.insert("A", bad)
            await until(lambda: pool.set_aside)
        assert (bad.wrong, bad.left, bad.asked) == (2, 1, 2)
        assert isinstance(pool.set_aside["A"], PinRefusedError)
        # One that looks like it.
        pcsc.remove("B")
        await until(lambda: pool.stats().cards == 0)
        pcsc.insert("B", good)
        assert await one_loan(pool) == "good"
        assert good.asked == 1  # it may have been the other one
        pcsc.remove("A")
        await until(lambda: not pool.set_aside)
        pcsc.insert("A", PinCard("other"))
        await until(lambda: pool.stats().cards == 2)
        assert pool.stats().pins_refused == 3
    assert bad.wrong == 2
    texts = refused(caplog)
    assert all("'A'" in text and "is set aside until it is taken out, since a PIN was refused" in text for text in texts)
    assert not any(PIN.hex() in text or "1234" in text for text in texts)


@both_faces
async def test_a_card_that_does_not_tell_its_counter_is_not_tried_again(pcsc: SimulatedPCSC, face: Any) -> None:
    class Silent(PinCard):
        def _verify(self, data: bytes) -> bytes:
            return super()._verify(data) if data else b"\x6a\x80"

    bad = Silent("bad", b"9999")
    pcsc.insert("A", bad)
    async with face.pool(prepare=face.prepare(nothing, VERIFY), min_cards=0) as pool:
        await until(lambda: pool.set_aside)
        pcsc.remove("A")
        await until(lambda: not pool.set_aside)
        pcsc.insert("B", bad)
        await until(lambda: pool.set_aside)
        assert bad.wrong == 1


@pytest.mark.slow
@both_faces
async def test_a_pin_that_was_not_answered_may_have_been_refused(pcsc: SimulatedPCSC, face: Any) -> None:
    """The card has counted it, and is gone before it answers; put in again it is asked first."""

    class Torn(PinCard):
        def _verify(self, data: bytes) -> bytes:
            answer = super()._verify(data)
            return b"\x63" if self.wrong == 1 and data else answer

    bad, good = Torn("bad", b"9999"), PinCard("good")
    pcsc.insert("A", bad)
    async with face.pool(prepare=face.prepare(nothing, VERIFY), min_cards=0) as pool:
        await until(lambda: pool.set_aside)
        assert isinstance(pool.set_aside["A"], PinRefusedError)  # it was reset, and asked
        pcsc.remove("A")
        await until(lambda: not pool.set_aside)
        pcsc.insert("A", good)
        assert await one_loan(pool) == "good"
        pcsc.insert("B", bad)
        await until(lambda: pool.set_aside)
        assert isinstance(pool.set_aside["B"], PinRefusedError)
        assert (bad.wrong, bad.asked, good.asked) == (1, 2, 1)


@pytest.mark.slow
@both_faces
async def test_a_card_that_fails_once_is_prepared_again(pcsc: SimulatedPCSC, face: Any) -> None:
    class Shaky(PinCard):
        fails = 0

        def process(self, command: bytes) -> bytes:
            answer = super().process(command)
            return answer[:1] if self.prepared < self.fails else answer

    for fails, ready in ((3, True), (9, False)):
        card = Shaky()
        card.fails = fails
        pcsc.insert("A", card)
        async with face.pool(prepare=face.prepare(nothing, SELECT, VERIFY), min_cards=0) as pool:
            await until(lambda pool=pool: pool.stats().idle or pool.set_aside)  # type: ignore[misc]
            assert bool(pool.stats().idle) is ready
            assert card.prepared == 3
        pcsc.remove("A")


@both_faces
@pytest.mark.parametrize("first", ["the card", "an empty reader", "no reader"])
async def test_a_refused_pin_outlives_the_service(pcsc: SimulatedPCSC, face: Any, first: str) -> None:
    """Nobody saw whether the card stayed; one of its ATR in its reader counts as that one, and is asked nothing.

    Args:
        first: what the service shows first. Nor is a card forgotten that was only taken for the one that has refused it.
    """
    bad = PinCard("bad", b"9999")
    pcsc.insert("A", bad)
    async with face.pool(prepare=face.prepare(nothing, SELECT, VERIFY), min_cards=0) as pool:
        await until(lambda: pool.set_aside)
        served = pool._state.served
        for _ in range(3):
            pcsc.stop_service()
            await until(lambda: served.latest and served.latest.error is not None)
            if first != "the card":
                pcsc.remove("A")
            if first == "no reader":
                pcsc.remove_reader("A")
            pcsc.start_service()
            if first != "the card":
                await until(lambda: served.latest.error is None)
                pool._state._look_after_aside()
            if first == "no reader":
                pcsc.add_reader("A")
            if first != "the card":
                pcsc.insert("A", bad)
            pcsc.insert("B", PinCard("good"))
            assert await one_loan(pool, BOUND) == "good"
            await until(lambda: pool.set_aside)
            pcsc.remove("B")
            await until(lambda: not pool.stats().cards)
        assert (bad.wrong, bad.prepared) == (1, 1)


async def restart_with(pcsc: SimulatedPCSC, pool: Any, card: PinCard, then: Callable[[], object] = no_op) -> None:
    """The service is restarted, and the card in "A" swapped and `then` called before anybody has looked."""
    pcsc.stop_service()
    served = pool._state.served
    await until(lambda: served.latest and served.latest.error is not None)
    with pcsc._service.lock:
        pcsc.start_service()
        pcsc.remove("A")
        pcsc.insert("A", card)
        then()


@both_faces
async def test_a_card_that_came_since_the_service_started_is_another_one(pcsc: SimulatedPCSC, face: Any) -> None:
    """Nobody has looked between the start and the swap. The counter tells, and the card is asked how many tries are left."""
    bad, good = PinCard("bad", b"9999"), PinCard("good")
    pcsc.insert("A", bad)
    async with face.pool(prepare=face.prepare(nothing, SELECT, VERIFY), min_cards=0) as pool:
        await until(lambda: pool.set_aside)
        await restart_with(pcsc, pool, good)
        assert await one_loan(pool) == "good"
        assert not pool.set_aside
    assert (bad.wrong, good.wrong, good.asked) == (1, 0, 1)


@both_faces
async def test_so_is_one_that_is_found_before_the_watcher_tells_of_it(
    pcsc: SimulatedPCSC, face: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, swapped, lent = itertools.count(), threading.Event(), threading.Event()
    look, handle = Acquisition._first_query, Driver._handle_snapshot

    def look_late(acquisition: Acquisition, *args: Any) -> bool:
        if next(looks):
            swapped.wait(60)
        return look(acquisition, *args)

    def handle_late(driver: Driver, *args: Any) -> None:
        if swapped.is_set():
            lent.wait(60)
        handle(driver, *args)

    monkeypatch.setattr(Acquisition, "_first_query", look_late)
    monkeypatch.setattr(Driver, "_handle_snapshot", handle_late)
    pcsc.insert("A", PinCard("bad", b"9999"))
    async with face.pool(prepare=face.prepare(nothing, SELECT, VERIFY), min_cards=0) as pool:
        await until(lambda: pool.set_aside)
        await restart_with(pcsc, pool, PinCard("good"), swapped.set)
        try:
            assert await one_loan(pool) == "good"
            assert not pool.set_aside
        finally:
            lent.set()


@both_faces
async def test_a_pin_refused_in_a_loan_sets_the_card_aside(pcsc: SimulatedPCSC, face: Any) -> None:
    card = PinCard()
    pcsc.insert("A", card)
    async with face.pool(timeout=BOUND) as pool:
        async with pool.card() as lent:
            assert (await lent.send(iso7816.verify(0x81, b"0000"))).sw == 0x63C2
            assert (await lent.send(iso7816.verify(0x81, PIN))).is_successful()  # the last word counts
        assert not pool.set_aside
        async with pool.card() as lent:
            await lent.send(iso7816.verify(0x81, b"0000"))
        assert isinstance(pool.set_aside["A"], PinRefusedError)
        assert "63C2" in str(pool.set_aside["A"])
        with pytest.raises(CardTimeoutError, match="set aside"):
            await one_loan(pool, 0.1)


@both_faces
async def test_tries_that_are_kept_set_the_card_aside(pcsc: SimulatedPCSC, face: Any, caplog: pytest.LogCaptureFixture) -> None:
    card = PinCard()
    card.left = 1
    pcsc.insert("A", card)
    if face.name == "async":

        async def prepare(card: Any) -> None:
            (await iso7816.verify_pin(card, 0x81, PIN)).check()
    else:

        def prepare(card: Any) -> None:  # type: ignore[misc]
            iso7816.verify_pin(card, 0x81, PIN).check()

    async with face.pool(prepare=prepare, min_cards=0) as pool:
        await until(lambda: pool.set_aside)
        assert isinstance(pool.set_aside["A"], iso7816.PinTriesError)
        assert pool.stats().pins_refused == 0
    assert card.verifications == 0
    assert any("since its PIN may not be tried: the PIN was not sent: 1 try left" in text for text in refused(caplog))


@both_faces
async def test_a_card_that_cannot_be_prepared_is_set_aside(
    pcsc: SimulatedPCSC, face: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pcsc.insert("A", PinCard())
    prepare = face.prepare(lambda card: None, C_APDU(0, 0xB0, 0, 0, le=256))
    async with face.pool(prepare=prepare, min_cards=0) as pool:
        await until(lambda: pool.set_aside)
        assert isinstance(pool.set_aside["A"], StatusError)
        assert pool.stats().pins_refused == 0
    assert any("could not be made ready: the card answered 6982" in text for text in refused(caplog))


@both_faces
async def test_a_mistake_in_prepare_ends_the_start(pcsc: SimulatedPCSC, face: Any, caplog: pytest.LogCaptureFixture) -> None:
    broken: list[bool] = [True]

    def fail(card: Any) -> None:
        if broken:
            raise LookupError("no such card in the table")

    pcsc.insert("A", PinCard())
    pool = face.pool(prepare=face.prepare(fail))
    with pytest.raises(LookupError, match="no such card in the table"):
        async with pool:
            pass
    assert pool.closed
    broken.clear()
    async with face.pool(prepare=face.prepare(fail), timeout=BOUND) as pool:
        broken.append(True)
        pcsc.remove("A")
        pcsc.insert("A", PinCard())
        await until(lambda: pool.set_aside)
        assert isinstance(pool.set_aside["A"], LookupError)
        with pytest.raises(CardTimeoutError) as caught:
            await one_loan(pool, 0.05)
        assert isinstance(caught.value.__cause__, LookupError)
    assert any(record.exc_info for record in caplog.records if record.name == "scardface.pool")


@both_faces
async def test_what_a_loan_leaves_is_there_for_the_next_one(pcsc: SimulatedPCSC, face: Any) -> None:
    card = PinCard()
    pcsc.insert("A", card)
    async with face.pool(timeout=BOUND) as pool:
        async with pool.card() as lent:
            await lent.send(VERIFY)
        assert await one_loan(pool) == "card"
    async with face.pool(timeout=BOUND, reset_on_return=True, prepare=face.prepare(nothing, SELECT)) as pool:
        prepared = card.prepared
        async with pool.card() as lent:
            await lent.send(VERIFY)
        for number in range(3):
            async with pool.card() as lent:
                assert (await lent.send(READ)).sw == 0x6982
            assert card.prepared >= prepared + 1 + number


@both_faces
async def test_it_is_prepared_again_after_a_reset_in_a_loan(pcsc: SimulatedPCSC, face: Any) -> None:
    card = PinCard()
    pcsc.insert("A", card)
    async with face.pool(timeout=BOUND, prepare=face.prepare(nothing, VERIFY)) as pool:
        async with pool.card() as lent:
            await lent.reset()
            assert (await lent.send(READ)).sw == 0x6982
        assert await one_loan(pool) == "card"
        assert (card.verifications, pool.stats().prepared) == (2, 2)


@both_faces
async def test_it_is_prepared_again_after_another_programs_reset(pcsc: SimulatedPCSC, face: Any) -> None:
    """SHARED, while it was idle, and while it was lent."""
    card = PinCard()
    pcsc.insert("A", card)

    def reset() -> None:
        context = pcsc.establish()
        handle = context.connect("A", ShareMode.SHARED, scardface.Protocol.T1)
        handle.disconnect(scardface.Disposition.RESET)
        context.release()

    async with face.pool(timeout=BOUND, share=ShareMode.SHARED, prepare=face.prepare(nothing, VERIFY)) as pool:
        assert await one_loan(pool) == "card"
        await off_loop(reset)
        assert await one_loan(pool) == "card"
        assert card.verifications == 2
        with suppress(scardface.CardResetError):
            async with pool.card() as lent:
                await off_loop(reset)
                await name_of(lent)
        assert await one_loan(pool) == "card"
        assert card.verifications == 3
        assert pool.stats().loans == 4
    async with face.pool(timeout=BOUND, share=ShareMode.SHARED) as pool:  # nothing has to be prepared: it is connected anew
        await off_loop(reset)
        async with pool.card() as lent:
            assert (await lent.send(READ)).sw == 0x6982


@pytest.mark.slow
@both_faces
async def test_it_is_reset_and_prepared_again_after_a_failed_exchange(pcsc: SimulatedPCSC, face: Any) -> None:
    card = PinCard()
    pcsc.insert("A", card)
    async with face.pool(timeout=BOUND, prepare=face.prepare(nothing, VERIFY)) as pool:
        async with pool.card() as lent:
            with pytest.raises(scardface.CardCommunicationError):
                await lent.send(FAIL)
        resets = card.resets
        assert await one_loan(pool) == "card"
        assert card.verifications == 2
        assert card.resets + resets >= 1


@both_faces
async def test_a_shared_card_is_opened_once(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert("A", PinCard())
    async with face.pool(timeout=BOUND, share=ShareMode.SHARED) as pool:
        pcsc.insert("B", PinCard())
        await until(lambda: pool.stats().cards == 2)
        pcsc.remove("B")
        await until(lambda: pool.stats().cards == 1)
        for _ in range(3):
            async with pool.card() as card:
                assert card.reader == "A"
        assert pool.stats().cards == 1


@both_faces
async def test_a_reader_by_its_serial_number(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.add_reader("C", attributes={scardface.Attribute.VENDOR_IFD_SERIAL_NO: b"5C000123"})
    pcsc.insert("A", PinCard("other"))
    async with face.pool(readers=scardface.serial("5C000123"), min_cards=0, prepare=face.prepare(nothing, VERIFY)) as pool:
        pcsc.insert("C", PinCard("first"))
        assert await one_loan(pool) == "first"
        pcsc.remove("C")
        pcsc.insert("C", PinCard("second"))
        await until(lambda: pool.stats().lost == 1)
        assert await one_loan(pool) == "second"
        assert pool.stats().cards == 1


@both_faces
async def test_a_service_that_refuses_the_program(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.inject("SCardEstablishContext", SECURITY_VIOLATION, 1000)
    with pytest.raises(ServiceUnavailableError):
        async with face.pool():
            pass
    async with face.pool(min_cards=0) as pool:
        with pytest.raises(ServiceUnavailableError):
            await one_loan(pool)
        pcsc._service._injected.clear()
        pcsc.insert("A", PinCard())
        async with pool.card(timeout=BOUND):
            pass


@both_faces
async def test_no_thread_can_be_started(pcsc: SimulatedPCSC, face: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pcsc.insert("A", PinCard())
    async with face.pool(timeout=BOUND, prepare=face.prepare(nothing, VERIFY)) as pool:
        assert await one_loan(pool) == "card"

        def fail(*_: Any) -> Any:
            raise SCardError("no thread could be started", NO_MEMORY)

        with monkeypatch.context() as limited:
            limited.setattr("scardface._waiting.acquisition.Worker", fail)
            pcsc.remove("A")
            await until(lambda: pool.stats().lost == 1)
            pcsc.insert("A", PinCard("again"))
            with pytest.raises(SCardError, match="no thread"):
                await one_loan(pool)
        assert await one_loan(pool) == "again"


@both_faces
async def test_no_time_to_wait(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert("A", PinCard())
    async with face.pool(timeout=BOUND) as pool, pool.card(timeout=0):
        with pytest.raises(CardTimeoutError, match="within 0 s; seen: 1 card lent"):
            async with pool.card(timeout=0):
                pass


@pytest.mark.slow
@both_faces
@pytest.mark.parametrize("how", ["send", "cancelled"])
async def test_a_card_whose_command_has_not_ended_is_not_lent(pcsc: SimulatedPCSC, face: Any, how: str) -> None:
    """A card that hangs would take the whole pool with it: the one that was given back last is lent next."""
    cards = {"A": LogCard(), "B": LogCard()}
    for reader, each in cards.items():
        pcsc.insert(reader, each)
    async with face.pool(timeout=BOUND, min_cards=2) as pool:
        async with pool.card() as card:
            hanging = card.reader
            if how == "send":
                with pytest.raises(CardTimeoutError, match="the command on its way ends by itself"):
                    await card.send(C_APDU(0, GATE), timeout=SEEN)
            elif face.name == "async":
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(card.send, C_APDU(0, GATE))
                    await off_loop(cards[hanging].reached.wait, BOUND)
                    tasks.cancel_scope.cancel()
            else:
                with pytest.raises(CardTimeoutError):
                    await card.send_all(C_APDU(0, GATE), timeout=SEEN)
        try:
            assert pool.stats()[:4] == (2, 1, 0, 1)
            for _ in range(3):
                async with pool.card() as card:
                    assert card.reader != hanging
                    assert (await card.send(C_APDU(0, ECHO, 0, 0, b"x"))).data == b"x"
        finally:
            cards[hanging].gate.set()
        await until(lambda: pool.stats().idle == 2)
        async with pool.card() as one, pool.card() as other:
            assert {one.reader, other.reader} == {"A", "B"}
    assert cards[hanging].commands[0][1] == GATE


@pytest.mark.slow
@both_faces
async def test_a_card_that_goes_while_its_command_has_not_ended_is_replaced(pcsc: SimulatedPCSC, face: Any) -> None:
    first, second = LogCard(), LogCard()
    pcsc.insert("A", first)
    async with face.pool(timeout=BOUND) as pool:
        async with pool.card() as card:
            with pytest.raises(CardTimeoutError):
                await card.send(C_APDU(0, GATE), timeout=SEEN)
        pcsc.remove("A")
        first.gate.set()
        await until(lambda: pool.stats().cards == 0)
        pcsc.insert("A", second)
        async with pool.card() as card:
            assert (await card.send(C_APDU(0, ECHO, 0, 0, b"x"))).data == b"x"


@both_faces
async def test_max_cards(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert("A", PinCard())
    pcsc.insert("B", PinCard())
    async with face.pool(max_cards=1, timeout=BOUND) as pool:
        async with pool.card() as card:
            with pytest.raises(CardTimeoutError, match="no further card is opened, with max_cards=1"):
                async with pool.card(timeout=0.1):
                    pass
            reader = card.reader
        pcsc.remove(reader)
        await until(lambda: pool.stats().lost == 1)
        async with pool.card(timeout=BOUND) as card:
            assert card.reader != reader


@both_faces
async def test_max_uses(pcsc: SimulatedPCSC, face: Any) -> None:
    card = PinCard()
    pcsc.insert("A", card)
    async with face.pool(max_uses=2, timeout=BOUND, prepare=face.prepare(nothing, VERIFY)) as pool:
        for _ in range(6):
            assert await one_loan(pool) == "card"
        await until(lambda: pool.stats().idle == 1)
        assert card.verifications == 4
        assert card.resets == 3


@both_faces
async def test_max_idle(pcsc: SimulatedPCSC, face: Any) -> None:
    """Others can have a card that nobody borrows; it comes back when somebody waits."""
    card = PinCard()
    pcsc.insert("A", card)
    async with face.pool(max_idle=0.05, min_cards=0, timeout=BOUND, prepare=face.prepare(nothing, VERIFY)) as pool:
        assert await one_loan(pool) == "card"
        await until(lambda: pool.stats().cards == 0)
        async with face.open("A", timeout=BOUND) as other:
            assert (await other.send(READ)).sw == 0x6982
            with pytest.raises(CardTimeoutError):
                await one_loan(pool, 0.1)
        assert await one_loan(pool) == "card"
    pcsc.insert("B", PinCard())
    async with face.pool(max_idle=0.05, min_cards=1, timeout=BOUND) as pool:
        await until(lambda: pool.stats().cards == 1)
        async with pool.card(), pool.card():
            assert pool.stats().lent == 2


@both_faces
async def test_match_and_success(pcsc: SimulatedPCSC, face: Any) -> None:
    wrong, right = PinCard("wrong"), PinCard("right")
    pcsc.insert("A", wrong)
    pcsc.insert("B", right)
    command = C_APDU(0, 0x20, 0, 0x81)  # 63C3

    def read(data: bytes) -> bool:
        return True

    async with (
        face.pool(
            timeout=BOUND, match=face.match(read, command), success=["9000", "63xx"], readers=re.compile("^B"), min_cards=1
        ) as pool,
        pool.card() as card,
    ):
        assert card.reader == "B"
        assert (await card.send(command)).is_successful()
    asked: list[bytes] = []

    def is_right(data: bytes) -> bool:
        asked.append(data)
        return data == b"right"

    for card in (wrong, right):
        card.process = lambda command, card=card: card.name.encode() + b"\x90\x00"  # type: ignore[method-assign, misc]
    async with face.pool(timeout=BOUND, match=face.match(is_right, READ)) as pool:
        await until(lambda: len(asked) == 2)
        for _ in range(3):
            assert await one_loan(pool) == "right"
        with pytest.raises(CardTimeoutError, match="match= refused"):
            async with pool.card(), pool.card(timeout=0.1):
                pass
    assert sorted(asked) == [b"right", b"wrong"]


@both_faces
async def test_closing_ends_loans_and_those_who_wait(pcsc: SimulatedPCSC, face: Any) -> None:
    card = PinCard()
    pcsc.insert("A", card)
    ended: list[BaseException] = []
    pool = face.pool(timeout=BOUND)
    await pool.open()
    with pytest.raises(RuntimeError, match="opened once"):
        await pool.open()
    async with anyio.create_task_group() as tasks:

        async def borrow() -> None:
            try:
                async with pool.card() as card:
                    with anyio.fail_after(BOUND):
                        await card.wait()
                    await card.send(READ)
            except (WaitCancelledError, RuntimeError) as error:
                ended.append(error)

        tasks.start_soon(borrow)
        await until(lambda: pool.stats().lent == 1)
        tasks.start_soon(borrow)
        await until(lambda: pool.stats().waiting == 1)
        await pool.aclose()
        await pool.aclose()
    assert len(ended) == 2
    assert any("the pool was closed" in str(error) for error in ended)
    assert pool.stats()[:4] == (0, 0, 0, 0)
    async with face.open("A", timeout=BOUND) as again:
        assert (await again.send(READ)).sw == 0x6982


@both_faces
async def test_cancel_all_ends_those_who_wait(pcsc: SimulatedPCSC, face: Any) -> None:
    async with face.pool(min_cards=0) as pool, anyio.create_task_group() as tasks:

        async def borrow() -> None:
            with pytest.raises(WaitCancelledError):
                async with pool.card():
                    pass

        tasks.start_soon(borrow)
        await until(lambda: pool.stats().waiting == 1)
        await off_loop(cancel_all)
        await until(lambda: pool.stats().waiting == 0)
        pcsc.insert("A", PinCard())
        async with pool.card(timeout=BOUND) as card:
            await card.send(SELECT)


@both_faces
async def test_only_new_cards_where_that_is_asked_for(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert("A", PinCard("old"))
    async with face.pool(new_only=True, min_cards=0, prepare=face.prepare(nothing, VERIFY)) as pool:
        with pytest.raises(CardTimeoutError):
            await one_loan(pool, 0.3)
        pcsc.insert("B", PinCard("new"))
        assert await one_loan(pool) == "new"
        pcsc.remove("A")
        pcsc.insert("A", PinCard("newer"))
        await until(lambda: pool.stats().cards == 2)


@both_faces
async def test_a_card_closed_or_shared_by_a_loan_is_opened_anew(pcsc: SimulatedPCSC, face: Any) -> None:
    card = PinCard()
    pcsc.insert("A", card)
    async with face.pool(timeout=BOUND, prepare=face.prepare(nothing, VERIFY)) as pool:
        async with pool.card() as lent:
            await lent.aclose()
        assert await one_loan(pool) == "card"
        async with pool.card() as lent:
            await lent.reconnect(share=ShareMode.SHARED)
        async with pool.card() as lent:
            assert lent.share is ShareMode.EXCLUSIVE
            assert await name_of(lent) == "card"
        assert card.verifications == 3


@both_faces
async def test_a_pool_that_is_not_open(pcsc: SimulatedPCSC, face: Any) -> None:
    pool = face.pool()
    with pytest.raises(RuntimeError, match="the pool is not open"):
        async with pool.card():
            pass
    await pool.aclose()
    with pytest.raises((TypeError, RuntimeError)):
        import copy

        copy.copy(getattr(pool, "pool", pool))


@both_faces
async def test_on_pcscd(pcscd: PrivatePcscd, face: Any) -> None:
    """The life of a pool: cards pulled and put in, the daemon killed, a PIN refused."""
    good, bad = PinCard("good"), PinCard("bad", b"9999")
    pcscd.insert(0, good)
    pcscd.insert(1, bad)
    readers = pcscd.readers
    async with face.pool(prepare=face.prepare(nothing, SELECT, VERIFY), timeout=60) as pool:
        assert await one_loan(pool) == "good"
        await until(lambda: pool.set_aside)
        assert set(pool.set_aside) == {readers[1]}
        with pytest.raises(CardRemovedError):
            async with pool.card() as card:
                pcscd.remove(0)
                await off_loop(pcscd.wait_for_removal, 0)
                await name_of(card)
        pcscd.insert(2, PinCard("other"))
        assert await one_loan(pool, 60) == "other"
        with pytest.raises(ServiceUnavailableError):
            async with pool.card() as card:
                await off_loop(pcscd.kill)
                await name_of(card)
        await off_loop(pcscd.start)
        assert await one_loan(pool, 60) == "other"
        await until(lambda: pool.set_aside)
        assert bad.wrong == 1
