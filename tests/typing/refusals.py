"""Mistakes that type checkers must find before anybody runs them; never run.

Each line with a mistake says which error mypy has for it. A mistake that is no longer found is an unused `type: ignore`, which
`mypy --strict` and pyright (as told below) report. Checked in the same places as usage.py.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from scardface import C_APDU, Attribute, CardInserted, Protocol, ReaderMonitor, SCard, ShareMode, scp03, sync
from scardface.replay import Recorder
from scardface.testing import VirtualCard

SELECT = C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xf0SCARDFACE", 256)


class NoLayer:
    """Has half of what a layer has."""

    def wrap(self, command: C_APDU) -> C_APDU:
        return command


async def arguments() -> None:
    SCard(timeout="30")  # type: ignore[arg-type]
    SCard(atr="^\x3b")  # type: ignore[arg-type]
    SCard(share="exclusive")  # type: ignore[arg-type]
    SCard(protocols=ShareMode.SHARED)  # type: ignore[arg-type]
    SCard(on_reset="ignore")  # type: ignore[arg-type]
    SCard(["Reader"], [], 30, None, False, ShareMode.SHARED)  # type: ignore[call-arg]
    SCard(reader="Reader")  # type: ignore[call-arg]
    SCard(match=lambda card: True)  # type: ignore[arg-type, return-value]
    SCard(success=0x9000)  # type: ignore[arg-type]
    SCard(success=[0x9000])  # type: ignore[list-item]
    C_APDU(0x00, 0xA4, 0x04, 0x00, "F0")  # type: ignore[arg-type]


async def forgotten_await() -> None:
    with SCard() as card:  # type: ignore[attr-defined]
        pass
    async with SCard() as card:
        card.send(SELECT).check()  # type: ignore[attr-defined]
        card.send(SELECT)  # type: ignore[unused-coroutine]
        with card.transaction():  # type: ignore[attr-defined]
            pass
        async with card.channel() as channel:
            channel.send(SELECT).check()  # type: ignore[attr-defined]


async def needless_await() -> None:
    with sync.SCard() as card:
        await card.send(SELECT)  # type: ignore[misc]
        await card.layer(NoLayer()).send(SELECT)  # type: ignore[arg-type, misc]


async def secure_channels(card: SCard, plain: sync.SCard, keys: scp03.Keys) -> None:
    scp03.open(card, keys)  # type: ignore[unused-coroutine]
    await scp03.open(plain, keys)  # type: ignore[misc]
    scp03.open(plain, keys, level="C_MAC")  # type: ignore[call-overload]
    scp03.open(plain, bytes(16))  # type: ignore[call-overload]
    scp03.Keys("00" * 16, bytes(16))  # type: ignore[arg-type]


async def what_goes_where(card: SCard) -> None:
    await card.send("00A4040000")  # type: ignore[arg-type]
    await card.send([0x00, 0xA4, 0x04, 0x00])  # type: ignore[arg-type]
    await card.send(SELECT, callback=len)  # type: ignore[arg-type]
    await card.set_attribute(Attribute.VENDOR_NAME, 1.5)  # type: ignore[arg-type]
    number: int = await card.attribute(Attribute.VENDOR_NAME)  # type: ignore[assignment]
    await card.transmit(number)  # type: ignore[arg-type]


def what_cannot_be_changed(event: CardInserted, card: SCard) -> None:
    event.reader = "another"  # type: ignore[misc]
    card.protocol = Protocol.T0  # type: ignore[misc]


async def iterations(card: sync.SCard) -> None:
    async with ReaderMonitor() as monitor:
        for _ in monitor:  # type: ignore[attr-defined]
            pass
    with Recorder(card, "session.cassette", "twice"):  # type: ignore[arg-type]
        pass


class Mistaken(VirtualCard):
    """A card whose answer is none."""

    def process(self, command: str) -> str:  # type: ignore[override]
        return command


class Unfinished(VirtualCard):
    """A card without an answer."""


CARD = Unfinished()  # type: ignore[abstract]
