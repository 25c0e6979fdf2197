"""scardface.testing._private_pcscd, with the real daemon: plain PC/SC calls on one side, virtual cards on the other.

What concerns a whole process (its first PC/SC call, its end, its user) is tested in processes made for it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from smartcard import scard

from scardface import ServiceUnavailableError
from scardface._pcsc.backend import StatusChange, StatusEntry
from scardface.sync import readers, states
from scardface.testing import FileCard, PrivatePcscd, VirtualCard
from scardface.testing import _pcscd_process as process
from scardface.testing import _private_pcscd as private
from tests.conftest import READERS
from tests.support.freezing import freeze

ROOT = Path(__file__).resolve().parents[2]
BOUND = 30.0
"""Seconds that anything here may take."""
READ_TEXT = "00 A4 04 0C 01 F0", "00 B0 81 00 05"


class Echo(VirtualCard):
    """Answers with the command."""

    def process(self, command: bytes) -> bytes:
        return command + b"\x90\x00"


@contextlib.contextmanager
def connected(reader: str) -> Iterator[int]:
    """A card handle of plain PC/SC."""
    code, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    assert code == scard.SCARD_S_SUCCESS
    try:
        code, handle, _ = scard.SCardConnect(context, reader, scard.SCARD_SHARE_SHARED, 3)
        assert code == scard.SCARD_S_SUCCESS, scard.SCardGetErrorMessage(code)
        yield handle
        scard.SCardDisconnect(handle, scard.SCARD_LEAVE_CARD)
    finally:
        scard.SCardReleaseContext(context)


def transmit(handle: int, command: bytes) -> bytes | int:
    """The answer, or PC/SC's error."""
    code, answer = scard.SCardTransmit(handle, scard.SCARD_PCI_T1, list(command))
    return bytes(answer) if code == scard.SCARD_S_SUCCESS else code & 0xFFFFFFFF


def exchange(reader: str, *commands: str) -> bytes:
    """The last answer to some commands."""
    with connected(reader) as handle:
        answer = b""
        for command in commands:
            got = transmit(handle, bytes.fromhex(command))
            assert isinstance(got, bytes)
            answer = got
        return answer


def listed() -> list[str]:
    code, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    assert code == scard.SCARD_S_SUCCESS
    try:
        return list(scard.SCardListReaders(context, [])[1])
    finally:
        scard.SCardReleaseContext(context)


