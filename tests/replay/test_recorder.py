"""The recorder, on both faces: what it writes, what it leaves out, what it plays in each mode; and a session on the real daemon."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import scardface
from scardface import C_APDU, R_APDU, Lengths, Protocol, SCardError, ShareMode, StatusError, sync
from scardface.replay import CassetteError, Mode, Recorder, ReplayCard, UnrecordedCommandError, carries_secret, may_carry_secret
from scardface.testing import FileCard, SimulatedPCSC, VirtualCard
from tests.support.faces import both_faces, off_loop

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

PIN = b"\x31\x39\x37\x32\x35\x36"
SELECT = C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xf0SCARDFACE", 256)
VERIFY = C_APDU(0x00, 0x20, 0x00, 0x01, PIN)
WRONG = C_APDU(0x00, 0x20, 0x00, 0x01, b"000000")
TEXT = C_APDU(0x00, 0xB0, 0x81, 0x00, b"", 256)
PRIVATE = C_APDU(0x00, 0xB0, 0x83, 0x00, b"", 256)
AUTHENTICATE = C_APDU(0x00, 0x87, 0x03, 0x9B, b"\x7c\x02\x81\x00", 256)


class EchoCard(VirtualCard):
    """Answers with the data of the command, or with as many bytes of AB as are asked for; INS 61 with 61xx."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []

    def process(self, command: bytes) -> bytes:
        self.commands.append(command)
        apdu = C_APDU.from_bytes(command)
        if apdu.ins == 0x61:
            return b"\x61\x04"
        if apdu.ins == 0x6A:
            return b"\x6a\x82"
        return (apdu.data or b"\xab" * min(apdu.le, 256)) + b"\x90\x00"


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("Reader")
        yield pcsc


@pytest.fixture
def cassette(tmp_path: Path) -> Path:
    return tmp_path / "session.cassette"


@asynccontextmanager
async def opened(face: Any, **kwargs: Any) -> AsyncIterator[Any]:
    """An open card of a face."""
    if face.name == "async":
        async with scardface.SCard(timeout=30, **kwargs) as card:
            yield card
        return
    opened: sync.SCard = await off_loop(lambda: sync.SCard(timeout=30, **kwargs))
    try:
        yield opened
    finally:
        await off_loop(opened.close)


@asynccontextmanager
async def recording(face: Any, path: Path, mode: Mode = "once", **kwargs: Any) -> AsyncIterator[Any]:
    """A recorder on an open card of a face."""
    async with opened(face) as card:
        with Recorder(card, path, mode, **kwargs) as recorder:
            yield recorder


async def send(recorder: Recorder[Any], *apdus: Any, **kwargs: Any) -> R_APDU:
    """`send` of a recorder, whatever its face is."""
    if isinstance(recorder.card, sync.SCard):
        response: R_APDU = await off_loop(recorder.send, *apdus, **kwargs)
        return response
    return await recorder.send(*apdus, **kwargs)


async def transmit(recorder: Recorder[Any], data: Any) -> bytes:
    """`transmit` of a recorder, whatever its face is."""
    if isinstance(recorder.card, sync.SCard):
        answer: bytes = await off_loop(recorder.transmit, data)
        return answer
    return await recorder.transmit(data)


def lines(path: Path) -> list[str]:
    """The exchanges in a cassette."""
    return path.read_text(encoding="utf-8").split("\n\n")[1].splitlines()


@both_faces
@pytest.mark.anyio
@pytest.mark.parametrize("protocol", [Protocol.T1, Protocol.T0])
async def test_what_is_exchanged_is_written(face: Any, pcsc: SimulatedPCSC, cassette: Path, protocol: Protocol) -> None:
    pcsc.insert(0, FileCard(protocol=protocol, pin=PIN))
    async with recording(face, cassette) as recorder:
        assert (recorder.reader, recorder.protocol, recorder.path) == ("Reader", protocol, cassette)
        assert (await send(recorder, SELECT, bytes(WRONG), VERIFY)).sw == 0x63C2
        assert (await send(recorder, VERIFY, PRIVATE)).data == b"only after VERIFY"
        assert await transmit(recorder, bytes.fromhex("00B0810005")) == b"Hello\x90\x00"
        head = ["scardface cassette 1", f"atr {recorder.atr.hex().upper()}", f"protocol {protocol.name}", ""]
    assert cassette.read_text(encoding="utf-8").splitlines() == [
        *head,
        "00A40400 F0534341524446414345 Ne=256 -> 6F1382013883025000840AF0534341524446414345 9000",
        "00200001 <secret> -> 63C2",
        "00200001 <secret> -> 9000",
        "00B08300 Ne=256 -> 6F6E6C7920616674657220564552494659 9000",
        "raw 00B0810005 -> 48656C6C6F 9000",
    ]


