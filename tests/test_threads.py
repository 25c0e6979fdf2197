"""How work leaves a loop and comes back: on every backend, with loops that are gone, jobs that fail and tasks that leave."""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import gc
import os
import queue
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trio

from scardface import SCardError, WaitCancelledError, _threads
from scardface._threads import (
    Loop,
    Reply,
    WaitingThread,
    Wakeup,
    Worker,
    cancellable,
    forget_at_fork,
    generation,
    in_thread,
    retry_if_interrupted,
    spawn,
    uninterrupted,
    until_ended,
    within_grace,
)

ROOT = Path(__file__).resolve().parents[1]
SOON = 30.0
"""Seconds that something may take that takes none."""

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class JobError(Exception):
    """What a job of a test raises."""


async def ended(thread: threading.Thread) -> None:
    """Wait, with a bound, for a thread that is to end by itself."""
    with anyio.fail_after(SOON):
        while thread.is_alive():
            await anyio.sleep(0.001)


# Loops.


@pytest.mark.anyio
async def test_a_callback_from_another_thread_runs_in_the_loop() -> None:
    loop, event, here = Loop(), anyio.Event(), threading.get_ident()
    ran: list[tuple[int, tuple[object, ...]]] = []

    def callback(*args: object) -> None:
        ran.append((threading.get_ident(), args))
        event.set()

    answers: list[bool] = []
    spawn("poster", lambda: answers.append(loop.post(callback, 1, "two"))).join(SOON)
    with anyio.fail_after(SOON):
        await event.wait()
    assert ran == [(here, (1, "two"))]
    assert answers == [True]


@pytest.mark.anyio
async def test_posting_does_not_wait_for_the_loop() -> None:
    """It runs later, not in the call, also in the loop itself; in the order of the posts."""
    loop, event = Loop(), anyio.Event()
    ran: list[int] = []
    for number in range(5):
        assert loop.post(ran.append, number)
    assert loop.post(event.set)
    assert ran == []
    await event.wait()
    assert ran == [0, 1, 2, 3, 4]


@pytest.mark.anyio
async def test_a_loop_is_known_by_its_token() -> None:
    assert Loop().token == Loop().token
    assert len({Loop().token, Loop().token}) == 1


def run(backend: tuple[str, dict[str, Any]], function: Callable[..., Any], *args: Any) -> Any:
    name, options = backend
    return anyio.run(function, *args, backend=name, backend_options=options)


async def make(*kinds: Callable[..., Any]) -> list[Any]:
    return [kind() if kind is Reply else kind(Loop()) if kind is Wakeup else kind() for kind in kinds]


def test_a_loop_that_is_gone_says_so(anyio_backend: Any) -> None:
    """asyncio's closed loop and trio's finished run alike."""
    loop, wakeup, reply = run(anyio_backend, make, Loop, Wakeup, Reply)
    assert loop.post(pytest.fail, "ran in a loop that is gone") is False
    assert wakeup.set() is False
    done: list[int] = []
    reply.run(lambda: done.append(1))
    assert done == [1], "the job is done all the same, and nothing is raised"


def test_a_loop_that_goes_while_others_post(anyio_backend: Any) -> None:
    """From True to False, once, and nothing escapes."""
    answers: list[bool] = []

    async def live() -> threading.Thread:
        loop, event = Loop(), anyio.Event()

        def post() -> None:
            while not answers or answers[-1]:
                answers.append(loop.post(event.set))

        thread = spawn("poster", post)
        await event.wait()
        return thread

    thread = run(anyio_backend, live)
    thread.join(SOON)
    assert not thread.is_alive()
    assert answers[0] is True
    assert answers.index(False) == len(answers) - 1


def test_only_a_loop_that_is_gone_is_taken_for_one() -> None:
    """Other errors are not swallowed."""

    async def post() -> None:
        Loop().post(None)  # type: ignore[arg-type]  # that is the test

    with pytest.raises(TypeError):
        asyncio.run(post(), debug=True)


# Wakeups.


@pytest.mark.anyio
async def test_a_wakeup_wakes_its_task() -> None:
    wakeup = Wakeup(Loop())
    spawn("setter", wakeup.set)
    with anyio.fail_after(SOON):
        await wakeup.wait()