def wait_for_end(pid: int) -> None:
    """Return once no process has this id. It is nobody's business here who reaps it."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            assert select.select([pidfd], [], [], BOUND)[0], f"process {pid} lives on"
        finally:
            os.close(pidfd)


# In this process


def test_pcsc_lists_the_readers(pcscd: PrivatePcscd) -> None:
    assert listed() == list(pcscd.readers)
    assert pcscd.running
    assert os.path.exists(f"/proc/{pcscd.pid}")
    assert dict(pcscd.cards) == {}


@pytest.mark.parametrize("reader", [0, 1, 2, 3])
def test_each_reader_has_its_own_card(pcscd: PrivatePcscd, reader: int) -> None:
    pcscd.insert(pcscd.readers[reader], FileCard())
    pcscd.wait_for_card(reader)
    for other, name in enumerate(pcscd.readers):
        if other != reader:
            pcscd.wait_for_removal(name)
    assert exchange(pcscd.readers[reader], *READ_TEXT) == b"Hello\x90\x00"
    assert list(pcscd.cards) == [pcscd.readers[reader]]


def test_long_messages_arrive_whole(pcscd: PrivatePcscd) -> None:
    pcscd.insert(0, Echo())
    pcscd.wait_for_card(0)
    with connected(pcscd.readers[0]) as handle:
        for size in (4, 261, 65533):
            command = bytes(index % 253 for index in range(size))
            assert transmit(handle, command) == command + b"\x90\x00"


def delayed_acknowledgements(pcscd: PrivatePcscd) -> int:
    """How many TCP has sent so far in the namespace of the daemon, where both ends are."""
    names, counts = Path(f"/proc/{pcscd.pid}/net/netstat").read_text(encoding="utf-8").splitlines()[:2]
    return int(dict(zip(names.split(), counts.split(), strict=True))["DelayedACKs"])


def test_exchanges_are_fast(pcscd: PrivatePcscd) -> None:
    """Each takes 0.1 ms. Without TCP_QUICKACK it takes 40 ms, until a delayed acknowledgement comes: each has one then."""
    pcscd.insert(0, Echo())
    pcscd.wait_for_card(0)
    with connected(pcscd.readers[0]) as handle:
        before = delayed_acknowledgements(pcscd)
        for _ in range(100):
            transmit(handle, b"\x00\x01\x02\x03")
        assert delayed_acknowledgements(pcscd) - before < 50


def test_removal_and_another_card(pcscd: PrivatePcscd) -> None:
    first, second = FileCard(), Echo()
    pcscd.insert(0, first)
    pcscd.wait_for_card(0)
    with connected(pcscd.readers[0]) as handle:
        assert pcscd.remove(0) is first
        pcscd.wait_for_removal(0)
        assert transmit(handle, b"\x00\xa4\x00\x00") == scard.SCARD_W_REMOVED_CARD & 0xFFFFFFFF
    pcscd.insert(0, second)
    pcscd.wait_for_card(0)
    assert exchange(pcscd.readers[0], "01 02 03 04") == bytes.fromhex("01 02 03 04 90 00")


def test_a_removal_is_waited_for_until_the_driver_has_noticed_it(pcscd: PrivatePcscd) -> None:
    """Where a reset has failed because the card is gone, pcscd says EMPTY at once, and takes the next card for the same one."""
    for _ in range(3):
        pcscd.insert(0, Echo())
        pcscd.wait_for_card(0)
        with connected(pcscd.readers[0]) as handle:
            pcscd.remove(0)
            scard.SCardReconnect(handle, scard.SCARD_SHARE_SHARED, 2, scard.SCARD_RESET_CARD)
        pcscd.wait_for_removal(0)
    pcscd.insert(0, Echo())
    pcscd.wait_for_card(0)


def test_power_and_resets_reach_the_card(pcscd: PrivatePcscd, no_leaks: None) -> None:
    card = FileCard()
    pcscd.insert(0, card)
    pcscd.wait_for_card(0)
    verify, state = b"\x00\x20\x00\x01\x041234", b"\x00\x20\x00\x01"
    with connected(pcscd.readers[0]) as handle:
        assert transmit(handle, verify) == b"\x90\x00"
        assert transmit(handle, state) == b"\x90\x00"
        scard.SCardReconnect(handle, scard.SCARD_SHARE_SHARED, 2, scard.SCARD_RESET_CARD)
        assert transmit(handle, state) == b"\x63\xc3"
    pcscd.remove(0)


def test_a_mute_card_is_present_and_mute(pcscd: PrivatePcscd) -> None:
    card = Echo()
    card.atr = b""
    pcscd.insert(0, card)
    pcscd.wait_for_card(0)
    _, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    _, states = scard.SCardGetStatusChange(context, 0, [(pcscd.readers[0], 0)])
    scard.SCardReleaseContext(context)
    assert states[0][1] & scard.SCARD_STATE_PRESENT
    assert states[0][1] & scard.SCARD_STATE_MUTE


class Mistaken(VirtualCard):
    """A card whose code fails."""

    def process(self, command: bytes) -> bytes:
        raise ZeroDivisionError(f"at {len(command)} bytes")


def test_a_mistake_in_a_card_comes_out_at_its_removal(pcscd: PrivatePcscd) -> None:
    card = Mistaken()
    for size in (4, 5):
        pcscd.insert(0, card)
        assert card.error is None
        pcscd.wait_for_card(0)
        assert exchange(pcscd.readers[0], "00" * size) == b"\x6f\x00"
        with pytest.raises(ZeroDivisionError, match=f"at {size} bytes"):
            pcscd.remove(0)
        assert dict(pcscd.cards) == {}
        pcscd.wait_for_removal(0)


def test_a_mistake_from_before_does_not_count(pcscd: PrivatePcscd) -> None:
    card = Echo()
    card.error = ValueError("of another test")
    pcscd.insert(0, card)
    assert pcscd.remove(0) is card


def test_all_come_out_though_one_was_mistaken(pcscd: PrivatePcscd) -> None:
    pcscd.insert(0, Mistaken())
    pcscd.insert(1, Echo())
    pcscd.wait_for_card(0)
    exchange(pcscd.readers[0], "00 00 00 00")
    with pytest.raises(ZeroDivisionError):
        pcscd.remove_all()
    assert dict(pcscd.cards) == {}
    pcscd.remove_all()


def test_an_empty_answer_hangs_the_reader_until_the_card_is_out(pcscd: PrivatePcscd) -> None:
    asked = threading.Event()

    class Hung(VirtualCard):
        def process(self, command: bytes) -> bytes:
            asked.set()
            return b""

    pcscd.insert(0, Hung())
    pcscd.wait_for_card(0)
    answers = []
    with connected(pcscd.readers[0]) as handle:
        thread = threading.Thread(target=lambda: answers.append(transmit(handle, b"\x00\x01\x02\x03")))
        thread.start()
        assert asked.wait(BOUND)
        thread.join(0.5)  # long enough for the driver's poll, which would end a wait that is none
        assert thread.is_alive()
        pcscd.remove(0)
        thread.join(BOUND)
    assert len(answers) == 1


def test_a_card_that_the_driver_dropped_comes_again(pcscd: PrivatePcscd) -> None:
    pcscd.insert(0, Echo())
    pcscd.wait_for_card(0)
    with connected(pcscd.readers[0]) as handle:
        assert transmit(handle, bytes(65536)) == scard.SCARD_E_NOT_TRANSACTED & 0xFFFFFFFF
        scard.SCardReconnect(handle, scard.SCARD_SHARE_SHARED, 2, scard.SCARD_RESET_CARD)  # fails, and that must not last
    pcscd.wait_for_removal(0)
    pcscd.wait_for_card(0)
    assert exchange(pcscd.readers[0], "01 02 03 04") == bytes.fromhex("01 02 03 04 90 00")


def test_a_card_may_take_itself_out_in_the_middle_of_a_command(pcscd: PrivatePcscd) -> None:
    class Leaving(VirtualCard):
        def process(self, command: bytes) -> bytes:
            pcscd.remove(0)
            return b"\x90\x00"

    card = Leaving()
    pcscd.insert(0, card)
    pcscd.wait_for_card(0)
    with connected(pcscd.readers[0]) as handle:
        assert transmit(handle, b"\x00\x01\x02\x03") != b"\x90\x00"
    pcscd.wait_for_removal(0)
    assert card.error is None


@pytest.mark.parametrize("reader", [-1, 4, "Virtual PCD 0", ""])
def test_readers_that_are_not_there(pcscd: PrivatePcscd, reader: int | str) -> None:
    for call in (pcscd.remove, pcscd.wait_for_card, lambda name: pcscd.insert(name, Echo())):
        with pytest.raises(ValueError, match="no reader"):
            call(reader)


def test_places_that_are_taken(pcscd: PrivatePcscd) -> None:
    card = Echo()
    pcscd.insert(0, card)
    with pytest.raises(ValueError, match="already"):
        pcscd.insert(0, Echo())
    with pytest.raises(ValueError, match="another reader"):
        pcscd.insert(1, card)
    with pytest.raises(ValueError, match="no card"):
        pcscd.remove(1)


def test_waits_end(pcscd: PrivatePcscd) -> None:
    with pytest.raises(TimeoutError, match=r"did not report PRESENT on reader 'Virtual PCD 0 00 00' within 0\.05 s"):
        pcscd.wait_for_card(0, timeout=0.05)
    pcscd.wait_for_removal(0, timeout=0)


EMPTY, PRESENT, MUTE = scard.SCARD_STATE_EMPTY, scard.SCARD_STATE_PRESENT, scard.SCARD_STATE_MUTE


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        (True, [(0, EMPTY), (0, EMPTY), (1, PRESENT | MUTE), (2, EMPTY)]),  # it went while it was being switched on
        (True, [(1, PRESENT), (1, EMPTY), (2, EMPTY)]),  # a reset failed
        (True, [(0, EMPTY)] * 7),  # it went before it was switched on
        (False, [(0, EMPTY)]),  # it went before the driver's poll
    ],
)
def test_a_removal_is_waited_for_until_pcsc_has_noticed_it(
    pcscd: PrivatePcscd, monkeypatch: pytest.MonkeyPatch, asked: bool, answers: list[tuple[int, int]]
) -> None:
    """Else whatever is inserted next is taken for the card before, which may be mute. A status call takes 0.25 s here."""
    clock, left = [0.0], list(answers)

    def status_change(context: object, timeout: int, entries: list[tuple[str, int]]) -> StatusChange:
        clock[0] += 0.25
        count, flags = left.pop(0)
        return StatusChange(False, [StatusEntry(entries[0][0], count << 16 | flags, b"")])

    pcscd.insert(0, Echo())
    pcscd.wait_for_card(0)
    monkeypatch.setattr(pcscd._links[0], "asked", asked)
    for name, value in (("_noticed", {}), ("_went", {})):
        monkeypatch.setattr(pcscd, name, value)
    monkeypatch.setattr(private, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(private, "status_change", status_change)
    pcscd.remove(0)
    pcscd.wait_for_removal(0)
    assert not left
    left.append(answers[-1])
    pcscd.wait_for_removal(0)
    assert not left, "noticed already"


# The daemon's end and start


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_cards_stay_in_over_the_daemons_end(pcscd: PrivatePcscd, end: str, no_leaks: None) -> None:
    pcscd.insert(1, FileCard())
    pcscd.wait_for_card(1)
    pid = pcscd.pid
    getattr(pcscd, end)()
    wait_for_end(pid)
    assert not pcscd.running
    with pytest.raises(RuntimeError, match="does not run"):
        _ = pcscd.pid
    code, _ = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    assert code & 0xFFFFFFFF == scard.SCARD_E_NO_SERVICE & 0xFFFFFFFF
    pcscd.insert(2, Echo())
    pcscd.start()
    assert listed() == list(pcscd.readers)
    for reader in (1, 2):
        pcscd.wait_for_card(reader)
    assert exchange(pcscd.readers[1], *READ_TEXT) == b"Hello\x90\x00"
    pcscd.remove_all()


def test_stopped_it_leaves_nothing_and_killed_its_dead_socket(pcscd: PrivatePcscd) -> None:
    where = Path(os.environ["PCSCLITE_CSOCK_NAME"])
    assert where.is_socket()
    pcscd.kill()
    assert where.is_socket()
    pcscd.stop()
    assert not where.parent.parent.exists()
    pcscd.stop()
    pcscd.kill()


def test_one_life_after_the_other(pcscd: PrivatePcscd, no_leaks: None) -> None:
    for _ in range(10):
        pcscd.stop()
        pcscd.start()
        assert readers() == pcscd.readers
        assert list(states()) == list(pcscd.readers)


NUMBERS = """
from scardface import C_APDU
from scardface.sync import SCard, readers
from scardface.testing import FileCard, PrivatePcscd

