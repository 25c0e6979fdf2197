"""scardface.scp03: against published sessions, and against the virtual card, with everything that may go wrong."""

from __future__ import annotations

import copy
import logging
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scardface import (
    ATR,
    C_APDU,
    R_APDU,
    CardCommunicationError,
    CardRemovedError,
    CardResetError,
    CardTimeoutError,
    LayerClosedError,
    Protocol,
    SCard,
    SCardError,
    StatusError,
    errors,
    iso7816,
    scp03,
    sync,
)
from scardface._enums import Lengths
from scardface.errors import pip_install
from scardface.iso7816._channel import in_channel
from scardface.iso7816._exchange import ExchangeOptions, exchange, resolve_lengths, run_steps
from scardface.iso7816._layer import GuardedLayer, layered
from scardface.replay import Recorder
from scardface.scp03 import Keys, Level, Mode, SecureChannelError, key_check_value
from scardface.testing import FileCard, PrivatePcscd, Scp03Card, SimulatedPCSC, VirtualCard
from tests.support.faces import both_faces, off_loop

ISD = bytes.fromhex("A000000151000000")
ENC, MAC, DEK = bytes(range(16)), bytes(range(16, 32)), bytes(range(32, 48))
KEYS = Keys(enc=ENC, mac=MAC, dek=DEK)
LEVELS = [Level(each) for each in (0x01, 0x03, 0x11, 0x13, 0x33)]
ALL = LEVELS[-1]
SELECT = C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xf0SCARDFACE", 256)
READ = C_APDU(0x00, 0xB0, 0x81, 0x00, b"", 256)
TEXT = b"Hello from a virtual card."


# Published values


@dataclass
class Case:
    """A published session; see the head of the file."""

    name: str
    values: dict[str, list[str]] = field(default_factory=dict)
    commands: list[list[list[str]]] = field(default_factory=list)

    def octets(self, word: str) -> bytes:
        return bytes.fromhex(self.values[word][0])

    @property
    def keys(self) -> Keys:
        return Keys(*map(bytes.fromhex, self.values["keys"]))

    def opened(self) -> scp03.SCP03:
        """The session, after EXTERNAL AUTHENTICATE."""
        answer = scp03.parse_initialize_update(self.octets("iu"), len(self.octets("host")))
        session = scp03.SCP03(self.keys, int(self.values["level"][0], 16), self.octets("host"), answer.challenge)
        assert session.cryptogram(scp03.CARD_CRYPTOGRAM) == answer.cryptogram
        assert bytes(session.external_authenticate()) == self.octets("ea")
        return session


def published() -> Iterator[Case]:
    case = Case("")
    for line in (Path(__file__).parent / "data" / "scp03.txt").read_text(encoding="utf-8").splitlines():
        word, *values = line.split()
        if word == "case":
            case = Case(values[0])
            yield case
        elif word == "cmd":
            case.commands.append([[word, *values]])
        elif word in ("again", "more"):
            case.commands[-1].append([word, *values])
        elif word != "#":
            case.values[word] = values


CASES = list(published())


def without_le(encoded: str | bytes) -> bytes:
    """What a C-MAC covers: all but Le."""
    command = C_APDU.from_bytes(bytes.fromhex(encoded) if isinstance(encoded, str) else encoded)
    return bytes(C_APDU(command.cla, command.ins, command.p1, command.p2, command.data))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_published_sessions(case: Case) -> None:
    """Each command byte for byte but Le, which others leave as it is, through the layer as a card drives it."""
    layer = GuardedLayer(case.opened())
    options = ExchangeOptions()
    for (_, plain, secured, *answer), *further in case.commands:
        steps = layered(C_APDU.from_bytes(bytes.fromhex(plain)), layer, Protocol.T1, Lengths.SHORT, options)
        assert without_le(next(steps)) == without_le(secured)
        if not answer:
            answer = ["6A80"]  # not published; an error is not secured
        end: StopIteration | None = None
        received = answer[0]
        expected = answer[1] if len(answer) > 1 else ""
        for word, *values in further:
            again = steps.send(bytes.fromhex(received))
            if word == "again":
                assert again == bytes.fromhex(values.pop(0))
            else:
                assert again == bytes.fromhex("80C00000" + received[-2:])
            received, expected = values
        with pytest.raises(StopIteration) as caught:
            steps.send(bytes.fromhex(received))
        end = caught.value
        assert end.value.data == bytes.fromhex(expected)
        assert end.value.sw == int(received[-4:], 16)