@pytest.mark.anyio
async def test_a_wakeup_that_was_set_before_wakes_once() -> None:
    wakeup = Wakeup(Loop())
    for _ in range(3):
        wakeup.set_here()
    with anyio.fail_after(SOON):
        await wakeup.wait()
    with anyio.move_on_after(0.01) as scope:
        await wakeup.wait()
    assert scope.cancelled_caught
    wakeup.set_here()
    with anyio.fail_after(SOON):
        await wakeup.wait()


@pytest.mark.anyio
async def test_a_set_is_not_lost_with_a_wait_that_was_cancelled() -> None:
    wakeup = Wakeup(Loop())
    with anyio.CancelScope() as scope:
        scope.cancel()
        wakeup.set_here()
        await wakeup.wait()
    assert scope.cancelled_caught
    with anyio.fail_after(SOON):
        await wakeup.wait()


@pytest.mark.anyio
async def test_no_set_is_lost() -> None:
    """A task that looks after each wake-up sees all that was there before it."""
    wakeup, done = Wakeup(Loop()), list[int]()

    def set_each_time() -> None:
        for number in range(1000):
            done.append(number)
            wakeup.set()

    spawn("setter", set_each_time)
    with anyio.fail_after(SOON):
        while len(done) < 1000:
            await wakeup.wait()


# Replies.


@pytest.mark.anyio
async def test_a_reply_brings_what_the_job_returned() -> None:
    reply: Reply[int] = Reply()
    spawn("job", reply.run, lambda: 42)
    assert await reply.get() == 42
    assert not reply.is_abandoned()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [JobError, KeyboardInterrupt, SystemExit])
async def test_a_reply_brings_what_the_job_raised(kind: type[BaseException]) -> None:
    reply: Reply[None] = Reply()

    def job() -> None:
        raise kind("in the thread")

    thread = spawn("job", reply.run, job)
    caught: BaseException | None = None
    try:
        await reply.get()
    except BaseException as error:
        caught = error
    assert type(caught) is kind
    await ended(thread)


@pytest.mark.anyio
async def test_an_error_is_not_kept_by_the_frame_that_raised_it() -> None:
    """Otherwise an error, and all that its frames hold, would live until the next collection."""
    reply: Reply[None] = Reply()

    def job() -> None:
        raise JobError

    reply.run(job)
    gc.disable()
    try:
        try:
            await reply.get()
        except JobError as error:
            left = weakref.ref(error)
        del reply
        await anyio.sleep(0)
        assert left() is None
    finally:
        gc.enable()


@pytest.mark.anyio
async def test_a_task_that_leaves_marks_its_reply() -> None:
    reply: Reply[bool] = Reply()
    gate, seen = threading.Event(), list[bool]()
    thread = spawn("job", reply.run, lambda: (gate.wait(SOON), seen.append(reply.is_abandoned()))[0])
    with anyio.CancelScope() as scope:
        scope.cancel()
        await reply.get()
    assert scope.cancelled_caught
    assert reply.abandoned
    gate.set()
    await ended(thread)
    assert seen == [True]


@pytest.mark.asyncio
async def test_a_task_cancelled_by_asyncio_marks_its_reply() -> None:
    reply: Reply[None] = Reply()
    task = asyncio.create_task(reply.get())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reply.is_abandoned()
    reply.run(lambda: None)
    await asyncio.sleep(0)


# Threads that wait.


def test_what_is_posted_runs_in_the_thread_that_waits() -> None:
    caller, ran = WaitingThread(), list[tuple[int, int]]()

    def post() -> None:
        for number in range(3):
            assert caller.post(lambda number: ran.append((number, threading.get_ident())), number)

    thread = spawn("another", post)
    caller.run(lambda: len(ran) == 3)
    assert ran == [(number, threading.get_ident()) for number in range(3)]
    assert caller.is_alive()
    thread.join(SOON)


def test_what_was_posted_before_runs_first() -> None:
    """Also where the wait is over at once."""
    caller, ran = WaitingThread(), list[int]()
    caller.post(ran.append, 1)
    caller.run(lambda: True)
    assert ran == [1]


def test_a_deadline_ends_the_wait_or_is_reported_once() -> None:
    caller, late = WaitingThread(), list[float]()
    deadline = time.monotonic() + 0.05
    caller.run(lambda: False, deadline)
    assert time.monotonic() >= deadline

    def told() -> None:
        late.append(time.monotonic())
        threading.Timer(0.05, caller.post, (ends.set,)).start()

    ends = threading.Event()
    caller.run(ends.is_set, deadline, told)
    assert len(late) == 1


