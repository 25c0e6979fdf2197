"""Catches code of ours that blocks an event loop: a thread that samples the loop's stack repeatedly.

Rules:

- Blocked means: a frame of ours, above the event loop's own frames, stays in one call, and the loop's thread either computes in it
  for 25 ms of its own CPU time, or sleeps in it: it is found asleep in five samples, 5 ms apart, and has not run a nanosecond since
  the first of them. No wall clock is read, so a machine that stalls, or stops the process, blocks nothing.
- A frame of ours runs code of a file under scardface/. What a test calls in scardface/testing/ it may wait for: those frames, and
  all that they call, are not looked at.
- A coroutine that is merely resumed often is not blocked, though it looks alike: the step of the loop that runs it must be the
  same one, too. Where no Python frame stands for a step (uvloop), a call must be in progress, not only an await.
- A thread that wants to run and gets no processor is not asleep. Nor does its sleep count while another thread of the process is
  not asleep: what the loop waits for, a lock or the interpreter's, may be in the hands of one that gets no processor.
- The interpreter's own garbage collection is nobody's call: what it computes is not counted.
- Frames are held, which keeps their locals alive, only during those samples, and only once a quick pair of samples without holding
  was suspicious; and for the moment that a look takes. So tests that watch objects die wait for it (`throw_away` of waits.py).
- The kernel tells what a thread does, in /proc (Linux), and CPython which clock is its own. Elsewhere nothing is watched.
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[2] / "scardface"

COMPUTING = 25_000_000
"""Nanoseconds of the loop's CPU time in one call."""

ASLEEP = 5
"""Looks in which the loop is asleep in one call."""

INTERVAL = 0.005
"""Seconds between two samples."""

_STEP_FUNCTIONS = {("asyncio.events", "_run"), ("trio._core._run", "guest_tick")}
_LOOP_FUNCTIONS = _STEP_FUNCTIONS | {
    ("anyio._backends._asyncio", "run"),
    ("anyio._backends._asyncio", "run_fixture"),
    ("anyio._backends._asyncio", "run_test"),
    ("asyncio.base_events", "run_until_complete"),
    ("asyncio.runners", "run"),
    ("trio._core._run", "run"),
}
_SUSPENDABLE = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE


class _Look(NamedTuple):
    """One frame as it was in one sample: the frame (or its id) and how far it had come."""

    frame: FrameType | int
    position: int


@functools.cache
def _is_within(folder: Path, filename: str) -> bool:
    return Path(filename).is_relative_to(folder)


def _places_of_ours(frames: Sequence[FrameType]) -> list[int]:
    """Which of the frames are ours, up to the first of a helper for tests."""
    places = []
    for place, frame in enumerate(frames):
        filename = frame.f_code.co_filename
        if _is_within(PACKAGE / "testing", filename):
            break
        if _is_within(PACKAGE, filename):
            places.append(place)
    return places


def _function(frame: FrameType) -> tuple[str, str]:
    return frame.f_globals.get("__name__", ""), frame.f_code.co_name


def _stack(thread: int) -> list[FrameType]:
    """The frames of a thread from the innermost one of its event loop inwards; none if it runs no loop.

    CPython 3.11.2 may crash where the thread runs on meanwhile (seen once in eleven minutes of a storm), so it is kept from that.
    Up to 3.11.5 a collection inside of `_current_frames` stops the process for good where a thread is just being started
    (https://github.com/python/cpython/issues/106883; seen twice in storms of half an hour), so there is none.
    """
    frames: list[FrameType] = []
    interval, collects = sys.getswitchinterval(), gc.isenabled()
    sys.setswitchinterval(60)
    gc.disable()
    try:
        frame = sys._current_frames().get(thread)
        while frame is not None:
            frames.append(frame)
            if _function(frame) in _LOOP_FUNCTIONS:
                return frames[::-1]
            frame = frame.f_back
        return []
    finally:
        sys.setswitchinterval(interval)
        if collects:
            gc.enable()


