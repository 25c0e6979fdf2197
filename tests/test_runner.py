"""The loop thread of the sync faces: it runs while something is pending, and everything that is pending in one loop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

import anyio
import pytest

from scardface import _runner
from scardface._runner import Pending, get, start

ROOT = Path(__file__).resolve().parents[1]
SOON = 10.0
"""Seconds that something may take that takes none."""

pytestmark = pytest.mark.usefixtures("no_leaks", "_nothing_pending")


def begin_job(job: Callable[[], Coroutine[Any, Any, None]]) -> Pending:
    """Start a job of its own making."""
    pending = Pending(job)
    start(pending)
    return pending


@pytest.fixture
def _nothing_pending() -> Iterator[None]:
    """The loop thread is gone before a test and after it."""
    assert loop_threads() == []
    yield
    end = time.monotonic() + SOON
    while loop_threads():
        assert time.monotonic() < end, "the loop thread is still there"
        time.sleep(0.001)
    assert _runner._running is None


def loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "scardface-sync"]


class Job:
    """A coroutine that tells how far it came, and goes on when it is let."""

    def __init__(self) -> None:
        self.begun, self.cancelled, self.over = threading.Event(), threading.Event(), threading.Event()
        self.thread: threading.Thread | None = None
        self._gate: anyio.Event | None = None
        self.pending: Pending | None = None

    async def run(self) -> None:
        self.thread = threading.current_thread()
        self._gate = anyio.Event()
        self.begun.set()
        try:
            await self._gate.wait()
        except BaseException:
            self.cancelled.set()
            raise
        finally:
            self.over.set()

    def started(self) -> Job:
        """Start it, and wait until it runs."""
        self.pending = begin_job(self.run)
        assert self.begun.wait(SOON)
        return self

    def let(self) -> Job:
        """Let it end, and wait for that and for its thread, if it was the last."""
        assert self.pending is not None
        assert self._gate is not None
        self.pending._running.post(self._gate.set)
        assert self.pending.ended.wait(SOON)
        self.pending.settle()
        return self


def put(queue: SimpleQueue[Any], item: Any) -> Callable[[], Coroutine[Any, Any, None]]:
    async def job() -> None:
        queue.put(item)

    return job


def test_a_job_runs_in_a_daemon_thread_with_a_loop() -> None:
    outcome: SimpleQueue[tuple[threading.Thread, Any]] = SimpleQueue()

    async def job() -> None:
        await anyio.sleep(0)
        outcome.put((threading.current_thread(), anyio.get_current_task().name))

    pending = begin_job(job)
    thread, _ = get(outcome)
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert thread.name == "scardface-sync"
    assert pending.ended.wait(SOON)


def test_starting_does_not_wait() -> None:
    """The loop may be busy."""
    gate, job = threading.Event(), Job()

    async def blocks() -> None:
        gate.wait(SOON)

    begin_job(blocks)
    pending = begin_job(job.run)
    assert not job.begun.is_set()
    gate.set()
    assert job.begun.wait(SOON)
    job.pending = pending
    job.let()


def test_all_that_is_pending_shares_one_thread() -> None:
    jobs = [Job().started() for _ in range(5)]
    assert len({job.thread for job in jobs}) == 1
    assert len(loop_threads()) == 1
    for job in jobs[:-1]:
        job.let()
        assert loop_threads() == [jobs[-1].thread]
    jobs[-1].let()
    assert loop_threads() == []


def test_the_last_one_ends_the_thread_and_the_next_makes_a_new_one() -> None:
    first = Job().started().let()
    assert first.thread is not None
    assert not first.thread.is_alive()
    second = Job().started().let()
    assert second.thread is not first.thread


def test_a_thread_on_its_way_out_takes_no_more_work() -> None:
    """Started in the very moment that the last one ended, many times over, from several threads."""
    outcome: SimpleQueue[int] = SimpleQueue()

    def starter(number: int) -> None:
        for _ in range(100):
            own: SimpleQueue[int] = SimpleQueue()
            pending = begin_job(put(own, number))
            outcome.put(own.get(timeout=SOON))
            assert pending.ended.wait(SOON)

    threads = [threading.Thread(target=starter, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    done = [outcome.get_nowait() for _ in range(outcome.qsize())]
    assert sorted(done) == [0] * 100 + [1] * 100 + [2] * 100


def test_a_job_is_cancelled_from_any_thread() -> None:
    job, other = Job().started(), Job().started()
    assert job.pending is not None
    job.pending.cancel()
    job.pending.cancel()
    assert job.pending.ended.wait(SOON)
    assert job.cancelled.is_set()
    assert not other.over.is_set()
    other.let()
    assert not other.cancelled.is_set()
    job.pending.cancel()


def test_a_job_is_cancelled_before_it_begins() -> None:
    """Its first checkpoint ends it."""
    gate, blocking, job = threading.Event(), threading.Event(), Job()

    async def blocks() -> None:
        blocking.set()
        gate.wait(SOON)

    begin_job(blocks)
    assert blocking.wait(SOON)
    pending = begin_job(job.run)
    pending.cancel()
    assert not job.begun.is_set()
    gate.set()
    assert pending.ended.wait(SOON)
    assert job.cancelled.is_set()


def test_a_job_is_cancelled_before_its_loop_begins() -> None:
    """Nothing can be posted then; it finds the wish when it begins."""
    job = Job()
    with _runner._lock:  # the loop thread needs it to begin
        pending = begin_job(job.run)
        pending.cancel()
        assert not job.begun.is_set()
    assert pending.ended.wait(SOON)
    assert job.cancelled.is_set()


def test_settle_waits_for_the_job_and_for_the_thread_of_the_last_one() -> None:
    job = Job().started()
    assert job.pending is not None
    job.pending.cancel()
    job.pending.settle()
    assert job.over.is_set()
    assert loop_threads() == []


def test_settle_does_not_wait_for_the_thread_of_others() -> None:
    job, other = Job().started(), Job().started()
    assert job.pending is not None
    job.pending.cancel()
    assert job.pending.ended.wait(SOON)
    job.pending.settle()
    assert loop_threads() == [other.thread]
    other.let()


def test_settle_is_bounded() -> None:
    """0.2 s, whatever the job does."""
    assert _runner.SETTLE == 0.2
    job = Job().started()
    assert job.pending is not None
    begin = time.monotonic()
    job.pending.settle()
    took = time.monotonic() - begin
    assert not job.over.is_set()
    assert 0.19 < took < 2
    job.let()


def test_settle_is_bounded_where_the_thread_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is over, its loop hangs."""
    gate = threading.Event()
    begun = threading.Event()

    async def job() -> None:
        begun.set()

    class Hanging(Pending):
        async def run(self, running: Any) -> None:
            await super().run(running)
            gate.wait(SOON)

    pending = Hanging(job)
    start(pending)
    assert begun.wait(SOON)
    begin = time.monotonic()
    pending.settle()
    took = time.monotonic() - begin
    assert len(loop_threads()) == 1
    gate.set()
    assert took < 2


