"""The coroutines that look once."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import anyio
import pytest

import scardface
from scardface.testing import FileCard
from tests.support.freezing import freeze

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd


@pytest.mark.anyio
async def test_readers_are_listed_in_order(pcscd: PrivatePcscd) -> None:
    assert await scardface.readers() == pcscd.readers


@pytest.mark.anyio
@pytest.mark.usefixtures("pcscd")
async def test_groups_are_listed() -> None:
    assert await scardface.groups() == ("SCard$DefaultReaders",)


@pytest.mark.anyio
async def test_states_are_one_look(pcscd: PrivatePcscd) -> None:
    card = FileCard()
    pcscd.insert(2, card)
    await anyio.to_thread.run_sync(pcscd.wait_for_card, 2)
    states = await scardface.states()
    assert tuple(states) == pcscd.readers
    assert [state.present for state in states.values()] == [False, False, True, False]
    assert states[pcscd.readers[2]].atr == card.atr


@pytest.mark.anyio
async def test_without_a_service_they_say_so(pcscd: PrivatePcscd) -> None:
    await anyio.to_thread.run_sync(pcscd.stop)
    for look in (scardface.readers, scardface.groups, scardface.states):
        with pytest.raises(scardface.ServiceUnavailableError):
            await look()


@pytest.mark.anyio
async def test_a_service_that_is_frozen(pcscd: PrivatePcscd) -> None:
    freeze(pcscd.pid)
    try:
        for look in (scardface.readers, scardface.groups, scardface.states):
            with pytest.raises(scardface.ServiceUnavailableError, match=r"did not answer within 0\.2 s"):
                await look(timeout=0.2)
        with anyio.move_on_after(0.2) as scope:
            await scardface.readers(timeout=60)
        assert scope.cancelled_caught, "whoever cancels it is heard"
    finally:
        os.kill(pcscd.pid, signal.SIGCONT)
    assert await scardface.readers() == pcscd.readers
