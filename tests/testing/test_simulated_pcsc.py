"""scardface.testing.SimulatedPCSC: its verbs, and the public faces on top of it. What PC/SC answers: test_conformance*.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

import scardface
from scardface import (
    C_APDU,
    CardInserted,
    CardRemoved,
    CardRemovedError,
    CardTimeoutError,
    Event,
    NoReaderError,
    ReaderAdded,
    ReaderMonitor,
    ReaderRemoved,
    SCard,
    ServiceDown,
    ServiceUnavailableError,
    ServiceUp,
    WaitCancelledError,
    cancel_all,
    sync,
)
from scardface._enums import Disposition
from scardface._pcsc.backend import Backend
from scardface._pcsc.binding_choice import default_backend
from scardface.errors import NO_SMARTCARD, NOT_TRANSACTED
from scardface.testing import FileCard, SimulatedPCSC
from tests.support.conformance import Call, Card, code_of, share
from tests.support.faces import AsyncFace, SyncFace, both_faces, off_loop
from tests.support.waits import SEEN, wait_until

SELECT_MF = C_APDU(0x00, 0xA4, 0x00, 0x00, b"\x3f\x00")
BOUND = 30.0
"""Seconds that anything here may take."""

on_asyncio = pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio"], indirect=True)
"""For what takes seconds, and is the same in every event loop."""


class TestVerbs:
    def test_readers_and_cards(self) -> None:
        with SimulatedPCSC() as pcsc:
            assert (pcsc.readers, dict(pcsc.cards), pcsc.running) == ((), {}, True)
            pcsc.add_reader("A")
            pcsc.add_reader("B")
            first, second = Card(), Card()
            pcsc.insert("A", first)
            pcsc.insert(1, second)
            assert dict(pcsc.cards) == {"A": first, "B": second}
            assert pcsc.remove(0) is first
            pcsc.remove_reader(1)
            assert (pcsc.readers, dict(pcsc.cards)) == (("A",), {})

    def test_what_makes_no_sense_is_refused(self) -> None:
        with SimulatedPCSC() as pcsc:
            pcsc.add_reader("A")
            card = Card()
            pcsc.insert("A", card)
            pcsc.add_reader("B")
            for wrong, words in (
                (lambda: pcsc.add_reader("A"), "already"),
                (lambda: pcsc.add_reader(""), "no name"),
                (lambda: pcsc.add_reader("\\\\?PnP?\\Notification"), "no name"),
                (lambda: pcsc.insert("A", Card()), "already"),
                (lambda: pcsc.insert("B", card), "another reader"),
                (lambda: pcsc.insert("C", Card()), "no reader 'C'; there are A, B"),
                (lambda: pcsc.insert(2, Card()), "no reader 2; there are 2"),
                (lambda: pcsc.insert(-1, Card()), "no reader -1"),
                (lambda: pcsc.remove("B"), "no card in 'B'"),
                (lambda: pcsc.remove_reader("C"), "no reader"),
            ):
                with pytest.raises(ValueError, match=words):
                    wrong()
            with pytest.raises(ValueError, match="there are none"):
                SimulatedPCSC().remove("A")

    def test_calls_are_counted(self) -> None:
        with SimulatedPCSC() as pcsc:
            assert dict(pcsc.calls) == {}
            pcsc.establish().list_readers()
            assert dict(pcsc.calls) == {"SCardEstablishContext": 1, "SCardListReaders": 1}

    def test_blocks_nest(self) -> None:
        before = default_backend()
        with SimulatedPCSC() as outer:
            with SimulatedPCSC() as inner:
                assert default_backend() is inner
            assert default_backend() is outer
            assert outer.running
            assert not inner.running
        assert default_backend() is before

    def test_a_block_is_entered_once(self) -> None:
        with SimulatedPCSC() as pcsc, pytest.raises(RuntimeError, match="once"), pcsc:
            pass
        assert default_backend() is not pcsc

    def test_the_end_of_a_block_ends_everything(self, no_leaks: None) -> None:
        with SimulatedPCSC() as pcsc:
            pcsc.add_reader("A")
            pcsc.insert("A", card := Card())
            context, handle = pcsc.establish(), share(pcsc.establish(), "A")
            wait = Call(context.get_status_change, 10_000, [("A", 1 << 16 | 0x20)])
            assert not wait.ended()
        assert wait.code()
        assert card.log == ["on", "off"]
        assert code_of(handle.disconnect, Disposition.LEAVE)
        assert pcsc.open_contexts == 2

    @pytest.mark.parametrize("failure", [None, KeyError])
    def test_the_end_of_a_block_raises_what_a_card_kept_unless_the_block_failed(self, failure: type[Exception] | None) -> None:
        def block() -> None:
            with SimulatedPCSC() as pcsc:
                pcsc.add_reader("A")
                pcsc.insert("A", Broken())
                assert share(pcsc.establish(), "A").transmit(b"\x00\xa4\x00\x00") == b"\x6f\x00"
                if failure is not None:
                    raise failure

        with pytest.raises(failure or ZeroDivisionError):
            block()

    def test_it_is_a_backend(self) -> None:
        backend: Backend = SimulatedPCSC()
        assert backend.max_entries == 16
        assert not backend.absent_service_means_no_reader


class Broken(Card):
    """Has a mistake in it."""

    def process(self, command: bytes) -> bytes:
        raise ZeroDivisionError


@both_faces
@pytest.mark.anyio
class TestPublicFaces:
    async def test_a_card_is_waited_for_used_and_lost(self, face: AsyncFace | SyncFace, no_leaks: None) -> None:
        with SimulatedPCSC() as pcsc:
            pcsc.add_reader("A")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_later, pcsc, lambda: pcsc.insert("A", FileCard()))
                with anyio.fail_after(BOUND):
                    async with face.open(timeout=BOUND) as card:
                        assert card.reader == "A"
                        assert (await card.send(SELECT_MF)).check()
                        tasks.start_soon(_later, pcsc, lambda: pcsc.remove("A"))
                        await card.wait()
                        with pytest.raises(CardRemovedError):
                            await card.send(SELECT_MF)
            wait_until(lambda: not pcsc.open_contexts)

    async def test_a_backend_can_be_given(self, face: AsyncFace | SyncFace) -> None:
        given = SimulatedPCSC()
        given.add_reader("given")
        given.insert("given", FileCard())
        with SimulatedPCSC():
            async with face.open(timeout=BOUND, backend=given) as card:
                assert card.reader == "given"
            with pytest.raises(NoReaderError):
                async with face.open(timeout=0):
                    pass
        given.close()
        wait_until(lambda: not given.open_contexts)

    async def test_hot_plug(self, face: AsyncFace | SyncFace) -> None:
        with SimulatedPCSC() as pcsc:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_later, pcsc, lambda: (pcsc.add_reader("A"), pcsc.insert("A", FileCard())))
                with anyio.fail_after(BOUND):
                    async with face.open(pnp=True, timeout=BOUND) as card:
                        assert card.reader == "A"
                        tasks.start_soon(_later, pcsc, lambda: pcsc.remove_reader("A"))
                        await card.wait()

    @pytest.mark.slow
    async def test_time_runs_out(self, face: AsyncFace | SyncFace) -> None:
        with SimulatedPCSC() as pcsc:
            pcsc.add_reader("A")
            with pytest.raises(CardTimeoutError, match="no card"):
                async with face.open(timeout=SEEN):
                    pass
            pcsc.insert("A", FileCard())
            with pytest.raises(CardTimeoutError, match="did not match"):
                async with face.open(timeout=0, atr=rb"^\x3f"):
                    pass

    async def test_another_program_holds_the_card(self, face: AsyncFace | SyncFace) -> None:
        with SimulatedPCSC() as pcsc:
            pcsc.add_reader("A")
            pcsc.insert("A", FileCard())
            handle = share(pcsc.establish(), "A")
            pcsc.driver_polls = False  # nothing will tell of its release
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_later, pcsc, lambda: handle.disconnect(Disposition.LEAVE))
                with anyio.fail_after(BOUND):
                    async with face.open(timeout=BOUND) as card:
                        assert (await card.send(SELECT_MF)).check()

    @pytest.mark.slow
    async def test_failures_of_pcsc_come_out(self, face: AsyncFace | SyncFace) -> None:
        with SimulatedPCSC() as pcsc:
            pcsc.add_reader("A")
            pcsc.insert("A", FileCard())
            pcsc.inject("SCardConnect", NO_SMARTCARD)  # as if it had gone and come again
            async with face.open(timeout=BOUND) as card:
                pcsc.inject("SCardTransmit", NOT_TRANSACTED)
                with pytest.raises(scardface.CardCommunicationError) as caught:
                    await card.send(SELECT_MF)
                assert caught.value.code == NOT_TRANSACTED
                pcsc.stop_service()
                with pytest.raises(ServiceUnavailableError):
                    await card.send(SELECT_MF)

    async def test_a_monitor_sees_all(self, face: AsyncFace | SyncFace, no_leaks: None) -> None:
        with SimulatedPCSC() as pcsc:
            pcsc.add_reader("A")
            card = FileCard()
            steps: list[tuple[Callable[[], Any], list[Event]]] = [
                (lambda: pcsc.insert("A", card), [CardInserted("A", scardface.ATR(card.atr))]),
                (lambda: pcsc.add_reader("B"), [ReaderAdded("B")]),
                (lambda: pcsc.remove("A"), [CardRemoved("A")]),
                (lambda: pcsc.insert("B", card), [CardInserted("B", scardface.ATR(card.atr))]),
                (lambda: pcsc.remove_reader("B"), [CardRemoved("B"), ReaderRemoved("B")]),
                (pcsc.stop_service, [ServiceDown()]),
                (pcsc.start_service, [ServiceUp()]),
                (lambda: pcsc.remove_reader("A"), [ReaderRemoved("A")]),
            ]
            with anyio.fail_after(BOUND):
                async with face.monitor() as monitor:
                    assert await anext(aiter(monitor)) == ReaderAdded("A", initial=True)
                    for step, expected in steps:
                        await off_loop(step)
                        for event in expected:
                            assert await monitor.__anext__() == event
                    assert dict(monitor.state) == {}
            wait_until(lambda: not pcsc.open_contexts)


async def _later(pcsc: SimulatedPCSC, step: Callable[[], Any]) -> None:
    """Do something once the library waits."""
    before = pcsc.calls.get("SCardGetStatusChange", 0)
    while pcsc.calls.get("SCardGetStatusChange", 0) <= max(before, 1):
        await anyio.sleep(0.001)
        before = min(before, 1)
    await off_loop(step)


@pytest.mark.anyio
async def test_windows(no_leaks: None) -> None:
    """The service comes and goes with the readers; a wait with pnp=True lasts."""
    with SimulatedPCSC("windows") as pcsc:
        with pytest.raises(ServiceUnavailableError):
            async with SCard(timeout=BOUND):
                pass
        with anyio.fail_after(BOUND):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_open_and_lose, pcsc)
                while not pcsc.calls.get("SCardEstablishContext"):
                    await anyio.sleep(0.001)
                pcsc.add_reader("A")
                pcsc.insert("A", FileCard())
        wait_until(lambda: not pcsc.open_contexts)


@pytest.mark.slow
@on_asyncio
@pytest.mark.anyio
async def test_macos(no_leaks: None) -> None:
    """Without a plug-and-play entry the list is looked at once a second; counters that stay 0 are lived with."""
    with SimulatedPCSC("macos") as pcsc, anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_open_and_lose, pcsc)
            while not pcsc.calls.get("SCardGetStatusChange"):
                await anyio.sleep(0.001)
            pcsc.add_reader("A")
            pcsc.insert("A", FileCard())
        async with ReaderMonitor() as monitor:
            pcsc.add_reader("B")
            assert await monitor.__anext__() == ReaderAdded("B")
            card = FileCard()
            pcsc.insert("B", card)
            assert await monitor.__anext__() == CardInserted("B", scardface.ATR(card.atr))
            pcsc.remove("B")
            assert await monitor.__anext__() == CardRemoved("B")
    wait_until(lambda: not pcsc.open_contexts)


async def _open_and_lose(pcsc: SimulatedPCSC) -> None:
    async with SCard(pnp=True, timeout=BOUND) as card:
        assert (await card.send(SELECT_MF)).check()
        pcsc.remove_reader("A")
        try:
            await card.wait()
        except ServiceUnavailableError:
            assert pcsc.absent_service_means_no_reader


def test_plain_functions() -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", FileCard())
        assert sync.readers() == ("A",)
        assert sync.groups() == ("SCard$DefaultReaders",)
        assert sync.states()["A"].present
    wait_until(lambda: not pcsc.open_contexts)


@pytest.mark.slow
def test_a_thousand_readers_and_ten_thousand_waiting_cards(no_leaks: None) -> None:
    """The first come are served first; the others go on waiting until they are cancelled."""
    anyio.run(
        _ten_thousand_wait
    )  # not in the test's own loop: collecting ten thousand tasks stops it longer than the loop watch likes


async def _ten_thousand_wait() -> None:
    waiting, served = 10_000, 20
    opened: list[int] = []
    ended = 0
    all_served = anyio.Event()

    async def wait(number: int) -> None:
        nonlocal ended
        try:
            async with SCard() as card:
                opened.append(number)
                if len(opened) == served:
                    all_served.set()
                await card.wait()
        except WaitCancelledError:
            ended += 1

    with SimulatedPCSC(max_readers=1001) as pcsc:
        for number in range(1000):
            pcsc.add_reader(f"Reader {number}")
        async with anyio.create_task_group() as tasks:
            for number in range(waiting):
                tasks.start_soon(wait, number)
            while pcsc.calls.get("SCardGetStatusChange", 0) < 2:
                await anyio.sleep(0.01)
            for number in range(served):
                pcsc.insert(number * 50, FileCard())
            await all_served.wait()
            await off_loop(cancel_all)
        assert ended == waiting
        wait_until(lambda: not pcsc.open_contexts)
    assert sorted(opened[:served]) == list(range(served))  # others may follow while the first are being cancelled
