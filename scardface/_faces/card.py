"""What both faces of a card have in common: the one acquisition, what an open card shows, being cancelled, and being closed.

Who owns what, who may call it from where, what ends it:

- A card owns its acquisition, then the session and the worker whose thread opened it, and the waits for its removal.
- `cancel`, `cancel_all`, the hand-over of the close and `__del__` are what finalizers and signal handlers may call (the rule is in
  `_waiting/__init__.py`). One lock for all cards guards what `cancel` reads; it is held for assignments only.
- The close is done in the card's own thread, behind what it still does, whoever asks for it; that thread ends behind the close.
- A card belongs to the process that made it: in a forked child its context is the parent's (fact 9), so it refuses to work.
"""

from __future__ import annotations

import logging
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, SupportsIndex, TypeVar

from .._enums import Disposition, Protocol, ShareMode
from .._pcsc.backend import Backend
from .._pcsc.binding_choice import backend_or_default
from .._pcsc.no_copy import refuse_copy
from .._reader.pin_pad import PadResult
from .._session.card_errors import best_effort
from .._session.card_request import CardRequest, member, protocols_for
from .._session.session import Session
from .._threads import ForkLock, Worker, generation
from .._waiting.acquisition import Acquisition
from .._waiting.messages import NO_CARDS, RefusedCards
from .._waiting.removal import RemovalWait
from ..errors import REMOVED_CARD, TIMEOUT, CardRemovedError, CardTimeoutError, SCardError
from ..iso7816._apdu import C_APDU, StatusError, Success, how_to_make_bytes, success_rule
from ..iso7816._atr import ATR
from ..iso7816._judgement import Judgement

CardT = TypeVar("CardT", bound="Card")

NOT_THIS_CARD = (SCardError, StatusError)
"""What `match` may raise of a card that is not the right one: it went, does not answer, or refuses."""

logger = logging.getLogger("scardface")

_LONGEST_CONTROL = 65548
"""Bytes, of pcsc-lite's buffer (MAX_BUFFER_SIZE_EXTENDED), in each direction."""

_lock = ForkLock()
_cards: weakref.WeakSet[Card] = weakref.WeakSet()


