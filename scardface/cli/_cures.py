"""Commands that repair something on this machine.

Rules:

- A command can be pasted into a terminal as it is; none is run here.
- None means that no command is known for the platform.
- Root needs no sudo, which a container may not have.
- Where pcscd would ask polkit, and polkit does not run, it is started with --disable-polkit: it would refuse everybody (fact 50).
"""

from __future__ import annotations

import re
import shlex
from typing import Literal, NamedTuple

from ._machine import Machine


class _Family(NamedTuple):
    """The install command and package names of a family of distributions."""

    install: str
    library: str
    service: str
    driver: str
    polkit: str


_DEBIAN = _Family("apt-get install", "libpcsclite1", "pcscd", "libccid", "polkitd")
_FEDORA = _Family("dnf install", "pcsc-lite-libs", "pcsc-lite", "pcsc-lite-ccid", "polkit")
_SUSE = _Family("zypper install", "libpcsclite1", "pcsc-lite", "pcsc-ccid", "polkit")
_FAMILIES = {
    "debian": _DEBIAN,
    "ubuntu": _DEBIAN,
    "fedora": _FEDORA,
    "rhel": _FEDORA,
    "suse": _SUSE,
    "opensuse": _SUSE,
    "arch": _Family("pacman -S", "pcsclite", "pcsclite", "ccid", "polkit"),
    "alpine": _Family("apk add", "pcsc-lite-libs", "pcsc-lite", "ccid", "polkit"),
}

_RULE = (
    'polkit.addRule(function(action, subject) {{ if (action.id.indexOf("org.debian.pcsc-lite.") == 0 && subject.user == "{user}") '
    "return polkit.Result.YES; }});"
)
_RULE_FILE = "/etc/polkit-1/rules.d/50-scardface.rules"


def _by_root(machine: Machine, command: str) -> str:
    """A command that only root may run."""
    return command if machine.is_root else f"sudo {command}"


def install(machine: Machine, part: Literal["library", "service", "driver", "polkit"]) -> str | None:
    """The command that installs a part of PC/SC."""
    family = next((_FAMILIES[name] for name in machine.distribution if name in _FAMILIES), None)
    return None if family is None else _by_root(machine, f"{family.install} {getattr(family, part)}")


def start_service(machine: Machine) -> str | None:
    """The command that starts the service."""
    if machine.platform == "win32":
        return "net start SCardSvr"
    if machine.platform == "darwin":
        return None
    if machine.has_systemd:
        return _by_root(machine, "systemctl enable --now pcscd.socket")
    if "alpine" in machine.distribution and not machine.in_container:
        return _by_root(machine, "rc-service pcscd start")
    return _by_root(machine, "pcscd --disable-polkit" if machine.disables_polkit and machine.polkit_runs is False else "pcscd")


def restart_service(machine: Machine) -> str | None:
    """The command that restarts the service, whatever state it is in."""
    if machine.platform == "win32":
        return "powershell Restart-Service -Force SCardSvr"
    if machine.platform != "linux":
        return start_service(machine)
    if machine.has_systemd:
        return _by_root(machine, "systemctl restart pcscd")
    if "alpine" in machine.distribution and not machine.in_container:
        return _by_root(machine, "rc-service pcscd restart")
    return f"{_by_root(machine, 'pkill -KILL -x pcscd')}; {start_service(machine)}"


def resume_service(machine: Machine) -> str:
    """The command that resumes a service that was stopped by a signal."""
    return _by_root(machine, f"kill -CONT {machine.frozen}")


def do_without_polkit(machine: Machine) -> str | None:
    """What helps where the service asks polkit, and polkit does not run."""
    if machine.disables_polkit and not machine.has_systemd:
        return restart_service(machine)
    return install(machine, "polkit")


def allow(machine: Machine) -> str | None:
    """The command that allows this user access, in any session."""
    if machine.platform != "linux" or not re.fullmatch(r"[\w.@-]+", machine.user):
        return None
    return f"echo {shlex.quote(_RULE.format(user=machine.user))} | {_by_root(machine, f'tee {_RULE_FILE}')}"


def release(machine: Machine, kernel_driver: str) -> str:
    """The command that takes a reader from the kernel's NFC driver, now and after the next start."""
    note = f"echo 'blacklist {kernel_driver}' | {_by_root(machine, 'tee /etc/modprobe.d/scardface.conf')}"
    return f"{note}; {_by_root(machine, f'modprobe -r {kernel_driver}')}"


def end_holder(programs: str) -> str | None:
    """The command that makes a program release a card, if it is clear which and how.

    Args:
        programs: what is known of programs that have PC/SC open, as `name (pid n)`.
    """
    if "scdaemon" in programs:
        return "gpgconf --kill scdaemon"
    found = re.findall(r"\(pid (\d+)\)", programs)
    return f"kill {found[0]}" if len(found) == 1 else None
