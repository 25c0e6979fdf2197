"""What a private pcscd needs on the machine. What is missing is reported in one sentence that names the package or setting."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["PcscdUnavailable"]

_DRIVERS = [Path(lib, "pcsc/drivers/serial/libifdvpcd.so") for lib in ("/usr/lib", "/usr/lib64", "/usr/local/lib")]
KEEPER = Path(__file__).with_name("_pcscd_namespace.py")  # run as a program
_SYSCTLS = Path("/proc/sys")
_LOG_TAIL = 2000

_CONTAINER = "in a container, start it with --privileged, or at least --cap-add SYS_ADMIN --cap-add NET_ADMIN"
_SETTINGS = [
    ("user/max_user_namespaces", "0", "set the sysctl user.max_user_namespaces above 0"),
    ("kernel/unprivileged_userns_clone", "0", "set the sysctl kernel.unprivileged_userns_clone to 1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "set the sysctl kernel.apparmor_restrict_unprivileged_userns to 0"),
]


class PcscdUnavailable(RuntimeError):
    """No private pcscd can run on this machine; the text names the package or setting that is missing."""


class Needs(NamedTuple):
    """The programs and the driver that a private pcscd needs."""

    unshare: str
    pcscd: str
    driver: Path


def search_path() -> str:
    """The path to search for programs: an ordinary user's PATH may lack the folders of pcscd and mount."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def find_needs() -> Needs:
    """Find everything that is needed.

    Raises:
        PcscdUnavailable: something is missing.
    """
    if sys.platform != "linux":
        raise PcscdUnavailable("a private pcscd needs Linux, for its namespaces")
    if getattr(sys, "frozen", False) or not KEEPER.is_file():
        raise PcscdUnavailable("a private pcscd needs Python itself, and scardface as files: this program is frozen or zipped")
    unshare = _find("unshare", "util-linux")
    _find("setpriv", "util-linux")
    _find("mount", "mount")
    pcscd = _find("pcscd", "pcscd")
    driver = next((path for path in _DRIVERS if path.is_file()), None)
    if driver is None:
        raise PcscdUnavailable(f"vpcd's reader driver ({_DRIVERS[0]}) is missing: install the package vsmartcard-vpcd")
    return Needs(unshare, pcscd, driver)


def _find(program: str, package: str) -> str:
    found = shutil.which(program, path=search_path())
    if found is None:
        raise PcscdUnavailable(f"the program {program} is missing: install the package {package}")
    return found


@lru_cache
def daemon_options(pcscd: str) -> tuple[str, ...]:
    """The options with which this pcscd accepts clients: 2.x asks polkit by default, which refuses; 1.9.9 has none (fact 50)."""
    text = subprocess.run([pcscd, "--help"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout
    return ("--disable-polkit",) if "--disable-polkit" in text else ()


def explain_end(log: str) -> PcscdUnavailable:
    """Why a daemon did not start, by what it and its helpers wrote."""
    tail = log.strip()[-_LOG_TAIL:] or "(nothing)"
    if not log.startswith(("unshare:", "mount:", "namespace:")):
        return PcscdUnavailable(f"the private pcscd did not start; it wrote: {tail}")
    what = "root may not make namespaces here" if os.geteuid() == 0 else "this user may not make user namespaces"
    return PcscdUnavailable(f"{what}: {_namespace_advice()} ({tail})")


def _namespace_advice() -> str:
    if os.geteuid() != 0:
        for name, value, advice in _SETTINGS:
            setting = _SYSCTLS / name
            if setting.is_file() and setting.read_text().strip() == value:
                return f"{advice}, or run as root"
    return f"{_CONTAINER}; in a chroot, use a real root file system"
