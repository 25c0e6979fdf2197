"""`scardface readers`: which readers there are, what is in them, and whether somebody has it.

Rules of this room:

- It only looks: no card is opened for it.
- Who has a card PC/SC does not tell; that somebody has, and whether for himself alone, it does. So the programs are named that have
  PC/SC open, where somebody has a card.
"""

from __future__ import annotations

from collections.abc import Mapping

import click
from rich.table import Table

from scardface import ReaderState
from scardface.sync import other_programs, states

from ._failures import OK, say
from ._names import names_of
from ._options import common
from ._output import console, emit, put, show, words


@click.command()
@common
def readers(as_json: bool) -> int:
    """List the readers and the cards in them.

    What a card is comes from pcsc-tools' smartcard_list.txt, where the system or the user has it.
    """
    found = states()
    programs = other_programs() if any(state.in_use for state in found.values()) else ()
    if as_json:
        for number, (name, state) in enumerate(found.items()):
            names = names_of(state.atr)
            emit(
                number=number,
                reader=name,
                card=card_of(state),
                atr=state.atr.hex().upper(),
                names=names,
                use=use_of(state),
                programs=programs if state.in_use else (),
            )
    elif found:
        show(console(), table_of(found))
        if programs:
            put(console(), f"programs with PC/SC open: {', '.join(programs)}")
    else:
        say("there is no reader; plug one in, and if that does not help, 'scardface doctor' finds out why")
    return OK


def table_of(found: Mapping[str, ReaderState]) -> Table:
    """Readers as people want to see them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right")
    for title in ("reader", "card", "in use"):
        table.add_column(title, overflow="fold")
    for number, (name, state) in enumerate(found.items()):
        cells = [str(state.atr), *names_of(state.atr)[:2]] if state.atr else [card_of(state)]
        table.add_row(str(number), words(name), words(cells[0]), use_of(state))
        for more in cells[1:]:
            table.add_row("", "", words(more, "dim"), "")
    return table


def card_of(state: ReaderState) -> str:
    """What is in a reader, in a word."""
    if not state.present:
        return "none"
    if state.mute:
        return "mute"
    return "present" if state.atr else "unpowered"


def use_of(state: ReaderState) -> str:
    """Whether somebody has the card, in a word."""
    if state.exclusive:
        return "exclusive"
    return "shared" if state.in_use else "free"
