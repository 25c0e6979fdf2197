"""`scardface watch`: readers and cards as they come and go.

Rules:

- On a terminal a table that is updated, with the last events below it; else one event a line.
- A change of who uses a card is no event, so the table is redrawn four times a second.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Iterator

import click
from rich.console import Console, Group
from rich.live import Live

from .. import Event, ServiceUnavailableError
from ..iso7816._readable import digits
from ..sync import CardInserted, CardRemoved, EventsLost, ReaderAdded, ReaderMonitor, ReaderRemoved, ServiceDown, ServiceUp
from ._failures import E_TIMEOUT, OK
from ._names import names_of
from ._option_names import in_options
from ._options import READER, VIRTUAL, common
from ._output import as_text, console, print_json
from ._printable import printable
from ._readers import table_of
from ._virtual import card_comes_and_goes
from ._which_reader import listed, which

KEPT = 8
"""Events below the table."""


@click.command()
@click.option("--count", metavar="N", type=click.IntRange(min=1), help="End after so many events.")
@click.option("--reader", metavar="R", help=f"Only this reader. {READER} A whole name may be that of one that is not there yet.")
@common
@click.pass_context
def watch(context: click.Context, count: int | None, reader: str | None, as_json: bool) -> int:
    """Show readers and cards as they come and go; Ctrl-C ends it."""
    pcsc = context.meta.get(VIRTUAL)
    check_service_answers()
    name = None if reader is None else which_to_watch(reader)
    with card_comes_and_goes(pcsc) if pcsc is not None else contextlib.nullcontext(), ReaderMonitor(name) as monitor:
        screen = console()
        if as_json:
            for event in _some(monitor, count):
                print_json(time=round(time.time(), 3), **fields(event))
        elif screen.is_terminal:
            _show(monitor, count, screen)
        else:
            for event in _some(monitor, count):
                print(line(event), flush=True)
    return OK


def which_to_watch(text: str) -> str:
    """The reader that a text names; the text itself if there is none: it may be plugged in later.

    Raises:
        UsageError: several match.
        NoReaderError: it is a number that no reader has, or names a reader that cannot be used.
    """
    try:
        names = listed()
    except ServiceUnavailableError:
        names = ()
    return which(text, names) or text


def check_service_answers() -> None:
    """A service that is absent is waited for; one that is frozen would be waited for silently, so it is an error.

    Raises:
        ServiceUnavailableError: it does not answer.
    """
    try:
        listed()
    except ServiceUnavailableError as error:
        if error.code == E_TIMEOUT:
            raise


def _some(monitor: ReaderMonitor, count: int | None) -> Iterator[Event]:
    for number, event in enumerate(monitor, 1):
        yield event
        if number == count:
            return


def _show(monitor: ReaderMonitor, count: int | None, screen: Console) -> None:
    last: deque[str] = deque(maxlen=KEPT)

    def view() -> Group:
        return Group(table_of(monitor.state), *(as_text(each, "dim") for each in list(last)))

    with Live(get_renderable=view, console=screen, refresh_per_second=4) as live:
        for event in _some(monitor, count):
            last.append(line(event))
            live.refresh()


def line(event: Event) -> str:
    """An event as a line."""
    return f"{time.strftime('%H:%M:%S')} {printable(describe(event))}"


def describe(event: Event) -> str:
    """An event as text."""
    there = ", was there" if event.initial else ""
    if isinstance(event, CardInserted):
        name = next(iter(names_of(event.atr)), "")
        card = (f"ATR {digits(event.atr)}" if event.atr else "it does not answer") + (f" ({name})" if name else "")
        return f"card in   {event.reader}: {card}{there}"
    if isinstance(event, CardRemoved):
        return f"card out  {event.reader}"
    if isinstance(event, ReaderAdded):
        return f"reader +  {event.reader}{there}"
    if isinstance(event, ReaderRemoved):
        return f"reader -  {event.reader}"
    if isinstance(event, ServiceDown):
        return f"PC/SC is gone: {in_options(str(event.error))}" if event.error is not None else "PC/SC is gone"
    if isinstance(event, EventsLost):
        return f"{event.count} events were lost"
    return "PC/SC is back"


_KINDS = {
    CardInserted: "card-inserted",
    CardRemoved: "card-removed",
    ReaderAdded: "reader-added",
    ReaderRemoved: "reader-removed",
    ServiceDown: "service-down",
    ServiceUp: "service-up",
    EventsLost: "events-lost",
}


def fields(event: Event) -> dict[str, object]:
    """An event as JSON has it."""
    found: dict[str, object] = {"event": _KINDS[type(event)]}
    for field in dataclasses.fields(event):
        if field.name in ("reader", "initial", "count"):
            found[field.name] = getattr(event, field.name)
    if isinstance(event, CardInserted):
        found |= {"atr": event.atr.hex().upper(), "names": names_of(event.atr)}
    if isinstance(event, ServiceDown):
        found["error"] = None if event.error is None else in_options(str(event.error))
    return found
