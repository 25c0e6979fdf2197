"""Layers: what a secure channel on top would do, with a small one that counts and seals."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import pytest

from scardface import (
    C_APDU,
    R_APDU,
    CardCommunicationError,
    CardRemovedError,
    CardResetError,
    LayerClosedError,
    SCardError,
    StatusError,
    errors,
)
from scardface._enums import Lengths, Protocol
from scardface.iso7816._exchange import ExchangeOptions
from scardface.iso7816._layer import GuardedLayer, check_layer, layered
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
        async with face.open(timeout=30) as card:
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
        async with face.open(timeout=30) as card:
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
        async with face.open(timeout=30) as card, card.channel() as channel:
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
        async with face.open(timeout=30) as card:
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
        GuardedLayer(type("Odd", (Long,), {"wrap": lambda self, command: C_APDU(0xFF)})(), 2).wrap(ECHOED)


@pytest.mark.anyio
@both_faces
async def test_what_goes_through_a_layer_is_logged_with_its_secrets_left_out(face: Any, caplog: pytest.LogCaptureFixture) -> None:
    with SimulatedPCSC() as pcsc, caplog.at_level(logging.DEBUG, "scardface.apdu"):
        pcsc.add_reader("A")
        pcsc.insert("A", SealedCard())
        async with face.open(timeout=30) as card:
            with pytest.raises(StatusError):
                (await card.layer(Sealed()).send(C_APDU(0, 0x20, 0, 1, b"1234", 256))).check()
    assert "00200001 <4 bytes>" in caplog.text
    assert "31323334" not in caplog.text
    assert "1234" not in caplog.text


# Whatever goes wrong once a command is wrapped.


class Noted:
    """A layer that changes nothing, and notes what it hears."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def wrap(self, command: C_APDU) -> C_APDU:
        self.commands.append("wrap")
        return command

    def unwrap(self, response: R_APDU) -> R_APDU:
        self.commands.append(f"{response.data.hex()}{response.sw:04x}")
        return response


class Scripted(VirtualCard):
    """Answers in order; any further command 9000, but MANAGE CHANNEL as it should."""

    atr = bytes.fromhex("3B800181")

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    def process(self, command: bytes) -> bytes:
        if command[1] == 0x70:
            return b"\x01\x90\x00" if command[2] == 0 else b"\x90\x00"
        return bytes.fromhex(self.answers.pop(0) if self.answers else "9000")


LONG = C_APDU(0, 0xB0, 0, 0, b"", 65536)
READ = C_APDU(0, 0xB0, 0, 0, b"", 256)