@pytest.mark.slow
def test_a_wait_sees_what_nobody_posted() -> None:
    """A post may be lost with one that was interrupted before it: the wait checks by itself, in slices."""
    ends = threading.Event()
    threading.Timer(0.05, ends.set).start()
    WaitingThread().run(ends.is_set)


def test_a_wait_that_was_cancelled_is_known_to_no_block() -> None:
    with cancellable() as outer, cancellable() as inner:
        for scope in (outer, inner):
            threading.Timer(0.05, scope.cancel).start()
            with pytest.raises(WaitCancelledError):
                WaitingThread().run(lambda: False)
            assert outer._callers == inner._callers == {}
            scope.cancelled = False


# Steps that Ctrl-C does not leave undone.


class Interrupted:
    """A step that a Ctrl-C comes into, so many times."""

    def __init__(self, times: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.left = times
        self.error = error
        self.done: list[object] = []

    def __call__(self, *args: object) -> None:
        if self.left:
            self.left -= 1
            raise self.error
        self.done.append(args)


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_step_is_retried_until_it_is_done(times: int) -> None:
    step = Interrupted(times)
    retry_if_interrupted(step, 1, 2)
    assert step.done == [(1, 2)]


@pytest.mark.parametrize("times", [1, 3])
def test_an_uninterrupted_step_is_done_before_ctrl_c_is_raised(times: int) -> None:
    step = Interrupted(times)
    with pytest.raises(KeyboardInterrupt):
        uninterrupted(step, 1, 2)
    assert step.done == [(1, 2)]
    uninterrupted(step, 3)
    assert step.done == [(1, 2), (3,)]


@pytest.mark.parametrize("call", [retry_if_interrupted, uninterrupted])
def test_errors_of_the_step_are_raised(call: Callable[..., None]) -> None:
    step = Interrupted(1, JobError)
    with pytest.raises(JobError):
        call(step)
    assert step.done == []


# Workers.


def test_a_worker_does_its_jobs_in_their_order() -> None:
    worker, done = Worker("a worker"), list[tuple[int, int | None]]()
    assert worker.thread.daemon
    assert worker.thread.name == "a worker"
    for number in range(100):
        worker.submit(lambda number=number: done.append((number, threading.get_ident())))  # type: ignore[misc]  # as above
    worker.finish()
    worker.thread.join(SOON)
    assert not worker.thread.is_alive()
    assert done == [(number, worker.thread.ident) for number in range(100)]


def test_a_worker_ends_only_when_it_is_told_to() -> None:
    worker, first, second = Worker("a worker"), threading.Event(), threading.Event()
    worker.submit(first.set)
    assert first.wait(SOON)
    assert worker.thread.is_alive()
    worker.submit(second.set)
    assert second.wait(SOON)
    worker.finish()
    worker.thread.join(SOON)
    assert not worker.thread.is_alive()


def test_what_comes_after_the_end_is_not_done() -> None:
    worker, done = Worker("a worker"), list[int]()
    worker.submit(lambda: done.append(1))
    worker.finish()
    worker.submit(lambda: done.append(2))
    worker.finish()
    worker.thread.join(SOON)
    assert done == [1]


def test_an_idle_worker_holds_on_to_nothing() -> None:
    class Thing:
        def touch(self) -> None:
            touched.set()

    thing, touched = Thing(), threading.Event()
    left = weakref.ref(thing)
    worker = Worker("a worker")
    worker.submit(thing.touch)
    del thing
    assert touched.wait(SOON)
    gone_by = time.monotonic() + SOON
    while left() is not None:
        assert time.monotonic() < gone_by
        time.sleep(0.001)
    worker.finish()
    worker.thread.join(SOON)


def test_a_workers_first_job_comes_before_all_others() -> None:
    done: list[object] = []
    worker = Worker("a worker", done.append)
    worker.submit(done.append, 1)
    worker.finish()
    worker.thread.join(SOON)
    assert done == [worker, 1]


def test_a_workers_first_job_runs_though_its_maker_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C just behind the start: only that job has the worker, which is whole, and ends it."""
    known: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    launch = _threads._Thread.launch

    def interrupted(self: _threads._Thread) -> None:
        launch(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(_threads._Thread, "launch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Worker("a worker", known.put)
    worker = known.get(timeout=SOON)
    assert worker.thread.is_alive()
    worker.finish()
    worker.thread.join(SOON)
    assert not worker.thread.is_alive()


# Threads.


STARTERS = ["start_new_thread", "start_joinable_thread"]
"""The functions of `_thread` that start a thread; Python 3.13 brought the second."""


@pytest.fixture(params=["as this Python is known", "as an unknown Python"])
def threading_is_known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways of starting a thread."""
    known = request.param == "as this Python is known"
    assert _threads._KNOWN_THREADING
    monkeypatch.setattr(_threads, "_KNOWN_THREADING", known)
    return known


@pytest.mark.usefixtures("threading_is_known")
@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=["RuntimeError", "MemoryError"])
def test_a_thread_that_cannot_be_started_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def start(*args: object, **kwargs: object) -> None:
        raise error

    for name in STARTERS:
        monkeypatch.setattr(_thread, name, start, raising=False)
    with pytest.raises(SCardError, match="RLIMIT_NPROC") as caught:
        spawn("a thread", print)
    assert caught.value.__cause__ is error
    with pytest.raises(SCardError, match="RLIMIT_NPROC"):
        Worker("a worker")
    assert not _threads._not_begun


