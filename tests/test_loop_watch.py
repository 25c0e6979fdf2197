"""tests/support/loop_watch.py: what blocks an event loop is found, and what a busy or stopped machine does is not.

Nothing here takes a time: what blocks does so until it was found, and what does not block goes on while the machine does its worst.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.support.faces import BACKENDS
from tests.support.loop_watch import PACKAGE, LoopWatch
from tests.support.waits import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a thread does the kernel tells on Linux alone")

ROOT = PACKAGE.parent
HANG = 120.0
"""Seconds after which something that must happen has not happened."""

OURS = """
async def call():
    await checkpoint()
    block()
    await checkpoint()

def ever():
    while not found():
        yield 1

def block():
    """

KINDS = {
    "sleep": "while not found(): time.sleep(0.5)",
    "lock": "while not found(): threading.Event().wait(0.5)",
    "system call": "while not found(): select.select([silent], [], [], 0.5)",
    "computing": "sum(ever())",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
def test_what_blocks_is_found(backend: Any, kind: str) -> None:
    """A function of ours that does so until it was found."""

    async def main(silent: socket.socket) -> str:
        with LoopWatch() as watch:
            end = time.monotonic() + HANG
            names: dict[str, Any] = {"time": time, "threading": threading, "select": select, "silent": silent}
            names["found"] = lambda: watch.found or time.monotonic() > end
            names["checkpoint"] = anyio.lowlevel.checkpoint
            exec(compile(OURS + KINDS[kind], str(PACKAGE / "_blocking.py"), "exec"), names)
            await names["call"]()
        return watch.found

    name, options = backend
    one, other = socket.socketpair()
    with one, other:
        assert "_blocking.py" in anyio.run(main, one, backend=name, backend_options=options)


INNOCENT = """
import asyncio, os, signal, sys, threading, time
from tests.support.loop_watch import PACKAGE, LoopWatch

SOURCE = '''
def ever(nanoseconds):
    end = time.thread_time_ns() + nanoseconds
    while time.thread_time_ns() < end:
        yield 1

def compute():
    sum(ever(12_000_000))

def take_turns():
    with lock:
        sum(ever(4_000_000))

def steps():
    sum(ever(9_000_000))
    os.kill(os.getpid(), signal.SIGSTOP)
    sum(ever(9_000_000))

def be_stopped():
    steps()
'''
call, count = sys.argv[1], int(sys.argv[2])
lock = threading.Lock()
names = {"time": time, "lock": lock, "os": os, "signal": signal}
exec(compile(SOURCE, str(PACKAGE / "_blocking.py"), "exec"), names)
over = threading.Event()

def neighbour():  # takes the same lock for short, and gets less of the processors than the loop
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    while not over.is_set():
        names["take_turns"]()
        time.sleep(0.001)

async def main():
    with LoopWatch() as watch:
        for _ in range(count):
            names[call]()
            await asyncio.sleep(0)
    print(watch.found or "free")

thread = threading.Thread(target=neighbour)
if call == "take_turns":
    thread.start()
asyncio.run(main())
over.set()
if call == "take_turns":
    thread.join()
"""
"""Calls of ours that take less than 25 ms of CPU time, one after the other."""


@contextmanager
def innocent(call: str, count: int, *before: str) -> Iterator[subprocess.Popen[str]]:
    """A process that does so many calls and then says what was found."""
    with subprocess.Popen(
        [*before, sys.executable, "-c", INNOCENT, call, str(count)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """What it says."""
    assert process.stdout is not None
    return process.stdout.read().strip()


def test_a_process_that_is_stopped_blocks_nothing() -> None:
    """In the middle of a call, as a container is that is paused, or a machine that swaps or sleeps."""
    with innocent("be_stopped", 10) as process:
        state = Path(f"/proc/{process.pid}/stat")
        for _ in range(10):
            wait_until(lambda: state.read_text(encoding="ascii").split()[2] == "T")
            time.sleep(0.05)  # twice what a loop may be blocked for
            process.send_signal(signal.SIGCONT)
            wait_until(lambda: state.read_text(encoding="ascii").split()[2] != "T")
        assert said(process) == "free"


@pytest.mark.parametrize(("call", "count"), [("compute", 15), ("take_turns", 20)])
def test_a_machine_that_is_busy_blocks_nothing(call: str, count: int) -> None:
    """One processor, and three others that compute on it."""
    pinned = ("taskset", "--cpu-list", str(min(os.sched_getaffinity(0))))
    busy = [subprocess.Popen([*pinned, sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        with innocent(call, count, *pinned, "nice", "-n", "5") as process:
            assert said(process) == "free"
    finally:
        for each in busy:
            each.kill()
            each.wait()
