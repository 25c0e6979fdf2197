"""Logical channels: the class coding by a table of its own, and the block on a real daemon, on both faces."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from scardface import C_APDU, R_APDU, CardCommunicationError, SCard, StatusError
from scardface.iso7816._channel import close_command, in_channel, opened
from scardface.testing import PrivatePcscd
from tests.support.cards import LogCard
from tests.support.faces import both_faces, off_loop


def fields(cla: int) -> tuple[str, int, bool, str]:
    """Family, channel, chaining and secure messaging that a class says, read off ISO 7816-4:2020, tables 2 and 3, and
    GlobalPlatform 2.3.1, tables 11-11 and 11-12; bit by bit, unlike the code under test."""
    bits = f"{cla:08b}"
    family = "gp" if bits[0] == "1" else "iso"
    if bits[1] == "0":
        kinds = {"00": "none", "01": "own", "10": "iso", "11": "authenticated"} if family == "iso" else {"00": "none", "01": "own"}
        secure = kinds.get(bits[4:6], "reserved " + bits[4:6])
        return family, int(bits[6:], 2), bits[3] == "1", secure
    return (
        family,
        4 + int(bits[4:], 2),
        family == "iso" and bits[3] == "1",
        {"0": "none", "1": "iso" if family == "iso" else "own"}[bits[2]],
    )


COVERED = [*range(0x20), *range(0x40, 0x80), *range(0x80, 0x90), *range(0xC0, 0xD0), *range(0xE0, 0xF0)]


def test_every_class_in_every_channel() -> None:
    moved = 0
    for cla in COVERED:
        family, _, chaining, secure = fields(cla)
        for number in range(20):
            if family == "iso" and number > 3 and secure in ("own", "authenticated"):
                with pytest.raises(ValueError, match="0 to 3"):
                    in_channel(C_APDU(cla), number)
                continue
            command = in_channel(C_APDU(cla, 0xB0, 1, 2, b"ab", 5), number)
            moved += 1
            assert (command.ins, command.p1, command.p2, command.data, command.le) == (0xB0, 1, 2, b"ab", 5)
            now = fields(command.cla)
            if not secure.startswith("reserved"):
                assert now == (family, number, chaining, secure), (hex(cla), number)
            assert now[1] == number
    assert moved > 1900


@pytest.mark.parametrize("cla", [0x20, 0x3F, 0x90, 0xA0, 0xBF, 0xD0, 0xF0, 0xFF])
def test_a_class_without_a_place_for_a_channel(cla: int) -> None:
    with pytest.raises(ValueError, match=f"class {cla:02X}"):
        in_channel(C_APDU(cla, 0xB0), 1)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x14", b"\x01\x02"])
def test_a_card_that_names_no_channel(data: bytes) -> None:
    with pytest.raises(CardCommunicationError, match="no channel"):
        opened(R_APDU(data, 0x90, 0x00))


def test_the_commands() -> None:
    assert bytes(close_command(7)) == bytes.fromhex("00708007")
    assert opened(R_APDU(b"\x13", 0x90, 0x00)) == 19


class ChannelCard(LogCard):
    """Opens the channels it is told to, and closes any."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self.numbers = list(numbers)

    def process(self, command: bytes) -> bytes:
        super().process(command)
        if command[1:4] == b"\x70\x00\x00":
            return bytes([self.numbers.pop(0)]) + b"\x90\x00" if self.numbers else b"\x6a\x81"
        return b"\x90\x00"


async def put(pcscd: PrivatePcscd, card: LogCard) -> None:
    await off_loop(pcscd.insert, 0, card)
    await off_loop(pcscd.wait_for_card, 0)


@pytest.mark.anyio
@both_faces
async def test_a_block_opens_uses_and_closes(pcscd: PrivatePcscd, face: Any) -> None:
    virtual = ChannelCard(1, 5)
    await put(pcscd, virtual)
    async with face.open(timeout=30) as card:
        async with card.channel() as one, card.channel() as five:
            assert (one.number, five.number) == (1, 5)
            await one.send(b"\x00\xa4\x00\x00", b"\x80\xa4\x00\x00")
            await five.send(b"\x10\xa4\x00\x00")
            with pytest.raises(ValueError, match="class FF"):
                await five.send(b"\x00\xa4\x00\x00", b"\xff\xa4\x00\x00")
        with pytest.raises(StatusError):
            async with card.channel():
                pytest.fail("the card has no more channels")
        virtual.numbers.append(2)
        with pytest.raises(LookupError):
            async with card.channel():
                raise LookupError
        await card.send(b"\x00\x50\x00\x00")
    heard = [command.hex() for command in virtual.commands]
    assert heard == [
        "0070000001",
        "0070000001",
        "01a40000",
        "81a40000",
        "51a40000",
        "00708005",
        "00708001",
        "0070000001",
        "0070000001",
        "00708002",
        "00500000",
    ]


@pytest.mark.anyio
@pytest.mark.usefixtures("no_leaks")
async def test_a_cancelled_block_closes_its_channel(pcscd: PrivatePcscd) -> None:
    virtual = ChannelCard(3)
    await put(pcscd, virtual)
    async with SCard(timeout=30) as card:
        with anyio.CancelScope() as scope:
            async with card.channel():
                scope.cancel()
                await anyio.sleep_forever()
        await card.send(b"\x00\x50\x00\x00")
    assert [command.hex() for command in virtual.commands] == ["0070000001", "00708003", "00500000"]
