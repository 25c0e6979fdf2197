"""The promise: bad input is a clear error before anything is sent, or at the call; what a card says badly is told as bad; the
card stays usable where it can be.

Proved here: wrong arguments of every public constructor and method; names with odd characters; no APDU, and one too large for
everything; cards with ATRs of 0, 1, 33 and 40 bytes, and cards that answer any bytes at all (hypothesis). Proved elsewhere:
each argument of an acquisition (test_card_request.py), malformed commands (test_apdu.py), names that bindings do not take
(test_watcher.py, test_pyscard.py).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import scardface
from scardface import (
    C_APDU,
    R_APDU,
    CardCommunicationError,
    CardTimeoutError,
    Disposition,
    NoReaderError,
    Protocol,
    ProtocolMismatchError,
    ReaderMonitor,
    SCard,
    SCardError,
    ShareMode,
    sync,
)
from scardface.testing import PrivatePcscd, SimulatedPCSC, VirtualCard
from tests.support.cards import BOTH, ECHO, T1, LogCard
from tests.support.faces import both_faces, off_loop
from tests.support.figures import times
from tests.support.waits import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]

SAY = C_APDU(0, ECHO, 0, 0, b"x")


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    """A simulation with a card in its only reader."""
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard(BOTH))
        yield pcsc


WRONG_CARDS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "readers of numbers": ({"readers": [1, 2]}, TypeError),
    "readers as a number": ({"readers": 5}, TypeError),
    "readers as a bytes pattern": ({"readers": re.compile(b"A")}, TypeError),
    "groups of bytes": ({"groups": [b"A"]}, TypeError),
    "a timeout before now": ({"timeout": -2}, ValueError),
    "no number": ({"timeout": float("nan")}, ValueError),
    "minus infinity": ({"timeout": float("-inf")}, ValueError),
    "a timeout in words": ({"timeout": "5"}, TypeError),
    "a timeout that is true": ({"timeout": True}, TypeError),
    "a timeout of more than a float": ({"timeout": 10**400}, ValueError),
    "an atr of text": ({"atr": "3B"}, TypeError),
    "an atr that does not compile": ({"atr": rb"(\x3b"}, ValueError),
    "an atr compiled of text": ({"atr": re.compile("3B")}, TypeError),
    "a share mode that there is not": ({"share": 9}, ValueError),
    "a share mode in words": ({"share": "shared"}, ValueError),
    "no protocol": ({"protocols": Protocol.UNDEFINED}, ValueError),
    "RAW beside another": ({"protocols": Protocol.RAW | Protocol.T1}, ValueError),
    "lengths that there are not": ({"lengths": 77}, ValueError),
    "options that are none": ({"options": {}}, TypeError),
    "an atr without a card": ({"share": ShareMode.DIRECT, "atr": b"3"}, ValueError),
    "on_reset of another word": ({"on_reset": "ignore"}, ValueError),
    "settle before now": ({"settle": -1}, ValueError),
    "settle without an end": ({"settle": float("inf")}, ValueError),
}


@pytest.mark.parametrize("face", [scardface, sync], ids=["async", "sync"])
@pytest.mark.parametrize("case", list(WRONG_CARDS))
def test_arguments_of_a_card(pcsc: SimulatedPCSC, case: str, face: Any) -> None:
    """Refused by the constructor, before any call of PC/SC; the text names the argument."""
    arguments, kind = WRONG_CARDS[case]
    with pytest.raises(kind) as caught:
        face.SCard(**arguments)
    assert next(iter(reversed(arguments))) in str(caught.value) or next(iter(arguments)) in str(caught.value)
    assert not pcsc.calls


@pytest.mark.parametrize("face", [scardface, sync], ids=["async", "sync"])
@pytest.mark.parametrize("arguments", [{"readers": 5}, {"readers": [b"A"]}, {"groups": 5}, {"readers": re.compile(b"A")}], ids=str)
def test_arguments_of_a_monitor(pcsc: SimulatedPCSC, arguments: dict[str, Any], face: Any) -> None:
    with pytest.raises(TypeError):
        face.ReaderMonitor(**arguments)
    assert not pcsc.calls


@both_faces
async def test_arguments_of_an_open_cards_calls(pcsc: SimulatedPCSC, face: Any) -> None:
    """Nothing reaches the card, and the card works on."""
    card = pcsc.cards["A"]
    assert isinstance(card, LogCard)
    async with face.open(timeout=30) as ours:
        calls: tuple[tuple[Callable[[], Awaitable[object]], type[Exception]], ...] = (
            (lambda: ours.send(), ValueError),
            (lambda: ours.send(None), TypeError),
            (lambda: ours.send("00A40000"), TypeError),
            (lambda: ours.send([0, 0xA4, 0, 0]), TypeError),
            (lambda: ours.send(0), TypeError),
            (lambda: ours.send(b""), ValueError),
            (lambda: ours.send(b"\x00\xa4\x00"), ValueError),
            (lambda: ours.send(SAY, b"\x00"), ValueError),
            (lambda: ours.send(SAY, None), TypeError),
            (lambda: ours.send(bytes(70_000)), ValueError),
            (lambda: ours.transmit(b""), ValueError),
            (lambda: ours.transmit(b"\x00\x10\x00"), ValueError),
            (lambda: ours.transmit([0, 1, 2, 3]), TypeError),
            (lambda: ours.transmit("00100000"), TypeError),
            (lambda: ours.control("x"), TypeError),
            (lambda: ours.control(-1), ValueError),
            (lambda: ours.control(1 << 32), ValueError),
            (lambda: ours.control(1, "x"), TypeError),
            (lambda: ours.attribute("x"), TypeError),
            (lambda: ours.attribute(-1), ValueError),
            (lambda: ours.reconnect(share=9), ValueError),
            (lambda: ours.reconnect(protocols=Protocol.UNDEFINED), ValueError),
            (lambda: ours.aclose(99), ValueError),
        )
        for call, kind in calls:
            with pytest.raises(kind):
                await call()
            assert not card.commands
        assert (await ours.send(SAY)).data == b"x"


@pytest.mark.parametrize(
    "name",
    [
        "Leser \u00e4\u00f6\u00fc",
        "\u8aad\u307f\u53d6\u308a\u6a5f",
        "a\0b",
        "",
        " ",
        "\n",
        "x" * 10_000,
        "\\\\?PnP?\\Notification",
        "%s{}",
    ],
)
@both_faces
async def test_names_with_odd_characters(pcsc: SimulatedPCSC, face: Any, name: str) -> None:
    """Such a reader is not there; nothing breaks. (What a binding cannot take, fact 42, does not reach it.)"""
    with pytest.raises(NoReaderError) as caught:
        async with face.open(name, timeout=30):
            pytest.fail("there is no such reader")
    assert "'A'" in str(caught.value)  # it says which there are
    async with face.open([name, "A"], timeout=30) as card:
        assert (await card.send(SAY)).data == b"x"


@pytest.mark.parametrize("name", ["Leser \u00e4", "a\0b", "x" * 10_000])
async def test_names_with_odd_characters_on_pcscd(pcscd: PrivatePcscd, name: str) -> None:
    with pytest.raises(NoReaderError):
        await SCard(name, timeout=1)
    async with ReaderMonitor(name) as monitor:
        with anyio.move_on_after(0.05) as scope:
            await monitor.__anext__()
        assert scope.cancelled_caught


@both_faces
async def test_the_largest_commands(pcsc: SimulatedPCSC, face: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ISO 7816-4 can say is taken; what PC/SC cannot carry of it (fact 36) says so; more cannot be made."""
    monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 5)
    async with face.open(timeout=30) as card:
        assert (await card.send(C_APDU(0, 0x11, 0, 0, bytes(65_500), 65_536))).sw == 0x9000
        with pytest.raises(CardCommunicationError, match="65544 bytes: failed"):
            await card.send(C_APDU(0, 0x11, 0, 0, bytes(65_535), 65_536))
        with pytest.raises(ValueError, match="data"):
            C_APDU(0, ECHO, 0, 0, bytes(65_536))
        with pytest.raises(ValueError, match="le"):
            C_APDU(0, ECHO, 0, 0, b"", 65_537)
        with pytest.raises(SCardError):
            await card.transmit(bytes(200_000))
        assert (await card.send(SAY)).data == b"x"