def test_settle_of_one_that_never_began() -> None:
    """Its caller was interrupted before it could start it."""
    pending = Pending(anyio.sleep_forever)
    pending.cancel()
    begin = time.monotonic()
    pending.settle()
    assert time.monotonic() - begin < 2
    assert not pending.ended.is_set()


# Waiting for an outcome.


def test_an_outcome_that_is_there() -> None:
    queue: SimpleQueue[int] = SimpleQueue()
    queue.put(7)
    assert get(queue) == 7


def test_an_outcome_that_takes_several_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_runner, "SLICE", 0.001)
    slices: list[float] = []

    class Slow(SimpleQueue):  # type: ignore[type-arg]  # typeshed's is generic, the class is not on 3.10
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            assert timeout is not None
            slices.append(timeout)
            if len(slices) == 5:
                self.put("at last")
            return super().get(block, timeout)

    assert get(Slow()) == "at last"
    assert slices == [0.001] * 5


def test_slices_are_finite() -> None:
    """On Windows Ctrl-C cannot break a wait, so it has to end soon by itself."""
    assert (0.1 if sys.platform == "win32" else 1.0) == _runner.SLICE


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself Ctrl-C there")
def test_ctrl_c_ends_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a slice, not at its end."""
    monkeypatch.setattr(_runner, "SLICE", 60.0)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted(timer)
    assert time.monotonic() - begin < SOON
    timer.join(SOON)


def interrupted(timer: threading.Timer) -> None:
    timer.start()
    get(SimpleQueue())


def test_an_interrupt_at_any_line_of_start_leaves_no_thread_behind() -> None:
    """Ctrl-C comes between any two lines. The job may run or not; what counts is that the thread ends and the next one works."""
    for line in range(1, 40):
        began: SimpleQueue[int] = SimpleQueue()
        if not interrupt_start_at(line, put(began, 1)):
            break
        end = time.monotonic() + SOON
        while loop_threads():
            assert time.monotonic() < end, f"the loop thread never ends after an interrupt at line {line} of start"
            time.sleep(0.001)
        outcome: SimpleQueue[int] = SimpleQueue()
        pending = begin_job(put(outcome, line))
        assert outcome.get(timeout=SOON) == line, "the next one never ran"
        assert pending.ended.wait(SOON)
        pending.settle()
    assert line > 5, "no line was ever interrupted"


def interrupt_start_at(number: int, job: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Start a job with a KeyboardInterrupt before the given line that `start` runs; whether it has as many."""
    lines = 0
    seen = set()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        return each_line if frame.f_code is start.__code__ else None

    def each_line(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        # The `with` line comes again when its block ends: no signal is looked at between there and the lock's release.
        if event == "line" and frame.f_lineno not in seen:
            seen.add(frame.f_lineno)
            lines += 1
            if lines == number:
                raise KeyboardInterrupt
        return each_line

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        begin_job(job).ended.wait(SOON)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


# Forks.


def test_a_forked_child_starts_its_own() -> None:
    program = (
        "import os, threading\n"
        "from queue import SimpleQueue\n"
        "import anyio\n"
        "from scardface._runner import Pending, start\n"
        "begun = SimpleQueue()\n"
        "async def pends():\n"
        "    begun.put(1)\n"
        "    await anyio.sleep_forever()\n"
        "pending = Pending(pends)\n"
        "start(pending)\n"
        "begun.get(timeout=10)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    async def job():\n"
        "        begun.put(threading.active_count())\n"
        "    start(Pending(job))\n"
        "    assert begun.get(timeout=10) == 2\n"
        "    os._exit(0)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "pending.cancel()\n"
        "assert pending.ended.wait(10)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", program], cwd=ROOT, timeout=60, check=True)


def test_the_hook_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job().started()
    lock, running = _runner._lock, _runner._running
    try:
        _runner._forget()
        assert _runner._running is None
        assert _runner._lock is not lock
    finally:
        monkeypatch.setattr(_runner, "_lock", lock)
        _runner._running = running
    job.let()


def test_a_pending_job_never_holds_up_the_exit() -> None:
    program = "import anyio\nfrom scardface._runner import Pending, start\nstart(Pending(anyio.sleep_forever))\n"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=30, check=True)


def test_a_second_interrupt_leaves_nothing_undone() -> None:
    """What must be done is done, and other failures come out."""
    steps: list[int] = []

    def step() -> None:
        steps.append(len(steps))
        if len(steps) < 3:
            raise KeyboardInterrupt

    _runner.insist(step)
    assert steps == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        _runner.insist(lambda: 1 / 0)
