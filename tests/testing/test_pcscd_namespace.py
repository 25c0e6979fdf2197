"""scardface.testing._pcscd_namespace: the keeper of the namespaces, run here outside any."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from scardface.testing import _pcscd_namespace as namespace

BOUND = 30.0
SLEEPER = ("sleep", "60")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="namespaces are Linux'")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The owner's end and the keeper's."""
    owner, keeper = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    owner.settimeout(BOUND)
    with owner, keeper:
        yield owner, keeper


class Daemon:
    """Notes its signals."""

    def __init__(self) -> None:
        self.signals: list[str] = []

    def terminate(self) -> None:
        self.signals.append("terminate")

    def kill(self) -> None:
        self.signals.append("kill")


def test_the_owner_is_served_until_it_goes(ends: tuple[socket.socket, socket.socket]) -> None:
    owner, keeper = ends
    daemon = Daemon()
    thread = threading.Thread(target=namespace.serve, args=(keeper, cast("subprocess.Popen[bytes]", daemon)))
    thread.start()
    owner.send(b"socket")
    _, (descriptor,), _, _ = socket.recv_fds(owner, 16, 1)
    with socket.socket(fileno=descriptor) as made:
        assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_STREAM)
    for request in (b"terminate", b"dance", b"kill"):
        owner.send(request)
    owner.close()
    thread.join(BOUND)
    assert not thread.is_alive()
    assert daemon.signals == ["terminate", "kill"]


def test_an_owner_that_breaks_off_is_gone(ends: tuple[socket.socket, socket.socket]) -> None:
    owner, keeper = ends
    owner.send(b"socket")
    owner.close()
    namespace.serve(keeper, cast("subprocess.Popen[bytes]", Daemon()))  # it cannot answer, and returns


def test_the_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: mounts.append(command) if check else None)
    driver = tmp_path / "serial" / "driver.so"
    driver.parent.mkdir()
    driver.write_bytes(b"driver")
    namespace.lay_out("/folder", driver, 2)
    assert mounts == [["mount", "--bind", "/folder", "/run"], ["mount", "-t", "tmpfs", "none", str(tmp_path)]]
    assert sorted(path.name for path in tmp_path.glob("*.so")) == ["0.so", "1.so"]
    assert (tmp_path / "1.so").read_bytes() == b"driver"


class Input:
    """A standard input that is a socket."""

    def __init__(self, keeper: socket.socket) -> None:
        self._keeper = keeper

    def fileno(self) -> int:
        return os.dup(self._keeper.fileno())


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch, ends: tuple[socket.socket, socket.socket]) -> socket.socket:
    """`main` without namespaces: nothing is mounted, nothing switched on. The owner's end."""
    owner, keeper = ends
    monkeypatch.setattr(sys, "stdin", Input(keeper))
    monkeypatch.setattr(namespace, "raise_loopback", lambda: None)
    monkeypatch.setattr(namespace, "lay_out", lambda *_: None)
    return owner


def start(folder: Path) -> threading.Thread:
    thread = threading.Thread(target=namespace.main, args=(str(folder), "driver", "0", *SLEEPER))
    thread.start()
    return thread


def test_it_ends_with_the_daemon(outside: socket.socket, tmp_path: Path) -> None:
    thread = start(tmp_path)
    assert int(outside.recv(16)) > 0
    outside.send(b"terminate")
    thread.join(BOUND)
    assert not thread.is_alive()
    assert tmp_path.exists()


def test_the_daemon_ends_with_the_owner_and_the_folder_goes(outside: socket.socket, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").touch()
    thread = start(folder)
    pidfd = os.pidfd_open(int(outside.recv(16)))
    outside.close()
    thread.join(BOUND)
    assert not thread.is_alive()
    os.close(pidfd)
    assert not folder.exists()


@pytest.mark.parametrize("error", [PermissionError(1, "not here"), subprocess.CalledProcessError(32, "mount")])
def test_what_cannot_be_prepared_ends_it_in_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse() -> None:
        raise error

    monkeypatch.setattr(namespace, "raise_loopback", refuse)
    with pytest.raises(SystemExit, match=r"^namespace: "):
        namespace.main("folder", "driver", "0", "pcscd")


def test_only_the_up_flag_of_the_loopback_interface_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, bytes]] = []

    def ioctl(_: object, request: int, argument: bytes) -> bytes:
        calls.append((request, argument))
        return struct.pack("16sH22x", b"lo", 0x48)

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    namespace.raise_loopback()
    assert calls == [(0x8913, struct.pack("16sH22x", b"lo", 0)), (0x8914, struct.pack("16sH22x", b"lo", 0x49))]


@pytest.mark.usefixtures("pcscd")  # where that cannot be had, this cannot either
def test_the_loopback_interface_is_switched_on() -> None:
    """In a network namespace of its own, which is had as the private daemon has it."""
    program = (
        "import runpy, socket, sys\n"
        "def reachable():\n"
        "    with socket.create_server(('127.0.0.1', 0)) as server, socket.socket() as client:\n"
        "        return client.connect_ex(server.getsockname()) == 0\n"
        "names = runpy.run_path(sys.argv[1])\n"
        "before = reachable()\n"
        "names['raise_loopback']()\n"
        "print(before, reachable())\n"
    )
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", "--net", *rights, sys.executable, "-I", "-c", program, namespace.__file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "False True\n", done.stderr
