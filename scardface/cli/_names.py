"""Names for a card by its ATR: from a contactless reader's ATR itself, and from the list of pcsc-tools.

Rules:

- The list is a file of pcsc-tools' (smartcard_list.txt), in the user's cache or among the system's; nothing is downloaded. Without
  a list no card has a name. The first file found counts, as in pcsc-tools.
- Lines without a leading blank are ATRs in upper-case digits, `.` for any digit; the lines after it that begin with a tab name the
  card; `#` begins a comment. The format allows any regular expression. Brackets are supported; any other expression is skipped,
  since its evaluation might take arbitrarily long.
- The contents of the list are data, and are escaped when printed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .. import ATR
from ..contactless import tag

LIST = "smartcard_list.txt"
SYSTEM = ("/usr/local/pcsc", "/usr/share/pcsc", "/usr/local/share/pcsc", "/opt/homebrew/share/pcsc")
_MAX_NAMES = 8
_SIMPLE = re.compile(r"[0-9A-F. ]+")
_BRACKETS = re.compile(r"(?:[0-9A-F. ]|\[[0-9A-F-]{1,20}\])+")


def list_file() -> Path | None:
    """The list; None: there is none."""
    given, home = os.environ.get("XDG_CACHE_HOME"), home_folder()
    cache = Path(given) if given else home and home / ".cache"
    candidates = [cache and cache / LIST, home and home / f".{LIST}", *(Path(folder, LIST) for folder in SYSTEM)]
    return next((path for path in candidates if path is not None and path.is_file()), None)


def home_folder() -> Path | None:
    """The user's folder; None: there is none, as for a user that the machine does not know (a container's)."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def names_of(atr: bytes, path: Path | None = None) -> tuple[str, ...]:
    """Possible names of the card with this ATR, the most likely first, at most 8; empty if it is not known.

    Args:
        atr: the ATR.
        path: the list; None: the one that is there.
    """
    storage_card = tag(ATR(atr))
    known = () if storage_card is None else (f"{storage_card.name} ({storage_card.standard})",)
    return tuple(dict.fromkeys((*known, *_listed(atr, path or list_file()))))[:_MAX_NAMES]


def _listed(atr: bytes, path: Path | None) -> list[str]:
    """The names in the list."""
    if path is None or not atr:
        return []
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            return [name for _, name in sorted(_entries(lines, atr.hex(" ").upper()), key=lambda entry: entry[0])]
    except OSError:
        return []


def _entries(lines: Iterable[str], atr: str) -> Iterator[tuple[int, str]]:
    """How many digits a fitting entry leaves open, and a line of what it says."""
    fitting = None
    for line in lines:
        if line.startswith("\t"):
            if fitting is not None:
                yield fitting, line.strip()
        elif line.strip() and not line.startswith("#"):
            pattern = line.strip().upper()
            fitting = _open_digits(pattern) if _fits(pattern, atr) else None


def _fits(pattern: str, atr: str) -> bool:
    if pattern[:2] not in (atr[:2], "..") and "[" not in pattern[:2]:
        return False
    if _SIMPLE.fullmatch(pattern):
        return len(pattern) == len(atr) and all(mine in (".", its) for mine, its in zip(pattern, atr, strict=True))
    if not _BRACKETS.fullmatch(pattern):
        return False
    try:
        return re.fullmatch(pattern, atr) is not None
    except re.error:  # [F-A]
        return False


def _open_digits(pattern: str) -> int:
    return pattern.count(".") + pattern.count("[")
