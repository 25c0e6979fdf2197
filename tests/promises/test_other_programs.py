"""The promise: other programs at the same card are waited for, told apart and survived: those that hold it, share it, keep it in a
transaction, reset it, and those who take the card away in the middle of a batch or put another one under an old handle.

Proved here, on a real pcscd: opensc-tool and scdaemon beside an open card and a waiting one; what a reset leaves, with
`reconnect` and with `on_reset="reconnect"`; removal in a batch; the old handle. Proved elsewhere: shared and exclusive holders
and a blocked connect (test_scard.py), what is tried again (_waiting/test_dispatcher.py), reconnecting as such (test_connect.py).
"""

from __future__ import annotations

import logging
import time
from typing import Any

import anyio
import pytest

from scardface import C_APDU, CardRemovedError, CardResetError, CardTimeoutError, SCard, ShareMode
from scardface.testing import PrivatePcscd
from tests.support.cards import ECHO, LogCard
from tests.support.faces import BACKENDS, both_faces, off_loop
from tests.support.foreign import RESET, SHARED, Foreign
from tests.support.neighbours import OpenPgpCard, opensc_tool, scdaemon
from tests.support.waits import until, waiters

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]
on_asyncio = pytest.mark.parametrize("anyio_backend", [BACKENDS["asyncio"]], ids=["asyncio"], indirect=True)
"""For what takes its time, and is the same in every event loop."""

SAY = C_APDU(0, ECHO, 0, 0, b"x")
SEND = ("--send-apdu", "00:10:00:00:01:78")


LEAVE = 0x50
"""An instruction on which the card is taken out."""


class Leaving(LogCard):
    """Is taken out in the middle of an exchange."""

    def __init__(self, pcscd: PrivatePcscd) -> None:
        super().__init__()
        self._pcscd = pcscd

    def process(self, command: bytes) -> bytes:
        if command[1] == LEAVE:
            self._pcscd.remove(0)
        return super().process(command)


async def put(pcscd: PrivatePcscd, card: LogCard | None = None) -> LogCard:
    """Put a card into the first reader, so that PC/SC knows it."""
    card = card or LogCard()
    await off_loop(pcscd.insert, 0, card)
    await off_loop(pcscd.wait_for_card, 0)
    return card


@on_asyncio
async def test_opensc_tool_beside_an_exclusive_card(pcscd: PrivatePcscd) -> None:
    """It is turned away, and nothing of it reaches our card."""
    card = await put(pcscd)
    async with SCard(timeout=30) as ours:
        refused = await off_loop(opensc_tool, *SEND)
        assert refused.returncode != 0
        assert "in use" in refused.stderr
        assert (await ours.send(SAY)).data == b"x"
    assert len(card.commands) == 1
    assert (await off_loop(opensc_tool, *SEND)).returncode == 0  # once we have closed


@on_asyncio
async def test_opensc_tool_beside_a_shared_card(pcscd: PrivatePcscd) -> None:
    """Both use it; its reset is told, and after `reconnect` the card works again."""
    card = await put(pcscd)
    async with SCard(timeout=30, share=ShareMode.SHARED) as ours:
        assert "78" in (await off_loop(opensc_tool, *SEND)).stdout
        assert (await ours.send(SAY)).data == b"x"
        powered = card.power_ons
        assert (await off_loop(opensc_tool, "--reset")).returncode == 0
        assert card.power_ons == powered + 1
        for _ in range(2):  # until it is reconnected
            with pytest.raises(CardResetError):
                await ours.send(SAY)
        await ours.reconnect()
        assert (await ours.send(SAY)).data == b"x"


@on_asyncio
async def test_opensc_tool_again_and_again_beside_a_card_that_reconnects(pcscd: PrivatePcscd) -> None:
    """A caller who says that the card's state does not matter gets no error after a reset."""
    card = await put(pcscd)
    async with SCard(timeout=30, share=ShareMode.SHARED, on_reset="reconnect") as ours:
        powered = card.power_ons
        for _ in range(3):
            assert (await off_loop(opensc_tool, "--reset")).returncode == 0
            assert (await ours.send(SAY, SAY)).data == b"x"
        assert card.power_ons == powered + 3