def _look(frames: Sequence[FrameType], hold: bool) -> list[_Look]:
    return [_Look(frame if hold else id(frame), frame.f_lasti) for frame in frames]


def _blocking(before: Sequence[_Look], now: Sequence[FrameType], after: Sequence[_Look]) -> bool:
    """Whether a frame of ours is in the same call in both samples; `now` are the frames of the sample `after`."""
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    in_call = now[:same]
    if same < min(len(before), len(after)) and before[same].frame == after[same].frame:
        in_call = now[: same + 1]
    unmoved = same == len(before) == len(after)
    ours = _places_of_ours(now[:same])
    if not ours:
        return False
    one_step = _function(now[0]) in _STEP_FUNCTIONS
    calls = any(not frame.f_code.co_flags & _SUSPENDABLE for frame in in_call[ours[-1] :])
    return one_step or unmoved or calls


def _state(task: int | str) -> str:
    """What the kernel says of a thread, proc_pid_stat(5): R runs or wants to, S sleeps, D waits for a disk, T is stopped."""
    try:
        text = Path(f"/proc/self/task/{task}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has just ended
        return "X"
    return text[text.rindex(")") + 2]


def _others_asleep(*but: int) -> bool:
    """Whether all threads of the process sleep, but for these."""
    return all(_state(task) in "SX" for task in os.listdir("/proc/self/task") if int(task) not in but)


class _Collecting:
    """CPU time (ns) that the garbage collector has taken in each thread, the collection that is under way included."""

    def __init__(self) -> None:
        self._spent: Counter[int] = Counter()
        self._since: dict[int, int] = {}
        gc.callbacks.append(self._note)

    def _note(self, phase: str, info: dict[str, int]) -> None:
        thread, now = threading.get_ident(), time.thread_time_ns()
        if phase == "start":
            self._since[thread] = now
        else:
            self._spent[thread] += now - self._since.pop(thread, now)

    def spent(self, thread: int, now: int) -> int:
        """What it has taken in a thread whose CPU time is `now`."""
        return self._spent[thread] + now - self._since.get(thread, now)

    def close(self) -> None:
        """Count no more."""
        gc.callbacks.remove(self._note)


class LoopWatch:
    """Watches the thread that makes it, from `with` to the end of the block or to the first time that it is blocked.

    Attributes:
        found: the stack of the blocked loop, a line per frame; empty while none was seen.
    """

    def __init__(self) -> None:
        self.found = ""
        self._loop, self._task = threading.get_ident(), threading.get_native_id()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop watch", daemon=True)

    def __enter__(self) -> LoopWatch:
        if sys.platform == "linux" and hasattr(time, "pthread_getcpuclockid"):
            self._clock = time.pthread_getcpuclockid(self._loop)
            self._collecting = _Collecting()  # from the beginning: what is suspicious may be a collection that has begun
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._collecting.close()

    def _run(self) -> None:
        before: list[_Look] = []
        while not self.found and not self._end.wait(INTERVAL):
            frames = _stack(self._loop)
            now = _look(frames, hold=False)
            suspicious = _blocking(before, frames, now)
            before = now
            del frames
            if suspicious:
                self.found = self._confirm()

    def _confirm(self) -> str:
        """Look on for as long as it is in the call; the stack if that is blocked."""
        before = _look(_stack(self._loop), hold=True)
        ran = begin = self._ran()
        asleep = 0
        while not self._end.wait(INTERVAL):
            sleeps = _state(self._task) == "S" and _others_asleep(self._task, threading.get_native_id())
            now = self._ran()
            frames = _stack(self._loop)
            if not _blocking(before, frames, _look(frames, hold=True)):
                return ""
            asleep = asleep + 1 if sleeps and now == ran else 0
            if asleep >= ASLEEP or now - begin >= COMPUTING:
                return "\n".join(f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}" for frame in frames)
            ran = now
        return ""

    def _ran(self) -> int:
        """Nanoseconds of CPU time that the loop's thread has had, but for collections."""
        now = time.clock_gettime_ns(self._clock)
        return now - self._collecting.spent(self._loop, now)
