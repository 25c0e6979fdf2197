"""The programs of examples/, each with the cards that it is for: on the simulated PC/SC, and three on the real daemon.

examples/kiosk.py and examples/web_readers.py have files of their own.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from scardface import Protocol
from scardface.testing import DF, EF, FileCard, Scp03Card, SimulatedPCSC, VirtualCard
from tests.examples.loading import EXAMPLES, load
from tests.support.waits import SEEN, until

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

MF = 0x3F00
READER = "Reader A"


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader(READER)
        simulated.add_reader("Reader B")
        yield simulated


@asynccontextmanager
async def running(function: Callable[..., Awaitable[Any]], *arguments: Any) -> AsyncIterator[None]:
    """A program that would go on for ever."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(function, *arguments)
        yield
        tasks.cancel_scope.cancel()


def test_each_is_short_says_what_it_is_for_and_has_a_test() -> None:
    programs = sorted(EXAMPLES.glob("*.py"))
    tests = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    assert len(programs) >= 10
    for path in programs:
        text = path.read_text(encoding="utf-8")
        assert 20 <= len(text.splitlines()) <= 85, path.name
        assert text.startswith('"""'), path.name
        assert re.search(rf'load\("{path.stem}"|"{path.name}"', tests), f"no test runs {path.name}"
        assert f"| `{path.name}` |" in page, f"docs/examples.md does not list {path.name}"


# On the real daemon -----------------------------------------------------------------------------------------------------------


def test_show_readers(pcscd: PrivatePcscd) -> None:
    said: list[str] = []
    pcscd.insert(1, FileCard())
    pcscd.wait_for_card(1)
    load("show_readers", said).main()
    assert f"{pcscd.readers[0]}: empty" in said
    assert any(line.startswith(f"{pcscd.readers[1]}: 3b 87 01 80") and line.endswith("free") for line in said)
    assert any("protocol T=1" in line for line in said)


@pytest.mark.anyio
async def test_watch(pcscd: PrivatePcscd) -> None:
    said: list[str] = []
    reader = pcscd.readers[0]
    async with running(load("watch").watch, said.append):
        await until(lambda: f"{reader}: plugged in (at the start)" in said)
        pcscd.insert(0, FileCard())
        await until(lambda: any(line.startswith(f"{reader}: card 3b 87") for line in said))
        pcscd.remove(0)
        await until(lambda: f"{reader}: empty" in said)


