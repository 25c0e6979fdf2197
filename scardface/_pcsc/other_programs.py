"""Who else has PC/SC open: names for whoever wonders who holds a card.

PC/SC does not tell who holds a card. On Linux a program that uses it has libpcsclite mapped, and /proc shows that of the programs
that this user may see; elsewhere, and of other users' programs, nothing is known. Some programs let nobody read what they have
mapped, not even their user (fact 66): of those, the ones that are known to use cards are named for what they are. Reads /proc:
never called on an event loop.

What a program is called is its own to say, so it is data: cut short, and nothing in it is obeyed.
"""

from __future__ import annotations

import os
from pathlib import Path

_LIBRARY = "libpcsclite.so"
_MOST_NAMED = 8
_LONGEST_NAME = 60
_SECRETIVE = frozenset(("scdaemon", "ssh-pkcs11-helper"[:15]))
"""Programs for cards that keep their keys from being read: what they have mapped is not shown. Of a name Linux keeps 15 bytes."""
_TAKES_VALUE = frozenset(("--check-hash-based-pycs",))
"""Options of python that take the next word for their value; of the short ones, -W and -X do."""


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
    except PermissionError:  # another user's, or one that lets nobody look
        return _comm(process) in _SECRETIVE and _is_own(process)
    except OSError:  # ended meanwhile
        return False


def _is_own(process: Path) -> bool:
    """Whether a process is this user's; its files in /proc are root's where it lets nobody look."""
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
    """A program's name; of one that python runs, also which: its script or module, and nothing of its arguments."""
    name = _comm(process)
    script = _script(process) if name.startswith(("python", "pypy")) else ""
    told = f"{name} {script}".strip() or "a program"
    return told if len(told) <= _LONGEST_NAME else told[:_LONGEST_NAME] + "..."


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