class Card:
    """The common part of the async and the sync SCard."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse_copy(self, protocol)

    # Defaults of the class, so that `cancel` finds them on an object whose `__init__` has only begun.
    _cancel_asked: bool = False
    _acquisition: Acquisition | None = None
    _removals: tuple[RemovalWait, ...] = ()
    _session: Session | None = None
    _worker: Worker | None = None  # whose thread opened the card
    _closed: bool = False
    _calls_left: int = 0  # how many calls were left before their end, and may still go on in the card's thread
    _match: Callable[[Any], Any] | None = None
    _refused: RefusedCards = NO_CARDS  # the cards that are not wanted although they match, while they are in
    _judgement: Judgement | None = None  # of what is sent without `success`
    _how_to_open: ClassVar[str] = "acquire it"

    def __new__(cls: type[CardT], *args: Any, **kwargs: Any) -> CardT:
        card = super().__new__(cls)
        card._generation = generation()
        with _lock.current:
            _cards.add(card)
        return card

    _generation: int

    def _init(self, card_request: CardRequest, backend: Backend | None, match: Callable[[Any], Any] | None = None) -> None:
        """What `__init__` does with its arguments once they are checked."""
        self._card_request = card_request
        if match is not None:
            self._match = check_match(match, card_request)
        self._given_backend = backend
        if card_request.success is not None:
            self._judgement = Judgement(card_request.success)

    def _begin(self) -> Acquisition:
        """The acquisition, to run once."""
        self._check_process()
        with _lock.current:
            if self._closed:
                raise RuntimeError("the card is closed; make another SCard")
            if self._session is not None:
                raise RuntimeError("this card is open already: use it as it is; for another card make another SCard")
            if self._acquisition is not None:
                raise RuntimeError("one SCard is one acquisition; make another SCard for another card")
            acquisition = self._acquisition = Acquisition(
                self._card_request, backend_or_default(self._given_backend), self._refused
            )
            if self._cancel_asked:
                acquisition.cancel()
        return acquisition

    def _begin_again(self, why: BaseException | None) -> Acquisition:
        """The acquisition that goes on after a card that `match` has refused, in its place and until its deadline.

        Args:
            why: what `match` has raised.
        """
        with _lock.current:
            if self._closed:
                raise RuntimeError("the card is closed")
            previous = self._acquisition
            assert previous is not None
            acquisition = self._acquisition = Acquisition(self._card_request, previous.backend, self._refused, previous)
            if self._cancel_asked:
                acquisition.cancel()
        timeout = self._card_request.timeout
        if timeout and time.monotonic() >= previous.deadline and not self._cancel_asked:
            text = f"no matching card within {timeout:g} s; seen: a card that match= refused"
            raise CardTimeoutError(text, TIMEOUT) from why
        return acquisition

    def _refuse(self, why: BaseException | None) -> Worker:
        """Close the card, which `match` has refused, and note that, so that it is asked once while it is in.

        Returns:
            The thread that closes it, and ends then.
        """
        session, worker, acquisition = self._session, self._worker, self._acquisition
        assert session is not None
        assert worker is not None
        assert acquisition is not None
        if why is not None:
            logger.info("the card in %r was not chosen, since match= raised: %s", session.reader, why)
        before = acquisition.refused
        readings = {**before.known_in(acquisition.life), session.reader: session.reading}
        self._refused = RefusedCards(readings, acquisition.life, before.gone)
        self._cancel_removals()
        self._session = self._worker = None
        worker.submit(best_effort, session.close)
        worker.finish()
        return worker

    def _take_over(self, session: Session) -> None:
        """Take what the acquisition has opened."""
        assert self._acquisition is not None
        self._session, self._worker = session, self._acquisition.worker

    def _require_session(self) -> Session:
        """The open session.

        Raises:
            RuntimeError: not open yet, closed, or another process's.
        """
        session = self._session
        if session is not None and not self._closed and self._generation == generation():
            return session
        self._check_process()
        if self._closed:
            raise RuntimeError("the card is closed")
        raise RuntimeError(f"the card is not open yet; {self._how_to_open}")

    def _check_process(self) -> None:
        if self._generation != generation():
            raise RuntimeError("this SCard was made before a fork and belongs to the parent process; make a new one in the child")

    def _new_removal(self) -> RemovalWait:
        """A wait for this card's removal, not begun."""
        session, worker, acquisition = self._require_session(), self._worker, self._acquisition
        assert worker is not None
        assert acquisition is not None
        return RemovalWait(session, acquisition.backend, worker.submit)

    def _begin_removal(self, removal: RemovalWait) -> None:
        with _lock.current:
            self._removals = (*self._removals, removal)
        if self._closed:  # since it was asked whether the card is open, by another thread or a signal handler
            removal.cancel()

    def _end_removal(self, removal: RemovalWait) -> None:
        with _lock.current:
            self._removals = tuple(other for other in self._removals if other is not removal)

    def _raise_removal(self, removal: RemovalWait) -> NoReturn:
        """Raise what has ended a wait for the removal."""
        removal.result()
        raise CardRemovedError(f"the card in reader {self.reader!r} was removed", REMOVED_CARD, "", self.reader)

    def _cancel_removals(self) -> None:
        with _lock.current:
            removals = self._removals
        for removal in removals:
            removal.cancel()

    def cancel(self) -> None:
        """End this card's acquisition, even one not yet begun, or the current `wait()`s of the open card.

        They raise `WaitCancelledError`. A `send` is never cancelled. A plain function, callable from any thread, any event loop
        and from signal handlers, from the moment that the object exists.
        """
        self._check_process()
        with _lock.current:
            self._cancel_asked = True
            acquisition = self._acquisition
        if acquisition is not None:
            acquisition.cancel()
        self._cancel_match()
        self._cancel_removals()

    def _cancel_match(self) -> None:
        """End a `match` that is asked, if the face can. Signal-safe."""

    @property
    def closed(self) -> bool:
        """Whether the card has been closed."""
        return self._closed

    @property
    def reader(self) -> str:
        """The name of the reader that holds the card. AttributeError until the card is open."""
        return self._shown().reader

    @property
    def atr(self) -> ATR:
        """The card's answer to reset (ISO 7816-3, clause 8). AttributeError until the card is open."""
        return self._shown().atr

    @property
    def protocol(self) -> Protocol:
        """The protocol in use. AttributeError until the card is open."""
        return self._shown().protocol

    @property
    def share(self) -> ShareMode:
        """Who else may use the card while it is open."""
        return self._card_request.share if self._session is None else self._session.share

    def _judged_by(self, success: Success | None) -> Judgement | None:
        """How the responses of a `send` are judged: by its `success`, or else by the card's."""
        return self._judgement if success is None else Judgement(success_rule(success))

    def _judged(self, result: PadResult) -> PadResult:
        """What the card answered to a PIN entry, judged by the card's `success`; what the reader says itself is no success."""
        if self._judgement is not None and result.entered:
            self._judgement.take(result)
        return result

    def _kept_and_judged_by(self, success: Success | None, stop: bool) -> Judgement:
        """How the responses of a `send_all` are judged, and where they are kept."""
        return Judgement(self._card_request.success if success is None else success_rule(success), stop, [])

    def _too_late(self, timeout: float, is_under_way: bool) -> CardTimeoutError:
        """The time of a `send` has run out."""
        if not is_under_way:
            text = f"the card was not free for this call within {timeout:g} s, and nothing was sent"
            return CardTimeoutError(text, TIMEOUT, "SCardTransmit", self.reader)
        text = f"the card did not answer within {timeout:g} s; the command on its way ends by itself, and no further one goes out"
        return CardTimeoutError(text, TIMEOUT, "SCardTransmit", self.reader)

    def _checked(self, share: ShareMode | None, protocols: Protocol | None) -> tuple[ShareMode | None, Protocol | None]:
        """What `reconnect` was given, checked."""
        if share is not None:
            share = member("share", ShareMode, share)
        if protocols is not None:
            protocols = protocols_for(self.share if share is None else share, protocols)
        return share, protocols

    def _reconnect(self, session: Session, share: ShareMode | None, protocols: Protocol | None) -> None:
        """What `reconnect` does, once it is its turn. Blocking."""
        assert self._acquisition is not None
        self._acquisition.reconnect(session.share if share is None else share, protocols)

    def _shown(self) -> Session:
        if self._session is None:
            raise AttributeError("the card is not open yet: its reader, ATR and protocol are not known")
        return self._session

    def __repr__(self) -> str:
        session = self._session
        if session is None:
            return f"<{type(self).__name__}: not open>"
        state = "closed" if self._closed else "open"
        return f"<{type(self).__name__}: {state}, {session.reader!r}, {session.protocol.name}, {session.atr.hex(' ')}>"

    def _hand_over_close(self, disposition: Disposition | None, ended: Callable[[Exception | None], object]) -> None:
        """Queue the close in the card's thread, where no cancellation, Ctrl-C or signal handler can lose it. May be begun again.

        Args:
            ended: called in the card's thread after the close, with the error, if any.
        """
        self._closed = True
        self._cancel_removals()
        session, worker = self._session, self._worker
        if session is not None and worker is not None:
            worker.submit(_close, session, disposition, ended)
            worker.finish()
        elif self._acquisition is not None:
            self._acquisition.cancel()  # a task or thread that still acquires

    def __del__(self) -> None:
        """Close a card that is still open, in its own thread, with a ResourceWarning; nothing is waited for here."""
        if self._session is not None and not self._closed and self._generation == generation():
            text = f"unclosed {self!r}"
            self._hand_over_close(None, ignore_outcome)
            warnings.warn(text, ResourceWarning, source=self, stacklevel=2)