def test_what_was_published() -> None:
    """All key sizes, modes and four levels; all kinds of steps."""
    kinds = {(len(case.values["keys"][0]) // 2, len(case.octets("host")), case.values["level"][0]) for case in CASES}
    assert {(size, 8, "33") for size in (16, 24, 32)} | {(size, 16, "33") for size in (16, 24, 32)} <= kinds
    assert {(size, 8, level) for size in (16, 24, 32) for level in ("03", "11")} <= kinds
    assert (16, 8, "01") in kinds
    assert {step[0] for case in CASES for command in case.commands for step in command} == {"cmd", "again", "more"}
    assert len(CASES) == 26


@pytest.mark.parametrize("case", [case for case in CASES if "aid" in case.values], ids=lambda case: case.name)
def test_published_pseudo_random_challenges(case: Case) -> None:
    answer = scp03.parse_initialize_update(case.octets("iu"), 8)
    assert answer.sequence_counter is not None
    assert scp03.card_challenge(case.keys, answer.sequence_counter, case.octets("aid"), 8) == answer.challenge


@pytest.mark.parametrize(
    ("key", "fixed", "derived"),
    [
        (
            "dff1e50ac0b69dc40f1051d46c2b069c",
            "c16e6e02c5a3dcc8d78b9ac1306877761310455b4e41469951d9e6c2245a064b33fd8c3b01203a7824485bf0a64060c4648b707d2607935699316ea5",
            "8be8f0869b3c0ba97b71863d1b9f7813",
        ),
        (
            "682e814d872397eba71170a693514904",
            "e323cdfa7873a0d72cd86ffb4468744f097db60498f7d0e3a43bafd2d1af675e4a88338723b1236199705357c47bf1d89b2f4617a340980e6331625c",
            "dac9b6ca405749cfb065a0f1e42c7c4224d3d5db32fdafe9dee6ca193316f2c7",
        ),
        (
            "7aa9973481d560f3be217ac3341144d8",
            "46f88b5af7fb9e29262dd4e010143a0a9c465c627450ec74ab7251889529193e995c4b56ff55bc2fc8992a0df1ee8056f6816b7614fba4c12d3be1a5",
            "1746ae4f09903f74bfbe1b8ae2b79d74576a3b09",
        ),
        (
            "3c3fb56af835d12186d46a76c2b18907fbde9836f5fbf4b5da23ff767ee370c6",
            "a4a89e00526f3ac20aaed6b6a300e2fc388bdab9ac20354f9a4c59544b21ff7bfdfdce1b2439c53ae21757d53327c65133575e04aff0a1b42020e551",
            "fba54e92c3cd9fff5999ed03592f2f0c54277102d7a5c5b4760042e660e95a992858e2edb45807b2",
        ),
    ],
)
def test_the_kdf_of_nist(key: str, fixed: str, derived: str) -> None:
    """CAVS 14.4, KDF in counter mode, CMAC_AES128 and CMAC_AES256, RLEN 8: as in pyca/cryptography, nist-800-108-KBKDF-CTR.txt."""
    expected = bytes.fromhex(derived)
    assert scp03.kdf(bytes.fromhex(key), b"", bytes.fromhex(fixed), len(expected)) == expected


@pytest.mark.parametrize(("key", "value"), [(ENC, "C35280"), (MAC, "013808"), (DEK, "840DE5")])
def test_published_key_check_values(key: bytes, value: str) -> None:
    """osmocom/pysim, tests/unittests/test_globalplatform.py."""
    assert key_check_value(key) == bytes.fromhex(value)


# A card of bytes, without PC/SC


class Line:
    """What a card of the sync face does with a virtual card, and what goes over the line."""

    def __init__(self, card: VirtualCard, lengths: Lengths = Lengths.AUTO) -> None:
        self.card = card
        atr = scp03_atr(card)
        self.protocol = Protocol.T0 if atr.protocols == Protocol.T0 else Protocol.T1
        self.lengths = resolve_lengths(lengths, card.atr, self.protocol)
        self.sent: list[bytes] = []
        self.answers: list[bytes] = []
        self.there: Any = lambda tpdu: tpdu
        self.back: Any = lambda answer: answer

    def transmit(self, tpdu: bytes) -> bytes:
        self.sent.append(tpdu)
        answer: bytes = self.back(self.card.process(self.there(tpdu)))
        self.answers.append(answer)
        return answer

    def send(self, command: C_APDU, /) -> R_APDU:
        return run_steps(exchange(command, self.protocol, self.lengths), self.transmit)

    def layer(self, layer: Any, /) -> Secured:
        return Secured(self, GuardedLayer(layer))


class Secured:
    """The line through a layer."""

    def __init__(self, line: Line, layer: GuardedLayer) -> None:
        self.line, self.layer = line, layer

    def send(self, command: C_APDU) -> R_APDU:
        steps = layered(command, self.layer, self.line.protocol, self.line.lengths, ExchangeOptions())
        return run_steps(steps, self.line.transmit)


def scp03_atr(card: VirtualCard) -> ATR:
    return ATR(card.atr)


class Inner(VirtualCard):
    """Remembers its commands, and answers what it is told, as far as Le lets it."""

    atr = FileCard().atr

    def __init__(self) -> None:
        self.commands: list[C_APDU] = []
        self.answer = R_APDU(b"", 0x90, 0x00)

    def process(self, command: bytes) -> bytes:
        self.commands.append(C_APDU.from_bytes(command))
        return self.answer.data[: self.commands[-1].le] + self.answer.sw12


def lengths_of_keys() -> st.SearchStrategy[Keys]:
    return st.sampled_from((16, 24, 32)).flatmap(
        lambda size: st.builds(Keys, *(st.binary(min_size=size, max_size=size) for _ in "123"))
    )


def sizes(longest: int) -> st.SearchStrategy[int]:
    """Lengths of data, mostly near where something changes."""
    near = st.builds(
        lambda edge, off: min(max(edge + off, 0), longest),
        st.sampled_from((0, 16, 223, 239, 247, 255, 256, longest)),
        st.integers(-2, 2),
    )
    return st.one_of(near, st.integers(0, longest))


COMMANDS = st.builds(
    lambda cla, ins, p1, p2, size, le: C_APDU(cla, ins, p1, p2, bytes(number % 255 for number in range(size)), le),
    st.sampled_from((0x00, 0x80)),
    st.integers(0, 255).filter(lambda ins: ins != 0xC0),
    st.integers(0, 255),
    st.integers(0, 255),
    sizes(1000),
    st.one_of(st.sampled_from((0, 256)), sizes(300), st.sampled_from((1000, 65536))),
)
RESPONSES = st.builds(
    lambda size, sw: R_APDU(bytes(128 | number % 128 for number in range(size)), sw >> 8, sw & 0xFF),
    sizes(600),
    st.sampled_from((0x9000, 0x9000, 0x6283, 0x6310, 0x6A82, 0x6700, 0x9110)),
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    keys=lengths_of_keys(),
    level=st.sampled_from(LEVELS),
    mode=st.sampled_from(Mode),
    pseudo=st.booleans(),
    lengths=st.sampled_from((Lengths.AUTO, Lengths.CHAINING)),
    exchanges=st.lists(st.tuples(COMMANDS, RESPONSES), min_size=1, max_size=4),
)
def test_what_goes_in_comes_out(
    keys: Keys, level: Level, mode: Mode, pseudo: bool, lengths: Lengths, exchanges: list[tuple[C_APDU, R_APDU]]
) -> None:
    """All cases, lengths, modes, levels and sizes of keys: the card inside sees the command, the caller its response."""
    inner = Inner()
    card = Scp03Card(inner, keys, i=0x60 | (0x10 if pseudo else 0) | (0x01 if mode is Mode.S16 else 0))
    line = Line(card, lengths)
    secure = scp03.open(line, keys, level=level, mode=mode, aid=ISD)
    assert card.level == level
    for command, answer in exchanges:
        if lengths is Lengths.CHAINING and command.le > 256:
            command = C_APDU(command.cla, command.ins, command.p1, command.p2, command.data, 256)
        inner.answer = answer
        response = secure.send(command)
        seen = inner.commands[-1]
        assert (seen.cla, seen.ins, seen.p1, seen.p2, seen.data) == (command.cla, command.ins, command.p1, command.p2, command.data)
        assert response.sw == answer.sw
        protected = level & Level.R_MAC
        if protected and answer.sw != 0x9000 and answer.sw1 not in (0x62, 0x63):
            assert response.data == b""
        elif command.le == 0:
            assert response.data == (answer.data[:256] if protected else b"")
        else:
            assert response.data == answer.data[: command.le]
            assert seen.le >= command.le or seen.le == 256
        if level & Level.C_DECRYPTION and len(command.data) > 16:
            assert command.data[:16] not in b"".join(line.sent)
        if level & Level.R_ENCRYPTION and len(response.data) > 16:
            assert response.data[:16] not in b"".join(line.answers)
    assert card.level == level


def opened(level: Level = ALL, **configuration: Any) -> tuple[Scp03Card, Line, Secured]:
    card = Scp03Card(FileCard(), KEYS, **configuration)
    line = Line(card)
    mode = Mode.S16 if configuration.get("i", 0x70) & 1 else Mode.S8
    return card, line, scp03.open(line, KEYS, level=level, mode=mode)


@pytest.mark.parametrize("protocol", [Protocol.T0, Protocol.T1])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("i", [0x60, 0x70, 0x61, 0x71])
def test_files_through_a_channel(i: int, level: Level, protocol: Protocol) -> None:
    card = Scp03Card(FileCard(protocol=protocol), KEYS, i=i)
    line = Line(card)
    secure = scp03.open(line, KEYS, level=level, mode=Mode.S16 if i & 1 else Mode.S8, aid=ISD, key_version=0x30)
    assert secure.send(SELECT).check().data.startswith(b"\x6f")
    assert secure.send(READ).check().data == TEXT
    assert secure.send(C_APDU(0x00, 0x20, 0x00, 0x01, b"1234")).sw == 0x9000
    assert secure.send(C_APDU(0x00, 0xD6, 0x81, 0x00, b"HELLO")).sw == 0x9000
    assert secure.send(READ).check().data == b"HELLO" + TEXT[5:]
    assert secure.send(C_APDU(0x00, 0xB0, 0x82, 0x00, b"", 256)).data == bytes(range(256))
    assert secure.send(C_APDU(0x00, 0x20, 0x00, 0x01, b"4321")).sw == 0x63C2
    assert secure.send(C_APDU(0x00, 0x44)).sw == 0x6D00
    assert secure.send(C_APDU(0x00, 0xB0, 0x81, 0x00, b"", 3)).data == b"HEL"
    assert card.level == level
    assert card.sequence_counter == 1
    assert scp03.open(line, KEYS, level=Level.C_MAC, mode=Mode.S16 if i & 1 else Mode.S8).send(READ).data[:5] == b"HELLO"
    assert card.sequence_counter == 2


@pytest.mark.parametrize("level", LEVELS)
def test_a_wrong_le_is_corrected_with_a_command_secured_anew(level: Level) -> None:
    """The card has counted the first, and would take it for a replay (ISO/IEC 7816-4:2020, 5.6; Amendment D, 6.2.4)."""
    card, line, secure = opened(level)
    select = C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xf0SCARDFACE", 3)
    response = secure.send(select)
    assert response.sw == 0x9000
    assert response.data == FileCard().process(bytes(SELECT))[:3]
    first, second = line.sent[-2:]
    assert line.answers[-2][0] == 0x6C
    assert first[:5] == second[:5]
    assert first[5:-1] != second[5:-1]
    assert second[-1] == line.answers[-2][1]
    assert secure.send(READ).sw == 0x9000
    assert card.level == level


@pytest.mark.slow
@pytest.mark.parametrize("level", [Level.C_MAC | Level.R_MAC, ALL])
@pytest.mark.parametrize("i", [0x70, 0x71])
def test_each_bit_of_a_response_counts(level: Level, i: int) -> None:
    """Of its data, its MAC and its status; the session is closed then, and sends nothing more."""
    size = 16 if i & 1 else 8
    length = (32 if level is ALL else 26) + size + 2
    for bit in range(8 * length):
        _card, line, secure = opened(level, i=i)
        secure.send(SELECT)

        def flip(answer: bytes, bit: int = bit) -> bytes:
            assert len(answer) == length
            return (int.from_bytes(answer, "big") ^ 1 << bit).to_bytes(length, "big")

        line.back = flip
        if bit in range(8, 16) and 0x90 ^ 1 << bit - 8 == 0x61:
            continue
        with pytest.raises(SecureChannelError, match="the secure channel is closed"):
            secure.send(READ)
        line.back = lambda answer: answer
        sent = len(line.sent)
        for _ in range(2):
            with pytest.raises(LayerClosedError, match=r"scp03\.open"):
                secure.send(READ)
        assert len(line.sent) == sent


@pytest.mark.parametrize("level", LEVELS)
def test_each_bit_of_a_command_counts(level: Level) -> None:
    """But Le, which no MAC covers, and the channel. The card ends the session, and says so by an error."""
    command = C_APDU(0x00, 0xB0, 0x81, 0x00, b"some data", 256)
    length = 5 + (16 if level & Level.C_DECRYPTION else 9) + 8
    for bit in range(8, 8 * length):
        if bit // 8 == 4:
            continue  # Lc: another length
        card, line, secure = opened(level)
        secure.send(SELECT)
        line.there = lambda tpdu, bit=bit: tpdu[: bit // 8] + bytes((tpdu[bit // 8] ^ 1 << bit % 8,)) + tpdu[bit // 8 + 1 :]
        if bit // 8 == 1 and 0xB0 ^ 1 << bit % 8 == 0xC0:
            continue
        response = secure.send(command)
        assert (response.data, response.sw) == (b"", 0x6982)
        assert card.level == 0
        line.there = lambda tpdu: tpdu
        assert secure.send(READ).sw == 0x6982
        scp03.open(line, KEYS)
        assert card.level == ALL


def test_a_replayed_command_ends_the_session() -> None:
    card, line, secure = opened()
    secure.send(SELECT)
    secure.send(READ)
    assert line.transmit(line.sent[-1]) == b"\x69\x82"
    assert card.level == 0
    assert secure.send(READ).sw == 0x6982


def test_a_command_that_the_card_never_heard_ends_the_terminals_side() -> None:
    """Whoever kept it cannot have it taken twice."""
    card, line, secure = opened()
    kept: list[bytes] = []

    def keep(tpdu: bytes) -> bytes:
        kept.append(tpdu)
        return bytes.fromhex("00700000")  # so that the card hears something

    line.there, line.back = keep, lambda answer: b""
    with pytest.raises(CardCommunicationError):
        secure.send(SELECT)
    line.there, line.back = (lambda tpdu: tpdu), (lambda answer: answer)
    with pytest.raises(LayerClosedError, match="SCP03: the card has not answered"):
        secure.send(SELECT)
    assert card.level == ALL
    assert card.process(kept[0])[-2:] == b"\x90\x00"
    assert card.process(kept[0]) == b"\x69\x82"


@pytest.mark.parametrize("sw", [0x9000, 0x6283, 0x63C1])
@pytest.mark.parametrize("data", [b"", b"\x01", bytes(7), bytes(8), bytes(40)], ids=len)
def test_a_response_without_its_mac_is_not_the_cards(sw: int, data: bytes) -> None:
    _card, line, secure = opened()
    line.back = lambda answer: data + sw.to_bytes(2, "big")
    with pytest.raises(SecureChannelError, match="R-MAC"):
        secure.send(SELECT)
    with pytest.raises(LayerClosedError):
        secure.send(SELECT)


def test_an_error_with_data_is_not_the_cards() -> None:
    _card, line, secure = opened()
    line.back = lambda answer: b"\x01\x6a\x82"
    with pytest.raises(SecureChannelError, match="6A82, came with data"):
        secure.send(SELECT)
    with pytest.raises(LayerClosedError):
        secure.send(SELECT)


def test_an_error_leaves_both_in_step() -> None:
    card, _line, secure = opened()
    for _ in range(3):
        assert secure.send(C_APDU(0x00, 0xA4, 0x04, 0x00, b"unknown", 256)).sw == 0x6A82
        assert secure.send(C_APDU(0x00, 0x44)).sw == 0x6D00
        assert secure.send(SELECT).sw == 0x9000
    assert card.level == ALL


@pytest.mark.parametrize("padded", [bytes(16), b"\x01" * 16, b"\x80" + bytes(14) + b"\x01"])
def test_what_a_card_pads_wrongly(padded: bytes) -> None:
    """With the right MAC."""
    session = scp03.SCP03(KEYS, ALL, bytes(8), bytes(8))
    session.wrap(READ)
    chaining = session._next_chaining
    assert chaining is not None
    data = scp03.encrypt(session._enc, session._icv(1 | 0x80 << 120), padded)
    mac = scp03.cmac(session._rmac, chaining, data, b"\x90\x00")[:8]
    with pytest.raises(SecureChannelError, match="padded"):
        session.unwrap(R_APDU(data + mac, 0x90, 0x00))
    with pytest.raises(LayerClosedError):
        session.wrap(READ)


def test_what_a_card_encrypts_in_no_blocks() -> None:
    session = scp03.SCP03(KEYS, ALL, bytes(8), bytes(8))
    session.wrap(READ)
    assert session._next_chaining is not None
    mac = scp03.cmac(session._rmac, session._next_chaining, b"abc", b"\x90\x00")[:8]
    with pytest.raises(SecureChannelError, match="no whole blocks"):
        session.unwrap(R_APDU(b"abc" + mac, 0x90, 0x00))


def test_one_command_at_a_time() -> None:
    """What was wrapped is answered, or taken back, before the next."""
    session = scp03.SCP03(KEYS, Level.C_MAC, bytes(8), bytes(8))
    first = session.wrap(READ)
    with pytest.raises(LayerClosedError):
        session.wrap(READ)
    session.withdraw()
    assert session.wrap(READ) == first
    session.unwrap(R_APDU(b"", 0x6A, 0x82))
    assert session.wrap(READ) != first


@pytest.mark.anyio
@both_faces
async def test_errors_name_the_reader(face: Any) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        virtual = Scp03Card(FileCard(), KEYS)
        pcsc.insert("A", virtual)
        async with face.open(timeout=30) as card:
            with pytest.raises(SecureChannelError, match="reader 'A': the card's cryptogram") as caught:
                await scp03.open(card, Keys(bytes(16), bytes(16)))
            assert caught.value.reader == "A"
            secure = await scp03.open(card, KEYS)
            assert virtual._session is not None
            virtual._session.rmac = bytes(16)
            with pytest.raises(SecureChannelError, match="reader 'A': the R-MAC of a response is wrong") as caught:
                await secure.send(SELECT, READ)
            assert caught.value.reader == "A"
            with pytest.raises(LayerClosedError):
                await secure.send(SELECT)


def test_a_response_to_nothing() -> None:
    with pytest.raises(RuntimeError, match="without a command"):
        scp03.SCP03(KEYS, ALL, bytes(8), bytes(8)).unwrap(R_APDU(b"", 0x90, 0x00))


# What cannot be sent


@pytest.mark.parametrize(
    ("cla", "secured"),
    [(0x00, 0x04), (0x03, 0x07), (0x10, 0x14), (0x80, 0x84), (0x82, 0x86), (0x90, 0x94), (0xC0, 0xE0), (0xCF, 0xEF)],
)
def test_classes(cla: int, secured: int) -> None:
    session = scp03.SCP03(KEYS, Level.C_MAC, bytes(8), bytes(8))
    assert session.wrap(C_APDU(cla, 0x10)).cla == secured


class InChannel:
    """The line, with what it sends by itself in a logical channel."""

    def __init__(self, line: Line, number: int) -> None:
        self.line, self.number = line, number

    def send(self, command: C_APDU, /) -> R_APDU:
        return self.line.send(in_channel(command, self.number))

    def layer(self, layer: Any, /) -> Secured:
        return self.line.layer(layer)


@pytest.mark.parametrize(("number", "cla"), [(0, 0x80), (2, 0x82), (2, 0x02), (4, 0xC0), (9, 0xC5)])
def test_a_channel_that_the_caller_puts_into_the_class_is_not_covered(number: int, cla: int) -> None:
    inner = Inner()
    card = Scp03Card(inner, KEYS)
    line = Line(card)
    secure: Any = scp03.open(InChannel(line, number), KEYS)
    inner.answer = R_APDU(b"data", 0x90, 0x00)
    assert secure.send(C_APDU(cla, 0xCA, 0, 0, b"", 256)).data == b"data"
    assert inner.commands[-1].cla == cla & 0x80
    assert card.level == ALL


@pytest.mark.parametrize("cla", [0x04, 0x08, 0x0C, 0x20, 0x40, 0x60, 0x84, 0x8C, 0xA0, 0xD0, 0xE0, 0xFF])
def test_classes_without_a_place_for_it(cla: int) -> None:
    card, line, secure = opened()
    sent = len(line.sent)
    with pytest.raises(ValueError, match=f"class {cla:02X} has no place"):
        secure.send(C_APDU(cla, 0x10))
    assert len(line.sent) == sent
    assert secure.send(SELECT).sw == 0x9000
    assert card.level == ALL


@pytest.mark.parametrize("lengths", [Lengths.SHORT, Lengths.AUTO])
def test_a_command_that_became_too_long_is_refused_and_not_counted(lengths: Lengths) -> None:
    """SHORT; AUTO on T=0, where GlobalPlatform's classes have no ENVELOPE."""
    card = Scp03Card(FileCard(protocol=Protocol.T0), KEYS)
    line = Line(card, lengths)
    secure = scp03.open(line, KEYS)
    sent = len(line.sent)
    for size in (240, 247, 255, 1000):
        with pytest.raises(ValueError, match=r"SHORT|ENVELOPE"):
            secure.send(C_APDU(0x80, 0xE2, 0x00, 0x00, bytes(size)))
    assert len(line.sent) == sent
    assert secure.send(C_APDU(0x80, 0xE2, 0x00, 0x00, bytes(239))).sw == 0x6E00  # the class of the card inside
    assert secure.send(SELECT).sw == 0x9000
    assert card.level == ALL


@pytest.mark.parametrize("protocol", [Protocol.T0, Protocol.T1])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("i", [0x70, 0x71])
def test_whole_files_and_pins(i: int, level: Level, protocol: Protocol) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        virtual = Scp03Card(FileCard(protocol=protocol), KEYS, i=i)
        pcsc.insert("A", virtual)
        with sync.SCard(timeout=30) as card:
            secure = scp03.open(card, KEYS, level=level, mode=Mode.S16 if i & 1 else Mode.S8)
            secure.send(SELECT).check()
            assert iso7816.read_file(secure, 0x0002).check() == bytes(range(256)) * 4
            assert iso7816.verify_pin(secure, 0x01, b"1234").sw == 0x9000
            assert iso7816.write_file(secure, 0x0002, bytes(1024), part=223).written == 1024
            assert iso7816.read_file(secure, 0x0002).check() == bytes(1024)
            assert virtual.level == level


def test_a_command_that_became_an_envelope_which_the_card_refuses_is_not_counted() -> None:
    card = Scp03Card(FileCard(protocol=Protocol.T0), KEYS)
    line = Line(card)
    secure = scp03.open(line, KEYS)
    secure.send(SELECT)
    assert secure.send(C_APDU(0x00, 0xD6, 0x82, 0x00, bytes(255))).sw == 0x6982
    assert line.sent[-1][1] == 0xC2
    assert secure.send(READ).data == TEXT
    assert card.level == ALL


@pytest.mark.parametrize("level", LEVELS)
def test_the_longest_command_of_all(level: Level) -> None:
    card, _line, secure = opened(level)
    longest = 0xFFEF if level & Level.C_DECRYPTION else 0xFFFF - 8
    with pytest.raises(ValueError, match="too long for a secure channel"):
        secure.send(C_APDU(0x00, 0x10, 0, 0, bytes(longest + 1)))
    assert secure.send(C_APDU(0x00, 0x10, 0, 0, bytes(longest))).sw == 0x6D00
    assert card.level == level


# Opening


class Spoilt(Scp03Card):
    """Changes its answer to INITIALIZE UPDATE."""

    def __init__(self, change: Any, **configuration: Any) -> None:
        super().__init__(FileCard(), KEYS, **configuration)
        self.change = change

    def process(self, command: bytes) -> bytes:
        answer = super().process(command)
        changed: bytes = self.change(answer) if command[1] == 0x50 else answer
        return changed


def refused(card: VirtualCard, match: str, kind: type[Exception] = SecureChannelError, **arguments: Any) -> None:
    """The channel is not opened, and EXTERNAL AUTHENTICATE not sent."""
    line = Line(card)
    with pytest.raises(kind, match=match) as caught:
        scp03.open(line, **{"keys": KEYS, **arguments})
    assert [command[1] for command in line.sent] == [0x50]
    for key in (ENC, MAC, DEK):
        assert key.hex() not in repr(caught.value).lower()


@pytest.mark.parametrize("bit", range(8 * 16))
def test_each_bit_of_challenge_and_cryptogram_counts(bit: int) -> None:
    """S8: the last 16 bytes of 29, before the counter."""
    place = 13 + bit // 8
    change = lambda answer: answer[:place] + bytes((answer[place] ^ 1 << bit % 8,)) + answer[place + 1 :]  # noqa: E731
    refused(Spoilt(change), "cryptogram is wrong")


@pytest.mark.parametrize("name", ["enc", "mac"])
def test_other_keys_are_refused_before_the_card_counts_an_attempt(name: str) -> None:
    keys = {"enc": ENC, "mac": MAC, "dek": DEK}
    other = Keys(**{**keys, name: bytes(16)})
    if name == "mac":
        refused(Scp03Card(FileCard(), KEYS), "EXTERNAL AUTHENTICATE was not sent", keys=other)
    refused(Scp03Card(FileCard(), KEYS), "EXTERNAL AUTHENTICATE was not sent|not the pseudo-random", keys=other, aid=ISD)


def test_a_challenge_of_another_application_is_refused() -> None:
    refused(Scp03Card(FileCard(), KEYS), "not the pseudo-random one", aid=b"\xa0\x00\x00\x01\x51")
    line = Line(Scp03Card(FileCard(), KEYS, i=0x60))  # a random one says nothing
    assert scp03.open(line, KEYS, aid=b"\xa0\x00\x00\x01\x51").send(SELECT).sw == 0x9000


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda answer: answer[:12] + b"\x90\x00", "has 12 bytes, which is too short"),
        (lambda answer: b"\x90\x00", "has 0 bytes"),
        (lambda answer: answer[:-3] + b"\x90\x00", "has 31 bytes, with i = 70 it has 32"),
        (lambda answer: answer[:-2] + b"\x00\x90\x00", "has 33 bytes"),
        (lambda answer: answer[:20] + b"\x90\x00", "has 20 bytes, with i = 70 it has 32"),
        (lambda answer: answer[:11] + b"\x02" + answer[12:], "speaks SCP02"),
        (lambda answer: answer[:12] + b"\x60" + answer[13:], "has 32 bytes, with i = 60 it has 29"),
        (lambda answer: answer[:12] + b"\x71" + answer[13:], "configured for S16 .i = 71.: set mode=Mode.S16"),
        (lambda answer: answer[:12] + b"\x10" + answer[13:], "configured without R_MAC .i = 10.: set another level"),
        (lambda answer: answer[:12] + b"\x30" + answer[13:], "configured without R_ENCRYPTION"),
    ],
)
def test_what_a_card_may_answer_instead(change: Any, match: str) -> None:
    refused(Spoilt(change), match)


