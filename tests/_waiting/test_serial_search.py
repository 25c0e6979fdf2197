"""Readers found by serial number, and followed to other names while somebody waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from scardface import CardTimeoutError, Disposition, Protocol, SCard, ShareMode, serial, sync
from scardface._waiting import serial_search
from scardface._waiting.driver import driver_of
from scardface.testing import SimulatedPCSC
from tests.support.cards import LogCard
from tests.support.faces import both_faces
from tests.support.waits import SEEN, threads_named, until, wait_until, waiters

pytestmark = pytest.mark.usefixtures("no_leaks")

NUMBER = 0x00010103


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader("A")
        yield simulated
        wait_until(lambda: not simulated.open_contexts)


@pytest.mark.anyio
@both_faces
async def test_a_serial_number_is_followed_to_another_name(pcsc: SimulatedPCSC, face: Any) -> None:
    """Plugged in elsewhere a reader has another name, and another reader may have the one that it had."""
    pcsc.add_reader("B", attributes={NUMBER: b"7"})
    found: list[str] = []

    async def wait() -> None:
        async with face.open(serial("7"), timeout=20, wait_for_reader=True) as card:
            found.append(card.reader)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await until(lambda: waiters(pcsc))
        pcsc.remove_reader("B")
        pcsc.add_reader("B", attributes={NUMBER: b"8"})
        pcsc.insert("B", LogCard())
        pcsc.stop_service()
        pcsc.start_service()
        pcsc.add_reader("C", attributes={NUMBER: b"7"})
        await until(lambda: [waiter.request.readers.names for waiter in waiters(pcsc)] == [{"C"}])
        pcsc.insert("C", LogCard())
    assert found == ["C"]
    await until(lambda: not driver_of(pcsc).threads() and not threads_named("scardface-serial"))


@pytest.mark.anyio
async def test_serial_numbers_that_cannot_be_asked_for_now_are_asked_for_again(pcsc: SimulatedPCSC) -> None:
    pcsc.add_reader("B", attributes={NUMBER: b"7"})
    pcsc.insert("B", LogCard())
    pcsc.inject("SCardListReaders", 0x80100006)  # NO_MEMORY
    async with SCard(serial("7"), timeout=20, wait_for_reader=True) as card:
        assert card.reader == "B"
    await until(lambda: not driver_of(pcsc).threads())


@pytest.mark.anyio
async def test_a_reader_that_somebody_has_for_himself_is_asked_once_it_is_free(pcsc: SimulatedPCSC) -> None:
    pcsc.add_reader("B", attributes={NUMBER: b"7"})
    pcsc.insert("B", LogCard())
    other = pcsc.establish()
    handle = other.connect("B", ShareMode.EXCLUSIVE, Protocol.T1)
    found: list[bytes] = []

    async def wait() -> None:
        async with SCard(serial("7"), timeout=20, wait_for_reader=True) as card:
            found.append((await card.send(b"\x00\x10\x00\x00\x01x")).data)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await until(lambda: waiters(pcsc) and driver_of(pcsc)._dispatcher._last.readers["B"].flags)
        handle.disconnect(Disposition.LEAVE)
    other.release()
    assert found == [b"x"]
    await until(lambda: not driver_of(pcsc).threads())


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("comes", ["before", "later"])
async def test_a_reader_that_is_let_go_just_after_it_was_asked_is_asked_again(
    pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch, comes: str
) -> None:
    """Whatever queries have shown of its being held: it is released after the refusal, and before the next query."""
    real, refused = serial_search.serial_numbers, 0

    def ask(*args: Any) -> dict[str, str | None]:
        nonlocal refused
        if refused or "B" not in pcsc.readers:
            return real(*args)
        wait_until(lambda: "B" in pcsc.cards)
        other = pcsc.establish()
        other.connect("B", ShareMode.EXCLUSIVE, Protocol.T1)
        known = real(*args)
        refused += known["B"] is None
        other.release()
        return known

    def plug_in() -> None:
        pcsc.add_reader("B", attributes={NUMBER: b"7"})
        pcsc.insert("B", LogCard())

    monkeypatch.setattr(serial_search, "serial_numbers", ask)
    if comes == "before":
        plug_in()

    async def wait() -> None:
        async with SCard(serial("7"), timeout=20, wait_for_reader=True) as card:
            assert (await card.send(b"\x00\x10\x00\x00\x01x")).data == b"x"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        if comes == "later":
            await until(lambda: waiters(pcsc))
            plug_in()
    assert refused
    await until(lambda: not driver_of(pcsc).threads())


@pytest.mark.slow
def test_a_search_by_serial_number_that_is_given_up_leaves_nothing(pcsc: SimulatedPCSC) -> None:
    with pytest.raises(CardTimeoutError, match="no reader"):
        sync.SCard(serial("7"), timeout=SEEN, wait_for_reader=True)
    wait_until(lambda: not driver_of(pcsc).threads() and not threads_named("scardface-serial"))