def test_starting_a_thread_takes_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    for name in STARTERS:
        if (start := getattr(_thread, name, None)) is not None:
            monkeypatch.setattr(_thread, name, lambda *args, start=start, **kwargs: (started.append(start), start(*args, **kwargs)))
    thread = spawn("a thread", int)
    thread.join(SOON)
    assert not thread.is_alive()
    assert len(started) == 1


@pytest.mark.usefixtures("threading_is_known")
def test_starting_a_thread_does_not_wait_for_it() -> None:
    """It has not run a step yet, since nobody gave it the interpreter's lock, and is a thread like any other all the same."""
    gate, ran = threading.Event(), list[threading.Thread]()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SOON)
    try:
        thread = spawn("a thread", lambda: (ran.append(threading.current_thread()), gate.wait(SOON)))
        assert ran == []
        assert thread.is_alive()
    finally:
        sys.setswitchinterval(interval)
    assert (thread.name, thread.daemon) == ("a thread", True)
    thread.join(0.01)
    assert thread.is_alive()
    while not ran:
        thread.join(0.001)
    assert thread in threading.enumerate()
    gate.set()
    thread.join(SOON)
    assert not thread.is_alive()
    assert ran == [thread]
    assert thread not in threading.enumerate()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=["RuntimeError", "MemoryError"])
def test_a_thread_that_cannot_have_a_name_does_its_work_all_the_same(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The last thread that a limit allows is the one that was to start it."""
    gate, ran = threading.Event(), list[int]()

    def start(self: threading.Thread) -> None:
        raise error

    monkeypatch.setattr(_threads, "_KNOWN_THREADING", False)
    monkeypatch.setattr("threading.Thread.start", start)
    thread = spawn("a thread", lambda: (ran.append(_thread.get_ident()), gate.wait(SOON)))
    thread.join(0.01)
    assert thread.is_alive()
    gate.set()
    thread.join(SOON)
    assert not thread.is_alive()
    assert len(ran) == 1
    assert ran[0] != threading.get_ident()


@pytest.mark.usefixtures("threading_is_known")
def test_joining_a_thread_that_has_not_begun() -> None:
    threads = [spawn("a thread", threading.Event().is_set) for _ in range(200)]
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()
    threads[0].join()


# Blocking jobs of one's own.


@pytest.mark.anyio
async def test_a_blocking_job_in_a_thread_of_its_own() -> None:
    colour.set("green")

    def job() -> tuple[str, str, bool]:
        found = colour.get()
        colour.set("red")
        thread = threading.current_thread()
        return found, thread.name, thread.daemon

    assert await in_thread("a job", job) == ("green", "a job", True)
    assert colour.get() == "green"


@pytest.mark.anyio
async def test_the_thread_of_a_blocking_job_is_gone_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it takes a while to end after its last word."""
    threads: list[threading.Thread] = []

    def slow(name: str, target: Callable[..., object], *args: object) -> threading.Thread:
        threads.append(spawn(name, lambda: (target(*args), time.sleep(0.1))))
        return threads[0]

    monkeypatch.setattr(_threads, "spawn", slow)
    await in_thread("a job", lambda: None)
    assert not threads[0].is_alive()


@pytest.mark.anyio
async def test_a_blocking_job_that_fails() -> None:
    def job() -> None:
        raise JobError("in the thread")

    with pytest.raises(JobError, match="in the thread"):
        await in_thread("a job", job)


@pytest.mark.anyio
@pytest.mark.usefixtures("no_leaks")
async def test_a_task_that_leaves_does_not_wait_for_its_job() -> None:
    gate, threads = threading.Event(), list[threading.Thread]()

    def job() -> None:
        threads.append(threading.current_thread())
        gate.wait(SOON)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_thread, "a job", job)
        with anyio.fail_after(SOON):
            while not threads:
                await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    assert threads[0].is_alive()
    gate.set()
    await ended(threads[0])


