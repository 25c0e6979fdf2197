"""scardface.testing._pcscd_process: starts that fail, and what a start settles. (Those that succeed: test_private_pcscd.py.)

Everything here runs beside the daemon of the test run, so it has a folder of its own.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scardface import ServiceUnavailableError
from scardface._enums import StateFlag
from scardface._pcsc.backend import StatusChange
from scardface.errors import NO_SERVICE, SECURITY_VIOLATION, error_for
from scardface.testing import PcscdUnavailable
from scardface.testing import _pcscd_process as process
from scardface.testing._pcscd_needs import Needs

ROOT = Path(__file__).resolve().parents[2]
Unshare = Callable[[str], None]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a private pcscd is Linux'")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's daemons have their folder."""
    path = tmp_path / "daemon"
    monkeypatch.setattr(process, "_folder", lambda: path)
    monkeypatch.setattr(process, "_made", set())
    return path


@pytest.fixture
def unshare(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, no_leaks: None) -> Unshare:
    """Puts a program in place of unshare: a shell script, with the connection to the owner as standard input."""
    program = tmp_path / "unshare"
    monkeypatch.setattr(process, "find_needs", lambda: Needs(str(program), "true", Path("/lib/pcsc/drivers/serial/driver.so")))
    monkeypatch.setattr(process, "daemon_options", lambda _: ())

    def put(script: str) -> None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(stat.S_IRWXU)

    return put


KEEPER = f"exec {sys.executable} -c 'import os, time; os.write(0, str(os.getpid()).encode()); {{}}'"
"""A keeper that calls itself the daemon."""


def test_reader_names() -> None:
    assert process.reader_names(0) == ()
    assert process.reader_names(4) == ("Virtual PCD 0 00 00", "Virtual PCD 0 00 01", "Virtual PCD 1 00 00", "Virtual PCD 1 00 01")
    assert process.reader_names(16)[-1] == "Virtual PCD 7 00 01"


