"""What a process holds and uses, as the kernel tells it (Linux).

Rules:

- Another process looks, where that can be: it disturbs nothing. Nothing of the library is asked.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["Usage", "memory", "sockets", "threads", "usage"]


class Usage(NamedTuple):
    """Of all threads together.

    Attributes:
        cpu: seconds of processor time.
        wakes: how many times a thread went to sleep of its own will, and so was woken.
    """

    cpu: float
    wakes: int


def usage(process: int) -> Usage:
    """What the threads that a process has now have used."""
    nanoseconds = wakes = 0
    for task in Path(f"/proc/{process}/task").iterdir():
        try:
            nanoseconds += int((task / "schedstat").read_text().split()[0])
            status = (task / "status").read_text()
        except FileNotFoundError:
            continue  # it has just ended
        wakes += int(next(line for line in status.splitlines() if line.startswith("voluntary")).split()[1])
    return Usage(nanoseconds / 1e9, wakes)


def threads(process: int) -> int:
    """How many threads a process has."""
    return len(os.listdir(f"/proc/{process}/task"))


def sockets(process: int) -> int:
    """How many sockets a process has open: each PC/SC context of pcsc-lite is one."""
    count = 0
    for descriptor in os.listdir(f"/proc/{process}/fd"):
        try:
            count += os.readlink(f"/proc/{process}/fd/{descriptor}").startswith("socket:")
        except FileNotFoundError:
            continue  # closed just now
    return count


def memory(process: int) -> int:
    """Bytes of memory that a process has of its own (without what it shares with files)."""
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])