# Ends.


@pytest.mark.anyio
async def test_gone_waits_until_all_threads_are() -> None:
    gates = [threading.Event(), threading.Event()]
    threads = [spawn("a thread", gate.wait, SOON) for gate in gates]
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            await until_ended(threads)
            assert not any(thread.is_alive() for thread in threads)
            tasks.cancel_scope.cancel()

        tasks.start_soon(wait)
        gates[1].set()
        await ended(threads[1])
        assert not tasks.cancel_scope.cancel_called
        gates[0].set()
        with anyio.fail_after(SOON):
            await anyio.sleep_forever()
    await until_ended([])


@pytest.mark.anyio
async def test_however_many_threads_end_the_loop_stands_still_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    stood_still: list[float] = []
    monkeypatch.setattr(_threads, "time", SimpleNamespace(monotonic=lambda: sum(stood_still)))  # no other time passes

    class Ending:
        """Ends as soon as it is not waited for any more."""

        def join(self, timeout: float) -> None:
            stood_still.append(timeout)

        def is_alive(self) -> bool:
            return False

    threads: list[Any] = [Ending() for _ in range(50)]
    await until_ended(threads)
    assert len(stood_still) == 50
    assert sum(stood_still) == _threads._LAST_STEPS


class Waits:
    """Something to wait for, counted."""

    def __init__(self) -> None:
        self.begun = self.done = 0
        self.event = anyio.Event()

    async def __call__(self) -> None:
        self.begun += 1
        await self.event.wait()
        self.done += 1


def test_how_long_a_cancelled_block_waits() -> None:
    assert _threads._GRACE == 0.2


@pytest.mark.anyio
async def test_in_peace_the_wait_has_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "_GRACE", 0.0)
    waits = Waits()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(within_grace, waits)
        await anyio.sleep(0.05)
        assert (waits.begun, waits.done) == (1, 0)
        waits.event.set()
    assert (waits.begun, waits.done) == (1, 1)


@pytest.mark.anyio
async def test_what_the_wait_raises_comes_out() -> None:
    async def wait() -> None:
        raise JobError

    with pytest.raises(JobError):
        await within_grace(wait)


@pytest.mark.anyio
@pytest.mark.parametrize("told", [False, True], ids=["while it waits", "before"])
async def test_cancelled_it_waits_shortly(told: bool) -> None:
    waits = Waits()
    begin = time.monotonic()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await within_grace(waits, cancelled=told)
        await anyio.sleep(0)
    took = time.monotonic() - begin
    assert scope.cancelled_caught
    assert waits.done == 0
    assert took > 0.19


@pytest.mark.anyio
async def test_cancelled_it_waits_no_longer_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "_GRACE", 2 * SOON)
    waits = Waits()
    begin = time.monotonic()
    with anyio.CancelScope() as scope:
        scope.cancel()
        Loop().post(waits.event.set)
        await within_grace(waits)
    assert scope.cancelled_caught, "the cancellation goes on"
    assert waits.done == 1
    assert time.monotonic() - begin < SOON


@pytest.mark.asyncio
async def test_cancelled_by_asyncio_it_waits_shortly() -> None:
    waits = Waits()
    task = asyncio.create_task(within_grace(waits))
    await asyncio.sleep(0)
    begin = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begin > 0.19
    assert waits.done == 0


@pytest.mark.asyncio
async def test_cancelled_twice_by_asyncio_it_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "_GRACE", 2 * SOON)
    waits = Waits()
    task = asyncio.create_task(within_grace(waits))
    await asyncio.sleep(0)
    begin = time.monotonic()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begin < SOON