@settings(deadline=None)
@given(answer=st.binary(max_size=80), head=st.sampled_from((b"", bytes(10) + b"\x30\x03\x70", bytes(10) + b"\x30\x03\x00")))
def test_rubbish_opens_nothing(answer: bytes, head: bytes) -> None:
    line = Line(Spoilt(lambda _: head + answer + b"\x90\x00"))
    with pytest.raises(SecureChannelError):
        scp03.open(line, KEYS, level=Level.C_MAC)
    assert len(line.sent) == 1


@settings(deadline=None)
@given(answer=st.binary(min_size=2, max_size=80), level=st.sampled_from((Level.C_MAC | Level.R_MAC, ALL)))
def test_rubbish_is_no_response(answer: bytes, level: Level) -> None:
    """But for a bare error, which anybody can say."""
    if answer[-2] in (0x61, 0x6C):
        return  # more is asked for
    card, line, secure = opened(level)
    line.back = lambda _: answer
    if len(answer) == 2 and answer != b"\x90\x00" and answer[0] not in (0x62, 0x63):
        assert bytes(secure.send(SELECT)) == answer
        line.back = lambda its: its
        assert secure.send(READ).data == TEXT
        return
    with pytest.raises(SecureChannelError):
        secure.send(SELECT)
    with pytest.raises(LayerClosedError):
        secure.send(SELECT)
    assert card.level == level


