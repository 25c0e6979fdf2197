"""scardface.testing.conformance: each backend of the package passes it, and broken ones do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from scardface import CardResetError, Disposition, NoCardError, Protocol, ShareMode, SharingViolationError
from scardface.backend import Context, Ctypes, Pyscard, StatusChange, StatusEntry
from scardface.errors import SCardError
from scardface.testing import PrivatePcscd, SimulatedPCSC, VirtualCard, conformance
from scardface.testing.conformance import BackendConformance


class Echo(VirtualCard):
    """A card that answers what it was asked."""

    atr = bytes.fromhex("3b80800101")

    def process(self, command: bytes) -> bytes:
        return command + b"\x90\x00"


class Virtual(BackendConformance):
    """With the card of this module."""

    atr = Echo.atr
    command = bytes.fromhex("00a4000000")
    answer = command + b"\x90\x00"
    machine: Any

    def insert(self) -> None:
        self.machine.insert(self.reader, Echo())

    def remove(self) -> None:
        self.machine.remove(self.reader)


class TestSimulation(Virtual):
    def setup_method(self) -> None:
        self.backend = self.machine = SimulatedPCSC()
        self.reader = "Virtual Reader"
        self.machine.add_reader(self.reader)
        super().setup_method()

    def teardown_method(self) -> None:
        super().teardown_method()
        assert not self.machine.open_contexts
        self.machine.close()


@pytest.fixture(scope="class")
def machine(request: pytest.FixtureRequest, _daemon: PrivatePcscd) -> Iterator[None]:
    """The pcscd of this test run."""
    if not _daemon.running:
        _daemon.start()
    _daemon.remove_all()
    request.cls.machine, request.cls.reader = _daemon, _daemon.readers[0]
    request.cls.backend = request.cls.choose()
    yield
    _daemon.remove_all()


@pytest.mark.usefixtures("machine")
class TestPyscard(Virtual):
    choose = staticmethod(Pyscard)


@pytest.mark.usefixtures("machine")
class TestCtypes(Virtual):
    choose = staticmethod(Ctypes)


# A test that cannot fail is none: each of these breaks one promise, and is found out.


class Wrapped:
    """An object whose methods go to another one, but for those that a subclass has."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class ListsOfNumbers(Wrapped):
    def transmit(self, data: bytes) -> Any:
        return [*self.inner.transmit(data)]


class Forgives(Wrapped):
    def transmit(self, data: bytes) -> bytes:
        try:
            return self.inner.transmit(data)  # type: ignore[no-any-return]
        except CardResetError:
            self.inner.reconnect(ShareMode.SHARED, Protocol.T0 | Protocol.T1, Disposition.LEAVE)
            return self.inner.transmit(data)  # type: ignore[no-any-return]


class NoTransactions(Wrapped):
    def begin_transaction(self) -> None:
        pass

    def end_transaction(self, disposition: Disposition) -> None:
        pass


class WrappedContext(Wrapped):
    handle: Any = Wrapped

    def connect(self, *arguments: Any) -> Any:
        return self.handle(self.inner.connect(*arguments))


class NoTimeOuts(WrappedContext):
    def get_status_change(self, timeout: int, entries: Sequence[tuple[str, int]]) -> StatusChange:
        return self.inner.get_status_change(timeout, entries)._replace(timed_out=False)  # type: ignore[no-any-return]


class SignedStates(WrappedContext):
    def get_status_change(self, timeout: int, entries: Sequence[tuple[str, int]]) -> StatusChange:
        change = self.inner.get_status_change(timeout, entries)
        return StatusChange(change.timed_out, [StatusEntry(each.reader, each.state - 2**32, each.atr) for each in change.entries])


class ListsOfNames(WrappedContext):
    def list_readers(self, groups: Sequence[str] | None = None) -> Any:
        return [*self.inner.list_readers(groups)]


class Uncancellable(WrappedContext):
    def cancel(self) -> None:
        pass


class CancelsAll(WrappedContext):
    everyone: list[Context] = []  # noqa: RUF012

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.everyone.append(inner)

    def cancel(self) -> None:
        for each in self.everyone:
            each.cancel()


class OwnErrors(WrappedContext):
    def connect(self, *arguments: Any) -> Any:
        try:
            return super().connect(*arguments)
        except (NoCardError, SharingViolationError) as error:
            raise RuntimeError(str(error)) from error


def handles(kind: Any) -> Any:
    """A context whose handles are of a kind."""
    return type("Handles", (WrappedContext,), {"handle": kind})


BROKEN: dict[str, Any] = {
    "lists of numbers": handles(ListsOfNumbers),
    "a reset that nobody hears of": handles(Forgives),
    "no transactions": handles(NoTransactions),
    "no time-outs": NoTimeOuts,
    "signed states": SignedStates,
    "lists of names": ListsOfNames,
    "no cancel": Uncancellable,
    "a cancel of all": CancelsAll,
    "errors of its own": OwnErrors,
}


def failures(context: Any) -> list[str]:
    """The tests that a simulation fails whose contexts are wrapped so."""

    class Suite(TestSimulation):
        def setup_method(self) -> None:
            pcsc = SimulatedPCSC()
            pcsc.add_reader("Virtual Reader")
            self.machine, self.reader = pcsc, "Virtual Reader"
            self.backend = type("Backend", (Wrapped,), {"establish": lambda self: context(self.inner.establish())})(pcsc)
            BackendConformance.setup_method(self)

    failed = []
    for name in dir(Suite):
        if name.startswith("test_"):
            suite = Suite()
            try:
                suite.setup_method()
                getattr(suite, name)()
            except (AssertionError, SCardError, RuntimeError):
                failed.append(name)
            finally:
                for each in suite._contexts:
                    each.cancel()
                suite.machine.close()
    return failed


def test_one_that_is_whole_fails_nothing() -> None:
    assert failures(WrappedContext) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_found_out(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "PATIENCE", 1.0)
    monkeypatch.setattr(conformance, "_LONG_MS", 1000)
    assert failures(BROKEN[kind])
