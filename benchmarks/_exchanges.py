"""Those who take part where commands are exchanged: the bare binding, pyscard, yubikit, scardface.

Rules:

- All use the same card in the same reader, SHARED, so that no reader, driver or daemon thread is luckier than another. Where one
  command is measured, scardface has a card of its own, EXCLUSIVE, in a reader of the same driver: with SHARED its `send` holds a
  transaction, which is measured beside the bare Begin, Transmit, End.
- The bare loop is what a C programmer would write in Python: `SCardTransmit` with everything looked up before, the list of ints
  made once, and nothing done with the answer but to look at its return code.
- pyscard gets its command as the list that it wants, made once, and its answer is left as the list that it gives.
- scardface gets a `C_APDU` that was made once, and gives an `R_APDU`.
- yubikit gets bytes and gives bytes, as its interface has it. It is left out where it is not installed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from queue import SimpleQueue
from typing import Any

import trio
from smartcard import scard
from smartcard.System import readers as pyscard_readers

import scardface
import scardface.sync
from scardface.backend import Backend

from ._turns import LOOPS, AsyncTurn, Contender, Turn, timed, timed_async

__all__ = ["bare", "bare_cycle", "bare_transaction", "in_thread", "on_loops", "pyscard", "sync", "yubikit"]

BARE = "bare scard loop"


@contextmanager
def _bare_handle(reader: str) -> Iterator[tuple[int, int]]:
    """A handle of the binding, and the protocol header that goes with it."""
    code, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    _check(code)
    try:
        protocols = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
        code, handle, protocol = scard.SCardConnect(context, reader, scard.SCARD_SHARE_SHARED, protocols)
        _check(code)
        try:
            yield handle, scard.SCARD_PCI_T0 if protocol == scard.SCARD_PROTOCOL_T0 else scard.SCARD_PCI_T1
        finally:
            scard.SCardDisconnect(handle, scard.SCARD_LEAVE_CARD)
    finally:
        scard.SCardReleaseContext(context)


def _check(code: int) -> None:
    if code != scard.SCARD_S_SUCCESS:
        raise OSError(scard.SCardGetErrorMessage(code))


def bare(reader: str, command: bytes, times: int = 1, *, converts: bool = False, name: str = BARE) -> Contender:
    """`SCardTransmit`, so many times in a row.

    Args:
        converts: it has bytes and wants bytes, so each exchange converts both.
    """

    @contextmanager
    def opened() -> Iterator[Turn]:
        transmit, octets = scard.SCardTransmit, list(command)
        with _bare_handle(reader) as (handle, header):

            def loop() -> None:
                for _ in range(times):
                    code, _answer = transmit(handle, header, octets)
                    if code:
                        _check(code)

            def converting_loop() -> None:
                for _ in range(times):
                    code, answer = transmit(handle, header, list(command))
                    if code:
                        _check(code)
                    bytes(answer)

            yield timed(converting_loop if converts else loop)

    return Contender(name, opened)


def bare_transaction(reader: str, command: bytes) -> Contender:
    """`SCardBeginTransaction`, `SCardTransmit`, `SCardEndTransaction`."""

    @contextmanager
    def opened() -> Iterator[Turn]:
        with _bare_handle(reader) as (handle, header):
            yield timed(_transaction(handle, header, list(command)))

    return Contender("bare Begin, Transmit, End", opened)


def _transaction(handle: int, header: int, octets: list[int]) -> Callable[[], None]:
    begin, transmit, end = scard.SCardBeginTransaction, scard.SCardTransmit, scard.SCardEndTransaction

    def call() -> None:
        _check(begin(handle))
        code, _answer = transmit(handle, header, octets)
        _check(code)
        _check(end(handle, scard.SCARD_LEAVE_CARD))

    return call


def bare_cycle(reader: str, command: bytes) -> Callable[[], None]:
    """Open, send one command, close: seven calls of the binding, in the thread that calls what this returns."""
    octets, protocols = list(command), scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1

    def cycle() -> None:
        code, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
        _check(code)
        code, handle, protocol = scard.SCardConnect(context, reader, scard.SCARD_SHARE_SHARED, protocols)
        _check(code)
        _check(scard.SCardBeginTransaction(handle))
        header = scard.SCARD_PCI_T0 if protocol == scard.SCARD_PROTOCOL_T0 else scard.SCARD_PCI_T1
        code, _answer = scard.SCardTransmit(handle, header, octets)
        _check(code)
        _check(scard.SCardEndTransaction(handle, scard.SCARD_LEAVE_CARD))
        _check(scard.SCardDisconnect(handle, scard.SCARD_LEAVE_CARD))
        _check(scard.SCardReleaseContext(context))

    return cycle


@contextmanager
def connection(reader: str) -> Iterator[Any]:
    """A connection of pyscard's, SHARED as is its default."""
    found: Any = next(each for each in pyscard_readers() if str(each) == reader)
    connected = found.createConnection()
    connected.connect(disposition=scard.SCARD_LEAVE_CARD)
    try:
        yield connected
    finally:
        connected.disconnect()
        connected.release()


def pyscard(reader: str, command: bytes, times: int = 1) -> Contender:
    """`CardConnection.transmit`."""

    @contextmanager
    def opened() -> Iterator[Turn]:
        octets = list(command)
        with connection(reader) as connected:
            transmit = connected.transmit
            if times == 1:
                yield timed(lambda: transmit(octets))
                return

            def loop() -> None:
                for _ in range(times):
                    transmit(octets)

            yield timed(loop)

    return Contender("pyscard CardConnection", opened)


