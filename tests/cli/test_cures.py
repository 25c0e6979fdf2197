"""The commands that mend things."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from scardface.cli import _cures
from scardface.cli._machine import Machine

CONTAINER = Machine("linux", ("debian",), in_container=True, is_root=True, polkit_runs=False, disables_polkit=True)
DEBIAN = Machine("linux", ("debian",), has_systemd=True, user="ada")


@pytest.mark.parametrize(
    ("distribution", "command"),
    [
        (("debian",), "sudo apt-get install libccid"),
        (("linuxmint", "ubuntu", "debian"), "sudo apt-get install libccid"),
        (("rocky", "rhel", "fedora"), "sudo dnf install pcsc-lite-ccid"),
        (("arch",), "sudo pacman -S ccid"),
        (("alpine",), "sudo apk add ccid"),
        (("opensuse-leap", "suse"), "sudo zypper install pcsc-ccid"),
        (("plan9",), None),
        ((), None),
    ],
)
def test_installing(distribution: tuple[str, ...], command: str | None) -> None:
    assert _cures.install(Machine("linux", distribution), "driver") == command


@pytest.mark.parametrize(
    ("machine", "start", "restart"),
    [
        (DEBIAN, "sudo systemctl enable --now pcscd.socket", "sudo systemctl restart pcscd"),
        (Machine("linux", ("alpine",)), "sudo rc-service pcscd start", "sudo rc-service pcscd restart"),
        (Machine("linux", ("debian",)), "sudo pcscd", "sudo pkill -KILL -x pcscd; sudo pcscd"),
        (CONTAINER, "pcscd --disable-polkit", "pkill -KILL -x pcscd; pcscd --disable-polkit"),
        (replace(CONTAINER, polkit_runs=True), "pcscd", "pkill -KILL -x pcscd; pcscd"),
        (replace(CONTAINER, disables_polkit=False), "pcscd", "pkill -KILL -x pcscd; pcscd"),
        (replace(CONTAINER, distribution=("alpine",)), "pcscd --disable-polkit", "pkill -KILL -x pcscd; pcscd --disable-polkit"),
        (Machine("win32"), "net start SCardSvr", "powershell Restart-Service -Force SCardSvr"),
        (Machine("darwin"), None, None),
    ],
)
def test_the_service(machine: Machine, start: str | None, restart: str | None) -> None:
    assert (_cures.start_service(machine), _cures.restart_service(machine)) == (start, restart)


def test_polkit_lets_one_user_in() -> None:
    command = _cures.allow(DEBIAN)
    assert command is not None
    echo, rule, *rest = shlex.split(command)
    assert (echo, rest) == ("echo", ["|", "sudo", "tee", "/etc/polkit-1/rules.d/50-scardface.rules"])
    assert 'subject.user == "ada"' in rule
    assert rule.count("{") == rule.count("}") == 1
    assert _cures.allow(Machine("linux", user='a"; evil()')) is None
    assert _cures.allow(Machine("darwin", user="ada")) is None


def test_the_kernels_driver() -> None:
    assert _cures.release(DEBIAN, "pn533_usb").endswith("sudo modprobe -r pn533_usb")


def test_root_needs_no_sudo() -> None:
    root = replace(DEBIAN, is_root=True, frozen=7)
    cures = [_cures.install(root, "polkit"), _cures.start_service(root), _cures.restart_service(root), _cures.allow(root)]
    cures += [_cures.release(root, "pn533"), _cures.resume_service(root), _cures.do_without_polkit(root)]
    assert None not in cures
    assert not [cure for cure in cures if "sudo" in str(cure)]
    assert _cures.resume_service(root) == "kill -CONT 7"
    assert _cures.resume_service(replace(root, is_root=False)) == "sudo kill -CONT 7"


def test_without_polkit() -> None:
    """Fact 50: the daemon refuses everybody then, whatever the rules say."""
    assert _cures.do_without_polkit(CONTAINER) == "pkill -KILL -x pcscd; pcscd --disable-polkit"
    assert _cures.do_without_polkit(replace(DEBIAN, disables_polkit=True)) == "sudo apt-get install polkitd"


@pytest.mark.parametrize(
    ("programs", "command"),
    [
        ("scdaemon (pid 7), firefox (pid 8)", "gpgconf --kill scdaemon"),
        ("firefox (pid 8)", "kill 8"),
        ("firefox (pid 8), python (pid 9)", None),
        ("not known", None),
    ],
)
def test_a_program_that_holds_a_card(programs: str, command: str | None) -> None:
    assert _cures.end_holder(programs) == command
