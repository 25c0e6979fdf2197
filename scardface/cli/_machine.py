"""The state of PC/SC on this machine: library, service, drivers, readers on the bus. For `doctor`.

Rules:

- Nothing is started or changed. It reads files below /sys, /usr, /etc and /proc, makes one connection to the service's socket that
  asks for its protocol version, and loads the library once, in a process of its own that connects to a socket made here.
- All paths are below a root directory that a test may set.
- What cannot be found out is None, and no conclusion is drawn from it.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LIBRARY = "libpcsclite.so.1"
_SOCKETS = ("run/pcscd/pcscd.comm", "var/run/pcscd/pcscd.comm")
_DRIVERS = ("usr/lib/pcsc/drivers", "usr/lib64/pcsc/drivers", "usr/local/lib/pcsc/drivers", "usr/lib/pcsc/readers")
_SMART_CARD_CLASS = "0b"
"""bInterfaceClass of CCID readers (USB device class for smart cards)."""
_NFC_DRIVERS = frozenset(("pn533_usb", "pn533", "port100", "nfcmrvl_usb"))
"""Drivers of the kernel's NFC subsystem that take contactless readers for themselves."""
_MAX_DEVICES = 256
_LOAD = f"import ctypes; ctypes.CDLL({LIBRARY!r}).SCardEstablishContext(2, None, None, ctypes.byref(ctypes.c_long()))"
_LOADING, _SILENCE, _SLICE = 10.0, 1.5, 0.05
"""Seconds that loading may take, that a service has to answer, and of one slice of a wait."""
_VERSION, _ANSWER = struct.Struct("=IIiiI"), struct.Struct("=iiI")
"""Size and number of a command, then major and minor version and a code; the answer has no head."""
_ASK_VERSION = 0x11
_USUAL_VERSION = "4.4"
_NO_POLKIT = "--disable-polkit"
_POLKIT = ("usr/lib/polkit-1/polkitd", "usr/libexec/polkitd", "usr/libexec/polkit-1/polkitd", "usr/lib/policykit-1/polkitd")
_OF_CONTAINERS = (".dockerenv", "run/.containerenv", ".flatpak-info", "run/systemd/container")


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
    """What was found on the machine.

    Attributes:
        platform: as `sys.platform`.
        distribution: ID and ID_LIKE of /etc/os-release, in order; nothing elsewhere.
        has_library: whether libpcsclite can be loaded; None where there is no such thing.
        has_service: whether pcscd is installed.
        socket: "answers", "silent" (it takes the connection and says nothing), "closes" (it ends the connection), "other version"
            (it does not speak the library's), "refuses" (nobody listens), "forbidden" (not for this user), "missing"; None where
            there is no socket.
        library_version: the library's version of the protocol between library and service; empty if it is not known.
        service_version: the service's, if it differs.
        contexts: how many the service has just now, of all programs; None where that cannot be told.
        frozen: the process id of a pcscd that was stopped by a signal; 0: there is none.
        has_systemd: whether systemd runs here.
        has_polkit: whether polkit's rules are asked for PC/SC.
        polkit_runs: whether polkit runs; None: not known.
        disables_polkit: whether pcscd can run without polkit.
        in_container: whether this is a container, or a Flatpak.
        has_driver: whether there is a driver for CCID readers.
        usb: the readers on the bus; None where that cannot be told.
        user: the user's name.
        is_root: whether it is root.
    """

    platform: str = sys.platform
    distribution: tuple[str, ...] = ()
    has_library: bool | None = None
    has_service: bool | None = None
    socket: str | None = None
    library_version: str = ""
    service_version: str = ""
    contexts: int | None = None
    frozen: int = 0
    has_systemd: bool = False
    has_polkit: bool = False
    polkit_runs: bool | None = None
    disables_polkit: bool = False
    in_container: bool = False
    has_driver: bool | None = None
    usb: tuple[UsbReader, ...] | None = None
    user: str = "user"
    is_root: bool = False


def inspect_machine(root: Path = Path("/")) -> Machine:
    """Inspect this machine.

    Args:
        root: where its files are.
    """
    if sys.platform != "linux":
        return Machine()
    loads, library_version = _library()
    path = _socket_path(root)
    state, service_version = ("missing", "") if path is None else _ask(path, library_version)
    pcscd = _program(root, "pcscd")
    return Machine(
        distribution=_distribution(root),
        has_library=loads,
        has_service=pcscd is not None,
        socket=state,
        library_version=library_version,
        service_version=service_version,
        contexts=None if path is None else _contexts(root, path),
        frozen=next((pid for pid, name in _processes(root) if name == "pcscd" and _is_stopped(root, pid)), 0),
        has_systemd=(root / "run/systemd/system").is_dir(),
        has_polkit=any((root / "usr/share/polkit-1/actions").glob("*pcsc-lite*.policy")),
        polkit_runs=_polkit_runs(root),
        disables_polkit=pcscd is not None and _NO_POLKIT in _help(pcscd),
        in_container=any((root / name).exists() for name in _OF_CONTAINERS),
        has_driver=any((root / folder / "ifd-ccid.bundle").is_dir() for folder in _DRIVERS),
        usb=_usb_readers(root / "sys/bus/usb/devices"),
        user=_user(),
        is_root=os.geteuid() == 0,
    )