@pytest.mark.parametrize("length", [1, 2, 33, 40, 200])
async def test_odd_atrs(pcsc: SimulatedPCSC, length: int) -> None:
    """A reader may report anything: more than the 33 bytes of ISO 7816-3:2006, 8.2.1, or less than the 2 that there must be."""
    atr = (T1 + bytes(200))[:length]
    reader = pcsc._service.find("A")
    assert reader is not None
    reader.atr = atr  # a virtual card cannot have it
    async with ReaderMonitor() as monitor:
        await monitor.__anext__()
        event = await monitor.__anext__()
        assert isinstance(event, scardface.CardInserted)
        assert event.atr == atr
        assert repr(event.atr)
        assert str(event.atr.protocols)
    if length < 3:  # too short to offer a protocol
        with pytest.raises(CardTimeoutError) as caught:
            await SCard(timeout=0, atr=re.escape(atr))
        assert isinstance(caught.value.__cause__, ProtocolMismatchError)
        return
    async with SCard(timeout=0, atr=re.escape(atr)) as card:
        assert card.atr == atr
        assert (await card.send(SAY)).data == b"x"


async def test_a_card_without_an_atr(pcsc: SimulatedPCSC) -> None:
    pcsc.remove("A")
    pcsc.insert("A", LogCard(b""))
    with pytest.raises(CardTimeoutError, match="does not answer"):
        await SCard(timeout=0)
    async with SCard(timeout=30, share=ShareMode.DIRECT) as reader:
        assert reader.atr == b""


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=False)
@pytest.mark.parametrize("length", [0, 1, 33])
async def test_odd_atrs_on_pcscd(pcscd: PrivatePcscd, length: int) -> None:
    """The daemon's own opinion decides whether it is a card; ours does not crash."""
    await off_loop(pcscd.insert, 0, LogCard((T1 + bytes(40))[:length]))
    await off_loop(pcscd.insert, 1, LogCard())
    await off_loop(pcscd.wait_for_card, 1)
    states = await scardface.states()
    assert all(len(state.atr) <= 33 for state in states.values())
    try:
        async with SCard(pcscd.readers[0], timeout=2) as card:
            await card.send(SAY)
    except SCardError as error:
        refused = str(error)
        assert "0x8010" in refused or "no matching card" in refused
    async with SCard(pcscd.readers[1], timeout=30) as card:
        assert (await card.send(SAY)).data == b"x"


