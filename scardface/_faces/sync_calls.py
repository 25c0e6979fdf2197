"""What an open card offers beside its exchanges, on the sync face: transactions, resets, and the reader's own calls.

Who owns what, who may call it from where, what ends it:

- Every call of PC/SC happens in the caller's own thread, one thread at a time; a transaction keeps the turn for its thread.
- Only a transaction's begin has a thread of its own, where others share the card: it waits for them, and Ctrl-C should not have to.
  If its caller is interrupted, that thread undoes it when it comes back, and what the card was asked meanwhile waits.
- The words are those of `AsyncCalls`, docstrings included.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from queue import SimpleQueue
from types import TracebackType
from typing import TypeVar, cast, overload

from .._enums import Disposition, Protocol, ShareMode
from .._pcsc.ownership import refuse_copy
from .._reader.attributes import NumberAttribute, TextAttribute, decode_attribute, encode_attribute
from .._reader.contactless import GET_ATS, GET_UID, ats, uid
from .._reader.features import ReaderProperties, features, properties
from .._reader.pin_entry import PinEntry
from .._reader.pin_pad import PadResult, modify, verify
from .._rlock import RLock
from .._session.card_request import member
from .._session.card_state import best_effort
from .._session.session import Session
from .._threads import get, retry_if_interrupted, spawn
from .._waiting.acquisition import Acquisition
from ..iso7816._apdu import C_APDU, R_APDU
from ..iso7816._layer import Layer
from .calls import PLAIN_ENTRY, AsyncCalls
from .card import Card, code_and_data, dword
from .routes import Callback, Layered

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., object])
T = TypeVar("T")


def as_in(original: Callable[..., object]) -> Callable[[F], F]:
    """Give a method the docstring of its twin on the async face."""

    def documented(method: F) -> F:
        method.__doc__ = original.__doc__
        return method

    return documented


def with_arguments_of(original: type) -> Callable[[C], C]:
    """Add to a class's docstring what that of its twin on the async face says of the arguments, and of what is raised."""

    def documented(cls: C) -> C:
        _, head, arguments = inspect.cleandoc(original.__doc__ or "").partition("Args:")
        cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\n{head}{arguments}"
        return cls

    return documented


class _Here(threading.local):
    """What this thread holds transactions on: sessions."""

    held: tuple[Session, ...] = ()


_here = _Here()


def refuse_to_wait_for_itself(session: Session) -> None:
    """RuntimeError where this thread holds a transaction on the same card by another SCard: PC/SC would have it wait for ever."""
    if any(other is not session and other.open_transactions and other.card_key == session.card_key for other in _here.held):
        raise RuntimeError("this thread holds a transaction on the same card by another SCard: it would wait for itself")