def test_what_a_card_is_not_configured_for() -> None:
    refused(Scp03Card(FileCard(), KEYS, i=0x71), "6700", StatusError)
    refused(Scp03Card(FileCard(), KEYS), "6700", StatusError, mode=Mode.S16)
    refused(Scp03Card(FileCard(), KEYS), "6A88", StatusError, key_version=1)
    refused(Scp03Card(FileCard(), KEYS, i=0x00), "R_MAC", level=Level.C_MAC | Level.R_MAC)
    refused(Scp03Card(FileCard(), KEYS, i=0x20), "R_ENCRYPTION")
    refused(FileCard(), "6E00", StatusError)
    for i, level in ((0x00, Level.C_MAC | Level.C_DECRYPTION), (0x20, Level.C_MAC | Level.C_DECRYPTION | Level.R_MAC)):
        assert scp03.open(Line(Scp03Card(FileCard(), KEYS, i=i)), KEYS, level=level).send(SELECT).sw == 0x9000


@pytest.mark.parametrize("bit", range(8 * 16))
def test_each_bit_of_external_authenticate_counts(bit: int) -> None:
    card = Scp03Card(FileCard(), KEYS)
    line = Line(card)
    place = 5 + bit // 8
    line.there = lambda tpdu: tpdu[:place] + bytes((tpdu[place] ^ 1 << bit % 8,)) + tpdu[place + 1 :] if tpdu[1] == 0x82 else tpdu
    with pytest.raises(StatusError, match="6982"):
        scp03.open(line, KEYS)
    assert card.level == 0
    assert card.sequence_counter == 0


