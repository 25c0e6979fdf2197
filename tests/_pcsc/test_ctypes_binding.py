"""The binding by ctypes: the headers of each platform, a library that is none, names, and that it says what pyscard's says.

PC/SC's own behaviour, by both bindings: tests/testing/test_conformance.py.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from scardface import Disposition, NoReaderError, Protocol, SCardError, ServiceUnavailableError, ShareMode
from scardface._enums import StateFlag
from scardface._pcsc import ctypes_binding
from scardface._pcsc.backend import ATTR_ATR_STRING, PNP_READER, CardHandle, Context
from scardface._pcsc.ctypes_binding import (
    CTYPES,
    MACOS,
    PCSC_LITE,
    WINDOWS,
    Headers,
    Library,
    headers_of,
    reader_state_type,
    signatures,
)
from scardface._pcsc.pyscard import PYSCARD
from scardface.errors import CANCELLED, INSUFFICIENT_BUFFER, UNSUPPORTED_FEATURE
from scardface.testing import PrivatePcscd
from tests.support.cards import BOTH, ECHO, LogCard

UNIX_64 = PCSC_LITE._replace(dword=ctypes.c_uint64, long=ctypes.c_int64, handle=ctypes.c_int64)
UNIX_32 = PCSC_LITE._replace(dword=ctypes.c_uint32, long=ctypes.c_int32, handle=ctypes.c_int32)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child goes on with its parent's library")
FIELDS = ("szReader", "pvUserData", "dwCurrentState", "dwEventState", "cbAtr", "rgbAtr")


@pytest.fixture
def context(pcscd: PrivatePcscd) -> Iterator[Context]:
    context = CTYPES.establish()
    yield context
    with suppress(SCardError):  # a test may have released it
        context.release()


def refused(call: Callable[[], object]) -> SCardError:
    with pytest.raises(SCardError) as caught:
        call()
    return caught.value


class TestHeaders:
    """docs/pcsc-facts.md, "The headers"."""

    @pytest.mark.parametrize(
        ("headers", "pointer", "end", "offsets"),
        [
            (UNIX_64, ctypes.c_uint64, 73, (0, 8, 16, 24, 32, 40)),
            (UNIX_32, ctypes.c_uint32, 53, (0, 4, 8, 12, 16, 20)),
            (MACOS, ctypes.c_uint64, 61, (0, 8, 16, 20, 24, 28)),
            (WINDOWS, ctypes.c_uint64, 64, (0, 8, 16, 20, 24, 28)),
            (WINDOWS, ctypes.c_uint32, 56, (0, 4, 8, 12, 16, 20)),
        ],
        ids=["pcsc-lite-64", "pcsc-lite-32", "macos", "windows-64", "windows-32"],
    )
    def test_a_readers_state(self, headers: Headers, pointer: Any, end: int, offsets: tuple[int, ...]) -> None:
        """A size is what its end comes to with the padding of this machine: i386 aligns 64 bits to 4 bytes."""
        kind = reader_state_type(headers, pointer)
        unit = 1 if headers.packed else ctypes.alignment(pointer)
        assert ctypes.sizeof(kind) == -(-end // unit) * unit
        assert tuple(getattr(kind, field).offset for field in FIELDS) == offsets
        assert kind.rgbAtr.size == (36 if headers is WINDOWS else 33)

    def test_each_platform_has_its_own(self) -> None:
        assert [headers_of(platform) for platform in ("linux", "freebsd14", "darwin", "win32")] == [
            PCSC_LITE,
            PCSC_LITE,
            MACOS,
            WINDOWS,
        ]

    def test_numbers(self) -> None:
        for headers in (MACOS, WINDOWS):
            assert (ctypes.sizeof(headers.dword), ctypes.sizeof(headers.long)) == (4, 4)
        assert ctypes.sizeof(PCSC_LITE.dword) == ctypes.sizeof(PCSC_LITE.handle) == ctypes.sizeof(ctypes.c_long)
        assert ctypes.sizeof(MACOS.handle) == 4
        assert ctypes.sizeof(WINDOWS.handle) == ctypes.sizeof(ctypes.c_void_p)
        assert (PCSC_LITE.raw, MACOS.raw, WINDOWS.raw) == (4, 4, 0x10000)
        assert (PCSC_LITE.answer_bytes, MACOS.answer_bytes) == (4 + 3 + 65536 + 3 + 2, 4 + 3 + 65536 + 3)

    def test_what_takes_names_ends_with_w_on_windows(self) -> None:
        wide = {name for name, kinds in signatures(WINDOWS).items() if kinds != signatures(WINDOWS._replace(wide=False))[name]}
        assert wide == {"SCardConnect"}  # the others take a pointer
        assert set(WINDOWS.symbols) == {
            "SCardListReaders",
            "SCardListReaderGroups",
            "SCardGetStatusChange",
            "SCardConnect",
            "SCardStatus",
        }
        assert reader_state_type(WINDOWS).szReader.size == ctypes.sizeof(ctypes.c_void_p)


class TestLibrary:
    @pytest.fixture
    def unloaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ctypes_binding, "_loaded", {})

    def test_one_that_is_missing_names_the_package(self, unloaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ctypes_binding, "PCSC_LITE", PCSC_LITE._replace(library="libnosuch.so.1"))
        error = refused(CTYPES.establish)
        assert isinstance(error, ServiceUnavailableError)
        assert "libnosuch.so.1 cannot be loaded" in str(error)
        assert "install Debian's package libpcsclite1" in str(error)

    def test_one_that_is_too_old_names_the_package(self, unloaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ctypes_binding, "PCSC_LITE", PCSC_LITE._replace(library="libc.so.6"))
        error = refused(CTYPES.establish)
        assert "libc.so.6 is too old" in str(error)
        assert "libpcsclite1" in str(error)

    def test_it_is_tried_again(self, pcscd: PrivatePcscd, unloaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(ctypes_binding, "PCSC_LITE", PCSC_LITE._replace(library="libnosuch.so.1"))
            refused(CTYPES.establish)
        CTYPES.establish().release()

    def test_nothing_of_a_platform_runs_at_import(self) -> None:
        program = (
            "import ctypes, sys\n"
            "def no(*_): raise SystemExit('a library is loaded')\n"
            "ctypes.CDLL = no\n"
            "for platform in ('linux', 'darwin', 'win32'):\n"
            "    sys.platform = platform\n"
            "    sys.modules.pop('scardface._pcsc.ctypes_binding', None)\n"
            "    import scardface._pcsc.ctypes_binding\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


class TestNames:
    """On a Windows that is played: its texts are UTF-16."""

    @pytest.fixture(params=[PCSC_LITE, WINDOWS], ids=["utf-8", "utf-16"])
    def library(self, request: pytest.FixtureRequest) -> Library:
        library = Library.__new__(Library)
        library.headers = request.param
        return library

    def test_lists_are_read(self, library: Library) -> None:
        buffer = library.multi_string(["Lecteur \xe9", "\u8aad\u307f\u53d6\u308a"])
        assert library.names(buffer, 10_000) == ("Lecteur \xe9", "\u8aad\u307f\u53d6\u308a")
        assert library.names(buffer, 0) == ()
        assert library.multi_string([]) is None
        assert len(library.text_buffer(7)) == 7

    def test_names_that_cannot_be(self, library: Library) -> None:
        for name in ("two\0names", "\ufffd", "\udce9"):
            assert not ctypes_binding.takes_reader_name(name)
            with pytest.raises(ValueError, match="reader name"):
                library.name(name)
        assert library.name("\xe9") == ("\xe9" if library.headers.wide else b"\xc3\xa9")

    def test_raw_has_the_platforms_own_number(self, library: Library) -> None:
        raw = library.headers.raw
        assert library.mask(Protocol.RAW) == raw
        assert library.mask(Protocol.T0 | Protocol.T1) == 3
        assert library.protocol(raw) is Protocol.RAW
        assert library.protocol(2) is Protocol.T1


def test_numbers_without_a_sign(context: Context, pcscd: PrivatePcscd) -> None:
    """States of 2**31 and more, also where a long has 32 bits (fact 68), go in and come out as they are."""
    for state in (0x7FFF_0010, 0x8000_0010, 0xFFFF_0012):
        (entry,) = context.get_status_change(0, [(pcscd.readers[0], state)]).entries
        assert entry.reader == pcscd.readers[0]
        assert 0 <= entry.state < 2**32


def test_a_timeout_that_is_none(context: Context) -> None:
    for timeout in (-1, 2**32 - 1, 2**80):
        assert refused(lambda timeout=timeout: context.get_status_change(timeout, [(PNP_READER, 0)])).call == "SCardGetStatusChange"  # type: ignore[misc]


@pytest.mark.parametrize("longest", [264, 65535])
def test_an_attribute_is_asked_for_with_a_buffer_that_every_service_takes(
    context: Context, pcscd: PrivatePcscd, monkeypatch: pytest.MonkeyPatch, longest: int
) -> None:
    """Also on Windows, where a longer one is a second try: Wine hands it on to pcsc-lite, which refuses more than 264 bytes."""
    pcscd.insert(0, LogCard(BOTH))
    pcscd.wait_for_card(0)
    handle = context.connect(pcscd.readers[0], ShareMode.SHARED, Protocol.T1)
    library = ctypes_binding.library()
    monkeypatch.setattr(library, "headers", library.headers._replace(attribute_bytes=longest))
    code = refused(lambda: handle.get_attribute(ATTR_ATR_STRING)).code  # of the driver, which has none, rather than of the service
    assert code == UNSUPPORTED_FEATURE
    asked: list[int] = []

    def too_long(handle: int, attribute: int, value: Any, length: Any) -> int:
        asked.append(length._obj.value)
        length._obj.value = min(1000, length._obj.value)
        return 0 if len(value) >= 1000 else INSUFFICIENT_BUFFER

    monkeypatch.setitem(library._functions, "SCardGetAttrib", too_long)
    if longest == 264:
        assert refused(lambda: handle.get_attribute(ATTR_ATR_STRING)).code == INSUFFICIENT_BUFFER
    else:
        assert len(handle.get_attribute(ATTR_ATR_STRING)) == 1000
    assert asked == sorted({264, longest})


def test_the_longest_command_and_the_longest_answer(context: Context, pcscd: PrivatePcscd) -> None:
    class Long(LogCard):
        def process(self, command: bytes) -> bytes:
            self.commands.append(command)
            return bytes(65_533) + b"\x90\x00"

    card = Long(BOTH)
    pcscd.insert(0, card)
    pcscd.wait_for_card(0)
    handle = context.connect(pcscd.readers[0], ShareMode.SHARED, Protocol.T1)
    assert handle.transmit(bytes(65_535)) == bytes(65_533) + b"\x90\x00"
    assert card.commands == [bytes(65_535)]
    assert refused(lambda: handle.transmit(bytes(70_000))).call == "SCardTransmit"


def test_an_answer_leaves_nothing_of_the_one_before(context: Context, pcscd: PrivatePcscd) -> None:
    pcscd.insert(0, LogCard(BOTH))
    pcscd.wait_for_card(0)
    handle = context.connect(pcscd.readers[0], ShareMode.SHARED, Protocol.T1)
    for size in (200, 1, 90):
        assert handle.transmit(bytes([0, ECHO, 0, 0, size]) + b"\xaa" * size) == b"\xaa" * size + b"\x90\x00"
    assert handle.transmit(bytearray([0, ECHO, 0, 0, 1, 7])) == b"\x07\x90\x00"


FORK = """
import os, sys, threading
from scardface._pcsc import ctypes_binding
from scardface._threads import generation

