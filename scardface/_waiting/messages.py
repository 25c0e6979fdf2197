"""What goes to the dispatcher, and what comes back: its messages, its effects, and the two objects that they are about.

Who owns what: an `Entry` and an `Offer` are made by requests and by the dispatcher; their private fields are the dispatcher's
alone. All else here is immutable and crosses threads freely.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from .._enums import ShareMode
from .._pcsc.events import Event, Reading, Snapshot
from .._session.card_request import CardRequest
from ..errors import SCardError

Names: TypeAlias = "frozenset[str] | None"


class Entry:
    """One acquisition's place in the queue.

    Set by its maker, and never changed: `request` (but for its readers, see `Means`), `home` (the loop or thread in which its
    offers are taken), `number` (who came first), `deadline` (monotonic; infinity for ever), `service_may_be_absent` (that counts as
    a reader that is not there).
    """

    __slots__ = (
        *("deadline", "home", "number", "service_may_be_absent", "request"),
        *("_ahead", "_before", "_line", "_look", "_offer", "_saw", "_seen", "_started", "_tried"),
    )

    request: CardRequest
    home: Hashable
    number: int
    deadline: float
    service_may_be_absent: bool

    def __init__(self) -> None:
        self._ahead: frozenset[Entry] = frozenset()  # who still has its first look
        self._before: dict[str, int] = {}  # the cards that were in at the start, if only new ones are wanted
        self._line: Any = None  # None: has not had its first look
        self._look = 0  # the number of the look that is its first
        self._offer: Offer | None = None
        self._saw: tuple[str, BaseException | None] | None = None  # in its own first look, in words, and the error of a card
        self._seen: Mapping[str, Reading] | None = None  # what was in by its own first look, if only new ones are wanted
        self._started = 0.0
        self._tried: set[str] | None = None  # with a timeout of 0: the readers tried


class Offer:
    """A reader offered to one entry. `claim` says who disposes of it: whoever takes it, or the driver, which takes it back."""

    __slots__ = ("_claims", "entry", "home", "life", "reader", "reading")

    def __init__(self, entry: Entry, reader: str, reading: Reading, life: int | None = None) -> None:
        self.entry = entry
        self.home: Hashable = getattr(entry, "home", None)  # where it is taken, whatever becomes of the entry meanwhile
        self.reader = reader
        self.reading = reading
        self.life = life  # the service's, in which it was made; None: not known
        self._claims: list[object] = []

    def claim(self, by: object) -> bool:
        """Whether `by` is the first who asks; from any thread, and again with the same answer."""
        self._claims.append(by)  # one step, so that an interrupted caller may ask again
        return self._claims[0] is by


# Messages.


class Looked(NamedTuple):
    """The watcher has looked; `number` is at least that of the questions it answers."""

    snapshot: Snapshot


class Joined(NamedTuple):
    """An entry takes its place, behind those of `ahead`, who still have their first look.

    `readers`: those that it means, if it has had its first look; `trying`: the one of them that it is connecting to; `seen`: all
    that was in then; `saw`: the same in words, and the error of the last card that it could not open.
    """

    entry: Entry
    ahead: tuple[Entry, ...] = ()
    readers: Names | Literal["not known"] = "not known"
    trying: Offer | None = None
    seen: Mapping[str, Reading] | None = None
    saw: tuple[str, BaseException | None] | None = None


class Connecting(NamedTuple):
    """A connect that this dispatcher knows nothing of is in flight: its reader is not offered until `Connected`."""

    offer: Offer


class Connected(NamedTuple):
    """That connect is over, whatever came of it."""

    offer: Offer


class Means(NamedTuple):
    """The readers of an entry's `request` are others than before: a serial number is found under another name."""

    entry: Entry


class Through(NamedTuple):
    """One that others were told to stand behind has had its first look."""

    entry: Entry


class Left(NamedTuple):
    """An entry wants nothing any more."""

    entry: Entry


class HomeGone(NamedTuple):
    """A loop was closed: all that lives there wants nothing any more."""

    home: Hashable


class Opened(NamedTuple):
    """An entry has opened the card in `reader`, which this dispatcher has offered or not, and holds it until `Freed`."""

    entry: Entry
    reader: str
    share: ShareMode
    offer: Offer | None = None


class Reshared(NamedTuple):
    """The card that an entry holds is held with `share` from now on."""

    entry: Entry
    share: ShareMode


class Freed(NamedTuple):
    """The card that an entry held has been disconnected."""

    entry: Entry


class Failed(NamedTuple):
    """An offer came to nothing: `error`, or (None) the card was not the one that was offered."""

    offer: Offer
    error: BaseException | None


class Untaken(NamedTuple):
    """An offer that nobody took was claimed back."""

    offer: Offer


class Awake(NamedTuple):
    """A loop or thread that took an offer too late turns again."""

    home: Hashable


class Subscribed(NamedTuple):
    """A monitor wants each look, from a fresh one on."""

    listener: Any
    groups: tuple[str, ...] | None


class WaitsForRemoval(NamedTuple):
    """Somebody wants to hear when the card `seen` in `reader` may be gone."""

    removal: Any
    reader: str
    seen: Reading


class Unsubscribed(NamedTuple):
    """A listener, or one who waited for a removal, wants nothing any more."""

    listener: Any


Message: TypeAlias = (
    Looked
    | Joined
    | Connecting
    | Connected
    | Means
    | Through
    | Left
    | HomeGone
    | Opened
    | Reshared
    | Freed
    | Failed
    | Untaken
    | Awake
    | Subscribed
    | WaitsForRemoval
    | Unsubscribed
)


# Effects; `Offer` is one, too: have it taken.


class End(NamedTuple):
    """An acquisition ends with an error; `cause` is what was wrong with a card."""

    entry: Entry
    error: SCardError
    cause: BaseException | None = None


class TakeBack(NamedTuple):
    """Claim the offer; if that succeeds, tell `Untaken`."""

    offer: Offer


class Tell(NamedTuple):
    """Give a listener a look and what happened since the one before; `first`: its initial state."""

    listener: Any
    snapshot: Snapshot
    events: list[Event]
    first: bool


class MayBeGone(NamedTuple):
    """A card is gone, or (`gone` False) the service; its session knows."""

    removal: Any
    gone: bool


Effect: TypeAlias = Offer | End | TakeBack | Tell | MayBeGone