@pytest.mark.parametrize("count", [-2, 1, 3, 17, 18])
def test_numbers_of_readers_that_cannot_be(count: int) -> None:
    with pytest.raises(ValueError, match="even number from 0 to 16"):
        process.reader_names(count)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo unshare: no >&2; exit 1", "may not make"),
        ("echo out of luck >&2; exit 1", "it wrote: out of luck$"),
        (KEEPER.format('print("lost", flush=True)'), "it wrote: lost$"),
    ],
)
def test_an_early_end_is_explained(unshare: Unshare, folder: Path, script: str, words: str) -> None:
    unshare(script)
    with pytest.raises(PcscdUnavailable, match=words):
        process.Daemon(("a", "b"))
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("script", ["exec sleep 60", KEEPER.format("time.sleep(60)")])
def test_a_start_takes_so_long_at_most(unshare: Unshare, folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(process, "_START_LIMIT", 0.3)
    monkeypatch.setattr(process, "_STOP_LIMIT", 0.1)
    unshare(script)
    with pytest.raises(PcscdUnavailable):
        process.Daemon(("a", "b"))
    assert not folder.exists()


def test_a_program_that_cannot_be_run_leaves_nothing(unshare: Unshare, folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        process.Daemon(("a", "b"))
    assert not folder.exists()


class Pcsc:
    """A PC/SC service in the place of pyscard's."""

    def __init__(self, *readers: str, error: int = 0) -> None:
        self._readers, self._error = readers, error
        self.released = 0

    def establish(self) -> Pcsc:
        if self._error:
            raise error_for(self._error, "SCardEstablishContext")
        return self

    def list_readers(self) -> tuple[str, ...]:
        return self._readers

    def release(self) -> None:
        self.released += 1


@pytest.mark.parametrize(
    ("pcsc", "kind", "words"),
    [
        (Pcsc(error=NO_SERVICE), RuntimeError, "before the process's first PC/SC call"),
        (Pcsc(error=SECURITY_VIOLATION), PcscdUnavailable, "refuses this process"),
        (Pcsc("Other 00 00"), PcscdUnavailable, "lists the readers"),
    ],
)
def test_the_daemon_has_to_be_the_one_that_pcsc_talks_to(
    monkeypatch: pytest.MonkeyPatch, pcsc: Pcsc, kind: type[Exception], words: str
) -> None:
    monkeypatch.setattr(process, "system_pcsc", lambda: pcsc)
    with pytest.raises(kind, match=words) as caught:
        process._check_listing(("Virtual PCD 0 00 00",))
    assert type(caught.value) is kind


def test_a_right_listing_is_fine_and_its_context_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    pcsc = Pcsc("one", "two")
    monkeypatch.setattr(process, "system_pcsc", lambda: pcsc)
    process._check_listing(("one", "two"))
    assert pcsc.released == 1


class Unasked(Pcsc):
    """Its readers have no state for some calls; then they are what the driver says."""

    def __init__(self, *states: StateFlag) -> None:
        super().__init__("one", "two")
        self.states = list(states)

    def get_status_change(self, _timeout: int, entries: list[tuple[str, int]]) -> StatusChange:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return StatusChange(timed_out=True, entries=tuple((name, int(state), b"") for name, _ in entries))


def test_a_start_waits_until_each_reader_has_been_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    pcsc = Unasked(StateFlag.CHANGED, StateFlag.CHANGED, StateFlag.CHANGED | StateFlag.EMPTY)
    monkeypatch.setattr(process, "system_pcsc", lambda: pcsc)
    process._await_empty(("one", "two"), time.monotonic() + 60)
    assert len(pcsc.states) == 1
    assert pcsc.released == 1


def test_a_start_with_readers_that_are_not_empty_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "system_pcsc", lambda: Unasked(StateFlag.PRESENT))
    with pytest.raises(PcscdUnavailable, match="does not find its readers empty"):
        process._await_empty(("one", "two"), time.monotonic() + 0.1)


@pytest.fixture
def variable(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of libpcsclite's environment variable, which is as it was afterwards."""
    name = "PCSCLITE_CSOCK_NAME"
    monkeypatch.setenv(name, "before")
    return name


def test_the_socket_path_is_told_once_nobody_serves_it(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setattr(process, "system_pcsc", lambda: Pcsc(error=NO_SERVICE))
    first, second = process._choose_folder(), process._choose_folder()
    assert first != second
    assert os.environ[variable] == str(second / "pcscd" / "pcscd.comm")
    assert not second.exists()


@pytest.mark.parametrize("before", ["before", None])
def test_a_service_that_answers_already_is_another_one(monkeypatch: pytest.MonkeyPatch, variable: str, before: str | None) -> None:
    if before is None:
        monkeypatch.delenv(variable)
    pcsc = Pcsc("Other 00 00")
    monkeypatch.setattr(process, "system_pcsc", lambda: pcsc)
    with pytest.raises(RuntimeError, match="before the process's first PC/SC call"):
        process._choose_folder()
    assert os.environ.get(variable) == before
    assert pcsc.released == 1


def test_a_path_too_long_for_sockets_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setattr(process, "tempfile", SimpleNamespace(gettempdir=lambda: "/tmp/" + "x" * 80))
    with pytest.raises(PcscdUnavailable, match="TMPDIR"):
        process._choose_folder()
    assert os.environ[variable] == "before"


def test_the_folder_is_private_and_somebody_elses_is_left_alone(folder: Path) -> None:
    assert process._make_folder() == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "pcscd" / "old").touch()
    process._make_folder()
    assert not (folder / "pcscd" / "old").exists()
    process._made.clear()  # as in a forked child
    process.remove_folder()
    assert folder.exists()
    with pytest.raises(RuntimeError, match="forked child"):
        process._make_folder()


@pytest.fixture
def keeper() -> Iterator[tuple[process.Daemon, socket.socket]]:
    """A daemon whose keeper is the test."""
    owner, keeper = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    daemon = object.__new__(process.Daemon)
    daemon._control, daemon._control_lock = owner, threading.Lock()
    keeper.settimeout(5)
    with owner, keeper:
        yield daemon, keeper


def test_a_forked_child_lets_go(keeper: tuple[process.Daemon, socket.socket]) -> None:
    daemon, other = keeper
    daemon._process = cast("subprocess.Popen[bytes]", SimpleNamespace(returncode=None))
    daemon.forget()
    assert other.recv(1) == b""
    assert daemon._process.returncode is not None


def test_a_keeper_that_leaves_is_the_daemons_end(keeper: tuple[process.Daemon, socket.socket]) -> None:
    daemon, other = keeper
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionError, match="has ended"):
        daemon.connect(0)


def test_a_driver_that_does_not_listen_is_the_daemons_end(keeper: tuple[process.Daemon, socket.socket], no_leaks: None) -> None:
    daemon, other = keeper
    with socket.socket() as made:
        socket.send_fds(other, [b"socket"], [made.fileno()])
    nobody_listens = 1 - process._FIRST_PORT
    with pytest.raises(ConnectionRefusedError):
        daemon.connect(nobody_listens)


def test_the_keepers_code_is_not_loaded() -> None:
    """It needs modules that Windows does not have; virtual cards do not."""
    program = "import sys, scardface.testing; print([name for name in sys.modules if name.endswith('_pcscd_namespace')])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_an_error_of_pcsc_is_a_service_error() -> None:
    """What the fakes above raise is what PC/SC raises."""
    errors: list[Any] = [error_for(code, "SCardEstablishContext") for code in (NO_SERVICE, SECURITY_VIOLATION)]
    assert all(isinstance(error, ServiceUnavailableError) for error in errors)
