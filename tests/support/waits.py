"""Looking at what waits: for tests that have to know that a wait has really begun, or that nothing is left of it.

Rules:

- Where an event tells of a thing, tests wait for the event. What is here is for what no event tells of, and has a bound.
"""

from __future__ import annotations

import _thread
import faulthandler
import gc
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio

from scardface._pcsc.backend import Backend
from scardface._pcsc.binding_choice import default_backend
from scardface._waiting import driver as driving
from scardface._waiting.driver import driver_of
from scardface._waiting.messages import Waiter

PATIENCE = 30.0
"""Seconds after which something that must happen has not happened."""
SEEN = 2.0
"""Seconds of a wait that is to run out after it has seen what the test is about, on a machine with much else to do as well."""


def waiters(backend: Backend | None = None) -> list[Waiter]:
    """Those with the driver of `backend`, the default one unless given, whose first query is answered and that wait for a card.

    Who has a card is none of them, also if the driver has yet to handle the message that says so.
    """
    driver = driver_of(default_backend() if backend is None else backend)
    queues = list(driver._dispatcher._queues.values())
    return [waiter for queue in queues for waiter in list(queue._waiters.values()) if waiter not in driver.open_cards]


def is_at_rest(backend: Backend | None = None) -> bool:
    """Whether the driver of `backend`, the default one unless given, has no message, and its watcher waits with all answered.

    A fork in the middle of another call, or as a wait ends, takes the library's mutex along for ever (facts 9 and 74).
    """
    driver = driver_of(default_backend() if backend is None else backend)
    watcher, dispatcher = driver._watcher, driver._dispatcher
    if watcher is None or watcher._wait_over is None or watcher._waiting_in is None:
        return False
    return driver._queue.empty() and dispatcher._last.number >= dispatcher.query_wanted


def threads_named(*names: str) -> list[threading.Thread]:
    """The threads of these names."""
    return [thread for thread in threading.enumerate() if thread.name in names]


async def until(condition: Callable[[], object], bound: float = PATIENCE) -> None:
    """Return when `condition` holds, in an event loop."""
    with anyio.move_on_after(bound):
        while not condition():
            await anyio.sleep(0.002)
        return
    tell_who_waits()
    raise TimeoutError("it never came")


def wait_until(condition: Callable[[], object], bound: float = PATIENCE) -> None:
    """Return when `condition` holds, in a thread."""
    end = time.monotonic() + bound
    while not condition():
        if time.monotonic() > end:
            tell_who_waits()
            raise AssertionError("it never came")
        time.sleep(0.002)


def throw_away(kept: list[Any], gone: Callable[[], object]) -> None:
    """Drop the objects, and return once `gone` holds, which is what their end brings about.

    That may be later than the next step: the thread that watches an async test's loop may hold one of its frames for a moment (see
    loop_watch.py), and a collection does nothing while another thread is at one.
    """
    kept.clear()
    wait_until(lambda: gc.collect() >= 0 and gone())


def tell_who_waits() -> None:
    """Print where all threads are, and what each driver has to do still: where the search for a hang begins."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        print(file.read())
    for _, driver in list(driving._drivers.values()):
        dispatcher, watcher = driver._dispatcher, driver._watcher
        state = {**vars(driver), **vars(dispatcher), **({} if watcher is None else vars(watcher))}
        print("\n".join(f"{name}: {value!r:.2000}" for name, value in state.items()), "\n")


def signal_when(condition: Callable[[], object], number: int = signal.SIGINT, told: list[float] | None = None) -> threading.Thread:
    """Send the main thread a signal once `condition` holds; when (`time.perf_counter`) goes into `told`.

    A condition that holds before the main thread has come to the place where it may be interrupted ends the whole run.
    """

    def wait() -> None:
        wait_until(condition)
        if told is not None:
            told.append(time.perf_counter())
        if sys.platform == "win32":  # as the console does it
            _thread.interrupt_main(number)
        else:
            signal.pthread_kill(threading.main_thread().ident or 0, number)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


class Unanswered(dict[str, float]):
    """As the `latency` of a SimulatedPCSC: the calls of these names are not answered before `answer` is called.

    Attributes:
        begun: set as soon as one has begun.
    """

    def __init__(self, *calls: str) -> None:
        super().__init__(dict.fromkeys(calls, 0.0))
        self.begun = threading.Event()
        self._answered = threading.Event()

    def get(self, call: str, default: Any = None) -> Any:
        """Asked for as such a call begins."""
        if call in self:
            self.begun.set()
            self._answered.wait()
        return default

    def answer(self) -> None:
        """Answer them, and those that come later."""
        self._answered.set()
