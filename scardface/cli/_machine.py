"""What a machine has of PC/SC: library, service, drivers, readers on the bus. For `doctor`, which judges it.

Rules of this room:

- Only looks: files below /sys, /usr and /etc, one connection to the service's socket that says nothing, one attempt to load the
  library in a process of its own. Nothing is started, changed or sent.
- All paths hang below a root that a test may choose.
- What cannot be found out is None, and nobody concludes anything from it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LIBRARY = "libpcsclite.so.1"
_SOCKETS = ("run/pcscd/pcscd.comm", "var/run/pcscd/pcscd.comm")
_DRIVERS = ("usr/lib/pcsc/drivers", "usr/lib64/pcsc/drivers", "usr/local/lib/pcsc/drivers", "usr/lib/pcsc/readers")
_SMART_CARD_CLASS = "0b"
"""bInterfaceClass of CCID readers (USB device class for smart cards)."""
_STEALERS = frozenset(("pn533_usb", "pn533", "port100", "nfcmrvl_usb"))
"""Drivers of the kernel's NFC subsystem that take contactless readers for themselves."""
_MOST_DEVICES = 256
_LOAD = f"import ctypes; ctypes.CDLL({LIBRARY!r})"


@dataclass(frozen=True)
class UsbReader:
    """A reader on the bus.

    Attributes:
        name: its maker and its product.
        kernel_driver: the kernel's driver that has it; empty if none has.
    """

    name: str
    kernel_driver: str = ""


@dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        platform: as `sys.platform`.
        distribution: ID and ID_LIKE of /etc/os-release, in order; nothing elsewhere.
        has_library: whether libpcsclite can be loaded; None where there is no such thing.
        has_service: whether pcscd is installed.
        socket: "answers", "refuses" (nobody listens), "forbidden" (not for this user), "missing"; None where there is none.
        has_systemd: whether systemd runs here.
        has_polkit: whether polkit's rules are asked for PC/SC.
        has_driver: whether there is a driver for CCID readers.
        usb: the readers on the bus; None where that cannot be told.
        user: the user's name.
    """

    platform: str = sys.platform
    distribution: tuple[str, ...] = ()
    has_library: bool | None = None
    has_service: bool | None = None
    socket: str | None = None
    has_systemd: bool = False
    has_polkit: bool = False
    has_driver: bool | None = None
    usb: tuple[UsbReader, ...] | None = None
    user: str = "user"


def look(root: Path = Path("/")) -> Machine:
    """What this machine has.

    Args:
        root: where its files are.
    """
    if sys.platform != "linux":
        return Machine()
    return Machine(
        distribution=_distribution(root),
        has_library=_loads(),
        has_service=_program(root, "pcscd"),
        socket=_socket_state(root),
        has_systemd=(root / "run/systemd/system").is_dir(),
        has_polkit=any((root / "usr/share/polkit-1/actions").glob("*pcsc-lite*.policy")),
        has_driver=any((root / folder / "ifd-ccid.bundle").is_dir() for folder in _DRIVERS),
        usb=_usb_readers(root / "sys/bus/usb/devices"),
        user=_user(),
    )


def _distribution(root: Path) -> tuple[str, ...]:
    values = {}
    for line in _read(root / "etc/os-release").splitlines():
        key, _, value = line.partition("=")
        values[key] = value.strip().strip("\"'")
    return tuple(f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".lower().split())


def _loads() -> bool:
    """Whether the library can be loaded, by another process: this one would keep it, whatever it does."""
    return subprocess.run([sys.executable, "-c", _LOAD], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def _program(root: Path, name: str) -> bool:
    folders = [root / folder for folder in ("usr/sbin", "usr/bin", "sbin", "usr/local/sbin", "usr/libexec/pcscd")]
    path = os.pathsep.join([*map(str, folders), *([os.environ.get("PATH", os.defpath)] if root == Path("/") else [])])
    return shutil.which(name, path=path) is not None


def _socket_state(root: Path) -> str:
    given = os.environ.get("PCSCLITE_CSOCK_NAME")
    candidates = [Path(given)] if given else [root / name for name in _SOCKETS]
    path = next((candidate for candidate in candidates if candidate.exists()), None)
    if path is None:
        return "missing"
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except PermissionError:
            return "forbidden"
        except OSError:
            return "refuses"
    return "answers"


def _usb_readers(devices: Path) -> tuple[UsbReader, ...] | None:
    """Devices that have an interface of the class for smart cards, or that an NFC driver of the kernel has taken."""
    if not devices.is_dir():
        return None
    found: dict[str, UsbReader] = {}
    for interface in sorted(devices.glob("*:*"))[: _MOST_DEVICES * 4]:
        driver = interface / "driver"
        kernel_driver = driver.resolve().name if driver.exists() else ""
        is_reader = _read(interface / "bInterfaceClass").strip().lower() == _SMART_CARD_CLASS
        if is_reader or kernel_driver in _STEALERS:
            device = devices / interface.name.split(":")[0]
            name = " ".join(filter(None, (_read(device / "manufacturer").strip(), _read(device / "product").strip())))
            taken_by = kernel_driver if kernel_driver in _STEALERS else ""
            found[device.name] = UsbReader(name or "a USB smart card reader", taken_by)
    return tuple(found.values())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "user"