@both_faces
@pytest.mark.anyio
async def test_what_was_recorded_is_played_without_the_card(face: Any, pcsc: SimulatedPCSC, cassette: Path) -> None:
    """once: the second time the live card hears nothing."""
    pcsc.insert(0, EchoCard())
    for _ in range(2):
        async with recording(face, cassette) as recorder:
            assert (await send(recorder, C_APDU(0x80, 1, 2, 3, b"one"), C_APDU(0x80, 1, 2, 3, b"two"))).data == b"two"
            assert (await send(recorder, C_APDU(0x80, 0x6A), C_APDU(0x80, 1))).sw == 0x6A82
            assert await transmit(recorder, bytes.fromhex("80610000")) == b"\x61\x04"
            before = cassette.read_bytes() if cassette.exists() else b""
        card = pcsc.remove(0)
        pcsc.insert(0, EchoCard())
    assert isinstance(card, EchoCard)
    assert card.commands == []
    assert before == cassette.read_bytes()
    assert recorder.all_played


@both_faces
@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["once", "none"])
async def test_a_command_that_is_not_recorded_is_an_error(face: Any, pcsc: SimulatedPCSC, cassette: Path, mode: Mode) -> None:
    pcsc.insert(0, EchoCard())
    async with recording(face, cassette) as recorder:
        await send(recorder, C_APDU(0x80, 1, 2, 3, b"one"))
        await transmit(recorder, bytes.fromhex("80610000"))
    async with recording(face, cassette, mode) as recorder:
        with pytest.raises(UnrecordedCommandError, match=r"line 5: 80010203 <3 bytes> \(P2 is 03, not 04\)"):
            await send(recorder, C_APDU(0x80, 1, 2, 4, b"one"))
        with pytest.raises(UnrecordedCommandError, match=r"line 6: raw 80610000 \(P1 is 00, not 01\)"):
            await transmit(recorder, bytes.fromhex("80610100"))
        with pytest.raises(UnrecordedCommandError, match=r"line 6: raw 80610000 \(sent the other way\)"):
            await send(recorder, C_APDU(0x80, 0x61))
        assert (await send(recorder, C_APDU(0x80, 1, 2, 3, b"one"))).data == b"one"
        with pytest.raises(UnrecordedCommandError, match=r"80010203 <3 bytes> \(played already\)"):
            await send(recorder, C_APDU(0x80, 1, 2, 3, b"one"))
    assert len(lines(cassette)) == 2


