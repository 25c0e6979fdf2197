"""What goes to the dispatcher, and what comes back: messages, effects, and the objects that they are about.

Who owns what:

- `Owner`, `CardWaiter`, `Listener` and `RemovalWaiter` say what those who wait must offer; the driver calls it, the dispatcher
  only tells them apart.
- A `Waiter` is made by an acquisition, an `Offer` by the dispatcher. Their private fields are the dispatcher's alone, except for
  an offer's claims, which are everybody's.
- Everything else here is immutable and may be passed between threads freely.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from .._enums import ShareMode
from .._pcsc.events import Event, Reading, Snapshot
from .._session.card_request import CardRequest
from ..errors import SCardError

NameSet: TypeAlias = "frozenset[str] | None"
"""The names of some readers; None: all readers, including readers that are plugged in later."""
Summary: TypeAlias = "tuple[str, BaseException | None]"
"""What an acquisition has found, in words; the error of the last card that could not be opened."""


NO_READINGS: Mapping[str, Reading] = MappingProxyType({})


# Those who wait.


class Owner(Protocol):
    """The event loop or the thread in which somebody waits."""

    def post(self, callback: Callable[..., object], *args: object) -> bool:
        """Have `callback(*args)` called there. From any thread, without waiting. False: the loop was closed."""

    def is_alive(self) -> bool:
        """Whether it can still run callbacks."""


class CardWaiter(Protocol):
    """What the driver calls of an acquisition, which waits for a card."""

    __slots__ = ()

    def take(self, offer: Offer) -> None:
        """Called at the owner: open the offered card."""

    def end_with(self, error: BaseException) -> None:
        """Called in the driver's thread: the wait ends with this error."""

    def fail(self, error: BaseException) -> None:
        """Called in the driver's thread: as `end_with`, with a copy of `error`, which every waiter is given."""


class Listener(Protocol):
    """What the driver calls of a monitor's event queue, or of another object that wants every snapshot."""

    owner: Owner

    def receive(self, snapshot: Snapshot, events: list[Event], first: bool) -> None:
        """Called in the driver's thread: a snapshot, and the events since the one before. `first`: it is the initial state."""

    def fail(self, error: BaseException) -> None:
        """Called in the driver's thread: there will be no more snapshots."""


class RemovalWaiter(Protocol):
    """What the driver calls of a wait for the removal of an open card."""

    owner: Owner

    def suspect(self, gone: bool) -> None:
        """Called at the owner: the card may be gone. `gone`: the reader shows it."""

    def close_session(self) -> None:
        """Called in the driver's thread: the owner was closed, so nobody can use the card any more."""

    def fail(self, error: BaseException) -> None:
        """Called in the driver's thread: the wait ends with a copy of `error`, which every waiter is given."""


class RefusedCards(NamedTuple):
    """Cards that a waiter does not want although they match, until they have been taken out.

    Attributes:
        readings: what they were, by reader.
        life: the life of the service (see the glossary) in which they were seen: counters of another one say nothing. None: not
            known.
        gone: those of `readings`, the very same objects, that have been seen to go since; it is kept up to date in the driver's
            thread. Another card in that reader may show the same counter: readers begin anew with it.
    """

    readings: Mapping[str, Reading] = NO_READINGS
    life: int | None = None
    gone: Mapping[str, Reading] = NO_READINGS

    def known_in(self, life: int | None) -> Mapping[str, Reading]:
        """Those that can be recognised in that life of the service."""
        return NO_READINGS if None not in (life, self.life) and life != self.life else self.readings


NO_CARDS = RefusedCards()


class Waiter(CardWaiter):
    """One acquisition's place in the queue.

    Set by the acquisition and never changed: `request` (except for its readers, see `ReadersChanged`), `owner` (where its offers
    are taken), `number` (lower is older), `deadline` (monotonic; infinity: none), `service_may_be_absent` (a service that does not
    run counts as a reader that is not plugged in).
    """

    __slots__ = (
        *("deadline", "number", "owner", "request", "service_may_be_absent"),
        *("_known_cards", "_offer", "_older", "_query_number", "_queue", "_readings_before", "_refused", "_started"),
        *("_summary", "_tried"),
    )

    request: CardRequest
    owner: Owner
    number: int
    deadline: float
    service_may_be_absent: bool

    def __init__(self) -> None:
        self._known_cards: dict[str, int] = {}  # with new_only: the cards that were in when the wait began, by reader
        self._offer: Offer | None = None
        self._older: frozenset[Waiter] = frozenset()  # older waiters that were in their own first query when this one joined
        self._query_number = 0  # of its first query; negative: of the query that tells whether the service answers
        self._queue: Any = None  # None: its first query has not been answered
        self._readings_before: Mapping[str, Reading] | None = None  # with new_only: what its own first query saw
        self._refused: Mapping[str, Reading] = NO_READINGS  # the cards that it does not want although they match, by reader
        self._started = 0.0
        self._summary: Summary | None = None  # of its own first query
        self._tried: set[str] | None = None  # with a timeout of 0: the readers tried