class SyncCalls(Card):
    """The part of the sync SCard that the head of this file tells of."""

    _turn: RLock
    _beginning: Beginning | None = None

    def _do(self, job: Callable[[Session], T]) -> T:
        """One job at this thread's turn."""
        session = self._opened()
        session.refuse_inside()
        refuse_to_wait_for_itself(session)
        with self._turn:
            return job(session)

    @as_in(AsyncCalls.transaction)
    def transaction(self, disposition: Disposition = Disposition.LEAVE) -> AbstractContextManager[None]:
        return _Block(self._transaction(disposition))

    @contextmanager
    def _transaction(self, disposition: Disposition) -> Iterator[None]:
        session = self._opened()
        session.refuse_inside()
        refuse_to_wait_for_itself(session)
        disposition = member("disposition", Disposition, disposition)
        beginning = Beginning(session, disposition)
        outside = _here.held
        with self._turn:
            try:
                self._beginning = beginning
                beginning.wait()
                _here.held = (*outside, session)
                yield
                _here.held = outside
                if not self._closed:  # else the close has ended it
                    session.end(beginning, disposition)
            except GeneratorExit:  # thrown away: by a finalizer, at any moment and in any thread
                session.abandon(beginning)
                if session in _here.held:
                    _here.held = outside
                raise
            except BaseException:
                _here.held = outside
                retry_if_interrupted(lambda: best_effort(beginning.leave))  # what went wrong is not hidden by what follows
                raise

    @as_in(AsyncCalls.reset)
    def reset(self, cold: bool = False) -> None:
        disposition = Disposition.UNPOWER if cold else Disposition.RESET
        self._do(lambda session: session.reset(disposition))

    @as_in(AsyncCalls.reconnect)
    def reconnect(self, share: ShareMode | None = None, protocols: Protocol | None = None) -> None:
        share, protocols = self._checked(share, protocols)
        request = cast(Acquisition, self._request)
        self._do(lambda session: request.reconnect(session.share if share is None else share, protocols))

    @as_in(AsyncCalls.control)
    def control(self, code: int, data: bytes = b"") -> bytes:
        code, octets = code_and_data(code, data)
        return self._do(lambda session: session.control(code, octets))

    @overload
    def attribute(self, attribute: TextAttribute) -> str: ...
    @overload
    def attribute(self, attribute: NumberAttribute) -> int: ...
    @overload
    def attribute(self, attribute: int) -> str | int | bytes: ...
    @as_in(AsyncCalls.attribute)
    def attribute(self, attribute: int) -> str | int | bytes:
        number = dword("attribute", attribute)
        return decode_attribute(number, self._do(lambda session: session.get_attribute(number)))

    @as_in(AsyncCalls.set_attribute)
    def set_attribute(self, attribute: int, value: str | int | bytes) -> None:
        number, octets = dword("attribute", attribute), encode_attribute(attribute, value)
        self._do(lambda session: session.set_attribute(number, octets))

    @as_in(AsyncCalls.features)
    def features(self) -> Mapping[int, int]:
        return self._do(lambda session: session.control_exchange(features()))

    @as_in(AsyncCalls.properties)
    def properties(self) -> ReaderProperties:
        return self._do(lambda session: session.control_exchange(properties()))

    @as_in(AsyncCalls.verify_pin_on_pad)
    def verify_pin_on_pad(self, command: C_APDU, entry: PinEntry = PLAIN_ENTRY) -> PadResult:
        exchange = verify(command, entry)
        return self._do(lambda session: session.control_exchange(exchange))

    @as_in(AsyncCalls.modify_pin_on_pad)
    def modify_pin_on_pad(
        self,
        command: C_APDU,
        entry: PinEntry = PLAIN_ENTRY,
        *,
        ask_current: bool = True,
        confirm: bool = True,
        current_offset: int = 0,
        new_offset: int | None = None,
    ) -> PadResult:
        exchange = modify(
            command, entry, ask_current=ask_current, confirm=confirm, current_offset=current_offset, new_offset=new_offset
        )
        return self._do(lambda session: session.control_exchange(exchange))

    @as_in(AsyncCalls.uid)
    def uid(self) -> bytes:
        return uid(self._exchange([GET_UID], None, None))

    @as_in(AsyncCalls.ats)
    def ats(self) -> bytes:
        return ats(self._exchange([GET_ATS], None, None))

    @as_in(AsyncCalls.layer)
    def layer(self, layer: Layer) -> Layered[R_APDU]:
        return Layered(self._exchange, layer)

    def _exchange(self, commands: list[C_APDU], callback: Callback | None, layer: Layer | None) -> R_APDU:
        """Commands to the card: what `send` does."""
        raise NotImplementedError


class _Block(AbstractContextManager[None]):
    """A block that is left wherever it was interrupted: `with` answers for it only once `__enter__` has returned."""

    __reduce_ex__ = refuse_copy

    def __init__(self, block: AbstractContextManager[None]) -> None:
        self._block = block

    def __enter__(self) -> None:
        try:
            self._block.__enter__()
        except BaseException as error:
            self._block.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._block.__exit__(kind, error, traceback)


class Beginning:
    """The begin of a transaction: in a thread of its own, unless nobody else can have the card. Undone there if its caller leaves.

    It names the transaction, too.
    """

    def __init__(self, session: Session, disposition: Disposition) -> None:
        self._session = session
        self._disposition = disposition
        self._begun = self._left = False  # each is set before the other is looked at: one of the two sees both
        self._thread: threading.Thread | None = None
        self._outcome: SimpleQueue[BaseException | None] = SimpleQueue()

    @property
    def pending(self) -> bool:
        """Whether PC/SC still holds the thread."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Return once the transaction has begun."""
        if self._session.share is ShareMode.EXCLUSIVE:
            self._begun = True
            self._session.begin(self)
            return
        self._thread = spawn("scardface-begin", self._begin)
        error = get(self._outcome)
        if error is not None:
            try:
                raise error
            finally:
                del error  # the frame in its traceback must not hold it

    def leave(self) -> None:
        """End it, or have it ended once it has begun."""
        self._left = True
        if self._begun:
            self._session.end(self, self._disposition)

    def _begin(self) -> None:
        error: BaseException | None = None
        try:
            self._session.begin(self)
            self._begun = True
        except BaseException as failure:
            error = failure
        if self._begun and self._left:
            best_effort(lambda: self._session.end(self, Disposition.LEAVE))
        self._outcome.put(error)
