"""Threads and event loops: how blocking work leaves a loop, how its result comes back, locks, what a forked child forgets.

Rules:

- Every thread is a daemon and belongs to one object, which says what ends it. Nobody joins one without a time limit.
- Nobody waits for a thread's first step, but for the exit of the interpreter: up to CPython 3.11.5 a thread that takes that step
  afterwards ends the process with SIGSEGV (https://github.com/python/cpython/issues/108987). See `_await_first_steps`.
- A result is posted into a loop without waiting. If `post` returns False, the loop is closed, and the caller of `post` cleans up.
- Callbacks that are posted only set, append and compare, and raise nothing: on trio an exception there ends the run.
- A job given to a worker never raises; its outcome, good or bad, travels in a `Reply`.
- Green threads (gevent, eventlet) are refused before anything is started (fact 69): they share one thread of the system, and a call
  that blocks it, as SCardGetStatusChange does, stops the whole process for ever. Unpatched threads and queues work well in such
  programs: a call of the sync face in a real thread of gevent's or eventlet's own pool lets all greenlets run on.
- A forked child has none of the parent's threads, and may not use its PC/SC contexts (fact 9). Objects made before the fork are
  told apart by `generation()`, tables are emptied by `forget_at_fork`, and a lock of the process is a `ForkLock`.
- A lock that a caller's own thread takes, where signal handlers may run, is an `RLock` of this module.
- anyio is imported by the functions that need it, which the sync face does not call: it is a tenth of a short script's start.
- Where signal handlers may run, no `while` with a condition, and no loop whose last statement is an `if` or another loop, stands
  inside a `try` or a `with` of the same function: CPython leaves them without `except`, `finally` and `__exit__` if a handler
  raises as such a loop repeats (3.13.5 both, 3.14.10 the second; not 3.12).
"""

from __future__ import annotations

import _thread
import atexit
import contextvars
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from .errors import CANCELLED, NO_MEMORY, SCardError, WaitCancelledError

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

logger = logging.getLogger("scardface.session")

_Jobs = SimpleQueue["tuple[Callable[..., object], tuple[object, ...]] | None"]

_GRACE = 0.2
"""Seconds that a cancelled block still waits for its threads. A thread in a longer call of PC/SC cleans up by itself."""
SLICE = 0.1 if sys.platform == "win32" else 1.0
"""Seconds of one slice of a thread's wait. On Windows Ctrl-C does not end a slice; elsewhere not if it comes just before it."""
JOIN_TIMEOUT = 0.2
"""Seconds to wait for the end of a thread that has delivered its result."""
_LAST_STEPS = 0.0002
"""Seconds that a loop stands still at most for threads that have delivered their results; asyncio sleeps 1 ms, they take 20 us."""
POLL_INTERVAL = 0.0005
"""Seconds between two checks of a thread that is about to end, which no event reports."""
_FIRST_STEP_TIMEOUT = 10.0
"""Seconds that the exit waits at most for threads that have not begun."""


class Signal(Protocol):
    """Wakes one task, once. Both methods are called in its loop."""

    def set(self) -> object:
        """Wake the task."""

    def wait(self) -> Awaitable[object]:
        """Return once it is set; awaited once. (Not a coroutine, which would cost each waiting task 200 bytes.)"""


class _Future:
    """A signal for asyncio. A call in a thread and back takes three quarters of the time with it that anyio's event takes."""

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def set(self) -> None:
        future = self._usable()
        if not future.done():
            future.set_result(None)

    def wait(self) -> Awaitable[None]:
        future = self._usable()
        if not future.done():
            return future
        from anyio.lowlevel import checkpoint

        return checkpoint()  # as everywhere, a cancellation comes first

    def _usable(self) -> asyncio.Future[None]:
        """The future, or a new one: a wait that was cancelled, by a time limit for instance, cancelled its future."""
        if self._future.cancelled():
            self._future = self._future.get_loop().create_future()
        return self._future


class Loop:
    """The running event loop, as other threads reach it. Two `Loop` objects of the same event loop are equal."""

    __slots__ = ("_post", "signal", "token")

    signal: Callable[[], Signal]
    """Makes a `Signal` for one task of this loop."""

    def __init__(self) -> None:
        from anyio.lowlevel import current_token

        self.token: Hashable = current_token().native_token
        token: Any = self.token
        if hasattr(token, "run_sync_soon"):
            self._post: Callable[..., Any] = token.run_sync_soon
            from trio import Event  # loaded already, where there is such a token

            self.signal = Event
        else:
            self._post = token.call_soon_threadsafe
            self.signal = lambda: _Future(token)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loop) and self.token is other.token

    def __hash__(self) -> int:
        return id(self.token)

    def is_alive(self) -> bool:
        """Whether the loop still takes posts. A loop that can say so itself is not woken for it."""
        token: Any = self.token
        return not token.is_closed() if hasattr(token, "is_closed") else self.post(no_op)

    def post(self, callback: Callable[..., object], *args: object) -> bool:
        """Run `callback` in the loop, soon. From any thread, without waiting. False: the loop is closed."""
        try:
            self._post(callback, *args)
        except RuntimeError:
            return False
        return True


