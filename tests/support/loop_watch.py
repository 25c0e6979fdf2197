"""Catches code of ours that blocks an event loop: a thread that looks at the loop's stack again and again.

Rules of this room:

- Blocked means: a frame of ours, above the event loop's own frames, is in the same call in two looks that are 25 ms apart.
- A frame of ours runs code of a file under scardface/. What a test calls in scardface/testing/ it may wait for: those frames, and
  all that they call, are not looked at.
- A coroutine that is merely resumed often is not blocked, though it looks alike: the step of the loop that runs it must be the
  same one, too. Where no Python frame stands for a step (uvloop), a call must be in progress, not only an await.
- The time in which a thread of this process wanted to run and got no processor (schedstat's run delay, Linux) does not count to the
  25 ms: the loop may be what waited, or it waited for another thread that did.
- Frames are held, which keeps their locals alive, only between those two looks, and only once a quick pair of looks without
  holding was suspicious: tests that watch objects die are not disturbed.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[2] / "scardface"

INTERVAL = 0.025
"""Seconds between the two looks that count."""

MOST_LOOKS = 40
"""How often it looks again when the process got too little of the processors."""

QUICK_INTERVAL = 0.005
"""Seconds between the looks that only raise the suspicion."""

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
    """One frame as it was at one look: the frame (or its id) and how far it had come."""

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
    """The frames of a thread from the innermost one of its event loop inwards; none if it runs no loop."""
    frames: list[FrameType] = []
    frame = sys._current_frames().get(thread)
    while frame is not None:
        frames.append(frame)
        if _function(frame) in _LOOP_FUNCTIONS:
            return frames[::-1]
        frame = frame.f_back
    return []


def _look(frames: Sequence[FrameType], hold: bool) -> list[_Look]:
    return [_Look(frame if hold else id(frame), frame.f_lasti) for frame in frames]


def _blocking(before: Sequence[_Look], now: Sequence[FrameType], after: Sequence[_Look]) -> bool:
    """Whether a frame of ours is in the same call in both looks; `now` are the frames that `after` is a look at."""
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


def _run_delays() -> dict[str, int]:
    """Nanoseconds that each thread of the process wanted to run and was not let (sched-stats.rst); empty where it is not told."""
    delays = {}
    for folder in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            delays[folder.parent.name] = int(folder.read_text(encoding="ascii").split()[1])
    return delays


def _starved(before: dict[str, int]) -> float:
    """Seconds that the thread that fared worst waited for a processor since `before`."""
    return max((delay - before.get(task, 0) for task, delay in _run_delays().items()), default=0) / 1e9


class LoopWatch:
    """Watches the thread that makes it, from `with` to the end of the block or to the first time that it is blocked.

    Attributes:
        found: the stack of the blocked loop, a line per frame; empty while none was seen.
    """

    def __init__(self) -> None:
        self.found = ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(threading.get_ident(),), name="loop watch", daemon=True)

    def __enter__(self) -> LoopWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self, thread: int) -> None:
        before: list[_Look] = []
        while not self.found and not self._end.wait(QUICK_INTERVAL):
            frames = _stack(thread)
            now = _look(frames, hold=False)
            suspicious = _blocking(before, frames, now)
            before = now
            del frames
            if suspicious:
                self.found = self._confirm(thread)

    def _confirm(self, thread: int) -> str:
        begin, delays = time.monotonic(), _run_delays()
        before = _look(_stack(thread), hold=True)
        for _ in range(MOST_LOOKS):
            self._end.wait(INTERVAL)
            frames = _stack(thread)
            if not _blocking(before, frames, _look(frames, hold=True)):
                return ""
            if time.monotonic() - begin - _starved(delays) >= INTERVAL:
                return "\n".join(f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}" for frame in frames)
        return ""
