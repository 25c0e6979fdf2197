"""What a machine has of PC/SC, on machines made of folders."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scardface.cli import _machine
from scardface.cli._machine import Machine, UsbReader, inspect_machine
from tests.support.freezing import freeze

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these machines are Linux'")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PCSCLITE_CSOCK_NAME", raising=False)
    path = tmp_path / "root"
    path.mkdir()
    return path


def put(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_an_empty_machine(root: Path) -> None:
    found = inspect_machine(root)
    assert (found.distribution, found.has_service, found.socket, found.has_systemd) == ((), False, "missing", False)
    assert (found.has_polkit, found.has_driver, found.usb) == (False, False, None)
    assert found.user


def test_a_full_one(root: Path) -> None:
    put(root / "etc/os-release", 'NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n')
    put(root / "usr/sbin/pcscd").chmod(0o755)
    put(root / "usr/share/polkit-1/actions/org.debian.pcsc-lite.policy")
    for folder in ("run/systemd/system", "usr/lib/pcsc/drivers/ifd-ccid.bundle", "sys/bus/usb/devices"):
        (root / folder).mkdir(parents=True)
    found = inspect_machine(root)
    assert found.distribution == ("linuxmint", "ubuntu", "debian")
    assert (found.has_service, found.has_systemd, found.has_polkit, found.has_driver, found.usb) == (True, True, True, True, ())


def usb(root: Path, device: str, interface_class: str, *, driver: str = "", product: str = "Reader 1") -> None:
    devices = root / "sys/bus/usb/devices"
    put(devices / f"{device}:1.0" / "bInterfaceClass", f"{interface_class}\n")
    put(devices / device / "product", f"{product}\n")
    put(devices / device / "manufacturer", "ACME\n")
    if driver:
        target = root / "sys/bus/usb/drivers" / driver
        target.mkdir(parents=True, exist_ok=True)
        (devices / f"{device}:1.0" / "driver").symlink_to(target)


def test_readers_on_the_bus(root: Path) -> None:
    usb(root, "1-1", "0b")
    usb(root, "1-2", "03", product="Mouse")
    usb(root, "1-3", "ff", driver="pn533_usb", product="Reader 2")
    usb(root, "1-4", "0b", driver="usbfs", product="Reader 3")
    assert inspect_machine(root).usb == (
        UsbReader("ACME Reader 1"),
        UsbReader("ACME Reader 2", "pn533_usb"),
        UsbReader("ACME Reader 3"),
    )


def test_a_reader_without_a_name(root: Path) -> None:
    put(root / "sys/bus/usb/devices/1-1:1.0/bInterfaceClass", "0b")
    assert inspect_machine(root).usb == (UsbReader("a USB smart card reader"),)


class Service(threading.Thread):
    """Takes one connection and does `serve` with it."""

    def __init__(self, path: Path, serve: Callable[[socket.socket], object]) -> None:
        super().__init__(daemon=True)
        self._serve = serve
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path.name)  # in the current folder: a socket's path has 107 bytes at most
        self._socket.listen()
        self.start()

    def run(self) -> None:
        client, _ = self._socket.accept()
        with client:
            self._serve(client)

    def end(self) -> None:
        self.join(10)
        self._socket.close()


ASKED = struct.pack("=IIiiI", 12, 0x11, 4, 4, 0)


def answering(code: int) -> Callable[[socket.socket], object]:
    def serve(client: socket.socket) -> None:
        assert client.recv(100) == ASKED
        client.sendall(struct.pack("=iiI", 4, 5, code))
        assert client.recv(100) == b"", "nothing else is asked"

    return serve


@pytest.mark.parametrize(
    ("serve", "state", "version"),
    [
        (answering(0), "answers", ""),
        (answering(0x8010001E), "other version", "4.5"),
        (lambda client: client.recv(100), "closes", ""),
        (lambda client: None, "closes", ""),
        (lambda client: client.sendall(b"short"), "closes", ""),
        (lambda client: (client.recv(100), client.recv(100)), "silent", ""),
    ],
)
def test_what_the_service_says(
    root: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[socket.socket], object], state: str, version: str
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr(_machine, "_library", lambda: (True, "4.4"))
    monkeypatch.setattr(_machine, "_SILENCE", 0.2)
    monkeypatch.setenv("PCSCLITE_CSOCK_NAME", "pcscd.comm")
    service = Service(root / "pcscd.comm", serve)
    found = inspect_machine(root)
    service.end()
    assert (found.socket, found.service_version, found.library_version) == (state, version, "4.4")
    assert inspect_machine(root).socket == "refuses"


def test_a_service_that_takes_no_connections_any_more(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen for long: the queue of its socket is full."""
    monkeypatch.chdir(root)
    monkeypatch.setattr(_machine, "_SILENCE", 0.2)
    monkeypatch.setenv("PCSCLITE_CSOCK_NAME", "pcscd.comm")
    with socket.socket(socket.AF_UNIX) as service, ExitStack() as stack:
        service.bind("pcscd.comm")
        service.listen(0)
        for _ in range(2):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect("pcscd.comm")
        assert inspect_machine(root).socket == "silent"


