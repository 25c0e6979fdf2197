"""`while_present`, and `send` with a timeout: both faces, the simulation and the real pcscd."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import scardface
from scardface import (
    C_APDU,
    R_APDU,
    CardRemovedError,
    CardTimeoutError,
    SCardError,
    ServiceUnavailableError,
    ShareMode,
    WaitCancelledError,
    sync,
)
from scardface._waiting.driver import Driver
from scardface.errors import REMOVED_CARD
from scardface.replay import Recorder
from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support.cards import BOTH, ECHO, GATE, NOT_FOUND, LogCard
from tests.support.faces import both_faces, off_loop
from tests.support.waits import SEEN

pytestmark = pytest.mark.anyio
# ruff: noqa: PT012  # what a block raises is the block's, with all that is in it

ECHOED, GATED, MISSING = C_APDU(0, ECHO, 0, 0, b"ab"), C_APDU(0, GATE), C_APDU(0, NOT_FOUND)


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("Reader")
        yield pcsc


@pytest.fixture
def card(pcsc: SimulatedPCSC) -> Iterator[LogCard]:
    card = LogCard(BOTH)
    pcsc.insert("Reader", card)
    yield card
    card.gate.set()


# A send with a timeout.


@both_faces
async def test_the_command_in_flight_ends_and_no_other_goes_out_on_pcscd(pcscd: PrivatePcscd, face: Any) -> None:
    card = LogCard(BOTH)
    pcscd.insert(0, card)
    async with face.open(timeout=30) as open_card:
        with pytest.raises(CardTimeoutError, match=rf"did not answer within {SEEN:g} s") as caught:
            await open_card.send(GATED, ECHOED, timeout=SEEN)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.reader == open_card.reader
        async with anyio.create_task_group() as tasks:
            answered: list[R_APDU] = []

            async def next_one() -> None:
                answered.append(await open_card.send(ECHOED))

            tasks.start_soon(next_one)
            await anyio.sleep(0.1)
            assert not answered
            card.gate.set()
        assert answered[0].data == b"ab"
        assert [command[1] for command in card.commands] == [GATE, ECHO]


@both_faces
@pytest.mark.parametrize("share", [ShareMode.EXCLUSIVE, ShareMode.SHARED])
async def test_a_send_in_time_is_as_without(card: LogCard, face: Any, share: ShareMode) -> None:
    seen: list[int] = []
    async with face.open(timeout=5, share=share) as open_card:
        assert (await open_card.send(ECHOED, timeout=60)).data == b"ab"
        assert (await open_card.send(ECHOED, timeout=None)).data == b"ab"
        assert (await open_card.send(ECHOED, timeout=-1)).data == b"ab"
        assert (await open_card.send(ECHOED, MISSING, ECHOED, timeout=60)).sw == 0x6A82
        responses = await open_card.send_all(ECHOED, MISSING, ECHOED, timeout=60, stop=False)
        assert [each.sw for each in responses] == [0x9000, 0x6A82, 0x9000]
        await open_card.send(ECHOED, MISSING, ECHOED, timeout=60, callback=lambda _, response: seen.append(response.sw))
        assert seen == [0x9000, 0x6A82]
        async with open_card.transaction():
            assert (await open_card.send(ECHOED, timeout=60)).data == b"ab"


@pytest.mark.slow
@both_faces
async def test_a_callback_sees_what_was_answered_in_time(card: LogCard, face: Any) -> None:
    seen: list[int] = []
    async with face.open(timeout=5) as open_card:
        with pytest.raises(CardTimeoutError):
            await open_card.send(ECHOED, GATED, ECHOED, timeout=SEEN, callback=lambda command, _: seen.append(command.ins))
        assert seen == [ECHO]
        card.gate.set()
        assert (await open_card.send(ECHOED)).data == b"ab"
        assert [command[1] for command in card.commands] == [ECHO, GATE, ECHO]


@both_faces
async def test_a_send_all_and_the_routes_take_one(card: LogCard, face: Any) -> None:
    class Plain:
        def wrap(self, command: C_APDU) -> C_APDU:
            return command

        def unwrap(self, response: R_APDU) -> R_APDU:
            return response

    async with face.open(timeout=5) as open_card:
        layered = open_card.layer(Plain())
        assert (await layered.send(ECHOED, timeout=60)).data == b"ab"
        with pytest.raises(CardTimeoutError):
            await layered.send_all(GATED, ECHOED, timeout=0.2)
        card.gate.set()
        card.gate.clear()
        with pytest.raises(CardTimeoutError):
            await open_card.send_all(GATED, ECHOED, timeout=0.2)
        card.gate.set()
        assert (await open_card.send(ECHOED)).data == b"ab"


@both_faces
@pytest.mark.parametrize("timeout", ["1", True, -2, float("nan")])
async def test_no_number_is_refused_before_anything_is_sent(card: LogCard, face: Any, timeout: Any) -> None:
    async with face.open(timeout=5) as open_card:
        with pytest.raises((TypeError, ValueError), match="timeout"):
            await open_card.send(ECHOED, timeout=timeout)
        assert not card.commands


@both_faces
async def test_no_time_sends_nothing_and_says_so(card: LogCard, face: Any) -> None:
    async with face.open(timeout=5) as open_card:
        with pytest.raises(CardTimeoutError, match="within 0 s, and nothing was sent"):
            await open_card.send(ECHOED, timeout=0)
        assert not card.commands


@both_faces
async def test_its_turn_counts(card: LogCard, face: Any) -> None:
    """Another task or thread has the card."""
    async with face.open(timeout=5) as open_card, anyio.create_task_group() as tasks:
        tasks.start_soon(open_card.send, GATED)
        await off_loop(card.reached.wait, 10)
        with pytest.raises(CardTimeoutError, match=r"not free for this call within 0\.2 s, and nothing was sent"):
            await open_card.send(ECHOED, timeout=0.2)
        card.gate.set()
    assert [command[1] for command in card.commands] == [GATE]


@both_faces
async def test_a_card_that_goes_is_told_as_ever(pcsc: SimulatedPCSC, card: LogCard, face: Any) -> None:
    async with face.open(timeout=5) as open_card:
        await open_card.send(ECHOED)
        pcsc.inject("SCardTransmit", REMOVED_CARD)
        with pytest.raises(CardRemovedError) as caught:
            await open_card.send(ECHOED, ECHOED, timeout=60)
        assert caught.value.answered == 0


def test_a_callback_cannot_use_the_card(card: LogCard) -> None:
    with sync.SCard(timeout=5) as open_card:
        with pytest.raises(RuntimeError, match="inside its own callback"):
            open_card.send(ECHOED, timeout=60, callback=lambda *_: open_card.send(ECHOED))
        with pytest.raises(RuntimeError, match="inside its own callback"):
            open_card.send(ECHOED, timeout=60, callback=lambda *_: open_card.send(ECHOED, timeout=60))
        assert open_card.send(ECHOED).data == b"ab"


def test_a_close_by_another_thread_ends_behind_it(card: LogCard) -> None:
    outcomes: list[Any] = []
    with sync.SCard(timeout=5) as open_card:

        def send() -> None:
            try:
                outcomes.append(open_card.send(GATED, timeout=60).sw)
            except RuntimeError as error:
                outcomes.append(error)

        sender = threading.Thread(target=send)
        sender.start()
        assert card.reached.wait(10)
        closer = threading.Thread(target=open_card.close)
        closer.start()
        card.gate.set()
        closer.join(10)
        sender.join(10)
    assert outcomes == [0x9000]
    with pytest.raises(RuntimeError, match="the card is closed"):
        open_card.send(ECHOED, timeout=60)


@pytest.mark.slow
def test_a_close_that_comes_first_is_told(card: LogCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look whether the card is open, and the job for its thread."""
    open_card = sync.SCard(timeout=5)
    prepare = open_card._require_session().prepare

    def close_first(*args: Any) -> Any:
        batch = prepare(*args)
        thread = threading.Thread(target=open_card.close)
        thread.start()
        thread.join(10)
        return batch

    monkeypatch.setattr(open_card._require_session(), "prepare", close_first)
    with pytest.raises(RuntimeError, match="the card is closed"):
        open_card.send(ECHOED, timeout=60)


