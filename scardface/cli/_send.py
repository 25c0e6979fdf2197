"""`scardface send`: commands to a card, and its responses.

Rules:

- All commands are read and checked, and a PIN is asked for, before the wait for a card: a mistake in a later command costs nothing.
- The first status that is no success ends the command, unless `--keep-going` is given; the exit status is that of the last command.
  What a success is, `--success` says; without it 9000 alone.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from .. import C_APDU, R_APDU
from ..iso7816._instructions import INSTRUCTION_BY_NAME
from ..replay import Recorder, carries_secret, may_carry_secret
from ..replay._lines import MalformedLineError
from ..replay._logs import is_log, parse_log
from ..sync import SCard
from . import _pin
from ._apdu_text import ApduTextError, lines, named, needs_pin, parse, pieces
from ._exchanges import print_exchange
from ._failures import OK, REFUSED
from ._interrupt import exit_on_interrupt
from ._open import open_card, uninterrupted
from ._options import CardChoice, CommandSource, OutputOptions, card_choice, command_source, output_options
from ._output import console
from ._texts import lines_of, text_of

LONG = 20
"""The number of commands from which on a progress bar is shown."""


Sender: TypeAlias = SCard | Recorder[SCard]
"""An open card, or a recorder that wraps one."""


@click.command()
@command_source
@card_choice
@output_options
def send(source: CommandSource, choice: CardChoice, output: OutputOptions) -> int:
    """Send commands to a card.

    An APDU is hexadecimal digits: 00A40000023F00, in any encoding. Or its header, and apart from it data and the number of bytes
    expected, in quotes: '00A40000 3F00 Ne=256'. Or a name, P1, P2, data: 'select 04 00 A000000308'. The word PIN stands for a PIN
    that --pin-prompt asks for: '00200001 PIN', or PIN:8 to fill it up with FF to 8 bytes. Without any APDU, they are read from
    standard input.
    """
    commands = read_commands(source)
    with open_card(choice) as card, uninterrupted(card, choice):
        return send_all(card, commands, source.keep_going, output)


NAMES = textwrap.fill(", ".join(sorted(INSTRUCTION_BY_NAME)), 76, break_on_hyphens=False, break_long_words=False)
"""The names of commands, in lines."""
send.help = f"{inspect.cleandoc(send.help or '')}\n\n\b\nNames:\n{NAMES}"


def read_commands(source: CommandSource) -> list[C_APDU]:
    """The commands from the command line, a file, or standard input.

    Raises:
        UsageError: one of them is not a command, or there are none.
        OSError: the file cannot be read.
    """
    commands = _typed(source)
    file = source.file
    if file is None and not source.texts and not sys.stdin.isatty():
        file = "-"
    if file is not None:
        content = "".join(lines_of(sys.stdin)) if file == "-" else text_of(Path(file).read_bytes())
        commands += _logged(content) or _parsed(lines(content), source, commands)
    if not commands:
        raise click.UsageError("there is no command to send")
    return commands


def _logged(content: str) -> list[C_APDU]:
    """The commands in a log or a trace; none if it is neither.

    Raises:
        UsageError: the data of one of them were left out, or a line is damaged.
    """
    numbered = list(enumerate(content.splitlines(), 1))
    if not is_log(numbered):
        return []
    try:
        _, _, exchanges = parse_log(numbered)
    except MalformedLineError as damage:
        raise click.UsageError(f"line {damage.line}: {damage}") from None
    hidden = [each.line for each in exchanges if each.hides_data]
    if hidden:
        raise click.UsageError(f"line {hidden[0]}: what may be secret was left out of this trace, so the command cannot be sent")
    return [each.apdu for each in exchanges]


def _typed(source: CommandSource) -> list[C_APDU]:
    """The commands of the command line."""
    try:
        texts = pieces(source.texts)
    except ApduTextError as error:
        raise click.UsageError(str(error)) from None
    return _parsed(enumerate(texts, 1), source, None)


def _parsed(texts: Iterable[tuple[int, str]], source: CommandSource, earlier: list[C_APDU] | None) -> list[C_APDU]:
    """The commands that texts are. An error names the text that is not a command, unless it may be the PIN of an earlier one.

    Args:
        texts: the texts, with their numbers.
        source: where they come from.
        earlier: the commands before the lines of a script; None: the texts are words of the command line.

    Raises:
        UsageError: one of them is not a command.
    """
    commands: list[C_APDU] = []
    before: C_APDU | None = None
    may_be_pin = any(map(may_carry_secret, earlier or ()))
    for number, text in texts:
        try:
            command = parse(text, _pin.ask if source.pin_prompt else None, may_be_pin=may_be_pin)
        except ApduTextError as error:
            if earlier is not None:
                raise click.UsageError(f"line {number}: {error}") from None
            where = f"APDU {number}" if may_be_pin else f"APDU {number}, {named(text)}"
            raise click.UsageError(f"{where}: {error}{_if_data_of(before, text)}") from None
        if earlier is None and not needs_pin(text):
            _pin.warn_of(command)
        commands.append(command)
        before, may_be_pin = command, may_be_pin or may_carry_secret(command)
    return commands


def _if_data_of(before: C_APDU | None, text: str) -> str:
    """What to write if a word that is no command is the data of the header before it; nothing if it cannot be."""
    if before is None or before.data or before.le or " " in text:
        return ""
    if carries_secret(before):
        return "; if it is the PIN of the command before it, write the word PIN, and quote header and PIN together: '00200001 PIN'"
    return "; if it is the data of the command before it, quote header and data together: '00A40400 A000000308'"


def send_all(card: Sender, commands: list[C_APDU], keep_going: bool, output: OutputOptions) -> int:
    """Send commands and print the responses; the exit status.

    Raises:
        UsageError: a command cannot be sent to this card.
    """
    response: R_APDU | None = None
    with exit_on_interrupt(), _progress(len(commands), output) as (screen, step):
        for command in commands:
            try:
                response = card.send(command)
            except ValueError as error:
                raise click.UsageError(str(error)) from None
            print_exchange(output, screen, card.reader, command, response)
            step()
            if not response.is_successful() and not keep_going:
                break
    return OK if response is not None and response.is_successful() else REFUSED


@contextmanager
def _progress(count: int, output: OutputOptions) -> Iterator[tuple[Console, Callable[[], None]]]:
    """A console for the exchanges, and a function to call after each, which moves a progress bar for long scripts on a terminal."""
    screen = console()
    bar = screen if screen.is_terminal else console(stderr=True)
    if count < LONG or not bar.is_terminal:
        yield screen, _nothing
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=bar, transient=True) as progress:
        task = progress.add_task("sending", total=count)
        yield screen, lambda: progress.advance(task)


def _nothing() -> None:
    """No progress bar."""
