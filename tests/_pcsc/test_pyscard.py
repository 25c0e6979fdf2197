"""The binding on a real daemon: what goes in and out, and what never reaches it. PC/SC's own behaviour: test_conformance.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from scardface import Disposition, NoReaderError, Protocol, ProtocolMismatchError, SCardError, ServiceUnavailableError, ShareMode
from scardface._enums import StateFlag
from scardface._pcsc import pyscard
from scardface._pcsc.backend import ATTR_ATR_STRING, PNP_READER, Context
from scardface._pcsc.pyscard import PYSCARD
from scardface.testing import PrivatePcscd
from tests.support.cards import BOTH, ECHO, T1, LogCard


@pytest.fixture
def context(pcscd: PrivatePcscd) -> Iterator[Context]:
    context = PYSCARD.establish()
    yield context
    with suppress(SCardError):  # a test may have released it
        context.release()


def refused(call: Callable[[], object]) -> SCardError:
    with pytest.raises(SCardError) as caught:
        call()
    return caught.value


def test_readers_groups_and_states(pcscd: PrivatePcscd, context: Context) -> None:
    assert context.list_readers() == pcscd.readers
    assert context.list_readers(["SCard$DefaultReaders"]) == pcscd.readers
    assert context.list_reader_groups() == ("SCard$DefaultReaders",)
    pcscd.insert(1, LogCard(BOTH))
    pcscd.wait_for_card(1)
    change = context.get_status_change(0, [(name, 0) for name in pcscd.readers])
    assert not change.timed_out
    assert [entry.reader for entry in change.entries] == list(pcscd.readers)
    assert [entry.atr for entry in change.entries] == [b"", BOTH, b"", b""]
    assert [bool(entry.state & StateFlag.PRESENT) for entry in change.entries] == [False, True, False, False]
    again = context.get_status_change(0, [(entry.reader, entry.state) for entry in change.entries])
    assert again.timed_out
    assert [entry.state & ~StateFlag.CHANGED for entry in again.entries] == [
        entry.state & ~StateFlag.CHANGED for entry in change.entries
    ]
    context.release()


def test_a_card_by_its_handle(pcscd: PrivatePcscd, context: Context) -> None:
    card = LogCard(BOTH)
    pcscd.insert(0, card)
    pcscd.wait_for_card(0)
    handle = context.connect(pcscd.readers[0], ShareMode.SHARED, Protocol.T0 | Protocol.T1)
    assert handle.protocol is Protocol.T1
    status = handle.status()
    assert (status.reader, status.protocol, status.atr) == (pcscd.readers[0], Protocol.T1, BOTH)
    assert handle.transmit(bytes([0, ECHO, 0, 0, 2, 1, 255])) == b"\x01\xff\x90\x00"
    handle.begin_transaction()
    handle.end_transaction(Disposition.LEAVE)
    assert refused(lambda: handle.end_transaction(Disposition.LEAVE)).call == "SCardEndTransaction"
    assert refused(lambda: handle.get_attribute(ATTR_ATR_STRING)).call == "SCardGetAttrib"  # vpcd has none
    assert refused(lambda: handle.set_attribute(ATTR_ATR_STRING, b"\0")).call == "SCardSetAttrib"
    assert refused(lambda: handle.control(0x42000001, b"\0")).call == "SCardControl"
    assert handle.reconnect(ShareMode.EXCLUSIVE, Protocol.T0 | Protocol.T1, Disposition.RESET) is Protocol.T1
    assert card.resets == 1
    handle.disconnect(Disposition.LEAVE)
    error = refused(lambda: handle.transmit(b"\0\0\0\0"))
    assert (error.call, error.reader) == ("SCardTransmit", pcscd.readers[0])
    context.release()


def test_refusals_are_named(pcscd: PrivatePcscd, context: Context) -> None:
    pcscd.insert(0, LogCard(T1))
    pcscd.wait_for_card(0)
    error = refused(lambda: context.connect(pcscd.readers[0], ShareMode.SHARED, Protocol.T0))
    assert isinstance(error, ProtocolMismatchError)
    assert (error.call, error.reader, error.code) == ("SCardConnect", pcscd.readers[0], 0x8010000F)
    assert isinstance(refused(lambda: context.connect("nobody", ShareMode.SHARED, Protocol.T1)), NoReaderError)
    assert isinstance(refused(lambda: context.get_status_change(0, [("nobody", 0)])), NoReaderError)
    context.release()
    pcscd.stop()
    error = refused(PYSCARD.establish)
    assert isinstance(error, ServiceUnavailableError)
    assert error.call == "SCardEstablishContext"


@pytest.mark.parametrize("name", ["Lecteur é", "two\0names"])
def test_names_that_would_abort_the_process_do_not_reach_the_binding(context: Context, name: str) -> None:
    for call in (
        lambda: context.get_status_change(0, [("Virtual", 0), (name, 0)]),
        lambda: context.connect(name, ShareMode.SHARED, Protocol.T1),
    ):
        with pytest.raises(ValueError, match="ASCII"):
            call()
    context.release()


def test_the_bindings_own_failures_are_told_as_pcscs(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the lists they are played: provoked, they free memory that nobody allocated (fact 41), and may end the process."""

    def broken(*_: object) -> None:
        raise SystemError("returned a result with an exception set")

    for call in (
        lambda: context.get_status_change(-1, [(PNP_READER, 0)]),
        lambda: context.get_status_change(2**80, [(PNP_READER, 0)]),
    ):
        assert refused(call).call == "SCardGetStatusChange"
    for name, arguments in (("SCardListReaders", (0, [])), ("SCardListReaderGroups", (0,))):
        monkeypatch.setattr(pyscard.scard, name, broken)
        error = refused(lambda name=name, arguments=arguments: pyscard._call(name, "", *arguments))  # type: ignore[misc]
        assert (type(error), error.call) == (ServiceUnavailableError, name)
    context.release()


