"""What a process holds: threads, file descriptors and PC/SC contexts, so that a test can tell that nothing outlives it.

Rules:

- Threads are counted twice, as Python knows them (threading.enumerate) and as the kernel does (/proc/self/task), since a thread of
  a C library is seen by the kernel only. Elsewhere than on Linux only Python's threads and the simulations' contexts are counted.
- The idle threads that trio keeps for ten seconds in its cache are trio's and not counted.
- A context of the real service is a socket, and counted as one; those of each simulation are asked for by `watch`.
- `settle` waits for the ends of the threads that are new, one after the other, and for what no event tells of it looks again every
  10 ms. Its bound is what a leak exceeds on the slowest machine; who leaves late is no leak.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import NamedTuple

from scardface.testing import SimulatedPCSC

BOUND = 60.0
"""Seconds that a test's threads, descriptors and contexts have to go; more than the 30 s for which Dask tries to connect."""

_simulations: weakref.WeakSet[SimulatedPCSC] = weakref.WeakSet()


def watch(simulation: SimulatedPCSC) -> None:
    """Count the contexts of this simulation from now on."""
    _simulations.add(simulation)


class Census(NamedTuple):
    """What the process holds at one moment: each a name to be read in a failure."""

    threads: tuple[str, ...]
    tasks: tuple[str, ...]
    descriptors: tuple[str, ...]
    contexts: tuple[str, ...]

    def exceeds(self, before: Census, *, contexts: bool = True) -> bool:
        """Whether there is more of anything than there was before."""
        pairs = list(zip(self, before, strict=True))
        return any(len(now) > len(then) for now, then in (pairs if contexts else pairs[:-1]))

    def difference(self, before: Census) -> str:
        """What is here that was not before, in words."""
        new = [sorted(set(now) - set(then)) for now, then in zip(self, before, strict=True)]
        return f"threads {new[0]}, tasks {new[1]}, descriptors {new[2]}, contexts {new[3]}"


def take() -> Census:
    """Counts what this process holds now."""
    everybody = [thread for thread in threading.enumerate() if not _is_dummy(thread)]  # Python 3.11 lists those for ever
    cached = {thread.native_id for thread in everybody if thread.name.startswith("Trio thread")}
    threads = tuple(f"{thread.name} ({thread.native_id})" for thread in everybody if thread.native_id not in cached)
    tasks = tuple(name for name in os.listdir("/proc/self/task") if int(name) not in cached) if sys.platform == "linux" else ()
    contexts = tuple(f"{number} of {pcsc!r}" for pcsc in list(_simulations) for number in range(pcsc.open_contexts))
    return Census(threads, tasks, tuple(_descriptors()), contexts)


def _is_dummy(thread: threading.Thread) -> bool:
    """Whether `threading` only heard of it when it asked for itself; while it lives, it counts among the tasks."""
    return isinstance(thread, threading._DummyThread)


def _descriptors() -> list[str]:
    found: list[str] = []
    if sys.platform != "linux":
        return found
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the descriptor that listed the folder
            continue
        if Path(target) != Path(f"/proc/{os.getpid()}/fd"):
            found.append(f"{name} -> {target}")
    return found


def settle(before: Census, *, contexts: bool = True) -> None:
    """Waits until no more is held than before; raises AssertionError when that does not come true in time."""
    if not take().exceeds(before, contexts=contexts):
        return
    gc.collect()
    end = time.monotonic() + BOUND
    for thread in threading.enumerate():
        known = f"{thread.name} ({thread.native_id})" in before.threads or thread.name.startswith("Trio thread")
        if not known and not _is_dummy(thread):
            thread.join(max(0.0, end - time.monotonic()))
    while (now := take()).exceeds(before, contexts=contexts):
        assert time.monotonic() < end, f"still there {BOUND:g} s after the test: {now.difference(before)}"
        time.sleep(0.01)