class Babbling(VirtualCard):
    """Answers what it is told to, in turn; then 9000."""

    def __init__(self, atr: bytes) -> None:
        self.atr = atr
        self.answers: list[bytes] = []

    def process(self, command: bytes) -> bytes:
        return self.answers.pop(0) if self.answers else b"\x90\x00"


STATUS = st.builds(bytes, st.tuples(st.sampled_from(b"\x61\x6c\x90\x62\x67\x68\x9f"), st.integers(0, 255)))
RUBBISH = st.lists(
    st.one_of(st.binary(min_size=1, max_size=40), st.builds(bytes.__add__, st.binary(max_size=300), STATUS)), max_size=12
)
BYTE = st.integers(0, 255)
COMMANDS = st.builds(
    C_APDU,
    st.sampled_from([0x00, 0x0C, 0x10, 0x41, 0x80, 0xA0, 0xFF]),
    BYTE,
    BYTE,
    BYTE,
    st.one_of(st.binary(max_size=20), st.binary(min_size=254, max_size=700)),
    st.sampled_from([0, 1, 255, 256, 257, 65_536]),
)


@pytest.mark.parametrize("atr", [T1, bytes.fromhex("3B00"), bytes.fromhex("3B80800101")], ids=["T1", "T0", "both"])
def test_a_card_that_answers_rubbish(atr: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command ends, with a response or a clear error, and the card is still usable."""
    monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 5)
    babbling = Babbling(atr)
    said: list[str] = []
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", babbling)
        with sync.SCard(timeout=30) as card:

            @settings(max_examples=times(60, 2_000), database=None, suppress_health_check=list(HealthCheck))
            @given(answers=RUBBISH, commands=st.lists(COMMANDS, min_size=1, max_size=3))
            def babble(answers: list[bytes], commands: list[C_APDU]) -> None:
                babbling.answers = list(answers)
                try:
                    assert isinstance(card.send(*commands), R_APDU)
                except (CardCommunicationError, ValueError) as error:
                    said.append(str(error))
                babbling.answers = []
                assert card.send(SAY).sw == 0x9000

            babble()
            assert all(said)


def test_what_a_close_may_do(pcsc: SimulatedPCSC) -> None:
    """A wrong disposition closes nothing; the next close does."""
    card = sync.SCard(timeout=30)
    with pytest.raises(ValueError, match="disposition"):
        card.close("gently")  # type: ignore[arg-type]  # on purpose
    assert card.send(SAY).data == b"x"
    card.close(Disposition.LEAVE)
    card.close()
    wait_until(lambda: not pcsc.open_contexts)
