"""The command that mends something, on this machine.

Rules of this room:

- A command can be copied into a terminal as it stands; nothing is ever run from here.
- Where no command is known for a platform, there is None, and the words must do.
"""

from __future__ import annotations

import re
import shlex
from typing import Literal, NamedTuple

from ._machine import Machine


class _Family(NamedTuple):
    """How a family of distributions installs things, and what it calls them."""

    install: str
    library: str
    service: str
    driver: str


_DEBIAN = _Family("sudo apt-get install", "libpcsclite1", "pcscd", "libccid")
_FEDORA = _Family("sudo dnf install", "pcsc-lite-libs", "pcsc-lite", "pcsc-lite-ccid")
_SUSE = _Family("sudo zypper install", "libpcsclite1", "pcsc-lite", "pcsc-ccid")
_FAMILIES = {
    "debian": _DEBIAN,
    "ubuntu": _DEBIAN,
    "fedora": _FEDORA,
    "rhel": _FEDORA,
    "suse": _SUSE,
    "opensuse": _SUSE,
    "arch": _Family("sudo pacman -S", "pcsclite", "pcsclite", "ccid"),
    "alpine": _Family("sudo apk add", "pcsc-lite-libs", "pcsc-lite", "ccid"),
}

_RULE = (
    'polkit.addRule(function(action, subject) {{ if (action.id.indexOf("org.debian.pcsc-lite.") == 0 && subject.user == "{user}") '
    "return polkit.Result.YES; }});"
)
_RULE_FILE = "/etc/polkit-1/rules.d/50-scardface.rules"


def install(machine: Machine, part: Literal["library", "service", "driver"]) -> str | None:
    """The command that installs a part of PC/SC."""
    family = next((_FAMILIES[name] for name in machine.distribution if name in _FAMILIES), None)
    return None if family is None else f"{family.install} {getattr(family, part)}"


def start_service(machine: Machine) -> str | None:
    """The command that starts the service."""
    if machine.platform == "win32":
        return "net start SCardSvr"
    if machine.platform == "darwin":
        return None
    if machine.has_systemd:
        return "sudo systemctl enable --now pcscd.socket"
    return "sudo rc-service pcscd start" if "alpine" in machine.distribution else "sudo pcscd"


def restart_service(machine: Machine) -> str | None:
    """The command that has the service look for drivers and readers anew."""
    if machine.platform == "linux" and machine.has_systemd:
        return "sudo systemctl restart pcscd"
    return start_service(machine)


def allow(machine: Machine) -> str | None:
    """The command that lets this user in, whatever session he is in."""
    if machine.platform != "linux" or not re.fullmatch(r"[\w.@-]+", machine.user):
        return None
    return f"echo {shlex.quote(_RULE.format(user=machine.user))} | sudo tee {_RULE_FILE}"


def release(kernel_driver: str) -> str:
    """The command that takes a reader from the kernel's NFC driver, now and after the next start."""
    return f"echo 'blacklist {kernel_driver}' | sudo tee /etc/modprobe.d/scardface.conf; sudo modprobe -r {kernel_driver}"


def end_holder(programs: str) -> str | None:
    """The command that makes a program give a card up, if it is clear which and how.

    Args:
        programs: what is known of programs that have PC/SC open, as `name (pid n)`.
    """
    if "scdaemon" in programs:
        return "gpgconf --kill scdaemon"
    found = re.findall(r"\(pid (\d+)\)", programs)
    return f"kill {found[0]}" if len(found) == 1 else None
