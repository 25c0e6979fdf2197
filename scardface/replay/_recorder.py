"""The recorder: wraps an open card and writes a cassette.

Rules:

- It has `send`, `transmit`, `channel`, `layer` and `transaction` of the card that it wraps, asynchronous where the card's are.
- Success words are the card's, and those of a `send`, for what is played, too. A cassette does not know them.
- Exchanges are recorded as the caller sees them, before a layer wraps a command and after it has unwrapped the response, in the
  order in which the card answered.
- Data to be hidden is left out when an exchange is recorded, not when it is written. Commands that fetch more of a hidden response,
  or continue a hidden chain, are hidden, too; so are reads and updates of files that hold keys (`SecretTracker`).
- Modes are those of vcrpy. What is played from the cassette is not sent to the live card, so the card's state does not follow.
- The file is written by `save`, which is called at the end of the block even after an exception: the exchanges before it are
  useful.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, NoReturn, SupportsIndex, TypeAlias, TypeVar, get_args, overload

import anyio.lowlevel

from .. import sync
from .._enums import Disposition, Protocol, ShareMode
from .._faces.card import commands, raw_command
from .._faces.routes import Callback, Channel, Layered
from .._faces.scard import SCard
from .._faces.sync_base import plain_callback
from .._pcsc.no_copy import refuse_copy
from .._session.card_request import seconds_of
from ..iso7816._apdu import C_APDU, R_APDU, StatusError, Success, as_command
from ..iso7816._atr import ATR
from ..iso7816._channel import OPEN, close_command, opened
from ..iso7816._judgement import Judgement, ends_batch
from ..iso7816._layer import Layer
from ..iso7816._secrets import SecretTracker
from ._cassette import CassetteError, StrPath, append, check_writable, read, write
from ._secrets import carries_secret
from ._tape import Exchange, Raw, Sent, Tape

CardT = TypeVar("CardT", SCard, sync.SCard)
AsyncAnswer: TypeAlias = "Coroutine[Any, Any, R_APDU]"
AsyncAnswers: TypeAlias = "Coroutine[Any, Any, list[R_APDU]]"
Mode = Literal["once", "none", "all", "new"]
Octets = bytes | bytearray | memoryview
SecretPredicate = Callable[[C_APDU], bool]
"""Whether the data of a command, and of its response, are left out of the cassette."""


def _time_left(timeout: float | None) -> Callable[[], float | None]:
    """What is left of a time-out of now, in seconds; None: for ever."""
    seconds = None if timeout is None else seconds_of(timeout)
    if seconds is None:
        return lambda: None
    deadline = time.monotonic() + seconds
    return lambda: max(0.0, deadline - time.monotonic())


class Recorder(Generic[CardT]):
    """Wraps an open card and writes what is exchanged to a cassette.

    ::

        async with SCard(timeout=30) as card:
            with Recorder(card, "session.cassette") as recorder:
                await use(recorder)                  # has send and transmit, as the card has

    With a `scardface.SCard`, `send` and `transmit` are awaited; with a `scardface.sync.SCard` they are plain methods.

    ====== ================================ ==================================
    mode   what is recorded is              what is not recorded
    ====== ================================ ==================================
    once   played                           is recorded if there was no file, else an error
    none   played                           is an error
    new    played                           is recorded
    all    exchanged and recorded afresh    is recorded
    ====== ================================ ==================================

    What is played does not reach the live card: with "new" it is not in the state that the recorded commands left it in.

    Attributes:
        card: the card that is wrapped; what it can do besides is not recorded.
        path: the cassette.
        mode: the mode.
    """

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse_copy(self, protocol)

    def __init__(self, card: CardT, path: StrPath, mode: Mode = "once", *, redact: SecretPredicate = carries_secret) -> None:
        """Begin to record, or to play.

        Args:
            card: an open card.
            path: the cassette, in a folder that is there. That it can be written is seen now, before anything is sent.
            mode: see above.
            redact: whether the data of a command and of its response are hidden: the cassette then says how many bytes of response
                there were, and any data of a command will match. `carries_secret` is the default; `may_carry_secret` hides all
                that no standard says to be harmless; `lambda command: carries_secret(command) or command.ins == 0xDA` adds one.
                Files of SIMs that hold keys are hidden in any case.

        Raises:
            CassetteError: the cassette is damaged, or cannot be added to: it is a dump of apdu4j, or of another card.
            FileNotFoundError: the mode is "none", and there is no cassette.
            OSError: something is to be recorded, and the cassette cannot be written.
            AttributeError: the card is not open.
            ValueError: no such mode, or a card without a protocol.
        """
        if mode not in get_args(Mode):
            raise ValueError(f"mode {mode!r}: there are {', '.join(get_args(Mode))}")
        if card.protocol not in (Protocol.T0, Protocol.T1, Protocol.RAW):
            raise ValueError("a cassette is of a card that is opened with a protocol, T=0 or T=1")
        self.card: CardT = card
        self.path: Path = Path(path)
        self.mode: Mode = mode
        self._plays = mode != "all" and (mode == "none" or self.path.exists())
        self._records = mode in ("all", "new") or not self._plays
        self._tape = Tape(self._load() if self._plays else (), path)
        if self._records:
            check_writable(path)
        self._target = self.path.absolute()  # even if the working directory changes
        self._fresh: list[Exchange] = []
        self._saved = 0  # how many of these have been written
        self._secrets = SecretTracker(redact)

    def _load(self) -> tuple[Exchange, ...]:
        cassette = read(self.path)
        if self._records and cassette.is_dump:
            raise CassetteError(self.path, 0, "a dump of apdu4j can be played, but nothing can be added to it")
        if self._records and (cassette.atr, cassette.protocol) != (bytes(self.card.atr), self.card.protocol):
            raise CassetteError(self.path, 0, f"recorded of another card: ATR {ATR(cassette.atr)}, {cassette.protocol.name}")
        return cassette.exchanges

    @property
    def reader(self) -> str:
        """The card's reader."""
        return self.card.reader

    @property
    def atr(self) -> ATR:
        """The card's ATR."""
        return self.card.atr

    @property
    def protocol(self) -> Protocol:
        """The card's protocol."""
        return self.card.protocol

    @property
    def all_played(self) -> bool:
        """Whether every exchange that was on the cassette at the beginning was played."""
        return self._tape.all_played

    @overload
    def send(
        self: Recorder[SCard],
        *apdus: C_APDU | Octets,
        callback: Callback | None = None,
        success: Success | None = None,
        timeout: float | None = None,
    ) -> Coroutine[Any, Any, R_APDU]: ...

    @overload
    def send(
        self: Recorder[sync.SCard],
        *apdus: C_APDU | Octets,
        callback: Callback | None = None,
        success: Success | None = None,
        timeout: float | None = None,
    ) -> R_APDU: ...

    def send(
        self,
        *apdus: C_APDU | Octets,
        callback: Callback | None = None,
        success: Success | None = None,
        timeout: float | None = None,
    ) -> Any:
        """As the card's `send`. A batch that is played, or partly so, is not atomic: another `send` may come between its commands.

        Raises:
            UnrecordedCommandError: nothing is recorded any more, and this is not on the cassette. And what the card's own raises.
        """
        return self._exchange(commands(apdus), callback, None, self._judged_by(success), timeout)

    @overload
    def send_all(
        self: Recorder[SCard],
        *apdus: C_APDU | Octets,
        stop: bool = True,
        success: Success | None = None,
        timeout: float | None = None,
    ) -> Coroutine[Any, Any, list[R_APDU]]: ...

    @overload
    def send_all(
        self: Recorder[sync.SCard],
        *apdus: C_APDU | Octets,
        stop: bool = True,
        success: Success | None = None,
        timeout: float | None = None,
    ) -> list[R_APDU]: ...

    def send_all(
        self, *apdus: C_APDU | Octets, stop: bool = True, success: Success | None = None, timeout: float | None = None
    ) -> Any:
        """As the card's `send_all`.

        Raises:
            UnrecordedCommandError: as `send`. And what the card's own raises.
        """
        return self._exchange_all(commands(apdus), None, self._kept_and_judged_by(success, stop), timeout)

    def _judged_by(self, success: Success | None) -> Judgement | None:
        return self.card._judged_by(success)

    def _kept_and_judged_by(self, success: Success | None, stop: bool) -> Judgement:
        return self.card._kept_and_judged_by(success, stop)

    def _exchange(
        self,
        batch: list[C_APDU],
        callback: Callback | None,
        layer: Layer | None,
        judgement: Judgement | None,
        timeout: float | None = None,
    ) -> Any:
        if isinstance(self.card, sync.SCard):
            return self._send(self.card, batch, callback, layer, judgement, timeout)
        return self._send_async(self.card, batch, callback, layer, judgement, timeout)

    def _exchange_all(self, batch: list[C_APDU], layer: Layer | None, judgement: Judgement, timeout: float | None = None) -> Any:
        if isinstance(self.card, sync.SCard):
            self._send(self.card, batch, None, layer, judgement, timeout)
            return judgement.responses
        return self._send_all_async(self.card, batch, layer, judgement, timeout)

    def _send(
        self,
        card: sync.SCard,
        batch: list[C_APDU],
        callback: Callback | None,
        layer: Layer | None = None,
        judgement: Judgement | None = None,
        timeout: float | None = None,
    ) -> R_APDU:
        left = _time_left(timeout)
        with card.transaction() if self._is_atomic(batch, callback) else nullcontext():
            if not self._plays:
                return card._exchange(batch, self._recording_callback(callback), layer, judgement, left())
            return self._send_each(card, batch, callback, layer, judgement, left)

    def _send_each(
        self,
        card: sync.SCard,
        batch: list[C_APDU],
        callback: Callback | None,
        layer: Layer | None,
        judgement: Judgement | None,
        left: Callable[[], float | None],
    ) -> R_APDU:
        """Play what can be played, and have the card do the rest."""
        keep = self._recording_callback(callback)
        response: R_APDU | None = None
        for command in batch:
            response = self._play(command, judgement)
            if response is None:
                response = card._exchange([command], keep, layer, judgement, left())
            elif callback is not None:
                plain_callback(callback)(command, response)
            if ends_batch(response, judgement):
                break
        assert response is not None, "commands() refuses an empty batch"
        return response

    async def _send_async(
        self,
        card: SCard,
        batch: list[C_APDU],
        callback: Callback | None,
        layer: Layer | None = None,
        judgement: Judgement | None = None,
        timeout: float | None = None,
    ) -> R_APDU:
        left = _time_left(timeout)
        async with card.transaction() if self._is_atomic(batch, callback) else nullcontext():
            if not self._plays:
                return await card._exchange(batch, self._recording_callback(callback), layer, judgement, left())
            return await self._send_each_async(card, batch, callback, layer, judgement, left)

    async def _send_each_async(
        self,
        card: SCard,
        batch: list[C_APDU],
        callback: Callback | None,
        layer: Layer | None,
        judgement: Judgement | None,
        left: Callable[[], float | None],
    ) -> R_APDU:
        """As `_send_each`, on an event loop."""
        keep = self._recording_callback(callback)
        response: R_APDU | None = None
        for command in batch:
            response = self._play(command, judgement)
            if response is None:
                response = await card._exchange([command], keep, layer, judgement, left())
            else:
                await anyio.lowlevel.checkpoint()
                result = callback(command, response) if callback is not None else None
                if inspect.isawaitable(result):
                    await result
            if ends_batch(response, judgement):
                break
        assert response is not None, "commands() refuses an empty batch"
        return response

    async def _send_all_async(
        self, card: SCard, batch: list[C_APDU], layer: Layer | None, judgement: Judgement, timeout: float | None
    ) -> list[R_APDU]:
        await self._send_async(card, batch, None, layer, judgement, timeout)
        return judgement.responses or []

    def _is_atomic(self, batch: list[C_APDU], callback: Callback | None) -> bool:
        """Whether the card's `send` would hold one transaction over the batch, which it does not with the callback that records."""
        return callback is None and len(batch) > 1 and self._records and self.card.share is ShareMode.SHARED

    # Ways to the card other than `send`.

    @overload
    def layer(self: Recorder[SCard], layer: Layer) -> Layered[AsyncAnswer, AsyncAnswers]: ...

    @overload
    def layer(self: Recorder[sync.SCard], layer: Layer) -> Layered[R_APDU, list[R_APDU]]: ...

    def layer(self, layer: Layer) -> Layered[Any, Any]:
        """As the card's `layer`. What the caller sends and gets is recorded, and played by a Recorder, without the layer."""
        return Layered(self, layer)

    @overload
    def transaction(self: Recorder[SCard], disposition: Disposition = Disposition.LEAVE) -> AbstractAsyncContextManager[None]: ...

    @overload
    def transaction(self: Recorder[sync.SCard], disposition: Disposition = Disposition.LEAVE) -> AbstractContextManager[None]: ...

    def transaction(self, disposition: Disposition = Disposition.LEAVE) -> Any:
        """The card's own `transaction`, of which nothing is recorded.

        Args:
            disposition: what becomes of the card at the end.
        """
        return self.card.transaction(disposition)

    @overload
    def channel(self: Recorder[SCard]) -> AbstractAsyncContextManager[Channel[AsyncAnswer, AsyncAnswers]]: ...

    @overload
    def channel(self: Recorder[sync.SCard]) -> AbstractContextManager[Channel[R_APDU, list[R_APDU]]]: ...

    def channel(self) -> Any:
        """As the card's `channel`, with the commands that open and close it. One that is played is not opened on the live card."""
        return self._channel(self.card) if isinstance(self.card, sync.SCard) else self._channel_async(self.card)

    @contextmanager
    def _channel(self, card: sync.SCard) -> Iterator[Channel[R_APDU, list[R_APDU]]]:
        played = self._play(OPEN) if self._plays else None
        if played is None:
            with ExitStack() as stack:
                try:
                    number = stack.enter_context(card.channel()).number
                except StatusError as refused:
                    self._record(OPEN, refused.response)
                    raise
                self._record(OPEN, R_APDU(bytes([number]), 0x90, 0x00))
                yield Channel(self, number)
            self._record(close_command(number), R_APDU(b"", 0x90, 0x00))
        else:
            number = opened(played)
            yield Channel(self, number)
            self._send(card, [close_command(number)], None).check()

    @asynccontextmanager
    async def _channel_async(self, card: SCard) -> AsyncIterator[Channel[AsyncAnswer, AsyncAnswers]]:
        played = self._play(OPEN) if self._plays else None
        if played is None:
            async with AsyncExitStack() as stack:
                try:
                    number = (await stack.enter_async_context(card.channel())).number
                except StatusError as refused:
                    self._record(OPEN, refused.response)
                    raise
                self._record(OPEN, R_APDU(bytes([number]), 0x90, 0x00))
                yield Channel(self, number)
            self._record(close_command(number), R_APDU(b"", 0x90, 0x00))
        else:
            number = opened(played)
            yield Channel(self, number)
            (await self._send_async(card, [close_command(number)], None)).check()

    @overload
    def transmit(self: Recorder[SCard], data: Octets) -> Coroutine[Any, Any, bytes]: ...

    @overload
    def transmit(self: Recorder[sync.SCard], data: Octets) -> bytes: ...

    def transmit(self, data: Octets) -> Any:
        """As the card's `transmit`.

        Raises:
            UnrecordedCommandError: as `send`. And what the card's own raises.
        """
        raw = raw_command(data)
        if isinstance(self.card, sync.SCard):
            return self._transmit(self.card, raw)
        return self._transmit_async(self.card, raw)

    def _transmit(self, card: sync.SCard, raw: bytes) -> bytes:
        response = self._play_raw(raw)
        return self._record_raw(raw, card.transmit(raw)) if response is None else response

    async def _transmit_async(self, card: SCard, raw: bytes) -> bytes:
        response = self._play_raw(raw)
        if response is None:
            return self._record_raw(raw, await card.transmit(raw))
        await anyio.lowlevel.checkpoint()
        return response

    # Playing.

    def _play(self, command: C_APDU, judgement: Judgement | None = None) -> R_APDU | None:
        """The recorded response to a command, judged; None: send it to the card."""
        found = self._take_recorded(lambda each: isinstance(each, Sent) and each.is_of(command), command)
        if not isinstance(found, Sent):
            return None
        self._secrets.hides(command, found.response.sw)  # whether later commands are hidden depends on it
        return found.response if judgement is None else judgement.take_played(found.response)

    def _play_raw(self, raw: bytes) -> bytes | None:
        found = self._take_recorded(lambda each: isinstance(each, Raw) and each.is_of(raw), as_command(raw))
        if not isinstance(found, Raw):
            return None
        self._secrets.hides(as_command(raw), int.from_bytes(found.response[-2:], "big"))
        return found.response

    def _take_recorded(self, fits: Callable[[Exchange], bool], command: C_APDU) -> Exchange | None:
        """The next recorded exchange that fits, which counts as played from now on.

        Returns:
            None: there is none, so the command has to be sent.

        Raises:
            UnrecordedCommandError: there is none, and nothing is recorded any more.
        """
        found = self._tape.take(fits)
        if found is None and not self._records:
            raise self._tape.unrecorded(command)
        return found

    # Recording.

    def _recording_callback(self, callback: Callback | None) -> Callback:
        """A callback that records the exchange, and then calls the caller's."""

        def keep(command: C_APDU, response: R_APDU) -> object:
            self._record(command, response)
            return None if callback is None else callback(command, response)

        return keep

    def _record(self, command: C_APDU, response: R_APDU) -> None:
        hidden = self._secrets.hides(command, response.sw, response.data)
        hides_data, hides_response = hidden and bool(command.data), hidden and bool(response.data)
        if hides_data:
            command = C_APDU(command.cla, command.ins, command.p1, command.p2, b"", command.le)
        if hides_response:
            response = R_APDU(bytes(len(response.data)), response.sw1, response.sw2, secret=response.secret)
        self._fresh.append(Sent(command, response, hides_data, hides_response))

    def _record_raw(self, raw: bytes, response: bytes) -> bytes:
        hidden = self._secrets.hides(as_command(raw), int.from_bytes(response[-2:], "big"), response[:-2])
        hides_data, hides_response = hidden and len(raw) > 4, hidden and len(response) > 2
        kept = bytes(len(response) - 2) + response[-2:] if hides_response else response
        self._fresh.append(Raw(raw[:4] if hides_data else raw, kept, hides_data, hides_response))
        return response

    # The file.

    def save(self) -> None:
        """Write what was recorded since the last time. Does nothing if nothing was.

        Raises:
            OSError: the file cannot be written.
        """
        if self._saved == len(self._fresh):
            return
        if self._plays:
            append(self._target, self._fresh[self._saved :])
        else:
            write(self._target, self.card.atr, self.card.protocol, self._fresh)
        self._saved = len(self._fresh)

    def __enter__(self) -> Recorder[CardT]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Save, also when the block failed."""
        self.save()
