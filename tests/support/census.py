"""What a process holds: threads and file descriptors, so that a test can tell that nothing outlives its block.

Rules of this room:

- Threads are counted twice, as Python knows them (threading.enumerate) and as the kernel does (/proc/self/task), since a thread of
  a C library is seen by the kernel only.
- The idle threads that trio keeps for ten seconds in its cache are trio's and not counted.
- There is no event for "the last thread has left", so `settle` looks again every 10 ms, for two seconds at most.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

BOUND = 2.0
"""Seconds that a test's threads and descriptors have to go."""


class Census(NamedTuple):
    """What the process holds at one moment: each a name to be read in a failure."""

    threads: tuple[str, ...]
    tasks: tuple[str, ...]
    descriptors: tuple[str, ...]

    def exceeds(self, before: Census) -> bool:
        """Whether there is more of anything than there was before."""
        return any(len(now) > len(then) for now, then in zip(self, before, strict=True))

    def difference(self, before: Census) -> str:
        """What is here that was not before, in words."""
        new = [sorted(set(now) - set(then)) for now, then in zip(self, before, strict=True)]
        return f"threads {new[0]}, tasks {new[1]}, descriptors {new[2]}"


def take() -> Census:
    """Counts what this process holds now."""
    everybody = threading.enumerate()
    cached = {thread.native_id for thread in everybody if thread.name.startswith("Trio thread")}
    threads = tuple(f"{thread.name} ({thread.native_id})" for thread in everybody if thread.native_id not in cached)
    tasks = tuple(name for name in os.listdir("/proc/self/task") if int(name) not in cached)
    return Census(threads, tasks, tuple(_descriptors()))


def _descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the descriptor that listed the folder
            continue
        if Path(target) != Path(f"/proc/{os.getpid()}/fd"):
            found.append(f"{name} -> {target}")
    return found


def settle(before: Census) -> None:
    """Waits until no more is held than before; raises AssertionError when that does not come true in time."""
    gc.collect()
    end = time.monotonic() + BOUND
    while (now := take()).exceeds(before):
        assert time.monotonic() < end, f"still there {BOUND:g} s after the test: {now.difference(before)}"
        time.sleep(0.01)
