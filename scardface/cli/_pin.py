"""PINs: asked for where nobody sees them, and a word of warning where everybody does.

Rules:

- A PIN is asked for on the terminal, without echo; where there is no terminal, it is not asked for at all.
- It is asked for once in a run, however many commands need it, and kept nowhere else.
- What stands on a command line is seen by every user of the machine, and kept in the shell's history.
"""

from __future__ import annotations

import getpass
import warnings
from functools import cache

import click

from .. import C_APDU
from ..replay import carries_secret
from ._failures import say


@cache
def _asked() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)  # it would read from standard input, and show it
        try:
            typed = getpass.getpass("PIN: ")
        except getpass.GetPassWarning:
            raise click.UsageError("there is no terminal to ask for the PIN on") from None
    if not (typed and typed.isascii() and typed.isprintable()):
        raise click.UsageError("a PIN is one or more characters of ASCII")
    return typed.encode()


def ask() -> bytes:
    """The PIN, as ASCII; asked for the first time only.

    Raises:
        UsageError: there is no terminal, or nothing was typed.
    """
    return _asked()


def forget() -> None:
    """Ask again next time: the card has not taken it."""
    _asked.cache_clear()


def warn_of(command: C_APDU) -> None:
    """Say so if a command that was written on the command line carries a PIN or a key."""
    if command.data and carries_secret(command):
        say(
            "a PIN or key on the command line can be seen by other users and stays in the shell's history; "
            "write PIN in its place, and --pin-prompt asks for it"
        )
