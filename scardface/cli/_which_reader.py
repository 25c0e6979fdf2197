"""Finding the reader that the option `--reader` names.

Rules:

- The exact name of a reader means that one. Else a number is the one that `scardface readers` shows, and anything else the only
  name that it is a part of, whatever the case of its letters. What means two readers, or none, is refused, and the readers are
  listed: a command never goes to a card that nobody named.
- All readers count, in PC/SC's order, those as well whose names the PC/SC binding cannot take.
- The service has `PATIENCE` seconds to say which readers there are, so that no command hangs before a frozen one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

from .. import NoReaderError
from ..backend import default_backend, takes_reader_name, why_left_out
from ..sync import readers

_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
"""Numbers as they are printed: '01' is not one, but a part of many names."""
PATIENCE = 3.5
"""Seconds that the service has to answer; one that was just started needs up to this long to find its readers (fact 25)."""
_MIN_PATIENCE = 2.0
"""The same if `--timeout` is shorter."""


def listed(timeout: float | None = None) -> tuple[str, ...]:
    """The names of all readers, whose places are their numbers.

    Args:
        timeout: seconds of `--timeout`; None: not given.

    Raises:
        ServiceUnavailableError: no service, or none that answers.
    """
    return readers(timeout=PATIENCE if timeout is None else min(PATIENCE, max(_MIN_PATIENCE, timeout)))


def is_usable(name: str) -> bool:
    """Whether a card in a reader of this name can be reached."""
    return takes_reader_name(default_backend(), name)


def which(text: str, names: Sequence[str]) -> str | None:
    """The reader that a text names; None: none that is there, but perhaps one that is plugged in later.

    Args:
        text: as it was entered.
        names: all readers.

    Raises:
        UsageError: several match.
        NoReaderError: it is a number that no reader has, or names a reader that cannot be used.
    """
    if text in names:
        found = text
    elif _NUMBER.fullmatch(text):
        if int(text) >= len(names):
            raise NoReaderError(f"there is no reader {text}: {listing(names)}")
        found = names[int(text)]
    else:
        matching = [name for name in names if text.casefold() in name.casefold()]
        if len(matching) > 1:
            raise click.UsageError(f"--reader {text!r} is part of {len(matching)} names, and the whole of none: {listing(names)}")
        if not matching:
            return None
        found = matching[0]
    if not is_usable(found):
        raise NoReaderError(f"the reader {found!r} cannot be used: {why_left_out(found)}")
    return found


def none_matches(text: str | None, names: Sequence[str]) -> NoReaderError:
    """The error if no usable reader matches."""
    wait = "--wait-for-reader waits for one"
    if text is not None:
        return NoReaderError(f"no reader's name is {text!r} or has it in it: {listing(names)}; {wait}")
    if names:
        return NoReaderError(f"no reader can be used, since {why_left_out(names[0])}: {listing(names)}; {wait}")
    return NoReaderError(f"there is no reader; plug one in, or {wait}")


def listing(names: Sequence[str]) -> str:
    """The readers with their numbers, for an error text."""
    if not names:
        return "no reader is plugged in"
    return f"there {'is' if len(names) == 1 else 'are'} {', '.join(f'{number} {name!r}' for number, name in enumerate(names))}"
