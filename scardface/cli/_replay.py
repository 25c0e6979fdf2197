"""`scardface replay`: a cassette in the place of a card.

Rules:

- The card is a `ReplayCard` in a simulated reader: nothing of the machine's PC/SC is touched.
- A command that was not recorded is an error, which names the nearest that were.
"""

from __future__ import annotations

from pathlib import Path

import click

from ..replay import ReplayCard
from ._open import open_card
from ._options import Giving, Telling, Wish, giving, telling
from ._record import is_conversation
from ._send import read_commands, send_all
from ._shell import converse
from ._virtual import virtual_pcsc

ANY = Wish(None, None, 5.0, shared=False)


@click.command()
@click.argument("cassette", metavar="CASSETTE", type=click.Path(path_type=Path, dir_okay=False))
@giving
@telling
def replay(cassette: Path, given: Giving, telling: Telling) -> int:
    """Send commands to a card that answers from a cassette.

    Commands are given as to 'send'; without any, on a terminal, there is a shell. A cassette of 'record' is taken, and a dump of
    apdu4j. Data that were hidden match any, so any PIN will do.
    """
    typed = is_conversation(given)
    commands = [] if typed else read_commands(given)
    with virtual_pcsc(ReplayCard(cassette)), open_card(ANY) as card:
        return converse(card, card, telling) if typed else send_all(card, commands, given.keep_going, telling)