class Offer:
    """A reader offered to one waiter. `claim` decides who disposes of it: the waiter takes it, or the driver withdraws it."""

    __slots__ = ("_claims", "known", "life", "owner", "reader", "reading", "waiter")

    def __init__(
        self,
        waiter: Waiter,
        reader: str,
        reading: Reading,
        life: int | None = None,
        known: Mapping[str, Reading] = NO_READINGS,
    ) -> None:
        self.waiter = waiter
        self.owner = waiter.owner  # where it is taken, even if the waiter has ended meanwhile
        self.reader = reader
        self.reading = reading
        self.life = life  # the life of the service in which it was made; None: not known
        self.known = known  # with new_only: the cards that were in when the wait began, and still are
        self._claims: list[object] = []

    def claim(self, by: object) -> bool:
        """Claim the offer; from any thread. Returns True if `by` was the first to do so, also if it claims again."""
        self._claims.append(by)  # one step, so that an interrupted caller may ask again
        return self._claims[0] is by


# Messages.


class SnapshotTaken(NamedTuple):
    """The watcher has queried the readers; the snapshot's number is at least that of each query it answers."""

    snapshot: Snapshot


class Joined(NamedTuple):
    """A waiter takes its place, behind the waiters in `older`, whose own first queries are under way.

    `refused` are cards that it does not want although they match, until they have been taken out. The other fields are what the
    waiter's own first query found, if it made one: `readers`, the names of the readers that it waits for; `trying`, its connect
    under way; `readings`, of all readers, if only new cards are wanted; `summary`, the same in words.
    """

    waiter: Waiter
    older: tuple[Waiter, ...] = ()
    readers: NameSet | Literal["not known"] = "not known"
    trying: Offer | None = None
    readings: Mapping[str, Reading] | None = None
    summary: Summary | None = None
    refused: RefusedCards = NO_CARDS


class ConnectStarted(NamedTuple):
    """A connect that this dispatcher did not offer is under way: its reader is not offered until `ConnectFinished`."""

    offer: Offer


class ConnectFinished(NamedTuple):
    """That connect has returned; whether the card is open is told by `CardOpened` or `Failed`."""

    offer: Offer


class ReadersChanged(NamedTuple):
    """The readers of a waiter's `request` have changed: the serial number was found under another name."""

    waiter: Waiter


class FirstQueryDone(NamedTuple):
    """A waiter that younger waiters wait behind has finished its own first query."""

    waiter: Waiter


class Left(NamedTuple):
    """A waiter has ended."""

    waiter: Waiter


class OwnerGone(NamedTuple):
    """A loop was closed: everything that waits there has ended."""

    owner: Owner


class CardOpened(NamedTuple):
    """A waiter has opened the card in `reader`, by an offer of this dispatcher or without, and holds it until `Disconnected`."""

    waiter: Waiter
    reader: str
    share: ShareMode
    offer: Offer | None = None


class ShareModeChanged(NamedTuple):
    """A waiter holds its card with another share mode from now on."""

    waiter: Waiter
    share: ShareMode


class Disconnected(NamedTuple):
    """A waiter has disconnected its card."""

    waiter: Waiter


class Failed(NamedTuple):
    """An offered card could not be opened. `error` None: it was not the card that was offered."""

    offer: Offer
    error: BaseException | None


class Withdrawn(NamedTuple):
    """An offer that was not taken in time has been claimed back."""

    offer: Offer


class Responsive(NamedTuple):
    """A loop or thread that took an offer too late runs callbacks again."""

    owner: Owner


class Subscribed(NamedTuple):
    """A listener wants every snapshot, beginning with one taken after this message."""

    listener: Listener
    groups: tuple[str, ...] | None


class RemovalAwaited(NamedTuple):
    """Somebody waits until the card `seen` in `reader` is removed."""

    removal: RemovalWaiter
    reader: str
    seen: Reading


class Unsubscribed(NamedTuple):
    """A listener or a removal wait has ended. None: it had not begun."""

    listener: Listener | RemovalWaiter | None


Message: TypeAlias = (
    SnapshotTaken
    | Joined
    | ConnectStarted
    | ConnectFinished
    | ReadersChanged
    | FirstQueryDone
    | Left
    | OwnerGone
    | CardOpened
    | ShareModeChanged
    | Disconnected
    | Failed
    | Withdrawn
    | Responsive
    | Subscribed
    | RemovalAwaited
    | Unsubscribed
)


# Effects. `Offer` is one as well: have it taken at its owner.


class End(NamedTuple):
    """End an acquisition with an error; `cause` is what was wrong with a card."""

    waiter: Waiter
    error: SCardError
    cause: BaseException | None = None


class Withdraw(NamedTuple):
    """Claim the offer back; if that succeeds, send `Withdrawn`."""

    offer: Offer


class Notify(NamedTuple):
    """Give a listener a snapshot and the events since the one before; `first`: it is the initial state."""

    listener: Listener
    snapshot: Snapshot
    events: list[Event]
    first: bool


class RemovalSuspected(NamedTuple):
    """Have a removal wait ask its session whether the card is gone. `gone`: the reader shows it; else only the session can know."""

    removal: RemovalWaiter
    gone: bool


Effect: TypeAlias = Offer | End | Withdraw | Notify | RemovalSuspected
