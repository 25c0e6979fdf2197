"""Everything that happens at the readers, one line for each event: `python watch.py`. Ctrl-C ends it."""

from collections.abc import Callable

import anyio

from scardface import (
    CardInserted,
    CardRemoved,
    Event,
    EventsLost,
    ReaderAdded,
    ReaderMonitor,
    ReaderRemoved,
    ServiceDown,
    ServiceUp,
)


def words(event: Event) -> str:
    match event:
        case CardInserted(reader=reader, atr=atr):
            text = f"{reader}: card {atr.hex(' ') or 'that does not answer'}"
        case CardRemoved(reader=reader):
            text = f"{reader}: empty"
        case ReaderAdded(reader=reader):
            text = f"{reader}: plugged in"
        case ReaderRemoved(reader=reader):
            text = f"{reader}: unplugged"
        case ServiceDown(error=error):
            text = f"the PC/SC service went: {error}"
        case ServiceUp():
            text = "the PC/SC service is back"
        case EventsLost(count=count):
            text = f"{count} events were too many; the present state follows"
    return f"{text} (at the start)" if event.initial else text


async def watch(tell: Callable[[str], object] = print) -> None:
    async with ReaderMonitor() as monitor:
        async for event in monitor:
            tell(words(event))


if __name__ == "__main__":
    try:
        anyio.run(watch)
    except KeyboardInterrupt:
        print("done")
