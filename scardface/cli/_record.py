"""`scardface record`: a session with a card, written to a cassette that plays without the card.

Rules:

- A file that is there is left alone, unless told otherwise. That the cassette can be written is seen first.
- What standards know to be a PIN or a key is not written: see `scardface.replay`.
- Without commands on a terminal it is the shell that is recorded.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryFile

import click

from ..replay import Recorder, carries_secret, may_carry_secret
from ._failures import FILE, say
from ._interrupt import keeping
from ._open import in_one_go, open_card, traced
from ._options import Giving, Telling, Wish, giving, telling, wishes
from ._send import read_commands, send_all
from ._shell import converse


@click.command()
@click.argument("cassette", metavar="CASSETTE", type=click.Path(path_type=Path, dir_okay=False))
@giving
@wishes
@click.option("--overwrite", is_flag=True, help="Replace a cassette that is there.")
@click.option("--hide-unknown", is_flag=True, help="Leave out all data that no standard says to be harmless, too.")
@click.option("--trace", is_flag=True, help="Show what the library logs, on standard error.")
@telling
def record(cassette: Path, overwrite: bool, hide_unknown: bool, given: Giving, wish: Wish, trace: bool, telling: Telling) -> int:
    """Send commands to a card, and write what is said to a cassette.

    Commands are given as to 'send'; without any, on a terminal, the shell is recorded. PINs and keys are not written, as far as
    standards tell which commands carry them. 'scardface replay' plays the cassette.
    """
    if cassette.exists() and not overwrite:
        say(f"{cassette}: the file exists; --overwrite replaces it")
        return FILE
    see_that_it_can_be_written(cassette)
    typed = is_conversation(given)
    commands = [] if typed else read_commands(given)
    redact = may_carry_secret if hide_unknown else carries_secret
    with (
        traced(trace),
        open_card(wish) as card,
        Recorder(card, cassette, "all", redact=redact) as recorder,
        keeping(recorder.save),
    ):
        if typed:
            return converse(recorder, card, telling)
        with in_one_go(card, wish):
            return send_all(recorder, commands, given.keep_going, telling)


def see_that_it_can_be_written(cassette: Path) -> None:
    """Before anybody waits for a card, or types a PIN; the recorder looks again, more closely, before anything is sent.

    Raises:
        OSError: it cannot; the error names the cassette.
    """
    try:
        with TemporaryFile(dir=cassette.parent):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(cassette)) from None


def is_conversation(given: Giving) -> bool:
    """Whether commands are to be typed, rather than read."""
    return not given.texts and given.file is None and sys.stdin.isatty()
