"""One run of a private pcscd, seen from its owner: folder, configuration, start, connections to its readers, end.

Rules:

- There is one folder name for each process, with one socket path, which is given to libpcsclite before its first call.
- The folder exists from a daemon's start until it is stopped, or until the next start after it was killed.
- A start that fails leaves nothing behind, and raises an error that says why in one sentence.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

from .._enums import StateFlag
from .._pcsc.binding_choice import system_pcsc
from .._pcsc.reader_states import status_change
from .._threads import RLock, forget_at_fork
from ..errors import NO_SERVICE, ServiceUnavailableError
from ._pcscd_needs import KEEPER, PcscdUnavailable, daemon_options, explain_end, find_needs, search_path

_SOCKET_VARIABLE = "PCSCLITE_CSOCK_NAME"
_MAX_READERS = 16  # of pcscd, and of one status call (fact 18)
_SLOTS = 2  # of each entry in pcscd's configuration: what vpcd has
_FIRST_PORT = 0x8C7B  # vpcd's own default; the network namespace is ours alone
_MAX_SOCKET_PATH = 107  # unix(7), sun_path
_START_LIMIT = 10.0
_STOP_LIMIT = 5.0
_RETRY_INTERVAL = 0.005
"""Seconds between two attempts to connect to a daemon that starts (60 ms in all): nothing reports that a socket listens."""

_STATUS_SLICE = 100
"""Milliseconds of one status call: a change that a call missed is reported at its time-out (fact 10)."""

_ENTRY = """\
FRIENDLYNAME "{name}"
DEVICENAME /dev/null:{port}
LIBPATH {driver}
CHANNELID {port}

"""

_OTHER_SERVICE = (
    "this process has used another PC/SC service before, and libpcsclite settles on one per process: start PrivatePcscd before the "
    "process's first PC/SC call"
)


def reader_names(count: int) -> tuple[str, ...]:
    """The names that pcscd gives to `count` readers: entry's name, number among entries of that name, slot."""
    if not 0 <= count <= _MAX_READERS or count % _SLOTS:
        raise ValueError(f"{count} readers are not possible, only an even number from 0 to {_MAX_READERS}: vpcd makes pairs")
    return tuple(f"{_entry_name(index // _SLOTS)} 00 {index % _SLOTS:02X}" for index in range(count))


def _entry_name(number: int) -> str:
    return f"Virtual PCD {number}"