def no_op() -> None:
    """Does nothing: for whom nobody has to be woken, or where a post alone wakes."""


class Wakeup:
    """Wakes one task of one loop, any number of times."""

    __slots__ = ("_event", "_loop")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._event = loop.signal()

    def set(self) -> bool:
        """Wake the task, from any thread. False: its loop is closed."""
        return self._loop.post(self.set_here)

    def set_here(self) -> None:
        """Wake the task, from within its loop."""
        self._event.set()

    async def wait(self) -> None:
        """Return once it has been set since the last return."""
        await self._event.wait()
        self._event = self._loop.signal()


class CancelScope:
    """The waits of one thread in a `with cancellable() as scope:` block, as another thread ends them."""

    def __init__(self) -> None:
        self._callers: dict[WaitingThread, None] = {}
        self.cancelled: bool = False
        """Whether `cancel` was called."""

    def cancel(self) -> None:
        """End the block's wait, and each that begins there later. From any thread, and from signal handlers."""
        self.cancelled = True
        for caller in list(self._callers):
            caller.post(no_op)

    def _check(self) -> None:
        if self.cancelled:
            raise WaitCancelledError("cancel() of the block's cancellable() ended the wait", CANCELLED)


class _Scopes(threading.local):
    def __init__(self) -> None:
        self.stack: tuple[CancelScope, ...] = ()


_scopes = _Scopes()


@contextmanager
def cancellable() -> Iterator[CancelScope]:
    """A block whose waits another thread can end: `with cancellable() as scope:`, and `scope.cancel()` there.

    What waits: the constructor of `SCard`, `card.wait()`, the next card of `cards()`, a pool's block and loans, a monitor's block,
    iteration and `next()`, called in this thread. They raise WaitCancelledError, as do waits that begin after the cancel: it is an
    SCardError, so a loop that goes on after those lets it through. A `send` is never cancelled. Blocks nest.
    """
    scope = CancelScope()
    before = _scopes.stack
    try:
        _scopes.stack = (*before, scope)
        yield scope
    finally:
        _scopes.stack = before


class BlockScope(CancelScope):
    """As a `cancellable` block's, entered and left by itself: a block whose waits another thread can end, and that says so.

    Attributes:
        cancelled_caught: whether `cancel` has ended the block.
    """

    def __init__(self) -> None:
        super().__init__()
        self._outside: tuple[CancelScope, ...] = ()
        self.cancelled_caught = False

    def __enter__(self) -> None:
        self._outside = _scopes.stack
        _scopes.stack = (*self._outside, self)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        stack = _scopes.stack
        _scopes.stack = self._outside if stack and stack[-1] is self else tuple(each for each in stack if each is not self)
        self.cancelled_caught = self.cancelled and kind is not None and issubclass(kind, WaitCancelledError)
        return self.cancelled_caught


class WaitingThread:
    """A thread that waits, as other threads reach it; what a `Loop` is for its tasks."""

    __slots__ = ("_posts",)

    def __init__(self) -> None:
        self._posts: SimpleQueue[tuple[Callable[..., object], tuple[object, ...]]] = SimpleQueue()

    def post(self, callback: Callable[..., object], *args: object) -> bool:
        """Have `callback` run in the thread while it waits."""
        self._posts.put((callback, args))
        return True

    def is_alive(self) -> bool:
        """A waiting thread always is."""
        return True

    def run(self, until: Callable[[], bool], deadline: float | None = None, late: Callable[[], object] | None = None) -> None:
        """Run what is posted until `until()` is true. It waits in slices, so that a signal's handler runs soon on every platform.

        Args:
            deadline: monotonic; None: there is none.
            late: called once, at the deadline; None: return then.

        Raises:
            WaitCancelledError: a `cancellable` block of the thread was cancelled.
        """
        scopes = _scopes.stack
        try:
            for scope in scopes:
                scope._callers[self] = None
            self._run(until, deadline, late, scopes)
        finally:
            for scope in scopes:
                scope._callers.pop(self, None)

    def _run(
        self, until: Callable[[], bool], deadline: float | None, late: Callable[[], object] | None, scopes: tuple[CancelScope, ...]
    ) -> None:
        while True:
            while not self._posts.empty():
                callback, args = self._posts.get()
                callback(*args)
            if until():
                return
            for scope in scopes:
                scope._check()
            timeout = SLICE if deadline is None else min(SLICE, max(0.0, deadline - time.monotonic()))
            try:
                callback, args = self._posts.get(timeout=timeout)
            except Empty:
                if deadline is not None and time.monotonic() >= deadline:
                    if late is None:
                        return
                    late()
                    deadline = None
            else:
                callback(*args)