pcscd = PrivatePcscd(4)
pcscd.insert(2, FileCard())
try:
    pcscd.start(2)
except ValueError as error:
    print(error)
pcscd.remove(2)
for count in (0, 2, 16):
    pcscd.start(count)
    assert readers() == pcscd.readers
    print(*pcscd.readers, sep=", ")
    if count < 16:
        pcscd.stop()
pcscd.insert(15, FileCard())
with SCard(pcscd.readers[15], timeout=10) as card:
    print(card.send(bytes.fromhex("00A404000AF053434152444641434500")).is_successful())
pcscd.stop()
"""


def test_the_number_of_readers_may_change(pcscd: PrivatePcscd) -> None:
    """In a process of its own, and upwards: what libpcsclite 2.5 knows of readers never becomes less in a process."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NUMBERS], capture_output=True, text=True, timeout=BOUND, check=False
    )
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "a card is in a reader beyond the first 2: take it out first",
        "",
        "Virtual PCD 0 00 00, Virtual PCD 0 00 01",
    ], done
    assert (lines[3].count(","), lines[4]) == (15, "True")
    with pytest.raises(ValueError, match="0 to 16"):
        PrivatePcscd(readers=18)


def test_fewer_readers_where_libpcsclite_cannot_forget_them(
    pcscd: PrivatePcscd, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    """Nothing is left of the daemon, and the next one with as many as before starts."""
    pcscd.stop()
    with monkeypatch.context() as patch:
        patch.setenv("SCARDFACE_BINDING", "pyscard")
        patch.setattr("scardface._pcsc.pyscard.scard.SCardListReaders", lambda *_: (0x8010001F, []))
        with pytest.raises(ServiceUnavailableError, match="restart this program"):
            pcscd.start(2)
    assert not pcscd.running
    assert len(pcscd.readers) == 4
    pcscd.start()


def test_one_at_a_time(pcscd: PrivatePcscd) -> None:
    with pytest.raises(RuntimeError, match="runs already"):
        pcscd.start()
    another = PrivatePcscd()
    with pytest.raises(RuntimeError, match="runs already"):
        another.start()
    another.stop()
    another.kill()
    assert pcscd.running
    assert listed() == list(pcscd.readers)
    assert another.log == ""


def test_a_block_takes_its_cards_out_and_raises_what_they_kept(pcscd: PrivatePcscd, no_leaks: None) -> None:
    pcscd.stop()

    def run(*, failing: bool) -> None:
        with PrivatePcscd(READERS) as another:
            another.insert(0, Mistaken())
            another.wait_for_card(0)
            exchange(another.readers[0], "00 00 00 00")
            if failing:
                raise KeyError("the block's own")

    with pytest.raises(ZeroDivisionError):
        run(failing=False)
    with pytest.raises(KeyError):
        run(failing=True)
    pcscd.start()


def test_a_daemon_that_dies_by_itself(pcscd: PrivatePcscd, no_leaks: None) -> None:
    pcscd.insert(0, FileCard())
    pcscd.wait_for_card(0)
    assert pcscd._daemon is not None
    os.kill(pcscd.pid, signal.SIGKILL)
    pcscd._daemon._process.wait(BOUND)
    assert not pcscd.running
    with pytest.raises(ConnectionError):
        pcscd._daemon.connect(1)
    pcscd.insert(1, Echo())
    pcscd.start()
    for reader in (0, 1):
        pcscd.wait_for_card(reader)
    pcscd.remove_all()


def test_the_daemon_dies_with_the_keeper_of_its_namespaces(pcscd: PrivatePcscd) -> None:
    assert pcscd._daemon is not None
    pid = pcscd.pid
    os.kill(pcscd._daemon._process.pid, signal.SIGKILL)
    wait_for_end(pid)
    pcscd._daemon._process.wait(BOUND)  # its own end may be seen after the daemon's


def test_a_frozen_daemon_is_killed_in_the_end(pcscd: PrivatePcscd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_STOP_LIMIT", 0.2)
    pid = pcscd.pid
    freeze(pid)
    pcscd.stop()
    wait_for_end(pid)


def test_the_daemons_log_outlives_it(pcscd: PrivatePcscd) -> None:
    assert pcscd._daemon is not None
    with pcscd._daemon._log.open("a") as log:
        log.write("something went wrong\n")
    assert "something went wrong" in pcscd.log
    pcscd.stop()
    assert "something went wrong" in pcscd.log
    pcscd.start()
    assert "something went wrong" not in pcscd.log


def test_a_card_that_cannot_connect_ends_the_start(pcscd: PrivatePcscd, monkeypatch: pytest.MonkeyPatch, no_leaks: None) -> None:
    pcscd.stop()
    pcscd.insert(0, Echo())

    def refuse(*_: object) -> None:
        raise ConnectionRefusedError

    with monkeypatch.context() as patched:
        patched.setattr(process.Daemon, "connect", refuse)
        with pytest.raises(ConnectionRefusedError):
            pcscd.start()
    assert not pcscd.running
    pcscd.start()
    pcscd.wait_for_card(0)
    pcscd.remove(0)


def test_connections_are_not_inherited(pcscd: PrivatePcscd) -> None:
    assert pcscd._daemon is not None
    with pcscd._daemon.connect(3) as connection:
        assert not connection.get_inheritable()


class Copy:
    """What a forked child has of a daemon or of a card's connection; notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def forget(self) -> None:
        self.done.append("forget")

    def close(self) -> None:
        self.done.append("close")

    def end(self, how: str) -> None:
        self.done.append(how)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> tuple[PrivatePcscd, Copy, Copy]:
    """A private daemon and a card in it, as if they ran, in a state of the module that lasts as long as the test."""
    daemon, link = Copy(), Copy()
    copied = PrivatePcscd()
    copied._daemon = cast(Any, daemon)
    copied._links[0] = cast(Any, link)
    monkeypatch.setattr(private, "_last", [copied])
    monkeypatch.setattr(private, "remove_folder", lambda: daemon.done.append("folder"))
    return copied, daemon, link


def test_a_child_forgets(copied: tuple[PrivatePcscd, Copy, Copy]) -> None:
    """The same as in test_a_forked_child_leaves_its_parents_daemon_alone, where it can be seen."""
    pcscd, daemon, link = copied
    private._forget()
    assert (daemon.done, link.done) == (["forget"], ["forget"])
    assert not pcscd.running
    private._at_exit()
    private._forget()
    assert daemon.done == ["forget"]


def test_a_child_of_a_parent_that_stopped_forgets(copied: tuple[PrivatePcscd, Copy, Copy]) -> None:
    pcscd, _, link = copied
    pcscd._daemon = None
    private._forget()
    assert link.done == ["forget"]


def test_the_end_of_the_interpreter_stops_it(copied: tuple[PrivatePcscd, Copy, Copy]) -> None:
    _, daemon, link = copied
    private._at_exit()
    assert daemon.done == ["terminate", "folder"]
    assert link.done == ["close"]


# In other processes

ANNOUNCE = """
import os, sys
from scardface.testing import *
folder = lambda: os.path.dirname(os.path.dirname(os.environ["PCSCLITE_CSOCK_NAME"]))
pcscd = PrivatePcscd()
pcscd.start()
print(pcscd.pid, folder(), flush=True)
"""


@pytest.fixture
def possible(pcscd: PrivatePcscd) -> None:
    """A private daemon can be had here; other processes may have theirs at the same time."""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with so short a name that sockets can be in it; pytest's own are too long, and closed to other users."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@contextlib.contextmanager
def program(text: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own session that runs `text`; it is killed in the end if it has not ended."""
    command = [sys.executable, "-c", text, *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
        start_new_session=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def run(text: str, *arguments: str, **environment: str) -> str:
    """What a program prints, which succeeds and complains about nothing."""
    with program(text, *arguments, **environment) as running:
        out, err = running.communicate(timeout=BOUND)
        assert (running.returncode, err) == (0, "")
        return out


def announced(running: subprocess.Popen[str]) -> tuple[int, Path]:
    """The daemon's process id and its folder, as `ANNOUNCE` tells them."""
    assert running.stdout is not None
    pid, folder = running.stdout.readline().split()
    assert Path(folder).exists()
    return int(pid), Path(folder)


def wait_for_removal(folder: Path) -> None:
    """The folder goes a moment after the daemon has ended, which is what can be waited for."""
    end = time.monotonic() + BOUND
    while folder.exists():
        assert time.monotonic() < end, f"{folder} is left"
        time.sleep(0.01)


@pytest.mark.usefixtures("possible")
@pytest.mark.parametrize("forked", [False, True])
def test_a_killed_owner_leaves_nothing(forked: bool) -> None:
    child = "if os.fork() == 0: sys.stdin.read(); os._exit(0)\nprint('forked', flush=True)\n" if forked else ""
    with program(f"{ANNOUNCE}{child}sys.stdin.read()") as running:
        pid, folder = announced(running)
        if forked:
            assert running.stdout is not None
            assert running.stdout.readline() == "forked\n"
        running.kill()
        wait_for_end(pid)
        wait_for_removal(folder)


@pytest.mark.usefixtures("possible")
def test_a_program_that_just_ends_leaves_nothing() -> None:
    with program(f"{ANNOUNCE}pcscd.insert(0, FileCard())\nsys.stdin.readline()") as running:
        pid, folder = announced(running)
        _, err = running.communicate("\n", timeout=BOUND)
        assert (running.returncode, err) == (0, "")
        wait_for_end(pid)
        assert not folder.exists()


@pytest.mark.usefixtures("possible")
def test_a_program_that_just_ends_after_killing_its_daemon_leaves_nothing() -> None:
    assert run(f"{ANNOUNCE}pcscd.kill()\nprint(os.path.exists(folder()))").endswith("\nTrue\n")
    assert not Path(run(f"{ANNOUNCE}pcscd.kill()").split()[1]).exists()


@pytest.mark.usefixtures("possible")
def test_ctrl_c_is_for_the_owner() -> None:
    """The terminal sends it to the whole process group."""
    text = (
        "import signal\n"
        "signal.signal(signal.SIGINT, lambda *_: pcscd.insert(0, FileCard()))\n"
        f"{ANNOUNCE}"
        "sys.stdin.readline()\n"
        "pcscd.wait_for_card(0)\n"
        "pcscd.remove(0)\n"
    )
    with program(text) as running:
        announced(running)
        os.killpg(running.pid, signal.SIGINT)
        _, err = running.communicate("\n", timeout=BOUND)
        assert (running.returncode, err) == (0, "")


@pytest.mark.usefixtures("possible")
def test_a_forked_child_leaves_its_parents_daemon_alone() -> None:
    text = (
        f"import warnings\n{ANNOUNCE}"
        "pcscd.insert(0, FileCard())\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"  # Python 3.12 on: of a fork beside threads, such as the card's
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    assert not pcscd.running and pcscd.log == ''\n"
        "    pcscd.stop()\n"
        "    try:\n"
        "        PrivatePcscd().start()\n"
        "    except RuntimeError as error:\n"
        "        print(error, flush=True)\n"
        "    sys.exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "assert pcscd.running\n"
        "pcscd.wait_for_card(0)\n"
        "pcscd.remove(0)\n"
    )
    assert "forked child" in run(text)


@pytest.mark.usefixtures("possible")
def test_another_service_used_before_is_noticed(short_folder: Path) -> None:
    """libpcsclite has settled: on a daemon that runs (that of this test run), and on one that does not."""
    text = (
        "import os\n"
        "from smartcard import scard\n"
        "from scardface.testing import *\n"
        "before = os.environ['PCSCLITE_CSOCK_NAME']\n"
        "code, context = scard.SCardEstablishContext(0)\n"
        "if code == 0: scard.SCardReleaseContext(context)\n"
        "print(code == 0)\n"
        "pcscd = PrivatePcscd()\n"
        "try:\n"
        "    pcscd.start()\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
        "print(pcscd.running, os.environ['PCSCLITE_CSOCK_NAME'] == before)\n"
    )
    words = "this process has used another PC/SC service before"
    lines = run(text).splitlines()
    assert (lines[0], lines[1].startswith(words), lines[2]) == ("True", True, "False True")
    lines = run(text, PCSCLITE_CSOCK_NAME="/nonexistent/pcscd.comm", TMPDIR=str(short_folder)).splitlines()
    assert (lines[0], lines[1].startswith(words)) == ("False", True)
    assert lines[2].startswith("False")
    assert list(short_folder.iterdir()) == []


@pytest.mark.usefixtures("possible")
def test_one_after_another_with_a_variable_of_somebody_else() -> None:
    text = (
        "import os\n"
        "from scardface.testing import *\n"
        "from smartcard import scard\n"
        "for count in (2, 4):\n"
        "    with PrivatePcscd(count) as pcscd:\n"
        "        context = scard.SCardEstablishContext(0)[1]\n"
        "        print(len(scard.SCardListReaders(context, [])[1]))\n"
        "        scard.SCardReleaseContext(context)\n"
    )
    assert run(text).split() == ["2", "4"]


@pytest.mark.usefixtures("possible")
def test_what_the_environment_tells_other_daemons_is_kept_from_this_one() -> None:
    text = "from scardface.testing import *\nwith PrivatePcscd(): print('started')\n"
    assert run(text, PCSCLITE_FILTER_IGNORE_READER_NAMES="Virtual PCD") == "started\n"


AS_NOBODY = """
import os, sys
sys.path.insert(0, sys.argv[1])
import scardface
import scardface._pcsc.pyscard  # while root can still read it
from smartcard import scard
from scardface.testing import *
assert scardface.__file__.startswith(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
os.environ["PATH"] = "/usr/bin:/bin"
sys.executable = sys.argv[2]
with PrivatePcscd() as pcscd:
    assert os.stat(f"/proc/{pcscd.pid}").st_uid == os.getuid() != 0
    pcscd.insert(0, FileCard())
    pcscd.wait_for_card(0)
    context = scard.SCardEstablishContext(0)[1]
    handle = scard.SCardConnect(context, pcscd.readers[0], 1, 3)[1]
    print(bytes(scard.SCardTransmit(handle, scard.SCARD_PCI_T1, [0, 0xA4, 0, 0x0C])[1]).hex())
    scard.SCardReleaseContext(context)
    pcscd.kill()
    pcscd.start()
    pcscd.wait_for_card(0)
    pcscd.remove(0)
    pcscd.wait_for_removal(0)
"""
"""As root it becomes an ordinary user, once everything is loaded that such a user may not be able to read."""


@pytest.fixture
def readable_copy(short_folder: Path) -> Path:
    """The package where everybody can read it."""
    shutil.copytree(ROOT / "scardface", short_folder / "scardface", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (short_folder, *short_folder.rglob("*")):
        path.chmod(0o755)
    return short_folder


def python_for_everybody() -> str:
    """A Python that an ordinary user may run, too."""
    # Through a shell, since setpriv itself still has root's rights when it looks for the program.
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    shell = [*nobody, "sh", "-c", 'exec "$0" -I -c "import fcntl, shutil, subprocess"']
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(OSError):
            if subprocess.run([*shell, path], capture_output=True, check=False).returncode == 0:
                return path
    pytest.fail("an ordinary user can run no Python here: install the package python3")


@pytest.mark.usefixtures("possible")
def test_as_an_ordinary_user(readable_copy: Path) -> None:
    assert run(AS_NOBODY, str(readable_copy), python_for_everybody()) == "9000\n"
