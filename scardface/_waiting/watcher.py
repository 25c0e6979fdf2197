"""The watcher: one thread and one context that wait for everything that PC/SC reports, and go on after every error.

Who owns what, who may call it from where, what ends it:

- The thread that `start` makes owns the context. Nobody else uses it except to cancel it (fact 5). That happens under the lock that
  also guards its release, in a short-lived thread that repeats the cancel until the wait is over (fact 1).
- `start`, `request_query`, `stop`, `resume` and `abandon` are the driver's; they never block.
- The thread ends after `stop`. If its status call does not return, the watcher is abandoned: nobody uses its context any more, and
  if the call does return, the thread releases the context and ends.

How it waits:

- Query all readers (list them, then a status call that returns at once), post the snapshot, block in one status call, post what
  that reports, and so on. What the blocked call reports is posted before the next query, so that nothing is lost between the two.
- Event counters are compared here, whatever the return code says (fact 10). After a time-out the sharing flags may be out of date
  (fact 11), so the next step is a query.
- A status call that names a reader which has vanished fails as a whole (facts 16, 17): list the readers again. Only the list tells
  that a reader is gone.
- A status call that comes back early without any news is followed by a short pause: Wine's forgets which states it was told
  (fact 82), so it never waits.
- If the service does not run, or fails in an unknown way, post that, release the context, and establish another after a pause that
  grows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from .._enums import StateFlag
from .._pcsc.backend import PNP_READER, Backend, Context, StatusChange, why_left_out
from .._pcsc.events import Reading, Snapshot, is_service_event
from .._pcsc.reader_states import READER_MAY_BE_GONE, reader_states, status_change, usable_readers
from .._threads import RLock, log_safely, spawn
from ..errors import CANCELLED, SCardError

logger = logging.getLogger("scardface.watch")

SLICE_MS = 6000
"""Milliseconds until a blocked status call is made anew, if a cancel was lost (fact 3). Each call costs an idle program 0.5 ms."""
OVERDUE_AFTER = 3.0
"""Seconds past its timeout after which a status call is given up: with pcscd 2.5.3 some never returned, cancelled or not."""
LIST_INTERVAL_MS = 1000
"""Milliseconds between two calls of SCardListReaders if no plug-and-play entry reports readers (fact 19)."""
NO_NEWS_PAUSE = 0.01
"""Seconds after a status call that came back early without any news."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
"""Seconds between two attempts to reach a service that does not run; no event reports that its socket is back."""
CANCEL_PAUSE, LONGEST_CANCEL_PAUSE = 0.0005, 0.05
"""Seconds until a cancel is repeated; for the figures see fact 1."""

_UNKNOWN = int(StateFlag.UNKNOWN)  # arithmetic with enumerations is slow, and this is done for each reader at each query


