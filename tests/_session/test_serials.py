"""Readers by their serial number: by name, by asking, and through SCard on both faces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from scardface import Attribute, NoReaderError, ReaderMonitor, SCard, ServiceUnavailableError, ShareMode, errors, serial
from scardface._session.serials import serial_numbers
from scardface.testing import SimulatedPCSC
from tests.support.cards import LogCard
from tests.support.faces import both_faces
from tests.support.waits import wait_until

NUMBER = Attribute.VENDOR_IFD_SERIAL_NO
LIKE_PCSCLITE = "ACME Reader [CCID Interface] (55A1) 00 00"


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader("Reader 0", attributes={NUMBER: b"5C01\0"})
        simulated.add_reader("Reader 1", attributes={NUMBER: b"5C02\0"})
        simulated.add_reader("Reader 2")
        simulated.add_reader(LIKE_PCSCLITE)
        yield simulated
        wait_until(lambda: not simulated.open_contexts)


def readers_with(number: str, pcsc: SimulatedPCSC, told: dict[str, str]) -> set[str]:
    return {name for name, its in serial_numbers(pcsc, told).items() if its == number}


@pytest.mark.parametrize(
    ("number", "names"),
    [("5C01", {"Reader 0"}), ("5C02", {"Reader 1"}), ("55A1", {LIKE_PCSCLITE}), ("5C", set()), ("", {"Reader 2"})],
)
def test_who_has_it(pcsc: SimulatedPCSC, number: str, names: set[str]) -> None:
    assert readers_with(number, pcsc, {}) == names


def test_a_name_that_tells_is_not_asked(pcsc: SimulatedPCSC) -> None:
    before = pcsc.calls.get("SCardConnect", 0)
    readers_with("55A1", pcsc, {})
    assert pcsc.calls["SCardConnect"] - before == 3


@both_faces
@pytest.mark.anyio
async def test_a_card_in_the_reader_of_that_number(pcsc: SimulatedPCSC, face: Any) -> None:
    for reader in range(4):
        pcsc.insert(reader, LogCard())
    async with face.open(serial("5C02"), timeout=30) as card:
        assert card.reader == "Reader 1"
        assert await card.attribute(NUMBER) == "5C02"
        with pytest.raises(Exception, match="no matching card") as caught:  # held, and it said who it is before
            async with face.open(serial("5C02"), timeout=0):
                pytest.fail("it is held")
        assert caught.value.code == errors.TIMEOUT


@both_faces
@pytest.mark.anyio
async def test_no_reader_of_that_number(pcsc: SimulatedPCSC, face: Any) -> None:
    with pytest.raises(NoReaderError, match="none of the readers asked for"):
        async with face.open(serial("5C03"), timeout=30):
            pytest.fail("there is none")


@pytest.mark.anyio
async def test_a_cancel_while_readers_are_asked(pcsc: SimulatedPCSC, anyio_backend: Any) -> None:
    card = SCard(serial("5C03"), timeout=30)
    pcsc.inject("SCardConnect", errors.SHARING_VIOLATION)
    card.cancel()
    with pytest.raises(errors.WaitCancelledError):
        await card


def test_a_reader_that_cannot_be_asked_has_none(pcsc: SimulatedPCSC) -> None:
    told: dict[str, str] = {}
    pcsc.inject("SCardConnect", errors.SHARING_VIOLATION)
    assert readers_with("5C01", pcsc, told) == set()
    assert readers_with("5C01", pcsc, told) == {"Reader 0"}
    pcsc.inject("SCardConnect", errors.SHARING_VIOLATION)
    assert readers_with("5C01", pcsc, told) == {"Reader 0"}  # what it said last time
    pcsc.inject("SCardConnect", errors.READER_UNAVAILABLE)
    assert readers_with("5C01", pcsc, told) == set()


def test_a_service_that_is_lost_meanwhile_is_no_reader_without_a_number(pcsc: SimulatedPCSC) -> None:
    pcsc.inject("SCardConnect", errors.NO_SERVICE)
    with pytest.raises(ServiceUnavailableError):
        serial_numbers(pcsc, {})


@pytest.mark.slow
@both_faces
@pytest.mark.anyio
async def test_a_service_that_is_lost_once_ends_no_search(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert("Reader 1", LogCard())
    pcsc.inject("SCardConnect", errors.NO_SERVICE, 2)
    async with face.open(serial("5C02"), timeout=30, wait_for_reader=True) as card:
        assert card.reader == "Reader 1"


def test_where_a_release_is_no_disconnect() -> None:
    with SimulatedPCSC("windows") as pcsc:
        pcsc.add_reader("A", attributes={NUMBER: b"1"})
        assert readers_with("1", pcsc, {}) == {"A"}
        assert pcsc.calls["SCardDisconnect"] == 1


def test_what_is_no_serial_number() -> None:
    for wrong in (5, None, b"5"):
        with pytest.raises(TypeError, match="serial number"):
            serial(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="serial number"):
        serial("")
    with pytest.raises(TypeError, match="monitor"):
        ReaderMonitor(serial("1"))  # type: ignore[arg-type]
    assert serial("5") == serial("5") != serial("6")


def test_the_share_mode_of_the_card_is_no_matter(pcsc: SimulatedPCSC) -> None:
    """Somebody who shares a card does not keep the reader from being asked."""
    from scardface import sync

    pcsc.insert(0, LogCard())
    with sync.SCard("Reader 0", timeout=30, share=ShareMode.SHARED):
        assert readers_with("5C01", pcsc, {}) == {"Reader 0"}
