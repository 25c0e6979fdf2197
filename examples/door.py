"""A door that opens for known tags, with the light and the buzzer of an ACR122U: `python door.py 04A1B2C3D4E5F6 ...`.

A UID is no proof of identity: anybody can make a card that has it. It is enough for a coffee machine, not for a safe.
"""

import sys
from collections.abc import Callable, Collection
from contextlib import suppress

import anyio

from scardface import C_APDU, SCard, SCardError, StatusError, cards

GREEN, RED, SHORT, TWICE = 0x0E, 0x0D, 1, 2


def signal(light: int, beeps: int) -> C_APDU:
    """FF 00 40: light and buzzer (ACR122U Application Programming Interface 2.04, 6.2): 0.2 s on, 0.1 s off, with the buzzer."""
    return C_APDU(0xFF, 0x00, 0x40, light, bytes((2, 1, beeps, 0x01)), 256)


async def serve(card: SCard, known: Collection[bytes], unlock: Callable[[bytes], object]) -> bool:
    """Whether the tag was let in."""
    uid = await card.uid()
    welcome = uid in known
    if welcome:
        unlock(uid)
    with suppress(SCardError):  # a reader without light and buzzer, or a tag that was fast: it has been let in all the same
        await card.send(signal(GREEN, SHORT) if welcome else signal(RED, TWICE), success=["90xx"])  # SW2 is the state of the light
    return welcome


async def door(known: Collection[bytes], unlock: Callable[[bytes], object]) -> None:
    async for card in cards(settle=0.05):  # a reader may report one tap as two
        with suppress(SCardError, StatusError):  # pulled away too soon, or a card without a UID
            print(card.reader, "in" if await serve(card, known, unlock) else "unknown")


if __name__ == "__main__":
    anyio.run(door, [bytes.fromhex(uid) for uid in sys.argv[1:]], lambda uid: print("unlocked for", uid.hex()))
