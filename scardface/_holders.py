"""Who else has PC/SC open: names for the one warning that a card is held by another program.

PC/SC does not tell who holds a card. On Linux a program that uses it has libpcsclite mapped, and /proc shows that of the programs
that this user may see; elsewhere, and of other users' programs, nothing is known. Reads /proc: never called on an event loop.
"""

from __future__ import annotations

import os
from pathlib import Path

_LIBRARY = "libpcsclite.so"
_MOST_NAMED = 8


def other_programs() -> list[str]:
    """Programs with PC/SC open, as "name (pid n)", the newest first, this one left out; empty where that cannot be told."""
    found = []
    processes = [path for path in Path("/proc").glob("[0-9]*") if path.name.isdecimal()]
    for process in sorted(processes, key=lambda path: int(path.name), reverse=True):
        if process.name != str(os.getpid()) and _uses_pcsc(process):
            found.append(f"{_name(process)} (pid {process.name})")
            if len(found) == _MOST_NAMED:
                break
    return found


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
