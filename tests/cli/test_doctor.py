"""`scardface doctor`: eight situations, made of facts; and as far as they can be made, made really."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scardface import ATR, CardCommunicationError, CardTimeoutError, ReaderState, ServiceUnavailableError
from scardface.backend import Binding, BindingError, binding
from scardface.cli import _doctor
from scardface.cli._doctor import CHECKS, PASSED, Facts, Finding, Trial, gather, judge
from scardface.cli._machine import Machine, UsbReader
from scardface.cli._virtual import virtual_pcsc
from scardface.errors import error_for
from scardface.testing import FileCard, SimulatedPCSC
from tests.support.cards import LogCard
from tests.support.command_line import ROOT, Command, Done, piped
from tests.support.freezing import freeze

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd
    from tests.support.foreign import Foreign

WELL = Machine(
    "linux",
    ("debian",),
    has_library=True,
    has_service=True,
    socket="answers",
    has_systemd=True,
    has_polkit=True,
    has_driver=True,
    usb=(UsbReader("ACME Reader"),),
    user="ada",
)
NO_SERVICE = ServiceUnavailableError("SCardEstablishContext: no service", 0x8010001D)
REFUSED = ServiceUnavailableError("SCardEstablishContext: refused", 0x8010006A)
SILENT = ServiceUnavailableError("did not answer", 0x8010000A)
STOPPED = ServiceUnavailableError("SCardEstablishContext: stopped", 0x8010001E)
FORBIDDEN = ServiceUnavailableError("SCardConnect: refused", 0x8010006A, "SCardConnect", "A")
PASSED_OVER = CardTimeoutError("no card within 1 s")
PASSED_OVER.__cause__ = FORBIDDEN
OTHER_VERSION = replace(WELL, socket="other version", library_version="4.4", service_version="4.5")
IN_CONTAINER = replace(WELL, has_systemd=False, in_container=True, is_root=True, polkit_runs=False, disables_polkit=True)
NOT_LOADED = ServiceUnavailableError("the PC/SC library winscard.dll cannot be loaded", 0x8010001D, "SCardEstablishContext")
NOT_LOADED.__cause__ = OSError("no such module")
CARD = ReaderState(True, ATR(b"\x3b\x00"), False, False, False)
EMPTY = ReaderState(False, ATR(), False, False, False)
MUTE = ReaderState(True, ATR(), True, False, False)
HELD = ReaderState(True, ATR(b"\x3b\x00"), False, True, True)
GOOD = Facts(WELL, None, {"A": CARD, "B": EMPTY}, {"A": Trial()})


def found(facts: Facts) -> tuple[str, list[Finding]]:
    """The check that found something, and what."""
    name, findings = list(judge(facts))[-1]
    return (name, findings) if findings else ("", [])


SITUATIONS: list[Any] = [
    (
        replace(GOOD, error=NO_SERVICE, machine=replace(WELL, has_library=False)),
        "library",
        "libpcsclite is not",
        "install libpcsclite1",
    ),
    (replace(GOOD, error=NO_SERVICE, machine=replace(WELL, socket="missing")), "service", "is not running", "systemctl enable"),
    (replace(GOOD, error=NO_SERVICE, machine=replace(WELL, socket="refuses")), "service", "is not running", "systemctl enable"),
    (
        replace(GOOD, error=NO_SERVICE, machine=replace(WELL, socket="missing", has_service=False)),
        "service",
        "pcscd, is not installed",
        "install pcscd",
    ),
    (replace(GOOD, error=NO_SERVICE, machine=Machine("win32")), "service", "is not running", "net start SCardSvr"),
    (replace(GOOD, error=NOT_LOADED, machine=Machine("win32")), "library", "winscard.dll cannot be loaded", None),
    (replace(GOOD, error=SILENT, machine=Machine("win32")), "service", "it hangs", "Restart-Service -Force SCardSvr"),
    (replace(GOOD, error=SILENT, machine=Machine("darwin")), "service", "it hangs", None),
    (replace(GOOD, error=NO_SERVICE, machine=Machine("darwin")), "service", "not running", None),
    *(
        (
            replace(GOOD, error=error_for(code, "SCardEstablishContext", platform="win32"), machine=Machine("win32")),
            "permission",
            "run it as the user who is logged on",
            None,
        )
        for code in (0x8010006A, 5)
    ),
    (
        replace(GOOD, error=error_for(0x8010006A, "SCardEstablishContext", platform="darwin"), machine=Machine("darwin")),
        "permission",
        "the entitlement com.apple.security.smartcard",
        None,
    ),
    *(
        (replace(GOOD, machine=Machine(platform), trials={"A": Trial(FORBIDDEN)}), "opening", "could not be opened", None)
        for platform in ("win32", "darwin")
    ),
    (replace(GOOD, error=REFUSED), "permission", "polkit's rules do not let ada", "50-scardface.rules"),
    (replace(GOOD, error=REFUSED, machine=replace(WELL, socket="forbidden")), "permission", "keep this user out", "restart pcscd"),
    (replace(GOOD, error=REFUSED, machine=replace(WELL, has_polkit=False)), "permission", "as many programs", "restart pcscd"),
    (replace(GOOD, error=SILENT), "service", "does not answer: it hangs", "restart pcscd"),
    (replace(GOOD, error=NO_SERVICE, machine=replace(WELL, socket="silent")), "service", "does not answer", "restart pcscd"),
    (
        replace(GOOD, error=SILENT, machine=replace(WELL, frozen=7)),
        "service",
        "is frozen: a signal has stopped its process, pcscd (pid 7)",
        "sudo kill -CONT 7",
    ),
    (replace(GOOD, error=NO_SERVICE, machine=OTHER_VERSION), "service", "version 4.4 of it, the service 4.5; one of the two", None),
    (
        replace(GOOD, error=STOPPED, machine=replace(OTHER_VERSION, in_container=True)),
        "service",
        "the library in this container or Flatpak has to be replaced",
        None,
    ),
    (
        replace(GOOD, error=NO_SERVICE, machine=replace(WELL, socket="missing", has_service=False, in_container=True)),
        "service",
        "nor is the host's /run/pcscd mounted into it",
        "install pcscd",
    ),
    (replace(GOOD, error=REFUSED, machine=replace(WELL, contexts=200)), "permission", "200 connections", "restart pcscd"),
    (replace(GOOD, error=REFUSED, machine=replace(WELL, contexts=199)), "permission", "polkit's rules", "50-scardface.rules"),
    (
        replace(GOOD, error=REFUSED, machine=IN_CONTAINER),
        "permission",
        "polkit does not run here",
        "pkill -KILL -x pcscd; pcscd --disable-polkit",
    ),
    (
        replace(GOOD, error=NO_SERVICE, machine=replace(IN_CONTAINER, socket="missing")),
        "service",
        "is not running",
        "pcscd --disable-polkit",
    ),
    (
        replace(GOOD, error=REFUSED, machine=replace(WELL, has_polkit=False, has_service=False)),
        "permission",
        "the host's of this container; most likely polkit's rules there",
        None,
    ),
    (replace(GOOD, trials={"A": Trial(FORBIDDEN)}), "opening", "let ada use PC/SC, but not the card in 'A'", "50-scardface.rules"),
    (
        replace(GOOD, trials={"A": Trial(PASSED_OVER)}),
        "opening",
        "let ada use PC/SC, but not the card in 'A'",
        "50-scardface.rules",
    ),
    (
        Facts(WELL, unusable=("\xe9",)),
        "reader",
        "the reader '\xe9' cannot be used: this PC/SC binding takes ASCII names only",
        None,
    ),
    (
        Facts(WELL, unusable=("\xe9",), binding=Binding("pyscard", "")),
        "reader",
        "takes ASCII names only; give it another name",
        "export SCARDFACE_BINDING=ctypes",
    ),
    (Facts(WELL, unusable=("\ufffd",), binding=Binding("pyscard", "")), "reader", "cannot be used: it is not UTF-8", None),
    (Facts(WELL, binding=BindingError("pyscard was chosen")), "binding", "pyscard was chosen", None),
    (Facts(replace(WELL, has_driver=False)), "driver", "ACME Reader is plugged in, and the driver", "install libccid"),
    (Facts(replace(WELL, usb=(UsbReader("ACR122", "pn533_usb"),))), "driver", "taken by the kernel's", "modprobe -r pn533_usb"),
    (Facts(WELL), "driver", "does not see it", "restart pcscd"),
    (Facts(replace(WELL, usb=())), "reader", "no reader is plugged in", None),
    (Facts(replace(WELL, usb=None)), "reader", "no reader is plugged in", None),
    (replace(GOOD, readers={"A": EMPTY}), "card", "the reader 'A' has no card in", None),
    (replace(GOOD, readers={"A": EMPTY, "B": EMPTY}), "card", "the 2 readers have no card in", None),
    (replace(GOOD, readers={"A": MUTE}), "answer", "the card in 'A' does not answer", None),
    (
        replace(GOOD, readers={"A": HELD}, trials={"A": Trial(CardTimeoutError("x"), "the card in 'A' is held; scdaemon (pid 7)")}),
        "holder",
        "scdaemon (pid 7)",
        "gpgconf --kill scdaemon",
    ),
    (replace(GOOD, readers={"A": HELD}, trials={"A": Trial(CardTimeoutError("x"))}), "holder", "does not let it go", None),
    (
        replace(GOOD, trials={"A": Trial(CardCommunicationError("bad contacts"))}),
        "opening",
        "could not be opened: bad contacts",
        None,
    ),
]


@pytest.mark.parametrize(("facts", "check", "words", "cure"), SITUATIONS)
def test_the_cause_is_named_and_what_mends_it(facts: Facts, check: str, words: str, cure: str | None) -> None:
    name, findings = found(facts)
    assert name == check
    assert words in findings[0].message
    assert findings[0].cure == cure if cure is None else cure in (findings[0].cure or "")


def test_where_all_is_well_nothing_is_found() -> None:
    assert list(judge(GOOD)) == [(name, []) for name in CHECKS]
    assert list(CHECKS) == list(PASSED)


def test_a_reader_that_cannot_be_used_is_told_and_the_others_are_looked_at() -> None:
    told = dict(judge(replace(GOOD, unusable=("\xe9",))))
    assert list(told) == list(CHECKS)
    assert [name for name, findings in told.items() if findings] == ["reader"]


def test_the_first_finding_ends_the_search() -> None:
    checks = [name for name, _ in judge(replace(GOOD, error=NO_SERVICE, machine=replace(WELL, socket="missing")))]
    assert checks == ["library", "binding", "service"]


def test_without_a_library_nothing_is_called(capfd: pytest.CaptureFixture[str]) -> None:
    with SimulatedPCSC() as pcsc:
        facts = gather(replace(WELL, has_library=False))
        assert isinstance(facts.error, ServiceUnavailableError)
        assert not sum(pcsc.calls.values())


# Made really.


def test_all_is_well(scardface: Command) -> None:
    done = scardface("doctor", "--virtual")
    assert (done.status, done.err) == (0, "")
    library, used, *others = done.out.splitlines()
    assert used == f"ok     {PASSED['binding']}: {binding().name}, since {binding().why}"
    assert [library, *others] == [f"ok     {words}" for name, words in PASSED.items() if name != "binding"]
    assert [line["check"] for line in scardface("doctor", "--virtual", "--json").lines] == list(CHECKS)


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has everything, whatever this one has."""
    monkeypatch.setattr(_doctor, "inspect_machine", lambda: WELL)