def yubikit(reader: str, command: bytes) -> list[Contender]:
    """yubikit's connection over pyscard's, if it is installed."""
    try:
        from ykman.pcsc import ScardSmartCardConnection  # type: ignore[import-not-found,unused-ignore]  # no dependency of ours
    except ImportError:
        return []

    @contextmanager
    def opened() -> Iterator[Turn]:
        found: Any = next(each for each in pyscard_readers() if str(each) == reader)
        unconnected = found.createConnection()
        its: Any = ScardSmartCardConnection(unconnected)  # type: ignore[no-untyped-call]
        try:
            send = its.send_and_receive
            yield timed(lambda: send(command))
        finally:
            its.close()

    return [Contender("yubikit connection", opened)]


def hop(loop: str, reader: str, command: bytes) -> Contender:
    """The least that a call in a thread costs: a thread that is kept, a queue to it, a post back, and the bare call between."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncTurn]:
        transmit, octets = scard.SCardTransmit, list(command)
        asked: SimpleQueue[Callable[[], object] | None] = SimpleQueue()

        def work(handle: int, header: int) -> None:
            while (done := asked.get()) is not None:
                code, _answer = transmit(handle, header, octets)
                _check(code)
                done()

        with _bare_handle(reader) as (handle, header):
            thread = threading.Thread(target=work, args=(handle, header), daemon=True)
            thread.start()
            try:
                yield timed_async(_trio_hop(asked) if loop == "trio" else _asyncio_hop(asked))
            finally:
                asked.put(None)
                thread.join(10)

    return Contender(f"bare hop, {loop}", opened, loop)


def _asyncio_hop(asked: SimpleQueue[Any]) -> Callable[[], Awaitable[object]]:
    loop = asyncio.get_running_loop()

    async def call() -> None:
        future = loop.create_future()
        asked.put(lambda: loop.call_soon_threadsafe(future.set_result, None))
        await future

    return call


def _trio_hop(asked: SimpleQueue[Any]) -> Callable[[], Awaitable[object]]:
    token = trio.lowlevel.current_trio_token()

    async def call() -> None:
        event = trio.Event()
        asked.put(lambda: token.run_sync_soon(event.set))
        await event.wait()

    return call


def transaction_in_thread(loop: str, reader: str, command: bytes) -> Contender:
    """`SCardBeginTransaction`, `SCardTransmit`, `SCardEndTransaction` in the loop's own `to_thread`."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncTurn]:
        to_thread: Callable[..., Any] = trio.to_thread.run_sync if loop == "trio" else asyncio.to_thread
        with _bare_handle(reader) as (handle, header):
            yield timed_async(lambda: to_thread(_transaction(handle, header, list(command))))

    return Contender(f"to_thread(Begin, Transmit, End), {loop}", opened, loop)


def in_thread(loop: str, reader: str, command: bytes, times: int = 1) -> Contender:
    """pyscard in an event loop, as its users do it: the loop's own `to_thread` around `transmit`, command by command."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncTurn]:
        octets = list(command)
        to_thread: Callable[..., Any] = trio.to_thread.run_sync if loop == "trio" else asyncio.to_thread
        with connection(reader) as connected:
            transmit = connected.transmit

            async def commands() -> None:
                for _ in range(times):
                    await to_thread(transmit, octets)

            yield timed_async(commands if times > 1 else lambda: to_thread(transmit, octets))

    return Contender(f"to_thread(transmit), {loop}", opened, loop)


def sync(
    reader: str,
    command: scardface.C_APDU,
    times: int = 1,
    *,
    alone: bool = False,
    name: str = "scardface.sync",
    backend: Backend | None = None,
) -> Contender:
    """`scardface.sync`.

    Args:
        alone: EXCLUSIVE, so the reader is its own.
        backend: the binding; None: the default.
    """
    share = scardface.ShareMode.EXCLUSIVE if alone else scardface.ShareMode.SHARED

    @contextmanager
    def opened() -> Iterator[Turn]:
        batch = [command] * times
        with scardface.sync.SCard(readers=reader, timeout=10, share=share, backend=backend) as card:
            send = card.send
            yield timed((lambda: send(*batch)) if times > 1 else lambda: send(command))

    return Contender(name, opened)


def on_loops(
    readers: str | Sequence[str],
    command: scardface.C_APDU,
    times: int = 1,
    *,
    name: str = "scardface",
    backend: Backend | None = None,
) -> list[Contender]:
    """scardface on every event loop.

    Args:
        readers: one for all, SHARED; or one for each, EXCLUSIVE.
        backend: the binding; None: the default.
    """
    batch = [command] * times
    share = scardface.ShareMode.SHARED if isinstance(readers, str) else scardface.ShareMode.EXCLUSIVE
    each = [readers] * len(LOOPS) if isinstance(readers, str) else readers

    def contender(loop: str, reader: str) -> Contender:
        @asynccontextmanager
        async def opened() -> AsyncIterator[AsyncTurn]:
            async with scardface.SCard(readers=reader, timeout=10, share=share, backend=backend) as card:
                send = card.send
                yield timed_async((lambda: send(*batch)) if times > 1 else lambda: send(command))

        return Contender(f"{name}, {loop}", opened, loop)

    return [contender(loop, reader) for loop, reader in zip(LOOPS, each, strict=True)]