def test_trio_cancels_it_alike() -> None:
    """Natively, without anyio around it."""

    async def main() -> tuple[bool, float]:
        waits = Waits()
        begin = trio.current_time()
        with trio.move_on_after(0.01) as scope:
            await within_grace(waits)
        return scope.cancelled_caught, trio.current_time() - begin

    caught, took = trio.run(main)
    assert caught
    assert took > 0.2


# Forks.


def test_a_fork_is_told_apart_and_forgotten_in_the_child_alone() -> None:
    program = (
        "import os\n"
        "from scardface._threads import forget_at_fork, generation\n"
        "told = []\n"
        "forget_at_fork(lambda: told.append('one'))\n"
        "forget_at_fork(lambda: told.append('two'))\n"
        "assert generation() == 0\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    assert (generation(), told) == (1, ['one', 'two']), (generation(), told)\n"
        "    grandchild = os.fork()\n"
        "    if not grandchild:\n"
        "        assert (generation(), told) == (2, ['one', 'two'] * 2)\n"
        "        os._exit(0)\n"
        "    os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "assert (generation(), told) == (0, [])\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=True)


def test_the_hook_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(_threads, "_generation", generation())
    monkeypatch.setattr(_threads, "_forgetters", [])
    before = generation()
    forget_at_fork(lambda: told.append("forgotten"))
    _threads._forget()
    assert generation() == before + 1
    assert told == ["forgotten"]


def test_a_spawned_thread_never_holds_up_the_exit() -> None:
    program = "import threading\nfrom scardface._threads import Worker, spawn\nspawn('x', threading.Event().wait)\nWorker('y')\n"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=30, check=True)


LATE = """
import _thread, atexit, os, threading, time
gate = threading.Event()
def late(start):
    def begin(target):
        gate.wait()
        time.sleep({seconds})
        target()
    return lambda target, *args, **more: start(lambda *_: begin(target), *args, **more)
for name in ("start_new_thread", "start_joinable_thread"):
    if (start := getattr(_thread, name, None)) is not None:
        setattr(_thread, name, late(start))
atexit.register(lambda: print("not begun:", len(_threads._not_begun)))  # runs last
from scardface import _threads
"""
"""Threads of the library take their first step some time after `gate`, as on a machine that is busy."""


def outcome(program: str, seconds: float) -> str:
    command = [sys.executable, "-c", LATE.format(seconds=seconds) + program]
    return subprocess.run(command, cwd=ROOT, timeout=60, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_a_thread_that_has_not_begun_at_the_exit_begins_before_it() -> None:
    assert outcome("_threads.spawn('x', int)\natexit.register(gate.set)\n", 0.3) == "not begun: 0\n"


def test_a_thread_that_never_begins_holds_up_the_exit_for_a_while_only() -> None:
    assert outcome("_threads._FIRST_STEP_TIMEOUT = 0.01\n_threads.spawn('x', int)\n", 0) == "not begun: 1\n"


def test_a_thread_that_is_started_at_the_exit_has_begun_when_its_starter_goes_on() -> None:
    program = "gate.set()\n_threads._await_first_steps()\n_threads.spawn('x', int)\nassert not _threads._not_begun\n"
    assert outcome(program, 0.3) == "not begun: 0\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_child_waits_for_no_thread_of_its_parent() -> None:
    program = "_threads.spawn('x', print)\nif os.fork():\n    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    assert outcome(program, 0) == "not begun: 0\n"


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="Windows has no fork")
def test_every_table_of_the_process_is_forgotten_at_a_fork() -> None:
    from scardface._faces import card
    from scardface._pcsc.binding_common import contexts_lock
    from scardface._waiting import driver

    locks = [driver._drivers_lock, card._lock, contexts_lock]
    assert {driver._drivers.clear, _threads._not_begun.clear, *(lock._renew for lock in locks)} <= {*_threads._forgetters}


def test_a_forked_child_finds_a_lock_free() -> None:
    program = (
        "import os, threading\n"
        "from scardface._threads import ForkLock, spawn\n"
        "lock, held, gate = ForkLock(), threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with lock.current:\n"
        "        held.set()\n"
        "        gate.wait()\n"
        "holder = spawn('holder', hold)\n"
        "held.wait()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(0 if lock.current.acquire(timeout=10) else 1)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "assert not lock.current.acquire(blocking=False)\n"
        "gate.set()\n"
        "holder.join()\n"
        "assert lock.current.acquire(blocking=False)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=True)