def check_match(match: Any, request: CardRequest) -> Any:
    """What the caller gave as `match`; a TypeError or ValueError if it cannot be used."""
    if not callable(match):
        raise TypeError(f"match: a function of the open card is needed, not {type(match).__name__}")
    if request.share is ShareMode.DIRECT:
        raise ValueError("match: a DIRECT connection needs no card that could be asked")
    return match


def _close(session: Session, disposition: Disposition | None, ended: Callable[[Exception | None], object]) -> None:
    """In the card's thread."""
    failure = None
    try:
        session.close(disposition)
    except Exception as error:  # a backend's own
        failure = error
    finally:
        ended(failure)


def ignore_outcome(error: Exception | None) -> None:
    """Does nothing with the outcome of a close that nobody waits for."""


def commands(apdus: tuple[Any, ...]) -> list[C_APDU]:
    """What the caller gave to `send`, as commands.

    Raises:
        ValueError: none, or a malformed one.
        TypeError: neither a C_APDU nor bytes-like.
    """
    if not apdus:
        raise ValueError("send() needs at least one command")
    return [apdu if isinstance(apdu, C_APDU) else C_APDU.from_bytes(octets(apdu)) for apdu in apdus]


def octets(data: Any) -> bytes:
    """`data` as bytes; TypeError unless it is bytes-like."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"a command is a C_APDU or bytes-like, not {type(data).__name__}{_how_to_make_commands(data)}")


def _how_to_make_commands(value: object) -> str:
    """What the caller of `send` or `transmit` may have wanted: the end of an error text, which does not contain the value."""
    if isinstance(value, str):
        return ": hexadecimal digits become a command by C_APDU.fromhex(...)"
    if isinstance(value, (list, tuple)) and any(isinstance(each, (C_APDU, bytes)) for each in value):
        return ": several commands are several arguments, send(*commands)"
    return how_to_make_bytes(value)


def raw_command(data: Any) -> bytes:
    """What the caller gave to `transmit`; ValueError under 4 bytes (fact 38)."""
    if isinstance(data, C_APDU):
        raise TypeError("transmit() takes bytes, bytes(command); a C_APDU is what send() takes")
    raw = octets(data)
    if len(raw) < 4:
        raise ValueError(f"a command is at least 4 bytes (CLA INS P1 P2), not {len(raw)}")
    return raw


def code_and_data(code: Any, data: Any) -> tuple[int, bytes]:
    """What the caller gave to `control`; ValueError unless PC/SC has room for it."""
    octets_ = octets(data)
    if len(octets_) > _LONGEST_CONTROL:
        raise ValueError(f"a control takes at most {_LONGEST_CONTROL} bytes, not {len(octets_)}")
    return dword("code", code), octets_


def dword(name: str, number: Any) -> int:
    """A number of PC/SC's: 32 bits without a sign."""
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{name} is a number, not {type(number).__name__}")
    if not 0 <= number <= 0xFFFFFFFF:
        raise ValueError(f"{name} is 0 to 0xFFFFFFFF, not {number}")
    return number


def cancel_all() -> None:
    """`cancel()` for every SCard that exists now, in every event loop and thread of the process; not for monitors."""
    with _lock.current:
        cards = list(_cards)
    for card in cards:
        if card._generation == generation():
            card.cancel()