def test_keys_may_be_computed_from_what_the_card_says() -> None:
    asked: list[scp03.InitializeUpdateResponse] = []

    def diversified(answer: scp03.InitializeUpdateResponse) -> Keys:
        asked.append(answer)
        return KEYS

    line = Line(Scp03Card(FileCard(), KEYS, diversification_data=b"0123456789", key_version=0x31))
    assert scp03.open(line, diversified).send(SELECT).sw == 0x9000
    [answer] = asked
    assert (answer.diversification_data, answer.key_version, answer.i, answer.sequence_counter) == (b"0123456789", 0x31, 0x70, 0)
    assert "challenge" not in repr(answer)
    assert "cryptogram" not in repr(answer)
    refused(Scp03Card(FileCard(), KEYS), "returned no Keys but bytes", TypeError, keys=lambda answer: b"")


def test_a_challenge_of_ones_own() -> None:
    line = Line(Scp03Card(FileCard(), KEYS))
    scp03.open(line, KEYS, host_challenge=bytes(range(8)))
    assert line.sent[0] == bytes.fromhex("8050000008000102030405060700")
    scp03.open(line, KEYS)
    scp03.open(line, KEYS)
    assert len({command[5:13] for command in line.sent if command[1] == 0x50}) == 3


@pytest.mark.parametrize(
    ("arguments", "kind", "match"),
    [
        ({"keys": b""}, TypeError, "keys is Keys"),
        ({"level": 0}, ValueError, "level is C_MAC"),
        ({"level": Level.C_DECRYPTION}, ValueError, "level is C_MAC"),
        ({"level": Level.C_MAC | Level.R_ENCRYPTION}, ValueError, "level is C_MAC"),
        ({"level": 0x41}, ValueError, "level is C_MAC"),
        ({"mode": 12}, ValueError, "12 is not a valid"),
        ({"host_challenge": bytes(16)}, ValueError, "8 bytes in mode S8, not 16"),
        ({"host_challenge": bytes(8), "mode": Mode.S16}, ValueError, "16 bytes in mode S16, not 8"),
        ({"host_challenge": "12345678"}, TypeError, "host_challenge is bytes"),
        ({"key_version": 256}, ValueError, "key_version is 0 to 255"),
        ({"key_id": -1}, ValueError, "key_id is 0 to 255"),
        ({"key_id": "1"}, TypeError, "key_id is a number"),
        ({"aid": bytes(17)}, ValueError, "aid has at most 16 bytes"),
        ({"card": object()}, TypeError, r"send\(\) and layer\(\), not object"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(arguments: dict[str, Any], kind: type[Exception], match: str) -> None:
    line = Line(Scp03Card(FileCard(), KEYS))
    with pytest.raises(kind, match=match):
        scp03.open(**{"card": line, "keys": KEYS, **arguments})
    assert not line.sent


# Keys


@pytest.mark.parametrize("sizes", [(16, 16, 24), (15, 15, 15), (0, 0, 0), (16, 24, 24), (64, 64, 64)])
def test_keys_of_no_length(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="16, 24 or 32 bytes, all the same"):
        Keys(*map(bytes, sizes))


def test_what_is_no_key() -> None:
    with pytest.raises(TypeError, match="enc is bytes, not str"):
        Keys("00" * 16, MAC)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dek is bytes"):
        Keys(ENC, MAC, 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="16, 24 or 32 bytes, not 8"):
        key_check_value(bytes(8))


def test_the_data_encryption_key() -> None:
    """A key for PUT KEY, with the values of NIST SP 800-38A, F.2.1 and F.2.5, whose first block is not chained from zeros."""
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    plain = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
    iv = bytes(range(16))
    keys = Keys(key, key, key)
    first = bytes(a ^ b for a, b in zip(plain, iv, strict=True))
    second = bytes.fromhex("ae2d8a571e03ac9c9eb76fac45af8e51")
    expected = "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"
    assert keys.encrypt_with_dek(first + second) == bytes.fromhex(expected)
    for wrong in (b"", bytes(15), bytes(24)):
        with pytest.raises(ValueError, match="whole blocks of 16 bytes"):
            keys.encrypt_with_dek(wrong)
    with pytest.raises(ValueError, match="no Key-DEK"):
        Keys(key, key).encrypt_with_dek(bytes(16))


def test_keys_are_in_no_repr_pickle_or_copy() -> None:
    session = scp03.SCP03(KEYS, ALL, bytes(8), bytes(8))
    for thing, words in (
        (KEYS, "Keys(<AES-128> with Key-DEK)"),
        (Keys(bytes(32), bytes(32)), "Keys(<AES-256>)"),
        (session, "SCP03"),
    ):
        assert words in repr(thing)
        for key in (ENC, MAC, DEK, session._enc, session._mac, session._rmac):
            assert key.hex() not in repr(thing).lower()
            assert repr(key)[2:-1] not in repr(thing)
        for copied in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be copied or pickled"):
                copied(thing)  # type: ignore[operator]
    assert not hasattr(KEYS, "__dict__")


def test_errors_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(SecureChannelError("wrong")))
    assert isinstance(error, SecureChannelError)
    assert isinstance(error, SCardError)
    assert str(error) == "wrong"


def test_a_missing_extra_says_what_to_install() -> None:
    program = "import sys\nsys.modules['cryptography'] = None\nimport scardface\nimport scardface.scp03"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: SCP03 needs the package cryptography: {pip_install('scp')}"


# On both faces


@pytest.mark.anyio
@both_faces
@pytest.mark.parametrize("level", LEVELS)
async def test_a_channel_on_both_faces(face: Any, level: Level, caplog: pytest.LogCaptureFixture) -> None:
    """Its first command, a batch, what a callback sees; and nothing secret in the log."""
    with SimulatedPCSC() as pcsc, caplog.at_level(logging.DEBUG):
        pcsc.add_reader("A")
        virtual = Scp03Card(FileCard(), KEYS)
        pcsc.insert("A", virtual)
        async with face.open(timeout=30) as card:
            secure = await scp03.open(card, KEYS, level=level)
            assert virtual.level == level
            seen: list[C_APDU] = []
            response = await secure.send(SELECT, READ, callback=lambda command, _: seen.append(command))
            assert response.data == TEXT
            assert seen == [SELECT, READ]
            assert (await secure.send(C_APDU(0x00, 0x20, 0x00, 0x01, b"4711"), READ)).sw == 0x63C2
            assert (await secure.send(READ)).data == TEXT
            assert (await card.send(SELECT)).sw == 0x6982  # not secured
            assert (await secure.send(READ)).data == TEXT
            await card.reset()
            assert (await secure.send(READ)).sw == 0x6982
            secure = await scp03.open(card, KEYS, level=level)
            assert (await secure.send(SELECT, READ)).data == TEXT
    assert f"8482{level:02X}00 <16 bytes>" in caplog.text
    assert "80500000 <8 bytes>" in caplog.text
    for secret in (ENC, MAC, DEK, b"4711"):
        assert secret.hex() not in caplog.text.lower()


@pytest.mark.anyio
@both_faces
@pytest.mark.parametrize("number", [1, 4, 19])
async def test_a_channel_in_a_logical_channel(face: Any, number: int) -> None:
    """The MACs do not cover its number, the class on the line has it."""
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        virtual = Scp03Card(FileCard(), KEYS)
        pcsc.insert("A", virtual)
        async with face.open(timeout=30) as card:
            for _ in range(1, number):
                await card.transmit(bytes.fromhex("0070000001"))
            async with card.channel() as channel:
                assert channel.number == number
                secure = await scp03.open(channel, KEYS)
                get_challenge = C_APDU(0x80, 0x84, 0x00, 0x00, b"", 8)
                assert (await secure.send(get_challenge)).sw == 0x6E00  # the card inside: FileCard knows class 00 alone
                if number < 4:
                    assert (await secure.send(SELECT, READ)).data == TEXT
                else:
                    with pytest.raises(ValueError, match="class 04"):
                        await secure.send(SELECT)
                assert (await secure.send(get_challenge)).sw == 0x6E00
                assert (await card.send(SELECT)).sw == 0x9000  # the basic channel has no session
                assert virtual.level == ALL
            assert virtual.level == 0


@pytest.mark.parametrize(("code", "kind"), [(errors.NOT_TRANSACTED, CardCommunicationError), (errors.RESET_CARD, CardResetError)])
@pytest.mark.anyio
@both_faces
async def test_a_failure_of_the_line_closes_a_channel(
    face: Any, code: int, kind: type[SCardError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 30)
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", Scp03Card(FileCard(), KEYS))
        async with face.open(timeout=30) as card:
            secure = await scp03.open(card, KEYS)
            assert (await secure.send(SELECT)).sw == 0x9000
            pcsc.inject("SCardTransmit", code)
            with pytest.raises(kind):
                await secure.send(READ)
            for _ in range(2):
                with pytest.raises(LayerClosedError, match="SCP03: the card has not answered"):
                    await secure.send(READ)
            secure = await scp03.open(card, KEYS)
            assert (await secure.send(SELECT, READ)).data == TEXT
            pcsc.remove("A")
            with pytest.raises(CardRemovedError):
                await secure.send(READ)


class Slow(FileCard):
    """Answers READ BINARY of the long file when its gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.reached = threading.Event(), threading.Event()

    def process(self, command: bytes) -> bytes:
        if command[1:3] == b"\xb0\x82":
            self.reached.set()
            assert self.gate.wait(30), "the test never opened the gate"
        return super().process(command)


READ_LONG = C_APDU(0x00, 0xB0, 0x82, 0x00, b"", 256)


@pytest.mark.anyio
@both_faces
async def test_a_command_that_takes_too_long_ends_in_its_own_time(face: Any) -> None:
    """The caller leaves; the card's thread hears the answer, so both stay in step."""
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        slow = Slow()
        pcsc.insert("A", Scp03Card(slow, KEYS))
        async with face.open(timeout=30) as card:
            secure = await scp03.open(card, KEYS)
            await secure.send(SELECT)
            with pytest.raises(CardTimeoutError):
                await secure.send(READ_LONG, READ, timeout=0.05)
            slow.gate.set()
            assert (await secure.send(READ)).data == TEXT


@pytest.mark.anyio
async def test_a_command_that_is_cancelled_ends_in_its_own_time() -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        slow = Slow()
        pcsc.insert("A", Scp03Card(slow, KEYS))
        async with SCard(timeout=30) as card:
            secure = await scp03.open(card, KEYS)
            await secure.send(SELECT)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(secure.send, READ_LONG, READ)
                await off_loop(slow.reached.wait, 30)
                tasks.cancel_scope.cancel()
            slow.gate.set()
            assert (await secure.send(READ)).data == TEXT


def test_the_sync_face_and_a_recorder(tmp_path: Path) -> None:
    """Without an event loop. What is recorded is not secured."""
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", Scp03Card(FileCard(), KEYS))
        with sync.SCard(timeout=30) as card:
            assert scp03.open(card, KEYS).send(SELECT, READ).data == TEXT
            with Recorder(card, tmp_path / "session.cassette") as recorder:
                assert scp03.open(recorder, KEYS).send(SELECT, READ).data == TEXT
    text = (tmp_path / "session.cassette").read_text(encoding="utf-8")
    assert TEXT.hex() in text.lower().replace(" ", "")


@pytest.mark.anyio
@both_faces
async def test_on_the_real_daemon(face: Any, pcscd: PrivatePcscd) -> None:
    for place, (protocol, i) in enumerate(((Protocol.T1, 0x70), (Protocol.T0, 0x71))):
        virtual = Scp03Card(FileCard(protocol=protocol), KEYS, i=i)
        pcscd.insert(place, virtual)
        async with face.open(pcscd.readers[place], timeout=30) as card:
            secure = await scp03.open(card, KEYS, mode=Mode.S16 if i & 1 else Mode.S8, aid=ISD)
            assert virtual.level == ALL
            assert (await secure.send(SELECT, READ)).data == TEXT
            assert (await secure.send(C_APDU(0x00, 0xB0, 0x82, 0x00, b"", 256))).data == bytes(range(256))
            await card.reset(cold=True)
            assert virtual.level == 0
            assert (await secure.send(READ)).sw == 0x6982
            if protocol is Protocol.T1:
                async with card.channel() as channel:
                    secure = await scp03.open(channel, KEYS)
                    assert (await secure.send(SELECT, READ)).data == TEXT
        assert virtual.error is None
