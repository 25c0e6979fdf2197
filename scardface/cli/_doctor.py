"""`scardface doctor`: finds out why PC/SC does not work, and how to repair it.

Rules:

- Facts are gathered first, then checked: a check is a pure function of the facts.
- Checks are in the order of dependencies; the first one with a finding is the last one made, since the following could not succeed.
  A check of single readers reports all of them.
- A finding says in one sentence what is wrong, with the command that repairs it if there is one. Nothing is repaired by the doctor.
- Inserted cards are opened for a moment, shared, and left as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import click

from .. import CardTimeoutError, ReaderState, SCardError, ServiceUnavailableError
from ..backend import Binding, BindingError, Ctypes, binding, takes_reader_name, why_left_out
from ..sync import SCard, ShareMode, cancellable, states
from ..sync import readers as listed_readers
from . import _cures
from ._failures import E_TIMEOUT, OK, REFUSED
from ._log import logging_to
from ._machine import Machine, inspect_machine
from ._option_names import in_options
from ._options import common
from ._output import console, print_json, print_line
from ._which_reader import PATIENCE, is_usable

NO_SERVICE = 0x8010001D
"""SCARD_E_NO_SERVICE."""
SECURITY_VIOLATION = 0x8010006A
"""SCARD_W_SECURITY_VIOLATION."""
REFUSALS = (SECURITY_VIOLATION, 5)
"""Codes by which a service says that it refuses; 5 is Windows' ERROR_ACCESS_DENIED."""
MAX_CONTEXTS = 200
"""Contexts that pcscd has for all programs together, unless it was told otherwise (fact 8)."""
HELD = "held by another program"
"""A part of the library's warning about that."""
OPENING, SILENT = 5.0, 1.0
"""Seconds that opening an inserted card may take, and those that are left to a service that has failed to answer already."""


@dataclass(frozen=True)
class Trial:
    """The result of opening a card.

    Attributes:
        error: why it did not open; None if it did.
        held: what the library says of other programs, if one of them holds it; else nothing.
    """

    error: SCardError | None = None
    held: str = ""


@dataclass(frozen=True)
class Facts:
    """All that the checks use.

    Attributes:
        machine: what the machine has.
        error: why PC/SC does not answer; None if it does.
        readers: state by name, of those that can be used.
        trials: by name of those readers that have a card.
        unusable: the names of those that cannot, since the binding does not take them.
        binding: the binding in use and why, or the error of the one that was chosen; None: not known.
    """

    machine: Machine = field(default_factory=Machine)
    error: SCardError | None = None
    readers: Mapping[str, ReaderState] = field(default_factory=dict)
    trials: Mapping[str, Trial] = field(default_factory=dict)
    unusable: tuple[str, ...] = ()
    binding: Binding | BindingError | None = None


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        message: what, in one sentence.
        cure: the command that mends it; None: there is none to be typed.
        ends: whether the following checks could not succeed.
    """

    message: str
    cure: str | None = None
    ends: bool = True


Check = Callable[[Facts], Iterable[Finding]]


def binding_is_missing(facts: Facts) -> Iterator[Finding]:
    """The binding that was chosen is not there."""
    if isinstance(facts.binding, BindingError):
        yield Finding(str(facts.binding))


def library_is_missing(facts: Facts) -> Iterator[Finding]:
    """The platform's library (libpcsclite on Linux) cannot be loaded, so no call reaches any service."""
    if facts.error is not None and facts.machine.has_library is False:
        yield Finding("the library libpcsclite is not installed", _cures.install(facts.machine, "library"))
    elif facts.error is not None and facts.machine.has_library is None and _is_of_the_loader(facts.error.__cause__):
        yield Finding(str(facts.error))


def _is_of_the_loader(cause: BaseException | None) -> bool:
    """Whether the ctypes binding could not load the library, or lacks a function in it."""
    return isinstance(cause, (OSError, AttributeError)) and not isinstance(cause, SCardError)


def service_is_not_running(facts: Facts) -> Iterator[Finding]:
    """Nothing listens at the service's socket, or it has another protocol version."""
    machine = facts.machine
    if facts.error is None or machine.socket in ("closes", "forbidden"):
        return
    if machine.socket == "silent" or facts.error.code == E_TIMEOUT:
        yield _silence(machine)
    elif machine.socket == "other version":
        versions = f"the library here speaks version {machine.library_version} of it, the service {machine.service_version}"
        where = "the library in this container or Flatpak" if machine.in_container else "one of the two, perhaps built by hand,"
        message = f"library and service are of releases of pcsc-lite that do not understand each other's protocol: {versions}"
        yield Finding(f"{message}; {where} has to be replaced by one of the other's release")
    elif machine.socket == "answers" or (machine.platform != "linux" and facts.error.code in REFUSALS):
        return
    elif machine.has_service is False and machine.in_container:
        message = "the PC/SC service, pcscd, is not installed in this container, nor is the host's /run/pcscd mounted into it"
        yield Finding(message, _cures.install(machine, "service"))
    elif machine.has_service is False:
        yield Finding("the PC/SC service, pcscd, is not installed", _cures.install(machine, "service"))
    else:
        yield Finding("the PC/SC service is not running", _cures.start_service(machine))