class Watcher:
    """Watches the readers of one PC/SC in a thread of its own, and posts snapshots.

    Args:
        backend: the PC/SC to watch.
        life: the number of the life of the service that earlier watchers of this PC/SC saw last (see the glossary).
    """

    def __init__(self, backend: Backend, life: int = 0) -> None:
        self._backend = backend
        self._lock = RLock()  # guards the next eight; held for assignments only
        self._query_wanted = 0
        self._groups: tuple[tuple[str, ...], ...] = ()
        self._stopping = False
        self._ended = False
        self._wait_over: threading.Event | None = None  # set when the present wait has ended
        self._waiting_in: Context | None = None  # the context of that wait; None: it waits for `_wait_over` itself
        self._overdue_at: float | None = None  # when to give that wait up (monotonic)
        self._cancelling: threading.Event | None = None  # the wait that a thread is cancelling
        self.canceller: threading.Thread | None = None
        """The thread that cancelled a wait last."""
        self.cancel_failed = False
        """Whether no thread could be started to cancel a wait: call `request_query` or `stop` again."""
        self._context_lock = RLock()  # held during a cancel, and during the release of the context
        self._context: Context | None = None
        self._last = Snapshot(0, life, None, MappingProxyType({}))
        self._unusable: set[str] = set()
        self._left_out: tuple[str, ...] = ()  # those of them that are plugged in
        self._window = 0
        self._post: Callable[[Snapshot | None], object]

    # For the driver.

    def start(self, post: Callable[[Snapshot | None], object]) -> threading.Thread:
        """Watch in a thread of its own.

        Args:
            post: called in that thread with each snapshot, and with None when the thread ends.

        Raises:
            SCardError: no thread can be started.
        """
        self._post = post
        return spawn("scardface-watch", self._run)

    def request_query(self, query_wanted: int, groups: tuple[tuple[str, ...], ...]) -> None:
        """Query the readers anew, unless the last snapshot has at least this number; ask for the readers of `groups` as well."""
        with self._lock:
            is_new = query_wanted > self._query_wanted
            self._query_wanted = max(query_wanted, self._query_wanted)
            self._groups = groups
        if is_new or self.cancel_failed:
            self._interrupt()

    def stop(self) -> None:
        """Let the thread end."""
        with self._lock:
            is_new = not self._stopping
            self._stopping = True
        if is_new or self.cancel_failed:
            self._interrupt()

    def resume(self) -> bool:
        """Undo a stop. False: too late, the thread has ended or is about to."""
        with self._lock:
            if not self._ended:
                self._stopping = False
            return not self._ended

    @property
    def goes_on(self) -> bool:
        """Whether nobody has told it to stop."""
        return not (self._stopping or self._ended)

    @property
    def overdue_at(self) -> float | None:
        """When (monotonic) to give up the present status call; None: there is none."""
        return self._overdue_at

    def abandon(self) -> None:
        """Leave the thread and its context to PC/SC, which does not return from a call."""
        with self._lock:
            self._stopping = self._ended = True
            wait_over, self._overdue_at = self._wait_over, None
        if wait_over is not None:
            wait_over.set()  # so that nobody cancels it any more

    def _interrupt(self) -> None:
        with self._lock:
            wait_over, context = self._wait_over, self._waiting_in
            self.cancel_failed = False
            if wait_over is None or wait_over is self._cancelling:
                return
            if context is None:
                wait_over.set()
                return
            try:
                self.canceller = spawn("scardface-cancel", self._cancel, context, wait_over)
                self._cancelling = wait_over
            except SCardError as error:  # the driver calls again, and each wait ends by itself after `SLICE_MS`
                log_safely(logger.warning, "the wait for PC/SC could not be cancelled yet: %s", error)
                self.cancel_failed = True

    def _cancel(self, context: Context, wait_over: threading.Event) -> None:
        pause = CANCEL_PAUSE
        while not wait_over.is_set():
            with self._context_lock:
                if self._context is context:
                    try:
                        context.cancel()
                    except Exception as error:  # its result proves nothing (fact 3); what counts is that the wait ends
                        log_safely(logger.debug, "SCardCancel: %r", error)
            wait_over.wait(pause)
            pause = min(2 * pause, LONGEST_CANCEL_PAUSE)

    # In the watcher's thread.

    def _run(self) -> None:
        try:
            self._watch_until_stopped()
        finally:
            with self._lock:
                self._ended = True
            self._post(None)

    def _watch_until_stopped(self) -> None:
        pause = FIRST_PAUSE
        while not self._has_to_stop():
            try:
                self._establish()
                pause = FIRST_PAUSE
                self._watch()
            except SCardError as error:
                self._post_error(error)
            except Exception as error:  # a mistake of the binding, which must not stop the watcher
                log_safely(logger.exception, "the watcher failed, and begins anew")
                self._post_error(SCardError(f"PC/SC could not be watched: {error!r}"))
            finally:
                self._release()
            if not self._stopping:
                self._pause(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _post_error(self, error: SCardError) -> None:
        if not self._stopping:
            last = self._last
            self._post_if_new(Snapshot(self._current_request()[0], last.life, error, last.readers, last.groups, self._left_out))

    def _has_to_stop(self) -> bool:
        with self._lock:
            self._ended = self._ended or self._stopping
            return self._ended

    def _establish(self) -> None:
        context = self._backend.establish()
        with self._context_lock:
            self._context = context

    def _release(self) -> None:
        with self._context_lock:
            context, self._context = self._context, None
            if context is not None:
                try:
                    context.release()
                except Exception as error:  # including errors of the backend itself: the context is given up in any case
                    log_safely(logger.debug, "at the release of the waiting context: %r", error)

    def _watch(self) -> None:
        """Query, block, query again, until stopped; raises the error that ends the context."""
        context = self._context
        assert context is not None
        life = self._last.life + 1
        pnp = self._plug_and_play(context)
        readings: dict[str, Reading] | None = None
        answered: object = None
        while not self._stopping:
            wanted = query_wanted, wanted_groups = self._current_request()
            if readings is None or wanted != answered or self._names(context) != list(readings):
                readings, answered = self._query(context), wanted
                groups = {names: frozenset(_list_group(context, names)) for names in wanted_groups}
                self._post_if_new(Snapshot(query_wanted, life, None, MappingProxyType(readings), groups, self._left_out))
            timeout, entries = self._entries(readings, pnp)
            change = self._wait_for_change(context, query_wanted, timeout, entries)
            if change is None:
                readings = None
                continue
            known = readings, pnp
            readings = dict(readings)
            for name, state, atr in change.entries:
                if name == PNP_READER:
                    pnp = state
                elif not state & _UNKNOWN:
                    reading = Reading.from_state(state, atr)
                    readings[name] = readings[name] if readings[name] == reading else reading
            if change.timed_out:  # the sharing flags may be out of date (fact 11)
                readings = None
            else:
                self._post_if_new(Snapshot(query_wanted, life, None, MappingProxyType(readings), groups, self._left_out))
                if (readings, pnp) == known:
                    self._pause(NO_NEWS_PAUSE)

    def _entries(self, readings: Mapping[str, Reading], pnp: int | None) -> tuple[int, list[tuple[str, int]]]:
        """The entries and the timeout of a status call: all readers and the list of readers, or as many as one call takes."""
        limit = self._backend.max_entries
        names = list(readings)
        if len(names) > limit:  # a window at a time; the queries in between cover all
            self._window = (self._window + limit) % len(names)
            names = (names + names)[self._window : self._window + limit]
            timeout = max(100, LIST_INTERVAL_MS * limit // len(readings))
        elif pnp is None or len(names) == limit:
            timeout = LIST_INTERVAL_MS
        else:
            timeout = SLICE_MS
        entries = [(name, readings[name].counter << 16 | readings[name].flags) for name in names]
        if timeout == SLICE_MS and pnp is not None:
            entries.insert(0, (PNP_READER, pnp))
        return timeout, entries

    def _plug_and_play(self, context: Context) -> int | None:
        """The state of the plug-and-play entry; None where it is not known (macOS; fact 19)."""
        try:
            state = status_change(context, 0, [(PNP_READER, StateFlag.UNAWARE)]).entries[0].state
        except SCardError as error:
            if error.code in READER_MAY_BE_GONE:
                return None
            raise
        return None if state & _UNKNOWN else state

    def _current_request(self) -> tuple[int, tuple[tuple[str, ...], ...]]:
        """The number of the query that is wanted, and the groups."""
        with self._lock:
            return self._query_wanted, self._groups

    def _names(self, context: Context) -> list[str]:
        """The readers that the binding can be asked about."""
        usable, left_out = usable_readers(self._backend, context.list_readers())
        for name in left_out:
            if name not in self._unusable:
                self._unusable.add(name)
                log_safely(logger.warning, "reader %r is left out: %s", name, why_left_out(name))
        self._unusable.intersection_update(left_out)
        self._left_out = left_out
        return usable

    def _query(self, context: Context) -> dict[str, Reading]:
        """The readings of all readers; unchanged ones are the same objects as before, so that `diff` is quick."""
        old = self._last.readers
        readings = reader_states(context, self._names(context), self._backend.max_entries)
        return {name: old[name] if old.get(name) == reading else reading for name, reading in readings.items()}

    def _post_if_new(self, snapshot: Snapshot) -> None:
        """Post `snapshot` if it says anything new, or answers a query that was wanted."""
        last, self._last = self._last, snapshot
        if (
            last.number != snapshot.number
            or last.life != snapshot.life
            or is_service_event(last.error, snapshot.error)
            or last.readers != snapshot.readers
            or last.groups != snapshot.groups
            or last.left_out != snapshot.left_out
        ):
            self._post(snapshot)

    def _wait_for_change(
        self, context: Context, query_wanted: int, timeout: int, entries: Sequence[tuple[str, int]]
    ) -> StatusChange | None:
        """Block in one status call. None: it was cancelled, or the list of readers changed."""
        if not entries:  # an empty status call returns at once (fact 15)
            self._pause(timeout / 1000)
            return None
        wait_over = threading.Event()
        if not self._begin_wait(wait_over, context, query_wanted, time.monotonic() + timeout / 1000 + OVERDUE_AFTER):
            return None
        try:
            return context.get_status_change(timeout, entries)
        except SCardError as error:
            if error.code == CANCELLED or error.code in READER_MAY_BE_GONE:
                return None
            raise
        finally:
            self._end_wait(wait_over)

    def _pause(self, seconds: float) -> None:
        """Wait without PC/SC, until somebody wants something."""
        wait_over = threading.Event()
        if self._begin_wait(wait_over, None, self._last.number):
            wait_over.wait(seconds)
            self._end_wait(wait_over)

    def _begin_wait(
        self, wait_over: threading.Event, context: Context | None, query_wanted: int, overdue_at: float | None = None
    ) -> bool:
        """Let the wait be cancelled from now on. False: somebody wants something already, so do not wait."""
        with self._lock:
            if self._stopping or self._query_wanted != query_wanted:
                return False
            self._wait_over, self._waiting_in, self._overdue_at = wait_over, context, overdue_at
            return True

    def _end_wait(self, wait_over: threading.Event) -> None:
        with self._lock:
            self._wait_over = self._overdue_at = None
        wait_over.set()


def _list_group(context: Context, groups: tuple[str, ...]) -> Sequence[str]:
    """The readers of `groups`; none if PC/SC does not know the groups."""
    try:
        return context.list_readers(groups)
    except SCardError as error:
        if error.code in READER_MAY_BE_GONE:
            return ()
        raise