def test_only_what_is_said_of_its_holder_counts_as_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library has other warnings, too."""
    said = ["reader 'B' is left out", "the card in 'A' speaks T=14", "the card in 'B' is held by another program; x (pid 7)"]

    def fail(*words: object, **more: object) -> None:
        for each in said:
            logging.getLogger("scardface").warning(each)
        raise CardTimeoutError("no card within 1 s")

    monkeypatch.setattr(_doctor, "SCard", fail)
    assert _doctor._try("A").held == ""
    said.append("the card in 'A' is held by another program; x (pid 8)")
    assert _doctor._try("A").held == said[-1]


@pytest.mark.usefixtures("sound")
def test_a_service_that_refuses(scardface: Command) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.inject("SCardEstablishContext", 0x8010006A, times=100)
        done = scardface("doctor", "--json")
    assert done.status == 1
    assert (done.lines[-1]["check"], done.lines[-1]["ok"]) == ("permission", False)
    assert done.lines[-1]["cure"].endswith("50-scardface.rules")


@pytest.mark.usefixtures("sound")
def test_what_mends_it_is_a_line_of_its_own(scardface: Command) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.inject("SCardEstablishContext", 0x8010006A, times=100)
        told = scardface("doctor").out.splitlines()
    assert told[-2].startswith("wrong  the PC/SC service refuses this program")
    assert told[-1].startswith("       to mend it, run: echo 'polkit.addRule")


@pytest.mark.slow
@pytest.mark.usefixtures("sound")
def test_readers_without_and_cards_of_all_kinds(scardface: Command) -> None:
    with SimulatedPCSC() as pcsc:
        assert scardface("doctor", "--json").lines[-1]["check"] == "driver"
        pcsc.add_reader("A")
        done = scardface("doctor")
        assert done.status == 1
        assert done.out.splitlines()[-1].startswith("wrong  the reader 'A' has no card in")
        mute = LogCard()
        mute.atr = b""
        pcsc.insert("A", mute)
        assert scardface("doctor", "--json").lines[-1]["check"] == "answer"
        pcsc.add_reader("B")
        pcsc.insert("B", FileCard())
        pcsc.remove("A")
        pcsc.inject("SCardConnect", 0x8010001F, times=10)  # SCARD_E_UNSUPPORTED_FEATURE
        assert scardface("doctor", "--json").lines[-1]["check"] == "opening"


def test_a_daemon_that_was_stopped(pcscd: PrivatePcscd, scardface: Command) -> None:
    pcscd.kill()
    done = scardface("doctor", "--json")
    assert (done.status, done.lines[-1]["check"]) == (1, "service")
    pcscd.start()
    assert scardface("doctor", "--json").lines[-1]["check"] == "card"


def test_a_card_is_left_as_it_is(scardface: Command) -> None:
    card = LogCard()
    with virtual_pcsc(card):
        assert scardface("doctor").status == 0
    assert (card.resets, card.commands) == (0, [])


def test_a_program_that_holds_a_card(
    pcscd: PrivatePcscd,
    foreign: Foreign,
    scardface: Command,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scardface._pcsc.other_programs._MAX_NAMED", 10_000)  # this machine may have many programs with PC/SC
    pcscd.insert(0, FileCard())
    pcscd.wait_for_card(0)
    foreign.connect(pcscd.readers[0])
    done = scardface("doctor")
    assert done.status == 1
    told = done.out.splitlines()[len(PASSED) - 2]
    assert told.startswith(f"wrong  the card in {pcscd.readers[0]!r} is held by another program")
    assert f"(pid {foreign.pid})" in told
    assert done.err == ""
    assert caplog.text == "", "it is told twice"


def test_a_binding_that_is_not_there(scardface: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCARDFACE_BINDING", "swig")
    done = scardface("readers")
    assert (done.status, done.out) == (2, "")
    assert "SCARDFACE_BINDING is 'swig'" in done.err
    done = scardface("doctor", "--json")
    assert (done.status, [line["check"] for line in done.lines]) == (1, ["library", "binding"])


def test_a_mute_card_and_no_reader_in_a_real_daemon(pcscd: PrivatePcscd, scardface: Command) -> None:
    mute = LogCard()
    mute.atr = b""
    pcscd.insert(0, mute)
    pcscd.wait_for_card(0)
    assert scardface("doctor", "--json").lines[-1]["check"] == "answer"
    pcscd.remove(0)
    done = without_readers()
    assert done.lines[-1]["check"] in ("reader", "driver"), done


DOCTOR = """
import sys
from dataclasses import replace
from pathlib import Path

