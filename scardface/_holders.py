"""Who else has PC/SC open: names for whoever wonders who holds a card.

PC/SC does not tell who holds a card. On Linux a program that uses it has libpcsclite mapped, and /proc shows that of the programs
that this user may see; elsewhere, and of other users' programs, nothing is known. Reads /proc: never called on an event loop.
"""

from __future__ import annotations

import os
from pathlib import Path

_LIBRARY = "libpcsclite.so"
_MOST_NAMED = 8


def other_programs() -> tuple[str, ...]:
    """The other programs that have PC/SC open: one of them has the card, if a card is in use.

    A plain function on both faces; it reads /proc for some milliseconds.

    Returns:
        "name (pid 4711)" of each, the newest first, eight at most. It is known on Linux only, of programs that this user may see.
    """
    found = []
    processes = [path for path in Path("/proc").glob("[0-9]*") if path.name.isdecimal()]
    for process in sorted(processes, key=lambda path: int(path.name), reverse=True):
        if process.name != str(os.getpid()) and _uses_pcsc(process):
            found.append(f"{_name(process)} (pid {process.name})")
            if len(found) == _MOST_NAMED:
                break
    return tuple(found)


def _uses_pcsc(process: Path) -> bool:
    try:
        return _LIBRARY in (process / "maps").read_text("utf-8", "replace")
    except OSError:  # ended meanwhile, or another user's
        return False


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "a program"