@pytest.mark.slow
def test_a_transaction_of_a_dead_thread_is_told(card: LogCard) -> None:
    with sync.SCard(timeout=5) as open_card:
        block = open_card.transaction()
        thread = threading.Thread(target=block.__enter__)
        thread.start()
        thread.join(10)
        with pytest.raises(RuntimeError, match="has ended without ending it"):
            open_card.send(ECHOED, timeout=60)


def test_a_transaction_of_another_thread_counts(card: LogCard) -> None:
    inside, leave = threading.Event(), threading.Event()
    with sync.SCard(timeout=5) as open_card:

        def hold() -> None:
            with open_card.transaction():
                inside.set()
                leave.wait(10)

        thread = threading.Thread(target=hold)
        thread.start()
        assert inside.wait(10)
        with pytest.raises(CardTimeoutError):
            open_card.send(ECHOED, timeout=0.2)
        leave.set()
        thread.join(10)
        assert open_card.send(ECHOED, timeout=60).data == b"ab"
        assert [command[1] for command in card.commands] == [ECHO]


@pytest.mark.slow
@both_faces
async def test_a_recorder_takes_one(card: LogCard, face: Any, tmp_path: Path) -> None:
    async with face.open(timeout=5) as open_card:
        with Recorder(getattr(open_card, "card", open_card), tmp_path / "session.cassette") as recorder:

            async def call(method: Any, *apdus: C_APDU, **kwargs: Any) -> Any:
                return await method(*apdus, **kwargs) if face.name == "async" else await off_loop(method, *apdus, **kwargs)

            assert (await call(recorder.send, ECHOED, timeout=60)).data == b"ab"
            with pytest.raises(CardTimeoutError):
                await call(recorder.send_all, ECHOED, GATED, timeout=SEEN)
            card.gate.set()
            assert (await call(recorder.send, ECHOED, timeout=None)).data == b"ab"