def _silence(machine: Machine) -> Finding:
    if machine.frozen:
        message = (
            f"the PC/SC service is frozen: a signal has stopped its process, pcscd (pid {machine.frozen}), so it does not answer"
        )
        return Finding(message, _cures.resume_service(machine))
    return Finding("the PC/SC service does not answer: it hangs", _cures.restart_service(machine))


def access_is_refused(facts: Facts) -> Iterator[Finding]:
    """The service runs and does not let this program in."""
    machine = facts.machine
    if facts.error is None:
        return
    refuses = "the PC/SC service refuses this program"
    if machine.socket == "forbidden":
        yield Finding("the file permissions of the PC/SC service's socket keep this user out", _cures.restart_service(machine))
    elif machine.contexts is not None and machine.contexts >= MAX_CONTEXTS:
        message = f"{refuses}: programs have {machine.contexts} connections to it, and it takes no more; end some of them"
        yield Finding(message, _cures.restart_service(machine))
    elif machine.platform in ("win32", "darwin"):
        yield Finding(str(facts.error))
    elif machine.has_polkit and machine.polkit_runs is False:
        message = "the PC/SC service asks polkit who may use it, and polkit does not run here, so that it refuses everybody"
        yield Finding(message, _cures.do_without_polkit(machine))
    elif machine.has_polkit:
        who = f"polkit's rules do not let {machine.user} use PC/SC from this session (a remote one, or a service's)"
        yield Finding(f"{refuses}: most likely {who}", _cures.allow(machine))
    elif machine.has_service is False:
        message = (
            f"{refuses}: it is not of this system, but the host's of this container; most likely polkit's rules there keep it out"
        )
        yield Finding(f"{message}, and a rule there for the actions org.debian.pcsc-lite.* would let it in")
    else:
        limit = "it runs already with as many programs as it can have, or it is about to end"
        yield Finding(f"{refuses}: {limit}", _cures.restart_service(machine))


def driver_is_missing(facts: Facts) -> Iterator[Finding]:
    """There is a reader on the bus, and the service does not see it."""
    machine = facts.machine
    if facts.readers or facts.unusable or not machine.usb:
        return
    for reader in machine.usb:
        if reader.kernel_driver:
            message = f"{reader.name} is taken by the kernel's driver {reader.kernel_driver}, so the PC/SC service cannot have it"
            yield Finding(message, _cures.release(machine, reader.kernel_driver))
        elif machine.has_driver is False:
            yield Finding(f"{reader.name} is plugged in, and the driver for it is not installed", _cures.install(machine, "driver"))
        else:
            message = f"{reader.name} is plugged in, and the PC/SC service does not see it; it may need a driver of its maker's"
            yield Finding(message, _cures.restart_service(machine))


def no_reader(facts: Facts) -> Iterator[Finding]:
    """There is no reader at all, or one that cannot be used."""
    for name in facts.unusable:
        message = f"the reader {name!r} cannot be used: {why_left_out(name)}"
        takes_more = isinstance(facts.binding, Binding) and facts.binding.name == "pyscard" and takes_reader_name(Ctypes(), name)
        cure = "export SCARDFACE_BINDING=ctypes" if takes_more and facts.machine.platform != "win32" else None
        yield Finding(f"{message}; give it another name, or use another reader", cure, ends=not facts.readers)
    if not facts.readers and not facts.unusable:
        yield Finding("no reader is plugged in, or it is switched off: plug it in, directly rather than through a hub")


def no_card(facts: Facts) -> Iterator[Finding]:
    """No reader has a card in it."""
    if not any(state.present for state in facts.readers.values()):
        count = len(facts.readers)
        which = f"the reader {next(iter(facts.readers))!r} has" if count == 1 else f"the {count} readers have"
        yield Finding(f"{which} no card in: put one in, or lay it on, as far as it goes")


def card_is_mute(facts: Facts) -> Iterator[Finding]:
    """A card does not answer the reset."""
    for name, state in facts.readers.items():
        if state.mute:
            yield Finding(
                f"the card in {name!r} does not answer: put it in the other way round, clean its contacts, or try another reader"
            )


def card_is_held(facts: Facts) -> Iterator[Finding]:
    """Another program has a card for itself."""
    for name, trial in facts.trials.items():
        if trial.held:
            yield Finding(trial.held, _cures.end_holder(trial.held))
        elif isinstance(trial.error, CardTimeoutError) and facts.readers[name].in_use:
            yield Finding(f"the card in {name!r} is in use by another program, which does not let it go")


