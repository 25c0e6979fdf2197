"""A PC/SC inside the process: no daemon, no libpcsclite, no hardware, on every platform.

Rules:

- Here are only the methods with which a test changes readers, cards and service. What PC/SC answers is decided in the modules
  `_simulated_*`; `tests/testing/test_conformance.py` compares their answers with those of a real pcscd.
- Deterministic: when a method returns, its effect is there and waiting calls have been woken. A real driver polls its readers every
  0.4 s; this one polls after every change, or only when it is told to.
- The end of the block raises errors that nothing else has raised: two threads in one context, then errors in cards' code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Literal, NoReturn, SupportsIndex

from .._pcsc.backend import Context
from .._pcsc.binding_choice import install, uninstall
from .._pcsc.no_copy import refuse_copy
from ..errors import NO_SERVICE
from ._dialects import DIALECTS
from ._main_thread import uninterruptible
from ._simulated_context import SimulatedContext
from ._simulated_reader import Controls, SimulatedReader
from ._simulated_service import CALLS, SimulatedService
from ._simulated_slot import CardSlot
from ._simulated_status import is_plug_and_play
from ._virtual_card import VirtualCard, raise_kept

__all__ = ["SimulatedPCSC"]


class SimulatedPCSC:
    """Simulates PC/SC, and puts virtual cards into its readers.

    ::

        with SimulatedPCSC() as pcsc:           # the process's PC/SC until the block ends
            pcsc.add_reader("Reader A")
            pcsc.insert("Reader A", FileCard())
            ...                                 # code under test, which says SCard(timeout=5) as ever
            pcsc.remove("Reader A")

    Blocks nest; the end of one brings back the PC/SC before. Without a block: `SCard(..., backend=pcsc)`, and `close` at the end.

    It does what pcscd does: status calls block, a cancel that comes too early is lost, insertions are counted, and transactions,
    resets and exclusive handles of others have their effects. Two things are easier here. Changes are reported at once; set
    `driver_polls` to False to let them wait for `poll`. And a card that nobody uses stays powered until the driver's second `poll`
    after its last user has left, where pcscd waits for 0.4 to 0.8 s.

    Two threads in one context freeze the whole process with the real PC/SC. Here the second thread gets an AssertionError, which is
    logged, and raised again at the end of the block.

    Methods may be called from any thread, and from a card's own code. A forked child has to make its own.
    """

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse_copy(self, protocol)

    def __init__(
        self,
        dialect: Literal["pcsclite", "pcsclite-1.9", "windows", "macos"] = "pcsclite",
        *,
        max_readers: int = 16,
        max_contexts: int = 200,
        latency: float | Mapping[str, float] = 0.0,
    ) -> None:
        """Make a PC/SC without readers. Its service runs, except on Windows, where it comes with the first reader.

        Args:
            dialect: whose PC/SC: "pcsclite" from 2.3 on; "pcsclite-1.9", whose plug-and-play entry does not count; "windows", whose
                service stops with the last reader; "macos", which has no plug-and-play entry and whose counters stay 0.
            max_readers: how many readers there can be, and entries in a status call.
            max_contexts: how many contexts there can be at a time.
            latency: seconds that each call of PC/SC takes, or seconds by name of call, e.g. {"SCardTransmit": 0.05}.

        Raises:
            ValueError: no such dialect or call.
        """
        if dialect not in DIALECTS:
            raise ValueError(f"dialect {dialect!r}: there are {', '.join(DIALECTS)}")
        self._service = SimulatedService(DIALECTS[dialect], max_readers, max_contexts)
        self._entered = False
        self.latency = latency

    # As a backend.

    @property
    def max_entries(self) -> int:
        """How many entries one status call takes."""
        return self._service.max_readers

    @property
    def absent_service_means_no_reader(self) -> bool:
        """Whether the service lives only while a reader is plugged in."""
        return self._service.dialect.needs_reader

    @property
    def release_disconnects(self) -> bool:
        """Whether users rely on a released context to disconnect its handles."""
        return self._service.dialect.release_disconnects

    @property
    def reconnect_ends_transaction(self) -> bool:
        """Whether SCardReconnect ends the handle's transaction."""
        return self._service.dialect.reconnect_ends_transaction

    @uninterruptible
    def establish(self) -> Context:
        """A new context, as SCardEstablishContext makes it."""
        call, service = "SCardEstablishContext", self._service
        service.raise_injected(call)
        with service.lock:
            if not service.running or len(service.contexts) >= service.max_contexts:
                raise service.error(NO_SERVICE, call)
            context = SimulatedContext(service)
            service.contexts.add(context)
            service.unreleased += 1
            return context

    # What a test can query.

    @property
    def readers(self) -> tuple[str, ...]:
        """The names of the readers, in PC/SC's order."""
        with self._service.lock:
            return tuple(reader.name for reader in self._service.readers())

    @property
    def cards(self) -> Mapping[str, VirtualCard]:
        """The cards that are in, by reader name, as of now."""
        with self._service.lock:
            return MappingProxyType({reader.name: reader.card for reader in self._service.readers() if reader.card is not None})

    @property
    def running(self) -> bool:
        """Whether the service runs just now."""
        return self._service.running

    @property
    def open_contexts(self) -> int:
        """How many contexts were established and not released since: 0 when the program under test has cleaned up."""
        return self._service.unreleased

    @property
    def calls(self) -> Mapping[str, int]:
        """How often each call of PC/SC was made, by name, as of now."""
        return MappingProxyType(self._service.calls())

    # Readers and cards.

    def add_reader(self, name: str, *, attributes: Mapping[int, bytes] | None = None, controls: Controls | None = None) -> None:
        """Plug a reader in.

        Args:
            name: its name, which PC/SC lists as it is.
            attributes: what SCardGetAttrib answers, by number; SCardSetAttrib can change these. None: it has none.
            controls: what SCardControl answers, e.g. a `PinPad`: `controls(code, data, transmit)` returns the answer, or None where
                it has no such control code; `transmit(command)` exchanges a command with the card in the reader. None: there is no
                control code.

        Raises:
            ValueError: not a possible name, or there is a reader of that name, or there are `max_readers`.
        """
        if not name or is_plug_and_play(name):
            raise ValueError(f"{name!r} is no name for a reader")
        with self._service.lock:
            if self._service.find(name) is not None:
                raise ValueError(f"there is a reader {name!r} already")
            if self._service.count() >= self._service.max_readers:
                raise ValueError(f"there are {self._service.max_readers} readers already, which is max_readers")
            self._service.plug(SimulatedReader(self._service, name, attributes, controls))

    def remove_reader(self, reader: int | str) -> None:
        """Unplug a reader; a card that is in it goes with it.

        Args:
            reader: index in `readers`, or name.

        Raises:
            ValueError: no such reader.
            Exception: the first that the card's code raised while it was in.
        """
        with self._service.lock:
            found = self._find(reader)
            card, found.card = found.card, None
            slots = self._service.unplug(found)
        _join(slots, [card] if card is not None else [])

    def insert(self, reader: int | str, card: VirtualCard) -> None:
        """Put a card into a reader; return once PC/SC reports it. Without a service, it is in when that starts.

        Args:
            reader: index in `readers`, or name.
            card: the card, which is in no other reader. Its `error` is cleared. Without an ATR it is mute.

        Raises:
            ValueError: no such reader, or the reader or the card is taken.
        """
        with self._service.lock:
            found = self._find(reader)
            if found.card is not None:
                raise ValueError(f"there is a card in {found.name!r} already")
            if any(other.card is card for other in self._service.readers()):
                raise ValueError("this card is in another reader")
            card.error = None
            found.insert_card(card)

    def remove(self, reader: int | str) -> VirtualCard:
        """Take the card out of a reader; return once PC/SC reports that. A command in flight ends at once.

        Args:
            reader: index in `readers`, or name.

        Returns:
            The card.

        Raises:
            ValueError: no such reader, or no card in it.
            Exception: the first that the card's code raised while it was in.
        """
        with self._service.lock:
            found = self._find(reader)
            card = found.card
            if card is None:
                raise ValueError(f"there is no card in {found.name!r}")
            slots = found.remove_card()
        _join(slots, [card])
        return card

    def _find(self, reader: int | str) -> SimulatedReader:
        readers = self._service.readers()
        if isinstance(reader, str):
            found = self._service.find(reader)
            if found is None:
                raise ValueError(f"no reader {reader!r}; there are {', '.join(one.name for one in readers) or 'none'}")
            return found
        if not 0 <= reader < len(readers):
            raise ValueError(f"no reader {reader}; there are {len(readers)}")
        return readers[reader]

    # The service.

    def stop_service(self) -> None:
        """Stop the service, as a service manager does. Calls that wait answer COMM_ERROR, all later ones on the contexts of now
        NO_SERVICE, also when it runs again (fact 22). Cards stay in, without power. Does nothing if it does not run.
        """
        with self._service.lock:
            self._service.started = False
            slots = self._service.stop()
        _join(slots, [])

    def start_service(self) -> None:
        """Start the service again: all counters are 0, also of readers with a card in (fact 10). On Windows it comes with a reader.

        Raises:
            RuntimeError: the simulation was closed.
        """
        with self._service.lock:
            if self._service.closed:
                raise RuntimeError("this simulation was closed; make another one")
            self._service.started = True
            self._service.run_if_due()

    # The driver.

    @property
    def driver_polls(self) -> bool:
        """Whether drivers poll after every change (True at first). False: as between two polls of a real driver, nothing is
        reported until `poll`, neither that a card was inserted or removed, nor to waiting calls that a card was opened or closed
        (facts 12, 13, 28).
        """
        return self._service.driver_polls

    @driver_polls.setter
    def driver_polls(self, polls: bool) -> None:
        with self._service.lock:
            self._service.driver_polls = polls
            for reader in self._service.readers():
                reader.poll_if_automatic()

    def poll(self) -> None:
        """Have the drivers poll their readers, then switch off cards that have not been used since the poll before the last."""
        with self._service.lock:
            for reader in self._service.readers():
                reader.run_cycle()

    # Failures.

    @property
    def latency(self) -> float | Mapping[str, float]:
        """Seconds that each call of PC/SC takes, or seconds by name of call."""
        return self._service.latency

    @latency.setter
    def latency(self, latency: float | Mapping[str, float]) -> None:
        if isinstance(latency, Mapping):
            for call in latency:
                _check_call(call)
        self._service.latency = latency

    def inject(self, call: str, code: int, times: int = 1) -> None:
        """Have the next calls of one name fail, from whatever thread, without any effect. Injected codes queue up.

        Args:
            call: PC/SC's name of the call ("SCardTransmit").
            code: the code to answer, signed or unsigned. A status call does not fail with SCARD_E_TIMEOUT, but does not wait then;
                SCardCancel, whose result nobody checks, is lost.
            times: how many calls.

        Raises:
            ValueError: no such call, no failure, or no times.
        """
        _check_call(call)
        if not code & 0xFFFFFFFF:
            raise ValueError("SCARD_S_SUCCESS cannot be injected: it is no failure")
        if times < 1:
            raise ValueError(f"times is {times}, and must be at least 1")
        self._service.inject(call, code & 0xFFFFFFFF, times)

    # The end.

    def close(self) -> None:
        """Stop the service for good, and take all cards out. Does nothing the second time.

        Raises:
            AssertionError: two threads were in one context.
            Exception: the first that a card's code raised.
        """
        with self._service.lock:
            self._service.closed = True
            self._service.started = False
            slots = self._service.stop()
            cards = [reader.card for reader in self._service.readers() if reader.card is not None]
            for reader in self._service.readers():
                reader.card = None
            misuses, self._service.misuses = self._service.misuses, []
        self._service.call_threads.close()
        if misuses:
            with contextlib.suppress(Exception):
                _join(slots, cards)
            raise misuses[0]
        _join(slots, cards)

    def __enter__(self) -> SimulatedPCSC:
        if self._entered:
            raise RuntimeError("a simulation is entered once; make another one")
        self._entered = True
        install(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Bring back the PC/SC before, and `close`. Raises what that raises, unless the block itself failed."""
        uninstall(self)
        with contextlib.suppress(Exception) if kind is not None else contextlib.nullcontext():
            self.close()


def _join(slots: Iterable[CardSlot], cards: Iterable[VirtualCard]) -> None:
    """Wait a moment for the threads of cards that are out; then raise the first exception that one of `cards` kept."""
    for slot in slots:
        slot.join()
    raise_kept(*cards)


def _check_call(call: str) -> None:
    if call not in CALLS:
        raise ValueError(f"{call!r} is no call of PC/SC; there are {', '.join(sorted(CALLS))}")
