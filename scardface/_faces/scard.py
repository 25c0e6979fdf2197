"""The async face: an SCard for asyncio and trio.

Who owns what, who may call it from where, what ends it:

- An open card owns a thread, the one that connected it. Every PC/SC call of the card happens there, one hop for a whole batch.
- Methods belong to the event loop that acquired the card; `cancel` comes from anywhere.
- Batches of one card follow each other. A batch whose caller left ends with its command in flight, in the thread, where the next
  batch waits for that; no lock is held for it here.
- `aclose` hands the close to the thread before it first waits, so that no cancellation loses it.
"""

from __future__ import annotations

import contextvars
import inspect
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import anyio

from .._enums import Disposition, Lengths, Protocol, ShareMode
from .._pcsc.backend import Backend
from .._session.card_request import ANY_PROTOCOL, DEFAULT_OPTIONS, Groups, OnReset, Readers, member
from .._session.card_state import best_effort
from .._session.exchanger import Prepared
from .._session.session import Session
from .._threads import Loop, Reply, until_ended, within_grace
from .._waiting.acquisition import acquire
from .._waiting.driver import driver_of, until_idle
from .._waiting.removal import Removal, wait
from ..errors import CardRemovedError
from ..iso7816._apdu import C_APDU, R_APDU, Buffer
from ..iso7816._channel import OPEN, close_command, opened
from ..iso7816._exchange import ExchangeOptions
from ..iso7816._layer import Layer
from .calls import AsyncCalls
from .card import commands, raw_command
from .card_lock import Turn
from .routes import Callback, Channel


class _Inside:
    """Marks the context of a running callback: batches on its card cannot start from there."""

    __slots__ = ("card", "outer", "running")

    def __init__(self, card: SCard, outer: _Inside | None) -> None:
        self.card = card
        self.outer = outer
        self.running = True


_inside: contextvars.ContextVar[_Inside | None] = contextvars.ContextVar("scardface_inside", default=None)