def card_does_not_open(facts: Facts) -> Iterator[Finding]:
    """A card cannot be opened for another reason."""
    for name, trial in facts.trials.items():
        if trial.error is not None and facts.machine.platform == "linux" and _is_forbidden(trial.error):
            who = f"polkit's rules let {facts.machine.user} use PC/SC, but not the card in {name!r}"
            yield Finding(f"{who} (action org.debian.pcsc-lite.access_card)", _cures.allow(facts.machine))
        elif trial.error is not None:
            yield Finding(f"the card in {name!r} could not be opened: {trial.error}")


def _is_forbidden(error: BaseException | None) -> bool:
    """Whether an error is, or was caused by, the service's refusal."""
    while error is not None:
        if getattr(error, "code", 0) == SECURITY_VIOLATION or f"0x{SECURITY_VIOLATION:08X}" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


CHECKS: Mapping[str, Check] = {
    "library": library_is_missing,
    "binding": binding_is_missing,
    "service": service_is_not_running,
    "permission": access_is_refused,
    "driver": driver_is_missing,
    "reader": no_reader,
    "card": no_card,
    "answer": card_is_mute,
    "holder": card_is_held,
    "opening": card_does_not_open,
}
"""In the order in which they are made."""

PASSED = {
    "library": "the PC/SC library is there",
    "binding": "the binding to PC/SC is there",
    "service": "the PC/SC service runs",
    "permission": "it lets this program in",
    "driver": "it sees the readers that are plugged in",
    "reader": "there is a reader",
    "card": "there is a card in it",
    "answer": "the card answers",
    "holder": "no other program keeps it",
    "opening": "it can be opened",
}


def fine(name: str, facts: Facts) -> str:
    """What is said of a check that found nothing."""
    if name == "binding" and isinstance(facts.binding, Binding):
        return f"{PASSED[name]}: {facts.binding.name}, since {facts.binding.why}"
    return PASSED[name]


def judge(facts: Facts) -> Iterator[tuple[str, list[Finding]]]:
    """The checks with what they found, up to the first that found something."""
    for name, check in CHECKS.items():
        findings = list(check(facts))
        yield name, findings
        if any(finding.ends for finding in findings):
            return


def gather(machine: Machine) -> Facts:
    """Query PC/SC, and open each card for a moment."""
    if machine.has_library is False:  # to import pyscard would print a complaint of its on standard output
        return Facts(machine, ServiceUnavailableError("the library libpcsclite cannot be loaded", NO_SERVICE))
    try:
        used = binding()
    except BindingError as error:
        return Facts(machine, binding=error)
    patience = PATIENCE if machine.socket != "silent" else SILENT
    try:
        names = listed_readers(timeout=patience)
        readers = states(timeout=patience)
    except ServiceUnavailableError as error:
        return Facts(machine, error, binding=used)
    trials = {name: _try(name) for name, state in readers.items() if state.present and not state.mute}
    return Facts(machine, None, readers, trials, tuple(name for name in names if not is_usable(name)), used)


def _try(reader: str) -> Trial:
    held: list[str] = []
    with cancellable() as scope:

        def see(message: str) -> None:
            if repr(reader) in message and HELD in message:
                held.append(message)
                scope.cancel()  # it is known what is wrong

        with _warnings(see):
            try:
                with SCard(reader, timeout=OPENING, share=ShareMode.SHARED):
                    return Trial()
            except SCardError as error:
                return Trial(error, held[0] if held else "")


@contextmanager
def _warnings(see: Callable[[str], None]) -> Iterator[None]:
    """Within the block `see` is called with the library's warnings: that another program holds a card, and which it may be."""
    handler = logging.Handler()
    handler.emit = lambda record: see(record.getMessage())  # type: ignore[method-assign]  # a class for one line
    logger = logging.getLogger("scardface")
    before = logger.propagate
    logger.propagate = False
    try:
        with logging_to(handler, logging.WARNING):
            yield
    finally:
        logger.propagate = before


@click.command()
@common
def doctor(as_json: bool) -> int:
    """Find out why it does not work, and say what mends it.

    Looks at the library, its binding, the service, permissions, drivers, readers and cards, in this order, up to the first that is
    wrong. Cards that are in are opened for a moment, shared, and left as they are.
    """
    screen = console()
    status = OK
    facts = gather(inspect_machine())
    for name, findings in judge(facts):
        if findings:
            status = REFUSED
        for finding in findings:
            text = in_options(finding.message)
            if as_json:
                print_json(check=name, ok=False, words=text, cure=finding.cure)
                continue
            print_line(screen, f"wrong  {text}", "red")
            if finding.cure is not None:
                print_line(screen, f"       to mend it, run: {finding.cure}", "bold")
        if not findings and as_json:
            print_json(check=name, ok=True, words=fine(name, facts), cure=None)
        elif not findings:
            print_line(screen, f"ok     {fine(name, facts)}", "green")
    return status
