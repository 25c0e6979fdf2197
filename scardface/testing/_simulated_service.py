"""The service of the simulated PC/SC: what pcscd is for its clients. Its readers, its contexts, its stops and starts.

Rules:

- One lock guards all state of the service. It is held for dictionary work only: card code and latencies run without it, and waits
  use a condition of this lock.
- A wait ends by the event, by its own time-out, or when the service stops; nothing is polled.
- `life` tells one run of the service from the next: what was established in an earlier one is lost.
- `mark_changed` records that a reader's state changed; `wake_calls` lets the waiting status calls evaluate what changed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from .._threads import RLock, generation
from ..errors import SCardError, error_for
from ._dialects import Dialect
from ._main_thread import CallThreads
from ._simulated_reader import SimulatedReader
from ._simulated_slot import CardSlot
from ._simulated_status import Wait

logger = logging.getLogger("scardface.testing")

CALLS = frozenset(
    {
        "SCardBeginTransaction",
        "SCardCancel",
        "SCardConnect",
        "SCardControl",
        "SCardDisconnect",
        "SCardEndTransaction",
        "SCardEstablishContext",
        "SCardGetAttrib",
        "SCardGetStatusChange",
        "SCardListReaderGroups",
        "SCardListReaders",
        "SCardReconnect",
        "SCardReleaseContext",
        "SCardSetAttrib",
        "SCardStatus",
        "SCardTransmit",
    }
)
"""The calls of PC/SC that there are, by the names that latencies and injected codes go by."""


class SimulatedService:
    """See the head of this module. Attributes are guarded by `lock`, unless they say otherwise.

    Args:
        max_readers: readers, and entries of a status call.
        max_contexts: contexts, all of them together.
    """

    def __init__(self, dialect: Dialect, max_readers: int, max_contexts: int) -> None:
        self.dialect = dialect
        self.max_readers = max_readers
        self.max_contexts = max_contexts
        self.latency: float | Mapping[str, float] = 0.0
        """Seconds that each call takes before anything else, or seconds by name of call."""
        self.driver_polls = True
        self.lock = RLock()
        self.started = True
        """Whether it was not told to stop."""
        self.closed = False
        """Whether it was told to stop for ever."""
        self.running = not dialect.needs_reader
        self.life = 1
        self.list_changes = (
            1  # as if pcscd had counted its own start, so that a list that was empty from the start can be waited for
        )
        self.contexts: set[object] = set()
        """Those of this life."""
        self.unreleased = 0
        """Contexts of any life that their owners have not released."""
        self.misuses: list[AssertionError] = []
        """What `report_misuse` kept; appended to without the lock."""
        self.generation = generation()
        self.call_threads = CallThreads()
        self._slots: list[SimulatedReader | None] = []
        self._readers: dict[str, SimulatedReader] = {}
        self._calls_lock = RLock()  # for the next two alone: every call takes it, and most take the other lock as well
        self._calls: Counter[str] = Counter()
        self._injected: dict[str, deque[int]] = {}
        self._waits: dict[Wait, None] = {}
        self._changed: set[str] = set()

    # The list of readers.

    def find(self, name: str) -> SimulatedReader | None:
        """The reader of that name."""
        return self._readers.get(name)

    def count(self) -> int:
        """How many readers there are."""
        return len(self._readers)

    def readers(self) -> list[SimulatedReader]:
        """All readers, in the order of their places."""
        return [reader for reader in self._slots if reader is not None]

    def plug(self, reader: SimulatedReader) -> None:
        """Plug a reader in. As in pcscd, the list has places, and a new reader takes the first free one."""
        if None in self._slots:
            self._slots[self._slots.index(None)] = reader
        else:
            self._slots.append(reader)
        self._readers[reader.name] = reader
        self._list_changed(reader)
        self.run_if_due()

    def unplug(self, reader: SimulatedReader) -> list[CardSlot]:
        """Unplug a reader, with the card in it. Returns the slots to be joined."""
        reader.unplugged = True
        self._slots[self._slots.index(reader)] = None
        del self._readers[reader.name]
        slots = reader.service_stopped()
        return slots + self._list_changed(reader)

    def _list_changed(self, reader: SimulatedReader) -> list[CardSlot]:
        self.list_changes = self.list_changes % 0xFFFF + 1
        self.mark_changed(reader)
        if self.running and self._is_due():
            self.wake_calls()
            return []
        return self.stop()

    # Life.

    def _is_due(self) -> bool:
        return self.started and bool(self._readers or not self.dialect.needs_reader)

    def run_if_due(self) -> None:
        """Begin a life if the service was started, and has a reader if it needs one."""
        if not self.running and self._is_due():
            self.running = True
            for reader in self.readers():
                reader.service_started()

    def stop(self) -> list[CardSlot]:
        """End this life, and all waits in it. Returns the slots to be joined."""
        if not self.running:
            return []
        self.running = False
        self.life += 1
        self.contexts.clear()
        slots = [slot for reader in self.readers() for slot in reader.service_stopped()]
        for wait in list(self._waits):
            wait.end(self.dialect.wait_lost)
        return slots

    # Changes.

    def mark_changed(self, reader: SimulatedReader) -> None:
        """The reader's state changed; waiting status calls see that at the next `wake_calls`."""
        self._changed.add(reader.name)

    def wake_calls(self) -> None:
        """Let the waiting status calls evaluate what changed."""
        changed, self._changed = self._changed, set()
        for wait in list(self._waits):
            wait.evaluate_readers(changed)

    @contextmanager
    def waiting(self, wait: Wait) -> Iterator[None]:
        """Let `wake_calls` reach `wait`."""
        self._waits[wait] = None
        try:
            yield
        finally:
            del self._waits[wait]

    # Calls.

    def calls(self) -> dict[str, int]:
        """How often each was made."""
        with self._calls_lock:
            return dict(self._calls)

    def inject(self, call: str, code: int, times: int) -> None:
        """See `SimulatedPCSC.inject`."""
        with self._calls_lock:
            self._injected.setdefault(call, deque()).extend([code] * times)

    def begin_call(self, call: str) -> int:
        """Begin a call: wait for its latency, and count it.

        Returns:
            The code to answer instead of doing anything; 0: none.
        """
        if self.generation != generation():
            raise RuntimeError("this SimulatedPCSC was made before a fork and belongs to the parent process; make another one here")
        seconds = self.latency.get(call, 0.0) if isinstance(self.latency, Mapping) else self.latency
        if seconds > 0:
            time.sleep(seconds)
        with self._calls_lock:
            self._calls[call] += 1
            codes = self._injected.get(call)
            return codes.popleft() if codes else 0

    def raise_injected(self, call: str, reader: str = "") -> None:
        """`begin_call`, where the injected code becomes an error like any other."""
        code = self.begin_call(call)
        if code:
            raise self.error(code, call, reader)

    def error(self, code: int, call: str, reader: str = "") -> SCardError:
        """The error that `code` means on the platform of this dialect."""
        return error_for(code, call, reader, self.dialect.platform)

    def report_misuse(self, message: str) -> AssertionError:
        """Keep and log a mistake of the program under test; returns it to be raised there."""
        error = AssertionError(message)
        logger.error("%s", message)
        self.misuses.append(error)
        return error
