"""`scardface shell`: commands to a card, entered one by one.

Rules:

- A line has the same meaning as in `send`; the shell has few commands of its own, listed by `help`.
- An error in one line is printed, and the next line can be entered; the shell ends if the card is removed or the service ends.
- On a terminal there are history and completion; else lines are read as they arrive, without a prompt.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import click

from .. import C_APDU, R_APDU, CardRemovedError, SCardError, ServiceUnavailableError, StatusError
from ..iso7816 import explain_atr
from ..iso7816._readable import digits
from ..sync import SCard
from . import _pin
from ._apdu_text import ApduTextError, parse
from ._exchanges import print_exchange
from ._failures import OK, print_error
from ._interrupt import exit_on_interrupt, exit_soon_after_interrupt
from ._open import open_card
from ._options import CardChoice, OutputOptions, card_choice, output_options
from ._output import console, print_json, print_line
from ._send import Sender
from ._texts import lines_of

HELP = """\
APDU          as in 'send': 00A40000023F00, or '00A40000 3F00 Ne=256'; PIN in its data is asked for
NAME P1 P2    a command by its name, and its data: select 04 00 A000000308; Tab completes names
reset [cold]  reset the card, warm or cold
channel       open a logical channel and use it; 'channel 0' uses the basic one, 'channel close' closes the one in use
atr           the card's ATR, explained
help          this
quit          leave, as Ctrl-D does"""
SHELL_COMMANDS = ("atr", "channel", "help", "quit", "reset")


@click.command(short_help="Enter commands to a card and see its responses.")
@card_choice
@output_options
def shell(choice: CardChoice, output: OutputOptions) -> int:
    """Enter commands to a card and see its responses; 'help' tells what can be typed.

    Lines are kept in a history file, except those that may carry a PIN or a key. If standard input is no terminal, lines are read
    from it.
    """
    with open_card(choice) as card:
        return run_shell(card, card, output)


def run_shell(sender: Sender, card: SCard, output: OutputOptions) -> int:
    """Read lines and carry them out, until there are no more.

    Args:
        sender: sends the commands: the card, or a recorder that wraps it.
        card: the card itself.
        output: how exchanges are shown.
    """
    if sys.stdin.isatty() and not output.json:
        print_line(console(), f"{card.reader}, {card.protocol.name}, ATR {digits(card.atr)}; 'help' tells what can be typed")
    with exit_soon_after_interrupt(), Shell(sender, card, output) as open_shell:
        for line in _typed(open_shell.prompt):
            with exit_on_interrupt():
                goes_on = open_shell.run_line(line)
            if not goes_on:
                break
    return OK


def _typed(prompt: Callable[[], str]) -> Iterator[str]:
    """The lines entered, one by one."""
    if not sys.stdin.isatty():
        for line in lines_of(sys.stdin):
            if text := line.split("#", 1)[0].strip():
                yield text
        return
    from ._history import prompting

    session = prompting(SHELL_COMMANDS)
    while True:
        try:
            line = session.prompt(prompt())
        except EOFError:
            return
        if line.strip():
            yield line.strip()


class Shell:
    """The shell for one card."""

    def __init__(self, sender: Sender, card: SCard, output: OutputOptions) -> None:
        self._basic = sender
        self._card = card
        self._output = output
        self._screen = console()
        self._channels: dict[int, tuple[Callable[[C_APDU], R_APDU], ExitStack]] = {}
        self._current = 0

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *error: object) -> None:
        self._leave_channels()

    def _leave_channels(self) -> None:
        """Close all channels; those that cannot be closed end with the card's session anyway."""
        self._current = 0
        while self._channels:
            _, (_, stack) = self._channels.popitem()
            with contextlib.suppress(SCardError, StatusError):
                stack.close()

    def prompt(self) -> str:
        """The prompt."""
        return f"{self._current or ''}> "

    def run_line(self, line: str) -> bool:
        """Carry out one line; returns False if it was `quit`.

        Raises:
            CardRemovedError, ServiceUnavailableError: it cannot go on.
        """
        word, *rest = line.split()
        try:
            if word == "quit":
                return False
            if word == "help":
                self._help()
            elif word == "reset":
                self._reset(rest)
            elif word == "channel":
                self._channel(rest)
            elif word == "atr":
                self._atr()
            else:
                self._send(line)
        except (CardRemovedError, ServiceUnavailableError):
            raise
        except click.UsageError as error:
            print_error(error.format_message())
        except (SCardError, StatusError, ValueError) as error:
            print_error(str(error))
        return True

    def _help(self) -> None:
        for row in HELP.splitlines():
            if self._output.json:
                print_json(help=row)
            else:
                print_line(self._screen, row)

    def _send(self, line: str) -> None:
        try:
            command = parse(line, _pin.ask, own=SHELL_COMMANDS)
        except ApduTextError as error:
            print_error(str(error))
            return
        finally:
            _pin.forget()
        sends = self._channels[self._current][0] if self._current else self._basic.send
        response = sends(command)
        print_exchange(self._output, self._screen, self._card.reader, command, response)

    def _reset(self, rest: list[str]) -> None:
        if rest not in ([], ["cold"]):
            raise click.UsageError("it is 'reset' or 'reset cold'")
        self._leave_channels()
        self._card.reset(cold=bool(rest))
        self._report(f"the card was reset; its ATR is {digits(self._card.atr)}", reset=True, atr=self._card.atr.hex().upper())

    def _channel(self, rest: list[str]) -> None:
        if self._basic is not self._card:
            raise click.UsageError("what is recorded goes through the basic channel")
        if not rest:
            self._open_channel()
        elif rest == ["close"]:
            self._close_channel()
        elif len(rest) == 1 and rest[0].isdecimal() and (int(rest[0]) in self._channels or int(rest[0]) == 0):
            self._current = int(rest[0])
        else:
            opened = ", ".join(str(number) for number in (0, *self._channels))
            raise click.UsageError(f"it is 'channel', 'channel close', or 'channel' and the number of an open one: {opened}")
        self._report(f"channel {self._current} is in use", channel=self._current)

    def _open_channel(self) -> None:
        with ExitStack() as stack:
            channel = stack.enter_context(self._card.channel())
            self._channels[channel.number] = (channel.send, stack.pop_all())
        self._current = channel.number

    def _close_channel(self) -> None:
        _, stack = self._channels.pop(self._current, (None, None))
        self._current = 0
        if stack is None:
            raise click.UsageError("the basic channel is always open")
        stack.close()

    def _atr(self) -> None:
        for row in explain_atr(self._card.atr):
            if self._output.json:
                print_json(name=row.name, bytes=row.octets.hex().upper(), meaning=row.meaning)
            else:
                print_line(self._screen, f"{row.name:10}  {digits(row.octets)}  {row.meaning}")

    def _report(self, text: str, **fields: object) -> None:
        if self._output.json:
            print_json(**fields)
        else:
            print_line(self._screen, text)