@pytest.mark.parametrize(
    ("command", "answers", "heard"),
    [
        (LONG, ["6700"], "6700"),  # nobody declared extended length: an error with advice
        (READ, ["6C08", "6C08"], "6c08"),
        (READ, ["016101", "6101"], "6101"),  # GET RESPONSE that brought nothing
        (READ, ["6101", "6C01"], "6c01"),
    ],
)
@pytest.mark.anyio
@both_faces
async def test_a_layer_hears_the_last_word_of_an_exchange_that_fails(
    face: Any, command: C_APDU, answers: list[str], heard: str
) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", Scripted(*answers))
        async with face.open(timeout=30) as card:
            layer = Noted()
            secure = card.layer(layer)
            with pytest.raises(CardCommunicationError):
                await secure.send(command, command)
            assert layer.commands == ["wrap", heard]
            assert (await secure.send(READ)).sw == 0x9000
            assert layer.commands == ["wrap", heard, "wrap", "9000"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errors.NOT_TRANSACTED, CardCommunicationError),
        (errors.RESET_CARD, CardResetError),
        (errors.PROTO_MISMATCH, CardResetError),
        (errors.INVALID_PARAMETER, SCardError),
    ],
)
@pytest.mark.parametrize("first", [[], ["6101"]])
@pytest.mark.anyio
@both_faces
async def test_a_layer_that_heard_nothing_is_closed(
    face: Any, code: int, kind: type[SCardError], first: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all that was asked: an answer in the middle is not the last word. The card itself is usable, through a new layer, too."""
    monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 30)
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        virtual = Scripted()
        pcsc.insert("A", virtual)
        async with face.open(timeout=30) as card, card.channel() as channel:
            for way in (card, channel):
                layer = Noted()
                secure = way.layer(layer)
                original = virtual.process

                def fail(command: bytes, original: Any = original) -> bytes:
                    answer: bytes = original(command)
                    pcsc.inject("SCardTransmit", code)
                    return answer

                if first:
                    virtual.answers = list(first)
                    virtual.process = fail  # type: ignore[method-assign]
                else:
                    pcsc.inject("SCardTransmit", code)
                with pytest.raises(kind):
                    await secure.send(READ)
                virtual.process = original  # type: ignore[method-assign]
                for _ in range(2):
                    with pytest.raises(LayerClosedError, match="Noted: the card has not answered"):
                        await secure.send(READ)
                assert layer.commands == ["wrap"]
                assert (await way.layer(layer).send(READ)).sw == 0x9000


@pytest.mark.anyio
@both_faces
async def test_a_layer_of_a_card_that_was_pulled_is_closed(face: Any) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", Scripted())
        async with face.open(timeout=30) as card:
            secure = card.layer(Noted())
            pcsc.remove("A")
            for kind in (CardRemovedError, LayerClosedError):
                with pytest.raises(kind):
                    await secure.send(READ)


def test_what_cannot_go_out_once_it_is_wrapped_closes_the_layer_and_what_it_refuses_to_wrap_does_not() -> None:
    class Picky(Noted):
        def wrap(self, command: C_APDU) -> C_APDU:
            if command.ins == 0x20:
                raise ValueError("not through me")
            return C_APDU(0, 0x10, 0, 0, bytes(300))

    layer = GuardedLayer(Picky())
    for _ in range(2):
        with pytest.raises(ValueError, match="not through me"):
            next(layered(C_APDU(0, 0x20), layer, Protocol.T0, Lengths.EXTENDED, ExchangeOptions()))
    with pytest.raises(ValueError, match="T=0 has no extended length"):
        next(layered(ECHOED, layer, Protocol.T0, Lengths.EXTENDED, ExchangeOptions()))
    with pytest.raises(LayerClosedError):
        next(layered(ECHOED, layer, Protocol.T0, Lengths.EXTENDED, ExchangeOptions()))


def test_a_layer_that_refuses_the_last_word_hides_no_failure() -> None:
    class Strict(Noted):
        def unwrap(self, response: R_APDU) -> R_APDU:
            raise ValueError("no seal")

    steps = layered(LONG, GuardedLayer(Strict()), Protocol.T1, Lengths.AUTO, ExchangeOptions())
    next(steps)
    with pytest.raises(CardCommunicationError, match="extended length") as caught:
        steps.send(b"\x67\x00")
    assert str(caught.value.__cause__) == "no seal"


def test_an_interrupt_closes_a_layer() -> None:
    layer = GuardedLayer(Noted())
    steps = layered(READ, layer, Protocol.T1, Lengths.AUTO, ExchangeOptions())
    next(steps)
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt())
    with pytest.raises(LayerClosedError):
        layer.wrap(READ)


# What a layer may have besides


class Careful(Noted):
    """Takes back what was not sent, and wraps anew; numbers what it makes in P2, as long as the card has heard of it."""

    def __init__(self, size: int = 0) -> None:
        super().__init__()
        self.size = size
        self.count = 0

    def wrap(self, command: C_APDU) -> C_APDU:
        self.count += 1
        return C_APDU(command.cla, command.ins, command.p1, self.count, bytes(self.size), command.le)

    def withdraw(self) -> None:
        self.commands.append("withdraw")
        self.count -= 1

    def rewrap(self, command: C_APDU, ne: int) -> C_APDU:
        self.commands.append(f"rewrap {ne}")
        made = self.wrap(command)
        return C_APDU(made.cla, made.ins, made.p1, made.p2, made.data, ne)


def test_what_cannot_be_sent_is_taken_back() -> None:
    inner = Careful(300)
    layer = GuardedLayer(inner)
    for _ in range(2):
        with pytest.raises(ValueError, match="T=0 has no extended length"):
            next(layered(READ, layer, Protocol.T0, Lengths.EXTENDED, ExchangeOptions()))
    inner.size = 1
    with pytest.raises(ValueError, match="class FF"):
        GuardedLayer(inner, 2).wrap(C_APDU(0xFF, 0x10))
    assert inner.commands == ["withdraw"] * 3
    assert next(layered(READ, layer, Protocol.T0, Lengths.SHORT, ExchangeOptions()))[3] == 1


def test_a_command_is_wrapped_anew_once_for_6cxx() -> None:
    inner = Careful()
    layer = GuardedLayer(inner, 3)
    steps = layered(C_APDU(0, 0xB0, 0, 0, b"", 5), layer, Protocol.T1, Lengths.AUTO, ExchangeOptions())
    assert next(steps).hex() == "03b0000105"
    assert steps.send(b"\x6c\x08").hex() == "03b0000208"
    with pytest.raises(StopIteration) as end:
        steps.send(bytes(8) + b"\x90\x00")
    assert end.value.value.data == bytes(8)  # whole: to cut it is the layer's business
    assert inner.commands == ["rewrap 8", bytes(8).hex() + "9000"]
    steps = layered(READ, layer, Protocol.T1, Lengths.AUTO, ExchangeOptions())
    next(steps)
    assert steps.send(b"\x6c\x00")[-1] == 0
    with pytest.raises(StopIteration) as end:
        steps.send(b"\x6c\x08")
    assert end.value.value.sw == 0x6C08


def test_what_is_wrapped_anew_and_cannot_be_sent_is_taken_back() -> None:
    inner = Careful()
    layer = GuardedLayer(inner)
    steps = layered(READ, layer, Protocol.T1, Lengths.SHORT, ExchangeOptions())
    next(steps)
    inner.size = 300
    with pytest.raises(ValueError, match="SHORT"):
        steps.send(b"\x6c\x08")
    assert inner.commands == ["rewrap 8", "withdraw"]


@pytest.mark.parametrize(
    ("protocol", "lengths", "status", "taken_back"),
    [
        (Protocol.T1, Lengths.CHAINING, "6884", True),
        (Protocol.T1, Lengths.CHAINING, "6c08", True),
        (Protocol.T0, Lengths.ENVELOPE, "6982", True),
        (Protocol.T1, Lengths.CHAINING, "6283", False),
        (Protocol.T1, Lengths.CHAINING, "9100", False),
    ],
)
@pytest.mark.parametrize("answered", [0, 1])
def test_a_command_that_the_card_never_had_whole_is_taken_back(
    protocol: Protocol, lengths: Lengths, status: str, taken_back: bool, answered: int
) -> None:
    """An error ends a chain before the card can count the command. Anything else is for the layer to judge."""
    inner = Careful(600)
    layer = GuardedLayer(inner)
    steps = layered(READ, layer, protocol, lengths, ExchangeOptions())
    next(steps)
    for _ in range(answered):
        steps.send(b"\x90\x00")
    with pytest.raises(StopIteration) as end:
        steps.send(bytes.fromhex(status))
    assert (end.value.value.data, end.value.value.sw) == (b"", int(status, 16))
    assert inner.commands == (["withdraw"] if taken_back else [status])
    assert inner.count == (0 if taken_back else 1)
    assert layer.wrap(READ)


def test_extended_length_that_the_card_does_not_know_is_taken_back() -> None:
    inner = Careful(600)
    layer = GuardedLayer(inner)
    steps = layered(READ, layer, Protocol.T1, Lengths.AUTO, ExchangeOptions())
    next(steps)
    with pytest.raises(CardCommunicationError, match="may not take extended length"):
        steps.send(b"\x67\x00")
    assert inner.commands == ["withdraw"]
    assert layer.wrap(READ)


def test_an_envelope_that_the_card_does_not_know_is_taken_back() -> None:
    inner = Careful(600)
    layer = GuardedLayer(inner)
    steps = layered(READ, layer, Protocol.T0, Lengths.AUTO, ExchangeOptions())
    assert next(steps)[1] == 0xC2
    with pytest.raises(CardCommunicationError, match="has not been carried out"):
        steps.send(b"\x6d\x00")
    assert inner.commands == ["withdraw"]
    assert layer.wrap(READ)


def test_the_last_part_of_a_command_is_answered_for_the_whole() -> None:
    inner = Careful(600)
    steps = layered(READ, GuardedLayer(inner), Protocol.T1, Lengths.CHAINING, ExchangeOptions())
    next(steps)
    steps.send(b"\x90\x00")
    steps.send(b"\x90\x00")
    with pytest.raises(StopIteration):
        steps.send(b"\x69\x82")
    assert inner.commands == ["6982"]


def test_all_is_fetched_for_a_layer_that_wraps_anew() -> None:
    steps = layered(C_APDU(0, 0xB0, 0, 0, b"", 5), Careful(), Protocol.T1, Lengths.AUTO, ExchangeOptions())
    next(steps)
    assert steps.send(bytes(4) + b"\x61\x10").hex() == "00c0000010"
    with pytest.raises(StopIteration) as end:
        steps.send(bytes(16) + b"\x90\x00")
    assert len(end.value.value.data) == 20


def test_a_failure_after_wrapping_anew_is_told() -> None:
    inner = Careful()
    layer = GuardedLayer(inner)
    steps = layered(READ, layer, Protocol.T1, Lengths.AUTO, ExchangeOptions())
    next(steps)
    steps.send(b"\x6c\x08")
    with pytest.raises(CardRemovedError):
        steps.throw(CardRemovedError("gone"))
    with pytest.raises(LayerClosedError):
        layer.wrap(READ)


def test_what_is_wrapped_anew_is_checked() -> None:
    class Wrong(Careful):
        def rewrap(self, command: C_APDU, ne: int) -> Any:
            return b""

    steps = layered(READ, GuardedLayer(Wrong()), Protocol.T1, Lengths.AUTO, ExchangeOptions())
    next(steps)
    with pytest.raises(TypeError, match=r"Wrong\.rewrap returned no C_APDU but bytes"):
        steps.send(b"\x6c\x08")
