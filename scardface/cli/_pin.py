"""PIN entry without echo, and a warning about PINs on the command line.

Rules:

- A PIN is asked for on the terminal, without echo; without a terminal that is an error.
- It is asked for once per run, however many commands need it, and stored nowhere else.
- A command line can be seen by every user of the machine, and is kept in the shell's history.
"""

from __future__ import annotations

import getpass
import warnings
from functools import cache

import click

from .. import C_APDU
from ..replay import carries_secret
from ._failures import print_error


@cache
def _asked() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)  # getpass would read from standard input, with echo
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
    """Ask again next time."""
    _asked.cache_clear()


def warn_of(command: C_APDU) -> None:
    """Print a warning if a command from the command line carries a PIN or a key."""
    if command.data and carries_secret(command):
        print_error(
            "a PIN or key on the command line can be seen by other users and stays in the shell's history; "
            "write PIN in its place, and --pin-prompt asks for it"
        )
