"""What a soak is made of: who lives in it and rests at the same time, what it counts, and what the process holds at each rest.

Rules:

- An actor asks between two acts whether it may go on. At rest nobody acts, so what the process holds then can be compared.
- The library's own errors are survived and counted; anything else is a failure, and ends the soak.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from scardface import SCardError
from tests.support import census
from tests.support.foreign import ForeignError

HANG = 60.0
"""Seconds after which somebody who does not rest hangs."""
BREATH = 0.05
"""Seconds until the next act after one that failed."""


class Sample(NamedTuple):
    """What the process holds at a rest.

    Attributes:
        kilobytes: resident, with the holes that threads leave in the memory that malloc has for each.
        allocated: kilobytes that malloc has given away (0: not known here).
        blocks: of the interpreter's own memory.
    """

    at: float
    kilobytes: int
    allocated: int
    blocks: int
    threads: int
    descriptors: int


class Life:
    """What all actors share: whether it goes on, when it rests, what was counted, and what went wrong."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[BaseException] = []
        self._lock = threading.Lock()
        self._resting = False
        self._over = False
        self._busy: dict[str, bool] = {}

    def count(self, what: str) -> None:
        """One more."""
        with self._lock:
            self.counts[what] += 1

    def begin(self, name: str) -> None:
        """An actor comes."""
        self._busy[name] = True

    def may_act(self, name: str) -> bool | None:
        """Asked between two acts: True: act; None: rest; False: it is over."""
        self._busy[name] = not (self._resting or self._over)
        return False if self._over else None if self._resting else True

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[None]:
        """Inside, nobody acts."""
        self._resting = True
        self._await_rest()
        try:
            yield
        finally:
            self._resting = False

    def end(self) -> None:
        """It is over."""
        self._over = True
        self._await_rest()

    def _await_rest(self) -> None:
        end = time.monotonic() + HANG
        while any(self._busy.values()):
            if time.monotonic() > end:
                faulthandler.dump_traceback()
                raise AssertionError(f"these hang: {[name for name, busy in self._busy.items() if busy]}")
            time.sleep(0.01)

    def _survive(self, error: SCardError | ForeignError) -> None:
        self.count(f"survived {type(error).__name__}" if isinstance(error, SCardError) else "foreign calls refused")

    def act(self, name: str, *acts: Callable[[], None]) -> None:
        """The life of an actor in a thread."""
        self.begin(name)
        try:
            while (may := self.may_act(name)) is not False:
                try:
                    if may:
                        random.choice(acts)()
                    else:
                        time.sleep(BREATH)
                except (SCardError, ForeignError) as error:
                    self._survive(error)
                    time.sleep(BREATH)
        except BaseException as error:
            self.failures.append(error)
        finally:
            self._busy[name] = False

    async def act_async(self, name: str, act: Callable[[], Any]) -> None:
        """The life of an actor in an event loop."""
        self.begin(name)
        try:
            while (may := self.may_act(name)) is not False:
                try:
                    if may:
                        await act()
                    else:
                        await anyio.sleep(BREATH)
                except SCardError as error:
                    self._survive(error)
                    await anyio.sleep(BREATH)
        except Exception as error:
            self.failures.append(error)
        finally:
            self._busy[name] = False


def sample(begin: float) -> Sample:
    """What the process holds now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    now = census.take()
    kilobytes = pages * os.sysconf("SC_PAGE_SIZE") // 1024
    blocks = sys.getallocatedblocks()
    return Sample(time.monotonic() - begin, kilobytes, _allocated(), blocks, len(now.tasks), len(now.descriptors))


class _Mallinfo2(ctypes.Structure):
    """struct mallinfo2 (malloc.h of glibc 2.33)."""

    _fields_ = (("others", 7 * ctypes.c_size_t), ("uordblks", ctypes.c_size_t), ("more", 2 * ctypes.c_size_t))


def _allocated() -> int:
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return 0
    mallinfo2.restype = _Mallinfo2
    kilobytes: int = mallinfo2().uordblks // 1024
    return kilobytes


def per_hour(samples: list[Sample], value: Callable[[Sample], int]) -> float:
    """The slope of the straight line through the samples."""
    count = len(samples)
    mean_at, mean = sum(one.at for one in samples) / count, sum(value(one) for one in samples) / count
    spread = sum((one.at - mean_at) ** 2 for one in samples)
    return 3600 * sum((one.at - mean_at) * (value(one) - mean) for one in samples) / spread if spread else 0.0


def tell(life: Life, samples: list[Sample]) -> None:
    """The figures."""
    for what, count in sorted(life.counts.items()):
        print(f"[soak] {what}: {count}")
    half = samples[len(samples) // 2 :]
    print(f"[soak] faults survived: {sum(count for what, count in life.counts.items() if what.startswith('survived'))}")
    slope = per_hour(half, lambda one: one.kilobytes)
    print(f"[soak] memory: {samples[0].kilobytes} kB at first, {samples[-1].kilobytes} kB at last,", end=" ")
    print(f"{slope:+.0f} kB per hour in the second half")
    allocated, blocks = per_hour(half, lambda one: one.allocated), per_hour(half, lambda one: one.blocks)
    print(f"[soak] allocated: {allocated:+.0f} kB per hour in the second half, of {samples[-1].allocated}")
    print(f"[soak] blocks: {blocks:+.0f} per hour in the second half, of {samples[-1].blocks}")
    _tell_growth("threads", samples, lambda one: one.threads)
    _tell_growth("descriptors", samples, lambda one: one.descriptors)


def _tell_growth(what: str, samples: list[Sample], value: Callable[[Sample], int]) -> None:
    first, last = value(samples[0]), value(samples[-1])
    print(f"[soak] {what}: {first} at first, {last} at last, {per_hour(samples, value):+.1f} per hour", flush=True)
