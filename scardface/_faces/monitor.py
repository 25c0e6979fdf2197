"""The async face of the monitor: every change of readers and cards, as events.

Who owns what, who may call it from where, what ends it:

- A monitor belongs to the event loop that entered it, and has one consumer. The driver fills its queue.
- Leaving the block ends it: a consumer that still waits gets the end of the iteration.
- It never dies of PC/SC: a service that goes is an event, and so is its return.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import NoReturn, SupportsIndex

from .._pcsc.backend import Backend
from .._pcsc.binding_choice import backend_or_default
from .._pcsc.events import Event, ReaderState
from .._pcsc.no_copy import refuse_copy
from .._session.card_request import Groups, Names, ReaderFilter
from .._threads import Loop, Wakeup, generation
from .._waiting.driver import Driver, driver_of, until_idle
from .._waiting.event_queue import EventQueue
from .._waiting.messages import Subscribed, Unsubscribed


class ReaderMonitor:
    """Events of readers and cards, initial state first.

    `async with ReaderMonitor() as monitor:` enters once the initial state is queued: a `ReaderAdded` for each reader, a
    `CardInserted` for each card, `initial=True`; without a service `ServiceDown(initial=True)`. Then `async for event in monitor`
    yields every change that PC/SC reports, once, in order. A card that is swapped unseen between two looks is one `CardRemoved`
    and one `CardInserted`. A mute card has an empty ATR. When the service goes the monitor yields `ServiceDown`, reconnects, yields
    `ServiceUp` and what changed; cards that stayed in are removed and inserted, since their sessions are lost. A consumer that
    falls 10,000 events behind gets `EventsLost` and the state afresh.

    Args:
        readers: exact names of readers to tell of, a str or an iterable of str; a compiled str pattern is searched in the name.
            None: all.
        groups: reader groups, a str or an iterable of str. None: no group is passed.
        backend: the PC/SC to watch; None: the default one when the monitor is entered.

    Raises:
        TypeError: an argument of a wrong type.
        RuntimeError: entered twice, used outside its block, by two consumers at once, or in a forked child.
    """

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse_copy(self, protocol)

    def __init__(self, readers: Names = None, groups: Groups = None, *, backend: Backend | None = None) -> None:
        self._wanted = ReaderFilter.to_watch(readers, groups)
        self._given_backend = backend
        self._generation = generation()
        self._driver: Driver | None = None
        self._events: EventQueue | None = None
        self._wakeup: Wakeup | None = None
        self._ended = False
        self._consuming = False

    @property
    def state(self) -> Mapping[str, ReaderState]:
        """State by reader name, as it is after the event yielded last."""
        return {} if self._events is None else self._events.state

    async def __aenter__(self) -> ReaderMonitor:
        if self._generation != generation():
            raise RuntimeError("this monitor was made before a fork and belongs to the parent process")
        if self._events is not None:
            raise RuntimeError("a monitor is entered once; make another one")
        loop = Loop()
        wakeup = self._wakeup = Wakeup(loop)
        events = self._events = EventQueue(self._wanted, loop, wakeup.set_here)
        backend = backend_or_default(self._given_backend)
        driver = self._driver = driver_of(backend)
        try:
            driver.submit(Subscribed(events, self._wanted.groups), backend)
            while True:
                if events.begun:
                    break
                await wakeup.wait()
        except GeneratorExit:  # the coroutine is thrown away, perhaps with its loop: nothing can be awaited
            driver.tell(Unsubscribed(events))
            raise
        except BaseException:
            await self._leave(cancelled=True)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = True
        if kind is not None and issubclass(kind, GeneratorExit):  # thrown away, perhaps with its loop
            if self._driver is not None:
                self._driver.tell(Unsubscribed(self._events))
            if self._wakeup is not None:
                self._wakeup.set()
            return
        if self._wakeup is not None:
            self._wakeup.set_here()
        await self._leave(cancelled=kind is not None and not issubclass(kind, Exception))

    async def _leave(self, *, cancelled: bool) -> None:
        if self._driver is not None:
            self._driver.tell(Unsubscribed(self._events))
            await until_idle(self._driver, cancelled=cancelled)

    def __aiter__(self) -> ReaderMonitor:
        return self

    async def __anext__(self) -> Event:
        events, wakeup = self._events, self._wakeup
        if events is None or wakeup is None:
            raise RuntimeError("use 'async with ReaderMonitor() as monitor' before iterating")
        if self._consuming:
            raise RuntimeError("a monitor has one consumer; give each its own monitor")
        self._consuming = True
        try:
            while True:
                if self._ended:
                    break
                event = events.pop()
                if event is not None:
                    return event
                await wakeup.wait()
        finally:
            self._consuming = False
        raise StopAsyncIteration