def _distribution(root: Path) -> tuple[str, ...]:
    values = {}
    for line in _read(root / "etc/os-release").splitlines():
        key, _, value = line.partition("=")
        values[key] = value.strip().strip("\"'")
    return tuple(f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".lower().split())


def _library() -> tuple[bool | None, str]:
    """Whether the library can be loaded, and its protocol version.

    Another process loads it, since it cannot be unloaded, and connects to a socket made here: only the connection shows its
    version. A frozen program (PyInstaller's, for instance) has no Python to run there: nothing is known then.
    """
    if getattr(sys, "frozen", False):
        return None, ""
    with tempfile.TemporaryDirectory(prefix="scardface-") as folder, socket.socket(socket.AF_UNIX) as service:
        path = os.path.join(folder, "s")
        service.bind(path)
        service.listen()
        service.settimeout(_SLICE)
        environment = {**os.environ, "PCSCLITE_CSOCK_NAME": path}
        with subprocess.Popen(
            [sys.executable, "-c", _LOAD],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        ) as process:
            end = time.monotonic() + _LOADING
            version = ""
            try:
                while process.poll() is None and time.monotonic() < end:
                    version = version or _spoken(service)
            finally:
                process.kill()
        return {0: True, 1: False}.get(process.returncode), version  # 1: Python's, for the error that it cannot be loaded


def _spoken(service: socket.socket) -> str:
    """The protocol version of the client that has connected; empty if none has yet."""
    try:
        client, _ = service.accept()
        with client:
            client.settimeout(_LOADING)
            _, command, major, minor, _ = _VERSION.unpack(_receive(client, _VERSION.size))
    except (OSError, struct.error):
        return ""
    return f"{major}.{minor}" if command == _ASK_VERSION else ""


def _program(root: Path, name: str) -> str | None:
    folders = [root / folder for folder in ("usr/sbin", "usr/bin", "sbin", "usr/local/sbin", "usr/libexec/pcscd")]
    path = os.pathsep.join([*map(str, folders), *([os.environ.get("PATH", os.defpath)] if root == Path("/") else [])])
    return shutil.which(name, path=path)


def _help(program: str) -> str:
    try:
        done = subprocess.run([program, "--help"], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_LOADING)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).decode(errors="replace")


def _socket_path(root: Path) -> Path | None:
    given = os.environ.get("PCSCLITE_CSOCK_NAME")
    candidates = [Path(given)] if given else [root / name for name in _SOCKETS]
    return next((candidate for candidate in candidates if candidate.exists()), None)


def _ask(path: Path, version: str) -> tuple[str, str]:
    """The result of connecting to the service and asking for the library's version (pcsc-lite, winscard_msg.h)."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_SILENCE)
        try:
            probe.connect(str(path))
        except PermissionError:
            return "forbidden", ""
        except (TimeoutError, BlockingIOError):  # nobody takes connections, and its queue is full
            return "silent", ""
        except OSError:
            return "refuses", ""
        major, minor = (version or _USUAL_VERSION).split(".")
        try:
            probe.sendall(_VERSION.pack(_ANSWER.size, _ASK_VERSION, int(major), int(minor), 0))
            major, minor, code = _ANSWER.unpack(_receive(probe, _ANSWER.size))
        except TimeoutError:
            return "silent", ""
        except (OSError, struct.error):
            return "closes", ""
    return ("other version", f"{major}.{minor}") if code and version else ("answers", "")


def _receive(peer: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (part := peer.recv(size - len(received))):
        received += part
    return received


def _contexts(root: Path, path: Path) -> int | None:
    """How many connections the service has: in /proc/net/unix its ends of them bear the socket's name (state 03: connected)."""
    rows = [line.split(None, 7) for line in _read(root / "proc/net/unix").splitlines()]
    return sum(row[5] == "03" and row[7].strip() == str(path) for row in rows if len(row) == 8) if rows else None


def _processes(root: Path) -> Iterator[tuple[int, str]]:
    for process in (root / "proc").glob("[0-9]*"):
        if process.name.isdecimal():
            yield int(process.name), _read(process / "comm").strip()


def _is_stopped(root: Path, pid: int) -> bool:
    """Whether a signal has stopped a process (proc(5), stat: the state behind the name in parentheses)."""
    return _read(root / f"proc/{pid}/stat").rpartition(")")[2].split()[:1] in (["T"], ["t"])


def _polkit_runs(root: Path) -> bool | None:
    """Whether polkitd runs, or the system's bus would start it."""
    if not (root / "proc").is_dir():
        return None
    if any(name == "polkitd" for _, name in _processes(root)):
        return True
    return (root / "run/dbus/system_bus_socket").exists() and any((root / name).exists() for name in _POLKIT)


def _usb_readers(devices: Path) -> tuple[UsbReader, ...] | None:
    """Devices that have an interface of the class for smart cards, or that an NFC driver of the kernel has taken."""
    if not devices.is_dir():
        return None
    found: dict[str, UsbReader] = {}
    for interface in sorted(devices.glob("*:*"))[: _MAX_DEVICES * 4]:
        driver = interface / "driver"
        kernel_driver = driver.resolve().name if driver.exists() else ""
        is_reader = _read(interface / "bInterfaceClass").strip().lower() == _SMART_CARD_CLASS
        if is_reader or kernel_driver in _NFC_DRIVERS:
            device = devices / interface.name.split(":")[0]
            name = " ".join(filter(None, (_read(device / "manufacturer").strip(), _read(device / "product").strip())))
            taken_by = kernel_driver if kernel_driver in _NFC_DRIVERS else ""
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
