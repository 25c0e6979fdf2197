"""Ctrl-C while PC/SC holds the main thread.

Rules:

- Python runs the handler of a signal once the main thread comes back from the call that it is in. Out of a call to a frozen service
  it does not come back (fact 23), so a thread of our own hears of the signal as well.
- If the handler has not run a moment later, what is to be kept is kept, and the process ends. PC/SC cleans up behind a program that
  is gone, and resets a card that it had for itself (fact 31).
- Whoever has heard closes the card, which a frozen service holds up as well: that, too, has a time, and then the process ends.
- Event loops, and prompts, have ways of their own to hear Ctrl-C: `heard` stands around calls to a card only.
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
"""Seconds that the main thread has to hear."""
CLOSING = 3.0
"""Seconds that a process has from there to its end, what it wants to say and the close of the card included."""
_SHOW_CURSOR = "\x1b[?25h"
_kept: list[Callable[[], object]] = []
_over = threading.Event()
"""Set when the command has ended, so that nothing holds the process any more."""


@contextmanager
def command() -> Iterator[None]:
    """The whole of one command."""
    _over.clear()
    try:
        yield
    finally:
        _over.set()


@contextmanager
def ends_soon() -> Iterator[None]:
    """A block whose Ctrl-C is the end of the command: from then on there are `CLOSING` seconds."""
    try:
        yield
    except KeyboardInterrupt:
        threading.Thread(target=_end, name="scardface-interrupt", daemon=True).start()
        raise


def _end() -> None:
    if not _over.wait(CLOSING):
        _leave()


@contextmanager
def heard() -> Iterator[None]:
    """Have Ctrl-C end the process within a second for the length of a block, whatever call it is in."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        with ends_soon():
            yield
        return
    ears, voice = socket.socketpair()
    voice.setblocking(False)
    handled = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        handled.set()
        signal.default_int_handler(number, frame)

    thread = threading.Thread(target=_listen, args=(ears, handled), name="scardface-interrupt", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(voice.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, handle)
    try:
        with ends_soon():
            yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(before)
        handled.set()
        voice.close()
        thread.join()
        ears.close()


@contextmanager
def keeping(save: Callable[[], object]) -> Iterator[None]:
    """Have this called before the process ends in that way, for the length of a block."""
    _kept.append(save)
    try:
        yield
    finally:
        _kept.remove(save)


def _listen(ears: socket.socket, handled: threading.Event) -> None:
    """Hear the numbers of signals, until there are no more."""
    while numbers := ears.recv(64):
        if signal.SIGINT in numbers and not handled.wait(GRACE):
            _leave()


def _leave() -> None:
    for save in _kept:
        with contextlib.suppress(Exception):
            save()
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout.isatty():
            sys.stdout.write(_SHOW_CURSOR + "\n")
        sys.stdout.flush()
    os._exit(INTERRUPTED)
