"""`scardface replay`: commands answered from a cassette instead of a card.

Rules:

- The card is a `ReplayCard` in a simulated reader: the machine's PC/SC is not used.
- A command that was not recorded is an error, which names the nearest that were.
"""

from __future__ import annotations

from pathlib import Path

import click

from ..replay import ReplayCard
from ._open import open_card
from ._options import CardChoice, CommandSource, OutputOptions, command_source, output_options, success_words
from ._record import is_interactive
from ._send import read_commands, send_all
from ._shell import run_shell
from ._virtual import virtual_pcsc

ANY = CardChoice(None, None, 5.0, shared=False)


@click.command()
@click.argument("cassette", metavar="CASSETTE", type=click.Path(path_type=Path, dir_okay=False))
@command_source
@success_words
@output_options
def replay(cassette: Path, source: CommandSource, success: tuple[str, ...] | None, output: OutputOptions) -> int:
    """Send commands to a card that answers from a cassette.

    Commands are given as to 'send'; without any, on a terminal, there is a shell. A cassette of 'record' is taken, and a dump of
    apdu4j. Data that were hidden match any, so any PIN will do.
    """
    typed = is_interactive(source)
    commands = [] if typed else read_commands(source)
    with virtual_pcsc(ReplayCard(cassette)), open_card(ANY._replace(success=success)) as card:
        return run_shell(card, card, output) if typed else send_all(card, commands, source.keep_going, output)