from scardface.cli import _doctor, main
from scardface.testing import PrivatePcscd

inspect_machine = _doctor.inspect_machine
if len(sys.argv) > 1:
    bus = inspect_machine(Path(sys.argv[1]))
    _doctor.inspect_machine = lambda: replace(inspect_machine(), usb=bus.usb, has_driver=bus.has_driver)
with PrivatePcscd(0):
    status = main(["doctor", "--json"])
sys.exit(status)
"""


def without_readers(*bus: str) -> Done:
    """What it says beside a daemon without readers, in a process of its own: libpcsclite 2.5 takes no fewer than before."""
    command = [sys.executable, "-W", "ignore", "-c", DOCTOR, *bus]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_reader_on_the_bus_that_a_real_daemon_has_no_driver_for(pcscd: PrivatePcscd, tmp_path: Path) -> None:
    interface = tmp_path / "sys/bus/usb/devices/1-1:1.0"
    interface.mkdir(parents=True)
    (interface / "bInterfaceClass").write_text("0b\n")
    done = without_readers(str(tmp_path))
    assert (done.status, done.lines[-1]["check"]) == (1, "driver"), done
    assert "a USB smart card reader is plugged in, and the driver for it is not installed" in done.lines[-1]["words"]


def test_a_daemon_that_is_frozen(pcscd: PrivatePcscd, scardface: Command) -> None:
    freeze(pcscd.pid)
    try:
        done = scardface("doctor", "--json")
    finally:
        os.kill(pcscd.pid, signal.SIGCONT)
    assert (done.status, done.lines[-1]["check"], done.err) == (1, "service", "")
    assert "is frozen" in done.lines[-1]["words"]


@pytest.mark.skipif(sys.platform != "linux", reason="pcsc-lite's protocol")
def test_a_service_of_another_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real library, in a process of its own."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as service:
        service.bind("s")
        service.listen()

        def serve() -> None:
            for _ in range(2):  # doctor's question, and the library's
                client, _ = service.accept()
                with client:
                    client.recv(100)
                    client.sendall(struct.pack("=iiI", 9, 9, 0x8010001E))

        threading.Thread(target=serve, daemon=True).start()
        with piped("doctor", "--json", env={**os.environ, "PCSCLITE_CSOCK_NAME": str(tmp_path / "s")}) as process:
            out, err = process.communicate(timeout=60)
    last = json.loads(out.splitlines()[-1])
    assert (process.returncode, err, last["check"], last["cure"]) == (1, "", "service", None)
    assert "the service 9.9" in last["words"]


@pytest.mark.slow
@pytest.mark.usefixtures("sound")
def test_a_card_that_polkit_forbids_and_a_reader_that_cannot_be_used(scardface: Command) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("Lecteur \xe9t\xe9")
        assert "'Lecteur \xe9t\xe9' cannot be used" in scardface("doctor", "--json").lines[-1]["words"]
        pcsc.add_reader("A")
        pcsc.insert("A", FileCard())
        pcsc.inject("SCardConnect", 0x8010006A, times=1000)
        lines = scardface("doctor", "--json").lines
    assert [line["check"] for line in lines if not line["ok"]] == ["reader", "opening"]
    assert "but not the card in 'A' (action org.debian.pcsc-lite.access_card)" in lines[-1]["words"]
    assert lines[-1]["cure"].endswith("50-scardface.rules")


LIBRARIES = """
import ctypes
ctypes.CDLL("libpcsclite.so.1")
print(*{line.split()[-1] for line in open("/proc/self/maps") if "pcsclite" in line})
"""


@pytest.mark.usefixtures("pcscd")  # it needs namespaces, too, and says so where there are none
def test_a_library_that_is_not_there(tmp_path: Path) -> None:
    """libpcsclite is hidden below a mount, in a namespace of the command's own."""
    unshare = ["unshare", "--mount"] if not os.geteuid() else ["unshare", "--user", "--map-root-user", "--mount"]
    nothing = tmp_path / "nothing"
    nothing.touch()
    libraries = subprocess.run([sys.executable, "-c", LIBRARIES], capture_output=True, text=True, check=True, timeout=30).stdout
    hide = " && ".join(f"mount --bind {nothing} {library}" for library in libraries.split())
    script = f"{hide} && exec {sys.executable} -m scardface doctor --json"
    done = subprocess.run([*unshare, "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert '"check": "library", "ok": false' in done.stdout
    assert len(done.stdout.splitlines()) == 1
