"""`scardface reader`: what one reader says of itself.

Rules:

- The reader is opened by itself (DIRECT), so that it needs no card, and a card in it stays as it is.
- Each thing is asked for by itself: what the reader does not have is left out, and only a reader that is gone is an error.
- Names and texts of readers are data, and printed escaped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import click
from rich.table import Table

from .. import Attribute, CardCommunicationError, CardRemovedError, Feature, SCardError, ServiceUnavailableError, serial
from ..iso7816._readable import digits
from ..sync import SCard, ShareMode
from ._failures import OK
from ._open import resolve_reader, wait_notice
from ._options import READER, WAIT_FOR_READER, common, serial_option
from ._options import timeout as option_timeout
from ._output import as_text, console, print_json, print_table


@click.command(short_help="Show what a reader says of itself.")
@click.option("--reader", metavar="R", help=READER)
@serial_option
@click.option("--wait-for-reader", is_flag=True, help=WAIT_FOR_READER)
@option_timeout("Seconds to wait for the reader; for ever without it.")
@common
def reader(reader: str | None, serial_number: str | None, wait_for_reader: bool, timeout: float | None, as_json: bool) -> int:
    """Show what a reader says of itself: maker, serial number, features, properties, attributes.

    No card is needed, and one that is in stays as it is.
    """
    if reader is not None and serial_number is not None:
        raise click.UsageError("--reader and --serial: one of the two names the reader")
    with wait_notice("waiting for the reader; Ctrl-C ends it"):
        if serial_number is not None:
            which: Any = serial(serial_number)
        else:
            which, timeout = resolve_reader(reader, timeout, wait=wait_for_reader)
        card = SCard(which, timeout=timeout, share=ShareMode.DIRECT, wait_for_reader=wait_for_reader)
    with card:
        found = list(sayings(card))
    if as_json:
        print_json(
            reader=card.reader, **{name: value.hex().upper() if isinstance(value, bytes) else value for name, value in found}
        )
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_row(as_text("reader", "cyan"), as_text(card.reader))
        for name, value in found:
            table.add_row(as_text(name, "cyan"), as_text(_shown(value)))
        print_table(console(), table)
    return OK


def sayings(card: SCard) -> Iterator[tuple[str, Any]]:
    """What the reader says, with a name for each: texts, numbers, bytes, lists of names."""
    features = _asked(card.features)
    if features is not None:
        yield "features", [_feature(number) for number in features]
    properties = _asked(card.properties) if features else None
    if properties is not None:
        for field in dataclasses.fields(properties):
            value = getattr(properties, field.name)
            if value is not None and field.name != "other":
                yield field.name, value.name or int(value) if hasattr(value, "name") else value
    for attribute in Attribute:
        value = _asked(partial(card.attribute, attribute))
        if value not in (None, "", b""):
            yield attribute.name.lower(), value


def _asked(ask: Any) -> Any:
    """The answer; None if the reader has none.

    Raises:
        CardRemovedError, ServiceUnavailableError: it is gone.
    """
    try:
        return ask()
    except (CardRemovedError, ServiceUnavailableError):
        raise
    except (SCardError, CardCommunicationError):
        return None


def _feature(number: int) -> str:
    try:
        return Feature(number).name
    except ValueError:
        return f"0x{number:02X}"


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return digits(value)
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return str(value)
