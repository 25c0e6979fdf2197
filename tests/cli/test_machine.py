"""What a machine has of PC/SC, on machines made of folders."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scardface.cli import _machine
from scardface.cli._machine import Machine, UsbReader, look


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
    found = look(root)
    assert (found.distribution, found.has_service, found.socket, found.has_systemd) == ((), False, "missing", False)
    assert (found.has_polkit, found.has_driver, found.usb) == (False, False, None)
    assert found.user


def test_a_full_one(root: Path) -> None:
    put(root / "etc/os-release", 'NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n')
    put(root / "usr/sbin/pcscd").chmod(0o755)
    put(root / "usr/share/polkit-1/actions/org.debian.pcsc-lite.policy")
    for folder in ("run/systemd/system", "usr/lib/pcsc/drivers/ifd-ccid.bundle", "sys/bus/usb/devices"):
        (root / folder).mkdir(parents=True)
    found = look(root)
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
    assert look(root).usb == (UsbReader("ACME Reader 1"), UsbReader("ACME Reader 2", "pn533_usb"), UsbReader("ACME Reader 3"))


def test_a_reader_without_a_name(root: Path) -> None:
    put(root / "sys/bus/usb/devices/1-1:1.0/bInterfaceClass", "0b")
    assert look(root).usb == (UsbReader("a USB smart card reader"),)


def test_the_socket(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = root / "run/pcscd/pcscd.comm"
    path.parent.mkdir(parents=True)
    monkeypatch.chdir(path.parent)  # a socket's path has 107 bytes at most
    with socket.socket(socket.AF_UNIX) as service:
        service.bind("pcscd.comm")
        service.listen()
        monkeypatch.setenv("PCSCLITE_CSOCK_NAME", "pcscd.comm")
        assert look(root).socket == "answers"
    assert look(root).socket == "refuses"
    monkeypatch.setenv("PCSCLITE_CSOCK_NAME", "elsewhere")
    assert look(root).socket == "missing"
    monkeypatch.delenv("PCSCLITE_CSOCK_NAME")
    monkeypatch.setattr(_machine.socket, "socket", Forbidding)
    assert look(root).socket == "forbidden"


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
    assert look(root).has_library is True
    monkeypatch.setattr(_machine, "_LOAD", "import ctypes; ctypes.CDLL('libnone.so.1')")
    assert look(root).has_library is False


def test_elsewhere_nothing_is_known(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert look(root) == Machine()


def test_a_user_without_a_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert look(root).user == "user"


def test_looking_is_all_it_does() -> None:
    program = (
        "import sys\nfrom scardface.cli._machine import look\nlook()\n"
        "sys.exit(any(name.startswith('smartcard') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], timeout=60, check=False).returncode == 0
