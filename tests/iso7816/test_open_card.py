"""Exchanges of several commands: on either face, in one transaction, and what ends them."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from scardface import C_APDU, R_APDU
from scardface.iso7816._open_card import Steps, carry_out

FIRST, SECOND = C_APDU(0, 1), C_APDU(0, 2)


def both() -> Steps[list[int]]:
    first = yield FIRST
    second = yield SECOND
    return [first.sw, second.sw]


class Card:
    """A card of the sync face, without transactions."""

    def __init__(self) -> None:
        self.did: list[Any] = []

    def send(self, apdu: C_APDU) -> Any:
        self.did.append(apdu)
        return R_APDU(b"", 0x90, len(self.did))


class Exclusive(Card):
    @contextmanager
    def transaction(self) -> Any:
        self.did.append("begin")
        try:
            yield
        finally:
            self.did.append("end")


class AsyncCard(Card):
    async def send(self, apdu: C_APDU) -> Any:
        return super().send(apdu)


class AsyncExclusive(AsyncCard):
    @asynccontextmanager
    async def transaction(self) -> Any:
        self.did.append("begin")
        try:
            yield
        finally:
            self.did.append("end")


def test_on_the_sync_face() -> None:
    card = Card()
    assert carry_out(card, both()) == [0x9001, 0x9002]
    card = Exclusive()
    assert carry_out(card, both()) == [0x9002, 0x9003]
    assert card.did == ["begin", FIRST, SECOND, "end"]


@pytest.mark.anyio
async def test_on_the_async_face() -> None:
    card = AsyncCard()
    assert await carry_out(card, both()) == [0x9001, 0x9002]
    card = AsyncExclusive()
    pending = carry_out(card, both())
    assert card.did == []
    assert await pending == [0x9002, 0x9003]
    assert card.did == ["begin", FIRST, SECOND, "end"]


@pytest.mark.anyio
async def test_an_error_ends_the_transaction() -> None:
    def failing() -> Steps[None]:
        yield FIRST
        raise LookupError("no such thing")

    plain, awaited = Exclusive(), AsyncExclusive()
    with pytest.raises(LookupError):
        carry_out(plain, failing())
    with pytest.raises(LookupError):
        await carry_out(awaited, failing())
    assert plain.did == awaited.did == ["begin", FIRST, "end"]


def test_what_has_no_send_is_refused() -> None:
    with pytest.raises(TypeError, match="not int"):
        carry_out(5, both())
