"""The connection between a virtual card and vpcd, the reader driver of the vsmartcard project.

Rules:

- The card is a TCP client of its slot's port. Each message, either way, is a length (2 bytes, big-endian) and that many bytes.
- From the driver, a message of one byte is a control byte: 0 power off, 1 power on, 2 reset, 4 send the ATR. Only the last is
  answered. A longer message is a command, and is answered. (So a command of one byte is taken for a control byte.)
- The driver writes length and body separately. Without TCP_NODELAY, and TCP_QUICKACK before every read, each exchange costs 40 ms.
- The driver closes the connection of a card after an error, e.g. a command of 65,536 bytes. The card connects again, unless it is
  taken out or the driver has ended, but only after the driver has polled the empty reader: otherwise pcscd would miss the removal,
  and if it failed to reset the card meanwhile, report an empty reader until the card is really removed.
- An empty answer blocks the driver until the connection is closed. An ATR of more than 33 bytes leaves the card present but mute,
  so that is what a card without an ATR sends.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
from collections.abc import Callable

from .._threads import RLock, spawn
from ._virtual_card import VirtualCard, keep_error

_POWER_OFF, _POWER_ON, _RESET, _ATR = b"\x00", b"\x01", b"\x02", b"\x04"
_MAX_MESSAGE = 0xFFFF
_MAX_ATR = 33
_MUTE_ATR = bytes(_MAX_ATR + 1)
_INTERNAL_ERROR = b"\x6f\x00"
_JOIN_TIMEOUT = 1.0
"""Seconds that taking a card out waits for the card's own code to return."""

_AWAY = 0.6
"""Seconds until a card connects again: the driver polls every 0.4 s (fact 12), and nothing reports when it did."""

_logger = logging.getLogger("scardface.testing")


class CardLink:
    """A card in a slot: its connection to the driver, and the thread in which all of the card's code runs.

    Attributes:
        asked: whether the driver has asked the card for anything, and so may have taken it to be in.
    """

    def __init__(self, card: VirtualCard, connect: Callable[[], socket.socket]) -> None:
        """Insert the card.

        Args:
            card: the card.
            connect: opens a connection to the slot's port; raises OSError if the driver has ended.

        Raises:
            OSError: of `connect`.
        """
        self._card = card
        self._connect = connect
        self._lock = RLock()  # no new socket may replace one that is being closed
        self._closed = threading.Event()
        self.asked = False
        self._socket = connect()
        self._thread = spawn(f"scardface-{type(card).__name__}", self._run)

    def close(self) -> None:
        """Take the card out: close the connection and wait for the thread. May be called by the card's own code."""
        with self._lock:
            self._closed.set()
            with contextlib.suppress(OSError):  # the driver may have closed it already
                self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread is threading.current_thread():
            return
        self._thread.join(_JOIN_TIMEOUT)
        if self._thread.is_alive():
            _logger.warning("%s: taken out while its code runs, which does not return", type(self._card).__name__)

    def forget(self) -> None:
        """In a forked child: close the copy of the connection; the card stays inserted for the parent."""
        self._socket.close()

    def _run(self) -> None:
        while True:
            with self._socket as connection:
                self._serve(connection)
            self._closed.wait(_AWAY)
            with self._lock:
                if self._closed.is_set():
                    return
                try:
                    self._socket = self._connect()
                except OSError:
                    return  # the driver has ended; `PrivatePcscd.start` inserts the card again

    def _serve(self, connection: socket.socket) -> None:
        """Answer the driver until the connection ends."""
        card, powered = self._card, False
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # including a connection that was reset
            while (message := _receive(connection)) is not None:
                self.asked = True
                if message == _ATR:
                    _send(connection, _atr(card))
                elif message in (_POWER_ON, _RESET):
                    powered = True
                    _run_hook(card, card.power_on if message == _POWER_ON else card.reset)
                elif message == _POWER_OFF:
                    powered = False
                    _run_hook(card, card.power_off)
                elif len(message) > 1:
                    _send(connection, _answer(card, message))
        if powered:
            _run_hook(card, card.power_off)


def _receive(connection: socket.socket) -> bytes | None:
    """One message; None when the connection has ended."""
    header = _receive_exactly(connection, 2)
    return None if header is None else _receive_exactly(connection, int.from_bytes(header, "big"))


def _receive_exactly(connection: socket.socket, count: int) -> bytes | None:
    received = bytearray()
    while len(received) < count:
        if sys.platform == "linux":
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        part = connection.recv(count - len(received))
        if not part:
            return None
        received += part
    return bytes(received)


def _send(connection: socket.socket, message: bytes) -> None:
    connection.sendall(len(message).to_bytes(2, "big") + message)


def _run_hook(card: VirtualCard, hook: Callable[[], None]) -> None:
    try:
        hook()
    except Exception as error:  # kept, and raised when the card is taken out
        keep_error(card, error)


def _answer(card: VirtualCard, command: bytes) -> bytes:
    try:
        return _checked(card.process(command), _MAX_MESSAGE, "process()")
    except Exception as error:
        keep_error(card, error)
        return _INTERNAL_ERROR


def _atr(card: VirtualCard) -> bytes:
    try:
        return _checked(card.atr, _MAX_ATR, "atr") or _MUTE_ATR
    except Exception as error:
        keep_error(card, error)
        return _MUTE_ATR


def _checked(value: object, limit: int, what: str) -> bytes:
    if not isinstance(value, (bytes, bytearray)):
        raise TypeError(f"{what} of a card must be bytes, not {type(value).__name__}")
    if len(value) > limit:
        raise ValueError(f"{what} of a card has {len(value)} bytes; at most {limit} can be")
    return bytes(value)