pcsc = ctypes_binding.library()
inside, leave = threading.Event(), threading.Event()
busy = 0

def slow(*_):
    global busy
    busy += 1
    inside.set()
    leave.wait(float(sys.argv[2]))
    busy -= 1
    return 0

pcsc._functions[sys.argv[1]] = slow
context = ctypes_binding._Context(pcsc, 1)
calls = {
    "SCardListReaders": context.list_readers,
    "SCardGetStatusChange": lambda: context.get_status_change(0, [("A", 0)]),
    "SCardEstablishContext": ctypes_binding.CTYPES.establish,
}
thread = threading.Thread(target=calls[sys.argv[1]])
thread.start()
inside.wait()
child = os.fork()
if not child:
    pcsc._functions[sys.argv[1]] = ctypes_binding.library(generation())._functions[sys.argv[1]] = lambda *_: 0
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
    command = [sys.executable, "-W", "ignore", "-c", FORK, call, str(seconds)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (said.returncode, said.stdout) == (0, told), said


LOCKED = """
import os, signal, sys, threading
from scardface import sync
from scardface._pcsc import fork_gate
from scardface.backend import binding
from scardface._pcsc.binding_choice import default_backend
from scardface.testing import PrivatePcscd
from tests.support.connections import unread
from tests.support.freezing import freeze
from tests.support.waits import wait_until

fork_gate.MAX_DELAY = 0.0  # else the fork would wait

def use(forks):
    status = 1
    try:
        assert len(sync.readers(timeout=20)) == 2
        with sync.ReaderMonitor() as monitor:
            next(monitor)
        status = 0
        if forks:
            fork(forks)
    finally:
        os._exit(status)

def fork(forks):
    child = os.fork()
    if not child:
        use(forks - 1)
    os.kill(pcscd.pid, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

with PrivatePcscd(2) as pcscd:
    backend = default_backend()
    context = backend.establish()
    entry = context.get_status_change(0, [(pcscd.readers[0], 0)]).entries[0]
    calls = {
        "SCardEstablishContext": lambda: backend.establish().release(),  # holds the lock of the contexts
        "SCardGetStatusChange": lambda: context.get_status_change(100, [entry[:2]]),  # from 2.0.1 on, that of the readers
    }
    freeze(pcscd.pid)
    thread = threading.Thread(target=calls[sys.argv[1]])
    thread.start()
    wait_until(unread)  # the lock is taken before the service is asked
    fork(2)
    thread.join()
    context.release()
    print(binding().name, "and all generations were right")
"""


@pytest.mark.parametrize("call", ["SCardEstablishContext", "SCardGetStatusChange"])
@pytest.mark.parametrize("chosen", ["", "ctypes"])
@on_linux
@pytest.mark.usefixtures("pcscd")
def test_a_forked_child_has_a_library_of_its_own(call: str, chosen: str) -> None:
    """Its parent's may be locked for ever: here the fork comes while a call holds its lock."""
    environment = {**os.environ, "SCARDFACE_BINDING": chosen, "PYTHONPATH": os.pathsep.join(sys.path)}
    del environment["PCSCLITE_CSOCK_NAME"]
    command = [sys.executable, "-W", "ignore", "-c", LOCKED, call]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert said.stdout == f"{chosen or 'pyscard'} and all generations were right\n", said


GENERATIONS = """
import ctypes, os
from scardface._pcsc.ctypes_binding import library
from scardface._threads import generation

addresses = []
while generation() < 3:
    addresses.append(ctypes.cast(library(generation()).cancel, ctypes.c_void_p).value)
    if os.fork():
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
print(len(addresses), "libraries, different ones:", len(set(addresses)))
"""


@on_linux
def test_each_generation_has_another_one() -> None:
    """The dynamic linker gives a library that is loaded already if the name of its file is the same."""
    command = [sys.executable, "-W", "ignore", "-c", GENERATIONS]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert said.stdout == "3 libraries, different ones: 3\n", said


UPGRADED = """
import ctypes, os, shutil, sys
from scardface._pcsc import ctypes_binding

original, path = sys.argv[1:]
ctypes_binding.PCSC_LITE = ctypes_binding.PCSC_LITE._replace(library=path)
before = ctypes.cast(ctypes_binding.library().cancel, ctypes.c_void_p).value
os.remove(path)
shutil.copy(original, path)
if not os.fork():
    print(ctypes.cast(ctypes_binding.library(1).cancel, ctypes.c_void_p).value != before, flush=True)
    os._exit(0)
os.wait()
"""


@on_linux
def test_a_child_after_an_upgrade_loads_the_new_one(tmp_path: Path) -> None:
    ctypes_binding.library()
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    original = next(line.split()[-1] for line in maps if "/libpcsclite.so" in line)
    path = shutil.copy(original, tmp_path / "libpcsclite.so.1")
    command = [sys.executable, "-W", "ignore", "-c", UPGRADED, original, str(path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert said.stdout == "True\n", said


NO_COPY = """
import ctypes, os, sys
from scardface._pcsc import ctypes_binding

def address(library):
    return ctypes.cast(library.cancel, ctypes.c_void_p).value

if sys.argv[1] == "loaded":
    ctypes_binding.library()
    del os.memfd_create
if not os.fork():
    print(address(ctypes_binding.library(1)) == address(ctypes_binding.library()), flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize("parents", ["loaded", "not loaded"])
@on_linux
def test_a_child_that_needs_no_copy_or_can_load_none_takes_the_library_as_it_is(parents: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", NO_COPY, parents]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert said.stdout == "True\n", said


def test_the_gil_is_free_meanwhile(context: Context, pcscd: PrivatePcscd) -> None:
    """Else nobody could cancel."""
    (entry,) = context.get_status_change(0, [(pcscd.readers[0], 0)]).entries
    caught_errors: list[SCardError] = []

    def wait() -> None:
        caught_errors.append(refused(lambda: context.get_status_change(30_000, [(entry.reader, entry.state)])))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    while thread.is_alive():
        context.cancel()
        thread.join(0.01)
    assert [error.code for error in caught_errors] == [CANCELLED]


OUTSIDE_ASCII = """if True:
    import logging, sys
    from scardface.sync import SCard, ReaderMonitor, readers, states
    from scardface.testing import FileCard, PrivatePcscd, _pcscd_process

    named = _pcscd_process._entry_name
    _pcscd_process._entry_name = lambda number: named(number) if number else "Lecteur \\xe9\\u8aad"
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    with PrivatePcscd(4) as pcscd:
        mine = readers()[0]
        print(ascii(mine), list(states()) == list(readers()))
        pcscd.insert(0, FileCard())
        with SCard(mine, timeout=20) as card:
            print(card.reader == mine, card.send(bytes.fromhex("00A40000023F00")).sw1 in (0x90, 0x6A))
        with ReaderMonitor() as monitor:
            print(mine in {next(monitor).reader for _ in range(4)})
        from scardface.cli import main
        main(["readers", "--json"])
        sys.exit(main(["send", "--reader", mine.upper(), "00A4000C023F00"]))
"""


def test_names_outside_ascii_work_everywhere(pcscd: PrivatePcscd) -> None:
    """In a process of its own: libpcsclite settles on one daemon for each."""
    environment = {**os.environ, "SCARDFACE_BINDING": "ctypes"}
    done = subprocess.run([sys.executable, "-c", OUTSIDE_ASCII], capture_output=True, text=True, timeout=120, env=environment)
    first, *lines = done.stdout.splitlines()
    assert first == r"'Lecteur \xe9\u8aad 00 00' True", done
    assert lines[:2] == ["True True", "True"]
    assert '"card": "present"' in lines[2]
    assert (done.returncode, done.stderr) == (0, "")


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns, or the code that it answers."""
    try:
        return call()
    except SCardError as error:
        return error.code, error.call, type(error)


class Pair:
    """The same calls by both bindings, one after the other, on a context and a card of each."""

    def __init__(self, choose: random.Random, reader: str) -> None:
        self.choose = choose
        self.reader = reader
        self.contexts: tuple[Context, Context] = (PYSCARD.establish(), CTYPES.establish())
        self.handles: tuple[CardHandle, CardHandle] | None = None

    def close(self) -> None:
        for context in self.contexts:
            with suppress(SCardError):
                context.release()

    def leave(self) -> None:
        if self.handles is not None:
            for handle in self.handles:
                with suppress(SCardError):
                    handle.disconnect(Disposition.LEAVE)
        self.handles = None

    def step(self) -> tuple[str, Any, Any]:
        """One call with random arguments: its name, and what each binding says."""
        pick = self.choose.choice
        name = pick([self.reader, self.reader, "no such reader", ""])
        share, protocols = pick([*ShareMode]), pick([Protocol.T0, Protocol.T1, Protocol.T0 | Protocol.T1, Protocol.UNDEFINED])
        data = self.choose.randbytes(pick([4, 5, 60, 300]))
        number = pick([ATTR_ATR_STRING, 0x00010100, 0x7FFF0003, 0x42000001, 0x42000D48])
        if self.handles is None or pick(range(8)) == 0:
            self.leave()
            made = []
            for context in self.contexts:
                made.append(outcome(lambda context=context: context.connect(name, share, protocols)))  # type: ignore[misc]
                if not isinstance(made[-1], tuple) and context is self.contexts[0]:
                    made[0].disconnect(Disposition.LEAVE)  # it may be EXCLUSIVE
            if not any(isinstance(each, tuple) for each in made):
                made[1].disconnect(Disposition.LEAVE)
                if share is ShareMode.SHARED:
                    handles = [context.connect(name, share, protocols) for context in self.contexts]
                    self.handles = handles[0], handles[1]
                return "connect", made[0].protocol, made[1].protocol
            return "connect", made[0], made[1]
        calls: dict[str, Callable[[Any, Any], Any]] = {
            "status": lambda context, handle: (handle.status().atr, handle.status().protocol, handle.status().reader),
            "transmit": lambda context, handle: handle.transmit(data),
            "control": lambda context, handle: handle.control(number, data),
            "get": lambda context, handle: handle.get_attribute(number),
            "set": lambda context, handle: handle.set_attribute(number, data),
            "begin, end": lambda context, handle: (handle.begin_transaction(), handle.end_transaction(Disposition.LEAVE)),
            "end": lambda context, handle: handle.end_transaction(Disposition.LEAVE),
            "reconnect": lambda context, handle: handle.reconnect(ShareMode.SHARED, protocols, Disposition.LEAVE),
            "readers": lambda context, handle: context.list_readers(pick([None, ["SCard$DefaultReaders"]])),
            "groups": lambda context, handle: context.list_reader_groups(),
            "change": lambda context, handle: [
                (entry.reader, entry.state & ~StateFlag.CHANGED, entry.atr)
                for entry in context.get_status_change(0, [(each, 0) for each in (name, self.reader)]).entries
            ],
        }
        what = pick([*calls])
        said = [outcome(lambda pair=pair: calls[what](*pair)) for pair in zip(self.contexts, self.handles, strict=True)]  # type: ignore[misc]
        return what, said[0], said[1]


@pytest.mark.parametrize("seed", range(4))
def test_random_calls_say_the_same_by_both_bindings(seed: int, pcscd: PrivatePcscd) -> None:
    pcscd.insert(0, LogCard(BOTH))
    pcscd.wait_for_card(0)
    pair = Pair(random.Random(seed), pcscd.readers[0])
    heard: set[str] = set()
    try:
        for _ in range(250):
            what, by_pyscard, by_ctypes = pair.step()
            assert by_ctypes == by_pyscard, what
            heard.add(what)
    finally:
        pair.leave()
        pair.close()
    assert len(heard) == 12


def test_refusals_are_named(pcscd: PrivatePcscd, context: Context) -> None:
    assert isinstance(refused(lambda: context.connect("nobody", ShareMode.SHARED, Protocol.T1)), NoReaderError)
    context.release()
    pcscd.stop()
    error = refused(CTYPES.establish)
    assert isinstance(error, ServiceUnavailableError)
    assert error.call == "SCardEstablishContext"


def test_what_goes_in_and_out_of_a_status_call(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """CHANGED is taken out of what goes in (fact 10); an ATR is cut to its length, and to its field."""

    def played(_: int, timeout: int, states: Any, count: int) -> int:
        assert [entry.dwCurrentState for entry in states] == [0x8001_0020, 0x10]
        assert (timeout, count, states[0].szReader) == (7, 2, b"R")
        states[0].dwEventState, states[0].cbAtr, states[1].cbAtr = 0x8001_0022, 2, 200
        states[0].rgbAtr[0] = 0x3B
        return 0x8010000A - 0x1_0000_0000  # signed, as on macOS and Windows

    monkeypatch.setitem(ctypes_binding.library()._functions, "SCardGetStatusChange", played)
    change = context.get_status_change(7, [("R", 0x8001_0022), ("S", 0x12)])
    assert change == (True, [("R", 0x8001_0022, b"\x3b\x00"), ("S", 0, bytes(PCSC_LITE.atr_bytes))])
