"""Layers: what a secure channel on top would do, with a small one that counts and seals."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import pytest

from scardface import C_APDU, R_APDU, CardCommunicationError, StatusError
from scardface._enums import Lengths, Protocol
from scardface._exchange import ExchangeOptions
from scardface._layer import InChannel, check_layer, layered
from scardface.testing import SimulatedPCSC, VirtualCard
from tests.support.faces import both_faces

KEY = b"a key of both sides"


def seal(counter: int, data: bytes) -> bytes:
    """A cryptogram of four bytes over a counter and data."""
    return hashlib.sha256(KEY + bytes([counter]) + data).digest()[:4]


class Sealed:
    """Secure messaging in small: bit 3 of the class, and a seal on each command and response; both sides count."""

    def __init__(self) -> None:
        self.counter = 0

    def wrap(self, command: C_APDU) -> C_APDU:
        self.counter += 1
        data = command.data + seal(self.counter, command.data)
        return C_APDU(command.cla | 0x04, command.ins, command.p1, command.p2, data, command.le)

    def unwrap(self, response: R_APDU) -> R_APDU:
        data, got = response.data[:-4], response.data[-4:]
        if got != seal(self.counter, data):
            raise CardCommunicationError("the card's seal is wrong")
        return R_APDU(data, response.sw1, response.sw2)


class SealedCard(VirtualCard):
    """The other side: echoes data, seal checked; INS 20 answers 6982."""

    atr = bytes.fromhex("3B800181")

    def __init__(self) -> None:
        self.counter = 0
        self.classes: list[int] = []

    def process(self, command: bytes) -> bytes:
        self.classes.append(command[0])
        if command[1] == 0x70:
            return b"\x01\x90\x00" if command[2] == 0 else b"\x90\x00"
        self.counter += 1
        body = command[5 : 5 + command[4]]
        data, got = body[:-4], body[-4:]
        if got != seal(self.counter, data):
            return b"\x69\x88"
        status = b"\x69\x82" if command[1] == 0x20 else b"\x90\x00"
        return data + seal(self.counter, data) + status


ECHOED = C_APDU(0, 0x10, 0, 0, b"ab", 256)


@pytest.mark.anyio
@both_faces
async def test_a_layer_wraps_at_each_turn(face: Any) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", SealedCard())
        async with face.open(timeout=5) as card:
            secure = card.layer(Sealed())
            seen: list[tuple[C_APDU, bytes]] = []
            response = await secure.send(ECHOED, ECHOED, callback=lambda c, r: seen.append((c, r.data)))
            assert response.data == b"ab"
            assert seen == [(ECHOED, b"ab")] * 2
            assert (await secure.send(ECHOED, C_APDU(0, 0x20, 0, 0, b"x", 256), ECHOED)).sw == 0x6982
            assert (await secure.send(b"\x00\x10\x00\x00\x02ab\x00")).data == b"ab"  # in step: what was not sent was not wrapped
            with pytest.raises(ValueError, match="at least one"):
                await secure.send()


@pytest.mark.anyio
@both_faces
async def test_what_a_layer_finds_wrong_ends_the_batch(face: Any) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        virtual = SealedCard()
        pcsc.insert("A", virtual)
        async with face.open(timeout=5) as card:
            layer = Sealed()
            virtual.counter = 7  # out of step: it answers an error, without a seal
            with pytest.raises(CardCommunicationError, match="seal is wrong") as caught:
                await card.layer(layer).send(ECHOED, ECHOED)
            assert caught.value.reader == "A"
            assert len(virtual.classes) == 1
            assert (await card.send(C_APDU(0, 0x70, 0x80))).sw == 0x9000  # the card itself is usable


@pytest.mark.anyio
@both_faces
async def test_a_layer_in_a_channel(face: Any) -> None:
    """The channel is outermost: what is sealed does not name it."""
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        virtual = SealedCard()
        pcsc.insert("A", virtual)
        async with face.open(timeout=5) as card, card.channel() as channel:
            assert (await channel.layer(Sealed()).send(ECHOED)).data == b"ab"
            with pytest.raises(TypeError, match="wrap"):
                channel.layer(object())
    assert virtual.classes == [0x00, 0x05, 0x00]


@pytest.mark.anyio
@both_faces
async def test_what_is_no_layer(face: Any) -> None:
    class Half:
        def wrap(self, command: C_APDU) -> C_APDU:
            return command

    class Wrong:
        def __init__(self, wrapped: Any, unwrapped: Any) -> None:
            self.wrap = lambda command: wrapped
            self.unwrap = lambda response: unwrapped

    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", SealedCard())
        async with face.open(timeout=5) as card:
            for no_layer, name in ((object(), "wrap"), (Half(), "unwrap"), (None, "wrap")):
                with pytest.raises(TypeError, match=f"no {name}$"):
                    card.layer(no_layer)
            with pytest.raises(TypeError, match="no C_APDU but bytes"):
                await card.layer(Wrong(b"", None)).send(ECHOED)
            with pytest.raises(TypeError, match="no R_APDU but NoneType"):
                await card.layer(Wrong(C_APDU(0, 0x70, 0x80), None)).send(ECHOED)


def test_a_secret_stays_one_through_a_layer() -> None:
    class Open:
        """A layer that forgets what was secret."""

        def wrap(self, command: C_APDU) -> C_APDU:
            return C_APDU(0x00, 0xB0, 0, 0, command.data)

        def unwrap(self, response: R_APDU) -> R_APDU:
            return R_APDU(response.data, response.sw1, response.sw2)

    steps = layered(C_APDU(0, 0x20, 0, 1, b"1234"), Open(), Protocol.T1, Lengths.AUTO, ExchangeOptions())
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send(b"4321\x90\x00")
    assert end.value.value.data == b"4321"
    assert "34" not in repr(end.value.value)


def test_what_a_layer_makes_is_checked_at_its_turn() -> None:
    class Long:
        def wrap(self, command: C_APDU) -> C_APDU:
            return C_APDU(0, 0x10, 0, 0, bytes(300))

        def unwrap(self, response: R_APDU) -> R_APDU:
            return response

    check_layer(Long())
    steps = layered(ECHOED, Long(), Protocol.T0, Lengths.EXTENDED, ExchangeOptions())
    with pytest.raises(ValueError, match="T=0 has no extended length"):
        next(steps)
    with pytest.raises(ValueError, match="class FF"):
        InChannel(type("Odd", (Long,), {"wrap": lambda self, command: C_APDU(0xFF)})(), 2).wrap(ECHOED)


@pytest.mark.anyio
@both_faces
async def test_what_goes_through_a_layer_is_logged_with_its_secrets_left_out(face: Any, caplog: pytest.LogCaptureFixture) -> None:
    with SimulatedPCSC() as pcsc, caplog.at_level(logging.DEBUG, "scardface.apdu"):
        pcsc.add_reader("A")
        pcsc.insert("A", SealedCard())
        async with face.open(timeout=5) as card:
            with pytest.raises(StatusError):
                (await card.layer(Sealed()).send(C_APDU(0, 0x20, 0, 1, b"1234", 256))).check()
    assert "00200001 <4 bytes>" in caplog.text
    assert "31323334" not in caplog.text
    assert "1234" not in caplog.text