# While the card is there.


async def test_a_body_is_cancelled_when_the_card_leaves_on_pcscd(pcscd: PrivatePcscd) -> None:
    pcscd.insert(0, LogCard(BOTH))
    async with scardface.SCard(timeout=30) as card:
        with anyio.fail_after(30):
            with pytest.raises(CardRemovedError, match="was removed") as caught:
                async with card.while_present():
                    assert (await card.send(ECHOED)).data == b"ab"
                    await off_loop(pcscd.remove, 0)
                    await anyio.sleep_forever()
        assert caught.value.reader == card.reader
        with pytest.raises(CardRemovedError):
            async with card.while_present():
                await anyio.sleep_forever()


async def test_a_card_that_stays_disturbs_nothing(pcsc: SimulatedPCSC, card: LogCard) -> None:
    async with scardface.SCard(timeout=5) as open_card:
        async with open_card.while_present(), open_card.while_present():
            assert (await open_card.send(ECHOED)).data == b"ab"
        with pytest.raises(LookupError, match="of the body"):
            async with open_card.while_present():
                raise LookupError("of the body")
        with anyio.move_on_after(0.05) as scope:
            async with open_card.while_present():
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert (await open_card.send(ECHOED)).data == b"ab"


async def test_a_body_that_has_done_its_work_is_told_too(pcsc: SimulatedPCSC, card: LogCard) -> None:
    done = False
    async with scardface.SCard(timeout=5) as open_card:
        with pytest.raises(CardRemovedError):
            async with open_card.while_present():
                with anyio.CancelScope(shield=True):
                    await off_loop(pcsc.remove, "Reader")
                    while not open_card._removals[0].ended:
                        await anyio.sleep(0.01)
                done = True
    assert done