def test_the_socket(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "run/pcscd/pcscd.comm")
    assert inspect_machine(root).socket == "refuses"
    monkeypatch.setenv("PCSCLITE_CSOCK_NAME", "elsewhere")
    assert inspect_machine(root).socket == "missing"
    monkeypatch.delenv("PCSCLITE_CSOCK_NAME")
    monkeypatch.setattr(_machine, "_library", lambda: (True, ""))
    monkeypatch.setattr(_machine.socket, "socket", Forbidding)
    assert inspect_machine(root).socket == "forbidden"


def test_processes_and_connections(root: Path) -> None:
    path = root / "run/pcscd/pcscd.comm"
    put(path)
    row = "0000000000000000: 00000003 00000000 00000000 0001 {} 12345 {}\n"
    rows = [row.format("03", path)] * 3 + [row.format("01", path), row.format("03", "/run/other"), "0: 3 0 0 1 03 9\n"]
    put(root / "proc/net/unix", "Num RefCount Protocol Flags Type St Inode Path\n" + "".join(rows))
    put(root / "proc/7/comm", "pcscd\n")
    put(root / "proc/7/stat", "7 (pcscd) S 1 7")
    found = inspect_machine(root)
    assert (found.contexts, found.frozen, found.polkit_runs) == (3, 0, False)
    put(root / "proc/7/stat", "7 (a) b) T 1 7")
    put(root / "proc/8/comm", "polkitd\n")
    found = inspect_machine(root)
    assert (found.frozen, found.polkit_runs) == (7, True)


def test_polkit_that_the_bus_would_start(root: Path) -> None:
    put(root / "proc/1/comm", "systemd\n")
    put(root / "usr/lib/polkit-1/polkitd")
    assert inspect_machine(root).polkit_runs is False
    put(root / "run/dbus/system_bus_socket")
    assert inspect_machine(root).polkit_runs is True


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv", ".flatpak-info"])
def test_a_container(root: Path, mark: str) -> None:
    assert not inspect_machine(root).in_container
    put(root / mark)
    assert inspect_machine(root).in_container


@pytest.mark.parametrize("option", [True, False])
def test_whether_pcscd_can_do_without_polkit(root: Path, option: bool) -> None:
    put(root / "usr/sbin/pcscd", f"#!/bin/sh\necho '{'--disable-polkit' if option else '--help'}'\n").chmod(0o755)
    assert inspect_machine(root).disables_polkit is option


def test_a_frozen_program_starts_no_other_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `sys.executable` names is the program then."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: pytest.fail("it was started"))
    assert _machine._library() == (None, "")


def test_a_daemon_that_is_frozen(pcscd: PrivatePcscd, monkeypatch: pytest.MonkeyPatch) -> None:
    found = inspect_machine()
    assert (found.socket, found.library_version == "") == ("answers", False)
    monkeypatch.setattr(_machine, "_SILENCE", 0.2)
    freeze(pcscd.pid)
    try:
        found = inspect_machine()
        assert found.socket == "silent"
        assert found.frozen > 0
    finally:
        os.kill(pcscd.pid, signal.SIGCONT)


class Forbidding:
    """A socket that this user may not connect."""

    def __init__(self, family: int) -> None: ...

    def __enter__(self) -> Forbidding:
        return self

    def __exit__(self, *error: object) -> None: ...

    def settimeout(self, seconds: float) -> None: ...

    def connect(self, path: str) -> None:
        raise PermissionError(13, "Permission denied")


def test_the_library(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inspect_machine(root).has_library is True
    monkeypatch.setattr(_machine, "_LOAD", "import ctypes; ctypes.CDLL('libnone.so.1')")
    assert inspect_machine(root).has_library is False


def test_elsewhere_nothing_is_known(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert inspect_machine(root) == Machine()


def test_a_user_without_a_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert inspect_machine(root).user == "user"


def test_looking_is_all_it_does() -> None:
    program = (
        "import sys\nfrom scardface.cli._machine import inspect_machine\ninspect_machine()\n"
        "sys.exit(any(name.startswith('smartcard') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], timeout=60, check=False).returncode == 0
