"""Transactions as Windows has them: a reconnect ends one, and one that idles ends by a reset (fact 32). On the simulation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from scardface import C_APDU, CardResetError, ShareMode, errors
from scardface.testing import SimulatedPCSC
from scardface.testing._dialects import DIALECTS
from tests.support.cards import ECHO, LogCard
from tests.support.faces import both_faces, off_loop
from tests.support.simulated_program import Other
from tests.support.waits import until

pytestmark = pytest.mark.anyio

SHARED = ShareMode.SHARED
ECHOED = C_APDU(0, ECHO, 0, 0, b"ab")
IDLE = 0.2


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC("windows") as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        yield pcsc


@both_faces
@pytest.mark.parametrize("cold", [False, True])
async def test_a_reset_that_was_asked_for_goes_on(face: Any, pcsc: SimulatedPCSC, cold: bool) -> None:
    async with face.open(timeout=5, share=SHARED) as card:
        neighbour = Other(pcsc)
        async with card.transaction():
            await card.reset(cold=cold)
            assert neighbour.is_kept_out()
            assert (await card.send(ECHOED)).data == b"ab"
            assert neighbour.is_kept_out()
        assert not neighbour.is_kept_out()


@both_faces
async def test_a_reconnect_is_told_and_goes_on(face: Any, pcsc: SimulatedPCSC) -> None:
    async with face.open(timeout=5, share=SHARED) as card:
        neighbour = Other(pcsc)
        await card.reconnect()
        async with card.transaction():
            with pytest.raises(CardResetError, match="has ended the transaction"):
                await card.reconnect()
            assert neighbour.is_kept_out()
            assert (await card.send(ECHOED)).data == b"ab"
        assert not neighbour.is_kept_out()


@both_faces
async def test_a_recovery_inside_a_block_is_told_and_outside_it_is_not(face: Any, pcsc: SimulatedPCSC) -> None:
    async with face.open(timeout=5, share=SHARED, on_reset="reconnect") as card:
        neighbour = Other(pcsc)
        async with card.transaction():
            pcsc.inject("SCardTransmit", errors.RESET_CARD)
            with pytest.raises(CardResetError, match="has ended the transaction"):
                await card.send(ECHOED)
            assert neighbour.is_kept_out()
            assert (await card.send(ECHOED)).data == b"ab"
        assert not neighbour.is_kept_out()
        pcsc.inject("SCardTransmit", errors.RESET_CARD)
        assert (await card.send(ECHOED)).data == b"ab"  # whose own transaction is begun again with it
        assert not neighbour.is_kept_out()


@both_faces
async def test_a_reconnect_that_fails_leaves_no_block_unprotected(face: Any, pcsc: SimulatedPCSC) -> None:
    async with face.open(timeout=5, share=SHARED) as card:
        neighbour = Other(pcsc)
        async with card.transaction():
            pcsc.inject("SCardStatus", errors.RESET_CARD, times=20)
            with pytest.raises(CardResetError):
                await card.reconnect()
            pcsc._service._injected.clear()
            await card.transmit(bytes([0, ECHO, 0, 0]))
            assert neighbour.is_kept_out()
        assert not neighbour.is_kept_out()


@both_faces
async def test_alone_there_is_nothing_to_tell(face: Any, pcsc: SimulatedPCSC) -> None:
    async with face.open(timeout=5) as card:
        async with card.transaction():
            await card.reconnect()
            await card.reset()
            assert (await card.send(ECHOED)).data == b"ab"
        async with card.transaction():
            assert (await card.send(ECHOED)).data == b"ab"


@both_faces
async def test_a_transaction_that_idles_is_ended_by_a_reset(face: Any, pcsc: SimulatedPCSC) -> None:
    pcsc._service.dialect = pcsc._service.dialect._replace(longest_idle=IDLE)
    virtual = pcsc.cards["A"]
    assert isinstance(virtual, LogCard)
    async with face.open(timeout=5, share=SHARED) as card:
        neighbour = Other(pcsc)
        async with card.transaction():
            await until(lambda: virtual.resets)
            await until(lambda: not neighbour.is_kept_out())
            with pytest.raises(CardResetError):
                await card.send(ECHOED)
        await card.reconnect()
        async with card.transaction():
            assert (await card.send(ECHOED)).data == b"ab"
            assert neighbour.is_kept_out()
        await off_loop(neighbour.handle.reconnect, SHARED, card.protocol, 0)
        assert virtual.resets == 1


class Calls(LogCard):
    """Notes how many calls are under way in its transaction while it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.reader: Any = None
        self.under_way: list[int] = []

    def process(self, command: bytes) -> bytes:
        self.under_way.append(self.reader._calls)
        return super().process(command)


async def test_what_is_used_does_not_idle_and_pcsclite_knows_no_such_thing(anyio_backend: Any) -> None:
    assert DIALECTS["windows"].longest_idle == 5
    assert DIALECTS["pcsclite"].longest_idle == 0
    with SimulatedPCSC("windows") as pcsc:
        pcsc._service.dialect = pcsc._service.dialect._replace(longest_idle=600)
        pcsc.add_reader("A")
        virtual = Calls()
        pcsc.insert("A", virtual)
        neighbour = Other(pcsc)
        neighbour.handle.begin_transaction()
        reader = pcsc._service.find("A")
        assert reader is not None
        virtual.reader = reader
        for _ in range(4):
            before = reader._last_call
            neighbour.handle.transmit(bytes([0, ECHO, 0, 0]))
            assert reader._last_call > before
        assert virtual.under_way == [1] * 4
        neighbour.handle.end_transaction(0)
        assert reader._idle_timer is None
