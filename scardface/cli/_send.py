"""`scardface send`: commands to a card, and what it says.

Rules:

- All commands are read, and a PIN is asked for, before a card is waited for: what is mistyped further down costs nothing.
- The first status other than 9000 ends it, unless told otherwise; the exit status is that of the last command.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from .. import C_APDU, R_APDU
from ..replay import Recorder, may_carry_secret
from ..sync import SCard
from . import _pin
from ._apdu_text import ApduTextError, lines, named, needs_pin, parse, pieces
from ._exchanges import tell
from ._failures import OK, REFUSED
from ._interrupt import heard
from ._open import in_one_go, open_card, traced
from ._options import Giving, Telling, Wish, giving, telling, wishes
from ._output import console
from ._texts import lines_of, text_of

LONG = 20
"""Commands from which on there is a progress bar."""


Sender: TypeAlias = SCard | Recorder[SCard]
"""An open card, or what takes down what is said to it."""


@click.command()
@giving
@wishes
@click.option("--trace", is_flag=True, help="Show what the library logs, on standard error.")
@telling
def send(given: Giving, wish: Wish, trace: bool, telling: Telling) -> int:
    """Send commands to a card.

    An APDU is hexadecimal digits: 00A40000023F00, in any encoding. Or its header, and apart from it data and the number of bytes
    expected: '00A40000 3F00 Ne=256'. Or a name, P1, P2, data: 'select 04 00 A000000308'. The word PIN stands for a PIN that
    --pin-prompt asks for: '00200001 PIN', or PIN:8 to fill it up with FF to 8 bytes. Without any, they are
    read from standard input.
    """
    commands = read_commands(given)
    with traced(trace), open_card(wish) as card, in_one_go(card, wish):
        return send_all(card, commands, given.keep_going, telling)


def read_commands(given: Giving) -> list[C_APDU]:
    """The commands that were given, on the command line, in a file, or on standard input.

    Raises:
        UsageError: one of them is none, or there are none.
        OSError: the file cannot be read.
    """
    commands = _typed(given)
    file = given.file
    if file is None and not given.texts and not sys.stdin.isatty():
        file = "-"
    if file is not None:
        content = "".join(lines_of(sys.stdin)) if file == "-" else text_of(Path(file).read_bytes())
        commands += [_parsed(text, given, f"line {number}") for number, text in lines(content)]
    if not commands:
        raise click.UsageError("there is no command to send")
    return commands


def _typed(given: Giving) -> list[C_APDU]:
    """The commands of the command line. A piece that is none is named, unless it may be the PIN of a command before it."""
    try:
        texts = pieces(given.texts)
    except ApduTextError as error:
        raise click.UsageError(str(error)) from None
    commands: list[C_APDU] = []
    for number, text in enumerate(texts, 1):
        may_be_pin = any(map(may_carry_secret, commands))
        commands.append(_parsed(text, given, f"APDU {number}" if may_be_pin else f"APDU {number}, {named(text)}"))
        if not needs_pin(text):
            _pin.warn_of(commands[-1])
    return commands


def _parsed(text: str, given: Giving, where: str) -> C_APDU:
    try:
        return parse(text, _pin.ask if given.pin_prompt else None)
    except ApduTextError as error:
        raise click.UsageError(f"{where}: {error}") from None


def send_all(card: Sender, commands: list[C_APDU], keep_going: bool, telling: Telling) -> int:
    """Send commands and show what comes back; the exit status.

    Raises:
        UsageError: a command cannot be sent to this card.
    """
    response: R_APDU | None = None
    with heard(), _progress(len(commands), telling) as (screen, step):
        for command in commands:
            try:
                response = card.send(command)
            except ValueError as error:
                raise click.UsageError(str(error)) from None
            tell(telling, screen, card.reader, command, response)
            step()
            if not response.is_successful() and not keep_going:
                break
    return OK if response is not None and response.is_successful() else REFUSED


@contextmanager
def _progress(count: int, telling: Telling) -> Iterator[tuple[Console, Callable[[], None]]]:
    """Where exchanges are to be shown, and what to call after each: a bar moves then, for long scripts on a terminal."""
    screen = console()
    bar = screen if screen.is_terminal else console(stderr=True)
    if count < LONG or not bar.is_terminal:
        yield screen, _nothing
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=bar, transient=True) as progress:
        task = progress.add_task("sending", total=count)
        yield screen, lambda: progress.advance(task)


def _nothing() -> None:
    """No bar to move."""