class Reply(Generic[T]):
    """The outcome of a job in a thread, for the task that awaits it."""

    __slots__ = ("_error", "_event", "_loop", "_value", "abandoned")

    def __init__(self, loop: Loop | None = None) -> None:
        self._loop = loop or Loop()
        self._event = self._loop.signal()
        self._value: T
        self._error: BaseException | None = None
        self.abandoned = False
        """Set when the awaiting task has left, so the job should do no more than necessary."""

    def is_abandoned(self) -> bool:
        """Whether the awaiting task has left."""
        return self.abandoned

    def run(self, job: Callable[..., T], *args: object) -> None:
        """Run `job` in this thread, and post its outcome."""
        try:
            self._value = job(*args)
        except BaseException as error:
            self._error = error
        self._loop.post(self._event.set)

    def run_if_awaited(self, job: Callable[[], T]) -> None:
        """As `run`, unless the awaiting task has left."""
        if not self.abandoned:
            self.run(job)

    async def get(self) -> T:
        """The job's result, or its exception. A task that is cancelled leaves at once and marks the reply as abandoned."""
        try:
            await self._event.wait()
        except BaseException:
            self.abandoned = True
            raise
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self._error  # else the frame in its traceback would refer to it
        return self._value


class Worker:
    """A daemon thread that runs jobs in their order. It ends after `finish`, when the jobs before it are done.

    Args:
        first: the first job, called with the worker. It is queued before the thread starts, so it runs even if the caller is
            interrupted.
    """

    __slots__ = ("_jobs", "thread")

    def __init__(self, name: str, first: Callable[[Worker], object] | None = None) -> None:
        self._jobs: _Jobs = SimpleQueue()
        if first is not None:
            self._jobs.put((first, (self,)))
        thread = _Thread(name, _work, self._jobs)
        self.thread: threading.Thread = thread  # before it starts: the first job may need it at once
        thread.launch()

    def submit(self, job: Callable[..., object], *args: object) -> None:
        """Queue `job`, which must not raise; from any thread."""
        self._jobs.put((job, args))

    def finish(self) -> None:
        """Let the thread end after the jobs queued so far."""
        self._jobs.put(None)


def _work(jobs: _Jobs) -> None:
    while (entry := jobs.get()) is not None:
        job, args = entry
        try:
            job(*args)
        except BaseException:  # a job handles its own errors; the next ones must run
            log_safely(logger.exception, "a background job failed")
        del entry, job, args  # an idle thread keeps nothing alive


