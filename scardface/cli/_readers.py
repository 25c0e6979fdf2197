"""`scardface readers`: the readers, the cards in them, and whether a program uses them.

Rules:

- No card is opened.
- PC/SC says whether a card is in use, and whether exclusively, but not by which program. So if one is in use, all programs that
  have PC/SC open are listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click
from rich.table import Table

from .. import ReaderState
from ..backend import why_left_out
from ..sync import other_programs, states
from ._failures import OK, print_error
from ._names import names_of
from ._options import common
from ._output import as_text, console, print_json, print_line, print_table
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
            print_json(number=number, reader=name, **fields(found.get(name), programs))
    elif names:
        print_table(console(), table_of(found, names))
        if programs:
            print_line(console(), f"programs with PC/SC open: {', '.join(programs)}")
    else:
        print_error("there is no reader; plug one in, and if that does not help, 'scardface doctor' finds out why")
    for name in names:
        if not is_usable(name):
            print_error(f"the reader {name!r} cannot be used: {why_left_out(name)}")
    return OK


def fields(state: ReaderState | None, programs: tuple[str, ...]) -> dict[str, object]:
    """A reader as JSON; None: one that cannot be queried."""
    return {
        "card": card_of(state),
        "atr": state.atr.hex().upper() if state else "",
        "names": names_of(state.atr) if state else (),
        "use": use_of(state),
        "programs": programs if state is not None and state.in_use else (),
    }


def table_of(found: Mapping[str, ReaderState], numbered: Sequence[str] | None = None) -> Table:
    """The readers as a table.

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
        table.add_row(*first, as_text(name), as_text(cells[0]), use_of(state))
        for more in cells[1:]:
            table.add_row(*([] if numbered is None else [""]), "", as_text(more, "dim"), "")
    return table


def card_of(state: ReaderState | None) -> str:
    """What is in a reader, as one word."""
    if state is None:
        return "unreachable"
    if not state.present:
        return "none"
    if state.mute:
        return "mute"
    return "present" if state.atr else "unpowered"


def use_of(state: ReaderState | None) -> str:
    """Whether a program uses the card, as one word."""
    if state is None:
        return "unknown"
    if state.exclusive:
        return "exclusive"
    return "shared" if state.in_use else "free"
