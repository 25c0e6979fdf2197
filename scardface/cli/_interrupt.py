"""Ctrl-C while PC/SC holds the main thread.

Rules:

- Python runs a signal handler once the main thread returns from the call that it is in. From a call to a frozen service it does not
  return (fact 23), so a thread is notified of the signal as well.
- If the handler has not run `GRACE` seconds later, what is to be saved is saved, and the process ends. PC/SC cleans up after a
  program that has ended, and resets a card that it held exclusively (fact 31).
- If the handler has run, the card is closed, which a frozen service may block as well: after `CLOSING` seconds the process ends.
- Event loops and prompts handle Ctrl-C themselves: `exit_on_interrupt` is used around calls to a card only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ._failures import INTERRUPTED

GRACE = 0.7
"""Seconds that the main thread has to run its signal handler."""
CLOSING = 3.0
"""Seconds that the process has from there to its end, including its last output and the close of the card."""
_SHOW_CURSOR = "\x1b[?25h"
_saves: list[Callable[[], object]] = []
_over = threading.Event()
"""Set when the command has ended."""


@contextmanager
def command() -> Iterator[None]:
    """The whole of one command."""
    _over.clear()
    try:
        yield
    finally:
        _over.set()


@contextmanager
def exit_deadline() -> Iterator[None]:
    """A block in which Ctrl-C ends the command: from then on the process has `CLOSING` seconds."""
    try:
        yield
    except KeyboardInterrupt:
        threading.Thread(target=_end, name="scardface-interrupt", daemon=True).start()
        raise


def _end() -> None:
    if not _over.wait(CLOSING):
        _leave()


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """Within the block, Ctrl-C ends the process within a second, whatever call it is in."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        with exit_deadline():
            yield
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    handled = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        handled.set()
        signal.default_int_handler(number, frame)

    thread = threading.Thread(target=_listen, args=(receiver, handled), name="scardface-interrupt", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, handle)
    try:
        with exit_deadline():
            yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(before)
        handled.set()
        sender.close()
        thread.join()
        receiver.close()


@contextmanager
def saved_on_exit(save: Callable[[], object]) -> Iterator[None]:
    """Within the block, call `save` before the process ends in that way."""
    _saves.append(save)
    try:
        yield
    finally:
        _saves.remove(save)


def _listen(receiver: socket.socket, handled: threading.Event) -> None:
    """Receive the numbers of signals until the socket is closed."""
    while numbers := receiver.recv(64):
        if signal.SIGINT in numbers and not handled.wait(GRACE):
            _leave()


def _leave() -> None:
    for save in _saves:
        with contextlib.suppress(Exception):
            save()
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout.isatty():
            sys.stdout.write(_SHOW_CURSOR + "\n")
        sys.stdout.flush()
    os._exit(INTERRUPTED)
