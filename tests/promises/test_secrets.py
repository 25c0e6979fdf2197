"""The promise: a PIN given to VERIFY is in no log at any level, in no repr, in no exception's text, in no traceback, in no
cassette.

Proved here: a PIN that is right, wrong, cut off, refused, answered with rubbish, lost with the card, its reader or its service,
on both faces, from both kinds of commands, in batches, callbacks, transactions and layers; then everything written is searched
for it. Not promised: tracebacks of the kind that show local variables; somewhere on its way the PIN is one. Proved elsewhere:
which commands are secret (replay/test_secrets.py).
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import scardface
from scardface import C_APDU, R_APDU, Lengths, ShareMode
from scardface.replay import Recorder, ReplayCard
from scardface.sync import SCard
from scardface.testing import FileCard, PrivatePcscd, SimulatedPCSC
from tests.support.cards import BROKEN, GATE, LogCard
from tests.support.faces import AsyncFace, both_faces, off_loop

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]

PIN = b"73590418"
VERIFY = C_APDU(0x00, 0x20, 0x00, 0x01, PIN)
PACKAGE = str(Path(scardface.__file__).parent)
FORMS = (
    PIN.decode(),
    PIN.hex(),
    PIN.hex().upper(),
    PIN.hex(" "),
    PIN.hex(" ").upper(),
    str(list(PIN))[1:-1],
    ", ".join(hex(byte) for byte in PIN),
    "".join(f"\\x{byte:02x}" for byte in PIN),
)
"""How eight bytes may look in a text."""


def assert_silent(*texts: object) -> None:
    """The PIN is in none of them."""
    for text in texts:
        assert not [form for form in FORMS if form in str(text)], f"the PIN stands in:\n{text}"


def assert_keeps(error: BaseException) -> None:
    """The PIN is neither in what an exception says nor in what its traceback shows, those of its causes included."""
    assert_silent(error, repr(error), error.args, vars(error), "".join(traceback.format_exception(error)))


class _Everything(logging.Handler):
    """Keeps all that is logged, as it is and as it is formatted."""

    def __init__(self) -> None:
        super().__init__(level=1)
        self.setFormatter(logging.Formatter())
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{self.format(record)} {record.msg!r} {record.args!r}")


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[str]]:
    """All loggers at the lowest level; at the end of the test all that they said is searched."""
    handler, root = _Everything(), logging.getLogger()
    named = [root, *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    before = [(logger, logger.level) for logger in named]
    for logger in named:
        logger.setLevel(1)
    root.addHandler(handler)
    try:
        yield handler.texts
    finally:
        root.removeHandler(handler)
        for logger, level in before:
            logger.setLevel(level)
    assert_silent(*handler.texts)


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    """A simulation with one reader."""
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        yield pcsc


class Rubbish(LogCard):
    """Answers VERIFY with what is given."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self._answer = answer

    def process(self, command: bytes) -> bytes:
        return self._answer


def test_the_forms_are_found() -> None:
    for text in (f"{PIN!r}", f"{list(PIN)}", PIN.hex(), bytearray(PIN)):
        with pytest.raises(AssertionError, match="stands in"):
            assert_silent(text)


def test_values() -> None:
    """Commands and what their making says."""
    assert_silent(VERIFY, repr(VERIFY), f"{VERIFY}", [VERIFY], {VERIFY: 1})
    cases: tuple[Callable[[], object], ...] = (
        lambda: C_APDU.from_bytes(b"\x00\x20\x00\x01\x09" + PIN),
        lambda: C_APDU.fromhex("00200001" + PIN.hex()),
        lambda: C_APDU(0x00, 0x20, 0x00, 0x01, PIN * 10_000),
        lambda: C_APDU(0x00, 0x20, 0x00, 0x01, PIN.decode()),  # type: ignore[arg-type]  # on purpose
        lambda: C_APDU(0x00, 0x20, 0x00, 0x01, PIN, 70_000),
    )
    for wrong in cases:
        with pytest.raises((ValueError, TypeError)) as caught:
            wrong()
        assert_keeps(caught.value)


@both_faces
async def test_right_and_wrong(pcsc: SimulatedPCSC, face: Any, logged: list[str]) -> None:
    """The card's answer is told, and what it was an answer to is not."""
    pcsc.insert("A", FileCard())
    async with face.open(timeout=30, share=ShareMode.SHARED) as card:
        for command in (VERIFY, bytes(VERIFY), bytearray(bytes(VERIFY)), memoryview(bytes(VERIFY))):
            response = await card.send(command)
            assert response.sw in (0x63C2, 0x63C1, 0x63C0, 0x6983)
            with pytest.raises(scardface.StatusError) as caught:
                response.check()
            assert_keeps(caught.value)
            assert_silent(repr(card), repr(response), repr(caught.value.response))
    assert any("00200001" in text for text in logged)  # the trace was on


@pytest.mark.parametrize(
    "answer", [b"\x90", b"", b"\x61\x00", b"\x6c\x01", PIN[:1], b"\x6c\x08" + PIN], ids=lambda answer: answer[:2].hex() or "nothing"
)
@both_faces
async def test_rubbish(pcsc: SimulatedPCSC, face: Any, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 20)
    card = Rubbish(answer)
    if not answer:
        pcsc.inject("SCardTransmit", 0x8010002F)
    pcsc.insert("A", card)
    async with face.open(timeout=30) as ours:
        with pytest.raises((scardface.SCardError, scardface.StatusError)) as caught:
            (await ours.send(VERIFY)).check()
        assert_keeps(caught.value)


