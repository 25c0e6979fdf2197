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
    processes = [path for path in Path("/proc").glob("[0-9]*") if path.name.isdecimal() and path.name != str(os.getpid())]
    found = sorted(filter(_uses_pcsc, processes), key=_start, reverse=True)
    return tuple(f"{_name(process)} (pid {process.name})" for process in found[:_MOST_NAMED])


def _start(process: Path) -> tuple[int, int]:
    """When it was started; by its number where that cannot be told, though numbers begin anew after a while."""
    try:  # proc(5): field 22, behind the name in parentheses, which may hold anything
        return int((process / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]), int(process.name)
    except (OSError, ValueError, IndexError):
        return 0, int(process.name)


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