async def test_cancel_and_close_end_the_block(pcsc: SimulatedPCSC, card: LogCard) -> None:
    async with scardface.SCard(timeout=5) as open_card:
        with pytest.raises(WaitCancelledError):
            async with open_card.while_present():
                open_card.cancel()
                await anyio.sleep_forever()
    async with scardface.SCard(timeout=5) as open_card:
        with pytest.raises(WaitCancelledError):
            async with open_card.while_present():
                await open_card.aclose()
                await anyio.sleep_forever()
    with pytest.raises(RuntimeError, match="closed"):
        async with open_card.while_present():
            pass


async def test_a_service_that_goes_ends_the_block(pcsc: SimulatedPCSC, card: LogCard) -> None:
    async with scardface.SCard(timeout=5) as open_card:
        with pytest.raises(ServiceUnavailableError):
            async with open_card.while_present():
                await off_loop(pcsc.stop_service)
                await anyio.sleep_forever()
    await off_loop(pcsc.start_service)


def test_a_block_that_is_thrown_away_leaves_nothing(pcsc: SimulatedPCSC, card: LogCard) -> None:
    """Its loop ends with the task in the block."""

    async def use() -> Any:
        open_card = await scardface.SCard(timeout=5)

        async def body() -> None:
            async with open_card.while_present():
                entered.set()
                await Forever()

        entered = asyncio.Event()
        coroutine = body()
        task = asyncio.create_task(coroutine)
        await entered.wait()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        return open_card, coroutine, task

    loop = asyncio.new_event_loop()
    open_card, coroutine, _ = loop.run_until_complete(use())
    loop.close()
    coroutine.close()
    assert not open_card._removals
    open_card._hand_over_close(None, lambda error: None)
    open_card._worker.thread.join(10)


class Forever:
    """Awaited for ever, and not cancelled."""

    def __await__(self) -> Any:
        while True:
            yield


def test_in_a_script_waits_and_sends_end(pcsc: SimulatedPCSC, card: LogCard) -> None:
    pcsc.add_reader("Other")
    with sync.SCard("Reader", timeout=5) as open_card:
        timer = threading.Timer(0.1, pcsc.remove, ["Reader"])
        timer.start()
        with pytest.raises(CardRemovedError, match="was removed"), open_card.while_present():
            sync.SCard("Other", timeout=60)
        timer.join()
        with pytest.raises(SCardError), open_card.while_present():
            open_card.send(ECHOED)


def test_in_a_script_a_card_that_stays_disturbs_nothing(pcsc: SimulatedPCSC, card: LogCard) -> None:
    with sync.SCard(timeout=5) as open_card:
        with open_card.while_present():
            assert open_card.send(ECHOED).data == b"ab"
        with pytest.raises(LookupError), open_card.while_present():
            raise LookupError
        with pytest.raises(WaitCancelledError), open_card.while_present():
            open_card.cancel()
            open_card.wait()
        assert open_card.send(ECHOED).data == b"ab"


def test_a_driver_that_hears_at_once_that_the_block_was_left_takes_it_for_no_removal(
    card: LogCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves the wait as the thread does, which may take its next step later."""
    monkeypatch.setattr(Driver, "leaving", lambda _, wait: wait.leave)
    with sync.SCard(timeout=30) as open_card:
        for _ in range(2):
            with open_card.while_present():
                assert open_card.send(ECHOED).data == b"ab"


def test_in_a_script_the_end_of_the_block_tells(pcscd: PrivatePcscd) -> None:
    pcscd.insert(0, LogCard(BOTH))
    with sync.SCard(timeout=30) as open_card, pytest.raises(CardRemovedError), open_card.while_present():
        pcscd.remove(0)
        end = time.monotonic() + 30
        with sync.ReaderMonitor() as monitor:
            while time.monotonic() < end:
                monitor.next(timeout=1)