@both_faces
@pytest.mark.anyio
async def test_new_adds_what_is_not_recorded(face: Any, pcsc: SimulatedPCSC, cassette: Path) -> None:
    live = EchoCard()
    pcsc.insert(0, live)
    one, two = C_APDU(0x80, 1, 0, 0, b"1"), C_APDU(0x80, 1, 0, 0, b"2")
    async with recording(face, cassette, "new") as recorder:
        await send(recorder, one)
    cassette.write_text(cassette.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
    live.commands.clear()
    heard: list[bytes] = []
    async with recording(face, cassette, "new") as recorder:
        response = await send(recorder, two, one, one, callback=lambda command, response: heard.append(command.data))
        assert response.data == b"1"
        assert await transmit(recorder, bytes.fromhex("80610000")) == b"\x61\x04"
    assert live.commands == [bytes(two), bytes(one), bytes.fromhex("80610000")]
    assert heard == [b"2", b"1", b"1"]
    assert lines(cassette) == [
        "80010000 31 -> 31 9000",
        "# mine",
        "80010000 32 -> 32 9000",
        "80010000 31 -> 31 9000",
        "raw 80610000 -> 6104",
    ]
    live.commands.clear()
    async with recording(face, cassette, "none") as recorder:
        assert (await send(recorder, one, two, one)).data == b"1"
    assert live.commands == []


@both_faces
@pytest.mark.anyio
async def test_all_records_anew(face: Any, pcsc: SimulatedPCSC, cassette: Path) -> None:
    live = EchoCard()
    pcsc.insert(0, live)
    for data in (b"1", b"2"):
        async with recording(face, cassette, "all") as recorder:
            await send(recorder, C_APDU(0x80, 1, 0, 0, data))
    assert lines(cassette) == ["80010000 32 -> 32 9000"]
    assert len(live.commands) == 2


@both_faces
@pytest.mark.anyio
async def test_callbacks(face: Any, pcsc: SimulatedPCSC, cassette: Path) -> None:
    """Called after each command, recorded or played; on the async face what it returns is awaited; its exception ends the batch."""
    pcsc.insert(0, EchoCard())
    heard: list[tuple[bytes, int]] = []
    commands = [C_APDU(0x80, 1, 0, 0, bytes([n])) for n in range(3)]

    def note(command: C_APDU, response: R_APDU) -> None:
        heard.append((command.data, response.sw))
        if command.data == b"\x01":
            raise KeyError("enough")

    async def awaited(command: C_APDU, response: R_APDU) -> None:
        note(command, response)

    callback = awaited if face.name == "async" else note
    for _ in range(2):
        heard.clear()
        async with recording(face, cassette) as recorder:
            with pytest.raises(KeyError, match="enough"):
                await send(recorder, *commands, callback=callback)
        assert heard == [(b"\x00", 0x9000), (b"\x01", 0x9000)]
        assert lines(cassette) == ["80010000 00 -> 00 9000", "80010000 01 -> 01 9000"]


@pytest.mark.parametrize("play", [False, True])
def test_a_sync_callback_cannot_be_awaited(pcsc: SimulatedPCSC, cassette: Path, play: bool) -> None:
    pcsc.insert(0, EchoCard())

    async def callback(command: C_APDU, response: R_APDU) -> None:
        """Never runs."""

    with sync.SCard(timeout=30) as card:
        for _ in range(1 + play):
            with Recorder(card, cassette) as recorder, pytest.raises(TypeError, match="callback"):
                recorder.send(C_APDU(0x80, 1), callback=callback)


@pytest.mark.anyio
async def test_playing_can_be_cancelled(pcsc: SimulatedPCSC, cassette: Path) -> None:
    """As a `send` of the card's can: a task that plays for long does not keep the others waiting."""
    record(EchoCard(), cassette, C_APDU(0x80, 1), bytes.fromhex("80610000"))
    pcsc.insert(0, EchoCard())
    async with scardface.SCard(timeout=30) as card:
        recorder = Recorder(card, cassette)
        for exchange in (recorder.send(C_APDU(0x80, 1)), recorder.transmit(bytes.fromhex("80610000"))):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await exchange
            assert scope.cancelled_caught


def record(
    card: VirtualCard, path: Path, *exchanges: C_APDU | bytes, lengths: Lengths = Lengths.AUTO, mode: Mode = "all", **kwargs: Any
) -> list[str]:
    """Exchange commands (`send`) and bytes (`transmit`) with a card; what is in the cassette then."""
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("Reader")
        pcsc.insert(0, card)
        with sync.SCard(timeout=30, lengths=lengths) as scard, Recorder(scard, path, mode, **kwargs) as recorder:
            for each in exchanges:
                if isinstance(each, bytes):
                    recorder.transmit(each)
                else:
                    recorder.send(each)
    return lines(path)


def test_a_response_is_hidden_with_its_command(cassette: Path) -> None:
    assert record(EchoCard(), cassette, AUTHENTICATE, C_APDU(0x00, 0x87, 0, 0, b"", 256), C_APDU(0x00, 0x20, 0x00, 0x01)) == [
        "0087039B <secret> Ne=256 -> <4 bytes> 9000",
        "00870000 Ne=256 -> <256 bytes> 9000",
        "00200001 -> 9000",
    ]


def test_what_a_raw_command_left_is_hidden_as_it_is(cassette: Path) -> None:
    fetch = bytes.fromhex("00C0000004")
    steps = [b"\x00\x87\x61\x61", fetch, bytes(C_APDU(0x00, 0xA4, le=4)), fetch, bytes(VERIFY), fetch]
    assert record(EchoCard(), cassette, *steps, C_APDU(0x00, 0xC0, 0, 0, b"", 3)) == [
        "raw 00876161 -> 9000",
        "raw 00C00000 <secret> -> <4 bytes> 9000",
        "raw 00A4000004 -> ABABABAB 9000",
        "raw 00C0000004 -> ABABABAB 9000",
        "raw 00200001 <secret> -> <6 bytes> 9000",
        "raw 00C00000 <secret> -> <4 bytes> 9000",
        "00C00000 Ne=3 -> <3 bytes> 9000",
    ]


LEAKS: dict[str, tuple[Any, ...]] = {
    "VERIFY": (VERIFY,),
    "wrong": (WRONG, VERIFY),
    "raw": (bytes(VERIFY),),
    "a chain of the caller's": (C_APDU(0x10, 0x20, 0, 1, PIN[:3]), C_APDU(0x00, 0x20, 0, 1, PIN[3:])),
    "a raw chain": (bytes(C_APDU(0x10, 0x20, 0, 1, PIN[:3])), bytes(C_APDU(0x00, 0x20, 0, 1, PIN[3:]))),
    "ENVELOPE of the caller's": (C_APDU(0x00, 0xC2, 0, 0, bytes(VERIFY)),),
    "raw ENVELOPE": (bytes(C_APDU(0x00, 0xC2, 0, 0, bytes(VERIFY))),),
    "secured": (C_APDU(0x0C, 0xDA, 0, 0, PIN),),
    "CHANGE REFERENCE DATA": (C_APDU(0x00, 0x24, 0, 1, PIN + b"0000"),),
    "RESET RETRY COUNTER": (C_APDU(0x00, 0x2C, 0, 1, PIN + b"0000"),),
    "in channel 3": (C_APDU(0x03, 0x20, 0, 1, PIN),),
    "cannot be decoded": (b"\x00\x20\x00\x01\x09" + PIN,),
    "long": (C_APDU(0x00, 0x20, 0, 1, PIN + bytes(600)),),
}


class Yes(VirtualCard):
    """Answers 9000, and on T=0 nothing else can be seen of long commands."""

    def __init__(self, protocol: Protocol) -> None:
        self.atr = FileCard(protocol=protocol).atr
        self.commands = 0

    def process(self, command: bytes) -> bytes:
        self.commands += 1
        return b"\x90\x00"


@pytest.mark.parametrize("exchanges", LEAKS.values(), ids=LEAKS)
@pytest.mark.parametrize(
    ("protocol", "lengths"),
    [
        (Protocol.T1, Lengths.EXTENDED),
        (Protocol.T1, Lengths.CHAINING),
        (Protocol.T0, Lengths.ENVELOPE),
        (Protocol.T0, Lengths.CHAINING),
    ],
)
def test_no_pin_gets_into_a_cassette(
    cassette: Path, caplog: pytest.LogCaptureFixture, exchanges: tuple[Any, ...], protocol: Protocol, lengths: Lengths
) -> None:
    caplog.set_level(logging.DEBUG)
    card = Yes(protocol)
    written = record(card, cassette, *exchanges, lengths=lengths)
    assert len(written) == len(exchanges)
    assert all("<secret>" in line for line in written)
    text = cassette.read_text(encoding="utf-8") + caplog.text
    parts = [PIN.hex().upper(), PIN[:3].hex().upper(), PIN[3:].hex().upper(), PIN.decode()]
    assert not [part for part in parts if part in text]
    with SimulatedPCSC() as pcsc:  # another PIN, of another length, gets the same answers
        pcsc.add_reader("Reader")
        pcsc.insert(0, ReplayCard(cassette))
        with sync.SCard(timeout=30, lengths=lengths) as scard:
            for each in exchanges:
                if isinstance(each, bytes):
                    assert scard.transmit(each[:4] + b"\x03000") == b"\x90\x00"
                else:
                    assert scard.send(C_APDU(each.cla, each.ins, each.p1, each.p2, b"000")).is_successful()


KEY = bytes.fromhex("FACEB00CCAFED00D")


class KeyCard(VirtualCard):
    """Has the key to say: at once, or if the command has data, to be fetched by whatever comes next."""

    def process(self, command: bytes) -> bytes:
        if command[1] in (0xA4, 0xDA):
            return b"\x90\x00"
        apdu = C_APDU.from_bytes(command)
        return b"\x61\x08" if apdu.data else KEY + b"\x90\x00"


@pytest.mark.parametrize(
    "exchanges",
    [
        (C_APDU(0x00, 0x88, 0x00, 0x81, bytes(16), 256),),
        (bytes(C_APDU(0x00, 0x88, 0x00, 0x81, bytes(16), 256)), bytes(C_APDU(0x00, 0xC0, le=8))),
        (bytes(C_APDU(0x00, 0x2A, 0x80, 0x86, bytes(16), 256)), bytes(C_APDU(0x00, 0xA5, le=8))),
        (C_APDU(0x00, 0xA4, 0x08, 0x0C, bytes.fromhex("7FFF6F08")), C_APDU(0x00, 0xB0, le=8)),
        (bytes(C_APDU(0x00, 0xA4, 0x08, 0x0C, bytes.fromhex("7FFF6F08"))), bytes(C_APDU(0x00, 0xB0, le=8))),
        (C_APDU(0x10, 0xDB, 0x3F, 0xFF, b"\x4d\x0a" + bytes(4)), C_APDU(0x00, 0xDB, 0x3F, 0xFF, KEY)),
        (C_APDU(0x80, 0xE2, 0x80, 0x00, b"\x80\x00\x08" + KEY),),
        (b"\x00\xda\x00\xd3\x09" + KEY,),
    ],
)
def test_no_key_gets_into_a_cassette_or_the_trace(
    cassette: Path, caplog: pytest.LogCaptureFixture, exchanges: tuple[Any, ...]
) -> None:
    caplog.set_level(logging.DEBUG)
    written = record(KeyCard(), cassette, *exchanges)
    assert len(written) == len(exchanges)
    assert KEY.hex() not in (cassette.read_text(encoding="utf-8") + caplog.text).lower()
    assert "<" in written[-1]


def test_what_is_played_counts_for_what_is_recorded_after_it(cassette: Path) -> None:
    select, read = C_APDU(0x00, 0xA4, 0x08, 0x0C, bytes.fromhex("7FFF6F08")), C_APDU(0x00, 0xB0, le=8)
    for select_, read_ in ((select, read), (bytes(select), bytes(read))):
        cassette.unlink(missing_ok=True)
        record(KeyCard(), cassette, select_)
        written = record(KeyCard(), cassette, select_, read_, mode="new")
        assert KEY.hex() not in "".join(written).lower()
        assert "<8 bytes>" in written[-1]


def test_what_is_hidden_can_be_chosen(cassette: Path) -> None:
    put, select = C_APDU(0x00, 0xDA, 0x01, 0x02, b"\x01\x02"), C_APDU(0x00, 0xA4, 0x00, 0x00, b"\x3f\x00")
    assert record(EchoCard(), cassette, put, select) == ["00DA0102 0102 -> 0102 9000", "00A40000 3F00 -> 3F00 9000"]
    hidden = ["00DA0102 <secret> -> <2 bytes> 9000", "00A40000 3F00 -> 3F00 9000"]
    assert record(EchoCard(), cassette, put, select, redact=may_carry_secret) == hidden
    assert (
        record(EchoCard(), cassette, put, select, redact=lambda command: carries_secret(command) or command.ins == 0xDA) == hidden
    )
    assert record(EchoCard(), cassette, AUTHENTICATE, redact=lambda command: False) == ["0087039B 7C028100 Ne=256 -> 7C028100 9000"]


def test_what_is_hidden_is_not_kept_in_memory(pcsc: SimulatedPCSC, cassette: Path) -> None:
    pcsc.insert(0, EchoCard())
    with sync.SCard(timeout=30) as card:
        recorder = Recorder(card, cassette)
        recorder.send(VERIFY)
        recorder.transmit(bytes(VERIFY))
        for kept in recorder._fresh:
            assert PIN not in bytes(kept.response)
            assert PIN not in bytes(kept.command)


def test_hidden_responses_are_played_as_zeros(pcsc: SimulatedPCSC, cassette: Path) -> None:
    record(EchoCard(), cassette, AUTHENTICATE, bytes(AUTHENTICATE))
    pcsc.insert(0, EchoCard())
    with sync.SCard(timeout=30) as card, Recorder(card, cassette) as recorder:
        other = C_APDU(0x00, 0x87, 0x03, 0x9B, b"another", 256)
        assert recorder.send(other) == R_APDU(bytes(4), 0x90, 0x00)
        assert recorder.transmit(bytes(other)) == bytes(4) + b"\x90\x00"


@pytest.mark.slow
def test_failures_are_not_recorded(pcsc: SimulatedPCSC, cassette: Path) -> None:
    pcsc.insert(0, EchoCard())
    with sync.SCard(timeout=30) as card, Recorder(card, cassette) as recorder:
        recorder.send(C_APDU(0x80, 1))
        pcsc.inject("SCardTransmit", 0x8010002F)
        with pytest.raises(SCardError):
            recorder.send(C_APDU(0x80, 2), C_APDU(0x80, 3))
        with pytest.raises(ValueError, match="at least one command"):
            recorder.send()
        with pytest.raises(ValueError, match="at least 4 bytes"):
            recorder.transmit(b"\x00")
    assert lines(cassette) == ["80010000 -> 9000"]


def test_a_block_that_fails_is_saved_up_to_there(pcsc: SimulatedPCSC, cassette: Path) -> None:
    pcsc.insert(0, EchoCard())

    def fail(card: sync.SCard) -> None:
        with Recorder(card, cassette) as recorder:
            recorder.send(C_APDU(0x80, 1))
            raise KeyError

    with sync.SCard(timeout=30) as card, pytest.raises(KeyError):
        fail(card)
    assert lines(cassette) == ["80010000 -> 9000"]


def test_save_writes_what_came_since(pcsc: SimulatedPCSC, cassette: Path) -> None:
    pcsc.insert(0, EchoCard())
    with sync.SCard(timeout=30) as card:
        recorder = Recorder(card, cassette)
        recorder.save()
        assert not cassette.exists()
        recorder.send(C_APDU(0x80, 1))
        recorder.save()
        recorder.send(C_APDU(0x80, 2))
        recorder.save()
        assert lines(cassette) == ["80010000 -> 9000", "80020000 -> 9000"]
        adding = Recorder(card, cassette, "new")
        for ins in (3, 4):
            adding.send(C_APDU(0x80, ins))
            adding.save()
    assert lines(cassette) == [f"800{n}0000 -> 9000" for n in (1, 2, 3, 4)]


def test_threads_may_share_a_recorder(pcsc: SimulatedPCSC, cassette: Path) -> None:
    live = EchoCard()
    pcsc.insert(0, live)
    with sync.SCard(timeout=30) as card, Recorder(card, cassette) as recorder:

        def work(number: int) -> None:
            for n in range(20):
                recorder.send(C_APDU(0x80, 1, number, n))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert lines(cassette) == [f"{heard.hex().upper()} -> 9000" for heard in live.commands]


def test_what_cannot_be_recorded(pcsc: SimulatedPCSC, cassette: Path) -> None:
    pcsc.insert(0, EchoCard())
    with sync.SCard(timeout=30) as card:
        with pytest.raises(ValueError, match="mode 'twice': there are once, none, all, new"):
            Recorder(card, cassette, "twice")  # type: ignore[arg-type]  # that is what is tried
        with pytest.raises(FileNotFoundError):
            Recorder(card, cassette, "none")
        record(FileCard(), cassette, SELECT)
        with pytest.raises(CassetteError, match="recorded of another card: ATR 3B 87 01 80 31 E8 73"):
            Recorder(card, cassette, "new")
        cassette.write_text("# ATR: 3B800181\n# PROTOCOL: T=1\n80010000\n9000\n", encoding="utf-8")
        with pytest.raises(CassetteError, match="a dump of apdu4j can be played, but nothing can be added to it"):
            Recorder(card, cassette, "new")
        with Recorder(card, cassette) as recorder:
            assert recorder.send(C_APDU(0x80, 1)).is_successful()
        cassette.write_text("rubbish\n", encoding="utf-8")
        with pytest.raises(CassetteError, match=r"session\.cassette, line 1:"):
            Recorder(card, cassette)
    with pytest.raises(AttributeError, match="not open"):
        Recorder(scardface.SCard(), cassette)
    with sync.SCard(timeout=30, share=ShareMode.DIRECT) as card, pytest.raises(ValueError, match="T=0 or T=1"):
        Recorder(card, cassette, "all")


def session() -> list[C_APDU | bytes]:
    """Fifty exchanges, PINs among them, right and wrong, long and short, by `send` and by `transmit`."""
    begin: list[C_APDU | bytes] = [SELECT, TEXT, PRIVATE, WRONG, VERIFY, PRIVATE, C_APDU(0x00, 0x20, 0x00, 0x01)]
    reads = [C_APDU(0x00, 0xB0, 0x82 if not n else n * 20 >> 8, n * 20 & 0xFF, b"", 20) for n in range(30)]
    writes = [C_APDU(0x00, 0xD6, 0x00, n, bytes([n])) for n in range(8)]
    rest: list[C_APDU | bytes] = [
        bytes.fromhex("00B0000004"),
        C_APDU(0x00, 0xB0, 0x00, 0x00, b"", 65536),
        C_APDU(0x00, 0x84, 0x00, 0x00, b"", 16),
    ]
    return [*begin, *reads, *writes, *rest, C_APDU(0x00, 0xB0, 0x7F, 0xFF, b"", 1), C_APDU(0x00, 0x77)]


async def run(card: Any, exchanges: list[C_APDU | bytes]) -> list[bytes]:
    return [await transmit(card, each) if isinstance(each, bytes) else bytes(await send(card, each)) for each in exchanges]


@both_faces
@pytest.mark.anyio
@pytest.mark.parametrize("protocol", [Protocol.T1, Protocol.T0])
async def test_fifty_exchanges_on_the_real_daemon_are_played_byte_for_byte(
    face: Any, pcscd: PrivatePcscd, cassette: Path, protocol: Protocol
) -> None:
    exchanges = session()
    assert len(exchanges) == 50
    await off_loop(pcscd.insert, 0, FileCard(protocol=protocol, pin=PIN))
    async with recording(face, cassette) as recorder:
        recorded = await run(recorder, exchanges)
    await off_loop(pcscd.remove, 0)
    text = cassette.read_text(encoding="utf-8")
    assert len(lines(cassette)) == 50
    assert PIN.hex().upper() not in text
    assert PIN.decode() not in text

    card = ReplayCard(cassette)
    await off_loop(pcscd.wait_for_removal, 0)
    await off_loop(pcscd.insert, 0, card)
    async with opened(face) as live:
        assert live.atr == FileCard(protocol=protocol).atr
        plain = Recorder(live, cassette.with_name("again.cassette"))
        assert await run(plain, exchanges) == recorded
        assert card.all_played
        plain.save()
        assert lines(plain.path) == lines(cassette)
    async with opened(face) as live:
        changed = Recorder(live, cassette.with_name("changed.cassette"))
        assert (await send(changed, SELECT)).is_successful()
        assert (await send(changed, C_APDU(0x00, 0xB0, 0x81, 0x01, b"", 256))).sw == 0x6F00
    with pytest.raises(UnrecordedCommandError) as raised:
        await off_loop(pcscd.remove, 0)
    first, second, third, *_ = str(raised.value).splitlines()
    assert first == f"00B08101 Ne=256 is not recorded in {cassette}, or was played already. The nearest that are:"
    assert second == "  line 6: 00B08100 Ne=256 (P2 is 00, not 01)"
    assert third.startswith("  line 7: 00B08300 Ne=256 (P1 is 83, not 81")


@pytest.mark.parametrize("mode", ["once", "new", "all"])
def test_a_cassette_that_cannot_be_written_costs_no_try_of_a_pin(pcsc: SimulatedPCSC, tmp_path: Path, mode: Mode) -> None:
    card = FileCard(pin=PIN)
    pcsc.insert(0, card)
    (tmp_path / "plain").touch()
    path = tmp_path / "plain" / "a.cassette"
    with sync.SCard(timeout=0) as opened:
        opened.send(SELECT).check()
        before = card.tries
        with pytest.raises(OSError, match="plain") as failed, Recorder(opened, path, mode) as recorder:
            recorder.send(WRONG)
        assert failed.value.filename == str(path)
        assert card.tries == before


def test_a_program_that_goes_elsewhere_writes_where_it_said(
    pcsc: SimulatedPCSC, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    pcsc.insert(0, FileCard())
    with sync.SCard(timeout=0) as opened, Recorder(opened, "a.cassette") as recorder:
        recorder.send(SELECT)
        monkeypatch.chdir("elsewhere")
    assert (tmp_path / "a.cassette").exists()
    assert recorder.path == Path("a.cassette")


def test_a_cassette_that_is_only_played_need_not_be_writable(
    pcsc: SimulatedPCSC, cassette: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pcsc.insert(0, FileCard())
    with sync.SCard(timeout=0) as opened:
        with Recorder(opened, cassette) as recorder:
            recorder.send(SELECT)
        monkeypatch.setattr("os.access", lambda path, mode: False)
        with Recorder(opened, cassette) as recorder:
            assert recorder.send(SELECT).is_successful()


class Masked:
    """A layer: data go out masked, and come back so."""

    def wrap(self, command: C_APDU) -> C_APDU:
        return C_APDU(command.cla, command.ins, command.p1, command.p2, self._masked(command.data), command.le)

    def unwrap(self, response: R_APDU) -> R_APDU:
        return R_APDU(self._masked(response.data), response.sw1, response.sw2)

    @staticmethod
    def _masked(data: bytes) -> bytes:
        return bytes(byte ^ 0xFF for byte in data)


class ChannelCard(EchoCard):
    """Has one more logical channel, unless it is told to refuse."""

    refuses = False

    def process(self, command: bytes) -> bytes:
        if command[1] != 0x70:
            return super().process(command)
        self.commands.append(command)
        if self.refuses:
            return b"\x6a\x81"
        return b"\x02\x90\x00" if command[2] == 0 else b"\x90\x00"


async def through_everything(recorder: Recorder[Any]) -> list[bytes]:
    """A transaction, a channel in it, a layer in that; what came back."""
    if isinstance(recorder.card, sync.SCard):
        return await off_loop(through_everything_sync, recorder)
    async with recorder.transaction(), recorder.channel() as channel:
        inner = await channel.layer(Masked()).send(C_APDU(0, 0x10, 0, 0, b"ab", 256))
        return [inner.data, (await channel.send(C_APDU(0, 0x11, 0, 0, b"c"))).data]


def through_everything_sync(recorder: Recorder[sync.SCard]) -> list[bytes]:
    with recorder.transaction(), recorder.channel() as channel:
        inner = channel.layer(Masked()).send(C_APDU(0, 0x10, 0, 0, b"ab", 256))
        return [inner.data, channel.send(C_APDU(0, 0x11, 0, 0, b"c")).data]


@both_faces
@pytest.mark.anyio
async def test_transactions_channels_and_layers(face: Any, pcsc: SimulatedPCSC, cassette: Path) -> None:
    """Recorded as the caller has them, and played without the card."""
    virtual = ChannelCard()
    pcsc.insert(0, virtual)
    heard = ["0070000001", "02100000029e9d00", "021100000163", "00708002"]
    for _ in range(2):
        async with recording(face, cassette) as recorder:
            assert await through_everything(recorder) == [b"ab", b"c"]
        assert [command.hex() for command in virtual.commands] == heard
    assert lines(cassette) == [
        "00700000 Ne=1 -> 02 9000",
        "00100000 6162 Ne=256 -> 6162 9000",
        "02110000 63 -> 63 9000",
        "00708002 -> 9000",
    ]


@both_faces
@pytest.mark.anyio
async def test_a_channel_that_is_refused_is_played_as_refused(face: Any, pcsc: SimulatedPCSC, cassette: Path) -> None:
    virtual = ChannelCard()
    virtual.refuses = True
    pcsc.insert(0, virtual)
    for _ in range(2):
        async with recording(face, cassette) as recorder:
            with pytest.raises(StatusError, match="6A81"):
                await through_everything(recorder)
    assert len(virtual.commands) == 1


@both_faces
@pytest.mark.anyio
async def test_a_batch_that_is_recorded_is_a_unit_like_any_other(face: Any, pcsc: SimulatedPCSC, cassette: Path) -> None:
    """Though it is recorded command by command; with a callback there is one transaction for each command, as ever."""
    pcsc.insert(0, EchoCard())
    async with opened(face, share=ShareMode.SHARED) as card:
        with Recorder(card, cassette) as recorder:
            await send(recorder, C_APDU(0, 1), C_APDU(0, 2), C_APDU(0, 3))
            assert pcsc.calls["SCardBeginTransaction"] == 1
            await send(recorder, C_APDU(0, 1), C_APDU(0, 2), callback=lambda *_: None)
            assert pcsc.calls["SCardBeginTransaction"] == pcsc.calls["SCardEndTransaction"] == 3
    assert len(lines(cassette)) == 5


OTHER = C_APDU(0x00, 0x61, 0x00, 0x00)
"""EchoCard answers 6104; with `follow_61=False` that is a status like any other."""


@both_faces
@pytest.mark.anyio
async def test_success_words_hold_for_what_is_recorded_and_for_what_is_played(
    pcsc: SimulatedPCSC, cassette: Path, face: Any
) -> None:
    card, keep = EchoCard(), scardface.ExchangeOptions(follow_61=False)
    pcsc.insert("Reader", card)

    async def call(method: Any, *apdus: C_APDU, **kwargs: Any) -> Any:
        return await method(*apdus, **kwargs) if face.name == "async" else await off_loop(method, *apdus, **kwargs)

    for recorded in (3, 0):
        before = len(card.commands)
        async with face.open(timeout=5, options=keep, success=["9000", "61xx"]) as open_card:
            with Recorder(getattr(open_card, "card", open_card), cassette) as recorder:
                response = await call(recorder.send, OTHER, TEXT, OTHER)
                assert (response.sw, response.is_successful()) == (0x6104, True)
        assert len(card.commands) - before == recorded
    async with face.open(timeout=5, options=keep) as open_card:
        with Recorder(getattr(open_card, "card", open_card), cassette, "none") as recorder:
            responses = await call(recorder.send_all, OTHER, TEXT, success=["61xx"])
            assert [(each.sw, each.is_successful()) for each in responses] == [(0x6104, True), (0x9000, False)]
        with Recorder(getattr(open_card, "card", open_card), cassette, "none") as recorder:
            responses = await call(recorder.send_all, OTHER, TEXT)
            assert [(each.sw, each.is_successful()) for each in responses] == [(0x6104, False)]


@pytest.mark.anyio
async def test_channels_and_layers_of_a_recorder_take_success_words(pcsc: SimulatedPCSC, cassette: Path) -> None:
    class Channels(EchoCard):
        def process(self, command: bytes) -> bytes:
            return b"\x01\x90\x00" if command[1] == 0x70 and command[2] == 0 else super().process(command)

    class Plain:
        def wrap(self, command: C_APDU) -> C_APDU:
            return command

        def unwrap(self, response: R_APDU) -> R_APDU:
            return response

    pcsc.insert("Reader", Channels())
    missing = C_APDU(0, 0x6A)
    modes: tuple[Mode, ...] = ("all", "none")
    for mode in modes:
        async with scardface.SCard(timeout=5, success=["6A82"]) as card:
            with Recorder(card, cassette, mode) as recorder:
                async with recorder.channel() as channel:
                    assert (await channel.send(missing, TEXT, missing)).sw == 0x9000
                    assert [each.sw for each in await channel.send_all(missing, TEXT, missing, stop=False)] == [
                        0x6A82,
                        0x9000,
                        0x6A82,
                    ]
                assert (await recorder.layer(Plain()).send(missing)).check().sw == 0x6A82
                assert [each.sw for each in await recorder.layer(Plain()).send_all(TEXT, TEXT, success=["9000"])] == [0x9000] * 2
