"""A bench for SIMs: the number of each card in each reader, as many at a time as there are readers: `python sim_bench.py`.

USIMs are asked in class 00 (ETSI TS 102 221), older SIMs in class A0 (3GPP TS 51.011), whose "more data" is 9Fxx instead of 61xx.
"""

from collections.abc import Callable

import anyio

from scardface import C_APDU, SCard, SCardError, StatusError, iso7816, readers
from scardface.iso7816 import FileControl

ICCID = 0x2FE2


def swapped(digits: bytes) -> str:
    """Digits as SIMs store them: the low half of each byte first, F as padding."""
    return "".join(f"{byte & 15:X}{byte >> 4:X}" for byte in digits).rstrip("F")


async def iccid(card: SCard) -> str:
    """The card's number, by whichever class it answers to."""
    selected = await card.send(iso7816.select_file(ICCID, p2=0x04))
    if selected.is_successful():
        size = FileControl.from_bytes(selected.data).size or 10
        return swapped((await card.send(iso7816.read_binary(0, size))).check().data)
    (await card.send(C_APDU(0xA0, 0xA4, 0x00, 0x00, ICCID.to_bytes(2, "big")), success=["9000", "9Fxx"])).check()
    return swapped((await card.send(iso7816.read_binary(0, 10, cla=0xA0))).check().data)


async def station(reader: str, report: Callable[[str, str], object]) -> None:
    """One reader, card after card, for ever."""
    while True:
        try:
            async with SCard(reader, wait_for_reader=True) as card:
                try:
                    report(reader, await iccid(card))
                except (SCardError, StatusError, ValueError) as error:
                    report(reader, str(error))
                await card.wait()
        except SCardError as error:
            report(reader, str(error))
            await anyio.sleep(1)


async def bench(report: Callable[[str, str], object] = print) -> None:
    async with anyio.create_task_group() as tasks:
        for reader in await readers():
            tasks.start_soon(station, reader, report)


if __name__ == "__main__":
    anyio.run(bench)