class _Thread(threading.Thread):
    """A daemon thread whose start nobody waits for; it counts as alive from `launch` on."""

    def __init__(self, name: str, target: Callable[..., object], *args: object) -> None:
        more: dict[str, Any] = {"context": contextvars.Context()} if sys.version_info >= (3, 14) else {}  # or `start` would set it
        super().__init__(target=target, args=args, name=name, daemon=True, **more)
        self._has_begun = False  # from then on the base class knows whether it is alive
        self._beginning = _thread.allocate_lock()  # taken until then; an Event takes six times as long to make
        self._beginning.acquire()

    def launch(self) -> None:
        """Start it.

        `threading.Thread.start` waits for the new thread's first step, which may take 60 ms on busy cores (fact 56). And if Ctrl-C
        ends that wait, the thread runs and its starter does not know; at worst, `Condition` raises a RuntimeError of its own. So
        the new thread itself makes the entry that `start` makes, and here one function of C is called, by `map`: no interrupt comes
        between the call and what follows it.

        Raises:
            SCardError: it cannot be started.
            RuntimeError: threads are gevent's or eventlet's.
        """
        refuse_green_threads()
        try:
            _not_begun[self] = None
            if not _KNOWN_THREADING:
                [_] = map(_thread.start_new_thread, (self._start_here,), ((),))
            elif _HANDLE is None:
                [_] = map(_thread.start_new_thread, (self._enter,), ((),))
            else:
                how: Any = partial(_thread.start_joinable_thread, handle=getattr(self, _HANDLE), daemon=True)  # type: ignore[attr-defined]
                [_] = map(how, (self._enter,))
        except BaseException as error:
            _not_begun.pop(self, None)
            if not isinstance(error, (RuntimeError, MemoryError)):  # Ctrl-C: it was not started, or begins without being waited for
                raise
            text = "no thread could be started: a limit (RLIMIT_NPROC of this user, pids.max of the cgroup) or memory is used up"
            raise SCardError(text, NO_MEMORY) from error
        if _exiting:
            self._await_first_step(_FIRST_STEP_TIMEOUT)

    def _enter(self) -> None:
        """In the new thread: what is left of `start`."""
        with threading._active_limbo_lock:  # type: ignore[attr-defined]
            threading._limbo[self] = self  # type: ignore[attr-defined]
        self._bootstrap()  # type: ignore[attr-defined]

    def _start_here(self) -> None:
        """In a thread between: start another one as every program does, and wait for it."""
        try:
            self.start()
        except (RuntimeError, MemoryError):  # no second thread can be started: this one, without a name, does the work
            try:
                super().run()
            finally:
                self._begin()

    def run(self) -> None:
        self._begin()
        super().run()

    def _begin(self) -> None:
        self._has_begun = True
        _not_begun.pop(self, None)
        self._beginning.release()

    def _await_first_step(self, timeout: float) -> bool:
        """Wait until it has begun; False: it has not in time."""
        if not self._has_begun:
            if not self._beginning.acquire(timeout=timeout):
                return False
            self._beginning.release()
        return True

    def is_alive(self) -> bool:
        return not self._has_begun or super().is_alive()

    def join(self, timeout: float | None = None) -> None:
        if self._await_first_step(-1 if timeout is None else max(0.0, timeout)) and self.ident is not None:
            super().join(timeout)


_HANDLE = next((name for name in ("_os_thread_handle", "_handle") if hasattr(threading.Thread(), name)), None)
"""Where a thread keeps what `_thread.start_joinable_thread` (Python 3.13) fills in."""
_KNOWN_THREADING = (
    all(hasattr(threading, name) for name in ("_active_limbo_lock", "_limbo"))
    and hasattr(threading.Thread, "_bootstrap")
    and hasattr(_thread, "start_joinable_thread") == (_HANDLE is not None)
)
"""Whether this Python's `threading` has what `_Thread` calls, as Python 3.10 to 3.14 do."""


_not_begun: dict[_Thread, None] = {}
"""The threads that were launched and have not begun. Entries are added and removed in single steps."""
_exiting = False
"""Whether the interpreter is about to exit. From then on `launch` waits for the first step, as every start of a thread does."""


def _await_first_steps() -> None:
    """At the exit: let the threads begin that were launched. From their first step on they may run as long as they like."""
    global _exiting
    _exiting = True
    end = time.monotonic() + _FIRST_STEP_TIMEOUT
    for thread in list(_not_begun):
        thread._await_first_step(max(0.0, end - time.monotonic()))


atexit.register(_await_first_steps)


def spawn(name: str, target: Callable[..., object], *args: object) -> threading.Thread:
    """Start a daemon thread, without waiting for it to begin.

    Raises:
        SCardError: it cannot be started.
        RuntimeError: threads are gevent's or eventlet's.
    """
    thread = _Thread(name, target, *args)
    thread.launch()
    return thread


_GREEN_THREADS_TEXT = (
    "{name} has patched {what}, so a call of PC/SC would stop the whole process: patch without them ({patch}), and call the sync "
    "face of scardface in a real thread ({call}) or in a process of its own"
)


def refuse_green_threads() -> None:
    """Called before a thread is started and before PC/SC is used. It checks which modules are loaded, and loads none.

    Raises:
        RuntimeError: threads, or the queues between them, are replaced by gevent's or eventlet's; the text says what to do.
    """
    gevent: Any = sys.modules.get("gevent.monkey")
    if gevent is not None and (gevent.is_module_patched("threading") or gevent.is_object_patched("queue", "SimpleQueue")):
        patch, call = "gevent.monkey.patch_all(thread=False, queue=False)", "gevent.get_hub().threadpool.apply"
        raise RuntimeError(_GREEN_THREADS_TEXT.format(name="gevent", what="threads or queues", patch=patch, call=call))
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        patch, call = "eventlet.monkey_patch(thread=False)", "eventlet.tpool.execute"
        raise RuntimeError(_GREEN_THREADS_TEXT.format(name="eventlet", what="threads", patch=patch, call=call))


