"""The async face of the monitor: every change of readers and cards, as events.

Who owns what, who may call it from where, what ends it:

- A monitor belongs to the event loop that entered it, and has one consumer. Its hub's watcher does the waiting.
- Leaving the block ends it: a consumer that still waits gets the end of the iteration.
- It never dies of PC/SC: a service that goes is an event, and so is its return.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from ._backend import Backend
from ._default import default_backend
from ._events import Event, ReaderState, Snapshot
from ._feed import Feed
from ._hub import Hub, Question, hub_of
from ._threads import Bell, Loop, generation
from ._wanted import Groups, Names, ReaderFilter


class Watch:
    """A feed that hears a hub, from `open` to `close`; both in the hub's loop."""

    def __init__(self, feed: Feed, groups: tuple[str, ...] | None, backend: Backend) -> None:
        self._feed = feed
        self._groups = groups
        self._backend = backend
        self._hub: Hub | None = None
        self._question: Question | None = None
        self._begun = False

    async def open(self) -> None:
        """Return once the initial state is in the feed."""
        bell = Bell(Loop())
        hub = self._hub = hub_of(self._backend)
        hub.enter()
        hub.subscribe(self, self._hear)
        try:
            self._question = hub.ask(bell, self._groups)
            while not self._begun:
                await bell.wait()
        except GeneratorExit:  # the coroutine is thrown away, perhaps with its loop: nothing can be awaited
            self._leave()
            raise
        except BaseException:
            await self.close(cancelled=True)
            raise

    def _hear(self, snapshot: Snapshot, events: list[Event], dropped: int) -> None:
        if self._begun:
            self._feed.hear(snapshot, events, dropped)
        elif self._question is not None and snapshot.number >= self._question.number:
            self._begun = True
            self._feed.begin(snapshot)

    async def close(self, *, cancelled: bool = False) -> None:
        """Hear no more; cancelled, within 0.2 s."""
        hub = self._leave()
        if hub is not None:
            await hub.quiet(cancelled=cancelled)

    def _leave(self) -> Hub | None:
        hub, self._hub = self._hub, None
        if hub is not None:
            hub.unsubscribe(self)
            hub.leave()
        return hub


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

    def __init__(self, readers: Names = None, groups: Groups = None, *, backend: Backend | None = None) -> None:
        self._wanted = ReaderFilter.to_watch(readers, groups)
        self._given_backend = backend
        self._generation = generation()
        self._watch: Watch | None = None
        self._feed: Feed | None = None
        self._bell: Bell | None = None
        self._ended = False
        self._consuming = False

    @property
    def state(self) -> Mapping[str, ReaderState]:
        """State by reader name, as it is after the event yielded last."""
        return {} if self._feed is None else self._feed.state

    async def __aenter__(self) -> ReaderMonitor:
        if self._generation != generation():
            raise RuntimeError("this monitor was made before a fork and belongs to the parent process")
        if self._feed is not None:
            raise RuntimeError("a monitor is entered once; make another one")
        bell = self._bell = Bell(Loop())
        self._feed = Feed(self._wanted, bell.strike)
        self._watch = Watch(self._feed, self._wanted.groups, self._given_backend or default_backend())
        await self._watch.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = True
        if self._bell is not None:
            self._bell.strike()
        if self._watch is not None:
            await self._watch.close(cancelled=kind is not None and not issubclass(kind, Exception))

    def __aiter__(self) -> ReaderMonitor:
        return self

    async def __anext__(self) -> Event:
        feed, bell = self._feed, self._bell
        if feed is None or bell is None:
            raise RuntimeError("use 'async with ReaderMonitor() as monitor' before iterating")
        if self._consuming:
            raise RuntimeError("a monitor has one consumer; give each its own monitor")
        self._consuming = True
        try:
            while not self._ended:
                event = feed.pop()
                if event is not None:
                    return event
                await bell.wait()
        finally:
            self._consuming = False
        raise StopAsyncIteration
