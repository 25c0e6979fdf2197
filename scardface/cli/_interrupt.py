"""Ctrl-C while PC/SC holds the main thread.

Rules:

- Python runs a signal handler once the main thread returns from the call that it is in. From a call to a frozen service it does not
  return (fact 23), so a thread is notified of the signal as well.
- If the handler has not run `HANDLER_GRACE` seconds later, what is to be saved is saved, and the process ends. PC/SC cleans up
  after a program that has ended, and resets a card that it held exclusively (fact 31).
- If the handler has run, the card is closed, which a frozen service may block as well: after `CLOSE_GRACE` seconds the process
  ends.
- Event loops and prompts handle Ctrl-C themselves: `exit_on_interrupt` is used around calls to a card only. A loop that is being
  made does not yet: `run_loop` keeps a Ctrl-C until it runs. Nor does asyncio's where it comes just before the loop goes to sleep,
  waiting for the interpreter that another thread has: it is woken by nothing then, so `run_loop` has signals wake it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from ._failures import INTERRUPTED

T = TypeVar("T")

HANDLER_GRACE = 0.7
"""Seconds that the main thread has to run its signal handler."""
CLOSE_GRACE = 3.0
"""Seconds that the process has from there to its end, including its last output and the close of the card."""
_SHOW_CURSOR = "\x1b[?25h"
_exit_callbacks: list[Callable[[], object]] = []
_command_ended = threading.Event()
"""Set when the command has ended."""


@contextmanager
def running_command() -> Iterator[None]:
    """Around one whole command: once the block has ended, the process is not ended by force any more."""
    _command_ended.clear()
    try:
        yield
    finally:
        _command_ended.set()


@contextmanager
def exit_soon_after_interrupt() -> Iterator[None]:
    """Around code that Ctrl-C leaves by KeyboardInterrupt: the process then has `CLOSE_GRACE` seconds to end by itself."""
    try:
        yield
    except KeyboardInterrupt:
        threading.Thread(target=_exit_after_grace, name="scardface-interrupt", daemon=True).start()
        raise


def _exit_after_grace() -> None:
    """End the process if the command has not ended by itself in time."""
    if not _command_ended.wait(CLOSE_GRACE):
        _exit_now()


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """Around calls to a card: Ctrl-C ends the process within a second, whatever call the main thread is in."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        with exit_soon_after_interrupt():
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
        with exit_soon_after_interrupt():
            yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(before)
        handled.set()
        sender.close()
        thread.join()
        receiver.close()


def run_loop(main: Callable[..., Awaitable[T]], *args: object) -> T:
    """`anyio.run`; a Ctrl-C that comes before the loop's first step is obeyed in that step (on Windows at once).

    Before it Python imports modules and makes the loop: there a Ctrl-C may be lost, come out as another error, or leave words about
    half-made objects on standard error.
    """
    if not hasattr(signal, "pthread_sigmask"):
        import anyio

        return anyio.run(main, *args)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        import asyncio

        import anyio

        async def begin() -> T:
            if threading.current_thread() is threading.main_thread():
                # While one signal has a handler of the loop's, every signal wakes the loop. Nobody sends this one.
                asyncio.get_running_loop().add_signal_handler(signal.SIGURG, lambda: None)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            await anyio.lowlevel.checkpoint()
            return await main(*args)

        return anyio.run(begin)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def called_on_exit(callback: Callable[[], object]) -> Iterator[None]:
    """Within the block, `callback` is called before `_exit_now` ends the process."""
    _exit_callbacks.append(callback)
    try:
        yield
    finally:
        _exit_callbacks.remove(callback)


def _listen(receiver: socket.socket, handled: threading.Event) -> None:
    """Read signal numbers from the wakeup socket until it is closed; end the process if SIGINT is not handled in time."""
    while numbers := receiver.recv(64):
        if signal.SIGINT in numbers and not handled.wait(HANDLER_GRACE):
            _exit_now()


def _exit_now() -> None:
    """End the process at once: call what `called_on_exit` has, restore the cursor, flush, and exit without any other cleanup."""
    for callback in _exit_callbacks:
        with contextlib.suppress(Exception):
            callback()
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout.isatty():
            sys.stdout.write(_SHOW_CURSOR + "\n")
        sys.stdout.flush()
    os._exit(INTERRUPTED)