def log_safely(log: Callable[..., object], *words: object, **more: Any) -> None:
    """Log from a thread of the library, which must not end when a log handler of the program raises."""
    with suppress(Exception):
        log(*words, **more)


def uninterrupted(step: Callable[..., object], *args: object) -> None:
    """Complete a step; if Ctrl-C comes meanwhile, KeyboardInterrupt is raised afterwards.

    Args:
        step: can be called again after an interrupt.
    """
    try:
        step(*args)
    except KeyboardInterrupt:
        retry_if_interrupted(step, *args)
        raise


def get(queue: SimpleQueue[T]) -> T:
    """The next item. It waits in slices, so that a signal's handler runs soon on every platform."""
    while True:
        try:
            return queue.get(timeout=SLICE)
        except Empty:
            continue


async def in_thread(name: str, job: Callable[[], T]) -> T:
    """Run a blocking `job` in a thread of its own. A task that is cancelled leaves at once, and the thread ends by itself."""
    reply: Reply[T] = Reply()
    context = contextvars.copy_context()
    thread = spawn(name, context.run, reply.run, job)
    value = await reply.get()
    await until_ended([thread])
    return value


async def until_ended(threads: Iterable[threading.Thread]) -> None:
    """Wait for threads that are about to end."""
    import anyio

    end = time.monotonic() + _LAST_STEPS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
        while thread.is_alive():
            await anyio.sleep(POLL_INTERVAL)


async def within_grace(wait: Callable[[], Any], *, cancelled: bool = False) -> None:
    """Await `wait()`. Once the task is cancelled, for at most 0.2 s, before the cancellation goes on."""
    import anyio

    if not cancelled:
        cancellation = anyio.get_cancelled_exc_class()  # while there is a loop: when a coroutine is closed, there may be none
        try:
            await wait()
        except cancellation:
            cancelled = True
            raise
        finally:
            if cancelled:
                await _wait_briefly(wait)
    else:
        await _wait_briefly(wait)


async def _wait_briefly(wait: Callable[[], Any]) -> None:
    import anyio

    with anyio.move_on_after(_GRACE, shield=True):
        await wait()


def retry_if_interrupted(step: Callable[..., object], *args: object) -> None:
    """Complete a step that must not be left out after an interrupt; further ones are ignored meanwhile.

    Args:
        step: can be called again after an interrupt.
    """
    while True:
        try:
            step(*args)
        except KeyboardInterrupt:
            continue
        return


_BLOCKING = (True,)

_generation = 0
_forgetters: list[Callable[[], None]] = []


def generation() -> int:
    """The number of forks between the import and this process. Objects of an earlier generation cannot be used here."""
    return _generation


def forget_at_fork(forget: Callable[[], None]) -> None:
    """Have `forget` called in every forked child, before anything else runs there. See `_waiting` for what it may do."""
    _forgetters.append(forget)


if sys.version_info >= (3, 14):

    class RLock(_thread.RLock):  # type: ignore[misc]  # typeshed calls it final, CPython does not
        """As threading.RLock, for locks that a caller's own thread takes; no exception of a signal handler leaves it taken.

        Up to Python 3.13 `with threading.RLock():` releases the lock whenever such an exception comes. From 3.14 on the exception,
        for instance that of Ctrl-C, may come after `__enter__` has returned and before the block begins, so that nothing calls
        `__exit__` and the lock stays taken for ever (https://github.com/python/cpython/issues/148874; of 20,000 interrupts of a
        loop of empty blocks, 12,865 did that on 3.14.10).

        Python checks for signals where a function begins, where a call of C code has returned, and where a loop repeats. So the
        lock is taken while an iterator is unpacked, after which there is no such place until the block has begun.
        """

        __slots__ = ()

        def __enter__(self) -> bool:  # type: ignore[override]  # typeshed has it an alias of `acquire`
            [taken] = map(self.acquire, _BLOCKING)
            return taken

else:
    RLock = _thread.RLock


class ForkLock:
    """A re-entrant lock that is free in a forked child, even if a thread of the parent held it: `with lock.current:`.

    It is not a context manager itself: Ctrl-C in the middle of an `__enter__` written in Python would leave the lock held.
    """

    __slots__ = ("current",)

    def __init__(self) -> None:
        self._renew()
        forget_at_fork(self._renew)

    def _renew(self) -> None:
        self.current = RLock()


forget_at_fork(_not_begun.clear)


def _forget() -> None:
    global _generation
    _generation += 1
    for forget in _forgetters:
        forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget)
