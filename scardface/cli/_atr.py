"""`scardface atr`: an ATR explained byte by byte, and which card it may be from.

Rules:

- If an ATR is given, PC/SC is not used. Else it is that of the inserted card, or of the next one, which is not opened: so it works
  for a card that another program holds, too.
"""

from __future__ import annotations

import re

import click
from rich.table import Table

from .. import ATR, CardInserted, CardTimeoutError, NoCardError, ServiceDown, ServiceUnavailableError
from ..iso7816 import explain_atr
from ..iso7816._readable import digits
from ._failures import E_TIMEOUT, OK
from ._interrupt import run_loop
from ._names import list_file, names_of
from ._open import resolve_reader, wait_notice, watching
from ._options import READER, WAIT_FOR_READER, common
from ._options import timeout as option_timeout
from ._output import as_text, console, print_json, print_line, print_table

LONGEST = 255
"""Bytes taken for an ATR on the command line; a real one has 33 at most."""


@click.command(short_help="Explain an ATR: of a card, or given as hex digits.")
@click.argument("digits_", metavar="[HEX]...", nargs=-1)
@click.option("--reader", metavar="R", help=READER)
@click.option("--wait-for-reader", is_flag=True, help=WAIT_FOR_READER)
@option_timeout("Seconds to wait for a card; for ever without it.")
@common
def atr(digits_: tuple[str, ...], reader: str | None, wait_for_reader: bool, timeout: float | None, as_json: bool) -> int:
    """Explain an ATR: of the card that is in, of the next one, or the one given as hex digits."""
    if digits_:
        found = octets(" ".join(digits_))
        where = ""
    else:
        with wait_notice("waiting for a card; Ctrl-C ends it"):
            name, left = resolve_reader(reader, timeout, wait=wait_for_reader)
            where, found = run_loop(_next_card, name, left, wait_for_reader)
    if as_json:
        print_json(**fields(ATR(found), where))
    else:
        _print(found, where)
    return OK


def octets(text: str) -> bytes:
    """Parse hexadecimal digits.

    Raises:
        UsageError: not hexadecimal digits.
    """
    try:
        found = bytes.fromhex(re.sub(r"[\s:]|0x", "", text))
    except ValueError:
        raise click.UsageError("an ATR is pairs of hexadecimal digits") from None
    if len(found) > LONGEST:
        raise click.UsageError(f"an ATR has at most 33 bytes; {len(found)} are too many to explain")
    return found


async def _next_card(reader: str | None, timeout: float | None, patient: bool) -> tuple[str, bytes]:
    """Reader and ATR of the inserted card, or of the next one.

    Raises:
        ServiceUnavailableError: PC/SC went away; where `patient`, it may come back.
    """
    async with watching(reader, timeout) as monitor:
        async for event in monitor:
            if isinstance(event, ServiceDown) and not patient:
                raise event.error or ServiceUnavailableError("PC/SC went away")
            if isinstance(event, CardInserted):
                if not event.atr:
                    raise NoCardError(f"the card in {event.reader!r} does not answer; is it the right way round, and clean?")
                return event.reader, event.atr
    raise CardTimeoutError(f"no card within {timeout:g} s", E_TIMEOUT)


def fields(found: ATR, where: str) -> dict[str, object]:
    """An ATR as JSON has it."""
    rows = [{"name": row.name, "bytes": row.octets.hex().upper(), "meaning": row.meaning} for row in explain_atr(found)]
    return {
        "atr": found.hex().upper(),
        "reader": where or None,
        "well_formed": found.is_well_formed,
        "protocols": [protocol.name for protocol in type(found.protocols) if protocol and protocol in found.protocols],
        "tck_right": found.is_tck_right,
        "bytes": rows,
        "names": names_of(found),
    }


def _print(found: bytes, where: str) -> None:
    screen = console()
    print_line(screen, f"{digits(found)}{f'   in {where}' if where else ''}", "bold")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold", max_width=40)
    table.add_column(overflow="fold")
    for row in explain_atr(found):
        style = "red" if row.name in ("missing", "extra") else ""
        table.add_row(as_text(row.name, style or "cyan"), as_text(digits(row.octets)), as_text(row.meaning, style))
    print_table(screen, table)
    names = names_of(found)
    for name in names:
        print_line(screen, f"may be: {name}")
    if not names:
        known = (
            "not in the list of known cards" if list_file() else "no list of known cards here (smartcard_list.txt of pcsc-tools)"
        )
        print_line(screen, known, "dim")
