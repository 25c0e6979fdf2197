"""A kiosk: serves one card after the other in each of its readers, whatever happens to the cards, the readers and the service.

`python kiosk.py`, or with the names of its readers.
"""

import sys

import anyio

from scardface import C_APDU, SCard, SCardError, StatusError
from scardface.sync import readers

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


async def kiosk(names: tuple[str, ...]) -> None:
    async with anyio.create_task_group() as tasks:
        for reader in names:
            tasks.start_soon(serve, reader)


if __name__ == "__main__":
    anyio.run(kiosk, tuple(sys.argv[1:]) or readers())