def test_read_file(pcscd: PrivatePcscd, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    program = load("read_file", said)
    pcscd.insert(0, FileCard())
    assert program.main("F0534341524446414345", "0001") is None
    monkeypatch.setattr(program, "getpass", lambda prompt: "1234")
    assert program.main("F0534341524446414345", "0003", "--pin") is None
    assert said == ["Hello from a virtual card.", "only after VERIFY"]
    monkeypatch.setattr(program, "getpass", lambda prompt: "0000")
    assert "63C2" in (program.main("F0534341524446414345", "0003", "--pin") or "")
    with pytest.raises(program.CardTimeoutError, match="refused, or had its turn"):
        program.read(b"\xf0OTHER", 1, timeout=SEEN)


# On the simulated PC/SC ---------------------------------------------------------------------------------------------------------


def test_watch_says_every_event_in_words() -> None:
    program = load("watch")
    from scardface import ATR

    assert program.words(program.CardInserted("A", ATR(b""), True)) == "A: card that does not answer (at the start)"
    assert program.words(program.ServiceDown()) == "the PC/SC service went: None"
    assert program.words(program.ServiceUp()) == "the PC/SC service is back"
    assert program.words(program.ReaderRemoved("A")) == "A: unplugged"
    assert program.words(program.EventsLost(3)).startswith("3 events")


class Changeable(FileCard):
    """Takes CHANGE REFERENCE DATA (ISO/IEC 7816-4:2020, 11.6.7)."""

    changed = b""

    def process(self, command: bytes) -> bytes:
        if command[:4] != b"\x00\x24\x00\x01":
            return super().process(command)
        if command[5:9] == b"1234":
            self.changed = command[9:]
            return b"\x90\x00"
        self.tries -= 1
        return bytes((0x63, 0xC0 | self.tries))


def test_change_pin(pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    card, said = Changeable(), list[str]()
    pcsc.insert(READER, card)
    program = load("change_pin", said)
    answers = iter(["0000", "4321", "4321", "1234", "4321", "4322", "1234", "4321", "4321", "1234", "4321", "4321"])
    monkeypatch.setattr(program, "getpass", lambda prompt: next(answers))
    for _ in range(3):
        program.main()
    assert said == ["wrong PIN, 2 tries left", "the new PINs differ", "changed"]
    assert card.changed == b"4321"
    card.tries = 1
    program.main()
    assert said[-1] == "the card has 1 tries left: not touched"


def ndef_tag(message: bytes, size: int = 300) -> FileCard:
    """An NFC Forum Type 4 tag, as a file system."""
    container = bytes.fromhex("000F20003B00340406E104") + size.to_bytes(2, "big") + b"\x00\x00"
    content = (len(message).to_bytes(2, "big") + message).ljust(size, b"\x00")
    files: list[EF | DF] = [EF(0xE103, container), EF(0xE104, content)]
    return FileCard(DF(MF, files=[DF(0x1000, bytes.fromhex("D2760000850101"), files)]))


@pytest.mark.anyio
async def test_read_ndef(pcsc: SimulatedPCSC) -> None:
    said: list[str] = []
    program = load("read_ndef", said)
    uri = bytes.fromhex("D1010C5504") + b"example.org"
    long = bytes.fromhex("D101C85402656E") + b"x" * 197
    async with running(program.main):
        for message, word in ((uri, "example.org"), (long, "xxx")):
            pcsc.insert(READER, ndef_tag(message))
            await until(lambda: len(said) == 1)
            shown = said.pop()
            assert word in shown if program.ndef else message.hex(" ") in shown
            pcsc.remove(READER)
        pcsc.insert(READER, ndef_tag(uri, size=5))
        await until(lambda: said == [f"{READER} a message of 16 bytes in a file of 5"])
        pcsc.insert("Reader B", FileCard())
        await until(lambda: "file or application not found" in said[-1])


class Contactless(VirtualCard):
    """A tag and its reader, which has a light and a buzzer."""

    atr = bytes.fromhex("3B8F8001804F0CA000000306030001000000006A")

    def __init__(self, uid: str) -> None:
        self.uid = bytes.fromhex(uid)
        self.signals: list[bytes] = []

    def process(self, command: bytes) -> bytes:
        if command[:2] == b"\xff\xca":
            return self.uid + b"\x90\x00"
        self.signals.append(command)
        return b"\x90\x02"  # SW2: the state of the light


@pytest.mark.anyio
async def test_door(pcsc: SimulatedPCSC) -> None:
    said, unlocked = list[str](), list[bytes]()
    known, unknown = Contactless("04A1B2C3D4E5F6"), Contactless("01020304")
    async with running(load("door", said).door, [known.uid], unlocked.append):
        for card, words in ((known, "in"), (unknown, "unknown")):
            pcsc.insert(READER, card)
            await until(lambda words=words: said and said[-1] == f"{READER} {words}")
            pcsc.remove(READER)
    assert unlocked == [known.uid]
    assert [card.signals for card in (known, unknown)] == [
        [bytes.fromhex("FF00400E040201010100")],
        [bytes.fromhex("FF00400D040201020100")],
    ]


class OldSim(VirtualCard):
    """A SIM of class A0, whose word for "more data" is 9Fxx (3GPP TS 51.011, 9.4)."""

    atr = bytes.fromhex("3B00")

    def process(self, command: bytes) -> bytes:
        if command[0] != 0xA0:
            return b"\x6e\x00"
        return b"\x9f\x0f" if command[1] == 0xA4 else bytes.fromhex("98940000000000000010") + b"\x90\x00"


@pytest.mark.anyio
async def test_sim_bench(pcsc: SimulatedPCSC) -> None:
    said: list[tuple[str, str]] = []
    uicc = FileCard(DF(MF, files=[EF(0x2FE2, bytes.fromhex("984408F9000000000032"))]), protocol=Protocol.T0)
    pcsc.insert(READER, uicc)
    pcsc.insert("Reader B", OldSim())
    async with running(load("sim_bench").bench, lambda *words: said.append(words)):
        await until(lambda: len(said) == 2)
        assert dict(said) == {READER: "8944809F000000000023", "Reader B": "89490000000000000001"}
        pcsc.remove(READER)
        pcsc.insert(READER, FileCard())
        await until(lambda: len(said) == 3)
        assert "6E00" in said[-1][1] or "6A82" in said[-1][1]


class Token(FileCard):
    """Signs after VERIFY of the PIN 81 (ISO/IEC 7816-8:2021, 5.4)."""

    signed = 0
    before_signing: Callable[[], object] | None = None

    def process(self, command: bytes) -> bytes:
        if command[1] == 0x2A and self.before_signing is not None:
            self.before_signing()
            self.before_signing = None
        if command[:2] == b"\x00\x20":
            return super().process(command[:3] + b"\x01" + command[4:])
        if command[:4] == b"\x00\x2a\x9e\x9a" and self.verified:
            self.signed += 1
            return command[5:-1][::-1] + b"\x90\x00"
        return b"\x69\x82"


@pytest.mark.anyio
async def test_signing(pcsc: SimulatedPCSC) -> None:
    program = load("signing", [])
    first, second = Token(), Token()
    pcsc.insert(READER, first)
    done: list[bytes] = []

    async def ask(text: bytes) -> None:
        assert await service.sign(text) == program.hashlib.sha256(text).digest()[::-1]
        done.append(text)

    async with program.signer(b"1234") as service:
        await ask(b"one")
        pcsc.remove(READER)
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(ask, str(number).encode())
            pcsc.insert("Reader B", second)
        assert (first.signed, second.signed) == (1, 20)
        second.before_signing = pcsc.stop_service
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, b"last")
            await until(lambda: second.before_signing is None)
            pcsc.start_service()
    assert len(done) == 22


def test_personalise(pcsc: SimulatedPCSC) -> None:
    pytest.importorskip("cryptography")
    said: list[str] = []
    program = load("personalise", said)
    keys = program.KEYS
    good, foreign = (
        Scp03Card(FileCard(), each) for each in (keys, program.scp03.Keys(enc=b"x" * 16, mac=bytes(16), dek=bytes(16)))
    )
    for each in (good, foreign):
        each.card.mf.files[1].files[1].update_needs_pin = False
    pcsc.insert(READER, foreign)
    pcsc.insert("Reader B", good)
    assert program.personalise(["Ada Lovelace"]) == 1
    assert good.card.mf.files[1].files[1].content.startswith(b"Ada Lovelace")
    assert len(said) == 2
    assert re.match(r"Reader A: .*; the next card, please$", said[0])
    assert said[1] == "Reader B: Ada Lovelace"


def test_capture(pcsc: SimulatedPCSC, tmp_path: Path) -> None:
    said: list[str] = []
    pcsc.insert(READER, FileCard())
    load("capture", said).main(str(tmp_path / "session"))
    assert said == ["only after VERIFY"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["session.cassette", "session.jsonl", "session.pcap"]
    assert not [path.name for path in tmp_path.iterdir() if b"1234" in path.read_bytes()]


WORKERS = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from scardface.testing import FileCard, SimulatedPCSC
import workers
stop, begun = threading.Event(), threading.Event()
workers.print = lambda *words, **_: (print(*words), begun.set())
with SimulatedPCSC() as pcsc:
    pcsc.add_reader("A")
    pcsc.insert("A", FileCard())
    thread = threading.Thread(target=workers.work, args=("A", stop))
    thread.start()
    begun.wait()
    stop.set()
    thread.join()
"""


def test_workers() -> None:
    """One worker, as a thread of a process of its own, which would have to be the parent of the simulation."""
    done = subprocess.run(
        [sys.executable, "-c", WORKERS, str(EXAMPLES)], capture_output=True, text=True, timeout=60, check=True, cwd=EXAMPLES.parent
    )
    assert done.stdout.startswith("A 3b 87 01 80")
    assert (EXAMPLES / "workers.py").is_file()