@on_asyncio
async def test_scdaemon_holds_the_card(
    pcscd: PrivatePcscd, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens the card EXCLUSIVE and keeps it. It is named, waited for, and has the card for as long as it wants."""
    await put(pcscd, OpenPgpCard())
    caplog.set_level(logging.WARNING, "scardface")
    monkeypatch.setattr("scardface._pcsc.other_programs._MAX_NAMED", 10_000)  # this machine may have many programs with PC/SC
    with scdaemon() as program:
        assert (await off_loop(program.ask, "SERIALNO"))[-1] == "OK"
        for share in (ShareMode.SHARED, ShareMode.EXCLUSIVE):
            with pytest.raises(CardTimeoutError, match="held by another program"):
                await SCard(timeout=2, share=share)
        assert f"scdaemon (pid {program.pid})" in caplog.text

        async def end() -> None:
            await until(waiters)
            await off_loop(program.end)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end)
            async with SCard(timeout=10) as ours:
                assert (await ours.send(SAY)).data == b"x"
                with scdaemon() as late:  # now it is its turn to be refused
                    assert (await off_loop(late.ask, "SERIALNO"))[-1].startswith("ERR")
                assert (await ours.send(SAY)).data == b"x"


@both_faces
async def test_a_reset_under_our_feet(pcscd: PrivatePcscd, face: Any, foreign: Foreign) -> None:
    """The next call is told, each call until `reconnect` is; the card is the same one then, without what was selected."""
    card = await put(pcscd)
    async with face.open(timeout=30, share=ShareMode.SHARED) as ours:
        await off_loop(foreign.connect, pcscd.readers[0], SHARED)
        await off_loop(foreign.reconnect, RESET)
        with pytest.raises(CardResetError) as told:
            await ours.send(SAY, SAY)
        assert (told.value.code, told.value.call, told.value.reader) == (0x80100068, "SCardBeginTransaction", pcscd.readers[0])
        with pytest.raises(CardResetError):
            await ours.transmit(bytes(SAY))
        assert not card.commands
        await ours.reconnect()
        assert (await ours.send(SAY)).data == b"x"
        assert (ours.reader, ours.atr) == (pcscd.readers[0], card.atr)


@both_faces
async def test_resets_in_the_middle_of_a_batch(pcscd: PrivatePcscd, face: Any, foreign: Foreign) -> None:
    """`on_reset="reconnect"`: every command arrives once, in order, however often the card is reset in between."""
    card = await put(pcscd)
    await off_loop(foreign.connect, pcscd.readers[0], SHARED)
    batch = [C_APDU(0, ECHO, 0, number) for number in range(5)]
    async with face.open(timeout=30, share=ShareMode.SHARED, on_reset="reconnect") as ours:
        for command in batch:
            await off_loop(foreign.reconnect, RESET)
            await ours.send(command)
    assert card.commands == [bytes(command) for command in batch]
    assert card.resets == len(batch)


@both_faces
async def test_a_removal_in_the_middle_of_a_batch(pcscd: PrivatePcscd, face: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how many commands were answered; of the next one nobody knows whether the card did it."""
    monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 30_000)  # a busy pcscd notices it later than after 400 ms
    await put(pcscd, Leaving(pcscd))
    batch = [C_APDU(0, ECHO), C_APDU(0, ECHO), C_APDU(0, LEAVE), C_APDU(0, ECHO)]
    async with face.open(timeout=30) as ours:
        with pytest.raises(CardRemovedError) as told:
            await ours.send(*batch)
        assert (told.value.answered, told.value.reader) == (2, pcscd.readers[0])
        with pytest.raises(CardRemovedError) as told:
            await ours.send(*batch)
        assert told.value.answered == 0


@both_faces
async def test_a_card_put_back_under_an_old_handle(pcscd: PrivatePcscd, face: Any) -> None:
    """The same piece of plastic, but another session: the old one says so for good, and nothing is sent to the card."""
    card = await put(pcscd)
    async with face.open(timeout=30) as ours:
        await ours.send(SAY)
        card.commands.clear()
        await off_loop(pcscd.remove, 0)
        await off_loop(pcscd.wait_for_removal, 0)
        await put(pcscd, card)
        for call in (ours.send(SAY), ours.transmit(bytes(SAY)), ours.reconnect(), ours.send(SAY)):
            with pytest.raises(CardRemovedError):
                await call
        await ours.wait()  # at once
        assert not card.commands
    async with face.open(timeout=30) as ours:
        await ours.send(SAY)


@both_faces
async def test_a_reconnect_takes_no_other_card(pcscd: PrivatePcscd, face: Any) -> None:
    """PC/SC's own would (fact 34): it attaches to what is in the reader by then."""
    card = await put(pcscd)
    async with face.open(timeout=30, share=ShareMode.SHARED, on_reset="reconnect") as ours:
        await off_loop(pcscd.remove, 0)
        await off_loop(pcscd.wait_for_removal, 0)
        await put(pcscd, card)
        for _ in range(2):
            with pytest.raises(CardRemovedError):
                await ours.reconnect()
        with pytest.raises(CardRemovedError):
            await ours.send(SAY)
        assert not card.commands


@on_asyncio
async def test_a_transaction_of_some_time(pcscd: PrivatePcscd, foreign: Foreign) -> None:
    """A command waits for its end."""
    await put(pcscd)
    async with SCard(timeout=30, share=ShareMode.SHARED) as ours:
        await off_loop(foreign.connect, pcscd.readers[0], SHARED)
        await off_loop(foreign.begin)
        ended = 0.0
        async with anyio.create_task_group() as tasks:

            async def end() -> None:
                nonlocal ended
                await anyio.sleep(0.3)
                ended = time.monotonic()
                await off_loop(foreign.end)

            tasks.start_soon(end)
            assert (await ours.send(SAY)).data == b"x"
            assert 0 < ended < time.monotonic()