def test_no_reader_is_an_empty_list(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in ((0x8010002E, []), (0x8010002E - 0x1_0000_0000, []), (0, [])):  # pcsc-lite, Windows, macOS
        monkeypatch.setattr(pyscard.scard, "SCardListReaders", lambda *_, answer=answer: answer)
        assert context.list_readers() == ()
    monkeypatch.setattr(pyscard.scard, "SCardListReaders", lambda *_: (0x8010001D, []))
    assert isinstance(refused(context.list_readers), ServiceUnavailableError)
    monkeypatch.undo()
    context.release()


def test_a_table_of_readers_that_cannot_shrink(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """libpcsclite 2.5; see `test_fewer_readers_than_before` for the real one."""
    monkeypatch.setattr(pyscard.scard, "SCardListReaders", lambda *_: (0x8010001F, []))
    monkeypatch.setattr(pyscard, "ON_PCSC_LITE", True)
    error = refused(context.list_readers)
    assert (type(error), error.code, error.call) == (ServiceUnavailableError, 0x8010001F, "SCardListReaders")
    assert "restart this program" in str(error)
    monkeypatch.setattr(pyscard, "ON_PCSC_LITE", False)  # SCARD_E_UNEXPECTED, on Windows
    assert "restart" not in str(refused(context.list_readers))
    monkeypatch.undo()
    context.release()


FORK = """
import os, sys, threading
from scardface._pcsc import pyscard

inside, leave = threading.Event(), threading.Event()
busy = 0

def slow(*_):
    global busy
    busy += 1
    inside.set()
    leave.wait(float(sys.argv[2]))
    busy -= 1
    return 0, []

setattr(pyscard.scard, sys.argv[1], slow)
context = pyscard._Context(1)
calls = {
    "SCardListReaders": context.list_readers,
    "SCardGetStatusChange": lambda: context.get_status_change(0, [("A", 0)]),
    "SCardEstablishContext": pyscard.PYSCARD.establish,
}
thread = threading.Thread(target=calls[sys.argv[1]])
thread.start()
inside.wait()
child = os.fork()
if not child:
    setattr(pyscard.scard, sys.argv[1], lambda *_: (0, []))
    calls[sys.argv[1]]()  # its own locks are free
    os._exit(busy)
print("inside:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
leave.set()
thread.join()
calls[sys.argv[1]]()
"""


@pytest.mark.slow
@pytest.mark.parametrize("call", ["SCardListReaders", "SCardGetStatusChange", "SCardEstablishContext"])
@pytest.mark.parametrize(("seconds", "told"), [(0.1, "inside: 0\n"), (30, "inside: 1\n")], ids=["short", "frozen"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
def test_a_fork_waits_for_short_calls(call: str, seconds: float, told: str) -> None:
    """libpcsclite's locks stay locked in the child; a call that a frozen service keeps holds up no fork for ever."""
    command = [sys.executable, "-W", "ignore", "-c", FORK, call, str(seconds)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (said.returncode, said.stdout) == (0, told), said


FEWER = """
from scardface import ReaderRemoved, SCardError, ServiceDown, ServiceUp
from scardface.sync import ReaderMonitor, readers
from scardface.testing import PrivatePcscd, _pcscd_process

pcscd = PrivatePcscd(4)
pcscd.start()
with ReaderMonitor() as monitor:
    print("added", [next(monitor).reader for _ in range(4)] == list(pcscd.readers))
    pcscd.kill()
    print(type(next(monitor)).__name__)
    _pcscd_process._check_listing = _pcscd_process._await_empty = lambda *_: None  # they would fail, see below
    pcscd.start(2)
    event = next(monitor)
    if isinstance(event, ServiceDown):
        print("told:", event.error)
        try:
            readers()
        except SCardError as error:
            print(type(error).__name__, error)
        pcscd.kill()
        pcscd.start(4)
        event = next(monitor)
        print(type(event).__name__, len(readers()))
    else:
        removed = [next(monitor) == ReaderRemoved(f"Virtual PCD 1 00 0{slot}") for slot in (0, 1)]
        print(type(event).__name__, removed, len(readers()))
pcscd.stop()
"""


BOTH_BINDINGS = pytest.mark.parametrize("binding", ["pyscard", "ctypes"])
"""For what runs in a process of its own, which takes the binding that SCARDFACE_BINDING names."""


@BOTH_BINDINGS
def test_fewer_readers_than_before(pcscd: PrivatePcscd, binding: str) -> None:
    """In a process of its own, since libpcsclite 2.5 keeps its table of readers for the process; the older ones take it."""
    command = [sys.executable, "-W", "ignore", "-c", FEWER]
    environment = {**os.environ, "SCARDFACE_BINDING": binding}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    lines = said.stdout.splitlines()
    assert lines[:2] == ["added True", "ServiceDown"], said
    if len(lines) == 3:
        assert lines[2] == "ServiceUp [True, True] 2"
        return
    told, raised, healed = lines[2:]
    assert told.startswith("told: SCardListReaders: ")
    assert raised.startswith("ServiceUnavailableError SCardListReaders: ")
    assert "restart this program" in told
    assert "restart this program" in raised
    assert healed == "ServiceUp 4"


def test_signed_codes_and_states_are_folded(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows' and macOS' binding gives 32-bit numbers with a sign (fact 45)."""
    fed: list[tuple[str, int]] = []

    def status_change(_: int, timeout: int, pairs: list[tuple[str, int]]) -> tuple[int, list[tuple[str, int, list[int]]]]:
        fed.extend(pairs)
        return 0x8010000A - 0x1_0000_0000, [("R", 0x8001_0022 - 0x1_0000_0000, [0x3B, 0])]

    monkeypatch.setattr(pyscard.scard, "SCardGetStatusChange", status_change)
    monkeypatch.setattr(pyscard, "_LONG_BITS", 31)
    change = context.get_status_change(0, [("R", 0x8001_0020), ("S", 0x20)])
    assert change.timed_out
    assert change.entries == [("R", 0x8001_0022, b"\x3b\x00")]
    assert fed == [("R", 0x8001_0020 - 0x1_0000_0000), ("S", 0x20)]
    monkeypatch.undo()
    context.release()


@pytest.mark.parametrize("state", [0x7FFF_0010, 0x8000_0010, 0xFFFF_0012])
def test_a_counter_of_many_cards(context: Context, pcscd: PrivatePcscd, state: int) -> None:
    """16,384 cards and more: what is more than a long of 32 bits holds goes into the binding as well (fact 68)."""
    (entry,) = context.get_status_change(0, [(pcscd.readers[0], state)]).entries
    assert entry.reader == pcscd.readers[0]
    context.release()


def test_raw_has_the_platforms_own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyscard.scard, "SCARD_PROTOCOL_RAW", 0x10000)
    assert pyscard._mask(Protocol.RAW) == 0x10000
    assert pyscard._mask(Protocol.T0 | Protocol.T1) == 3
    assert pyscard._protocol(0x10000) is Protocol.RAW
    assert pyscard._protocol(2) is Protocol.T1


def test_importing_the_library_does_not_load_the_binding() -> None:
    check = "import sys, scardface, scardface.sync; sys.exit('smartcard' in ' '.join(sys.modules))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


LATIN = """if True:
    import logging
    import sys
    from pathlib import Path
    from scardface.sync import SCard, ReaderMonitor, readers, states
    from scardface.testing import FileCard, PrivatePcscd, _pcscd_process

    # The first entry of pcscd's configuration has a name in ISO 8859-1; the daemon's own checks know nothing of that.
    written, named = Path.write_text, _pcscd_process._entry_name
    Path.write_text = lambda path, text: path.write_bytes(text.encode("latin-1"))
    _pcscd_process._entry_name = lambda number: named(number) if number else "Lecteur \xe9"
    _pcscd_process._check_listing = _pcscd_process._await_empty = lambda *_: None
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    with PrivatePcscd(4) as pcscd:
        _pcscd_process._entry_name = named
        print(ascii(readers()))
        print([*states()])
        pcscd.insert(2, FileCard())
        with SCard(timeout=20) as card:
            print(card.reader, card.send(bytes.fromhex("00A4040000")).sw1 in (0x90, 0x6A))
        with ReaderMonitor() as monitor:
            print(sorted({next(monitor).reader for _ in range(3)}))
"""


@BOTH_BINDINGS
def test_a_name_that_is_no_utf_8_keeps_one_reader_out_of_reach(pcscd: PrivatePcscd, binding: str) -> None:
    """In a process of its own: libpcsclite settles on one daemon for each."""
    environment = {**os.environ, "SCARDFACE_BINDING": binding}
    done = subprocess.run([sys.executable, "-c", LATIN], env=environment, capture_output=True, text=True, timeout=120)
    others = "['Virtual PCD 1 00 00', 'Virtual PCD 1 00 01']"
    lines = [line for line in done.stdout.splitlines() if "is left out" not in line]
    assert lines == [
        r"('Lecteur \ufffd 00 00', 'Lecteur \ufffd 00 01', 'Virtual PCD 1 00 00', 'Virtual PCD 1 00 01')",
        others,
        "Virtual PCD 1 00 00 True",
        others,
    ], done.stderr
    assert "reader 'Lecteur \ufffd 00 00' is left out" in done.stdout


def test_the_list_is_the_librarys_where_pyscards_cannot_be_made(
    pcscd: PrivatePcscd, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise SystemError("returned a result with an exception set") from UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "no")

    monkeypatch.setattr(pyscard.scard, "SCardListReaders", broken)
    assert context.list_readers() == pcscd.readers
    pcscd.stop()
    assert isinstance(refused(context.list_readers), ServiceUnavailableError)
    pcscd.start()
    monkeypatch.setattr(pyscard, "ON_PCSC_LITE", False)
    fresh = PYSCARD.establish()
    error = refused(fresh.list_readers)
    assert (type(error), error.call) == (ServiceUnavailableError, "SCardListReaders")
    fresh.release()