@pytest.mark.parametrize("code", [0x80100069, 0x80100068, 0x80100016, 0x80100013, 0x80100017, 0x80100001, 0x80100011])
@both_faces
async def test_failures(pcsc: SimulatedPCSC, face: Any, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """PC/SC's codes under a VERIFY, alone, in a batch with a callback, and in a transaction."""
    monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 20)
    pcsc.insert("A", LogCard())
    async with face.open(timeout=30, share=ShareMode.SHARED) as card:
        heard: list[str] = []

        def callback(command: C_APDU, response: R_APDU) -> None:
            heard.append(f"{command} {command!r} {response!r}")

        for use in (
            lambda: card.send(VERIFY),
            lambda: card.send(VERIFY, VERIFY, callback=callback),
            lambda: _in_a_transaction(card),
        ):
            pcsc.inject("SCardTransmit", code)
            with pytest.raises(scardface.SCardError) as caught:
                await use()
            assert_keeps(caught.value)
        await card.send(VERIFY, callback=callback)
        assert_silent(heard)


async def _in_a_transaction(card: Any) -> None:
    async with card.transaction():
        await card.send(VERIFY)


@both_faces
async def test_refusals(pcsc: SimulatedPCSC, face: Any) -> None:
    """What cannot be sent, and what the program's own code raises in between."""
    pcsc.insert("A", LogCard())

    def fail(command: C_APDU, response: R_APDU) -> None:
        raise KeyError("the program's own")

    class Layer:
        def wrap(self, command: C_APDU) -> C_APDU:
            raise KeyError("the program's own")

        def unwrap(self, response: R_APDU) -> R_APDU:
            return response

    async with face.open(timeout=30, lengths=Lengths.SHORT) as card:
        long = C_APDU(0x00, 0x20, 0x00, 0x01, PIN * 100)
        uses: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: card.send(long),
            lambda: card.send(VERIFY, long),
            lambda: card.send(bytes(VERIFY)[:-1]),
            lambda: card.send(PIN.decode()),
            lambda: card.send(VERIFY, callback=fail),
            lambda: card.layer(Layer()).send(VERIFY),
        )
        for use in uses:
            with pytest.raises((ValueError, TypeError, KeyError)) as caught:
                await use()
            assert_keeps(caught.value)
    for use in (lambda: card.send(VERIFY), lambda: card.transmit(bytes(VERIFY))):
        with pytest.raises(RuntimeError) as closed:
            await use()
        assert_keeps(closed.value)


@both_faces
async def test_transmit(pcsc: SimulatedPCSC, face: Any) -> None:
    pcsc.insert("A", LogCard())
    async with face.open(timeout=30) as card:
        await card.transmit(bytes(VERIFY))
        pcsc.inject("SCardTransmit", 0x80100069)
        with pytest.raises(scardface.CardRemovedError) as caught:
            await card.transmit(bytes(VERIFY))
        assert_keeps(caught.value)


async def test_a_cancelled_verify(pcsc: SimulatedPCSC) -> None:
    """In asyncio's and trio's own words, too."""

    class Slow(LogCard):
        def process(self, command: bytes) -> bytes:
            return super().process(bytes([0, GATE]) + command[2:])

    slow = Slow()
    pcsc.insert("A", slow)
    async with AsyncFace().open(timeout=30) as card:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(card.send, VERIFY)
                await off_loop(slow.reached.wait, 5)
                try:
                    scope.cancel()
                    await anyio.sleep(1)
                except BaseException as error:
                    assert_keeps(error)
                    raise
        slow.gate.set()


async def test_on_pcscd(pcscd: PrivatePcscd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The binding's own words: pulled in the middle, and answered with one byte."""

    class Leaves(LogCard):
        def process(self, command: bytes) -> bytes:
            if command[1] == 0x20:
                pcscd.remove(0)
            return super().process(command)

    await off_loop(pcscd.insert, 0, Leaves())
    await off_loop(pcscd.wait_for_card, 0)
    async with AsyncFace().open(timeout=30) as card:
        with pytest.raises(scardface.CardCommunicationError) as broken:
            await card.send(C_APDU(0, BROKEN, 0, 0, PIN))
        assert_silent(broken.value)
        monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 30_000)  # a busy pcscd notices it later than after 400 ms
        with pytest.raises(scardface.CardRemovedError) as removed:
            await card.send(VERIFY)
        assert_keeps(removed.value)


def test_cassettes(pcsc: SimulatedPCSC, tmp_path: Path) -> None:
    """What is written, and what is said when it is played."""
    path = tmp_path / "session.cassette"
    pcsc.insert("A", FileCard())
    with SCard(timeout=30) as card, Recorder(card, path) as recorder:
        recorder.send(VERIFY)
        recorder.send(C_APDU(0x00, 0x24, 0x00, 0x01, PIN + b"1234"))
        recorder.transmit(bytes(VERIFY))
    text = path.read_text(encoding="utf-8")
    assert "VERIFY" not in text
    assert "00200001 <secret>" in text
    assert_silent(text)
    pcsc.remove("A")
    pcsc.insert("A", ReplayCard(path))
    with SCard(timeout=30) as card:
        card.send(VERIFY)
        with pytest.raises(scardface.StatusError) as refused:
            card.send(C_APDU(0x00, 0x20, 0x00, 0x02, PIN)).check()  # of another PIN, which is not recorded
        assert_keeps(refused.value)
    with pytest.raises(LookupError) as caught:
        pcsc.remove("A")
    assert_keeps(caught.value)
