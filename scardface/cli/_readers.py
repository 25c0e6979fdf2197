"""`scardface readers`: which readers there are, what is in them, and whether somebody has it.

Rules:

- It only looks: no card is opened for it.
- Who has a card PC/SC does not tell; that somebody has, and whether for himself alone, it does. So the programs are named that have
  PC/SC open, where somebody has a card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click
from rich.table import Table

from .. import ReaderState
from ..backend import why_left_out
from ..sync import other_programs, states
from ._failures import OK, say
from ._names import names_of
from ._options import common
from ._output import console, emit, put, show, words
from ._which_reader import PATIENCE, is_usable, listed


@click.command()
@common
def readers(as_json: bool) -> int:
    """List the readers and the cards in them.

    What a card is comes from pcsc-tools' smartcard_list.txt, where the system or the user has it.
    """
    names = listed()
    found = states(timeout=PATIENCE)
    for name in found:  # plugged in between the two looks
        names += () if name in names else (name,)
    programs = other_programs() if any(state.in_use for state in found.values()) else ()
    if as_json:
        for number, name in enumerate(names):
            emit(number=number, reader=name, **fields(found.get(name), programs))
    elif names:
        show(console(), table_of(found, names))
        if programs:
            put(console(), f"programs with PC/SC open: {', '.join(programs)}")
    else:
        say("there is no reader; plug one in, and if that does not help, 'scardface doctor' finds out why")
    for name in names:
        if not is_usable(name):
            say(f"the reader {name!r} cannot be used: {why_left_out(name)}")
    return OK


def fields(state: ReaderState | None, programs: tuple[str, ...]) -> dict[str, object]:
    """What JSON says of a reader; None: of one that cannot be asked."""
    return {
        "card": card_of(state),
        "atr": state.atr.hex().upper() if state else "",
        "names": names_of(state.atr) if state else (),
        "use": use_of(state),
        "programs": programs if state is not None and state.in_use else (),
    }


def table_of(found: Mapping[str, ReaderState], numbered: Sequence[str] | None = None) -> Table:
    """Readers as people want to see them.

    Args:
        found: what is known of them.
        numbered: all readers, whose places are their numbers; None: no numbers are shown.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    if numbered is not None:
        table.add_column("#", justify="right")
    for title in ("reader", "card", "in use"):
        table.add_column(title, overflow="fold")
    for number, name in enumerate(found if numbered is None else numbered):
        state = found.get(name)
        cells = [str(state.atr), *names_of(state.atr)[:2]] if state and state.atr else [card_of(state)]
        first = [] if numbered is None else [str(number)]
        table.add_row(*first, words(name), words(cells[0]), use_of(state))
        for more in cells[1:]:
            table.add_row(*([] if numbered is None else [""]), "", words(more, "dim"), "")
    return table


def card_of(state: ReaderState | None) -> str:
    """What is in a reader, in a word."""
    if state is None:
        return "unreachable"
    if not state.present:
        return "none"
    if state.mute:
        return "mute"
    return "present" if state.atr else "unpowered"


def use_of(state: ReaderState | None) -> str:
    """Whether somebody has the card, in a word."""
    if state is None:
        return "unknown"
    if state.exclusive:
        return "exclusive"
    return "shared" if state.in_use else "free"
