"""Which other programs have PC/SC open, one of which may hold the card.

PC/SC does not say which program holds a card. On Linux a program that uses PC/SC has libpcsclite mapped, and /proc shows that for
the programs that this user may inspect; on other systems, and for other users' programs, nothing is known. Some programs make their
maps unreadable even to their user (fact 66): of those, the ones known to use cards are recognised by name. It reads /proc, so it is
never called on an event loop.

A program chooses its own name, so the name is untrusted: it is cut to a bounded length and only displayed.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PROC = "/proc"
_LIBRARY = "libpcsclite.so"
_MAX_NAMED = 8
_MAX_NAME_LENGTH = 60
_UNREADABLE = frozenset(("scdaemon", "ssh-pkcs11-helper"[:15]))
"""Programs for cards whose maps cannot be read, since they protect keys in memory. Linux keeps 15 bytes of a name."""
_TAKES_VALUE = frozenset(("--check-hash-based-pycs",))
"""Long options of python whose value is the next word; of the short ones, -W and -X have one."""


def other_programs() -> tuple[str, ...]:
    """The other programs that have PC/SC open: if a card is in use, one of them has it.

    A plain function on both faces; it reads /proc for some milliseconds.

    Returns:
        "name (pid 4711)" of each, the newest first, eight at most; on Linux only, and only programs that this user may inspect.
    """
    if sys.platform != "linux":
        return ()
    from pathlib import Path  # with urllib and others a twentieth of a short script's start

    processes = [path for path in Path(_PROC).glob("[0-9]*") if path.name.isdecimal() and path.name != str(os.getpid())]
    found = sorted(filter(_uses_pcsc, processes), key=_start, reverse=True)
    return tuple(f"{_name(process)} (pid {process.name})" for process in found[:_MAX_NAMED])


def _start(process: Path) -> tuple[int, int]:
    """When it was started, and its pid; (0, pid) if that cannot be read. Pids alone are no order, since they wrap around."""
    try:  # proc(5): field 22, behind the name in parentheses, which may hold anything
        return int((process / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]), int(process.name)
    except (OSError, ValueError, IndexError):
        return 0, int(process.name)


def _uses_pcsc(process: Path) -> bool:
    try:
        return _LIBRARY in (process / "maps").read_text("utf-8", "replace")
    except PermissionError:  # another user's, or one with unreadable maps
        return _comm(process) in _UNREADABLE and _is_own(process)
    except OSError:  # ended meanwhile
        return False


def _is_own(process: Path) -> bool:
    """Whether a process is this user's; its files in /proc belong to root if its maps are unreadable."""
    try:
        status = (process / "status").read_text("utf-8", "replace")
    except OSError:
        return False
    return any(line.split()[1:2] == [str(os.getuid())] for line in status.splitlines() if line.startswith("Uid:"))


def _comm(process: Path) -> str:
    try:
        return (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _name(process: Path) -> str:
    """A program's name; for Python also the script or module, but none of its arguments."""
    name = _comm(process)
    script = _script(process) if name.startswith(("python", "pypy")) else ""
    label = f"{name} {script}".strip() or "a program"
    return label if len(label) <= _MAX_NAME_LENGTH else label[:_MAX_NAME_LENGTH] + "..."


def _script(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")[1:]
    except OSError:
        return ""
    place = 0
    while place < len(words) and words[place].startswith("-") and words[place] != "-":
        word = words[place]
        if not word.startswith("--"):
            letter = next((each for each in word[1:] if each in "cmWX"), "")
            value = word.partition(letter)[2] if letter else ""
            if letter == "c":
                return "-c"
            if letter == "m":
                return f"-m {value or ''.join(words[place + 1 : place + 2])}"
            place += bool(letter) and not value
        elif word in _TAKES_VALUE:
            place += 1
        place += 1
    return os.path.basename(words[place]) if place < len(words) else ""