class SCard(AsyncCalls):
    """A smart card: waits for one that matches, opens it, talks to it.

    `async with SCard(...) as card:` acquires and closes; `card = await SCard(...)` with `await card.aclose()` is the same without
    the block. The constructor does no I/O. One SCard is one acquisition. A card that is already in counts; waiters of the whole
    process are served oldest first.

    Args:
        readers: exact names of readers to watch, a str or an iterable of str; a compiled str pattern is searched in the name;
            `serial("...")` is the reader with that serial number. None: all readers.
        groups: reader groups to watch, a str or an iterable of str. None: no group is passed (pcsc-lite ignores groups).
        timeout: seconds for the whole acquisition, connecting included. None, -1, inf: for ever. 0: one look and one try at each
            card that matches.
        atr: a regular expression as bytes, searched in the ATR (`^` anchors it), compiled with re.DOTALL; or a compiled bytes
            pattern. It is matched once per ATR and is not bounded: it is your own code. Its end is `\\Z`, since `$` also matches
            before a final byte 0A.
        pnp: follow the readers that are plugged in and out, whichever they are, and no reader at all is waited out; `readers` and
            `groups` are ignored, with a UserWarning. `wait_for_reader` waits for those asked for.
        share: EXCLUSIVE never joins another program (scdaemon, a browser) and resets the card at the close; SHARED joins those
            who share, and leaves the card as it is; DIRECT opens the reader, with a card or without one (`atr` must be None).
        protocols: `Protocol.T0 | Protocol.T1` lets the reader choose by the ATR.
        lengths: how long commands and answers reach the card.
        options: how far an exchange may go (steps, bytes), and what it may fetch beyond the standard's rules.
        settle: seconds, 0 to 60, that a card must have been in without a change before it is opened; 0.05 for contactless readers
            that report a tap twice.
        new_only: ignore the cards that are in when the wait starts, until they have been taken out.
        on_reset: "raise" a CardResetError when another program has reset the card; "reconnect": reconnect, and send the command
            that met the reset once more, from its beginning. For those alone who keep no state on the card: what was selected and
            verified is gone without a word. Not for commands that go through a layer.
        wait_for_reader: readers that are asked for and are plugged in later, under whatever name, are waited for, and so is a
            service that is not there yet. False: the readers present at the start are watched, and none is a NoReaderError at once.
        backend: the PC/SC to use; None: the default one at the start of the acquisition.

    Raises (when acquiring):
        CardTimeoutError: the time ran out; the text says what was seen. Its `__cause__` is what was wrong with a card that could
            not be opened: that ends no wait while there is time, and is tried again.
        WaitCancelledError: `cancel()` or `cancel_all()`.
        NoReaderError: no reader at the start (never with pnp or wait_for_reader).
        ServiceUnavailableError: no PC/SC service at the start (not with wait_for_reader), or it refuses this program.
        SCardError: no thread can be started, or PC/SC failed at the start with a timeout of 0.
        TypeError, ValueError: from the constructor, for an argument of a wrong type or range.
    """

    _verb = "use 'async with SCard(...)' or 'await SCard(...)'"

    def __init__(
        self,
        readers: Readers = None,
        groups: Groups = None,
        timeout: float | None = -1,
        atr: bytes | re.Pattern[bytes] | None = None,
        pnp: bool = False,
        *,
        share: ShareMode = ShareMode.EXCLUSIVE,
        protocols: Protocol = ANY_PROTOCOL,
        lengths: Lengths = Lengths.AUTO,
        options: ExchangeOptions = DEFAULT_OPTIONS,
        settle: float = 0.0,
        new_only: bool = False,
        on_reset: OnReset = "raise",
        wait_for_reader: bool = False,
        backend: Backend | None = None,
    ) -> None:
        self._wish(
            *(readers, groups, timeout, atr, pnp, share, protocols, lengths, options, settle, new_only, on_reset),
            *(wait_for_reader, backend),
        )
        self._ended: anyio.Event | None = None  # set when the close is done
        self._close_error: Exception | None = None

    def __await__(self) -> Generator[Any, None, SCard]:
        return self._acquire().__await__()

    def __aenter__(self) -> Coroutine[Any, Any, SCard]:
        return self._acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, GeneratorExit):
            self._hand_over_close()  # the coroutine is being thrown away: nothing can be awaited any more
            return
        await self._aclose(None, cancelled=kind is not None and issubclass(kind, anyio.get_cancelled_exc_class()))

    def _acquire(self) -> Coroutine[Any, Any, SCard]:
        return acquire(self._begin(), self._take)

    def _take(self, session: Session) -> SCard:
        """Take over what the acquisition has opened."""
        assert self._request is not None
        self._loop = Loop()
        self._session, self._worker = session, self._request.worker
        self._turn = Turn(self._loop, session.card_key)
        return self

    async def send(self, *apdus: C_APDU | Buffer, callback: Callback | None = None) -> R_APDU:
        """Send commands in order; stop after the first whose final status is not 9000.

        The caller never sees 61xx, 6Cxx, T=0's missing Le or chaining (ISO 7816-4:2020, 5.3; ISO 7816-3:2006, 12). No other
        `send` on this card comes in between. Cancelled, it leaves at once: the command in flight ends in the card's thread, no
        later one goes out, and the next `send` waits for that.

        On a card that is SHARED it holds a transaction from before its first step to after its last, so that no other program's
        command comes in between, nor between 61xx and GET RESPONSE or the parts of a chain. That is two more calls of PC/SC, and it
        waits for another program's transaction. Inside `transaction()` and with EXCLUSIVE there is nothing to add. With a callback
        there is one for each command, which has ended when the callback runs.

        Args:
            apdus: each a C_APDU, or an encoded command (re-encoded in the shortest form).
            callback: `callback(command, response)` after each of them, in this task, before the next goes out; what it returns is
                awaited if it can be. Its exception ends the batch. It cannot send on this card. None: the exchange is logged at
                DEBUG by the logger "scardface.apdu", secrets left out.

        Returns:
            The last response.

        Raises:
            ValueError, TypeError: nothing or no command; raised before anything is sent.
            CardRemovedError, CardResetError, CardCommunicationError, ServiceUnavailableError: what became of the card.
            RuntimeError: the card is not open, belongs to another event loop, is called from inside its own callback, or would wait
                for a transaction that nobody ends.
        """
        return await self._exchange(commands(apdus), callback, None)

    async def _exchange(self, commands: list[C_APDU], callback: Callback | None, layer: Layer | None) -> R_APDU:
        session = self._opened()
        self._refuse_inside()
        level = await self._turn.take()
        try:
            batch = session.prepare(commands, layer)  # at its turn: the one before may have changed the protocol
            if callback is None:
                return await self._send(session, batch)
            return await self._send_each(session, batch, callback)
        finally:
            self._turn.give(level)

    async def _send_each(self, session: Session, batch: list[Prepared], callback: Callback) -> R_APDU:
        """A hop for each command, since the callback runs in this task before the next goes out."""
        response: R_APDU | None = None
        for answered, prepared in enumerate(batch):
            try:
                response = await self._send(session, [prepared])
            except CardRemovedError as error:
                error.answered = answered
                raise
            await self._call_back(callback, prepared[0], response)
            if response.sw != 0x9000:
                break
        assert response is not None, "a batch has a command"
        return response

    async def _send(self, session: Session, batch: list[Prepared]) -> R_APDU:
        reply: Reply[R_APDU | None] = Reply(self._loop)
        response = await self._hop(reply, reply.run, session.send, batch, None, reply.is_abandoned)
        assert response is not None, "only an abandoned batch has no response, and nobody awaits that one"
        return response

    async def _call_back(self, callback: Callback, command: C_APDU, response: R_APDU) -> None:
        inside = _Inside(self, _inside.get())
        token = _inside.set(inside)
        try:
            result = callback(command, response)
            if inspect.isawaitable(result):
                await result
        finally:
            inside.running = False  # tasks that the callback started may send later
            _inside.reset(token)

    def _refuse_inside(self) -> None:
        inside = _inside.get()
        while inside is not None:
            if inside.card is self and inside.running:
                raise RuntimeError("this card cannot be used from inside its own callback")
            inside = inside.outer

    async def transmit(self, data: bytes) -> bytes:
        """One raw exchange, verbatim: what the card answers to exactly these bytes, 61xx and 6Cxx included.

        Args:
            data: at least 4 bytes.

        Returns:
            Data and status word, at least 2 bytes.

        Raises:
            ValueError: shorter than that; and as `send`.
        """
        raw = raw_command(data)
        return await self._do(lambda session: session.transmit(raw))

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel[Coroutine[Any, Any, R_APDU]]]:
        """Open a logical channel and close it at the end of the block (ISO 7816-4:2020, 11.1.2): `async with card.channel() as ch`.

        Returns:
            What the block gets: `ch.send(...)` and `ch.layer(...)` as the card's, `ch.number` from 1 to 19.

        Raises:
            StatusError: the card refuses to open or to close it.
            CardCommunicationError: the card answers no channel number; and as `send`.
        """
        channel = Channel(self._exchange, opened(await self.send(OPEN)))
        closing = close_command(channel.number)
        try:
            yield channel
        except BaseException:
            # Handed over rather than awaited: no cancellation loses it, and what went wrong is not hidden by what follows.
            session = self._session
            if session is not None and not self._closed:
                self._later(lambda: best_effort(lambda: session.send(session.prepare([closing]))))
            raise
        (await self.send(closing)).check()

    async def wait(self) -> None:
        """Return once this card is gone: taken out, swapped, its reader unplugged; at once if it is already.

        Raises:
            ServiceUnavailableError: the PC/SC service went, and the card's session with it.
            WaitCancelledError: `cancel()`, or the card was closed meanwhile.
            RuntimeError: the card is not open.
        """
        session, worker = self._opened(), self._worker
        assert worker is not None
        assert self._request is not None
        removal = Removal(session, self._request.backend, worker.submit)
        self._begin_removal(removal)
        try:
            await wait(removal)
        finally:
            self._end_removal(removal)

    async def aclose(self, disposition: Disposition | None = None) -> None:
        """Close the card; then offer it to the next waiter. Does nothing the second time.

        Returns when its thread and its PC/SC context are gone; cancelled, within 0.2 s, and the thread finishes by itself.

        Args:
            disposition: what becomes of the card; None: RESET after EXCLUSIVE, so that nobody inherits a verified PIN, else LEAVE.
                While another program holds a transaction, everything but LEAVE waits for its end.
        """
        if disposition is not None:
            disposition = member("disposition", Disposition, disposition)
        await self._aclose(disposition, cancelled=False)

    async def _aclose(self, disposition: Disposition | None, *, cancelled: bool) -> None:
        self._check_process()
        ended, loop = anyio.Event(), Loop()
        if self._hand_over_close(disposition, lambda: loop.post(ended.set)):
            self._ended = ended
        worker, request = self._worker, self._request
        if worker is None or request is None or self._ended is None:
            return
        ended = self._ended

        async def closed() -> None:
            await ended.wait()
            await until_ended([worker.thread])
            await until_idle(driver_of(request.backend))

        await within_grace(closed, cancelled=cancelled)
        error, self._close_error = self._close_error, None
        if error is not None and not cancelled:
            raise error

    def _hand_over_close(self, disposition: Disposition | None = None, ended: Callable[[], object] | None = None) -> bool:
        """Queue the close behind what the card's thread still does, and `ended` behind it; whether this was the first call."""
        if self._closed:
            return False
        self._closed = True
        self._cancel_removals()
        session, worker = self._session, self._worker
        if session is not None and worker is not None:
            worker.submit(self._close, session, disposition)
            if ended is not None:
                worker.submit(ended)
            worker.finish()
        elif self._request is not None:
            self._request.cancel()  # a task that still acquires
        return True

    def _close(self, session: Session, disposition: Disposition | None) -> None:
        """In the card's thread."""
        try:
            session.close(disposition)
        except Exception as error:  # a backend's own
            self._close_error = error

    def _close_from_collector(self) -> None:
        self._hand_over_close()
