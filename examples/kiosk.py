"""A kiosk: serves cards in all readers at once, whatever happens to the cards, the readers and the service: `python kiosk.py`.

With names, `python kiosk.py "Reader A" "Reader B"`, it serves these readers alone. What is not there yet is waited for.
"""

import sys
from collections.abc import Collection
from contextlib import suppress

import anyio

from scardface import C_APDU, ReaderAdded, ReaderMonitor, SCard, SCardError, ServiceDown, ServiceUp, StatusError

SELECT = C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xf0SCARDFACE", 256)


async def serve(reader: str) -> None:
    while True:
        try:
            async with SCard(reader, wait_for_reader=True) as card:
                try:
                    (await card.send(SELECT)).check()
                    print(reader, "welcome")
                except (SCardError, StatusError) as error:
                    print(reader, error)
                await card.wait()  # until it is taken out, so that the same one is not served again
        except SCardError as error:  # the service was restarted, for instance
            print(reader, error)
            await anyio.sleep(1)


async def kiosk(names: Collection[str] = ()) -> None:
    """Serve the readers of these names, or all that there are and that are plugged in later."""
    served = set()
    async with anyio.create_task_group() as tasks, ReaderMonitor() as monitor:
        async for event in monitor:
            if isinstance(event, ServiceDown | ServiceUp):
                print(event)
            elif isinstance(event, ReaderAdded) and event.reader not in served and (not names or event.reader in names):
                served.add(event.reader)  # it keeps its task when it is unplugged, and is served when it is back
                tasks.start_soon(serve, event.reader)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        anyio.run(kiosk, sys.argv[1:])