class Daemon:
    """A pcscd in namespaces of its own, which a parent process keeps (`_pcscd_namespace`). It starts with all readers empty.

    Attributes:
        pid: the daemon's process id.
    """

    pid: int = 0

    def __init__(self, readers: tuple[str, ...]) -> None:
        """Start it; return once it lists `readers` and has found them empty.

        Raises:
            PcscdUnavailable: something is missing on this machine, or it ended at once.
            RuntimeError: this process uses another PC/SC service.
        """
        needs = find_needs()
        folder = _make_folder()
        self._log = folder / "log"
        self._whole_log: str | None = None
        entries = len(readers) // _SLOTS
        try:
            drivers = needs.driver.parent.parent
            (folder / "readers" / "vpcd").write_text("".join(_entry(number, drivers) for number in range(entries)))
            command = [needs.pcscd, *daemon_options(needs.pcscd), "--foreground", "--config", "/run/readers"]
            arguments = [str(folder), str(needs.driver), str(entries), *command]
            keeper = [sys.executable, "-I", str(KEEPER), *arguments]
            namespaces = ["--mount", "--net"] if os.geteuid() == 0 else ["--mount", "--net", "--map-root-user"]
            self._spawn([needs.unshare, *namespaces, *keeper])
            try:
                self._await_start(folder, readers)
            except BaseException:
                self.end("kill")
                raise
        except BaseException:
            remove_folder()
            raise

    def _spawn(self, command: list[str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_START_LIMIT)
        self._control_lock = RLock()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PCSCLITE_")}
        environment["PATH"] = search_path()
        with theirs, self._log.open("wb") as log:
            try:
                # A session of its own: Ctrl-C in the terminal is for the owner.
                self._process = subprocess.Popen(
                    command, stdin=theirs.fileno(), stdout=log, stderr=log, env=environment, cwd="/", start_new_session=True
                )
            except BaseException:
                self._control.close()
                raise

    def _await_start(self, folder: Path, readers: tuple[str, ...]) -> None:
        deadline = time.monotonic() + _START_LIMIT
        with contextlib.suppress(TimeoutError):
            self.pid = int(self._control.recv(16) or 0)  # none: the keeper has ended
        while not _accepts_clients(folder):
            if not self.pid or not self.alive() or time.monotonic() > deadline:
                raise explain_end(self.log())
            time.sleep(_RETRY_INTERVAL)
        _check_listing(readers)
        _await_empty(readers, deadline)

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def log(self) -> str:
        """The output of the daemon and its parent process."""
        return self._log.read_text(errors="replace") if self._whole_log is None else self._whole_log

    def connect(self, slot: int) -> socket.socket:
        """A connection to a reader's port, in the daemon's network.

        Raises:
            OSError: the daemon has ended.
        """
        with self._control_lock:
            self._control.send(b"socket")
            _, descriptors, _, _ = socket.recv_fds(self._control, 16, 1)
        if not descriptors:
            raise ConnectionError("the private pcscd has ended")
        made_there = socket.socket(fileno=descriptors[0])
        made_there.set_inheritable(False)
        try:
            made_there.connect(("127.0.0.1", _FIRST_PORT + slot))
        except BaseException:
            made_there.close()
            raise
        return made_there

    def end(self, how: Literal["terminate", "kill"]) -> None:
        """End it within a bounded time, with SIGTERM first if so asked. May be called again."""
        for request in (how, "kill"):
            with contextlib.suppress(OSError):  # it may be gone already
                self._control.send(request.encode())
            try:
                self._process.wait(_STOP_LIMIT)
                break
            except subprocess.TimeoutExpired:
                continue
        else:
            self._process.kill()  # the parent process does not react; the daemon ends with it
            self._process.wait()
        self._control.close()
        self._whole_log = self.log()

    def forget(self) -> None:
        """In a forked child: close the copy of the connection to the keeper, which ends the daemon when the last copy closes."""
        self._control.close()
        self._process.returncode = 0  # it is not this process's child, so there is nothing to wait for


_made: set[Path] = set()
"""The folder that this process made, and has not removed since."""
forget_at_fork(_made.clear)  # it is the parent's


def _make_folder() -> Path:
    remove_folder()
    folder = _folder()
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise RuntimeError("a forked child cannot have a private pcscd beside its parent's: libpcsclite knows one socket") from None
    _made.add(folder)
    for name in ("pcscd", "readers"):
        (folder / name).mkdir()
    return folder


def remove_folder() -> None:
    """Remove the folder and all that a daemon left in it."""
    for folder in list(_made):
        shutil.rmtree(folder)
        _made.discard(folder)


def _choose_folder() -> Path:
    """Choose the folder of this process's daemons, and tell libpcsclite the socket's path in it, which it reads once."""
    folder = Path(tempfile.gettempdir(), f"scardface-{secrets.token_hex(8)}")
    path = str(_socket(folder))
    if len(path.encode()) > _MAX_SOCKET_PATH:
        raise PcscdUnavailable(f"the name {path} is too long for a socket: set TMPDIR to a folder with a shorter name")
    before = os.environ.get(_SOCKET_VARIABLE)
    os.environ[_SOCKET_VARIABLE] = path
    try:
        system_pcsc().establish().release()
    except ServiceUnavailableError:
        return folder  # as expected: nothing serves that path yet
    if before is None:
        del os.environ[_SOCKET_VARIABLE]
    else:
        os.environ[_SOCKET_VARIABLE] = before
    raise RuntimeError(_OTHER_SERVICE)


_folder = functools.cache(_choose_folder)


def _socket(folder: Path) -> Path:
    return folder / "pcscd" / "pcscd.comm"


def _entry(number: int, drivers: Path) -> str:
    """Two readers. Each entry has a copy of the driver: entries that load the same file share its slots (fact 52)."""
    port = f"0x{_FIRST_PORT + number * _SLOTS:X}"
    return _ENTRY.format(name=_entry_name(number), port=port, driver=drivers / f"{number}.so")


def _accepts_clients(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(_socket(folder))) == 0


def _check_listing(readers: tuple[str, ...]) -> None:
    """Ask PC/SC for its readers, which a new daemon answers after it has made them (fact 25)."""
    try:
        context = system_pcsc().establish()
    except ServiceUnavailableError as error:
        if error.code == NO_SERVICE:  # although a connection was possible a moment ago
            raise RuntimeError(_OTHER_SERVICE) from error
        raise PcscdUnavailable(f"the private pcscd refuses this process: {error}") from error
    try:
        listed = context.list_readers()
    finally:
        context.release()
    if listed != readers:
        raise PcscdUnavailable(f"the private pcscd lists the readers {listed} in place of {readers}")


def _await_empty(readers: tuple[str, ...], deadline: float) -> None:
    """Until the daemon has asked the driver once for each reader: a card that came before would not be counted (fact 10)."""
    if not readers:
        return
    context = system_pcsc().establish()
    try:
        states = dict.fromkeys(readers, 0)
        while not all(state & StateFlag.EMPTY for state in states.values()):
            left = round((deadline - time.monotonic()) * 1000)
            if left <= 0:
                raise PcscdUnavailable(f"the private pcscd does not find its readers empty, but {states}")
            entries = status_change(context, min(left, _STATUS_SLICE), list(states.items())).entries
            states = {name: state for name, state, _ in entries}
    finally:
        context.release()
